//! The states of some processes and the directory of their head, with wires between them, against chance: what one of them
//! forgets, nobody else knows, so at the end something is left, or somebody waits for ever.

mod deeds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes as Data;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::super::streams::{NextItem, Room};
use super::super::*;
use super::ENTRY;
use crate::cluster::ids::NodeName;
use crate::job::Resources;
use crate::task::call::Needs;
use crate::task::directory::{Directory, DirectoryLimits, NodeOffer};
use crate::task::ids::DRIVERS_FROM;
use crate::task::wire::{ArgFrame, Blob, FromHead, RefFrame, TaskFrame};

const DRIVER: PartyId = PartyId(DRIVERS_FROM);
const HEAD: PartyId = PartyId(0);
const WORKERS: usize = 6;
const LARGE: Bytes = Bytes(100_000);

/// Code that holds references: the driver's program, or what a worker runs.
#[derive(Default)]
struct Code {
    held: Vec<ObjectId>,
    streams: Vec<ObjectId>,
    task: Option<(ObjectId, u32)>,
    items: u32,
    waits: Option<Arc<Waiter>>,
    resumes: Option<Arc<Waiter>>,
}

struct Process {
    state: State,
    codes: Vec<Code>,
    up: VecDeque<ToHead>,
    down: VecDeque<FromHead>,
    fetches: Vec<Fetch>,
    /// Attempts that run here, and the last that was said of whether they wait.
    runs: BTreeMap<(ObjectId, u32), bool>,
}

struct World {
    rng: StdRng,
    directory: Directory,
    processes: BTreeMap<PartyId, Process>,
    next: u64,
    ticks: u64,
    needs: BTreeMap<ObjectId, BTreeSet<ObjectId>>,
    /// Items of each stream that were taken.
    taken: BTreeMap<ObjectId, u32>,
    /// Whether nodes are lost, and fetches fail.
    rough: bool,
}

fn told(value: ValueFrame) -> Told {
    match value {
        ValueFrame::Inline(blob) => Told::Here(Value::stored(blob.0, None)),
        ValueFrame::Located { bytes, nodes } => Told::Away { bytes, nodes },
    }
}

fn count(items: u32) -> Data {
    Value::made(items).encoded(100).expect("it is small").data
}

