//! A disk in memory that keeps after a crash what was synced, and of the rest what the seed says.
//!
//! It is as hard as POSIX allows: bytes are kept once their file is synced, a name once its directory is, and neither
//! stands for the other. `content` thinks about the bytes of one file, `tree` about names; this file adds
//! errors, room and the end of power. Start at [`SimDisk`].

mod content;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::runtime::disk::{Disk, DiskFile, DiskLock};
use tree::{Id, Tree};

/// A disk in memory. Clones share it.
///
/// ```
/// use mobula_actors::runtime::Disk;
/// use mobula_actors::sim::SimDisk;
/// use std::path::Path;
/// let disk = SimDisk::new(7);
/// let mut file = disk.create_new(Path::new("/a"))?;
/// file.write_all(b"kept")?;
/// file.sync()?;
/// disk.sync_dir(Path::new("/"))?;
/// file.write_all(b", or lost")?;
/// disk.crash();
/// assert!(disk.read(Path::new("/a"))?.starts_with(b"kept"));
/// assert!(file.write_all(b"!").is_err(), "its process is gone");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// How many of a thousand operations fail with an input/output error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Of reads.
    pub read_permille: u32,
    /// Of writes, and of changes to names.
    pub write_permille: u32,
    /// Of syncs of files and directories. What such a sync was to make durable is never made so.
    pub sync_permille: u32,
}

struct State {
    tree: Tree,
    random: SmallRng,
    faults: DiskFaults,
    bytes_max: Option<u64>,
    /// Operations that still work, once the end of power is set.
    power: Option<u64>,
    /// Changes and syncs before the one that is to fail.
    fails_after: Option<u64>,
    /// Files that somebody holds locked.
    locked: BTreeSet<Id>,
    /// Crashes so far: a file opened before one is of no use after it.
    crashes: u64,
    changes: u64,
    trace: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Read,
    Write,
    Sync,
}

impl SimDisk {
    /// An empty disk that has room and does not fail; all its chance comes from the seed.
    pub fn new(seed: u64) -> Self {
        let state = State {
            tree: Tree::default(),
            random: SmallRng::seed_from_u64(seed),
            faults: DiskFaults::default(),
            bytes_max: None,
            power: None,
            fails_after: None,
            locked: BTreeSet::new(),
            crashes: 0,
            changes: 0,
            trace: 0xcbf2_9ce4_8422_2325,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Power is lost and comes back: what was synced is there, and of the rest what chance leaves. Files that were open
    /// are of no use any more.
    pub fn crash(&self) {
        let state = &mut *self.state();
        state.tree.crash(&mut state.random);
        state.crashes += 1;
        state.power = None;
        state.locked.clear();
        state.note("crash", Path::new(""), true);
    }

    /// Power is lost after so many more changes and syncs: all later operations fail, until [`crash`](Self::crash)
    /// brings it back. With each number in turn, a test crashes what it tests at each of its steps.
    pub fn power_off_after(&self, changes: u64) {
        self.state().power = Some(changes);
    }

    /// Power that was to be lost by [`power_off_after`](Self::power_off_after), and was not yet, stays.
    pub fn power_stays_on(&self) {
        let mut state = self.state();
        state.power = state.power.filter(|left| *left == 0);
    }

    /// One change or sync fails with an input/output error: the one after so many more.
    pub fn fail_after(&self, changes: u64) {
        self.state().fails_after = Some(changes);
    }

    /// The failure that [`fail_after`](Self::fail_after) announced does not come, if it has not.
    pub fn fails_no_more(&self) {
        self.state().fails_after = None;
    }

    /// A process is killed: nothing that `work` does, which lets it go, reaches the disk. What the process wrote is there
    /// as before, for the system goes on.
    pub fn without<R>(&self, work: impl FnOnce() -> R) -> R {
        let power = self.state().power.replace(0);
        let result = work();
        self.state().power = power;
        result
    }

    /// Whether power was lost by [`power_off_after`](Self::power_off_after).
    pub fn is_off(&self) -> bool {
        self.state().power == Some(0)
    }

    /// The disk has room for this many bytes of files; `None`: for all.
    pub fn room(&self, bytes_max: Option<u64>) {
        self.state().bytes_max = bytes_max;
    }

    /// Operations fail at this rate from now on.
    pub fn faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    /// A look at the disk that meets none of its faults: a test's own.
    pub fn flawless<R>(&self, work: impl FnOnce() -> R) -> R {
        let faults = std::mem::take(&mut self.state().faults);
        let result = work();
        self.state().faults = faults;
        result
    }

    /// Makes all that is there durable: the start of a test.
    pub fn sync_all(&self) {
        self.state().tree.sync_all();
    }

    /// The bytes of a file. Never fails by chance.
    ///
    /// # Errors
    /// If it is not there.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let file = state.tree.file(path)?;
        Ok(state.tree.content(file)?.bytes().to_vec())
    }

    /// All files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().tree.files()
    }

