//! The state of a process without a head against chance: tasks, workers, waits, streams, losses and cancels in any order,
//! from a seed. What must hold is looked at after each step.

mod headed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::streams::{NextItem, Room};
use super::*;
use crate::job::Resources;
use crate::task::call::{Call, Needs, TaskEntry};

static ENTRY: TaskEntry =
    TaskEntry { name: "test/task", place: "here:1", run: |_| Call::result(Ok::<_, String>(0u64)) };
const CAPACITY: i64 = 2_000;
const WORKERS_MAX: usize = 12;

/// What a worker's thread is at.
enum Worker {
    Starting,
    /// About to look for a task.
    Looks,
    /// Looks at the queue without the lock.
    Spins,
    Sleeps {
        woken: bool,
    },
    Runs,
    /// For a value or for room; then it goes on.
    Waits(Arc<Waiter>),
    /// For a core.
    Resumes(Arc<Waiter>),
    Gone,
}

struct World {
    rng: StdRng,
    state: State,
    workers: Vec<Worker>,
    /// Each entry is a reference that the program holds.
    held: Vec<ObjectId>,
    /// Streams that it takes.
    consumed: Vec<ObjectId>,
    leases: Vec<Ready>,
    next: u64,
    /// What each task needs to have ended: its arguments, and what it waited for.
    needs: BTreeMap<ObjectId, BTreeSet<ObjectId>>,
    starts: BTreeMap<ObjectId, u32>,
    attempts: BTreeMap<ObjectId, u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            state: State::new(CAPACITY, WORKERS_MAX, None),
            workers: Vec::new(),
            held: Vec::new(),
            consumed: Vec::new(),
            leases: Vec::new(),
            next: 1,
            needs: BTreeMap::new(),
            starts: BTreeMap::new(),
            attempts: BTreeMap::new(),
        }
    }

    fn with<R>(&mut self, change: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let result = change(&mut self.state, &mut effects);
        self.apply(effects);
        result
    }

    fn apply(&mut self, effects: Effects) {
        assert!(effects.up.is_empty() && effects.fetch.is_empty(), "there is no head");
        effects.wake.iter().for_each(|waiter| waiter.tell());
        self.leases.extend(effects.lease);
        self.workers.extend((0..effects.grow).map(|_| Worker::Starting));
        let sleeping = self.workers.iter_mut().filter_map(|worker| match worker {
            Worker::Sleeps { woken } if !*woken => Some(woken),
            _ => None,
        });
        sleeping.take(effects.notify).for_each(|woken| *woken = true);
    }

    fn id(&mut self) -> ObjectId {
        self.next += 1;
        ObjectId::new(PartyId(0), self.next)
    }

    fn any_held(&mut self) -> Option<ObjectId> {
        (!self.held.is_empty()).then(|| self.held[self.rng.random_range(0..self.held.len())])
    }

    fn submit(&mut self) {
        let args: Vec<_> = (0..self.rng.random_range(0..4)).filter_map(|_| self.any_held()).collect();
        let cpus = [0.0, 0.001, 0.25, 0.333, 0.5, 1.0, 1.5, 2.0][self.rng.random_range(0..8)];
        let gpus = if self.rng.random_bool(0.15) { 1.0 } else { 0.0 };
        let attempts = self.rng.random_range(1..4);
        let stream = self.rng.random_bool(0.2);
        let id = self.id();
        let task = Submitted {
            id,
            entry: &ENTRY,
            args: args.iter().map(|id| Arg::Ref(*id)).collect(),
            contained: Box::default(),
            needs: Arc::new(Needs::new(Resources { gpus, ..Resources::cpu(cpus) }, attempts)),
            cancelled: AtomicBool::new(false),
            stream,
            for_head: false,
            parent: std::sync::Weak::new(),
        };
        self.needs.insert(id, args.into_iter().map(ObjectId::task).collect());
        self.attempts.insert(id, attempts);
        self.with(|state, effects| {
            if stream {
                state.consume(id);
            }
            state.submit(Arc::new(task), effects);
            if stream {
                state.hold(id);
            }
        });
        if stream {
            self.consumed.push(id);
        }
        self.held.push(id);
    }

    /// Whether `from` cannot end before `to` has.
    fn needs(&self, from: ObjectId, to: ObjectId) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(id) = next.pop() {
            if id == to {
                return true;
            }
            if seen.insert(id) {
                next.extend(self.needs.get(&id).into_iter().flatten());
            }
        }
        false
    }

    /// Something happens to a worker's thread.
    fn work(&mut self, index: usize) {
        match &self.workers[index] {
            Worker::Starting => {
                self.workers[index] = Worker::Looks;
                self.with(|state, effects| state.started(effects));
            }
            Worker::Looks => self.look(index),
            Worker::Spins => {
                self.state.workers.spinning = false;
                self.look(index);
            }
            Worker::Sleeps { woken: true } => {
                self.state.workers.idle -= 1;
                self.look(index);
            }
            Worker::Sleeps { woken: false } => {
                if self.rng.random_bool(0.1) {
                    self.state.workers.idle -= 1;
                    self.look(index);
                    if matches!(self.workers[index], Worker::Sleeps { .. }) && self.state.workers.idle > 2 {
                        self.state.workers.idle -= 1;
                        self.workers[index] = Worker::Gone;
                        self.with(|state, effects| state.gone(effects));
                    }
                }
            }
            Worker::Waits(waiter) if waiter.is_over() || self.rng.random_bool(0.1) => {
                let waiter = Arc::new(Waiter::new(1));
                let goes_on = self.with(|state, effects| state.go_on(index, &waiter, effects));
                self.workers[index] = if goes_on { Worker::Runs } else { Worker::Resumes(waiter) };
            }
            Worker::Resumes(waiter) if waiter.is_over() => self.workers[index] = Worker::Runs,
            Worker::Runs => self.run(index),
            Worker::Waits(_) | Worker::Resumes(_) | Worker::Gone => {}
        }
    }

    fn work_any(&mut self) {
        if !self.workers.is_empty() {
            let index = self.rng.random_range(0..self.workers.len());
            self.work(index);
        }
    }

    fn look(&mut self, index: usize) {
        let start = self.with(|state, effects| state.next(index, effects));
        self.workers[index] = match start {
            Some(start) => {
                *self.starts.entry(start.task.id).or_default() += 1;
                assert!(self.starts[&start.task.id] <= self.attempts[&start.task.id], "attempts are bounded");
                assert_eq!(start.args.len(), start.task.args.len());
                Worker::Runs
            }
            None if !self.state.workers.spinning && self.rng.random_bool(0.5) => {
                self.state.workers.spinning = true;
                Worker::Spins
            }
            None => {
                self.state.workers.idle += 1;
                Worker::Sleeps { woken: false }
            }
        };
    }

    fn run(&mut self, index: usize) {
        let running = self.state.running[index].as_ref().expect("it runs");
        let (task, stream) = (running.task.id, running.task.stream);
        match self.rng.random_range(0..10) {
            0..3 => {
                let waiter = Arc::new(Waiter::new(1));
                let Some(on) = self.any_held().filter(|on| !self.needs(on.task(), task)) else { return };
                if self.with(|state, effects| state.look(on, Some(&waiter), effects).is_none())
                    && !self.state.is_full_of_waiters()
                {
                    self.needs.entry(task).or_default().insert(on.task());
                    self.wait(index, waiter);
                }
            }
            3..6 if stream => {
                let (waiter, item) = (Arc::new(Waiter::new(1)), self.rng.random_range(1..100));
                match self.state.room_in_stream(task, item, &waiter) {
                    Room::Free => self.with(|state, effects| state.item(task, item, Value::made(0u64), effects)),
                    Room::Wait if !self.state.is_full_of_waiters() => self.wait(index, waiter),
                    Room::Wait | Room::Known | Room::Unwanted => {}
                }
            }
            6 => {
                self.workers[index] = Worker::Looks;
                self.with(|state, effects| state.ended(index, Ended::Lost("its thread crashed".into()), effects));
            }
            7 => self.end(index, Ended::Failed(vec!["no such row".into()])),
            _ if self.rng.random_bool(0.1) => self.end(index, Ended::Never(TaskError::Limit("too deep".into()))),
            _ => self.end(index, Ended::Value(Value::made(3u32), None)),
        }
    }

    fn wait(&mut self, index: usize, waiter: Arc<Waiter>) {
        let waits = self.with(|state, effects| state.wait(index, &waiter, effects));
        if waits.is_ok() {
            self.workers[index] = Worker::Waits(waiter);
        }
    }

    /// As a worker does it: it looks for the next task before others are woken.
    fn end(&mut self, index: usize, ended: Ended) {
        let mut effects = Effects::default();
        let other = std::mem::replace(&mut self.state.workers.spinning, true);
        self.state.ended(index, ended, &mut effects);
        self.state.workers.spinning = other;
        self.apply(effects);
        self.look(index);
    }

    fn grant_lease(&mut self) {
        if !self.leases.is_empty() {
            let ready = self.leases.swap_remove(self.rng.random_range(0..self.leases.len()));
            self.with(|state, effects| state.leased(ready, effects));
        }
    }

    fn take_item(&mut self) {
        if self.consumed.is_empty() {
            return;
        }
        let place = self.rng.random_range(0..self.consumed.len());
        let (stream, waiter) = (self.consumed[place], Arc::new(Waiter::new(1)));
        match self.with(|state, effects| state.next_item(stream, &waiter, effects)) {
            NextItem::Item(item) => self.held.push(item),
            NextItem::Wait => {}
            NextItem::End | NextItem::Failed(_) => self.end_stream(place),
        }
    }

    fn end_stream(&mut self, place: usize) {
        let stream = self.consumed.swap_remove(place);
        self.with(|state, effects| state.cancel(stream, effects));
        self.with(|state, effects| state.end_consuming(stream, effects));
    }

    fn let_go(&mut self, place: usize) {
        let id = self.held.swap_remove(place);
        self.with(|state, effects| state.let_go(id, effects));
    }

    fn step(&mut self) {
        match self.rng.random_range(0..20) {
            0..3 => self.submit(),
            3 => {
                let id = self.id();
                self.with(|state, effects| state.put(id, Value::made(1u64), effects));
                self.held.push(id);
            }
            4 => {
                if let Some(id) = self.any_held() {
                    self.state.hold(id);
                    self.held.push(id);
                }
            }
            5 if self.rng.random_bool(0.3) => {
                if let Some(id) = self.any_held().filter(|id| id.index == 0) {
                    self.with(|state, effects| state.cancel(id, effects));
                }
            }
            6 if !self.held.is_empty() => {
                let place = self.rng.random_range(0..self.held.len());
                self.let_go(place);
            }
            7 => self.grant_lease(),
            8 => self.take_item(),
            9 if !self.consumed.is_empty() && self.rng.random_bool(0.2) => {
                let place = self.rng.random_range(0..self.consumed.len());
                self.end_stream(place);
            }
            _ => self.work_any(),
        }
    }

    /// What must hold between any two steps.
    fn check(&self) {
        let computing = self.state.running.iter().flatten().filter(|running| !running.waits);
        let given: i64 = computing.map(|running| running.task.needs.cpu_milli).sum();
        assert_eq!(self.state.cpu_free, CAPACITY - given);
        assert!(self.state.cpu_free >= 0, "more cores are given out than there are");
        if let Some((worker, _)) = self.state.resuming.front() {
            let running = self.state.running[*worker].as_ref().expect("it waits");
            assert!(running.task.needs.cpu_milli > self.state.cpu_free, "it could go on");
        } else if self.state.front_fits() {
            let is_coming = |worker: &Worker| {
                matches!(worker, Worker::Starting | Worker::Looks | Worker::Spins | Worker::Sleeps { woken: true })
            };
            let full = self.state.workers.all >= WORKERS_MAX;
            let asleep = self.workers.iter().any(|worker| matches!(worker, Worker::Sleeps { .. }));
            assert!(self.workers.iter().any(is_coming) || full && !asleep, "nobody comes for the next task");
        }
        let there = self.workers.iter().filter(|worker| !matches!(worker, Worker::Gone)).count();
        assert_eq!(there, self.state.workers.all);
        assert!(there <= WORKERS_MAX);
    }

    /// Nobody holds anything any more: all goes.
    fn end_all(&mut self) {
        while !self.consumed.is_empty() {
            self.end_stream(0);
        }
        while !self.held.is_empty() {
            self.let_go(0);
        }
        for _ in 0..100_000 {
            if self.state.counts() == (0, 0, 0, 0) && self.leases.is_empty() {
                break;
            }
            self.grant_lease();
            self.work_any();
            self.check();
        }
        assert_eq!(self.state.counts(), (0, 0, 0, 0));
        assert!(self.state.streams.is_empty() && self.state.leasing.is_empty() && self.state.resuming.is_empty());
        assert_eq!(self.state.cpu_free, CAPACITY);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn cores_are_exact_nobody_is_forgotten_and_all_is_freed(seed: u64) {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
            world.check();
        }
        world.end_all();
    }

    #[test]
    fn after_its_end_nothing_is_kept_and_all_who_wait_are_told(seed: u64) {
        let mut world = World::new(seed);
        (0..300).for_each(|_| world.step());
        let waits: Vec<_> = world.workers.iter().filter_map(|worker| match worker {
            Worker::Waits(waiter) | Worker::Resumes(waiter) => Some(Arc::clone(waiter)),
            _ => None,
        }).collect();
        world.with(|state, effects| state.close(TaskError::Ended("it was dropped".into()), effects));
        prop_assert!(waits.iter().all(|waiter| waiter.is_over()));
        for _ in 0..300 {
            let index = world.rng.random_range(0..world.workers.len().max(1));
            if let Some(Worker::Runs | Worker::Waits(_)) = world.workers.get(index) {
                world.work(index);
            }
            world.grant_lease();
        }
        prop_assert!(world.state.queue.is_empty() && world.state.waiting.is_empty() && world.state.leasing.is_empty());
        prop_assert!(world.state.slots.values().all(|slot| !matches!(slot.state, SlotState::Ready(_))));
    }
}
