//! The folder of a job beside its output: `OUT/_mobula/N`, hidden from readers by its name.
//!
//! ```text
//! OUT/part-00000.parquet ..   what readers see
//! OUT/_mobula/N/plan          what the job is to do
//!               ledger        what it has finished
//!               prepared      locked by the process that prepares it, until the job has begun
//!               lock          locked by the process that runs it
//!               parts/        parts that are not visible yet, and attempts
//!               dead-letters/ a Parquet table of the rows that were given up, once the job has finished
//!               replay        how those rows are read again
//!               replaced/     old files, while an overwrite makes the new ones visible
//!               manifest.json what was made visible: the job has finished
//! ```

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mobula_actors::ledger::{LedgerFile, Record};
use mobula_actors::runtime::disk::{Disk, DiskLock};
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::plan::{self, JobPlan};
use crate::io::error::{IoError, IoResult};

/// The folder of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// Beside the files of an output.
pub(crate) const HIDDEN: &str = "_mobula";

/// Most bytes of a plan: a hundred for each of ten million files.
const PLAN_BYTES_MAX: u64 = 1 << 30;

impl Folder {
    /// The folders of all jobs that wrote to `dir`, by number.
    pub(crate) fn all(disk: &dyn Disk, dir: &Path) -> IoResult<Vec<(u64, Self)>> {
        let hidden = dir.join(HIDDEN);
        let names = match disk.list(&hidden) {
            // Or the output is a file, which is told elsewhere.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            names => names.map_err(|e| IoError::read(&hidden, e))?,
        };
        let numbered = |name: String| Some((name.parse().ok()?, Self { path: hidden.join(&name) }));
        let mut all: Vec<_> = names.into_iter().filter_map(numbered).collect();
        all.sort_by_key(|(number, _)| *number);
        Ok(all)
    }

    /// Makes the folder of a new job, with its plan, durable, and takes it to begin.
    pub(super) fn make(disk: &dyn Disk, dir: &Path, plan: &JobPlan) -> IoResult<(Self, Lock)> {
        let next = Self::all(disk, dir)?.last().map_or(0, |(number, _)| number + 1);
        let folder = (next..next + AGAIN_MAX).map(|number| dir.join(HIDDEN).join(number.to_string()));
        for path in folder {
            let folder = Self { path };
            if let Some(lock) = folder.begin(disk, dir, plan)? {
                return Ok((folder, lock));
            }
        }
        Err(IoError::write(&dir.join(HIDDEN), io::ErrorKind::AlreadyExists.into()))
    }

    /// Makes the folder, unless somebody else has it. It is locked before it has a plan: one that has not is nobody's.
    fn begin(&self, disk: &dyn Disk, dir: &Path, plan: &JobPlan) -> IoResult<Option<Lock>> {
        disk.create_dir_all(&self.parts()).map_err(|e| IoError::write(&self.path, e))?;
        let path = self.path.join(PREPARED);
        let lock = match disk.lock(&path) {
            Ok(Some(lock)) => Lock { _lock: lock, _runs: None },
            Ok(None) => return Ok(None),
            // Whoever had it removes it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IoError::write(&path, error)),
        };
        let mut file = match disk.create_new(&self.plan_path()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            file => file.map_err(|e| IoError::write(&self.plan_path(), e))?,
        };
        let bytes = plan::to_bytes(plan)?;
        let written = file.write_all(&bytes).and_then(|()| file.sync());
        written.map_err(|e| IoError::write(&self.plan_path(), e))?;
        self.sync(disk, dir)?;
        Ok(Some(lock))
    }