    /// The bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.state().tree.used_bytes()
    }

    /// Changes and syncs so far, failed ones too.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// A hash of all changes so far, and of how they ended. Equal runs have equal ones.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One operation on names.
    fn change<R>(&self, what: &str, path: &Path, work: impl FnOnce(&mut Tree) -> io::Result<R>) -> io::Result<R> {
        let mut state = self.state();
        let result = state.allow(Kind::Write).and_then(|()| work(&mut state.tree));
        state.note(what, path, result.is_ok());
        result
    }

    fn open(&self, state: &mut State, file: Id, path: &Path) -> SimFile {
        state.tree.opened(file);
        SimFile { disk: self.clone(), file, path: path.to_owned(), crashes: state.crashes, position: 0 }
    }
}

impl State {
    /// Whether an operation may go on, or which error it meets.
    fn allow(&mut self, kind: Kind) -> io::Result<()> {
        if kind != Kind::Read {
            self.changes += 1;
        }
        match &mut self.power {
            Some(0) => return Err(io::Error::other("the power is off")),
            Some(left) if kind != Kind::Read => *left -= 1,
            _ => {}
        }
        if let Some(left) = self.fails_after.as_mut().filter(|_| kind != Kind::Read) {
            let fails = *left == 0;
            *left = left.saturating_sub(1);
            if fails {
                self.fails_after = None;
                return Err(io::Error::other("input/output error"));
            }
        }
        let permille = match kind {
            Kind::Read => self.faults.read_permille,
            Kind::Write => self.faults.write_permille,
            Kind::Sync => self.faults.sync_permille,
        };
        // A disk without faults draws nothing, so that switching them on late changes nothing before.
        match permille > 0 && self.random.random_range(0..1_000) < permille {
            true => Err(io::Error::other("input/output error")),
            false => Ok(()),
        }
    }

