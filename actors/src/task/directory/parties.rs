//! Parties that come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::error::TaskError;
use super::super::ids::{ObjectId, PartyId};
use super::attempts::{End, Spared};
use super::class::ClassId;
use super::node::{Node, NodeOffer, Part};
use super::{Directory, Party};
use crate::cluster::membership::State;
use crate::cluster::placement::{Cores, NodeView, Wish, place};
use crate::job::Workers;

/// A task that has failed on a node, or was there when it went.
struct Left {
    task: ObjectId,
    attempt: u32,
    begun: bool,
}

impl Directory {
    /// A driver, or a node with what it offers. One that is there already, or one too many, is counted as odd and not taken.
    pub(crate) fn join(&mut self, party: PartyId, node: Option<NodeOffer>) {
        if self.parties.contains_key(&party) || self.parties.len() >= self.limits.parties {
            self.counts.odd_messages += 1;
            return;
        }
        self.parties.insert(party, Party::default());
        let Some(offer) = node.filter(|_| party.is_node()) else { return };
        self.names.insert(party, offer.name.clone());
        self.nodes.insert(party, Node::new(offer, &self.limits));
        self.see_all_feasible();
        self.may_place = true;
        self.settle();
    }

    /// It takes no more tasks; those that it has end there.
    pub(crate) fn drain_node(&mut self, party: PartyId) {
        if let Some(node) = self.nodes.get_mut(&party) {
            node.draining = true;
            self.give_up_reservation(party);
            self.see_all_feasible();
            self.settle();
        }
    }

    /// Its connection is lost. What it held is released and tasks that it submitted are cancelled unless others hold their
    /// results; what ran there is tried again, and values that were only there are made again where they are needed.
    pub(crate) fn gone(&mut self, party: PartyId) {
        let Some(left) = self.parties.remove(&party) else { return };
        self.out.forget(party);
        let place = format!("{}, which is gone", self.name(party));
        let node = self.nodes.remove(&party);
        self.reserved.remove(&party).into_iter().for_each(|class| self.count_again(class));
        self.release_all(&left);
        self.orphan_all(party);
        self.settle();
        if let Some(node) = &node {
            self.lose_attempts(party, node);
        }
        self.lose_copies(party, left, &place);
        if node.is_some() {
            self.see_all_feasible();
        }
        self.forget_names();
        self.settle();
    }

    fn release_all(&mut self, left: &Party) {
        let mut held: Vec<ObjectId> = left.grants.keys().copied().collect();
        held.sort_unstable();
        held.into_iter().for_each(|id| self.party_let_go(id));
        let mut wanted: Vec<ObjectId> = left.wants.iter().copied().collect();
        wanted.sort_unstable();
        for id in wanted {
            if let Some(waiters) = self.objects.get_mut(&id).and_then(|object| object.waiters.as_mut()) {
                waiters.parties.retain(|waiting| self.parties.contains_key(waiting));
                self.steps.push_back(super::Step::Check(id));
            }
        }
    }

    /// Tasks that it submitted go when nobody holds their results.
    fn orphan_all(&mut self, party: PartyId) {
        let submitted = self
            .objects
            .iter()
            .filter(|(id, object)| id.party == party && object.task.as_ref().is_some_and(|task| !task.has_ended()));
        let mut submitted: Vec<ObjectId> = submitted.map(|(id, _)| *id).collect();
        submitted.sort_unstable();
        submitted.into_iter().for_each(|id| self.orphan(id));
    }

    fn lose_attempts(&mut self, party: PartyId, node: &Node) {
        let left = node.leases().into_iter().filter(|(_, lease)| !lease.stopped);
        let left: Vec<Left> =
            left.map(|(task, lease)| Left { task, attempt: lease.attempt, begun: lease.part != Part::Ahead }).collect();
        for Left { task, attempt, begun } in left {
            if !self.runs(party, task, attempt) {
                continue;
            }
            let reason = format!("node {} is gone", node.name);
            let end = if begun { End::Lost(reason) } else { End::Spared(Spared::Node(reason)) };
            self.try_again(task, party, end);
        }
    }

    fn lose_copies(&mut self, party: PartyId, left: Party, place: &str) {
        let mut kept: Vec<ObjectId> = left.keeps.into_iter().collect();
        kept.sort_unstable();
        kept.into_iter().for_each(|id| self.drop_copy(id, party, place));
    }

    /// Names of nodes that have gone are kept for errors, but not for ever.
    fn forget_names(&mut self) {
        let gone = self.names.keys().filter(|party| !self.nodes.contains_key(party)).copied().collect::<Vec<_>>();
        for party in gone.iter().take(gone.len().saturating_sub(self.limits.names)) {
            self.names.remove(party);
        }
    }

    /// Whether there is a node that takes tasks.
    fn any_node(&self) -> bool {
        self.nodes.values().any(|node| !node.draining)
    }

    pub(super) fn see_feasible(&mut self, id: ClassId) {
        if let Some(class) = self.classes.get_mut(id) {
            class.feasible = self.nodes.values().any(|node| node.could_run(&class.ask));
        }
    }

    /// Looks again which tasks can ever run; those in a queue that cannot fail.
    fn see_all_feasible(&mut self) {
        let any_node = self.any_node();
        let mut doomed = Vec::new();
        for (id, class) in self.classes.iter_mut() {
            class.feasible = self.nodes.values().any(|node| node.could_run(&class.ask));
            if any_node && !class.feasible {
                doomed.push((id, class.drain()));
            }
        }
        for (class, tasks) in doomed {
            let Some(error) = self.never(class) else { continue };
            for (seq, task) in tasks {
                if self.is_queued(task, seq) {
                    self.fail_task(task, &error);
                }
            }
        }
    }

    /// Why tasks of this class can never run, if there are nodes and none could. Without any they wait for the first.
    pub(super) fn never(&self, id: ClassId) -> Option<Arc<TaskError>> {
        let class = self.classes.get(id)?;
        if class.feasible || !self.any_node() {
            return None;
        }
        let view = |node: &Node| NodeView {
            node: node.name.clone(),
            state: State::Alive,
            total: node.total.clone(),
            free: node.total.clone(),
            labels: node.labels().clone(),
            workers: 0,
            workers_max: 1,
        };
        let views: Vec<NodeView> = self.nodes.values().filter(|node| !node.draining).map(view).collect();
        let wish = Wish {
            resources: class.resources.clone(),
            workers: Workers { min: 1, max: 1 },
            labels: class.resources.labels.clone(),
            input: BTreeMap::new(),
            cores: Cores::Held,
        };
        let reason = match place(&views, &wish) {
            Err(reason) => reason.to_string(),
            Ok(_) => format!("no node that takes tasks has {}", class.resources),
        };
        Some(Arc::new(TaskError::Infeasible { task: Arc::clone(&class.function), reason }))
    }
}
