//! What a pool keeps, and how it does what its plan says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::plan::{Action, ItemId, Plan, PlanLimits, WorkerId};
use super::{PoolError, RESULTS_MAX};
use crate::actor::message::DirectoryCall;
use crate::actor::spawn::start_ordered;
use crate::actor::{Accepts, ActorError, ActorHandle, Actors, Travels};
use crate::runtime::wait;
use crate::task;

pub(super) struct Inner<A: Accepts<M>, M: Travels + Clone> {
    actors: Actors,
    call: DirectoryCall,
    within: Duration,
    attempts: u32,
    item_time: Duration,
    pub(super) room: Arc<Semaphore>,
    state: Mutex<State<A, M>>,
    /// A result has come.
    changed: Condvar,
}

pub(super) struct State<A: Accepts<M>, M: Travels + Clone> {
    pub(super) plan: Plan,
    pub(super) workers: BTreeMap<WorkerId, ActorHandle<A>>,
    items: BTreeMap<ItemId, (M, OwnedSemaphorePermit)>,
    pub(super) results: BTreeMap<ItemId, Result<M::Result, PoolError>>,
    /// Items that were submitted one by one and have results, as these came.
    pub(super) finished: VecDeque<ItemId>,
    /// Items that were submitted one by one and whose results nobody has taken or waits for.
    pub(super) untaken: BTreeSet<ItemId>,
    /// Why the last attempt or start failed.
    cause: ActorError,
    next: ItemId,
    /// Somebody looks after idle workers.
    ticking: bool,
}

pub(super) type Workers<'a, A> = (&'a mut BTreeMap<WorkerId, ActorHandle<A>>, Duration);

/// How a pool works.
pub(super) struct Terms {
    pub(super) limits: PlanLimits,
    pub(super) item_time: Duration,
    pub(super) in_flight: usize,
}

impl<A: Accepts<M>, M: Travels + Clone> Inner<A, M> {
    pub(super) fn new(actors: Actors, (call, within): (DirectoryCall, Duration), terms: Terms) -> Self {
        let Terms { limits, item_time, in_flight } = terms;
        let state = State {
            plan: Plan::new(limits),
            workers: BTreeMap::new(),
            items: BTreeMap::new(),
            results: BTreeMap::new(),
            finished: VecDeque::new(),
            untaken: BTreeSet::new(),
            cause: ActorError::NotHere,
            next: 0,
            ticking: false,
        };
        let room = Arc::new(Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS)));
        let (attempts, state) = (limits.attempts, Mutex::new(state));
        Self { actors, call, within, attempts, item_time, room, state, changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<A, M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State<A, M>>) -> MutexGuard<'a, State<A, M>> {
        task::while_waiting(|| self.changed.wait(state).unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn now(&self) -> Result<Duration, ActorError> {
        Ok(self.actors.space()?.env().now())
    }

    pub(super) fn submit(self: &Arc<Self>, message: M, listed: bool) -> Result<ItemId, PoolError> {
        let place = task::while_waiting(|| wait::block_on(Arc::clone(&self.room).acquire_owned()));
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

    pub(super) fn next_in_order(&self, time: Option<Duration>) -> Result<M::Result, PoolError> {
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
    pub(super) fn act(self: &Arc<Self>, decide: impl FnOnce(&mut Plan, Workers<'_, A>) -> Vec<Action>) {
        self.act_on(None, decide);
    }

    /// The same when an item is done: who gets its result finds its worker idle.
    fn act_on(
        self: &Arc<Self>,
        done: Option<(ItemId, Result<M::Result, PoolError>)>,
        decide: impl FnOnce(&mut Plan, Workers<'_, A>) -> Vec<Action>,
    ) {
        let mut state = self.lock();
        if let Some((item, result)) = done {
            self.finish(&mut state, item, result);
        }
        let Ok(space) = self.actors.space() else {
            drop(state);
            return self.end();
        };
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
            pool.act_on(Some((item, Ok(reply))), |plan, (_, now)| plan.on_done(now, worker));
        }
        // What cannot travel does so nowhere; the worker is well.
        Err(error @ ActorError::Refused(_)) => {
            let failed = PoolError::Failed { item, attempts: 1, cause: error };
            pool.act_on(Some((item, Err(failed))), |plan, (_, now)| plan.on_done(now, worker));
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
