//! A world for tests: its clock can be put forward and made to run fast, and its disk hangs when it is told to.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mobula_actors::runtime::disk::{Disk, DiskFile, SharedDisk, SystemDisk};
use mobula_actors::runtime::env::{Env, SystemEnv};

use super::Gate;

/// The world.
pub(crate) struct World {
    real: SystemEnv,
    clock: Mutex<Clock>,
    pub(crate) disk: Arc<HangingDisk>,
}

#[derive(Clone, Copy)]
struct Clock {
    /// Of the real one, and of this one.
    from: (Duration, Duration),
    rate: u32,
}

impl Clock {
    fn at(&self, real: Duration) -> Duration {
        let (from, at) = self.from;
        at + real.saturating_sub(from) * self.rate
    }
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let clock = Mutex::new(Clock { from: Default::default(), rate: 1 });
        Arc::new(Self { real: SystemEnv::new(), clock, disk: Arc::default() })
    }

    /// Puts the clock forward.
    pub(crate) fn forward(&self, by: Duration) {
        self.clock.lock().expect("not poisoned").from.1 += by;
    }

    /// From now on it runs so many times as fast.
    pub(crate) fn rush(&self, rate: u32) {
        let real = self.real.now();
        let mut clock = self.clock.lock().expect("not poisoned");
        *clock = Clock { from: (real, clock.at(real)), rate };
    }
}

impl Env for World {
    fn now(&self) -> Duration {
        let clock = *self.clock.lock().expect("not poisoned");
        clock.at(self.real.now())
    }

    fn random(&self) -> u64 {
        self.real.random()
    }

    fn disk(&self) -> SharedDisk {
        Arc::clone(&self.disk) as SharedDisk
    }
}

/// The system's disk, on which whoever makes or reads files may have to wait at a gate.
#[derive(Default)]
pub(crate) struct HangingDisk {
    pub(crate) writes: Mutex<Option<Arc<Gate>>>,
    pub(crate) reads: Mutex<Option<Arc<Gate>>>,
}

fn wait(at: &Mutex<Option<Arc<Gate>>>) {
    let gate = at.lock().expect("not poisoned").clone();
    if let Some(gate) = gate {
        gate.wait();
    }
}

impl Disk for HangingDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.create_dir_all(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        wait(&self.writes);
        SystemDisk.create_new(path)
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        SystemDisk.open_append(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        wait(&self.reads);
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
        SystemDisk.sync_dir(dir)
    }
}
