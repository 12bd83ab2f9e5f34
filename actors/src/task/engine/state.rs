//! The pure thinking of a process about tasks and stored values: what is there, who waits, what runs next.
//!
//! Nothing here waits, locks or sends. What has to be done outside comes back as [`Effects`], and is done after the lock
//! is given back (messages to the head while it is held, so that they keep their order). Values leave as garbage among
//! them: their drop may let go of references, and so come back here.
//!
//! Tasks start strictly in the order in which they became ready: one that needs many cores is not passed over for ever by
//! small ones. Who waits for other tasks holds no core meanwhile, and goes before new ones when it can go on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::hash::ByNumber;
use super::slot::{Slot, SlotState};
use super::streams::Stream;
use super::waiter::Waiter;
use crate::scheduler::Lease;
use crate::task::call::{Arg, Submitted};
use crate::task::error::TaskError;
use crate::task::ids::{ObjectId, PartyId};
use crate::task::value::Value;
use crate::task::wire::{AttemptError, ToHead, ValueFrame};
use crate::units::Bytes;

/// What is to be done outside.
#[derive(Default)]
pub(super) struct Effects {
    /// Say this to the head, in this order.
    pub(super) up: Vec<ToHead>,
    /// Bring these values.
    pub(super) fetch: Vec<Fetch>,
    /// These threads may go on, or look again.
    pub(super) wake: Vec<Arc<Waiter>>,
    /// Ask for the leases of these tasks.
    pub(super) lease: Vec<Ready>,
    /// Drop these.
    pub(super) garbage: Vec<Value>,
    pub(super) left: Vec<Arc<Submitted>>,
    pub(super) leases: Vec<Lease>,
    /// Wake so many idle workers.
    pub(super) notify: usize,
    /// Start so many workers.
    pub(super) grow: usize,
    /// A lease that was asked for is not wanted any more.
    pub(super) unasked: bool,
}

impl Effects {
    pub(super) fn is_empty(&self) -> bool {
        let Self { up, fetch, wake, lease, garbage, left, leases, notify, grow, unasked } = self;
        let nothing = up.is_empty() && fetch.is_empty() && wake.is_empty() && lease.is_empty();
        nothing && garbage.is_empty() && left.is_empty() && leases.is_empty() && *notify == 0 && *grow == 0 && !unasked
    }
}

/// A value to be brought here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) id: ObjectId,
    pub(crate) bytes: Bytes,
    pub(crate) nodes: Vec<PartyId>,
}

/// An attempt of a task that could run now.
pub(crate) struct Ready {
    pub(crate) task: Arc<Submitted>,
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) lease: Option<Box<Lease>>,
}

/// What a worker runs.
struct Running {
    task: Arc<Submitted>,
    attempt: u32,
    lease: Option<Box<Lease>>,
    /// It waits for others and holds no core.
    waits: bool,
    /// Who waits there.
    waiter: Option<Arc<Waiter>>,
}

/// How an attempt ended.
pub(super) enum Ended {
    /// With this value; for a task of the head also as it travels, with the references inside it.
    Value(Value, Option<(ValueFrame, Vec<ObjectId>)>),
    /// With this error and its causes.
    Failed(Vec<String>),
    /// With its worker.
    Lost(String),
    /// With something that no other attempt would change.
    Never(TaskError),
}

/// A task for a worker, with the values of its arguments.
pub(super) struct Start {
    pub(super) task: Arc<Submitted>,
    pub(super) attempt: u32,
    pub(super) args: Vec<Value>,
    pub(super) gpus: Arc<[u32]>,
}

/// What a process knows.
pub(super) struct State {
    pub(super) slots: HashMap<ObjectId, Slot, ByNumber>,
    /// Tasks that wait for so many arguments.
    waiting: HashMap<ObjectId, (Ready, u32), ByNumber>,
    queue: VecDeque<Ready>,
    /// Tasks whose leases were asked for.
    leasing: HashMap<ObjectId, (Arc<Submitted>, u32), ByNumber>,
    /// Workers that could go on but for a core, with what they need.
    resuming: VecDeque<(usize, Arc<Waiter>)>,
    pub(super) streams: HashMap<ObjectId, Stream, ByNumber>,
    running: Vec<Option<Running>>,
    cpu_free: i64,
    pub(super) workers: Workers,
    pub(super) closed: Option<TaskError>,
    /// Who this process is to its head, which is told of what happens here; none without a head.
    pub(super) party: Option<PartyId>,
    /// Encoded bytes kept here for others.
    lent_bytes: u64,
}

