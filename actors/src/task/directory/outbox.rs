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
    /// What was freed until now is freed before anything that runs from now on, which may need or make the same again.
    pub(super) fn send(&mut self, party: PartyId, message: FromHead) {
        if matches!(message, FromHead::Run { .. }) {
            self.flush(party);
        }
        self.messages.push((party, message));
    }

    pub(super) fn free(&mut self, party: PartyId, id: ObjectId) {
        self.frees.entry(party).or_default().push(id);
    }

    fn flush(&mut self, party: PartyId) {
        let ids = self.frees.remove(&party).unwrap_or_default();
        let free = |ids: &[ObjectId]| (party, FromHead::Free { ids: ids.to_vec() });
        self.messages.extend(ids.chunks(FREE_IDS_MAX).map(free));
    }

    /// Nothing is sent to it any more.
    pub(super) fn forget(&mut self, party: PartyId) {
        self.messages.retain(|(to, _)| *to != party);
        self.frees.remove(&party);
    }

    pub(super) fn take(&mut self) -> Vec<(PartyId, FromHead)> {
        while let Some(party) = self.frees.keys().next().copied() {
            self.flush(party);
        }
        std::mem::take(&mut self.messages)
    }
}
