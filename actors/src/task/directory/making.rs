//! How a value gets ready, fails, and is made again.

use std::sync::Arc;

use super::super::error::TaskError;
use super::super::ids::{ObjectId, PartyId};
use super::super::wire::FromHead;
use super::class::Lane;
use super::object::{State, Value};
use super::task::{Phase, Task};
use super::{Directory, Step};

/// Why a value is not there any more.
pub(super) enum Loss<'a> {
    /// The last node that had it, and what became of that.
    With(&'a str),
    /// Nobody held it.
    Freed,
}

/// Text of the error for a name that nothing is known of.
pub(super) const UNKNOWN: &str =
    "nothing is known of it: all who held it have let it go; hold its reference for as long as it is needed";

impl Directory {
    /// Looks how the arguments are, waits for those that are not ready, and has those made that were freed.
    pub(super) fn prepare(&mut self, id: ObjectId) {
        let Some(task) = self.active(id) else { return };
        let (class, args) = (task.class, task.arg_refs().collect::<Vec<_>>());
        self.set_phase(id, Phase::Blocked(0));
        let mut missing = 0;
        for arg in args {
            if self.objects.get(&arg).is_some_and(|object| matches!(object.state, State::Freed)) {
                self.make_again(arg, &Loss::Freed);
            }
            let Some(object) = self.objects.get_mut(&arg) else {
                let cause = TaskError::Lost { object: arg, reason: UNKNOWN.to_owned() };
                return self.fail_by_argument(id, arg, &cause);
            };
            match &object.state {
                State::Ready(_) => {}
                State::Failed(error) => {
                    let error = Arc::clone(error);
                    return self.fail_by_argument(id, arg, &error);
                }
                State::Pending | State::Freed => {
                    *object.waiters.get_or_insert_default().tasks.entry(id).or_default() += 1;
                    missing += 1;
                    self.set_phase(id, Phase::Blocked(missing));
                }
            }
        }
        if missing == 0 {
            self.enqueue(id);
        } else if let Some(error) = self.never(class) {
            self.fail_task(id, &error);
        }
    }

    pub(super) fn fail_by_argument(&mut self, id: ObjectId, argument: ObjectId, cause: &TaskError) {
        let Some(class) = self.active(id).map(|task| task.class) else { return };
        let error = cause.of_argument(&self.function(class), argument);
        self.steps.push_back(Step::Fail(id, Arc::new(error)));
    }

    /// All arguments are there: puts it into the queue.
    fn enqueue(&mut self, id: ObjectId) {
        let Some(task) = self.active(id) else { return };
        let (class, lane) = (task.class, if task.avoid().is_empty() { Lane::First } else { Lane::Retries });
        if let Some(error) = self.never(class) {
            return self.fail_task(id, &error);
        }
        let seq = self.classes.push(class, lane, id);
        self.set_phase(id, Phase::Queued(seq));
        self.may_place = true;
    }

    /// The value is there now: tells all who wait for it.
    pub(super) fn store(&mut self, id: ObjectId, value: Value) {
        value.contained.iter().for_each(|inside| self.hold(*inside));
        self.counts.inline_bytes += value.inline_bytes();
        for node in value.at() {
            if let Some(node) = self.parties.get_mut(node) {
                node.keeps.insert(id);
            }
        }
        let Some(object) = self.objects.get_mut(&id) else { return };
        object.state = State::Ready(Box::new(value));
        let waiters = self.take_waiters(id);
        for party in waiters.parties {
            self.send_ready(party, id);
        }
        for (task, times) in waiters.tasks {
            self.wake(task, times);
        }
        self.steps.push_back(Step::Check(id));
    }

    /// Tells a party of a value, and with it of what that refers to.
    pub(super) fn send_ready(&mut self, party: PartyId, id: ObjectId) {
        let Some(value) = self.objects.get(&id).and_then(|object| object.value()) else { return };
        let (frame, contained) = (value.frame(), value.contained.clone());
        contained.iter().for_each(|inside| self.grant(party, *inside));
        self.out.send(party, FromHead::Ready { id, value: frame, contained });
    }

