//! What the head says, and the end.

use super::*;

impl State {
    /// The head tells of a value.
    pub(in crate::task::engine) fn on_ready(
        &mut self,
        id: ObjectId,
        state: Told,
        contained: Vec<ObjectId>,
        effects: &mut Effects,
    ) {
        if !matches!(state, Told::Never(_)) {
            self.expect_item(id, effects);
        }
        let wanted =
            self.slots.get(&id).is_some_and(|slot| slot.refs > 0 && !matches!(slot.state, SlotState::Ready(_)));
        if !wanted {
            // Let go meanwhile, and with it what is inside.
            return effects.up.extend(contained.into_iter().map(|inside| ToHead::Release { id: inside, grants: 1 }));
        }
        contained.iter().for_each(|inside| self.granted(*inside));
        self.arrive(id, state, contained, effects);
    }

    /// The head tells of a value that a task needs here, which the task holds as long as it runs.
    pub(in crate::task::engine) fn on_argument(
        &mut self,
        id: ObjectId,
        state: Told,
        contained: Vec<ObjectId>,
        effects: &mut Effects,
    ) {
        let slot = self.slots.entry(id).or_insert_with(|| Slot::new(0));
        let known = match (&slot.state, &state) {
            (SlotState::Ready(_), _) => true,
            (SlotState::Away { fetching, .. }, Told::Away { .. }) => *fetching,
            _ => false,
        };
        if let Told::Here(_) = state {
            // The head says when it may go; the task that needs it is not here yet.
            slot.lent.get_or_insert(0);
        }
        if known {
            let again = |id| ToHead::Release { id, grants: 1 };
            return effects.up.extend(contained.into_iter().map(again));
        }
        contained.iter().for_each(|inside| self.granted(*inside));
        self.arrive(id, state, contained, effects);
    }

    pub(super) fn arrive(&mut self, id: ObjectId, state: Told, contained: Vec<ObjectId>, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.contained.extend(contained);
        slot.told = true;
        // The end of a stream, or an item: its consumer looks again.
        self.wake_stream(id.task(), effects);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match state {
            Told::Here(value) => self.settle(id, SlotState::Ready(value), effects),
            Told::Never(error) => self.settle(id, SlotState::Failed(error.into()), effects),
            Told::Away { bytes, nodes } => {
                slot.state = SlotState::Away { bytes, nodes, fetching: false };
                // Those who only watch may go on; whoever needs the value looks again and has it fetched.
                let waiting = slot.take_waiting();
                let needed = !waiting.tasks.is_empty();
                slot.waiting().tasks = waiting.tasks;
                effects.wake.extend(waiting.threads);
                if needed {
                    self.want(id, effects);
                }
            }
        }
    }

    /// A value that was to be brought is here; the head is told if others may fetch it here.
    pub(in crate::task::engine) fn fetched(
        &mut self,
        id: ObjectId,
        value: Value,
        lend: Option<u64>,
        effects: &mut Effects,
    ) {
        let Some(slot) = self.slots.get_mut(&id) else { return effects.garbage.push(value) };
        // What came for one that was let go and is wanted again is not taken: what is inside is granted with the answer.
        if !matches!(slot.state, SlotState::Away { fetching: true, .. }) {
            return effects.garbage.push(value);
        }
        if let Some(bytes) = lend {
            self.lend(id, bytes);
            effects.up.push(ToHead::Copied { id });
        }
        self.settle(id, SlotState::Ready(value), effects);
    }

    /// It could not be brought from any of these nodes: the head says what now.
    pub(in crate::task::engine) fn not_fetched(&mut self, id: ObjectId, from: &[PartyId], effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if !matches!(slot.state, SlotState::Away { fetching: true, .. }) {
            return;
        }
        slot.state = SlotState::Pending;
        slot.told = true;
        let tasks = std::mem::take(&mut slot.waiting().tasks);
        effects.up.extend(from.iter().map(|node| ToHead::NotThere { id, node: *node }));
        if from.is_empty() {
            effects.up.push(ToHead::Want { id });
        }
        // It may have to be made again on the cores of those that wait for it.
        for task in tasks {
            let Some(ready) = self.take_waiting(task) else { continue };
            let reason = "no node that should have it gave it".to_owned();
            let error = AttemptError::Argument { argument: id, reason };
            effects.up.push(ToHead::Failed { task: ready.task.id, attempt: ready.attempt, error });
            self.leave(&ready.task, effects);
        }
    }

    /// Nobody in the cluster needs a value.
    pub(in crate::task::engine) fn free(&mut self, id: ObjectId, effects: &mut Effects) {
        if let Some(slot) = self.slots.get_mut(&id) {
            self.lent_bytes -= slot.lent.take().unwrap_or(0);
            self.clean_up(id, effects);
        }
    }

    /// A task of another party's is on its way: its result is held once here.
    pub(in crate::task::engine) fn expect(&mut self, id: ObjectId) {
        let slot = self.slots.entry(id).or_insert_with(|| Slot::new(0));
        slot.refs += 1;
        slot.grants = 1;
        slot.told = true;
    }

    /// It is over: nothing runs any more, and whoever waits is told why.
    pub(in crate::task::engine) fn close(&mut self, why: TaskError, effects: &mut Effects) {
        self.closed.get_or_insert(why);
        for (_, mut slot) in self.slots.drain() {
            effects.wake.extend(slot.take_waiting().threads);
            effects.left.extend(slot.making.take());
            if let SlotState::Ready(value) = slot.state {
                effects.garbage.push(value);
            }
        }
        for (_, stream) in self.streams.drain() {
            effects.wake.extend(stream.waiters());
        }
        for running in self.running.iter().flatten() {
            running.task.cancelled.store(true, Ordering::Relaxed);
        }
        effects.wake.extend(self.resuming.drain(..).map(|(_, waiter)| waiter));
        let waiting = std::mem::take(&mut self.waiting).into_values().map(|(ready, _)| ready);
        let queued = std::mem::take(&mut self.queue);
        effects.left.extend(std::mem::take(&mut self.leasing).into_values().map(|(task, _)| task));
        for ready in waiting.chain(queued) {
            effects.leases.extend(ready.lease.map(|lease| *lease));
            effects.left.push(ready.task);
        }
    }
}
