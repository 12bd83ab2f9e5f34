//! The order in which a job takes the leases of its first workers on several nodes: node by node, by their numbers.
//!
//! A job that holds leases on one node while it waits on another could wait for a job that does so the other way round, for
//! ever. So all jobs go the same way: the pools of a node that have the first worker of an operator are opened when those
//! of all nodes before it have their leases, and there get theirs all together or none (see `scheduler/leases.rs`). A job
//! that waits holds nothing on later nodes, so the one that is the farthest never waits for another that waits. Pools that
//! only make a job faster are opened when no first worker is missing; nobody waits for their leases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::placement::division::Leases;
use crate::block::NodeId;

/// A pool: the operator's index, and the node.
pub(crate) type PoolAt = (u32, NodeId);

/// Whether a pool may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    NotYet,
    /// With so many others there, itself among them, it gets the lease of its first worker; none: it asks for itself.
    Now(u32),
    /// It is not needed any more.
    Over,
}

/// Who has still to be opened or to get its lease.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    /// Pools with the first worker of an operator, by node.
    firsts: BTreeMap<NodeId, Stage>,
    /// The others.
    more: BTreeSet<PoolAt>,
}

#[derive(Debug, Default)]
struct Stage {
    /// Those without their lease.
    pools: BTreeSet<u32>,
    /// How many were told to open.
    called: Option<u32>,
}

impl Stages {
    pub(crate) fn new(pools: impl IntoIterator<Item = (PoolAt, Leases)>) -> Self {
        let mut stages = Self::default();
        for ((operator, node), leases) in pools {
            match leases {
                Leases::First => drop(stages.firsts.entry(node).or_default().pools.insert(operator)),
                Leases::More => drop(stages.more.insert((operator, node))),
                Leases::None => {}
            }
        }
        stages.call();
        stages
    }

    /// The nearest node that is not done: its pools are told how many they are.
    fn call(&mut self) {
        self.firsts.retain(|_, stage| !stage.pools.is_empty());
        if let Some(stage) = self.firsts.values_mut().next() {
            stage.called.get_or_insert(stage.pools.len() as u32);
        }
    }

    pub(crate) fn turn(&self, (operator, node): PoolAt) -> Turn {
        let stage = self.firsts.get(&node).filter(|stage| stage.pools.contains(&operator));
        match stage {
            Some(stage) => stage.called.map_or(Turn::NotYet, Turn::Now),
            None if !self.more.contains(&(operator, node)) => Turn::Over,
            None if self.firsts.is_empty() => Turn::Now(0),
            None => Turn::NotYet,
        }
    }

    /// The pool has its lease, or has ended without.
    pub(crate) fn done(&mut self, (operator, node): PoolAt) {
        self.more.remove(&(operator, node));
        if let Some(stage) = self.firsts.get_mut(&node) {
            stage.pools.remove(&operator);
        }
        self.call();
    }

    /// The pool is not needed any more. `false` if it was told to open: others there count on its ask.
    pub(crate) fn resign(&mut self, pool: PoolAt) -> bool {
        let not_yet = self.turn(pool) == Turn::NotYet;
        if not_yet {
            self.done(pool);
        }
        not_yet
    }
}

/// The stages of a run of a job, for the pools of all its operators. The last clone takes those along who wait.
#[derive(Clone)]
pub(crate) struct Gate {
    stages: Arc<watch::Sender<Stages>>,
}

impl Gate {
    pub(crate) fn new(stages: Stages) -> Self {
        Self { stages: Arc::new(watch::Sender::new(stages)) }
    }

    /// Waits until the pool may be opened; `None` if it is not needed any more.
    pub(crate) fn pass(&self, pool: PoolAt) -> impl Future<Output = Option<u32>> + Send + 'static {
        // Not a clone of the gate: nobody waits any more when the pools of the job are gone.
        let mut stages = self.stages.subscribe();
        async move {
            let stages = stages.wait_for(|stages| stages.turn(pool) != Turn::NotYet).await.ok()?;
            match stages.turn(pool) {
                Turn::Now(together) => Some(together),
                Turn::NotYet | Turn::Over => None,
            }
        }
    }

    /// See [`Stages::done`].
    pub(crate) fn done(&self, pool: PoolAt) {
        self.stages.send_modify(|stages| stages.done(pool));
    }

    /// See [`Stages::resign`].
    pub(crate) fn resign(&self, pool: PoolAt) -> bool {
        let mut resigned = false;
        self.stages.send_modify(|stages| resigned = stages.resign(pool));
        resigned
    }
}

#[cfg(test)]
mod tests;
