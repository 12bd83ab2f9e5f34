//! A simulated process: a tokio runtime of one thread on paused time, with all that a head, a node or a driver runs in it.
//!
//! Killed, it is dropped where it stands: no task runs to its end, no packet leaves, nothing reaches the disk.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{System, SystemRunner};
use mobula_actors::runtime::Threads;
use mobula_actors::sim::{SimDisk, SimEnv};
use tokio::time::{Instant, sleep_until};

/// A running process.
pub(crate) struct Process {
    runner: SystemRunner,
    /// What its clock read when it started, and the world's time then.
    start: Instant,
    born: Duration,
}

impl Process {
    /// Starts a process at the world's time; `main` is given its threads.
    pub(crate) fn start<F>(time: Duration, seed: u64, disk: &SimDisk, main: impl FnOnce(Threads) -> F) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runner = System::with_tokio_rt(|| runtime.expect("a runtime of one thread"));
        let start = runner.block_on(async {
            let env = SimEnv::new(seed, time, disk.clone());
            actix::spawn(main(Threads::simulated(Arc::new(env))));
            Instant::now()
        });
        Self { runner, start, born: time }
    }

    /// Lets it run until the world's time.
    pub(crate) fn step(&self, until: Duration) {
        let until = self.start + until.saturating_sub(self.born);
        self.runner.block_on(async move { sleep_until(until).await });
    }

    /// Ends it as a signal that cannot be caught does.
    pub(crate) fn kill(self, disk: &SimDisk) {
        let runtime = self.runner.runtime().tokio_runtime().handle().clone();
        disk.without(|| {
            // Whoever is dropped and wants to say so finds a runtime that does not run any more.
            let _inside = runtime.enter();
            drop(self.runner);
        });
    }
}

/// Lets virtual time pass in a process.
pub(crate) async fn pause(time: Duration) {
    // Nothing comes of this: it is its end that is waited for, and that takes no real time.
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}
