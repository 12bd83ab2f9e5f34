//! The directory: what the head knows of tasks and stored values, and what it decides.
//!
//! Pure: messages of parties and their comings and goings go in, messages to parties come out. The shell calls
//! [`Directory::look`] with the time before each batch of messages, [`Directory::on`] with each of them and then
//! [`Directory::take_out`] once, which places what can be placed. No call waits, none looks at all tasks or values but those
//! for a party that joins or goes.
//!
//! - `object` and `task` are the records, `holds` who holds what and what is freed, `making` how a value gets ready, fails
//!   and is made again. What follows from a change is done step by step from a list ([`Step`]), never by recursion: chains
//!   of tasks may be as long as they like.
//! - `class` are the queues, `node` and `depth` the account of each node, `schedule` the choice, `passing` what keeps a big
//!   task from waiting for ever.
//! - `submits`, `attempts`, `stores` take the messages, `parties` joins and losses, `why` answers people.
//!
//! Rules of the house:
//! - A value is needed while a party has grants of it, a task that has not ended or another value refers to it, or a party
//!   waits for it. When nobody needs it, it is freed everywhere. Its task's frame stays while a value that is needed may
//!   have to be made again from it; values that the frame refers to are freed all the same, and made again in their turn.
//! - A task that nobody holds the result of still runs, unless its submitter is gone, or the task that submitted it was
//!   cancelled, or it is a stream: those are cancelled when nobody holds their results.
//! - What a task asks for besides cores it keeps while it waits for others. A tree of tasks that each ask for a device needs
//!   as many devices as it is deep; cores are never a reason to stand still.

mod attempts;
mod class;
mod depth;
mod holds;
mod limits;
mod making;
mod node;
mod object;
mod outbox;
mod parties;
mod passing;
mod schedule;
mod stores;
mod submits;
mod task;
#[cfg(test)]
mod tests;
mod why;

pub(crate) use limits::DirectoryLimits;
pub(crate) use node::NodeOffer;
#[cfg(test)]
pub(crate) use why::Why;
pub(crate) use why::{Counts, OpenTask};

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use class::{ClassId, Classes};
use node::Node;
use object::Object;
use outbox::Outbox;
use task::{Phase, Task};

use super::error::TaskError;
use super::ids::{ObjectId, PartyId};
use super::wire::{FromHead, ToHead};
use crate::cluster::ids::NodeName;

/// See the module.
#[derive(Debug)]
pub(crate) struct Directory {
    limits: DirectoryLimits,
    parties: BTreeMap<PartyId, Party>,
    nodes: BTreeMap<PartyId, Node>,
    /// Names of nodes, also of some that have gone.
    names: BTreeMap<PartyId, NodeName>,
    objects: HashMap<ObjectId, Object>,
    classes: Classes,
    /// Nodes that are kept free for the first task of a class.
    reserved: BTreeMap<PartyId, ClassId>,
    /// What follows from what has happened, to be done before the next message.
    steps: VecDeque<Step>,
    /// Something changed that may let a task be placed.
    may_place: bool,
    out: Outbox,
    counts: Counts,
}

/// A driver or a node.
#[derive(Debug, Default)]
struct Party {
    /// What it holds, and how often it was told of it.
    grants: HashMap<ObjectId, u64>,
    /// What it waits for.
    wants: HashSet<ObjectId>,
    /// Values that are there.
    keeps: HashSet<ObjectId>,
}

/// Something that follows from a change. Each looks at how things are when its turn comes.
#[derive(Debug)]
enum Step {
    /// Somebody has let go of it.
    Check(ObjectId),
    /// This task may be ready to run.
    Prepare(ObjectId),
    /// This task fails.
    Fail(ObjectId, Arc<TaskError>),
}

impl Directory {
    /// Knows nobody yet.
    pub(crate) fn new(limits: DirectoryLimits) -> Self {
        Self {
            limits,
            parties: BTreeMap::new(),
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            objects: HashMap::new(),
            classes: Classes::default(),
            reserved: BTreeMap::new(),
            steps: VecDeque::new(),
            may_place: false,
            out: Outbox::default(),
            counts: Counts::default(),
        }
    }

