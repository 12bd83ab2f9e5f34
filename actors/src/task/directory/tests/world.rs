//! A cluster in one thread: drivers and nodes as simple as they can be, and wires between them and the directory. What
//! happens next is chance, from a seed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::nodes::{SimNode, kind};
use crate::job::Resources;
use crate::task::directory::*;
use crate::task::ids::DRIVERS_FROM;
use crate::task::wire::*;
use crate::units::Bytes;

pub(super) fn mix(a: u64, b: u64) -> u64 {
    (a ^ b.rotate_left(17)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ b
}

pub(super) fn blob(number: u64) -> Blob {
    Blob(number.to_le_bytes().to_vec().into())
}

pub(super) fn number(blob: &Blob) -> u64 {
    u64::from_le_bytes(blob.0[..8].try_into().expect("a number"))
}

#[derive(Default)]
pub(super) struct SimDriver {
    pub(super) held: BTreeMap<ObjectId, u64>,
    next: u64,
    /// What it asked for and has not heard of.
    pub(super) asked: HashSet<ObjectId>,
    pub(super) answers: HashMap<ObjectId, Result<u64, TaskError>>,
}

pub(super) struct World {
    pub(super) directory: Directory,
    pub(super) rng: StdRng,
    pub(super) nodes: BTreeMap<PartyId, SimNode>,
    pub(super) drivers: BTreeMap<PartyId, SimDriver>,
    to: BTreeMap<PartyId, VecDeque<FromHead>>,
    from: BTreeMap<PartyId, VecDeque<ToHead>>,
    pub(super) expected: HashMap<ObjectId, u64>,
    pub(super) puts: HashSet<ObjectId>,
    pub(super) cancelled: HashSet<ObjectId>,
    /// What is in a box.
    pub(super) inside: HashMap<ObjectId, ObjectId>,
    next_node: u64,
    ticks: u64,
    /// Some messages of nodes come twice.
    pub(super) twice: bool,
}

impl World {
    pub(super) fn new(seed: u64, limits: DirectoryLimits) -> Self {
        Self {
            directory: Directory::new(limits),
            rng: StdRng::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            drivers: BTreeMap::new(),
            to: BTreeMap::new(),
            from: BTreeMap::new(),
            expected: HashMap::new(),
            puts: HashSet::new(),
            cancelled: HashSet::new(),
            inside: HashMap::new(),
            next_node: 1,
            ticks: 0,
            twice: false,
        }
    }

    pub(super) fn add_node(&mut self, resources: Resources) -> PartyId {
        let party = PartyId(self.next_node);
        self.next_node += 1;
        let cpu_milli = (resources.cpus * 1000.0).round() as u64;
        let name = NodeName::new(&format!("n{}", party.0)).expect("a name");
        self.directory.join(party, Some(NodeOffer { name, resources }));
        self.nodes.insert(party, SimNode { cpu_milli, ..SimNode::default() });
        self.wire(party);
        party
    }

    pub(super) fn add_driver(&mut self) -> PartyId {
        let party = PartyId(DRIVERS_FROM + self.next_node);
        self.next_node += 1;
        self.directory.join(party, None);
        self.drivers.insert(party, SimDriver::default());
        self.wire(party);
        party
    }

    fn wire(&mut self, party: PartyId) {
        self.to.insert(party, VecDeque::new());
        self.from.insert(party, VecDeque::new());
    }

    pub(super) fn lose(&mut self, party: PartyId) {
        self.nodes.remove(&party);
        self.drivers.remove(&party);
        self.to.remove(&party);
        // What was brought to a node by a driver that went before it said so is no business of the directory.
        for message in self.from.remove(&party).into_iter().flatten() {
            if let ToHead::Put { id, .. } = message {
                for node in self.nodes.values_mut() {
                    node.store.remove(&id);
                }
            }
        }
        self.directory.gone(party);
        self.carry();
    }

    pub(super) fn nodes(&self) -> Vec<PartyId> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn one<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.rng.random_range(0..of.len())])
    }

    pub(super) fn say(&mut self, party: PartyId, message: ToHead) {
        let twice = self.twice && party.is_node() && !matches!(message, ToHead::Release { .. });
        if twice && self.rng.random_bool(0.1) {
            self.from.get_mut(&party).expect("a party").push_back(message.clone());
        }
        self.from.get_mut(&party).expect("a party").push_back(message);
    }

    /// Brings what the directory says onto the wires.
    fn carry(&mut self) {
        let out: Vec<_> = self.directory.take_out().collect();
        for (party, message) in out {
            self.to.get_mut(&party).expect("messages go to parties that are there").push_back(message);
        }
        self.directory.check_sums();
    }

    /// Something happens, if anything can.
    pub(super) fn step(&mut self) -> bool {
        self.ticks += 1;
        self.directory.look(Duration::from_millis(self.ticks));
        let speaking = self.from.iter().filter(|(_, queue)| !queue.is_empty()).map(|(party, _)| (*party, 0));
        let hearing = self.to.iter().filter(|(_, queue)| !queue.is_empty()).map(|(party, _)| (*party, 1));
        let mut working = Vec::new();
        for (party, node) in &self.nodes {
            let going = node.attempts.iter().enumerate().filter(|(_, attempt)| node.can_go(attempt));
            working.extend(going.map(|(place, _)| (*party, place + 2)));
        }
        let choices: Vec<(PartyId, usize)> = speaking.chain(hearing).chain(working).collect();
        let Some((party, what)) = self.one(&choices) else { return false };
        match what {
            0 => {
                let message = self.from.get_mut(&party).and_then(VecDeque::pop_front).expect("it was there");
                self.directory.on(party, message);
                self.carry();
            }
            1 => {
                let message = self.to.get_mut(&party).and_then(VecDeque::pop_front).expect("it was there");
                if party.is_node() { self.node_hears(party, message) } else { self.driver_hears(party, message) }
            }
            attempt => self.work(party, attempt - 2),
        }
        true
    }

    pub(super) fn run_down(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 3_000_000, "it does not come to rest");
        }
    }

    // Drivers.

    pub(super) fn submit(
        &mut self,
        driver: PartyId,
        function: &str,
        args: &[ObjectId],
        resources: Resources,
    ) -> ObjectId {
        let seed = self.rng.random();
        let who = self.drivers.get_mut(&driver).expect("a driver");
        who.next += 1;
        let id = ObjectId::new(driver, who.next);
        who.held.insert(id, 1);
        who.asked.insert(id);
        let (kind, count) = kind(function);
        let inside = if kind == "box" { args.to_vec() } else { Vec::new() };
        let refs = if kind == "box" { &[] } else { args };
        let frame = frame(id, function, seed, refs, inside, resources);
        let mut expected = self.sum(seed, refs);
        match kind {
            "box" => {
                self.inside.insert(id, args[0]);
            }
            "unbox" => expected = mix(seed, self.expected[&self.inside[&args[0]]]),
            "nest" => expected = (0..count).fold(expected, |below, _| mix(seed, below)),
            "stream" => {
                for item in 1..=count {
                    self.expected.insert(id.item(item as u32), mix(seed, item));
                }
                expected = count;
            }
            _ => {}
        }
        self.expected.insert(id, expected);
        self.say(driver, ToHead::Submit(frame));
        id
    }

    /// What a sum gives: of an argument that is a box, what is known of it.
    fn sum(&self, seed: u64, args: &[ObjectId]) -> u64 {
        args.iter().fold(seed, |sum, arg| mix(sum, self.expected.get(arg).copied().unwrap_or(0)))
    }

    pub(super) fn put(&mut self, driver: PartyId, on: Option<PartyId>) -> ObjectId {
        let value = self.rng.random();
        let who = self.drivers.get_mut(&driver).expect("a driver");
        who.next += 1;
        let id = ObjectId::new(driver, who.next);
        who.held.insert(id, 1);
        who.answers.insert(id, Ok(value));
        let frame = match on {
            None => ValueFrame::Inline(blob(value)),
            Some(node) => {
                self.nodes.get_mut(&node).expect("a node").store.insert(id, value);
                ValueFrame::Located { bytes: Bytes::mib(1), nodes: vec![node] }
            }
        };
        self.expected.insert(id, value);
        self.puts.insert(id);
        self.say(driver, ToHead::Put { id, value: frame, contained: Vec::new() });
        id
    }

    pub(super) fn release(&mut self, driver: PartyId, id: ObjectId) {
        let who = self.drivers.get_mut(&driver).expect("a driver");
        if let Some(grants) = who.held.remove(&id) {
            who.asked.remove(&id);
            if self.expected.contains_key(&id.item(1)) {
                // A stream that nobody holds is cancelled.
                self.cancelled.insert(id.task());
            }
            self.say(driver, ToHead::Release { id, grants });
        }
    }

    pub(super) fn want(&mut self, driver: PartyId, id: ObjectId) {
        let who = self.drivers.get_mut(&driver).expect("a driver");
        who.answers.remove(&id);
        who.asked.insert(id);
        self.say(driver, ToHead::Want { id });
    }

    fn driver_hears(&mut self, party: PartyId, message: FromHead) {
        let who = self.drivers.get_mut(&party).expect("a driver");
        match message {
            FromHead::Ready { id, value, contained } => {
                if id.index > 0 && !who.held.contains_key(&id) && !who.answers.contains_key(&id) {
                    who.held.insert(id, 1);
                    self.say(party, ToHead::Taken { task: id.task(), index: id.index });
                }
                let who = self.drivers.get_mut(&party).expect("a driver");
                for inside in contained {
                    *who.held.entry(inside).or_default() += 1;
                }
                let found = match &value {
                    ValueFrame::Inline(blob) => Ok(number(blob)),
                    ValueFrame::Located { nodes, .. } => {
                        self.nodes.get(&nodes[0]).and_then(|node| node.store.get(&id)).copied().ok_or(nodes[0])
                    }
                };
                match found {
                    Ok(value) => {
                        assert_eq!(self.expected.get(&id), Some(&value), "{id}");
                        who.asked.remove(&id);
                        who.answers.insert(id, Ok(value));
                    }
                    Err(node) if who.held.contains_key(&id) => {
                        who.asked.insert(id);
                        self.say(party, ToHead::NotThere { id, node });
                    }
                    Err(_) => {}
                }
            }
            FromHead::NotReady { id, error } => {
                who.asked.remove(&id);
                who.answers.insert(id, Err(error));
            }
            other => panic!("not for drivers: {other:?}"),
        }
    }

    /// Nothing is left anywhere.
    pub(super) fn assert_empty(&self) {
        for (party, node) in &self.nodes {
            assert!(node.attempts.is_empty() && node.used_milli == 0, "attempts on {party:?}");
            assert!(node.store.is_empty(), "{party:?} keeps {:?}", node.store.keys().collect::<Vec<_>>());
        }
        self.directory.assert_empty();
    }
}

