//! ActorPool: equal actors that work off items, one each at a time.
//!
//! The thinking is in [`plan`]; this carries it out: it starts and stops workers, asks them, and keeps results until they
//! are taken. It is no actor: it owns nothing that must fail alone, and whoever holds it drives it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::message::DirectoryCall;
use super::spawn::start_ordered;
use super::{Accepts, ActorError, ActorHandle, Actors, Travels};
use plan::{Action, ItemId, Plan, PlanLimits, WorkerId};

mod map;
pub(crate) mod plan;

pub use map::Map;

/// Tries of one item, unless the builder says otherwise: one that ends its worker may be unlucky twice.
const ATTEMPTS: u32 = 3;
/// Time without work after which a worker goes: longer than the pause between two batches of work, shorter than a model's
/// memory is missed.
const IDLE: Duration = Duration::from_secs(60);
/// Time for one item. A worker that takes longer is taken for stuck, and replaced.
const ITEM_TIME: Duration = Duration::from_secs(3600);
/// Starts of workers that fail one after the other before what waits is given up.
const START_FAILURES: u32 = 3;
/// Items in flight for each worker that there may be: enough for all to be busy while their results are taken.
const IN_FLIGHT_A_WORKER: usize = 4;
/// Results that nobody has taken; who submits more has forgotten to.
const RESULTS_MAX: usize = 1 << 20;

/// Why an item of a pool has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Each attempt came to nothing.
    #[error("item {item} was tried {attempts} times, and the last time {cause}")]
    Failed {
        /// Its number, by the order of submission.
        item: u64,
        /// How often it was tried.
        attempts: u32,
        /// What became of the last attempt.
        cause: ActorError,
    },
    /// No worker could be started for it.
    #[error("item {item} found no worker: {cause}")]
    NoWorker {
        /// Its number, by the order of submission.
        item: u64,
        /// Why the last start failed.
        cause: ActorError,
    },
    /// Nothing is submitted whose result was not taken.
    #[error("there is nothing to wait for: all results were taken; submit more first")]
    Nothing,
    /// No result came in time.
    #[error("no result came within {0:?}")]
    Deadline(Duration),
    /// Too many results were not taken.
    #[error("{0} results wait to be taken, which is the limit; take some with `get_next` before submitting more")]
    Untaken(usize),
    /// The session has ended.
    #[error("the session of this pool has ended")]
    SessionEnded,
}

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

/// A pool that is to be started. Made by [`SpawnBuilder::pool`](super::SpawnBuilder::pool).
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
        let (call, within) = self.call?;
        let state = State {
            plan: Plan::new(self.limits),
            workers: BTreeMap::new(),
            items: BTreeMap::new(),
            results: BTreeMap::new(),
            finished: VecDeque::new(),
            untaken: BTreeSet::new(),
            cause: ActorError::NotHere,
            next: 0,
            ticking: false,
        };
        let inner = Inner {
            actors: self.actors,
            call,
            within,
            attempts: self.limits.attempts,
            item_time: self.item_time,
            room: Arc::new(Semaphore::new(self.in_flight.min(Semaphore::MAX_PERMITS))),
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        let pool = ActorPool { inner: Arc::new(inner) };
        pool.inner.now()?;
        pool.inner.act(|plan, _| plan.begin());
        Ok(pool)
    }
}