    /// The time, from any start, before each batch of messages: the pace of the nodes is seen by it.
    pub(crate) fn look(&mut self, now: Duration) {
        for node in self.nodes.values_mut() {
            let before = node.depth.tasks();
            node.depth.look(now);
            self.may_place |= node.depth.tasks() > before;
        }
    }

    /// A party says something. What makes no sense is counted and dropped, or fails its own task.
    pub(crate) fn on(&mut self, from: PartyId, message: ToHead) {
        let makes_sense = self.parties.contains_key(&from) && self.take_in(from, message);
        self.counts.odd_messages += u64::from(!makes_sense);
        self.settle();
    }

    fn take_in(&mut self, from: PartyId, message: ToHead) -> bool {
        match message {
            ToHead::Submit(frame) => self.submit(from, frame),
            ToHead::Put { id, value, contained } => self.put(from, id, value, contained),
            ToHead::Want { id } => self.want(from, id),
            ToHead::Release { id, grants } => self.release(from, id, grants),
            ToHead::Cancel { task } => self.cancel(from, task),
            ToHead::Taken { task, index } => self.taken(from, task, index),
            ToHead::Done { task, attempt, value, contained } => self.done(from, task, attempt, value, contained),
            ToHead::Failed { task, attempt, error } => self.failed(from, task, attempt, error),
            ToHead::Item { task, attempt, index, value, contained } => {
                self.item(from, (task, attempt), index, value, contained)
            }
            ToHead::Waits { task, attempt, waits } => self.waits(from, task, attempt, waits),
            ToHead::Copied { id } => self.copied(from, id),
            ToHead::NotThere { id, node } => self.not_there(from, id, node),
        }
    }

    /// Places what can be placed, and gives what is to be sent, in order for each party. A party that has gone gets nothing.
    pub(crate) fn take_out(&mut self) -> impl Iterator<Item = (PartyId, FromHead)> + use<> {
        while std::mem::take(&mut self.may_place) {
            self.schedule();
            self.settle();
        }
        self.out.take().into_iter()
    }

    /// Does all that follows from what has happened.
    fn settle(&mut self) {
        while let Some(step) = self.steps.pop_front() {
            match step {
                Step::Check(id) => self.check(id),
                Step::Prepare(id) => self.prepare(id),
                Step::Fail(id, error) => self.fail_task(id, &error),
            }
        }
    }

    /// The task of this name, if it is known and may run again.
    fn task(&self, id: ObjectId) -> Option<&Task> {
        self.objects.get(&id)?.task.as_deref()
    }

    fn task_mut(&mut self, id: ObjectId) -> Option<&mut Task> {
        self.objects.get_mut(&id)?.task.as_deref_mut()
    }

    /// The task of this name, if it has not ended.
    fn active(&mut self, id: ObjectId) -> Option<&mut Task> {
        self.objects.get_mut(&id)?.active()
    }

    fn set_phase(&mut self, id: ObjectId, phase: Phase) {
        let Some(task) = self.objects.get_mut(&id).and_then(|object| object.task.as_deref_mut()) else { return };
        let before = std::mem::replace(&mut task.phase, phase);
        self.counts.leave(before);
        self.counts.enter(phase);
    }

    /// The function of a task, for errors.
    fn function(&self, class: ClassId) -> Arc<str> {
        self.classes.get(class).map_or_else(|| "?".into(), |class| Arc::clone(&class.function))
    }

    /// How people call a node.
    fn name(&self, party: PartyId) -> String {
        match self.names.get(&party) {
            Some(name) => format!("node {name}"),
            None if party == PartyId::default() => "the head".to_owned(),
            None => format!("node number {}", party.0),
        }
    }

    /// Nodes of these that are here, each once.
    fn keepers(&self, nodes: Vec<PartyId>) -> Vec<PartyId> {
        let here = |node: &PartyId| node.is_node() && self.parties.contains_key(node);
        nodes.into_iter().filter(here).collect::<BTreeSet<_>>().into_iter().collect()
    }
}
