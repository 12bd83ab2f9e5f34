//! The pure thinking of a process about tasks and stored values: what is there, who waits, what runs next.
//!
//! Nothing here waits, locks or sends. What has to be done outside comes back as [`Effects`], and is done after the lock
//! is given back (messages to the head while it is held, so that they keep their order). Values leave as garbage among
//! them: their drop may let go of references, and so come back here.
//!
//! Tasks start strictly in the order in which they became ready: one that needs many cores is not passed over for ever by
//! small ones. Who waits for other tasks holds no core meanwhile, and goes before new ones when it can go on.

mod cores;
mod told;
mod values;

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
    /// Tasks of cancelled ones that nobody holds, to be cancelled before the lock is given back.
    orphans: Vec<ObjectId>,
}

impl Effects {
    pub(super) fn is_empty(&self) -> bool {
        let Self { up, fetch, wake, lease, garbage, left, leases, notify, grow, unasked, orphans } = self;
        let nothing = up.is_empty() && fetch.is_empty() && wake.is_empty() && lease.is_empty();
        nothing
            && garbage.is_empty()
            && left.is_empty()
            && leases.is_empty()
            && *notify == 0
            && *grow == 0
            && !unasked
            && orphans.is_empty()
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
    /// Orphans are being cancelled.
    cancels_orphans: bool,
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
            cancels_orphans: false,
            party,
            lent_bytes: 0,
        }
    }

    pub(super) fn has_head(&self) -> bool {
        self.party.is_some()
    }

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
        // One that waits for others, or for its core, need not.
        let running = &self.running;
        let is =
            |worker: usize| running.get(worker).and_then(Option::as_ref).is_some_and(|running| running.task.id == id);
        self.resuming.retain(|(worker, waiter)| {
            let goes = is(*worker);
            effects.wake.extend(goes.then(|| Arc::clone(waiter)));
            !goes
        });
        for running in self.running.iter_mut().flatten().filter(|running| running.task.id == id) {
            effects.wake.extend(running.waiter.take());
        }
        // It may have been first among those that wait for cores.
        self.start_more(effects);
        self.wake_stream(id, effects);
    }
}

/// What the head says of a value.
pub(super) enum Told {
    Here(Value),
    Away { bytes: Bytes, nodes: Vec<PartyId> },
    Never(TaskError),
}

#[cfg(test)]
mod tests;
