//! What people ask: how much there is, and why a task has not ended.

use std::collections::BinaryHeap;
use std::sync::Arc;

use super::super::ids::{ObjectId, PartyId};
use super::Directory;
use super::object::State;
use super::task::Phase;

/// Arguments that an answer lists.
const LISTED_MAX: usize = 8;

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Names that are known: of values, of tasks to come, and of what may have to be made again.
    pub(crate) objects: usize,
    /// Tasks that wait for arguments.
    pub(crate) blocked: usize,
    /// Tasks that wait for a node.
    pub(crate) queued: usize,
    /// Attempts that nodes have.
    pub(crate) running: usize,
    /// Bytes of values and arguments that the head keeps.
    pub(crate) inline_bytes: usize,
    /// Messages that made no sense, or came too late to.
    pub(crate) odd_messages: u64,
}

/// Why a task has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// These of its arguments are not ready, the first few of them.
    Arguments(Vec<ObjectId>),
    /// There is no node.
    NoNode,
    /// It waits for a node to have this free.
    Resources(String),
    /// It is with this node.
    Runs(PartyId),
}

/// A task that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenTask {
    pub(crate) id: ObjectId,
    pub(crate) function: Arc<str>,
    /// What it does or waits for, with the names of nodes: the predicate of a sentence.
    pub(crate) state: String,
}

impl Why {
    /// What the task does or waits for: `runs on node n1`.
    fn state(&self) -> String {
        match self {
            Self::Arguments(ids) => {
                ids.iter().fold("waits for its arguments:".to_owned(), |all, id| format!("{all} {id}"))
            }
            Self::NoNode => "there is no node to run on; start one with `mobula node --join`".to_owned(),
            Self::Resources(wanted) => format!("waits for a node that has {wanted} free"),
            Self::Runs(node) => format!("runs on node number {}", node.0),
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let it = if *self == Self::NoNode { "" } else { "it " };
        write!(f, "{it}{}", self.state())
    }
}

impl Counts {
    pub(super) fn enter(&mut self, phase: Phase) {
        if let Some(count) = self.of(phase) {
            *count += 1;
        }
    }

    pub(super) fn leave(&mut self, phase: Phase) {
        if let Some(count) = self.of(phase) {
            *count -= 1;
        }
    }

    fn of(&mut self, phase: Phase) -> Option<&mut usize> {
        match phase {
            Phase::Blocked(_) => Some(&mut self.blocked),
            Phase::Queued(_) => Some(&mut self.queued),
            Phase::Running(_) => Some(&mut self.running),
            Phase::Ended => None,
        }
    }
}

impl Directory {
    pub(crate) fn counts(&self) -> Counts {
        Counts { objects: self.objects.len(), ..self.counts }
    }

    /// Why this task has not ended; nothing if it has.
    pub(crate) fn why(&self, id: ObjectId) -> Option<Why> {
        let task = self.task(id)?;
        let is_ready =
            |id: &ObjectId| self.objects.get(id).is_some_and(|object| matches!(object.state, State::Ready(_)));
        match task.phase {
            Phase::Ended => None,
            Phase::Running(node) => Some(Why::Runs(node)),
            Phase::Blocked(_) => {
                Some(Why::Arguments(task.arg_refs().filter(|id| !is_ready(id)).take(LISTED_MAX).collect()))
            }
            Phase::Queued(_) if self.nodes.is_empty() => Some(Why::NoNode),
            Phase::Queued(_) => Some(Why::Resources(self.classes.get(task.class)?.resources.to_string())),
        }
    }

    /// Tasks that have not ended: those that run, then those that wait for a node, then those that wait for arguments; of
    /// each the oldest first, and no more than `max` in all.
    pub(crate) fn open_tasks(&self, max: usize) -> Vec<OpenTask> {
        // The `max` smallest, whatever the number of tasks.
        let mut first = BinaryHeap::with_capacity(max + 1);
        for (id, task) in self.objects.iter().filter_map(|(id, object)| Some((*id, object.task.as_deref()?))) {
            let rank = match task.phase {
                Phase::Running(_) => 0,
                Phase::Queued(_) => 1,
                Phase::Blocked(_) => 2,
                Phase::Ended => continue,
            };
            first.push((rank, id));
            if first.len() > max {
                first.pop();
            }
        }
        first.into_sorted_vec().into_iter().filter_map(|(_, id)| self.open_task(id)).collect()
    }

    fn open_task(&self, id: ObjectId) -> Option<OpenTask> {
        let function = Arc::clone(&self.classes.get(self.task(id)?.class)?.function);
        let why = self.why(id)?;
        let name = if let Why::Runs(node) = &why { self.names.get(node) } else { None };
        let state = name.map_or_else(|| why.state(), |name| format!("runs on node {name}"));
        Some(OpenTask { id, function, state })
    }
}
