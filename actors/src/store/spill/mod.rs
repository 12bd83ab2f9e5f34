//! Spilling: blocks that cannot leave their operator yet go to disk when memory runs short, and come back when they are
//! used.
//!
//! [`place`] says where one block is, [`shelf`] which one goes, both pure; [`frames`] is what is in a file, [`directory`]
//! where the files are. One file a block: it is written once, read once and removed, so files of several blocks would only
//! bring the work of tidying up in them. Nothing is synced: a spilled block is worth nothing once its process has died.

mod directory;
mod frames;
mod place;
pub(crate) mod shelf;

pub(super) use place::{Place, Want, Written};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use self::directory::Directory;
use self::frames::{FrameReader, FrameWriter};
use crate::block::Block;
use crate::runtime::disk::{Disk, SharedDisk};
use crate::runtime::env::SharedEnv;
use crate::runtime::watch::guarded;
use crate::units::Bytes;

/// Waits between tries while the disk takes nothing: doubled from one to the other. A disk that was full for a moment is
/// used again at once, one that stays full is asked now and then.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The part of the disk's free space that a node may take at most: others need room there too.
const FREE_SHARE: u64 = 2;

/// Why a block did not go to disk or did not come back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpillError {
    /// Its type cannot be written.
    #[error("a block cannot be encoded")]
    Encode(#[source] ArrowError),
    /// The disk did not take it.
    #[error("a block could not be spilled to {dir}: {cause}", dir = dir.display())]
    Write { dir: PathBuf, cause: io::Error },
    /// The disk did not give it back, or gave other bytes.
    #[error(
        "the spilled block {path} cannot be read back: {reason}; its disk is not to be trusted: choose another directory with --spill-dir (`spill_dir`), or keep blocks in memory with --spill-max 0",
        path = path.display()
    )]
    Read { path: PathBuf, reason: String },
}

/// What came of moving a block to the disk of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SpillOutcome {
    /// It is there, and its memory is free.
    Moved,
    /// It stays in memory: it is being used, it is gone, or its type cannot be written.
    Stays,
    /// The disk takes nothing for now, or never: the node spills nothing.
    Refused { again: Option<Duration> },
}

/// The spilled blocks of a node. Cheap to clone; the directory goes with the last clone and the last file.
#[derive(Clone)]
pub(crate) struct Spill {
    inner: Arc<Inner>,
}

struct Inner {
    env: SharedEnv,
    disk: SharedDisk,
    parent: PathBuf,
    max: u64,
    /// Held while the directory is made, so that one is: not the lock below, which those take who only ask, and a disk may
    /// hang.
    making: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Made when the first block goes.
    directory: Option<Arc<Directory>>,
    /// What the files may take together.
    limit: u64,
    next: u64,
    /// Tries in a row that failed, and when the next may be made.
    failures: u32,
    retry_at: Duration,
    stats: SpillStats,
}

/// What a node has spilled and restored so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpillStats {
    /// Blocks that went to disk, and their bytes in memory.
    pub spilled: (u64, Bytes),
    /// Time that took, summed over workers.
    pub spill_time: Duration,
    /// Blocks that came back, and their bytes in memory.
    pub restored: (u64, Bytes),
    /// Time that took, summed over workers.
    pub restore_time: Duration,
    /// Bytes of the files now.
    pub on_disk: Bytes,
    /// The most bytes that the files had together.
    pub on_disk_peak: Bytes,
    /// Tries that the disk refused.
    pub refused: u64,
}

impl Spill {
    /// For a node; removes what nodes that are gone left in `parent`. `max` of 0 turns it off.
    pub(crate) fn new(env: SharedEnv, parent: PathBuf, max: Bytes) -> Self {
        let disk = env.disk();
        if max > Bytes(0) {
            let removed = directory::clean(&*disk, &parent);
            if removed > 0 {
                tracing::info!(removed, dir = %parent.display(), "removed spilled blocks of processes that are gone");
            }
        }
        Self {
            inner: Arc::new(Inner { env, disk, parent, max: max.0, making: Mutex::default(), state: Mutex::default() }),
        }
    }

    /// What it did so far.
    pub(crate) fn stats(&self) -> SpillStats {
        self.lock().stats
    }

    /// From when on a block of so many bytes may be tried to be written; `None`: never.
    pub(crate) fn ready_at(&self, bytes: Bytes) -> Option<Duration> {
        let state = self.lock();
        let max = if state.directory.is_some() { state.limit } else { self.inner.max };
        if self.inner.max == 0 {
            None
        } else if state.stats.on_disk.0.saturating_add(bytes.0) > max {
            // Files that go leave room.
            Some(self.inner.env.now() + RETRY.0)
        } else {
            Some(state.retry_at)
        }
    }

    /// How long to wait before such a try; `None`: for ever.
    pub(crate) fn ready_in(&self, bytes: Bytes) -> Option<Duration> {
        self.ready_at(bytes).map(|at| at.saturating_sub(self.inner.env.now()))
    }