    /// So many of a task's arguments are ready that were not.
    fn wake(&mut self, id: ObjectId, times: u32) {
        let Some(&mut Task { phase: Phase::Blocked(missing), .. }) = self.active(id) else { return };
        match missing.saturating_sub(times) {
            0 => self.enqueue(id),
            left => self.set_phase(id, Phase::Blocked(left)),
        }
    }

    /// The value will never be there: tells all who wait for it.
    pub(super) fn fail_object(&mut self, id: ObjectId, error: &Arc<TaskError>) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        if !matches!(object.state, State::Pending | State::Freed) {
            return;
        }
        object.state = State::Failed(Arc::clone(error));
        let waiters = self.take_waiters(id);
        for party in waiters.parties {
            self.out.send(party, FromHead::NotReady { id, error: error.as_ref().clone() });
        }
        for task in waiters.tasks.into_keys() {
            self.fail_by_argument(task, id, error);
        }
        self.steps.push_back(Step::Check(id));
    }

    /// The task has not ended and will not: its attempt is stopped, its result is this error.
    pub(super) fn fail_task(&mut self, id: ObjectId, error: &Arc<TaskError>) {
        let Some(task) = self.active(id) else { return };
        let awaited = task.more().map(|more| more.awaited.clone()).unwrap_or_default();
        self.stop(id);
        if matches!(**error, TaskError::Cancelled { .. }) {
            self.orphan_children(id);
        }
        self.tell_submitter(id);
        self.end_task(id, false);
        self.fail_object(id, error);
        for index in awaited {
            self.fail_object(id.item(index), error);
        }
        self.steps.push_back(Step::Check(id));
    }

    pub(super) fn cancel_task(&mut self, id: ObjectId) {
        let Some(class) = self.active(id).map(|task| task.class) else { return };
        self.fail_task(id, &Arc::new(TaskError::Cancelled { task: self.function(class) }));
    }

    /// Tasks that it submitted go when nobody holds their results.
    fn orphan_children(&mut self, id: ObjectId) {
        let children = self.task(id).and_then(Task::more).map(|more| more.children.clone()).unwrap_or_default();
        for child in children {
            self.orphan(child);
        }
    }

    pub(super) fn orphan(&mut self, id: ObjectId) {
        if let Some(task) = self.active(id) {
            task.orphan = true;
            self.steps.push_back(Step::Check(id));
        }
    }

    /// The submitter hears how the task ends, once, if it still holds the result.
    pub(super) fn tell_submitter(&mut self, id: ObjectId) {
        let Some(task) = self.task_mut(id) else { return };
        if !std::mem::replace(&mut task.told, true) && self.holds(id.party, id) {
            self.wait_for(id.party, id);
        }
    }

    /// The task has ended: what it refers to is let go, and its frame kept only if it may have to run again.
    pub(super) fn end_task(&mut self, id: ObjectId, may_run_again: bool) {
        let Some(task) = self.active(id) else { return };
        let (before, class, refs) = (task.phase, task.class, task.refs());
        let kept = std::mem::replace(&mut task.keeps_lineage, may_run_again);
        self.set_phase(id, Phase::Ended);
        match before {
            Phase::Blocked(missing) if missing > 0 => refs.iter().for_each(|arg| self.unregister(id, *arg)),
            Phase::Queued(_) => self.left_queue(class),
            _ => {}
        }
        for referred in refs {
            match (kept, may_run_again) {
                (false, true) => self.keep_lineage(referred),
                (true, false) => self.drop_lineage(referred),
                _ => {}
            }
            self.let_go(referred);
        }
        if may_run_again {
            return;
        }
        if let Some(mut task) = self.objects.get_mut(&id).and_then(|object| object.task.take()) {
            task.keeps_lineage = false;
            self.forget_task(*task);
        }
    }

    fn unregister(&mut self, id: ObjectId, arg: ObjectId) {
        if let Some(waiters) = self.objects.get_mut(&arg).and_then(|object| object.waiters.as_mut()) {
            waiters.tasks.remove(&id);
        }
    }

    /// The frame of a task that has ended is not needed any more.
    pub(super) fn forget_task(&mut self, task: Task) {
        if task.keeps_lineage {
            task.refs().into_iter().for_each(|referred| self.drop_lineage(referred));
        }
        self.counts.inline_bytes -= task.inline_bytes();
        self.classes.leave(task.class);
    }

    /// No node has it any more: it is made again if somebody needs it.
    pub(super) fn lose(&mut self, id: ObjectId, place: &str) {
        self.free_value(id, State::Freed);
        if self.objects.get(&id).is_some_and(|object| object.is_held()) {
            self.make_again(id, &Loss::With(place));
        } else {
            self.steps.push_back(Step::Check(id));
        }
    }

    /// Somebody needs a value that was there.
    pub(super) fn make_again(&mut self, id: ObjectId, loss: &Loss<'_>) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.state = State::Pending;
        }
        if let Err(reason) = self.start_again(id, loss) {
            self.fail_object(id, &Arc::new(TaskError::Lost { object: id, reason }));
        }
    }

    /// A task runs again, and nobody needs what for any more. Its lineage stays as it was.
    pub(super) fn abandon(&mut self, id: ObjectId) {
        self.stop(id);
        let Some(task) = self.active(id) else { return };
        task.remakes -= 1;
        let awaited = task.more().is_some().then(|| std::mem::take(&mut task.more_mut().awaited));
        self.end_task(id, true);
        for id in awaited.unwrap_or_default().into_iter().map(|index| id.item(index)).chain([id]) {
            if let Some(object) = self.objects.get_mut(&id)
                && matches!(object.state, State::Pending)
            {
                object.state = State::Freed;
            }
            self.steps.push_back(Step::Check(id));
        }
    }

    /// The attempt that runs, if one does, is not wanted any more.
    fn stop(&mut self, id: ObjectId) {
        let Some(&mut Task { phase: Phase::Running(node), attempt, .. }) = self.active(id) else { return };
        if let Some(lease) = self.nodes.get_mut(&node).and_then(|node| node.lease_mut(id, attempt)) {
            lease.stopped = true;
            self.out.send(node, FromHead::Stop { task: id, attempt });
        }
    }

    fn start_again(&mut self, id: ObjectId, loss: &Loss<'_>) -> Result<(), String> {
        let (maker, most) = (id.task(), self.limits.remakes);
        let Some(task) = self.task_mut(maker) else { return Err(cannot_be_made(id, loss)) };
        if task.has_ended() && task.remakes >= most {
            return Err(made_too_often(loss, most));
        }
        if id.index > 0 {
            task.more_mut().awaited.push(id.index);
        }
        if !task.has_ended() {
            return Ok(());
        }
        task.remakes += 1;
        (task.tries, task.spared) = (0, 0);
        if let Some(more) = task.more().is_some().then(|| task.more_mut()) {
            more.avoid.clear();
        }
        let refs = task.refs();
        self.set_phase(maker, Phase::Blocked(0));
        refs.into_iter().for_each(|referred| self.hold(referred));
        self.steps.push_back(Step::Prepare(maker));
        Ok(())
    }
}

fn cannot_be_made(id: ObjectId, loss: &Loss<'_>) -> String {
    match loss {
        _ if id.index > 0 => "it was an item of a stream that has failed, so it cannot be made again".to_owned(),
        Loss::With(place) => format!("it was put on {place}; put it again, or make it by a task"),
        Loss::Freed => {
            "it was put, and nobody held it any more when it was needed once more; hold its reference for as \
                        long as results that were made from it, or make it by a task"
                .to_owned()
        }
    }
}

fn made_too_often(loss: &Loss<'_>, most: u32) -> String {
    let place = match loss {
        Loss::With(place) => format!("it was on {place}"),
        Loss::Freed => "it was freed and is needed once more".to_owned(),
    };
    format!("{place}, and its task has been run again {most} times, the most that is allowed; look at why nodes go")
}