impl World {
    fn new(seed: u64, rough: bool) -> Self {
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            directory: Directory::new(DirectoryLimits::default()),
            processes: BTreeMap::new(),
            next: 1,
            ticks: 0,
            needs: BTreeMap::new(),
            taken: BTreeMap::new(),
            rough,
        };
        [HEAD, PartyId(1), PartyId(2), DRIVER].into_iter().for_each(|party| world.join(party));
        world
    }

    fn join(&mut self, party: PartyId) {
        let cpu_milli = if party.is_node() { 2000 } else { 0 };
        let name = NodeName::new(&format!("n{}", party.0)).expect("a name");
        let offer = NodeOffer { name, resources: Resources::cpu(2.0) };
        self.directory.join(party, party.is_node().then_some(offer));
        let process = Process {
            state: State::new(cpu_milli, WORKERS, Some(party)),
            codes: (0..if party.is_node() { WORKERS } else { 1 }).map(|_| Code::default()).collect(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            fetches: Vec::new(),
            runs: BTreeMap::new(),
        };
        self.processes.insert(party, process);
        self.carry();
    }

    fn lose(&mut self, party: PartyId) {
        self.processes.remove(&party);
        self.directory.gone(party);
        self.carry();
    }

    fn carry(&mut self) {
        for (party, message) in self.directory.take_out() {
            if let Some(process) = self.processes.get_mut(&party) {
                process.down.push_back(message);
            }
        }
    }

    fn process(&mut self, party: PartyId) -> &mut Process {
        self.processes.get_mut(&party).expect("it is there")
    }

    fn with<R>(&mut self, party: PartyId, change: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let process = self.process(party);
        let result = change(&mut process.state, &mut effects);
        effects.wake.iter().for_each(|waiter| waiter.tell());
        process.fetches.extend(effects.fetch);
        for message in effects.up {
            match &message {
                ToHead::Done { task, attempt, .. } | ToHead::Failed { task, attempt, .. } => {
                    assert!(process.runs.remove(&(*task, *attempt)).is_some(), "an attempt ends once");
                }
                ToHead::Waits { task, attempt, waits } => {
                    let before = process.runs.insert((*task, *attempt), *waits);
                    assert_eq!(before, Some(!waits), "it waits and goes on in turn");
                }
                _ => {}
            }
            process.up.push_back(message);
        }
        assert!(process.state.cpu_free >= 0, "more cores are given out than there are");
        result
    }

    fn send_up(&mut self, party: PartyId) {
        let Some(message) = self.process(party).up.pop_front() else { return };
        self.ticks += 1;
        self.directory.look(Duration::from_micros(self.ticks * 10));
        self.directory.on(party, message);
        self.carry();
    }

    fn send_down(&mut self, party: PartyId) {
        let Some(message) = self.process(party).down.pop_front() else { return };
        match message {
            FromHead::Ready { id, value, contained } => {
                self.with(party, |state, effects| state.on_ready(id, told(value), contained, effects));
            }
            FromHead::NotReady { id, error } => {
                let is_known = self.rough || !matches!(error, TaskError::Lost { .. });
                assert!(is_known || !self.process(party).state.slots.contains_key(&id), "{error}");
                self.with(party, |state, effects| state.on_ready(id, Told::Never(error), Vec::new(), effects));
            }
            FromHead::Run { task, attempt, args, .. } => self.take_in(party, task, attempt, args),
            FromHead::Stop { task, .. } => self.with(party, |state, effects| state.cancel(task, effects)),
            FromHead::Free { ids } => {
                self.with(party, |state, effects| ids.into_iter().for_each(|id| state.free(id, effects)));
            }
            FromHead::Taken { task, index } => {
                self.with(party, |state, effects| state.on_taken(task, index, effects));
            }
        }
    }

    fn take_in(&mut self, party: PartyId, frame: TaskFrame, attempt: u32, args: Vec<RefFrame>) {
        let given = frame.args.iter().map(|arg| match arg {
            ArgFrame::Value(blob) => Arg::Value(Value::stored(blob.0.clone(), None)),
            ArgFrame::Ref(id) => Arg::Ref(*id),
        });
        let task = Submitted {
            id: frame.id,
            entry: &ENTRY,
            args: given.collect(),
            contained: frame.contained.clone().into(),
            needs: Arc::new(Needs::new(frame.resources, frame.attempts)),
            cancelled: AtomicBool::new(false),
            stream: frame.stream,
            for_head: true,
            parent: std::sync::Weak::new(),
        };
        self.process(party).runs.insert((frame.id, attempt), false);
        self.with(party, |state, effects| {
            frame.contained.iter().for_each(|id| state.granted(*id));
            for RefFrame { id, value, contained } in args {
                state.on_argument(id, told(value), contained, effects);
            }
            state.enter(Ready { task: Arc::new(task), attempt, lease: None }, effects);
        });
    }

    fn fetch(&mut self, party: PartyId) {
        let process = self.process(party);
        if process.fetches.is_empty() {
            return;
        }
        let Fetch { id, nodes, .. } = process.fetches.swap_remove(0);
        let fails = self.rough && self.rng.random_bool(0.3);
        let from = |node: &PartyId| self.processes.get(node).and_then(|process| process.state.data(id));
        let data = nodes.iter().find_map(from).filter(|_| !fails);
        // Without losses too: an attempt that was stopped need not get its arguments.
        let lend = party.is_node().then_some(LARGE.0);
        self.with(party, |state, effects| match data {
            Some(data) => state.fetched(id, Value::stored(data, None), lend, effects),
            None => state.not_fetched(id, &nodes, effects),
        });
    }

    fn id(&mut self, party: PartyId) -> ObjectId {
        self.next += 1;
        ObjectId::new(party, self.next)
    }

    fn some_held(&mut self, party: PartyId, code: usize, most: usize) -> Vec<ObjectId> {
        let held = self.processes[&party].codes[code].held.clone();
        let some = if held.is_empty() { 0 } else { self.rng.random_range(0..=most) };
        (0..some).map(|_| held[self.rng.random_range(0..held.len())]).collect()
    }

    /// The program does not wait, nor does a task for what needs it.
    fn wait(&mut self, party: PartyId, code: usize, on: ObjectId, waiter: Arc<Waiter>) {
        let Some((task, _)) = self.processes[&party].codes[code].task else { return };
        if self.needs(on.task(), task) || self.processes[&party].state.is_full_of_waiters() {
            return;
        }
        self.needs.entry(task).or_default().insert(on.task());
        self.begin_waiting(party, code, waiter);
    }

    fn begin_waiting(&mut self, party: PartyId, code: usize, waiter: Arc<Waiter>) {
        if self.with(party, |state, effects| state.wait(code, &waiter, effects)).is_ok() {
            self.process(party).codes[code].waits = Some(waiter);
        }
    }

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

    fn emit(&mut self, party: PartyId, code: usize) {
        let Code { task: Some((task, attempt)), items, .. } = self.processes[&party].codes[code] else { return };
        let (index, waiter) = (items + 1, Arc::new(Waiter::new(1)));
        match self.process(party).state.room_in_stream(task, index, &waiter) {
            Room::Free => {
                let large = self.rng.random_bool(0.5);
                let contained = self.some_held(party, code, 1);
                let frame = match large {
                    true => ValueFrame::Located { bytes: LARGE, nodes: vec![party] },
                    false => ValueFrame::Inline(Blob(count(index))),
                };
                let (item, value) = ((task, attempt, index), Value::stored(count(index), None));
                self.with(party, |state, effects| state.item_for_head(item, value, (frame, contained), effects));
                self.process(party).codes[code].items = index;
            }
            Room::Known => panic!("the head counts the items of each attempt"),
            Room::Wait if !self.processes[&party].state.is_full_of_waiters() => {
                self.begin_waiting(party, code, waiter);
            }
            Room::Wait | Room::Unwanted => {}
        }
    }

    fn end(&mut self, party: PartyId, code: usize, fails: bool) {
        let stream = self.processes[&party].state.running[code].as_ref().is_some_and(|running| running.task.stream);
        let items = self.processes[&party].codes[code].items;
        let ended = match self.rng.random_range(0..12) {
            0 if fails => Ended::Failed(vec!["no such row".into()]),
            1 if fails => Ended::Lost("its thread crashed".into()),
            2 if fails => Ended::Never(TaskError::Limit("too deep".into())),
            3..7 if !stream => {
                let frame = ValueFrame::Located { bytes: LARGE, nodes: vec![party] };
                Ended::Value(Value::stored(count(1), None), Some((frame, self.some_held(party, code, 2))))
            }
            _ => {
                let contained = if stream { Vec::new() } else { self.some_held(party, code, 2) };
                let frame = ValueFrame::Inline(Blob(count(items)));
                Ended::Value(Value::stored(count(items), None), Some((frame, contained)))
            }
        };
        // References that it held are dropped with its value, or before.
        let early = matches!(ended, Ended::Failed(_) | Ended::Lost(_) | Ended::Never(_));
        if early {
            self.drop_all(party, code);
        }
        self.with(party, |state, effects| state.ended(code, ended, effects));
        self.drop_all(party, code);
        self.process(party).codes[code] = Code::default();
    }

    fn drop_all(&mut self, party: PartyId, code: usize) {
        while !self.processes[&party].codes[code].streams.is_empty() {
            self.end_stream(party, code);
        }
        while !self.processes[&party].codes[code].held.is_empty() {
            self.let_go(party, code);
        }
    }

    /// A worker's thread does something; `ends` says that it makes no more work.
    fn work(&mut self, party: PartyId, code: usize, ends: bool) {
        let Code { task, waits, resumes, .. } = &self.processes[&party].codes[code];
        if let Some(waiter) = resumes {
            if waiter.is_over() {
                self.process(party).codes[code].resumes = None;
            }
            return;
        }
        if let Some(waiter) = waits {
            if waiter.is_over() {
                let waiter = Arc::new(Waiter::new(1));
                let goes_on = self.with(party, |state, effects| state.go_on(code, &waiter, effects));
                let code = &mut self.process(party).codes[code];
                code.waits = None;
                code.resumes = (!goes_on).then_some(waiter);
            }
            return;
        }
        if task.is_none() && party.is_node() {
            if let Some(start) = self.with(party, |state, effects| state.next(code, effects)) {
                let task = Some((start.task.id, start.attempt));
                self.process(party).codes[code] = Code { task, ..Code::default() };
            }
            return;
        }
        if ends {
            return if party.is_node() { self.end(party, code, false) } else { self.drop_all(party, code) };
        }
        let stream = party.is_node()
            && self.processes[&party].state.running[code].as_ref().is_some_and(|running| running.task.stream);
        match self.rng.random_range(0..14) {
            0 if self.next < 200 => self.submit(party, code),
            1 => self.put(party, code),
            2 => self.read(party, code),
            3 => self.let_go(party, code),
            4..7 => self.next_item(party, code),
            7 if self.rng.random_bool(0.1) => self.end_stream(party, code),
            7 => self.get(party, code),
            8 if self.rng.random_bool(0.1) => {
                if let Some(task) = self.some_held(party, code, 1).pop().map(ObjectId::task) {
                    self.with(party, |_, effects| effects.up.push(ToHead::Cancel { task }));
                }
            }
            8..12 if stream => self.emit(party, code),
            12 | 13 if party.is_node() && (!stream || self.rng.random_bool(0.2)) => self.end(party, code, true),
            _ => {}
        }
    }

    fn step(&mut self, ends: bool) {
        let parties: Vec<_> = self.processes.keys().copied().collect();
        let party = parties[self.rng.random_range(0..parties.len())];
        match self.rng.random_range(0..8) {
            0..2 => self.send_up(party),
            2..4 => self.send_down(party),
            4 => self.fetch(party),
            _ => {
                let code = self.rng.random_range(0..self.processes[&party].codes.len());
                self.work(party, code, ends);
            }
        }
    }

    fn is_empty(&self) -> bool {
        let counts = self.directory.counts();
        let quiet = |process: &Process| {
            process.up.is_empty() && process.down.is_empty() && process.state.counts() == (0, 0, 0, 0)
        };
        counts.objects == 0 && self.processes.values().all(quiet)
    }

    fn run(&mut self) {
        for n in 0..3_000 {
            self.step(false);
            if self.rough && n % 500 == 250 {
                let party = PartyId(self.rng.random_range(1..3) + n / 500 * 2);
                if self.processes.contains_key(&party) {
                    self.lose(party);
                    self.join(PartyId(party.0 + 2));
                }
            }
        }
        for _ in 0..200_000 {
            if self.is_empty() {
                break;
            }
            self.step(true);
        }
        assert!(self.is_empty(), "{:?} {}", self.directory.counts(), self.left());
        for process in self.processes.values() {
            assert!(process.state.streams.is_empty() && process.runs.is_empty() && process.fetches.is_empty());
            assert_eq!((process.state.lent_bytes(), process.state.resuming.len()), (0, 0));
        }
    }

    fn left(&self) -> String {
        let mut text = String::new();
        for (party, process) in &self.processes {
            text += &format!("\n{party:?}: {:?}, runs {:?}", process.state.counts(), process.runs);
            for (id, slot) in process.state.slots.iter().take(8) {
                let state = match &slot.state {
                    SlotState::Pending => "pending",
                    SlotState::Ready(_) => "ready",
                    SlotState::Away { .. } => "away",
                    SlotState::Failed(_) => "failed",
                };
                let (refs, grants, lent, told) = (slot.refs, slot.grants, slot.lent, slot.told);
                text += &format!("\n  {id} {state} refs {refs} grants {grants} lent {lent:?} told {told}");
            }
            for code in process.codes.iter().filter(|code| code.task.is_some()) {
                let waits = code.waits.as_ref().map(|waiter| waiter.is_over());
                text += &format!("\n  runs {:?} waits {waits:?} streams {:?}", code.task, code.streams);
            }
        }
        text
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_calm_cluster_loses_nothing_and_keeps_nothing(seed: u64) {
        World::new(seed, false).run();
    }

    #[test]
    fn a_cluster_whose_nodes_go_ends_and_keeps_nothing(seed: u64) {
        World::new(seed, true).run();
    }
}
