//! The engine of one process for tasks: a lock round [`State`](state), the threads that wait at it, and the doors to the
//! outside.
//!
//! Workers take tasks from the state themselves: between a submit and its task there is one lock and one wake-up, no
//! message. In a session of one process that is all there is. A process of a cluster has a head ([`Upstream`]): what it
//! submits is placed by the head, and the head gives its workers what they run.

mod crew;
mod drops;
mod hash;
mod head;
mod slot;
mod state;
mod streams;
mod threads;
mod waiter;
mod worker;

pub(crate) use crew::{Crew, CrewArguments, CrewMessage};
pub(crate) use state::Fetch;
pub(crate) use streams::STREAM_AHEAD;
pub(crate) use threads::while_waiting;
pub(crate) use worker::WorkerDeath;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes as Data;
use ractor::ActorRef;

use self::drops::drop_in_turn;
use self::state::{Effects, Ready, State};
use self::waiter::Waiter;
use super::call::{Arg, Given, Needs, Submitted, TaskEntry};
use super::context;
use super::error::TaskError;
use super::ids::{ObjectId, PartyId};
use super::reference::RefCore;
use super::value::Value;
use super::wire::ToHead;
use crate::actor::space::Space;
use crate::job::Resources;
use crate::runtime::env::SharedEnv;
use crate::scheduler::{SchedulerHandle, Wish};
use crate::units::Bytes;

/// Tasks of a process that have not ended. Each takes some 300 bytes, so this is about a gigabyte; who has more to do takes
/// results before it submits more.
pub const TASKS_MAX: usize = 4_000_000;
/// Threads of task workers in a process: one for each core, and one for each task that waits for others. So deep may tasks
/// wait for each other here.
pub const TASK_WORKERS_MAX: usize = 1_000;

/// The way to the head.
pub(crate) trait Upstream: Send + Sync {
    /// Says this, after all that was said before. Must not wait.
    fn send(&self, message: ToHead);

    /// Waits while too much is under way. Called before a message of so many bytes, by threads that may wait.
    fn wait_for_room(&self, bytes: usize);

    /// Leaves a value with the head, which keeps it for this process; waits until it is there. Only for drivers.
    fn leave(&self, id: ObjectId, data: Data) -> Result<(), TaskError>;

    /// Brings a value; what comes of it is told to the engine.
    fn fetch(&self, engine: Engine, fetch: Fetch);
}

/// What an engine is made with.
pub(crate) struct EngineParts {
    pub(crate) env: SharedEnv,
    pub(crate) party: PartyId,
    /// Cores of its workers; 0 if it runs nothing.
    pub(crate) cpus: f64,
    pub(crate) limits: ValueLimits,
    pub(crate) scheduler: Option<SchedulerHandle>,
    pub(crate) up: Option<Arc<dyn Upstream>>,
}

/// Limits of values that travel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueLimits {
    /// One value: `NodeConfig::object_bytes_max`.
    pub(crate) one: Bytes,
    /// All that are kept here for others: `NodeConfig::objects_bytes_max`.
    pub(crate) all: Bytes,
}

/// The engine of a process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Idle workers wait here.
    work: Condvar,
    /// Tasks in the queue, for who looks without the lock.
    queued: AtomicUsize,
    closed: AtomicBool,
    next: AtomicU64,
    crew: OnceLock<ActorRef<CrewMessage>>,
    /// The way to actors of this process.
    space: OnceLock<Weak<Space>>,
    parts: EngineParts,
    plain: Arc<Needs>,
}

/// An engine that does not live by this.
pub(crate) struct WeakEngine(Weak<Inner>);

impl WeakEngine {
    pub(crate) fn get(&self) -> Option<Engine> {
        self.0.upgrade().map(|inner| Engine { inner })
    }
}

