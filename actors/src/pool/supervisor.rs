//! The supervisor of a pool: starts workers as leases come in, and fails upwards when one of them keeps dying.
//!
//! Protocol: `Grow(n)` from the operator's actor asks for at least n workers; `Leased` brings the resources of one;
//! `Close` says that the queue is closed, so that workers end by themselves. When the last has ended, the job is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::worker::{LaunchWorker, PoolShared};
use crate::cluster::sites::SitesMessage;
use crate::job::{JobMessage, Resources, WorkerGaveUp};
use crate::runtime::guardian::{GaveUp, Guardian, GuardianArguments};
use crate::runtime::host::Host;
use crate::runtime::restart::RestartBudget;
use crate::runtime::watch::Exit;
use crate::scheduler::{Asker, Lease, SchedulerHandle, Wish};

/// What a pool is told.
pub(crate) enum PoolMessage {
    Grow(usize),
    Leased(Lease),
    Close,
}

/// How an operator's actor reaches its pool, here or on other nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) enum PoolHandle {
    Here(ActorRef<PoolMessage>),
    Sites(ActorRef<SitesMessage>),
}

impl PoolHandle {
    /// At least so many workers are wanted. Pools elsewhere grow by the tasks that they are sent.
    pub(crate) fn grow(&self, wanted: usize) {
        if let Self::Here(pool) = self {
            // A pool that is gone has failed, and the job knows.
            let _ = pool.cast(PoolMessage::Grow(wanted));
        }
    }

    /// The queue is closed.
    pub(crate) fn close(&self) {
        // A pool that is gone has nothing left to close.
        match self {
            Self::Here(pool) => drop(pool.cast(PoolMessage::Close)),
            Self::Sites(pool) => drop(pool.cast(SitesMessage::Close)),
        }
    }
}

/// The supervisor actor.
pub(crate) struct PoolSupervisor;

/// What a pool is made of.
pub(crate) struct PoolArguments {
    pub(crate) pool: Arc<PoolShared>,
    pub(crate) host: Host,
    pub(crate) scheduler: SchedulerHandle,
    pub(crate) resources: Resources,
    pub(crate) restarts: RestartBudget,
    pub(crate) job: ActorRef<JobMessage>,
}

/// What a pool remembers.
pub(crate) struct PoolState {
    arguments: PoolArguments,
    /// Workers asked for so far; the number of the next one to start.
    asked: usize,
    started: usize,
    alive: BTreeMap<ActorId, usize>,
    closed: bool,
}

impl PoolState {
    fn grow(&mut self, myself: &ActorRef<PoolMessage>, wanted: usize) {
        while self.asked < wanted && !self.closed {
            let myself = myself.clone();
            let PoolArguments { scheduler, pool, resources, .. } = &self.arguments;
            let queue = pool.queue.clone();
            let wish = Wish {
                priority: pool.priority,
                wanted: resources.clone(),
                asker: Some(Asker { job: pool.turns.job(), first: self.asked == 0 }),
                is_gone: Box::new(move || queue.is_closed()),
            };
            self.asked += 1;
            // A pool that is gone drops the lease, which gives it back.
            scheduler.ask(wish, move |lease| myself.cast(PoolMessage::Leased(lease)).is_ok());
        }
    }

    async fn start(&mut self, myself: ActorCell, lease: Lease) -> Result<(), ActorProcessingErr> {
        let PoolArguments { pool, host, restarts, .. } = &self.arguments;
        let worker = self.started;
        self.started += 1;
        let lane = host.lane().await?;
        let device = if pool.may_have_a_device() && !lease.gpus().is_empty() { Some(host.lane().await?) } else { None };
        let launch = Box::new(LaunchWorker { pool: Arc::clone(pool), worker, lane, device, lease: Arc::new(lease) });
        let name = format!("{}#{worker}", pool.operator).into();
        let arguments = GuardianArguments { name, launch, budget: restarts.clone(), env: Arc::clone(&pool.env) };
        let (guardian, _) = ractor::Actor::spawn_linked(None, Guardian, arguments, myself).await?;
        self.alive.insert(guardian.get_id(), worker);
        Ok(())
    }

    /// A worker that ends although nobody closed its queue: user code stopped its thread or its actor system.
    fn left(&self, worker: Option<usize>) -> WorkerGaveUp {
        let operator = Arc::clone(&self.arguments.pool.operator);
        let cause = "user code stopped the worker's thread; an operator must not stop arbiters or systems";
        let exit = Exit::Failed(Arc::new(cause.into()));
        let gave_up = GaveUp { name: Arc::clone(&operator), restarts: 0, exit };
        WorkerGaveUp { operator, worker: worker.unwrap_or_default(), gave_up }
    }

    fn end_if_empty(&self, myself: &ActorRef<PoolMessage>) {
        if self.closed && self.alive.is_empty() {
            // A job that is gone needs no news.
            let _ = self.arguments.job.cast(JobMessage::PoolEnded(self.arguments.pool.index));
            myself.stop(None);
        }
    }
}

impl ractor::Actor for PoolSupervisor {
    type Msg = PoolMessage;
    type State = PoolState;
    type Arguments = PoolArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(PoolState { arguments, asked: 0, started: 0, alive: BTreeMap::new(), closed: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PoolMessage::Grow(wanted) => state.grow(&myself, wanted),
            PoolMessage::Leased(lease) if !state.closed => state.start(myself.get_cell(), lease).await?,
            PoolMessage::Leased(_) => {}
            PoolMessage::Close => {
                state.closed = true;
                state.end_if_empty(&myself);
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        if state.started < state.asked {
            state.arguments.scheduler.look();
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(who, ..) => {
                let worker = state.alive.remove(&who.get_id());
                // The queue, not `state.closed`: news of a death overtake messages.
                if !state.arguments.pool.queue.is_closed() {
                    return Err(state.left(worker).into());
                }
                state.end_if_empty(&myself);
                Ok(())
            }
            SupervisionEvent::ActorFailed(who, error) => {
                let worker = state.alive.remove(&who.get_id());
                Err(match error.downcast::<GaveUp>() {
                    Ok(gave_up) => {
                        let operator = Arc::clone(&state.arguments.pool.operator);
                        Box::new(WorkerGaveUp { operator, worker: worker.unwrap_or_default(), gave_up: *gave_up })
                    }
                    Err(other) => other,
                })
            }
            _ => Ok(()),
        }
    }
}
