//! The scheduler actor: grants leases.
//!
//! Protocol: `Check` is answered at once. `Ask` is answered when its turn comes, through the callback it brings, so
//! that nobody's `handle` waits. `GiveBack` comes from the drop of a lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};

use super::leases::{Grant, Leases};
use crate::job::Resources;

/// What the scheduler is told.
pub(crate) enum SchedulerMessage {
    Check(Resources, RpcReplyPort<Result<(), String>>),
    Ask { priority: usize, wanted: Resources, reply: Reply },
    GiveBack(Arc<Grant>),
}

type Reply = Box<dyn FnOnce(Lease) -> bool + Send>;

struct Scheduler;

struct SchedulerState {
    leases: Leases,
    next_ticket: u64,
    replies: BTreeMap<u64, Reply>,
}

impl SchedulerState {
    fn grant(&mut self, myself: &ActorRef<SchedulerMessage>) {
        while let Some((ticket, grant)) = self.leases.next() {
            let lease = Lease { grant: Arc::new(grant), scheduler: myself.clone() };
            // An asker that is gone drops the lease, which gives it back.
            if let Some(reply) = self.replies.remove(&ticket) {
                reply(lease);
            }
        }
    }
}

impl ractor::Actor for Scheduler {
    type Msg = SchedulerMessage;
    type State = SchedulerState;
    type Arguments = Resources;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        total: Resources,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(SchedulerState { leases: Leases::new(total), next_ticket: 0, replies: BTreeMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SchedulerMessage::Check(wanted, reply) => {
                // A driver that no longer waits needs no answer.
                let _ = reply.send(state.leases.feasible(&wanted));
            }
            SchedulerMessage::Ask { priority, wanted, reply } => {
                let ticket = state.next_ticket;
                state.next_ticket += 1;
                state.replies.insert(ticket, reply);
                state.leases.ask(priority, ticket, wanted);
                state.grant(&myself);
            }
            SchedulerMessage::GiveBack(grant) => {
                state.leases.give_back(&grant);
                state.grant(&myself);
            }
        }
        Ok(())
    }
}

/// Resources that a worker holds while it lives. Given back on drop.
pub(crate) struct Lease {
    grant: Arc<Grant>,
    scheduler: ActorRef<SchedulerMessage>,
}

impl Lease {
    /// Ordinals of its GPUs.
    pub(crate) fn gpus(&self) -> Vec<u32> {
        self.grant.gpus.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A scheduler that is gone has no more use for it.
        let _ = self.scheduler.cast(SchedulerMessage::GiveBack(Arc::clone(&self.grant)));
    }
}

/// How others reach the scheduler. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SchedulerHandle {
    actor: ActorRef<SchedulerMessage>,
}

impl SchedulerHandle {
    /// Starts the scheduler of a node that has `total`.
    pub(crate) async fn spawn(total: Resources, supervisor: ActorCell) -> Result<Self, SpawnErr> {
        let (actor, _) = ractor::Actor::spawn_linked(None, Scheduler, total, supervisor).await?;
        Ok(Self { actor })
    }

    /// Whether the node could ever give this, and if not, why.
    pub(crate) async fn check(&self, wanted: Resources) -> Result<(), String> {
        ractor::call!(self.actor, |reply| SchedulerMessage::Check(wanted, reply))
            .unwrap_or_else(|_| Err("the scheduler is gone".to_owned()))
    }

    /// Asks for a lease; `reply` is called with it when its turn comes.
    pub(crate) fn ask(&self, priority: usize, wanted: Resources, reply: impl FnOnce(Lease) -> bool + Send + 'static) {
        // A scheduler that is gone takes the node with it; the asker learns of it from its own supervisor.
        let _ = self.actor.cast(SchedulerMessage::Ask { priority, wanted, reply: Box::new(reply) });
    }
}