/// Counts of workers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Workers {
    /// With nothing to do, asleep.
    pub(super) idle: usize,
    /// One that is about to look again: it need not be woken.
    pub(super) spinning: bool,
    /// Being started.
    pub(super) starting: usize,
    /// There, or being started.
    pub(super) all: usize,
    /// Never more.
    pub(super) most: usize,
}

impl State {
    pub(super) fn new(cpu_milli: i64, workers_max: usize, party: Option<PartyId>) -> Self {
        Self {
            slots: HashMap::default(),
            waiting: HashMap::default(),
            queue: VecDeque::new(),
            leasing: HashMap::default(),
            resuming: VecDeque::new(),
            streams: HashMap::default(),
            running: Vec::new(),
            cpu_free: cpu_milli,
            workers: Workers { most: workers_max, ..Workers::default() },
            closed: None,
            party,
            lent_bytes: 0,
        }
    }

    pub(super) fn has_head(&self) -> bool {
        self.party.is_some()
    }

    // ---- values ----

    /// A value is here from now on, held once.
    pub(super) fn put(&mut self, id: ObjectId, value: Value, effects: &mut Effects) {
        self.slots.entry(id).or_insert_with(|| Slot::new(0)).refs += 1;
        self.settle(id, SlotState::Ready(value), effects);
    }

    /// A value that stands here already is also told to the head, which says when it may go.
    pub(super) fn lend(&mut self, id: ObjectId, bytes: u64) {
        if let Some(slot) = self.slots.get_mut(&id) {
            let before = slot.lent.replace(bytes);
            self.lent_bytes = self.lent_bytes - before.unwrap_or(0) + bytes;
        }
    }

    pub(super) fn lent_bytes(&self) -> u64 {
        self.lent_bytes
    }

    /// Somebody here holds a value from now on, which may be unknown here yet.
    pub(super) fn hold(&mut self, id: ObjectId) {
        self.slots.entry(id).or_insert_with(|| Slot::new(0)).refs += 1;
    }

    /// The head tells of a value in another.
    pub(super) fn granted(&mut self, id: ObjectId) {
        let slot = self.slots.entry(id).or_insert_with(|| Slot::new(0));
        slot.refs += 1;
        slot.grants += 1;
    }

    /// One reference less.
    pub(super) fn let_go(&mut self, id: ObjectId, effects: &mut Effects) {
        let mut ids = vec![id];
        while let Some(id) = ids.pop() {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.refs = slot.refs.saturating_sub(1);
            if slot.refs > 0 {
                continue;
            }
            if slot.grants > 0 {
                effects.up.push(ToHead::Release { id, grants: std::mem::take(&mut slot.grants) });
            }
            ids.extend(self.forget_if_free(id, effects));
        }
    }

    /// Drops what nobody needs; gives the references that were inside it.
    fn forget_if_free(&mut self, id: ObjectId, effects: &mut Effects) -> Vec<ObjectId> {
        if !self.slots.get(&id).is_some_and(Slot::is_free) {
            return Vec::new();
        }
        let Some(mut slot) = self.slots.remove(&id) else { return Vec::new() };
        effects.wake.extend(slot.take_waiting().threads);
        if let SlotState::Ready(value) = slot.state {
            effects.garbage.push(value);
        }
        slot.contained
    }

    fn clean_up(&mut self, id: ObjectId, effects: &mut Effects) {
        let inside = self.forget_if_free(id, effects);
        inside.into_iter().for_each(|id| self.let_go(id, effects));
    }

    /// A value is ready, or will never be: whoever waits for it goes on.
    pub(super) fn settle(&mut self, id: ObjectId, state: SlotState, effects: &mut Effects) {
        let mut settled = vec![(id, state)];
        let is_open = self.closed.is_none();
        while let Some((id, state)) = settled.pop() {
            // Nobody lets go of what comes after the end.
            let Some(slot) = self.slots.get_mut(&id).filter(|_| is_open) else {
                if let SlotState::Ready(value) = state {
                    effects.garbage.push(value);
                }
                continue;
            };
            let error = if let SlotState::Failed(error) = &state { Some(TaskError::clone(error)) } else { None };
            if let SlotState::Ready(value) = std::mem::replace(&mut slot.state, state) {
                effects.garbage.push(value);
            }
            let waiting = slot.take_waiting();
            effects.wake.extend(waiting.threads);
            for (task, attempt) in waiting.tasks {
                match &error {
                    None => self.argument_ready(task, attempt, effects),
                    Some(error) => settled.extend(self.argument_failed((task, attempt), id, error, effects)),
                }
            }
            self.clean_up(id, effects);
        }
    }