/// Equal actors that work off items. Results are taken in the order of submission or as they come. Dropped, it ends its
/// workers, and nobody gets what is not done. It may be used from several threads.
///
/// A worker that dies is replaced, and its item is tried again, elsewhere if need be; so an item may be begun more than
/// once. Workers are started when what waits can use them, as many at once, and go when they are idle.
///
/// ```
/// use actix::{Actor, Context, Handler, Message};
/// use mobula_actors::actor::ActorPool;
/// use mobula_actors::node::{Node, NodeConfig};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Squares;
///
/// #[mobula_actors::actor(crate = mobula_actors, name = "squares@1", messages(Square))]
/// impl Actor for Squares { type Context = Context<Self>; }
///
/// #[derive(Clone, Message, Serialize, Deserialize)]
/// #[rtype(result = "u64")]
/// struct Square(u64);
///
/// impl Handler<Square> for Squares {
///     type Result = u64;
///     fn handle(&mut self, Square(n): Square, _: &mut Context<Self>) -> u64 { n * n }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let node = Node::start(NodeConfig::default())?;
///     let pool: ActorPool<Squares, Square> = node.actors().spawn(Squares).pool(2).start()?;
///     let squares: Result<Vec<u64>, _> = pool.map((0..5).map(Square)).collect();
///     assert_eq!(squares?, [0, 1, 4, 9, 16]);
///     pool.submit(Square(7))?;
///     assert_eq!(pool.get_next()?, 49);
///     Ok(())
/// }
/// ```
pub struct ActorPool<A: Accepts<M>, M: Travels + Clone> {
    inner: Arc<Inner<A, M>>,
}

struct Inner<A: Accepts<M>, M: Travels + Clone> {
    actors: Actors,
    call: DirectoryCall,
    within: Duration,
    attempts: u32,
    item_time: Duration,
    room: Arc<Semaphore>,
    state: Mutex<State<A, M>>,
    /// A result has come.
    changed: Condvar,
}

struct State<A: Accepts<M>, M: Travels + Clone> {
    plan: Plan,
    workers: BTreeMap<WorkerId, ActorHandle<A>>,
    items: BTreeMap<ItemId, (M, OwnedSemaphorePermit)>,
    results: BTreeMap<ItemId, Result<M::Result, PoolError>>,
    /// Items that were submitted one by one and have results, as these came.
    finished: VecDeque<ItemId>,
    /// Items that were submitted one by one and whose results nobody has taken or waits for.
    untaken: BTreeSet<ItemId>,
    /// Why the last attempt or start failed.
    cause: ActorError,
    next: ItemId,
    /// Somebody looks after idle workers.
    ticking: bool,
}

impl<A: Accepts<M>, M: Travels + Clone> ActorPool<A, M> {
    /// Submits an item; waits while as many as may be are in flight.
    ///
    /// # Errors
    /// If too many results were not taken, or the session has ended.
    pub fn submit(&self, message: M) -> Result<(), PoolError> {
        self.inner.submit(message, true).map(drop)
    }

    /// Whether there is a result to take, now or later.
    pub fn has_next(&self) -> bool {
        !self.inner.lock().untaken.is_empty()
    }

    /// The result of the oldest item whose result nobody has taken, waiting for it.
    ///
    /// # Errors
    /// Why the item has none, or that there is nothing to wait for.
    pub fn get_next(&self) -> Result<M::Result, PoolError> {
        self.inner.next_in_order(None)
    }

    /// As [`get_next`](Self::get_next), for so long at most. The item keeps its turn.
    ///
    /// # Errors
    /// As [`get_next`](Self::get_next), and if no result came in time.
    pub fn get_next_within(&self, time: Duration) -> Result<M::Result, PoolError> {
        self.inner.next_in_order(Some(time))
    }

    /// The result that came first of those that nobody has taken, waiting for one.
    ///
    /// # Errors
    /// Why the item has none, or that there is nothing to wait for.
    pub fn get_next_unordered(&self) -> Result<M::Result, PoolError> {
        let mut state = self.inner.lock();
        loop {
            if let Some(item) = state.finished.pop_front() {
                state.untaken.remove(&item);
                return state.results.remove(&item).unwrap_or(Err(PoolError::SessionEnded));
            }
            if state.untaken.is_empty() {
                return Err(PoolError::Nothing);
            }
            state = self.inner.wait(state);
        }
    }