    /// The folder at a path.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    fn sync(&self, disk: &dyn Disk, dir: &Path) -> IoResult<()> {
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
        let dirs = [Some(self.path.as_path()), Some(&dir.join(HIDDEN)), Some(dir), above];
        dirs.into_iter().flatten().try_for_each(|dir| disk.sync_dir(dir).map_err(|e| IoError::write(dir, e)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn plan_path(&self) -> PathBuf {
        self.path.join("plan")
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.path.join("ledger")
    }

    pub(crate) fn parts(&self) -> PathBuf {
        self.path.join("parts")
    }

    /// A table of the rows that were given up.
    pub(crate) fn dead_letters(&self) -> PathBuf {
        self.path.join("dead-letters")
    }

    /// How the rows of the dead letters were read.
    pub(super) fn replay_path(&self) -> PathBuf {
        self.path.join("replay")
    }

    /// What is there.
    pub(super) fn replay(&self, disk: &dyn Disk) -> IoResult<Option<Vec<u8>>> {
        self.read(disk, &self.replay_path())
    }

    pub(super) fn replaced(&self) -> PathBuf {
        self.path.join("replaced")
    }

    pub(super) fn manifest_path(&self) -> PathBuf {
        self.path.join("manifest.json")
    }

    /// The plan; `None` if it was never written whole, or by another version.
    pub(super) fn plan(&self, disk: &dyn Disk) -> IoResult<Option<JobPlan>> {
        Ok(self.read(disk, &self.plan_path())?.and_then(|bytes| plan::from_bytes(&bytes)))
    }

    /// What was made visible; `None` if the job has not finished.
    pub(super) fn manifest(&self, disk: &dyn Disk) -> IoResult<Option<Manifest>> {
        Ok(self.read(disk, &self.manifest_path())?.and_then(|bytes| Manifest::parse(&bytes)))
    }

    fn read(&self, disk: &dyn Disk, path: &Path) -> IoResult<Option<Vec<u8>>> {
        let input = match disk.open_read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            input => input.map_err(|e| IoError::read(path, e))?,
        };
        let mut bytes = Vec::new();
        input.take(PLAN_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| IoError::read(path, e))?;
        Ok(Some(bytes))
    }

    /// What the ledger says.
    pub(super) fn records(&self, disk: &dyn Disk) -> IoResult<Vec<Record>> {
        Ok(LedgerFile::read(disk, &self.ledger())?)
    }

    /// Whether something is finished that would be lost with the folder.
    pub(super) fn has_finished(&self, disk: &dyn Disk) -> IoResult<bool> {
        let is_work = |record: &Record| matches!(record, Record::Committed { .. } | Record::GaveUp { .. });
        Ok(self.records(disk)?.iter().any(is_work))
    }

    /// Takes the folder to run its job; `None` if another process does. The system lets go of it with the process.
    pub(super) fn lock(&self, disk: &dyn Disk) -> IoResult<Option<Lock>> {
        let lock = self.lock_file(disk, RUNS)?;
        Ok(lock.map(|lock| Lock { _lock: lock, _runs: None }))
    }

    /// Takes the folder to look at its job, to begin or to remove it; `None` if somebody does or the job runs. Two locks,
    /// because the job may run in another process, and nobody may come between.
    pub(super) fn hold(&self, disk: &dyn Disk) -> IoResult<Option<Lock>> {
        let Some(prepared) = self.lock_file(disk, PREPARED)? else { return Ok(None) };
        let runs = self.lock_file(disk, RUNS)?;
        Ok(runs.map(|runs| Lock { _lock: prepared, _runs: Some(runs) }))
    }

    fn lock_file(&self, disk: &dyn Disk, name: &str) -> IoResult<Option<DiskLock>> {
        let path = self.path.join(name);
        disk.lock(&path).map_err(|e| IoError::write(&path, e))
    }

    /// Removes what is hidden once all is visible; what cannot be removed stays.
    pub(super) fn clear(&self, disk: &dyn Disk) {
        for dir in [self.parts(), self.replaced()] {
            remove_files(disk, &dir);
            let _ = disk.remove_dir(&dir);
        }
    }

    /// The job has finished nothing from now on. For good: what comes next may remove what the ledger spoke of.
    pub(super) fn forget(&self, disk: &dyn Disk) -> IoResult<()> {
        match disk.remove_file(&self.ledger()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(|e| IoError::write(&self.ledger(), e))?,
        }
        match disk.sync_dir(&self.path) {
            // Whoever prepared the job has taken the folder back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(|e| IoError::write(&self.path, e)),
        }
    }

    /// Removes the folder and all that is in it but files that were replaced: of a job that has finished nothing, or
    /// [forgot](Self::forget) it. A worker that was told to stop and is inside a call may begin a file meanwhile.
    pub(super) fn remove(&self, disk: &dyn Disk) {
        let _ = disk.remove_dir(&self.replaced());
        for _ in 0..REMOVALS_MAX {
            // Of a job that goes altogether: a finished one keeps its letters.
            for dir in [self.parts(), self.dead_letters()] {
                remove_files(disk, &dir);
                let _ = disk.remove_dir(&dir);
            }
            if disk.exists(&self.replaced()) {
                break;
            }
            remove_files(disk, &self.path);
            let gone = disk.remove_dir(&self.path);
            if gone.is_ok() || !disk.exists(&self.path) {
                break;
            }
        }
        if let Some(hidden) = self.path.parent() {
            // Only if it is empty: other jobs have theirs.
            let _ = disk.remove_dir(hidden);
        }
    }
}

/// Held by whoever looks at a job, begins or runs it.
#[derive(Debug)]
pub(super) struct Lock {
    _lock: DiskLock,
    _runs: Option<DiskLock>,
}

impl Lock {
    /// Others may run the job, but not begin with it.
    pub(super) fn beginning(self) -> Self {
        Self { _runs: None, ..self }
    }
}

/// Removes the files of a directory; what cannot be removed stays.
fn remove_files(disk: &dyn Disk, dir: &Path) {
    for name in disk.list(dir).unwrap_or_default() {
        let _ = disk.remove_file(&dir.join(name));
    }
}

/// Locked by who begins with a job.
const PREPARED: &str = "prepared";
/// Locked by who runs it.
const RUNS: &str = "lock";
/// Each worker begins one file at most after it was told to stop, and rarely just then.
const REMOVALS_MAX: usize = 10;
/// Jobs that begin to append at the same moment.
const AGAIN_MAX: u64 = 1000;