    /// The value, if it is settled; otherwise `waiter`, if there is one, is told when it is.
    pub(super) fn look(
        &mut self,
        id: ObjectId,
        waiter: Option<&Arc<Waiter>>,
        effects: &mut Effects,
    ) -> Option<Result<Value, TaskError>> {
        let closed = self.closed.clone();
        let Some(slot) = self.slots.get_mut(&id) else {
            let gone = || TaskError::Lost { object: id, reason: "it is not known in this session".to_owned() };
            return Some(Err(closed.unwrap_or_else(gone)));
        };
        match &slot.state {
            SlotState::Ready(value) => return Some(Ok(value.clone())),
            SlotState::Failed(error) => return Some(Err(TaskError::clone(error))),
            SlotState::Pending | SlotState::Away { .. } => {}
        }
        if let Some(error) = closed {
            return Some(Err(error));
        }
        if let Some(waiter) = waiter {
            slot.waiting().threads.push(Arc::clone(waiter));
            self.want(id, effects);
        }
        None
    }

    /// Whether it is ready or failed, wherever it is.
    pub(super) fn is_settled(&mut self, id: ObjectId) -> bool {
        self.slots.get(&id).is_none_or(|slot| slot.is_settled() || matches!(slot.state, SlotState::Away { .. }))
    }

    /// `waiter` is told when it is, here or elsewhere; `false` if it is already.
    pub(super) fn watch(&mut self, id: ObjectId, waiter: &Arc<Waiter>, effects: &mut Effects) -> bool {
        if self.is_settled(id) || self.closed.is_some() {
            return false;
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.waiting().threads.push(Arc::clone(waiter));
            self.ask_head(id, effects);
        }
        true
    }