pub(super) fn frame(
    id: ObjectId,
    function: &str,
    seed: u64,
    refs: &[ObjectId],
    contained: Vec<ObjectId>,
    resources: Resources,
) -> TaskFrame {
    let mut args = vec![ArgFrame::Value(blob(seed))];
    args.extend(refs.iter().map(|id| ArgFrame::Ref(*id)));
    let (stream, attempts) = (function.starts_with("stream"), if function == "fail" { 2 } else { 1000 });
    let function: Arc<str> = function.into();
    TaskFrame { id, function, args, contained, stream, resources, attempts, parent: None }
}

impl Directory {
    /// What is given adds up with what is free to what there is, on each node and device.
    pub(super) fn check_sums(&self) {
        for node in self.nodes.values() {
            node.check_sums();
        }
        let mut counts = Counts::default();
        for object in self.objects.values() {
            if let Some(task) = &object.task {
                counts.enter(task.phase);
                counts.inline_bytes += task.inline_bytes();
            }
            counts.inline_bytes += object.value().map_or(0, object::Value::inline_bytes);
        }
        let found = Counts { odd_messages: self.counts.odd_messages, ..counts };
        assert_eq!(self.counts, found);
    }

    pub(super) fn assert_empty(&self) {
        assert!(self.objects.is_empty(), "{:#?}", self.objects);
        assert_eq!(self.counts(), Counts { odd_messages: self.counts.odd_messages, ..Counts::default() });
        assert_eq!(self.classes.len(), 0);
        assert!(self.reserved.is_empty() && self.steps.is_empty());
        for (party, left) in &self.parties {
            assert!(left.grants.is_empty() && left.wants.is_empty() && left.keeps.is_empty(), "{party:?}: {left:?}");
        }
        for node in self.nodes.values() {
            assert!(node.leases().is_empty() && node.free() == &node.total, "{node:?}");
        }
    }
}
