//! Who holds what, and what is freed and forgotten when nobody does.

use super::super::ids::{ObjectId, PartyId};
use super::object::{Object, State, Waiters};
use super::{Directory, Step};

impl Directory {
    /// The party was told of it so many times more.
    pub(super) fn grant(&mut self, party: PartyId, id: ObjectId) {
        let (Some(holder), Some(object)) = (self.parties.get_mut(&party), self.objects.get_mut(&id)) else { return };
        let grants = holder.grants.entry(id).or_default();
        object.parties += u32::from(*grants == 0);
        *grants += 1;
    }

    pub(super) fn holds(&self, party: PartyId, id: ObjectId) -> bool {
        self.parties.get(&party).is_some_and(|holder| holder.grants.contains_key(&id))
    }

    /// The party gives back grants; more than it has makes no sense, but what it has is then given back.
    pub(super) fn release(&mut self, party: PartyId, id: ObjectId, grants: u64) -> bool {
        let Some(holder) = self.parties.get_mut(&party) else { return false };
        let Some(held) = holder.grants.get_mut(&id) else { return false };
        let makes_sense = grants <= *held;
        *held = held.saturating_sub(grants);
        if *held == 0 {
            holder.grants.remove(&id);
            self.party_let_go(id);
        }
        makes_sense
    }

    /// A party has no grants of it any more.
    pub(super) fn party_let_go(&mut self, id: ObjectId) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.parties = object.parties.saturating_sub(1);
            self.steps.push_back(Step::Check(id));
        }
    }

    /// A task that has not ended, or a value, refers to it.
    pub(super) fn hold(&mut self, id: ObjectId) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.refs += 1;
        }
    }

    /// It does not any more.
    pub(super) fn let_go(&mut self, id: ObjectId) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.refs = object.refs.saturating_sub(1);
            self.steps.push_back(Step::Check(id));
        }
    }

    /// What has ended would need it to run again.
    pub(super) fn keep_lineage(&mut self, id: ObjectId) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.lineage += 1;
        }
    }

    pub(super) fn drop_lineage(&mut self, id: ObjectId) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.lineage = object.lineage.saturating_sub(1);
            self.steps.push_back(Step::Check(id));
        }
    }

    /// The party waits for it; it is told once, however often it asks.
    pub(super) fn wait_for(&mut self, party: PartyId, id: ObjectId) {
        let (Some(waiter), Some(object)) = (self.parties.get_mut(&party), self.objects.get_mut(&id)) else { return };
        if waiter.wants.insert(id) {
            object.waiters.get_or_insert_default().parties.push(party);
        }
    }

    /// All who wait for it, who do so no longer.
    pub(super) fn take_waiters(&mut self, id: ObjectId) -> Waiters {
        let waiters = self.objects.get_mut(&id).and_then(|object| object.waiters.take()).unwrap_or_default();
        for party in &waiters.parties {
            if let Some(party) = self.parties.get_mut(party) {
                party.wants.remove(&id);
            }
        }
        *waiters
    }

    /// Frees it if nobody holds it, and forgets it if nothing needs it to be known.
    pub(super) fn check(&mut self, id: ObjectId) {
        let Some(object) = self.objects.get(&id) else { return };
        if object.is_held() {
            return;
        }
        if object.task.as_ref().is_some_and(|task| !task.has_ended()) {
            self.check_purpose(id);
            return;
        }
        if id.index > 0 && matches!(object.state, State::Pending) {
            // Its stream may run again for this alone.
            self.steps.push_back(Step::Check(id.task()));
        }
        let needs_lineage = object.lineage > 0;
        let frees = object.value().is_some_and(|value| !(needs_lineage && value.is_leaf()));
        if frees {
            self.free_value(id, State::Freed);
        }
        if !needs_lineage {
            self.forget(id);
        }
    }

    /// Nobody holds the result of this task, which has not ended.
    fn check_purpose(&mut self, id: ObjectId) {
        let Some(task) = self.task(id) else { return };
        if task.remakes > 0 {
            let awaited = task.more().map_or(&[][..], |more| &more.awaited);
            let held = |index: &u32| self.objects.get(&id.item(*index)).is_some_and(Object::is_held);
            if !awaited.iter().any(held) {
                self.abandon(id);
            }
        } else if task.orphan || task.stream {
            self.cancel_task(id);
        }
    }

    /// The value is not there any more: frees all copies and what it refers to.
    pub(super) fn free_value(&mut self, id: ObjectId, then: State) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        let State::Ready(value) = std::mem::replace(&mut object.state, then) else { return };
        self.counts.inline_bytes -= value.inline_bytes();
        for node in value.at() {
            self.free_at(*node, id);
        }
        for node in value.told.iter().filter(|node| !value.at().contains(node)) {
            self.free_at(*node, id);
        }
        for inside in value.contained {
            self.let_go(inside);
        }
    }

    /// This node need not have it.
    pub(super) fn free_at(&mut self, node: PartyId, id: ObjectId) {
        if let Some(party) = self.parties.get_mut(&node) {
            party.keeps.remove(&id);
            self.out.free(node, id);
        }
    }

    fn forget(&mut self, id: ObjectId) {
        let Some(object) = self.objects.remove(&id) else { return };
        if let Some(task) = object.task {
            self.forget_task(*task);
        }
        if id.index > 0 {
            self.drop_lineage(id.task());
        }
    }
}
