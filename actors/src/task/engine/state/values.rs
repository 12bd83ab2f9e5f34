//! The values that a process knows: who holds them, who waits for them, when they go.

use super::*;

impl State {
    /// A value is here from now on, held once.
    pub(in crate::task::engine) fn put(&mut self, id: ObjectId, value: Value, effects: &mut Effects) {
        self.slots.entry(id).or_insert_with(|| Slot::new(0)).refs += 1;
        self.settle(id, SlotState::Ready(value), effects);
    }

    /// A value that stands here already is also told to the head, which says when it may go.
    pub(in crate::task::engine) fn lend(&mut self, id: ObjectId, bytes: u64) {
        if let Some(slot) = self.slots.get_mut(&id) {
            let before = slot.lent.replace(bytes);
            self.lent_bytes = self.lent_bytes - before.unwrap_or(0) + bytes;
        }
    }

    pub(in crate::task::engine) fn lent_bytes(&self) -> u64 {
        self.lent_bytes
    }

    /// Somebody here holds a value from now on, which may be unknown here yet.
    pub(in crate::task::engine) fn hold(&mut self, id: ObjectId) {
        self.slots.entry(id).or_insert_with(|| Slot::new(0)).refs += 1;
    }

    /// The head tells of a value in another.
    pub(in crate::task::engine) fn granted(&mut self, id: ObjectId) {
        let slot = self.slots.entry(id).or_insert_with(|| Slot::new(0));
        slot.refs += 1;
        slot.grants += 1;
    }

    /// One reference less.
    pub(in crate::task::engine) fn let_go(&mut self, id: ObjectId, effects: &mut Effects) {
        let mut ids = vec![id];
        while let Some(id) = ids.pop() {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.refs = slot.refs.saturating_sub(1);
            if slot.refs > 0 {
                continue;
            }
            if slot.grants > 0 {
                effects.up.push(ToHead::Release { id, grants: std::mem::take(&mut slot.grants) });
            }
            if let Some(parent) = slot.making.as_ref().and_then(|task| task.parent.upgrade()) {
                effects.orphans.extend(parent.is_cancelled().then_some(id));
                // It may be the last of it, which holds references.
                effects.left.push(parent);
            }
            ids.extend(self.forget_if_free(id, effects));
        }
        // One after another: each may have held the next one, as many as a program makes.
        if !std::mem::replace(&mut self.cancels_orphans, true) {
            while let Some(id) = effects.orphans.pop() {
                self.cancel(id, effects);
            }
            self.cancels_orphans = false;
        }
    }

    /// Drops what nobody needs; gives the references that were inside it.
    pub(super) fn forget_if_free(&mut self, id: ObjectId, effects: &mut Effects) -> Vec<ObjectId> {
        if !self.slots.get(&id).is_some_and(Slot::is_free) {
            return Vec::new();
        }
        let Some(mut slot) = self.slots.remove(&id) else { return Vec::new() };
        effects.wake.extend(slot.take_waiting().threads);
        if let SlotState::Ready(value) = slot.state {
            effects.garbage.push(value);
        }
        slot.contained
    }

    pub(super) fn clean_up(&mut self, id: ObjectId, effects: &mut Effects) {
        let inside = self.forget_if_free(id, effects);
        inside.into_iter().for_each(|id| self.let_go(id, effects));
    }

    /// A value is ready, or will never be: whoever waits for it goes on.
    pub(in crate::task::engine) fn settle(&mut self, id: ObjectId, state: SlotState, effects: &mut Effects) {
        let mut settled = vec![(id, state)];
        let is_open = self.closed.is_none();
        while let Some((id, state)) = settled.pop() {
            // Nobody lets go of what comes after the end.
            let Some(slot) = self.slots.get_mut(&id).filter(|_| is_open) else {
                if let SlotState::Ready(value) = state {
                    effects.garbage.push(value);
                }
                continue;
            };
            let error = if let SlotState::Failed(error) = &state { Some(TaskError::clone(error)) } else { None };
            if let SlotState::Ready(value) = std::mem::replace(&mut slot.state, state) {
                effects.garbage.push(value);
            }
            let waiting = slot.take_waiting();
            effects.wake.extend(waiting.threads);
            for (task, attempt) in waiting.tasks {
                match &error {
                    None => self.argument_ready(task, attempt, effects),
                    Some(error) => settled.extend(self.argument_failed((task, attempt), id, error, effects)),
                }
            }
            self.clean_up(id, effects);
        }
    }

    /// The value, if it is settled; otherwise `waiter`, if there is one, is told when it is.
    pub(in crate::task::engine) fn look(
        &mut self,
        id: ObjectId,
        waiter: Option<&Arc<Waiter>>,
        effects: &mut Effects,
    ) -> Option<Result<Value, TaskError>> {
        let closed = self.closed.clone();
        let Some(slot) = self.slots.get_mut(&id) else {
            let gone = || TaskError::Lost { object: id, reason: "it is not known in this session".to_owned() };
            return Some(Err(closed.unwrap_or_else(gone)));
        };
        match &slot.state {
            SlotState::Ready(value) => return Some(Ok(value.clone())),
            SlotState::Failed(error) => return Some(Err(TaskError::clone(error))),
            SlotState::Pending | SlotState::Away { .. } => {}
        }
        if let Some(error) = closed {
            return Some(Err(error));
        }
        if let Some(waiter) = waiter {
            slot.waiting().threads.push(Arc::clone(waiter));
            self.want(id, effects);
        }
        None
    }

    /// Whether it is ready or failed, wherever it is.
    pub(in crate::task::engine) fn is_settled(&mut self, id: ObjectId) -> bool {
        self.slots.get(&id).is_none_or(|slot| slot.is_settled() || matches!(slot.state, SlotState::Away { .. }))
    }

    /// `waiter` is told when it is, here or elsewhere; `false` if it is already.
    pub(in crate::task::engine) fn watch(&mut self, id: ObjectId, waiter: &Arc<Waiter>, effects: &mut Effects) -> bool {
        if self.is_settled(id) || self.closed.is_some() {
            return false;
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.waiting().threads.push(Arc::clone(waiter));
            self.ask_head(id, effects);
        }
        true
    }

    pub(in crate::task::engine) fn forget_waiter(&mut self, id: ObjectId, waiter: &Arc<Waiter>) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.forget_thread(waiter);
        }
    }

    /// Somebody here needs a value that is not here.
    pub(super) fn want(&mut self, id: ObjectId, effects: &mut Effects) {
        self.ask_head(id, effects);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if let SlotState::Away { bytes, nodes, fetching } = &mut slot.state
            && !*fetching
        {
            *fetching = true;
            effects.fetch.push(Fetch { id, bytes: *bytes, nodes: nodes.clone() });
        }
    }

    pub(super) fn ask_head(&mut self, id: ObjectId, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&id).filter(|_| self.party.is_some()) else { return };
        if matches!(slot.state, SlotState::Pending) && !slot.told && slot.making.is_none() {
            slot.told = true;
            effects.up.push(ToHead::Want { id });
        }
    }
}