    /// The results for all items, in their order. Items are taken from the iterator as fast as they are worked off.
    pub fn map<I: IntoIterator<Item = M>>(&self, items: I) -> Map<'_, A, M, I::IntoIter> {
        Map::new(self, items.into_iter(), true)
    }

    /// The results for all items, as they come.
    pub fn map_unordered<I: IntoIterator<Item = M>>(&self, items: I) -> Map<'_, A, M, I::IntoIter> {
        Map::new(self, items.into_iter(), false)
    }

    /// An actor that was spawned elsewhere joins the workers, until it is gone. If the pool holds the last clone of the
    /// handle that it was spawned with, it ends with the pool.
    pub fn push(&self, worker: ActorHandle<A>) {
        self.inner.act(|plan, state| {
            let (number, actions) = plan.on_pushed(state.1);
            state.0.insert(number, worker);
            actions
        });
    }

    /// Takes a worker out of the pool that has nothing to do; it is the caller's from now on.
    pub fn pop_idle(&self) -> Option<ActorHandle<A>> {
        let mut state = self.inner.lock();
        let worker = state.plan.pop_idle()?;
        state.workers.remove(&worker)
    }

    /// Workers that are there or are started.
    pub fn size(&self) -> usize {
        self.inner.lock().plan.workers()
    }
}

type Workers<'a, A> = (&'a mut BTreeMap<WorkerId, ActorHandle<A>>, Duration);

impl<A: Accepts<M>, M: Travels + Clone> Inner<A, M> {
    fn lock(&self) -> MutexGuard<'_, State<A, M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<A, M>>) -> MutexGuard<'a, State<A, M>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Result<Duration, ActorError> {
        Ok(self.actors.space()?.env().now())
    }

    fn submit(self: &Arc<Self>, message: M, listed: bool) -> Result<ItemId, PoolError> {
        let place = futures::executor::block_on(Arc::clone(&self.room).acquire_owned());
        let place = place.map_err(|_| PoolError::SessionEnded)?;
        if self.now().is_err() {
            return Err(PoolError::SessionEnded);
        }
        let mut state = self.lock();
        if state.untaken.len() >= RESULTS_MAX {
            return Err(PoolError::Untaken(RESULTS_MAX));
        }
        let item = state.next;
        state.next += 1;
        state.items.insert(item, (message, place));
        if listed {
            state.untaken.insert(item);
        }
        drop(state);
        self.act(|plan, _| plan.on_item(item));
        Ok(item)
    }

