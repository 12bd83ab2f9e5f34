//! The world of a simulated process: tokio's clock, chance by a seed, a simulated disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::SimDisk;
use crate::runtime::disk::SharedDisk;
use crate::runtime::env::{Env, ManualEnv};

/// 2026, for whoever looks at the calendar; so that simulated numbers of lives are as long as real ones.
const CALENDAR: Duration = Duration::from_secs(1_767_225_600);

/// A world on tokio's clock, whose chance follows from a seed.
#[derive(Debug)]
pub struct SimEnv {
    /// What the clock of this process read when it was made, and the simulation's time then.
    start: Instant,
    time: Duration,
    chance: ManualEnv,
    disk: SimDisk,
}

impl SimEnv {
    /// In the tokio runtime of a process that starts when the simulation has run for `time`.
    pub fn new(seed: u64, time: Duration, disk: SimDisk) -> Self {
        Self { start: Instant::now(), time, chance: ManualEnv::seeded(seed), disk }
    }
}

impl Env for SimEnv {
    fn now(&self) -> Duration {
        Instant::now().duration_since(self.start)
    }

    fn random(&self) -> u64 {
        self.chance.random()
    }

    fn calendar(&self) -> Duration {
        CALENDAR + self.time + self.now()
    }

    fn disk(&self) -> SharedDisk {
        Arc::new(self.disk.clone())
    }
}