impl Engine {
    pub(crate) fn new(parts: EngineParts) -> Self {
        let cpu_milli = (parts.cpus * 1000.0).round() as i64;
        let state = State::new(cpu_milli, TASK_WORKERS_MAX, parts.up.is_some().then_some(parts.party));
        let plain = Arc::new(Needs::new(Resources::default(), super::ATTEMPTS));
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                work: Condvar::new(),
                queued: AtomicUsize::new(0),
                closed: AtomicBool::new(false),
                next: AtomicU64::new(1),
                crew: OnceLock::new(),
                space: OnceLock::new(),
                parts,
                plain,
            }),
        }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn weak(&self) -> WeakEngine {
        WeakEngine(Arc::downgrade(&self.inner))
    }

    /// Who starts workers.
    pub(crate) fn set_crew(&self, crew: ActorRef<CrewMessage>) {
        // It is set once, when the engine is made.
        let _ = self.inner.crew.set(crew);
    }

    /// Whose engine it is.
    pub(crate) fn party(&self) -> PartyId {
        self.inner.parts.party
    }

    /// How its tasks reach actors, and actors beside it its tasks.
    pub(crate) fn set_space(&self, space: &Arc<Space>) {
        // It is set once, when the engine is made.
        let _ = self.inner.space.set(Arc::downgrade(space));
        space.set_tasks(self.weak());
    }

    /// The way to actors for code that runs here.
    pub(crate) fn space(&self) -> Option<Weak<Space>> {
        self.inner.space.get().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and does outside what follows.
    fn with<R>(&self, change: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let mut state = self.lock();
        let result = change(&mut state, &mut effects);
        self.publish(&state, &mut effects);
        drop(state);
        self.apply(effects);
        result
    }

    /// What has to be done before the lock is given back.
    fn publish(&self, state: &State, effects: &mut Effects) {
        if let Some(up) = &self.inner.parts.up {
            effects.up.drain(..).for_each(|message| up.send(message));
        }
        self.inner.queued.store(state.queued(), Ordering::Release);
    }

    /// What has to be done after it.
    fn apply(&self, effects: Effects) {
        let Effects { fetch, wake, lease, garbage, left, leases, notify, grow, unasked, .. } = effects;
        (0..notify).for_each(|_| self.inner.work.notify_one());
        wake.iter().for_each(|waiter| waiter.tell());
        if grow > 0
            && let Some(crew) = self.inner.crew.get()
        {
            // A crew that is gone has closed the engine.
            let _ = crew.cast(CrewMessage::Grow(grow));
        }
        for fetch in fetch {
            if let Some(up) = &self.inner.parts.up {
                up.fetch(self.clone(), fetch);
            }
        }
        lease.into_iter().for_each(|ready| self.ask_for_lease(ready));
        if let Some(scheduler) = self.inner.parts.scheduler.as_ref().filter(|_| unasked) {
            scheduler.look();
        }
        drop(leases);
        drop_in_turn(garbage, left);
    }

    fn ask_for_lease(&self, ready: Ready) {
        let Some(scheduler) = &self.inner.parts.scheduler else { return };
        let (weak, wanted) = (self.weak(), ready.task.needs.resources.clone());
        let (engine, task) = (self.weak(), Arc::clone(&ready.task));
        let is_gone = Box::new(move || engine.get().is_none() || task.is_cancelled());
        // Behind the operators of jobs, which are counted from their sinks.
        let wish = Wish { priority: usize::MAX, wanted, asker: None, is_gone };
        scheduler.ask(wish, move |lease| {
            let Some(engine) = weak.get() else { return false };
            let ready = Ready { lease: Some(Box::new(lease)), ..ready };
            engine.with(|state, effects| state.leased(ready, effects));
            true
        });
    }

    fn new_id(&self) -> ObjectId {
        ObjectId::new(self.inner.parts.party, self.inner.next.fetch_add(1, Ordering::Relaxed))
    }

    // ---- values ----

    /// Stores a value.
    pub(crate) fn put(&self, value: Value) -> Result<Arc<RefCore>, TaskError> {
        let id = self.new_id();
        match self.inner.parts.up {
            None => self.with(|state, effects| match state.closed.clone() {
                Some(error) => {
                    effects.garbage.push(value);
                    Err(error)
                }
                None => {
                    state.put(id, value, effects);
                    Ok(())
                }
            })?,
            Some(_) => self.put_for_head(id, value)?,
        }
        Ok(RefCore::new(id, self.clone()))
    }

    /// A reference that came inside a value.
    pub(crate) fn adopt(&self, id: ObjectId) -> Arc<RefCore> {
        self.hold(id);
        RefCore::new(id, self.clone())
    }

    /// Somebody holds a value once more.
    pub(crate) fn hold(&self, id: ObjectId) {
        self.with(|state, _| state.hold(id));
    }

    /// A reference less.
    pub(crate) fn let_go(&self, id: ObjectId) {
        self.with(|state, effects| state.let_go(id, effects));
    }

    /// The value, waiting for it no longer than `limit`.
    pub(crate) fn get(&self, id: ObjectId, limit: Option<Duration>) -> Result<Value, TaskError> {
        let end = limit.map(|limit| self.inner.parts.env.now().saturating_add(limit));
        loop {
            let waiter = match self.with(|state, effects| look(state, id, effects)) {
                Ok(found) => return found,
                Err(waiter) => waiter,
            };
            if waiter.spin() {
                continue;
            }
            let left = end.map(|end| end.saturating_sub(self.inner.parts.env.now()));
            let over = self.wait_for(&waiter, left);
            if !matches!(over, Ok(true)) {
                self.with(|state, _| state.forget_waiter(id, &waiter));
                over?;
                return Err(TaskError::Late { object: id, waited: limit.unwrap_or_default() });
            }
        }
    }

    /// Waits until `wanted` of the values are ready or failed, no longer than `limit`; which of them are.
    pub(crate) fn wait(
        &self,
        ids: &[ObjectId],
        wanted: usize,
        limit: Option<Duration>,
    ) -> Result<Vec<bool>, TaskError> {
        let settled = |state: &mut State| ids.iter().map(|id| state.is_settled(*id)).collect::<Vec<_>>();
        let wanted = wanted.min(ids.len());
        let waiter = self.with(|state, effects| {
            let there = ids.iter().filter(|id| state.is_settled(**id)).count();
            let missing = wanted.checked_sub(there).filter(|missing| *missing > 0)?;
            let waiter = Arc::new(Waiter::new(missing));
            for id in ids {
                state.watch(*id, &waiter, effects);
            }
            Some(waiter)
        });
        if let Some(waiter) = waiter {
            let waited = if waiter.spin() { Ok(true) } else { self.wait_for(&waiter, limit) };
            // It still stands at those that were not wanted.
            self.with(|state, _| ids.iter().for_each(|id| state.forget_waiter(*id, &waiter)));
            waited?;
        }
        let (settled, closed) = self.with(|state, _| (settled(state), state.closed.clone()));
        closed.map_or(Ok(settled), Err)
    }

    // ---- tasks ----

    /// Submits a task; a reference to its result.
    pub(crate) fn submit(
        &self,
        entry: &'static TaskEntry,
        given: Vec<Given>,
        resources: Resources,
        attempts: u32,
        stream: bool,
    ) -> Result<Arc<RefCore>, TaskError> {
        let needs = self.needs(entry, resources, attempts)?;
        let id = self.new_id();
        // Held until the state holds them.
        let held =
            given.iter().filter_map(|given| if let Given::Ref(core) = given { Some(Arc::clone(core)) } else { None });
        let held: Vec<_> = held.collect();
        if held.iter().any(|core| !core.engine().is(self)) {
            return Err(TaskError::Value(
                "a reference belongs to another session; get its value and pass that".to_owned(),
            ));
        }
        if self.inner.parts.up.is_some() {
            self.submit_to_head(id, entry, given, &needs, stream)?;
            return Ok(RefCore::new(id, self.clone()));
        }
        self.check_here(entry, &needs)?;
        let args = given.into_iter().map(|given| match given {
            Given::Value(value) => Arg::Value(value.0),
            Given::Ref(core) => Arg::Ref(core.id()),
        });
        let args = args.collect();
        let parent = context::work_of(self).map(|work| Arc::downgrade(&work.task)).unwrap_or_default();
        let contained = Box::default();
        let cancelled = AtomicBool::new(false);
        let task =
            Arc::new(Submitted { id, parent, entry, args, contained, needs, cancelled, stream, for_head: false });
        self.with(|state, effects| {
            // Its arguments may hold references, whose drop takes the lock.
            if let Some(error) = state.closed.clone().or_else(|| state.check_room().err()) {
                effects.left.push(task);
                return Err(error);
            }
            if stream {
                state.consume(id);
            }
            state.submit(task, effects);
            Ok(())
        })?;
        Ok(RefCore::new(id, self.clone()))
    }

    /// The needs of a task; those of most are the same and shared.
    fn needs(&self, entry: &TaskEntry, resources: Resources, attempts: u32) -> Result<Arc<Needs>, TaskError> {
        let plain = &self.inner.plain;
        if resources == plain.resources && attempts == plain.attempts {
            return Ok(Arc::clone(plain));
        }
        let mut amounts = [resources.cpus, resources.gpus].into_iter().chain(resources.extras.values().copied());
        match amounts.all(|amount| amount >= 0.0) {
            true => Ok(Arc::new(Needs::new(resources, attempts.max(1)))),
            false => {
                let reason = format!("an amount below zero or not a number was asked for ({resources})");
                Err(TaskError::Infeasible { task: entry.name.into(), reason })
            }
        }
    }

    /// Whether this process can ever run it.
    fn check_here(&self, entry: &TaskEntry, needs: &Arc<Needs>) -> Result<(), TaskError> {
        if Arc::ptr_eq(needs, &self.inner.plain) {
            return Ok(());
        }
        let feasible = match &self.inner.parts.scheduler {
            Some(scheduler) => futures::executor::block_on(scheduler.check(needs.resources.clone())),
            None => Err("nothing runs here".to_owned()),
        };
        feasible.map_err(|reason| TaskError::Infeasible { task: entry.name.into(), reason })
    }

    /// Nobody wants the result any more.
    pub(crate) fn cancel(&self, task: ObjectId) {
        let task = task.task();
        match &self.inner.parts.up {
            Some(_) => self.with(|_, effects| effects.up.push(ToHead::Cancel { task })),
            None => self.with(|state, effects| state.cancel(task, effects)),
        }
    }

    /// Values known, tasks that wait for arguments, tasks in the queue, tasks that run.
    pub(crate) fn counts(&self) -> (usize, usize, usize, usize) {
        self.lock().counts()
    }

    /// Whether tasks run here, or values are kept for others.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.lock();
        let (_, waiting, queued, running) = state.counts();
        waiting + queued + running > 0 || state.lent_bytes() > 0
    }

    /// Ends it: nothing more runs, and all who wait are told why.
    pub(crate) fn close(&self, why: TaskError) {
        self.inner.closed.store(true, Ordering::Release);
        self.with(|state, effects| state.close(why, effects));
        self.inner.work.notify_all();
    }
}

/// The value, or who is told when it is settled.
fn look(state: &mut State, id: ObjectId, effects: &mut Effects) -> Result<Result<Value, TaskError>, Arc<Waiter>> {
    if let Some(found) = state.look(id, None, effects) {
        return Ok(found);
    }
    let waiter = Arc::new(Waiter::new(1));
    state.look(id, Some(&waiter), effects).ok_or(waiter)
}
