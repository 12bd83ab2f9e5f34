//! How a pool is made: how large, with how many tries, with how much in flight.

use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::inner::{Inner, Terms};
use super::plan::PlanLimits;
use super::{ATTEMPTS, ActorPool, IDLE, IN_FLIGHT_A_WORKER, ITEM_TIME, START_FAILURES};
use crate::actor::message::DirectoryCall;
use crate::actor::{Accepts, ActorError, Actors, Travels};

/// How many workers a pool has: a number, or `min..=max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    min: usize,
    max: usize,
}

impl From<usize> for PoolSize {
    fn from(size: usize) -> Self {
        Self { min: size.max(1), max: size.max(1) }
    }
}

impl From<RangeInclusive<usize>> for PoolSize {
    fn from(range: RangeInclusive<usize>) -> Self {
        Self { min: *range.start(), max: (*range.end()).max(*range.start()).max(1) }
    }
}

/// A pool that is to be started. Made by [`SpawnBuilder::pool`](crate::actor::SpawnBuilder::pool).
#[must_use = "a pool is started by `start`"]
pub struct PoolBuilder<A> {
    actors: Actors,
    call: Result<(DirectoryCall, Duration), ActorError>,
    limits: PlanLimits,
    item_time: Duration,
    in_flight: usize,
    kind: PhantomData<fn() -> A>,
}

impl<A> PoolBuilder<A> {
    pub(crate) fn new(actors: Actors, call: Result<(DirectoryCall, Duration), ActorError>, size: PoolSize) -> Self {
        let PoolSize { min, max } = size;
        let limits = PlanLimits { min, max, attempts: ATTEMPTS, idle: IDLE, start_failures: START_FAILURES };
        Self { actors, call, limits, item_time: ITEM_TIME, in_flight: IN_FLIGHT_A_WORKER * max, kind: PhantomData }
    }

    /// Tries of one item. Default 3. An item that ends its worker each time fails alone.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.limits.attempts = attempts.max(1);
        self
    }

    /// Time without work after which a worker above the least number goes. Default: a minute.
    pub fn idle(mut self, time: Duration) -> Self {
        self.limits.idle = time;
        self
    }

    /// Time for one item; a worker that takes longer is replaced. Default: an hour.
    pub fn item_time(mut self, time: Duration) -> Self {
        self.item_time = time;
        self
    }

    /// Items submitted and not done; who submits one more waits. Default: four for each worker that there may be.
    pub fn in_flight(mut self, items: usize) -> Self {
        self.in_flight = items.max(1);
        self
    }

    /// Starts the pool, with its least number of workers, all at once; it does not wait for them. Where none can be started
    /// the items say why.
    ///
    /// # Errors
    /// If the start state is too large or the session has ended.
    pub fn start<M>(self) -> Result<ActorPool<A, M>, ActorError>
    where
        A: Accepts<M>,
        M: Travels + Clone,
    {
        let terms = Terms { limits: self.limits, item_time: self.item_time, in_flight: self.in_flight };
        let inner = Inner::new(self.actors, self.call?, terms);
        let pool = ActorPool { inner: Arc::new(inner) };
        pool.inner.now()?;
        pool.inner.act(|plan, _| plan.begin());
        Ok(pool)
    }
}
