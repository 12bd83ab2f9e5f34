//! Whoever takes the results of a job: whether it waits for the next block, and since when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::why::picture::{DriverAt, DriverPicture};
use crate::runtime::env::SharedEnv;

/// What is known of who takes the results. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Taker {
    env: SharedEnv,
    state: Arc<Mutex<State>>,
}

struct State {
    at: DriverAt,
    since: Duration,
    taken: u64,
}

impl Taker {
    pub(crate) fn new(env: SharedEnv) -> Self {
        let state = State { at: DriverAt::Away, since: env.now(), taken: 0 };
        Self { env, state: Arc::new(Mutex::new(state)) }
    }

    /// It waits for the next block.
    pub(crate) fn asks(&self) {
        self.at(DriverAt::Asks);
    }

    /// It has got one, and is away with it.
    pub(crate) fn took(&self) {
        self.at(DriverAt::Away);
        self.lock().taken += 1;
    }

    /// It fetches the one that it got from the node of this number.
    pub(crate) fn fetches(&self, node: u64) {
        self.at(DriverAt::Fetches(node));
    }

    /// It reads the one that it got back from disk.
    pub(crate) fn restores(&self) {
        self.at(DriverAt::Restores);
    }

    /// It has read it, and is away with it.
    pub(crate) fn restored(&self) {
        self.at(DriverAt::Away);
    }

    /// It records them.
    pub(crate) fn records(&self) {
        self.at(DriverAt::Records);
    }

    /// Blocks that it has got.
    pub(crate) fn taken(&self) -> u64 {
        self.lock().taken
    }

    pub(crate) fn picture(&self) -> DriverPicture {
        let state = self.lock();
        DriverPicture { at: state.at, since: self.env.now().saturating_sub(state.since) }
    }

    fn at(&self, at: DriverAt) {
        let now = self.env.now();
        let mut state = self.lock();
        (state.at, state.since) = (at, now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
