//! What is to be sent, in order for each party.

use std::collections::BTreeMap;

use super::super::ids::{ObjectId, PartyId};
use super::super::wire::FromHead;

/// Names in one `Free`; a frame has a limit.
const FREE_IDS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: Vec<(PartyId, FromHead)>,
    /// Values to be freed, gathered until something could come after them that they must not touch.
    frees: BTreeMap<PartyId, Vec<ObjectId>>,
}

impl Outbox {
    pub(super) fn send(&mut self, party: PartyId, message: FromHead) {
        self.messages.push((party, message));
    }

    pub(super) fn free(&mut self, party: PartyId, id: ObjectId) {
        self.frees.entry(party).or_default().push(id);
    }

    /// What was freed until now is freed before anything that is sent from now on.
    pub(super) fn flush(&mut self) {
        for (party, ids) in std::mem::take(&mut self.frees) {
            let free = |ids: &[ObjectId]| (party, FromHead::Free { ids: ids.to_vec() });
            self.messages.extend(ids.chunks(FREE_IDS_MAX).map(free));
        }
    }

    /// Nothing is sent to it any more.
    pub(super) fn forget(&mut self, party: PartyId) {
        self.messages.retain(|(to, _)| *to != party);
        self.frees.remove(&party);
    }

    pub(super) fn take(&mut self) -> Vec<(PartyId, FromHead)> {
        self.flush();
        std::mem::take(&mut self.messages)
    }
}
