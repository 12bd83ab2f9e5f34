//! What a submitter says of its tasks.

use std::sync::Arc;

use super::super::error::TaskError;
use super::super::ids::{ObjectId, PartyId};
use super::super::wire::{ArgFrame, FromHead, TaskFrame};
use super::class::ClassId;
use super::making::UNKNOWN;
use super::object::{Object, State};
use super::task::{Phase, Task};
use super::{Directory, Step};

/// Children of a task that are remembered before those that have ended are looked for.
const CHILDREN_PRUNE_MIN: usize = 64;

impl Directory {
    pub(super) fn submit(&mut self, from: PartyId, frame: TaskFrame) -> bool {
        let id = frame.id;
        if id.party != from || id.index != 0 || self.objects.contains_key(&id) {
            return false;
        }
        let class = match self.admit(&frame) {
            Ok(class) => class,
            Err(error) => {
                self.refuse(from, id, error);
                return true;
            }
        };
        self.objects.insert(id, Object::default());
        self.grant(from, id);
        let contained = self.known(&frame.contained, id);
        let parent = frame.parent;
        let task = Task::new(frame, class, contained);
        self.counts.inline_bytes += task.inline_bytes();
        let refs = task.refs();
        if let Some(object) = self.objects.get_mut(&id) {
            object.task = Some(Box::new(task));
        }
        self.counts.enter(Phase::Blocked(0));
        refs.into_iter().for_each(|referred| self.hold(referred));
        if let Some(parent) = parent {
            self.adopt(parent, id);
        }
        self.steps.push_back(Step::Prepare(id));
        true
    }

    /// The class of a task that may be known.
    fn admit(&mut self, frame: &TaskFrame) -> Result<ClassId, TaskError> {
        let (args, contained) = (frame.args.len(), frame.contained.len());
        let most = &self.limits;
        let limit = |text: String| Err(TaskError::Limit(format!("task {}: {text}", frame.function)));
        if args > most.args {
            return limit(format!("it has {args} arguments, at most {} are allowed; put them into one", most.args));
        }
        if contained > most.contained {
            let most = most.contained;
            return limit(format!("its arguments have {contained} references inside, at most {most} are allowed"));
        }
        self.check_room()?;
        // An argument that nobody knows would be one without a record; every other name of a task has one.
        for arg in &frame.args {
            if let ArgFrame::Ref(id) = arg
                && !self.objects.contains_key(id)
            {
                let cause = TaskError::Lost { object: *id, reason: UNKNOWN.to_owned() };
                return Err(cause.of_argument(&frame.function, *id));
            }
        }
        let never = |reason| TaskError::Infeasible { task: Arc::clone(&frame.function), reason };
        let (class, is_new) = self.classes.join(&frame.function, &frame.resources).map_err(never)?;
        let most = self.limits.classes;
        if is_new && self.classes.len() > most {
            self.classes.leave(class);
            return limit(format!(
                "{most} pairs of a function and what it asks for are known, the most that is allowed"
            ));
        }
        if is_new {
            self.see_feasible(class);
        }
        Ok(class)
    }

    /// Whether one more name may be known.
    pub(super) fn check_room(&self) -> Result<(), TaskError> {
        let most = self.limits.values;
        if self.objects.len() >= most {
            let text = format!("{most} tasks and values are known, the most that is allowed; wait for some to end");
            return Err(TaskError::Limit(text));
        }
        if self.counts.inline_bytes as u64 >= self.limits.inline.0 {
            let most = self.limits.inline;
            let text = format!("the head keeps {most} of small values, the most that is allowed; let go of some");
            return Err(TaskError::Limit(text));
        }
        Ok(())
    }

    /// Its sender holds the name, and hears that nothing comes of it.
    pub(super) fn refuse(&mut self, from: PartyId, id: ObjectId, error: TaskError) {
        self.out.send(from, FromHead::NotReady { id, error: error.clone() });
        if self.objects.len() < self.limits.values {
            self.objects.insert(id, Object { state: State::Failed(Arc::new(error)), ..Object::default() });
            self.grant(from, id);
        }
    }

    /// Those references that something is known of, but the one that they are in.
    pub(super) fn known(&self, ids: &[ObjectId], of: ObjectId) -> Vec<ObjectId> {
        ids.iter().copied().filter(|id| *id != of && self.objects.contains_key(id)).collect()
    }

    /// A running task has submitted another. One whose attempt is stopped leaves an orphan.
    fn adopt(&mut self, parent: ObjectId, child: ObjectId) {
        let runs = |task: &Task| matches!(task.phase, Phase::Running(_));
        if !self.task(parent).is_some_and(runs) {
            return self.orphan(child);
        }
        let prune = self
            .task(parent)
            .and_then(Task::more)
            .is_some_and(|more| more.children.len() >= more.children_prune.max(CHILDREN_PRUNE_MIN));
        let mut children = match self.active(parent) {
            Some(task) => std::mem::take(&mut task.more_mut().children),
            None => return,
        };
        if prune {
            children.retain(|child| self.task(*child).is_some_and(|task| !task.has_ended()));
        }
        children.push(child);
        if let Some(task) = self.active(parent) {
            let more = task.more_mut();
            if prune {
                more.children_prune = 2 * children.len();
            }
            more.children = children;
        }
    }

    pub(super) fn cancel(&mut self, from: PartyId, id: ObjectId) -> bool {
        let may = id.party == from || self.holds(from, id);
        let active = may && self.active(id).is_some();
        if active {
            self.cancel_task(id);
        }
        active
    }

    /// Items have been taken: the node that makes them may go on.
    pub(super) fn taken(&mut self, from: PartyId, id: ObjectId, index: u32) -> bool {
        let Some(task) = self.active(id).filter(|task| task.stream && id.party == from) else { return false };
        let more = task.more_mut();
        more.taken = more.taken.max(index);
        if let Phase::Running(node) = task.phase {
            self.out.send(node, FromHead::Taken { task: id, index });
        }
        true
    }
}
