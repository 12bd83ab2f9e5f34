//! What a node has, what of it is given to which attempt, and how many tasks wait in its own queue.
//!
//! Cores are held while an attempt computes and given back while it waits; all else is held until it ends. What is held
//! never adds up to more than the node has: an attempt that goes on after waiting first waits for cores again, before any
//! that came later.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::super::ids::ObjectId;
use super::class::Ask;
use super::depth::Depth;
use super::limits::DirectoryLimits;
use crate::cluster::ids::NodeName;
use crate::cluster::placement::{Amounts, Cores};
use crate::job::Resources;

/// What a node brings when it joins; its labels are with its resources.
#[derive(Debug, Clone)]
pub(crate) struct NodeOffer {
    pub(crate) name: NodeName,
    pub(crate) resources: Resources,
}

/// A node that takes tasks.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) total: Amounts,
    free: Amounts,
    labels: BTreeMap<String, String>,
    /// It takes no more.
    pub(super) draining: bool,
    leases: HashMap<ObjectId, Lease>,
    /// Attempts without cores yet, in the order in which they get some: first those that go on after waiting.
    resuming: VecDeque<ObjectId>,
    /// Then those in its own queue.
    ahead: VecDeque<ObjectId>,
    computing: usize,
    computing_max: usize,
    pub(super) depth: Depth,
}

/// What an attempt has of its node.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) attempt: u32,
    ask: Arc<Ask>,
    devices: Vec<u32>,
    pub(super) part: Part,
    /// Nobody waits for what it gives.
    pub(super) stopped: bool,
}

/// Which part of what it asks for an attempt has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing: it is in the node's own queue.
    Ahead,
    All,
    /// All but cores: it waits for values.
    Waits,
    /// The same, and it could go on.
    Resumes,
}

/// How a node could take a task now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Into its own queue.
    Ahead,
    /// It has all that the task asks for.
    Free,
}

impl Node {
    pub(super) fn new(offer: NodeOffer, limits: &DirectoryLimits) -> Self {
        let total = Amounts::of(&offer.resources);
        Self {
            name: offer.name,
            free: total.clone(),
            total,
            labels: offer.resources.labels,
            draining: false,
            leases: HashMap::new(),
            resuming: VecDeque::new(),
            ahead: VecDeque::new(),
            computing: 0,
            computing_max: limits.computing,
            depth: Depth::new(limits),
        }
    }

    /// Whether it could run such a task if nothing else ran.
    pub(super) fn could_run(&self, ask: &Ask) -> bool {
        let labelled = ask.labels.iter().all(|(name, value)| self.labels.get(name) == Some(value));
        !self.draining && labelled && self.total.workers(&ask.all, Cores::Held) > 0
    }

    /// How it could take this task now. Tasks that are there without cores come first, so that none overtakes them.
    pub(super) fn room(&self, task: ObjectId, ask: &Ask) -> Option<Room> {
        if !self.could_run(ask) || self.leases.contains_key(&task) {
            return None;
        }
        let none_waits = self.resuming.is_empty() && self.ahead.is_empty();
        let fits = self.computing < self.computing_max && self.free.workers(&ask.all, Cores::Held) > 0;
        if fits && none_waits {
            return Some(Room::Free);
        }
        (ask.only_cores && self.ahead.len() < self.depth.tasks()).then_some(Room::Ahead)
    }

    /// Gives it to the node, with the devices that it gets; `room` said how.
    pub(super) fn start(&mut self, task: ObjectId, attempt: u32, ask: &Arc<Ask>, room: Room) -> Vec<u32> {
        let taken = (room == Room::Free).then(|| self.free.take(&ask.all, Cores::Held)).flatten();
        let part = if taken.is_some() { Part::All } else { Part::Ahead };
        match part {
            Part::All => self.computing += 1,
            _ => self.ahead.push_back(task),
        }
        let devices = taken.unwrap_or_default();
        let lease = Lease { attempt, ask: Arc::clone(ask), devices: devices.clone(), part, stopped: false };
        self.leases.insert(task, lease);
        devices
    }

    pub(super) fn lease_mut(&mut self, task: ObjectId, attempt: u32) -> Option<&mut Lease> {
        self.leases.get_mut(&task).filter(|lease| lease.attempt == attempt)
    }

