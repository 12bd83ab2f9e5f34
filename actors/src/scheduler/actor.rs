//! The scheduler actor: grants leases.
//!
//! Protocol: `Check` and `CheckTogether` are answered at once. `Ask` is answered when its turn comes, through the callback it brings, so
//! that nobody's `handle` waits. `Held` says how many leases each job has. `GiveBack` comes from the drop of a lease. `Look` says that askers may be gone, whose
//! asks are then forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ractor::{ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};

use super::leases::{Asker, Grant, Leases};
use crate::job::Resources;

/// What the scheduler is told.
pub(crate) enum SchedulerMessage {
    Check(Resources, RpcReplyPort<Result<(), String>>),
    CheckTogether(Vec<Resources>, RpcReplyPort<Result<(), String>>),
    Ask { wish: Wish, reply: Reply },
    GiveBack(Arc<Grant>),
    Look,
    Held(RpcReplyPort<BTreeMap<u64, usize>>),
}

type Reply = Box<dyn FnOnce(Lease) -> bool + Send>;

/// What somebody asks for.
pub(crate) struct Wish {
    /// Steps to the sink: the nearest goes first.
    pub(crate) priority: usize,
    pub(crate) wanted: Resources,
    /// `None` where no job is behind it.
    pub(crate) asker: Option<Asker>,
    /// Whether nobody waits for the answer any more.
    pub(crate) is_gone: Box<dyn Fn() -> bool + Send>,
}

struct Scheduler;

struct SchedulerState {
    leases: Leases,
    next_ticket: u64,
    replies: BTreeMap<u64, (Box<dyn Fn() -> bool + Send>, Reply)>,
}

impl SchedulerState {
    fn ask(&mut self, Wish { priority, wanted, asker, is_gone }: Wish, reply: Reply) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        match self.leases.ask(priority, ticket, &wanted, asker) {
            Ok(()) => drop(self.replies.insert(ticket, (is_gone, reply))),
            // Refused when the job was checked; the reply that is dropped says so to whoever did not check.
            Err(reason) => tracing::error!(%wanted, reason, "a lease that cannot be granted was asked for"),
        }
    }

    /// Whoever is gone must not have a reservation.
    fn forget_gone(&mut self) {
        let gone = self.replies.iter().filter(|(_, (is_gone, _))| is_gone());
        let gone: BTreeSet<u64> = gone.map(|(ticket, _)| *ticket).collect();
        if !gone.is_empty() {
            self.leases.forget(&gone);
            self.replies.retain(|ticket, _| !gone.contains(ticket));
        }
    }

    fn grant(&mut self, myself: &ActorRef<SchedulerMessage>) {
        self.forget_gone();
        while let Some((ticket, grant)) = self.leases.next() {
            let lease = Lease { grant: Arc::new(grant), scheduler: myself.clone() };
            // An asker that is gone drops the lease, which gives it back.
            if let Some((_, reply)) = self.replies.remove(&ticket) {
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
            SchedulerMessage::CheckTogether(all, reply) => {
                // As above.
                let _ = reply.send(state.leases.feasible_together(&all));
            }
            SchedulerMessage::Ask { wish, reply } => {
                state.ask(wish, reply);
                state.grant(&myself);
            }
            SchedulerMessage::Look => state.grant(&myself),
            SchedulerMessage::Held(reply) => {
                // Who asked may have gone.
                let _ = reply.send(state.leases.held());
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

    /// Whether the node could ever give all of these at once, and if not, why.
    pub(crate) async fn check_together(&self, all: Vec<Resources>) -> Result<(), String> {
        ractor::call!(self.actor, |reply| SchedulerMessage::CheckTogether(all, reply))
            .unwrap_or_else(|_| Err("the scheduler is gone".to_owned()))
    }

    /// Asks for a lease; `reply` is called with it when its turn comes.
    pub(crate) fn ask(&self, wish: Wish, reply: impl FnOnce(Lease) -> bool + Send + 'static) {
        // A scheduler that is gone takes the node with it; the asker learns of it from its own supervisor.
        let _ = self.actor.cast(SchedulerMessage::Ask { wish, reply: Box::new(reply) });
    }

    /// How many leases each job has.
    pub(crate) async fn held(&self) -> BTreeMap<u64, usize> {
        // A scheduler that is gone has taken all with it.
        ractor::call!(self.actor, SchedulerMessage::Held).unwrap_or_default()
    }

    /// Somebody who asked does not want it any more.
    pub(crate) fn look(&self) {
        // As above.
        let _ = self.actor.cast(SchedulerMessage::Look);
    }
}