    pub(super) fn forget_waiter(&mut self, id: ObjectId, waiter: &Arc<Waiter>) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.forget_thread(waiter);
        }
    }

    /// Somebody here needs a value that is not here.
    fn want(&mut self, id: ObjectId, effects: &mut Effects) {
        self.ask_head(id, effects);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if let SlotState::Away { bytes, nodes, fetching } = &mut slot.state
            && !*fetching
        {
            *fetching = true;
            effects.fetch.push(Fetch { id, bytes: *bytes, nodes: nodes.clone() });
        }
    }

    fn ask_head(&mut self, id: ObjectId, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&id).filter(|_| self.party.is_some()) else { return };
        if matches!(slot.state, SlotState::Pending) && !slot.told && slot.making.is_none() {
            slot.told = true;
            effects.up.push(ToHead::Want { id });
        }
    }

    // ---- tasks ----

    /// A task of this process: its result is held once, its arguments as long as it needs them.
    pub(super) fn submit(&mut self, task: Arc<Submitted>, effects: &mut Effects) {
        let slot = self.slots.entry(task.id).or_insert_with(|| Slot::new(0));
        slot.refs += 1;
        slot.making = Some(Arc::clone(&task));
        self.enter(Ready { task, attempt: 1, lease: None }, effects);
    }

    /// A task that the head wants to be run.
    pub(super) fn enter(&mut self, ready: Ready, effects: &mut Effects) {
        let task = Arc::clone(&ready.task);
        if self.closed.is_some() {
            return effects.left.push(task);
        }
        let mut missing = 0;
        let mut failed = None;
        for id in task.references() {
            let slot = self.slots.entry(id).or_insert_with(|| Slot::new(0));
            slot.refs += 1;
            match &slot.state {
                SlotState::Ready(_) => {}
                SlotState::Failed(error) => failed = Some((id, TaskError::clone(error))),
                SlotState::Pending | SlotState::Away { .. } => {
                    missing += 1;
                    slot.waiting().tasks.push((task.id, ready.attempt));
                    self.want(id, effects);
                }
            }
        }
        if task.stream && task.for_head {
            self.make_stream(task.id);
        }
        if let Some((argument, error)) = failed {
            let state = self.without_argument(&ready, argument, &error, effects);
            self.settle_own(&task, state, effects);
        } else if missing > 0 {
            self.waiting.insert(task.id, (ready, missing));
        } else {
            self.enqueue(ready, effects);
        }
    }

    fn argument_ready(&mut self, task: ObjectId, attempt: u32, effects: &mut Effects) {
        let Some((_, missing)) = self.waiting.get_mut(&task).filter(|(ready, _)| ready.attempt == attempt) else {
            return;
        };
        *missing -= 1;
        if *missing == 0
            && let Some((ready, _)) = self.waiting.remove(&task)
        {
            self.enqueue(ready, effects);
        }
    }

    fn argument_failed(
        &mut self,
        attempt: (ObjectId, u32),
        argument: ObjectId,
        error: &TaskError,
        effects: &mut Effects,
    ) -> Option<(ObjectId, SlotState)> {
        let ready = self.take_waiting(attempt)?;
        let state = self.without_argument(&ready, argument, error, effects)?;
        Some((attempt.0, state))
    }

    /// This attempt, if it waits for arguments, which it does no longer.
    fn take_waiting(&mut self, (task, attempt): (ObjectId, u32)) -> Option<Ready> {
        self.waiting.get(&task).filter(|(ready, _)| ready.attempt == attempt)?;
        self.waiting.remove(&task).map(|(ready, _)| ready)
    }

    /// What becomes of a task whose argument failed: its own result fails, or the head is told.
    fn without_argument(
        &mut self,
        ready: &Ready,
        argument: ObjectId,
        error: &TaskError,
        effects: &mut Effects,
    ) -> Option<SlotState> {
        let task = &ready.task;
        let failed = error.of_argument(&task.name(), argument);
        if task.for_head {
            let error = AttemptError::Argument { argument, reason: error.to_string() };
            effects.up.push(ToHead::Failed { task: task.id, attempt: ready.attempt, error });
        }
        self.leave(task, effects);
        (!task.for_head).then(|| SlotState::Failed(Box::new(failed)))
    }

    /// A task has ended: what it held is let go.
    fn leave(&mut self, task: &Arc<Submitted>, effects: &mut Effects) {
        // Its arguments may hold references.
        effects.left.push(Arc::clone(task));
        task.references().for_each(|id| self.let_go(id, effects));
        task.contained.iter().for_each(|id| self.let_go(*id, effects));
        if task.stream {
            self.leave_stream(task, effects);
        }
        if !task.for_head
            && let Some(slot) = self.slots.get_mut(&task.id)
        {
            slot.making = None;
        }
    }

    fn settle_own(&mut self, task: &Arc<Submitted>, state: Option<SlotState>, effects: &mut Effects) {
        if let Some(state) = state {
            self.settle(task.id, state, effects);
        }
    }

    /// An attempt can run as far as its arguments go.
    fn enqueue(&mut self, ready: Ready, effects: &mut Effects) {
        if ready.task.needs.leased() && ready.lease.is_none() {
            self.leasing.insert(ready.task.id, (Arc::clone(&ready.task), ready.attempt));
            effects.lease.push(ready);
            return;
        }
        self.queue.push_back(ready);
        self.start_more(effects);
    }

    /// The lease of an attempt has come; one that is not wanted any more is given back.
    pub(super) fn leased(&mut self, ready: Ready, effects: &mut Effects) {
        let asked = self.leasing.get(&ready.task.id).is_some_and(|(_, attempt)| *attempt == ready.attempt);
        if !asked {
            effects.leases.extend(ready.lease.map(|lease| *lease));
            return effects.left.push(ready.task);
        }
        self.leasing.remove(&ready.task.id);
        // Its devices are idle until it runs, so it goes first.
        self.queue.push_front(ready);
        self.start_more(effects);
    }

    /// Cores that are free go to who can go on, then to the next task.
    fn start_more(&mut self, effects: &mut Effects) {
        while let Some((worker, _)) = self.resuming.front() {
            let cpu = self.running.get(*worker).and_then(Option::as_ref).map_or(0, |run| run.task.needs.cpu_milli);
            if cpu > self.cpu_free {
                return;
            }
            let Some((worker, waiter)) = self.resuming.pop_front() else { return };
            self.resume(worker, effects);
            effects.wake.push(waiter);
        }
        if !self.front_fits() || self.workers.spinning {
            return;
        }
        let Workers { idle, starting, all, most, .. } = self.workers;
        if idle > effects.notify {
            effects.notify += 1;
        } else if starting == 0 && all < most {
            self.workers.starting += 1;
            self.workers.all += 1;
            effects.grow += 1;
        }
    }

    fn front_fits(&self) -> bool {
        self.queue.front().is_some_and(|ready| ready.task.needs.cpu_milli <= self.cpu_free)
    }

    /// The next task for a worker, if one fits.
    pub(super) fn next(&mut self, worker: usize, effects: &mut Effects) -> Option<Start> {
        loop {
            if !self.resuming.is_empty() {
                return None;
            }
            if !self.front_fits() {
                return None;
            }
            let ready = self.queue.pop_front()?;
            if ready.task.is_cancelled() {
                effects.leases.extend(ready.lease.map(|lease| *lease));
                self.cancelled(&ready.task, ready.attempt, effects);
                continue;
            }
            let Some(args) = self.arguments(&ready.task) else {
                // Freed between its readiness and now: that happens to values of the head only, which is told.
                let error = AttemptError::WorkerLost("an argument was lost before the task began".to_owned());
                effects.up.push(ToHead::Failed { task: ready.task.id, attempt: ready.attempt, error });
                self.leave(&ready.task, effects);
                continue;
            };
            return Some(self.begin(worker, ready, args, effects));
        }
    }

    fn begin(&mut self, worker: usize, ready: Ready, args: Vec<Value>, effects: &mut Effects) -> Start {
        let Ready { task, attempt, lease } = ready;
        self.cpu_free -= task.needs.cpu_milli;
        let gpus = lease.as_ref().map(|lease| lease.gpus().into()).unwrap_or_default();
        if self.running.len() <= worker {
            self.running.resize_with(worker + 1, || None);
        }
        if let Some(place) = self.running.get_mut(worker) {
            *place = Some(Running { task: Arc::clone(&task), attempt, lease, waits: false, waiter: None });
        }
        self.start_more(effects);
        Start { task, attempt, args, gpus }
    }

    fn arguments(&self, task: &Submitted) -> Option<Vec<Value>> {
        let value = |arg: &Arg| match arg {
            Arg::Value(value) => Some(value.clone()),
            Arg::Ref(id) => match &self.slots.get(id)?.state {
                SlotState::Ready(value) => Some(value.clone()),
                _ => None,
            },
        };
        task.args.iter().map(value).collect()
    }

    /// The attempt of a worker has ended.
    pub(super) fn ended(&mut self, worker: usize, ended: Ended, effects: &mut Effects) {
        let Some(running) = self.running.get_mut(worker).and_then(Option::take) else { return };
        let Running { task, attempt, lease, waits, .. } = running;
        if !waits {
            self.cpu_free += task.needs.cpu_milli;
        }
        effects.leases.extend(lease.map(|lease| *lease));
        match task.for_head {
            true => self.ended_for_head(&task, attempt, ended, effects),
            false => self.ended_here(task, attempt, ended, effects),
        }
        self.start_more(effects);
    }

    fn ended_here(&mut self, task: Arc<Submitted>, attempt: u32, ended: Ended, effects: &mut Effects) {
        let attempts = task.needs.attempts;
        let name = task.name();
        let again = attempt < attempts && !task.is_cancelled();
        let state = match ended {
            ended if task.is_cancelled() => {
                if let Ended::Value(value, _) = ended {
                    effects.garbage.push(value);
                }
                SlotState::Failed(TaskError::Cancelled { task: name }.into())
            }
            Ended::Value(value, _) => SlotState::Ready(value),
            Ended::Failed(_) | Ended::Lost(_) if again => {
                return self.enqueue(Ready { task, attempt: attempt + 1, lease: None }, effects);
            }
            Ended::Failed(causes) => {
                SlotState::Failed(TaskError::Failed { task: name, attempt, attempts, causes }.into())
            }
            Ended::Lost(reason) => {
                SlotState::Failed(TaskError::WorkerLost { task: name, attempt, attempts, reason }.into())
            }
            Ended::Never(error) => SlotState::Failed(error.into()),
        };
        self.leave(&task, effects);
        self.settle(task.id, state, effects);
    }

    fn ended_for_head(&mut self, task: &Arc<Submitted>, attempt: u32, ended: Ended, effects: &mut Effects) {
        let (id, mut kept) = (task.id, None);
        let failed = |error| ToHead::Failed { task: id, attempt, error };
        let message = match ended {
            Ended::Value(value, Some((frame, contained))) => {
                if let ValueFrame::Located { bytes, .. } = &frame {
                    kept = Some((value, bytes.0));
                } else {
                    effects.garbage.push(value);
                }
                ToHead::Done { task: id, attempt, value: frame, contained }
            }
            Ended::Value(value, None) => {
                effects.garbage.push(value);
                failed(AttemptError::Failed(vec!["its result cannot travel".to_owned()]))
            }
            Ended::Failed(causes) => failed(AttemptError::Failed(causes)),
            Ended::Lost(reason) => failed(AttemptError::WorkerLost(reason)),
            Ended::Never(error) => failed(AttemptError::Never(error)),
        };
        if let Some((value, bytes)) = kept {
            self.keep(id, value, bytes, effects);
        }
        effects.up.push(message);
        self.leave(task, effects);
    }

    /// A value stays here until the head lets it go.
    pub(super) fn keep(&mut self, id: ObjectId, value: Value, bytes: u64, effects: &mut Effects) {
        if self.closed.is_some() {
            return effects.garbage.push(value);
        }
        self.slots.entry(id).or_insert_with(|| Slot::new(0));
        self.lend(id, bytes);
        self.settle(id, SlotState::Ready(value), effects);
    }

    /// A task that was cancelled before it ran has ended so.
    fn cancelled(&mut self, task: &Arc<Submitted>, attempt: u32, effects: &mut Effects) {
        self.leave(task, effects);
        if task.for_head {
            let error = AttemptError::Failed(vec!["it was stopped".to_owned()]);
            effects.up.push(ToHead::Failed { task: task.id, attempt, error });
        } else {
            self.settle(task.id, SlotState::Failed(TaskError::Cancelled { task: task.name() }.into()), effects);
        }
    }

    /// Nobody wants the result of a task: what waits does not run, what runs is told.
    pub(super) fn cancel(&mut self, id: ObjectId, effects: &mut Effects) {
        let waits = self.waiting.remove(&id).map(|(ready, _)| (ready.task, ready.attempt));
        let leasing = self.leasing.remove(&id);
        effects.unasked |= leasing.is_some();
        if let Some((task, attempt)) = waits.or(leasing) {
            task.cancelled.store(true, Ordering::Relaxed);
            return self.cancelled(&task, attempt, effects);
        }
        if let Some(task) = self.slots.get(&id).and_then(|slot| slot.making.clone()) {
            // Whoever waits need not wait until it leaves the queue or its worker, where it is not looked for.
            task.cancelled.store(true, Ordering::Relaxed);
            self.settle(id, SlotState::Failed(TaskError::Cancelled { task: task.name() }.into()), effects);
        } else {
            let queued = self.queue.iter().map(|ready| &ready.task);
            let running = self.running.iter().flatten().map(|running| &running.task);
            let is = |task: &&Arc<Submitted>| task.id == id && task.for_head;
            queued.chain(running).filter(is).for_each(|task| task.cancelled.store(true, Ordering::Relaxed));
        }
        // One that waits for others need not.
        for running in self.running.iter_mut().flatten().filter(|running| running.task.id == id) {
            effects.wake.extend(running.waiter.take());
        }
        self.wake_stream(id, effects);
    }

    /// How many tasks wait for arguments, for their turn, and run.
    pub(super) fn counts(&self) -> (usize, usize, usize, usize) {
        let running = self.running.iter().flatten().count();
        (self.slots.len(), self.waiting.len(), self.queue.len() + self.leasing.len(), running)
    }

    // ---- workers ----

    /// Tasks that could run but for a core.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether one more task may be known.
    pub(super) fn check_room(&self) -> Result<(), TaskError> {
        match self.slots.len() < super::TASKS_MAX {
            true => Ok(()),
            false => Err(TaskError::Limit(format!(
                "{} tasks and values are held already, which is the most; take results and drop references first",
                super::TASKS_MAX
            ))),
        }
    }

    /// A worker that was to be started is there.
    pub(super) fn started(&mut self, effects: &mut Effects) {
        self.workers.starting = self.workers.starting.saturating_sub(1);
        self.start_more(effects);
    }

    /// A worker has gone.
    pub(super) fn gone(&mut self, effects: &mut Effects) {
        self.workers.all = self.workers.all.saturating_sub(1);
        self.start_more(effects);
    }

    /// Whether a worker that has had nothing to do for a while goes: there are more than cores.
    pub(super) fn retires(&mut self, cpus: f64) -> bool {
        self.workers.idle as f64 >= cpus.max(1.0)
    }

    /// The bytes of a value that is here.
    pub(super) fn data(&self, id: ObjectId) -> Option<bytes::Bytes> {
        match &self.slots.get(&id)?.state {
            SlotState::Ready(value) => value.data(),
            _ => None,
        }
    }

    /// A worker waits for other tasks from now on: its core is free.
    pub(super) fn wait(&mut self, worker: usize, effects: &mut Effects) {
        let Some(Some(running)) = self.running.get_mut(worker) else { return };
        if running.waits {
            return;
        }
        running.waits = true;
        self.cpu_free += running.task.needs.cpu_milli;
        self.say_waits(worker, effects);
        self.start_more(effects);
    }

    /// It could go on: `true` if it has its core again, otherwise `waiter` is told.
    pub(super) fn go_on(&mut self, worker: usize, waiter: &Arc<Waiter>, effects: &mut Effects) -> bool {
        let Some(Some(running)) = self.running.get(worker) else { return true };
        if !running.waits || self.closed.is_some() {
            return true;
        }
        if self.resuming.is_empty() && running.task.needs.cpu_milli <= self.cpu_free {
            self.resume(worker, effects);
            return true;
        }
        self.resuming.push_back((worker, Arc::clone(waiter)));
        false
    }

    fn resume(&mut self, worker: usize, effects: &mut Effects) {
        let Some(Some(running)) = self.running.get_mut(worker) else { return };
        running.waits = false;
        self.cpu_free -= running.task.needs.cpu_milli;
        self.say_waits(worker, effects);
    }

    fn say_waits(&self, worker: usize, effects: &mut Effects) {
        if let Some(Some(Running { task, attempt, waits, .. })) = self.running.get(worker)
            && task.for_head
        {
            effects.up.push(ToHead::Waits { task: task.id, attempt: *attempt, waits: *waits });
        }
    }

    /// Whether a worker that waits would be the last that there may be, so that nothing could run any more.
    pub(super) fn is_full_of_waiters(&self) -> bool {
        let waits = self.running.iter().flatten().filter(|running| running.waits).count();
        waits + 1 >= self.workers.most
    }

    // ---- the head ----

    /// The head tells of a value.
    pub(super) fn on_ready(&mut self, id: ObjectId, state: Told, contained: Vec<ObjectId>, effects: &mut Effects) {
        if !matches!(state, Told::Never(_)) {
            self.expect_item(id, effects);
        }
        let wanted =
            self.slots.get(&id).is_some_and(|slot| slot.refs > 0 && !matches!(slot.state, SlotState::Ready(_)));
        if !wanted {
            // Let go meanwhile, and with it what is inside.
            return effects.up.extend(contained.into_iter().map(|inside| ToHead::Release { id: inside, grants: 1 }));
        }
        contained.iter().for_each(|inside| self.granted(*inside));
        self.arrive(id, state, contained, effects);
    }

    /// The head tells of a value that a task needs here, which the task holds as long as it runs.
    pub(super) fn on_argument(&mut self, id: ObjectId, state: Told, contained: Vec<ObjectId>, effects: &mut Effects) {
        let slot = self.slots.entry(id).or_insert_with(|| Slot::new(0));
        let known = match (&slot.state, &state) {
            (SlotState::Ready(_), _) => true,
            (SlotState::Away { fetching, .. }, Told::Away { .. }) => *fetching,
            _ => false,
        };
        if let Told::Here(_) = state {
            // The head says when it may go; the task that needs it is not here yet.
            slot.lent.get_or_insert(0);
        }
        if known {
            let again = |id| ToHead::Release { id, grants: 1 };
            return effects.up.extend(contained.into_iter().map(again));
        }
        contained.iter().for_each(|inside| self.granted(*inside));
        self.arrive(id, state, contained, effects);
    }

    fn arrive(&mut self, id: ObjectId, state: Told, contained: Vec<ObjectId>, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.contained.extend(contained);
        slot.told = true;
        // The end of a stream, or an item: its consumer looks again.
        self.wake_stream(id.task(), effects);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match state {
            Told::Here(value) => self.settle(id, SlotState::Ready(value), effects),
            Told::Never(error) => self.settle(id, SlotState::Failed(error.into()), effects),
            Told::Away { bytes, nodes } => {
                slot.state = SlotState::Away { bytes, nodes, fetching: false };
                // Those who only watch may go on; whoever needs the value looks again and has it fetched.
                let waiting = slot.take_waiting();
                let needed = !waiting.tasks.is_empty();
                slot.waiting().tasks = waiting.tasks;
                effects.wake.extend(waiting.threads);
                if needed {
                    self.want(id, effects);
                }
            }
        }
    }

    /// A value that was to be brought is here; the head is told if others may fetch it here.
    pub(super) fn fetched(&mut self, id: ObjectId, value: Value, lend: Option<u64>, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&id) else { return effects.garbage.push(value) };
        // What came for one that was let go and is wanted again is not taken: what is inside is granted with the answer.
        if !matches!(slot.state, SlotState::Away { fetching: true, .. }) {
            return effects.garbage.push(value);
        }
        if let Some(bytes) = lend {
            self.lend(id, bytes);
            effects.up.push(ToHead::Copied { id });
        }
        self.settle(id, SlotState::Ready(value), effects);
    }

    /// It could not be brought from any of these nodes: the head says what now.
    pub(super) fn not_fetched(&mut self, id: ObjectId, from: &[PartyId], effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if !matches!(slot.state, SlotState::Away { fetching: true, .. }) {
            return;
        }
        slot.state = SlotState::Pending;
        slot.told = true;
        let tasks = std::mem::take(&mut slot.waiting().tasks);
        effects.up.extend(from.iter().map(|node| ToHead::NotThere { id, node: *node }));
        if from.is_empty() {
            effects.up.push(ToHead::Want { id });
        }
        // It may have to be made again on the cores of those that wait for it.
        for task in tasks {
            let Some(ready) = self.take_waiting(task) else { continue };
            let reason = "no node that should have it gave it".to_owned();
            let error = AttemptError::Argument { argument: id, reason };
            effects.up.push(ToHead::Failed { task: ready.task.id, attempt: ready.attempt, error });
            self.leave(&ready.task, effects);
        }
    }

    /// Nobody in the cluster needs a value.
    pub(super) fn free(&mut self, id: ObjectId, effects: &mut Effects) {
        if let Some(slot) = self.slots.get_mut(&id) {
            self.lent_bytes -= slot.lent.take().unwrap_or(0);
            self.clean_up(id, effects);
        }
    }

    /// A task of another party's is on its way: its result is held once here.
    pub(super) fn expect(&mut self, id: ObjectId) {
        let slot = self.slots.entry(id).or_insert_with(|| Slot::new(0));
        slot.refs += 1;
        slot.grants = 1;
        slot.told = true;
    }

    /// It is over: nothing runs any more, and whoever waits is told why.
    pub(super) fn close(&mut self, why: TaskError, effects: &mut Effects) {
        self.closed.get_or_insert(why);
        for (_, mut slot) in self.slots.drain() {
            effects.wake.extend(slot.take_waiting().threads);
            effects.left.extend(slot.making.take());
            if let SlotState::Ready(value) = slot.state {
                effects.garbage.push(value);
            }
        }
        for (_, stream) in self.streams.drain() {
            effects.wake.extend(stream.waiters());
        }
        for running in self.running.iter().flatten() {
            running.task.cancelled.store(true, Ordering::Relaxed);
        }
        effects.wake.extend(self.resuming.drain(..).map(|(_, waiter)| waiter));
        let waiting = std::mem::take(&mut self.waiting).into_values().map(|(ready, _)| ready);
        let queued = std::mem::take(&mut self.queue);
        effects.left.extend(std::mem::take(&mut self.leasing).into_values().map(|(task, _)| task));
        for ready in waiting.chain(queued) {
            effects.leases.extend(ready.lease.map(|lease| *lease));
            effects.left.push(ready.task);
        }
    }
}

/// What the head says of a value.
pub(super) enum Told {
    Here(Value),
    Away { bytes: Bytes, nodes: Vec<PartyId> },
    Never(TaskError),
}