    fn next_in_order(&self, time: Option<Duration>) -> Result<M::Result, PoolError> {
        let from = self.now().map_err(|_| PoolError::SessionEnded)?;
        let mut state = self.lock();
        let item = state.untaken.pop_first().ok_or(PoolError::Nothing)?;
        loop {
            if let Some(result) = state.results.remove(&item) {
                state.finished.retain(|other| *other != item);
                return result;
            }
            let Some(time) = time else {
                state = self.wait(state);
                continue;
            };
            let left = (from + time).saturating_sub(self.now().map_err(|_| PoolError::SessionEnded)?);
            if left.is_zero() {
                state.untaken.insert(item);
                return Err(PoolError::Deadline(time));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets the plan decide, and does what it says.
    fn act(self: &Arc<Self>, decide: impl FnOnce(&mut Plan, Workers<'_, A>) -> Vec<Action>) {
        let Ok(space) = self.actors.space() else { return self.end() };
        let mut state = self.lock();
        let State { plan, workers, .. } = &mut *state;
        let actions = decide(plan, (workers, space.env().now()));
        let mut stopped = Vec::new();
        for action in actions {
            match action {
                Action::Start(worker) => space.spawn(start(Arc::downgrade(self), worker)),
                Action::Give(worker, item) => {
                    if let (Some(handle), Some((message, _))) = (state.workers.get(&worker), state.items.get(&item)) {
                        let asked = handle.within(self.item_time).ask_async(message.clone());
                        space.spawn(give(Arc::downgrade(self), worker, item, asked));
                    }
                }
                Action::Stop(worker) => stopped.extend(state.workers.remove(&worker)),
                Action::GiveUp(item) => {
                    let (attempts, cause) = (self.attempts, state.cause.clone());
                    self.finish(&mut state, item, Err(PoolError::Failed { item, attempts, cause }));
                }
                Action::NoWorker(item) => {
                    let cause = state.cause.clone();
                    self.finish(&mut state, item, Err(PoolError::NoWorker { item, cause }));
                }
            }
        }
        let tick = state.plan.next_tick().filter(|_| !std::mem::replace(&mut state.ticking, true));
        if state.plan.next_tick().is_none() {
            state.ticking = false;
        }
        drop(state);
        // A handle's drop tells the directory.
        drop(stopped);
        if let Some(at) = tick {
            space.spawn(look_later(Arc::downgrade(self), at.saturating_sub(space.env().now())));
        }
    }

    fn finish(&self, state: &mut State<A, M>, item: ItemId, result: Result<M::Result, PoolError>) {
        state.items.remove(&item);
        state.results.insert(item, result);
        if state.untaken.contains(&item) {
            state.finished.push_back(item);
        }
        self.changed.notify_all();
    }

    /// The session is over: nobody does anything any more.
    fn end(&self) {
        let mut state = self.lock();
        let items: Vec<ItemId> = state.items.keys().copied().collect();
        items.into_iter().for_each(|item| self.finish(&mut state, item, Err(PoolError::SessionEnded)));
    }
}

impl<A: Accepts<M>, M: Travels + Clone> Drop for ActorPool<A, M> {
    fn drop(&mut self) {
        let workers = {
            let mut state = self.inner.lock();
            state.plan.close();
            std::mem::take(&mut state.workers)
        };
        drop(workers);
    }
}

/// Starts a worker.
async fn start<A: Accepts<M>, M: Travels + Clone>(pool: Weak<Inner<A, M>>, worker: WorkerId) {
    let Some((actors, call, within)) = pool.upgrade().map(|pool| (pool.actors.clone(), pool.call.clone(), pool.within))
    else {
        return;
    };
    let started = start_ordered::<A>(&actors, call, within).await;
    // Without a pool the handle's drop stops it.
    let Some(pool) = pool.upgrade() else { return };
    match started {
        Ok(handle) => pool.act(|plan, (workers, now)| {
            workers.insert(worker, handle);
            plan.on_started(now, worker)
        }),
        Err(error) => {
            tracing::warn!(actor = A::NAME, %error, "a worker of a pool was not started");
            pool.lock().cause = error;
            pool.act(|plan, _| plan.on_start_failed(worker));
        }
    }
}

/// Waits for what a worker does with an item.
async fn give<A: Accepts<M>, M: Travels + Clone>(
    pool: Weak<Inner<A, M>>,
    worker: WorkerId,
    item: ItemId,
    asked: impl Future<Output = Result<M::Result, ActorError>>,
) {
    let come = asked.await;
    let Some(pool) = pool.upgrade() else { return };
    match come {
        Ok(reply) => {
            pool.finish(&mut pool.lock(), item, Ok(reply));
            pool.act(|plan, (_, now)| plan.on_done(now, worker));
        }
        // What cannot travel does so nowhere; the worker is well.
        Err(error @ ActorError::Refused(_)) => {
            pool.finish(&mut pool.lock(), item, Err(PoolError::Failed { item, attempts: 1, cause: error }));
            pool.act(|plan, (_, now)| plan.on_done(now, worker));
        }
        Err(error) => {
            tracing::debug!(item, %error, "an attempt of a pool came to nothing");
            let lives = matches!(error, ActorError::Panicked { .. });
            let lost = {
                let mut state = pool.lock();
                state.cause = error;
                if lives { None } else { state.workers.remove(&worker) }
            };
            if let Some(lost) = lost {
                lost.stop_soon();
            }
            pool.act(|plan, (_, now)| if lives { plan.on_failed(now, worker) } else { plan.on_lost(now, worker) });
        }
    }
}

/// Lets idle workers go when it is time.
async fn look_later<A: Accepts<M>, M: Travels + Clone>(pool: Weak<Inner<A, M>>, after: Duration) {
    tokio::time::sleep(after).await;
    if let Some(pool) = pool.upgrade() {
        pool.lock().ticking = false;
        pool.act(|plan, (_, now)| plan.on_tick(now));
    }
}

impl<A: Accepts<M>, M: Travels + Clone> fmt::Debug for ActorPool<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorPool({}, {} workers)", A::NAME, self.size())
    }
}