    /// Writes a block to a file of its own.
    pub(super) fn write(&self, block: &Block) -> Result<SpillFile, SpillError> {
        let from = self.inner.env.now();
        let written = self.write_file(block);
        let now = self.inner.env.now();
        let mut state = self.lock();
        match &written {
            Ok(file) => {
                if state.failures > 0 {
                    tracing::info!(dir = %self.inner.parent.display(), "blocks are spilled again");
                }
                state.failures = 0;
                state.stats.on_file(file.stored, block.bytes(), now.saturating_sub(from));
            }
            // The disk is not to blame.
            Err(SpillError::Encode(_)) => {}
            Err(error) => {
                if state.failures == 0 {
                    tracing::warn!(%error, "blocks stay in memory, and jobs go on as far as it allows; make room there, or choose another directory with --spill-dir");
                }
                state.stats.refused += 1;
                state.retry_at = now + RETRY.1.min(RETRY.0 * 2u32.saturating_pow(state.failures.min(16)));
                state.failures += 1;
            }
        }
        written
    }

    fn write_file(&self, block: &Block) -> Result<SpillFile, SpillError> {
        let Inner { disk, parent, .. } = &*self.inner;
        let (directory, number) = self.place().map_err(|cause| SpillError::Write { dir: parent.clone(), cause })?;
        let path = directory.path().join(format!("{number}.block"));
        let mut file =
            SpillFile { spill: self.clone(), directory, path, bytes: block.bytes(), rows: block.rows().0, stored: 0 };
        // A file that was not finished is removed with this value.
        let written = guarded(|| write_block(&**disk, &file.path, block));
        let written = written.map_err(|panic| SpillError::Encode(ArrowError::IpcError(panic.to_string())))?;
        file.stored = written.map_err(|error| match error {
            ArrowError::IoError(_, cause) => SpillError::Write { dir: parent.clone(), cause },
            other => SpillError::Encode(other),
        })?;
        Ok(file)
    }

    /// The directory, made if it is not there, and a number for a file.
    fn place(&self) -> io::Result<(Arc<Directory>, u64)> {
        let Inner { env, disk, parent, max, making, .. } = &*self.inner;
        let _making = making.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.lock().directory.clone();
        let directory = match known {
            Some(directory) => directory,
            None => {
                let made = Arc::new(Directory::make(disk, parent, &**env)?);
                tracing::info!(dir = %made.path().display(), "results that wait for an older task's go to disk");
                let limit = (*max).min(disk.free(parent)? / FREE_SHARE);
                let mut state = self.lock();
                state.limit = limit;
                Arc::clone(state.directory.insert(made))
            }
        };
        let mut state = self.lock();
        state.next += 1;
        Ok((directory, state.next))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spill({}, at most {})", self.inner.parent.display(), Bytes(self.inner.max))
    }
}

impl SpillStats {
    fn on_file(&mut self, stored: u64, bytes: Bytes, took: Duration) {
        self.spilled = (self.spilled.0 + 1, self.spilled.1 + bytes);
        self.spill_time += took;
        self.on_disk += Bytes(stored);
        self.on_disk_peak = self.on_disk_peak.max(self.on_disk);
    }
}

/// A spilled block's file; removed when this is dropped.
pub(crate) struct SpillFile {
    spill: Spill,
    directory: Arc<Directory>,
    path: PathBuf,
    rows: u64,
    bytes: Bytes,
    stored: u64,
}

impl SpillFile {
    /// The block that is in it.
    pub(super) fn read(&self) -> Result<Block, SpillError> {
        let Inner { env, disk, .. } = &*self.spill.inner;
        let from = env.now();
        let failed = |reason| SpillError::Read { path: self.path.clone(), reason };
        // Checked frames hold what was written, but Arrow panics on what it does not expect.
        let read = guarded(|| read_block(&**disk, &self.path)).map_err(|panic| failed(panic.to_string()))?;
        let block = read.map_err(|error| failed(error.to_string()))?;
        if block.rows().0 != self.rows {
            return Err(failed(format!("it has {} of {} rows", block.rows(), self.rows)));
        }
        let mut state = self.spill.lock();
        state.stats.restored = (state.stats.restored.0 + 1, state.stats.restored.1 + self.bytes);
        state.stats.restore_time += env.now().saturating_sub(from);
        drop(state);
        Ok(block)
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        let removed = self.spill.inner.disk.remove_file(&self.path);
        if let Err(error) = removed.or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }) {
            tracing::warn!(%error, path = %self.path.display(), "a spilled block was not removed");
        }
        let mut state = self.spill.lock();
        state.stats.on_disk = state.stats.on_disk - Bytes(self.stored);
    }
}

impl fmt::Debug for SpillFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpillFile({} in {})", self.path.display(), self.directory.path().display())
    }
}

fn write_block(disk: &dyn Disk, path: &Path, block: &Block) -> Result<u64, ArrowError> {
    let mut frames = FrameWriter::new(disk.create_new(path)?);
    if let Some(first) = block.batches().first() {
        let mut writer = StreamWriter::try_new(&mut frames, first.schema_ref())?;
        block.batches().iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
    }
    Ok(frames.finish()?)
}

fn read_block(disk: &dyn Disk, path: &Path) -> Result<Block, ArrowError> {
    let reader = StreamReader::try_new(FrameReader::new(disk.open_read(path)?), None)?;
    Ok(Block::new(reader.collect::<Result<_, _>>()?))
}

/// Where a node spills unless it is told: the folder that `TMPDIR` names, or `/var/tmp`, which is a disk where `/tmp` is
/// memory on many systems.
pub(crate) fn default_parent(disk: &dyn Disk) -> PathBuf {
    let on_disk = Path::new("/var/tmp");
    if std::env::var_os("TMPDIR").is_none() && disk.exists(on_disk) { on_disk.to_owned() } else { std::env::temp_dir() }
}

#[cfg(test)]
mod tests;