    fn note(&mut self, what: &str, path: &Path, went_well: bool) {
        let words = what.bytes().chain(path.as_os_str().as_encoded_bytes().iter().copied());
        for byte in words.chain([u8::from(went_well)]) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// How many of so many bytes there is room for.
    fn room_for(&self, bytes: usize) -> io::Result<usize> {
        let Some(bytes_max) = self.bytes_max else { return Ok(bytes) };
        match bytes_max.saturating_sub(self.tree.used_bytes()) as usize {
            0 if bytes > 0 => Err(io::Error::new(ErrorKind::StorageFull, "no room left on the disk")),
            room => Ok(bytes.min(room)),
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk({} changes)", self.changes())
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.change("create_dir_all", dir, |tree| tree.create_dir_all(dir))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.change("create_new", path, |tree| tree.create_new(path))?;
        let mut state = self.state();
        Ok(Box::new(self.open(&mut state, file, path)))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let open = |tree: &mut Tree| match tree.file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => tree.create_new(path),
            found => found,
        };
        let file = self.change("open_append", path, open)?;
        let mut state = self.state();
        Ok(Box::new(self.open(&mut state, file, path)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let mut state = self.state();
        state.allow(Kind::Read)?;
        let file = state.tree.file(path)?;
        Ok(Box::new(self.open(&mut state, file, path)))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.allow(Kind::Read)?;
        let file = state.tree.file(path)?;
        Ok(state.tree.content(file)?.bytes().len() as u64)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.allow(Kind::Read)?;
        state.tree.list(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("link", to, |tree| tree.link(from, to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("rename", to, |tree| tree.rename(from, to))
    }

    fn is_same(&self, one: &Path, other: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.allow(Kind::Read)?;
        Ok(state.tree.entry(one)? == state.tree.entry(other)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change("remove_file", path, |tree| tree.remove_file(path))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.change("remove_dir", dir, |tree| tree.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let result = state.allow(Kind::Sync).and_then(|()| state.tree.sync_dir(dir));
        state.note("sync_dir", dir, result.is_ok());
        result
    }

    fn write_again(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.change("write_again", path, |tree| {
            let file = tree.file(path)?;
            tree.content(file)?.write_again(bytes as usize);
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        drop(self.open_append(path)?);
        let mut state = self.state();
        let (file, crashes) = (state.tree.file(path)?, state.crashes);
        let lock = SimLock { disk: self.clone(), file, crashes };
        Ok(state.locked.insert(file).then(|| Box::new(lock) as DiskLock))
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.state();
        state.power != Some(0) && state.tree.entry(path).is_ok()
    }
}

/// A lock on a file. It goes with its holder, or with the power.
struct SimLock {
    disk: SimDisk,
    file: Id,
    crashes: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.crashes == self.crashes {
            state.locked.remove(&self.file);
        }
    }
}

/// An open file of a [`SimDisk`].
struct SimFile {
    disk: SimDisk,
    file: Id,
    path: PathBuf,
    crashes: u64,
    position: usize,
}

impl SimFile {
    /// One operation on bytes.
    fn with<R>(&self, kind: Kind, what: &str, work: impl FnOnce(&mut State) -> io::Result<R>) -> io::Result<R> {
        let mut state = self.disk.state();
        if state.crashes != self.crashes {
            return Err(io::Error::other("the file was open when the power was lost"));
        }
        let allowed = state.allow(kind);
        if allowed.is_err() && kind == Kind::Sync && state.power != Some(0) {
            state.tree.content(self.file)?.fail_sync();
        }
        let result = allowed.and_then(|()| work(&mut state));
        if kind != Kind::Read {
            state.note(what, &self.path, result.is_ok());
        }
        result
    }
}

impl Write for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(Kind::Write, "write", |state| {
            let fit = state.room_for(bytes.len())?;
            let content = state.tree.content(self.file)?;
            content.append(bytes.get(..fit).unwrap_or(bytes));
            Ok(fit)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for SimFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let position = self.position;
        let count = self.with(Kind::Read, "read", |state| {
            let rest = state.tree.content(self.file)?.bytes().get(position..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            let (place, bytes) = (buffer.get_mut(..count), rest.get(..count));
            place.zip(bytes).into_iter().for_each(|(place, bytes)| place.copy_from_slice(bytes));
            Ok(count)
        })?;
        self.position += count;
        Ok(count)
    }
}

impl DiskFile for SimFile {
    fn sync(&mut self) -> io::Result<()> {
        self.with(Kind::Sync, "sync", |state| {
            state.tree.content(self.file)?.sync();
            Ok(())
        })
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.with(Kind::Write, "truncate", |state| {
            state.tree.content(self.file)?.truncate(bytes as usize);
            Ok(())
        })
    }

    fn size(&mut self) -> io::Result<u64> {
        self.with(Kind::Read, "size", |state| Ok(state.tree.content(self.file)?.bytes().len() as u64))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        // A crash has closed all files already.
        if state.crashes == self.crashes {
            state.tree.closed(self.file);
        }
    }
}
