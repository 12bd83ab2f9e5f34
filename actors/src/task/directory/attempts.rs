//! What nodes say of attempts.

use std::sync::Arc;

use super::super::error::TaskError;
use super::super::ids::{ObjectId, PartyId};
use super::super::wire::{AttemptError, FromHead, ValueFrame};
use super::making::Loss;
use super::object::{Content, Object, State, Value};
use super::task::{Phase, Task};
use super::{Directory, Step};

/// How an attempt ended without a result.
pub(super) enum End {
    /// The function failed.
    Failed(Vec<String>),
    /// It was lost with its worker.
    Lost(String),
    /// It was lost, maybe before it had begun.
    Spared(Spared),
}

/// Why an attempt does not count.
pub(super) enum Spared {
    Argument(ObjectId, String),
    Node(String),
}

impl Directory {
    pub(super) fn done(
        &mut self,
        from: PartyId,
        id: ObjectId,
        attempt: u32,
        frame: ValueFrame,
        contained: Vec<ObjectId>,
    ) -> bool {
        if !self.end_lease(from, id, attempt) {
            self.unwanted(from, id, &frame);
            return false;
        }
        match self.value(id, frame, &contained) {
            Err(error) => self.fail_task(id, &Arc::new(error)),
            Ok(None) => {
                let reason = format!("{} says that it made a value, and that no node has it", self.name(from));
                self.try_again(id, from, End::Lost(reason));
            }
            Ok(Some(value)) => self.succeed(from, id, value),
        }
        true
    }

