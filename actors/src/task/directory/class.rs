//! Classes: tasks of one function that ask for the same. They wait in one queue, so that no choice looks at each task.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use super::super::ids::ObjectId;
use crate::cluster::placement::Need;
use crate::job::Resources;
use crate::units::Bytes;

/// Entries of tasks that have gone which a queue keeps at least: so few are not worth looking for.
const GONE_MIN: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClassId(u32);

/// What tasks of a class need of a node.
#[derive(Debug)]
pub(super) struct Ask {
    /// All of it.
    pub(super) all: Need,
    /// Cores, which are given back while a task waits.
    pub(super) cores: Need,
    /// What is not given back then.
    pub(super) rest: Need,
    /// Only such tasks may wait in a node's own queue.
    pub(super) only_cores: bool,
    pub(super) wants_gpus: bool,
    pub(super) labels: BTreeMap<String, String>,
}

impl Ask {
    /// # Errors
    /// In words, if an amount makes no sense.
    pub(super) fn new(wanted: &Resources) -> Result<Self, String> {
        let all = Need::new(wanted)?;
        let cores = Need::new(&Resources::cpu(wanted.cpus))?;
        let rest = Need::new(&Resources { cpus: 0.0, ..wanted.clone() })?;
        let only_cores = wanted.gpus == 0.0 && wanted.memory == Bytes(0) && wanted.extras.is_empty();
        Ok(Self { all, cores, rest, only_cores, wants_gpus: wanted.gpus > 0.0, labels: wanted.labels.clone() })
    }
}

/// Tasks of one function that ask for the same.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) function: Arc<str>,
    pub(super) resources: Resources,
    pub(super) ask: Arc<Ask>,
    /// Whether a node that is here could run it, if it were free.
    pub(super) feasible: bool,
    /// Younger tasks that have gone where its first one would fit, since it was the first.
    pub(super) passed: u32,
    /// Tasks that are ready, by the number that they got when they came in. Some may have gone; their number tells.
    queue: VecDeque<(u64, ObjectId)>,
    /// The same, of those that failed on a node, which they keep away from.
    retries: VecDeque<(u64, ObjectId)>,
    /// Entries of both whose task has gone.
    gone: usize,
    users: usize,
}

/// Which queue of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    First,
    Retries,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    function: Arc<str>,
    cpus: u64,
    gpus: u64,
    memory: Bytes,
    extras: Vec<(String, u64)>,
    labels: BTreeMap<String, String>,
}

impl Key {
    fn new(function: &Arc<str>, wanted: &Resources) -> Self {
        Self {
            function: Arc::clone(function),
            cpus: wanted.cpus.to_bits(),
            gpus: wanted.gpus.to_bits(),
            memory: wanted.memory,
            extras: wanted.extras.iter().map(|(name, amount)| (name.clone(), amount.to_bits())).collect(),
            labels: wanted.labels.clone(),
        }
    }
}

/// All classes that a task has.
#[derive(Debug, Default)]
pub(super) struct Classes {
    by_key: HashMap<Key, ClassId>,
    by_id: BTreeMap<ClassId, Class>,
    /// Those with something in a queue.
    busy: BTreeSet<ClassId>,
    next_id: u32,
    next_seq: u64,
}

impl Classes {
    /// The class of a task, which is counted as one of its users; and whether it is new.
    ///
    /// # Errors
    /// In words, if what it asks for makes no sense.
    pub(super) fn join(&mut self, function: &Arc<str>, wanted: &Resources) -> Result<(ClassId, bool), String> {
        let key = Key::new(function, wanted);
        if let Some(id) = self.by_key.get(&key) {
            if let Some(class) = self.by_id.get_mut(id) {
                class.users += 1;
            }
            return Ok((*id, false));
        }
        let ask = Arc::new(Ask::new(wanted)?);
        let id = self.free_id();
        let (queue, retries) = (VecDeque::new(), VecDeque::new());
        let (function, resources) = (Arc::clone(function), wanted.clone());
        let class = Class { function, resources, ask, feasible: false, passed: 0, queue, retries, gone: 0, users: 1 };
        self.by_key.insert(key, id);
        self.by_id.insert(id, class);
        Ok((id, true))
    }

    fn free_id(&mut self) -> ClassId {
        while self.by_id.contains_key(&ClassId(self.next_id)) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = ClassId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    /// A task of it is forgotten.
    pub(super) fn leave(&mut self, id: ClassId) {
        let Some(class) = self.by_id.get_mut(&id) else { return };
        class.users -= 1;
        if class.users == 0 {
            self.by_key.remove(&Key::new(&class.function, &class.resources));
            self.by_id.remove(&id);
            self.busy.remove(&id);
        }
    }

    pub(super) fn get(&self, id: ClassId) -> Option<&Class> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ClassId) -> Option<&mut Class> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (ClassId, &mut Class)> {
        self.by_id.iter_mut().map(|(id, class)| (*id, class))
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Puts a task at the end of a queue, and says which number it got.
    pub(super) fn push(&mut self, id: ClassId, lane: Lane, task: ObjectId) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        if let Some(class) = self.by_id.get_mut(&id) {
            class.lane_mut(lane).push_back((seq, task));
            self.busy.insert(id);
        }
        seq
    }

    /// The oldest of each queue, to be taken by age.
    pub(super) fn heads(&mut self) -> BinaryHeap<Reverse<(u64, ClassId, Lane)>> {
        let Self { busy, by_id, .. } = self;
        let mut heads = BinaryHeap::new();
        busy.retain(|id| {
            let Some(class) = by_id.get(id) else { return false };
            let found = [Lane::First, Lane::Retries].into_iter().filter_map(|lane| class.head(*id, lane));
            heads.extend(found.map(Reverse));
            !(class.queue.is_empty() && class.retries.is_empty())
        });
        heads
    }
}

impl Class {
    pub(super) fn head(&self, id: ClassId, lane: Lane) -> Option<(u64, ClassId, Lane)> {
        self.lane(lane).front().map(|(seq, _)| (*seq, id, lane))
    }

    pub(super) fn lane(&self, lane: Lane) -> &VecDeque<(u64, ObjectId)> {
        match lane {
            Lane::First => &self.queue,
            Lane::Retries => &self.retries,
        }
    }

    pub(super) fn lane_mut(&mut self, lane: Lane) -> &mut VecDeque<(u64, ObjectId)> {
        match lane {
            Lane::First => &mut self.queue,
            Lane::Retries => &mut self.retries,
        }
    }

    /// A task that was in a queue has gone. Whether so many have that they are worth looking for.
    pub(super) fn one_gone(&mut self) -> bool {
        self.gone += 1;
        self.gone > GONE_MIN && self.gone > (self.queue.len() + self.retries.len()) / 2
    }

    /// Keeps only these entries.
    pub(super) fn retain(&mut self, is_there: impl Fn(u64, ObjectId) -> bool) {
        self.queue.retain(|(seq, task)| is_there(*seq, *task));
        self.retries.retain(|(seq, task)| is_there(*seq, *task));
        self.gone = 0;
    }

    /// Empties its queues.
    pub(super) fn drain(&mut self) -> Vec<(u64, ObjectId)> {
        self.gone = 0;
        self.queue.drain(..).chain(self.retries.drain(..)).collect()
    }
}
