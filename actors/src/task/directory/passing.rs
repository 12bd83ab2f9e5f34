//! What keeps a big task from waiting for ever: after so many younger ones went where it would fit, were it free there, one
//! node is kept free for it.

use super::super::ids::PartyId;
use super::Directory;
use super::class::{ClassId, Lane};

impl Directory {
    /// A younger task went to this node; each of these, which were older and found no room, was passed over.
    pub(super) fn pass_over(&mut self, waiting: &[ClassId], node: PartyId) {
        for id in waiting {
            let Some(class) = self.classes.get_mut(*id) else { continue };
            if !self.nodes.get(&node).is_some_and(|node| node.could_run(&class.ask)) {
                continue;
            }
            class.passed = class.passed.saturating_add(1);
            if class.passed >= self.limits.passed && !self.reserved.values().any(|reserver| reserver == id) {
                self.reserve(*id);
            }
        }
    }

    /// Keeps the node free for it that has most cores free.
    fn reserve(&mut self, id: ClassId) {
        let Some(class) = self.classes.get(id) else { return };
        let avoided = match (class.lane(Lane::First).front(), class.lane(Lane::Retries).front()) {
            (None, Some((_, task))) => self.avoided(*task, id),
            _ => Vec::new(),
        };
        let could = |party: &PartyId| !self.reserved.contains_key(party) && !avoided.contains(party);
        let nodes = self.nodes.iter().filter(|(party, node)| could(party) && node.could_run(&class.ask));
        let best = nodes.max_by_key(|(_, node)| (node.free().cpu_milli, node.free().memory)).map(|(party, _)| *party);
        if let Some(party) = best {
            self.reserved.insert(party, id);
        }
    }

    /// A task of this class was placed: others may go again where it had kept them out.
    pub(super) fn was_placed(&mut self, id: ClassId) {
        self.count_again(id);
        if self.reserved.values().any(|reserver| *reserver == id) {
            self.reserved.retain(|_, reserver| *reserver != id);
            self.may_place = true;
        }
    }

    pub(super) fn count_again(&mut self, id: ClassId) {
        if let Some(class) = self.classes.get_mut(id) {
            class.passed = 0;
        }
    }

    pub(super) fn give_up_reservation(&mut self, party: PartyId) {
        if let Some(class) = self.reserved.remove(&party) {
            self.count_again(class);
            self.may_place = true;
        }
    }

    /// Gives up nodes that are kept for nothing: whose class has no task left, and where all that is there waits for other
    /// tasks, which might be kept out, while what it holds is in the way.
    pub(super) fn give_up_in_vain(&mut self) {
        let in_vain = |(party, id): (&PartyId, &ClassId)| {
            let class = self.classes.get(*id);
            let empty =
                class.is_none_or(|class| class.lane(Lane::First).is_empty() && class.lane(Lane::Retries).is_empty());
            let stuck = self.nodes.get(party).is_none_or(|node| !node.is_moving()) && !self.fits(*party, *id);
            (empty || stuck).then_some(*party)
        };
        let parties: Vec<PartyId> = self.reserved.iter().filter_map(in_vain).collect();
        parties.into_iter().for_each(|party| self.give_up_reservation(party));
    }
}
