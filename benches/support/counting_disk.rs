//! The system's disk with its syncs counted and timed, or left out.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mobula_actors::runtime::env::{Env, SystemEnv};
use mobula_actors::runtime::{Disk, DiskFile, DiskLock, SharedDisk, SystemDisk};

/// The real world with such a disk.
pub(crate) struct Counting {
    clock: SystemEnv,
    disk: CountingDisk,
}

#[derive(Clone)]
struct CountingDisk {
    /// Whether syncs reach the system.
    syncs: bool,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    files: AtomicU64,
    dirs: AtomicU64,
    nanos: AtomicU64,
}

/// Syncs of files and of directories, and the time that they took, summed over threads.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Syncs {
    pub(crate) files: u64,
    pub(crate) dirs: u64,
    pub(crate) time: Duration,
}

impl Counting {
    pub(crate) fn new(syncs: bool) -> Self {
        Self { clock: SystemEnv::new(), disk: CountingDisk { syncs, counts: Arc::default() } }
    }

    /// What there was since the last call.
    pub(crate) fn take(&self) -> Syncs {
        let counts = &self.disk.counts;
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let time = Duration::from_nanos(take(&counts.nanos));
        Syncs { files: take(&counts.files), dirs: take(&counts.dirs), time }
    }
}

impl Env for Counting {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn random(&self) -> u64 {
        self.clock.random()
    }

    fn disk(&self) -> SharedDisk {
        Arc::new(self.disk.clone())
    }
}

impl CountingDisk {
    fn sync(&self, count: &AtomicU64, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if !self.syncs {
            return Ok(());
        }
        let from = Instant::now();
        let synced = sync();
        count.fetch_add(1, Ordering::Relaxed);
        self.counts.nanos.fetch_add(from.elapsed().as_nanos() as u64, Ordering::Relaxed);
        synced
    }

    fn counted(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(CountingFile { disk: self.clone(), file })
    }
}

impl Disk for CountingDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.create_dir_all(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.counted(SystemDisk.create_new(path)?))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.counted(SystemDisk.open_append(path)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        SystemDisk.open_read(path)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        SystemDisk.len(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn is_same(&self, one: &Path, other: &Path) -> io::Result<bool> {
        SystemDisk.is_same(one, other)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sync(&self.counts.dirs, || SystemDisk.sync_dir(dir))
    }

    fn create_private_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.create_private_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        SystemDisk.lock(path)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        SystemDisk.free(dir)
    }
}

struct CountingFile {
    disk: CountingDisk,
    file: Box<dyn DiskFile>,
}

impl Write for CountingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskFile for CountingFile {
    fn sync(&mut self) -> io::Result<()> {
        let Self { disk, file } = self;
        disk.sync(&disk.counts.files, || file.sync())
    }

    fn size(&mut self) -> io::Result<u64> {
        self.file.size()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }
}