    /// The attempt has ended: gives back what it had.
    pub(super) fn end(&mut self, task: ObjectId, attempt: u32) -> Option<Lease> {
        self.lease_mut(task, attempt)?;
        let lease = self.leases.remove(&task)?;
        match lease.part {
            Part::All => {
                self.computing -= 1;
                self.free.give_back(&lease.ask.all, &lease.devices);
            }
            Part::Ahead => self.ahead.retain(|other| *other != task),
            Part::Waits => self.free.give_back(&lease.ask.rest, &lease.devices),
            Part::Resumes => {
                self.resuming.retain(|other| *other != task);
                self.free.give_back(&lease.ask.rest, &lease.devices);
            }
        }
        self.promote();
        Some(lease)
    }

    /// The attempt waits for values, or goes on. Whether that made sense.
    pub(super) fn waits(&mut self, task: ObjectId, attempt: u32, waits: bool) -> bool {
        if self.lease_mut(task, attempt).is_some_and(|lease| lease.part == Part::Ahead) && waits {
            self.begin_early(task);
        }
        let Self { leases, free, resuming, computing, .. } = self;
        let Some(lease) = leases.get_mut(&task).filter(|lease| lease.attempt == attempt) else { return false };
        lease.part = match (lease.part, waits) {
            (Part::All, true) => {
                free.give_back(&lease.ask.cores, &[]);
                *computing -= 1;
                Part::Waits
            }
            (Part::Waits, false) => {
                resuming.push_back(task);
                Part::Resumes
            }
            (Part::Resumes, true) => {
                resuming.retain(|other| *other != task);
                Part::Waits
            }
            _ => return false,
        };
        self.promote();
        true
    }

    /// The node has begun it before the head gave it cores, since its news of another's end is still on its way. It is
    /// counted as begun, and as waiting, with no cores to give back.
    fn begin_early(&mut self, task: ObjectId) {
        self.ahead.retain(|other| *other != task);
        if let Some(lease) = self.leases.get_mut(&task) {
            lease.part = Part::Resumes;
            self.resuming.push_back(task);
        }
    }

    /// Gives cores to those that wait for some, in order, as the node itself does.
    fn promote(&mut self) {
        let Self { leases, free, resuming, ahead, computing, .. } = self;
        for queue in [resuming, ahead] {
            while let Some(lease) = queue.front().and_then(|task| leases.get_mut(task)) {
                if *computing >= self.computing_max || free.take(&lease.ask.cores, Cores::Held).is_none() {
                    return;
                }
                lease.part = Part::All;
                *computing += 1;
                queue.pop_front();
            }
        }
    }

    /// Whether what it has given will be given back without another task being placed: something computes there, or could.
    pub(super) fn is_moving(&self) -> bool {
        self.computing > 0 || !self.resuming.is_empty() || !self.ahead.is_empty()
    }

    pub(super) fn ahead(&self) -> usize {
        self.ahead.len()
    }

    /// The share of its cores that is free, in thousandths.
    pub(super) fn free_share(&self) -> i64 {
        self.free.cpu_milli.saturating_mul(1000) / self.total.cpu_milli.max(1)
    }

    pub(super) fn free(&self) -> &Amounts {
        &self.free
    }

    pub(super) fn has_gpus(&self) -> bool {
        !self.total.gpu_milli.is_empty()
    }

    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// All its leases, by task.
    pub(super) fn leases(&self) -> Vec<(ObjectId, &Lease)> {
        let mut leases: Vec<_> = self.leases.iter().map(|(task, lease)| (*task, lease)).collect();
        leases.sort_by_key(|(task, _)| *task);
        leases
    }
}

#[cfg(test)]
impl Node {
    /// What the leases hold and what is free add up to what there is; nothing is below zero.
    pub(super) fn check_sums(&self) {
        let mut sum = self.free.clone();
        assert!(sum.cpu_milli >= 0, "{self:?}");
        for lease in self.leases.values() {
            match lease.part {
                Part::All => sum.give_back(&lease.ask.all, &lease.devices),
                Part::Waits | Part::Resumes => sum.give_back(&lease.ask.rest, &lease.devices),
                Part::Ahead => {}
            }
        }
        assert_eq!(sum, self.total, "{self:?}");
        let computing = self.leases.values().filter(|lease| lease.part == Part::All).count();
        assert_eq!(self.computing, computing);
    }
}