    fn succeed(&mut self, from: PartyId, id: ObjectId, value: Value) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        let Some(task) = object.active() else { return };
        let (stream, items) = (task.stream, task.more().map_or(0, |more| more.items));
        let may_run_again = stream || !value.is_leaf();
        let awaited = if stream { std::mem::take(&mut task.more_mut().awaited) } else { Vec::new() };
        self.tell_submitter(id);
        // It holds what is inside before the task lets go of it.
        if self.objects.get(&id).is_some_and(|object| matches!(object.state, State::Pending)) {
            self.store(id, value);
        } else if let Content::Located { .. } = value.content {
            self.unwanted(from, id, &value.frame());
        }
        self.end_task(id, may_run_again);
        for index in awaited {
            self.still_awaited(id.item(index), items);
        }
        self.steps.push_back(Step::Check(id));
    }

    /// A stream has ended, and an item that was to be made again may not have been.
    fn still_awaited(&mut self, item: ObjectId, items: u32) {
        let Some(object) = self.objects.get(&item) else { return };
        if !matches!(object.state, State::Pending) {
            return;
        }
        if item.index > items {
            let reason = format!("it was to be made again, but this time its stream had only {items} items");
            self.fail_object(item, &Arc::new(TaskError::Lost { object: item, reason }));
        } else if object.is_held() {
            // It was lost after this attempt had passed it.
            self.make_again(item, &Loss::Freed);
        } else if let Some(object) = self.objects.get_mut(&item) {
            object.state = State::Freed;
            self.steps.push_back(Step::Check(item));
        }
    }

    pub(super) fn failed(&mut self, from: PartyId, id: ObjectId, attempt: u32, error: AttemptError) -> bool {
        if !self.end_lease(from, id, attempt) {
            return false;
        }
        match error {
            AttemptError::Never(error) => self.fail_task(id, &Arc::new(error)),
            AttemptError::Failed(causes) => self.try_again(id, from, End::Failed(causes)),
            AttemptError::WorkerLost(reason) => self.try_again(id, from, End::Lost(reason)),
            AttemptError::Argument { argument, reason } => {
                self.try_again(id, from, End::Spared(Spared::Argument(argument, reason)));
            }
        }
        true
    }

    /// Gives back what an attempt had. Whether it is the one that its task waits for.
    fn end_lease(&mut self, from: PartyId, id: ObjectId, attempt: u32) -> bool {
        let Some(node) = self.nodes.get_mut(&from) else { return false };
        let Some(lease) = node.end(id, attempt) else { return false };
        node.depth.ended();
        self.may_place = true;
        !lease.stopped && self.runs(from, id, attempt)
    }

    pub(super) fn runs(&mut self, from: PartyId, id: ObjectId, attempt: u32) -> bool {
        self.active(id).is_some_and(|task| task.phase == Phase::Running(from) && task.attempt == attempt)
    }

    /// A node has a value that nobody waits for.
    fn unwanted(&mut self, from: PartyId, id: ObjectId, value: &ValueFrame) {
        let is_there = self.objects.get(&id).is_some_and(|object| object.is_at(from));
        if matches!(value, ValueFrame::Located { .. }) && from.is_node() && !is_there {
            self.free_at(from, id);
        }
    }

    /// The attempt on this node has ended without a result: the task is tried again, after all others and elsewhere first.
    pub(super) fn try_again(&mut self, id: ObjectId, node: PartyId, end: End) {
        let spared_max = self.limits.spared;
        let Some(task) = self.active(id) else { return };
        let ends = if let End::Spared(_) = end {
            task.tries = task.tries.saturating_sub(1);
            task.spared += 1;
            task.spared > spared_max
        } else {
            task.tries >= task.attempts
        };
        if ends {
            let error = self.last(id, end);
            return self.fail_task(id, &Arc::new(error));
        }
        let more = task.more_mut();
        if !more.avoid.contains(&node) {
            more.avoid.push(node);
        }
        self.set_phase(id, Phase::Blocked(0));
        self.steps.push_back(Step::Prepare(id));
    }

    /// The error of a task that is not tried again.
    fn last(&mut self, id: ObjectId, end: End) -> TaskError {
        let Some(&mut Task { class, tries, spared, attempts, .. }) = self.active(id) else {
            return TaskError::Limit(format!("task {id} has no attempts left"));
        };
        let task = self.function(class);
        match end {
            End::Failed(causes) => TaskError::Failed { task, attempt: tries, attempts, causes },
            End::Lost(reason) => TaskError::WorkerLost { task, attempt: tries, attempts, reason },
            End::Spared(Spared::Node(reason)) => {
                let reason = format!("{reason}, the last of {spared} that went with it in their queue");
                TaskError::WorkerLost { task, attempt: tries, attempts, reason }
            }
            End::Spared(Spared::Argument(object, reason)) => {
                TaskError::Lost { object, reason }.of_argument(&task, object)
            }
        }
    }

    /// An item of a stream. One that the submitter was told of is not told again.
    pub(super) fn item(
        &mut self,
        from: PartyId,
        (id, attempt): (ObjectId, u32),
        index: u32,
        frame: ValueFrame,
        contained: Vec<ObjectId>,
    ) -> bool {
        let item = id.item(index);
        let most = self.limits.items;
        let next = |task: &Task| task.stream && task.more().map_or(0, |more| more.items).checked_add(1) == Some(index);
        if !self.runs(from, id, attempt) || !self.task(id).is_some_and(next) {
            self.unwanted(from, item, &frame);
            return false;
        }
        let limit = TaskError::Limit(format!("{id} has more than {most} items, the most that is allowed for a stream"));
        let value = if index > most { Err(limit) } else { self.value(item, frame.clone(), &contained) };
        let value = match value {
            Ok(Some(value)) => value,
            Ok(None) => return false,
            Err(error) => {
                self.fail_task(id, &Arc::new(error));
                return true;
            }
        };
        self.take_item(from, item, &frame, value);
        true
    }

    fn take_item(&mut self, from: PartyId, item: ObjectId, frame: &ValueFrame, value: Value) {
        let (id, submitter) = (item.task(), item.party);
        let Some(task) = self.active(id) else { return };
        let more = task.more_mut();
        more.items = item.index;
        let is_new = item.index > more.items_told;
        let awaited = self.objects.get(&item).is_some_and(|known| matches!(known.state, State::Pending));
        if awaited {
            return self.store(item, value);
        }
        if !is_new || !self.holds(submitter, id) {
            self.unwanted(from, item, frame);
            // Nobody will say that it was taken.
            return self.out.send(from, FromHead::Taken { task: id, index: item.index });
        }
        if let Err(error) = self.check_room() {
            return self.fail_task(id, &Arc::new(error));
        }
        if let Some(task) = self.active(id) {
            task.more_mut().items_told = item.index;
        }
        self.objects.insert(item, Object::default());
        self.keep_lineage(id);
        self.grant(submitter, item);
        self.wait_for(submitter, item);
        self.store(item, value);
    }

    pub(super) fn waits(&mut self, from: PartyId, id: ObjectId, attempt: u32, waits: bool) -> bool {
        let Some(node) = self.nodes.get_mut(&from) else { return false };
        self.may_place = true;
        node.waits(id, attempt, waits)
    }
}
