//! The supervisor of a pool: starts workers as leases come in, and fails upwards when one of them keeps dying.
//!
//! Protocol: `Grow(n)` from the operator's actor asks for at least n workers; `Leased` brings the resources of one;
//! `Look` comes from its own clock. `Close` says that the queue is closed, so that workers end by themselves. When the last has ended, the job is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ractor::{ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};

use super::task::WorkerEvent;
use super::worker::{LaunchWorker, PoolShared};
use crate::cluster::sites::SitesMessage;
use crate::job::why::stall::Stall;
use crate::job::{JobMessage, Resources, WorkerGaveUp};
use crate::runtime::alarm::Alarm;
use crate::runtime::guardian::{GaveUp, Guardian, GuardianArguments};
use crate::runtime::host::Host;
use crate::runtime::restart::RestartBudget;
use crate::runtime::watch::Exit;
use crate::scheduler::{Asker, First, Lease, SchedulerHandle, Wish};

/// What a pool is told.
pub(crate) enum PoolMessage {
    Grow(usize),
    Leased(Lease),
    /// Time to look for calls that do not come back.
    Look,
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
    pub(crate) begins: Beginning,
}

/// How a pool begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    /// Workers that are asked for at once.
    pub(crate) workers: usize,
    /// What the first of them gets its lease with, if the job does not go on without.
    pub(crate) first: Option<First>,
}

/// What a pool remembers.
pub(crate) struct PoolState {
    arguments: PoolArguments,
    /// Workers asked for so far.
    asked: usize,
    /// Leases that have come; the others are still waited for.
    started: usize,
    /// Workers so far, those that took the place of others among them; the number of the next one.
    workers: usize,
    alive: BTreeMap<ActorId, Alive>,
    /// Guardians of workers that were given up: their end is no news.
    given_up: BTreeSet<ActorId>,
    clock: Option<Alarm>,
    closed: bool,
}

/// A worker that lives.
struct Alive {
    worker: usize,
    guardian: ActorCell,
    lease: Arc<Lease>,
}

impl PoolState {
    fn grow(&mut self, myself: &ActorRef<PoolMessage>, wanted: usize) {
        while self.asked < wanted && !self.closed {
            let myself = myself.clone();
            let PoolArguments { scheduler, pool, resources, .. } = &self.arguments;
            let (queue, asks) = (pool.queue.clone(), myself.get_cell());
            let first = self.arguments.begins.first.filter(|_| self.asked == 0);
            let wish = Wish {
                priority: pool.priority,
                wanted: resources.clone(),
                asker: Some(Asker { job: pool.turns.job(), first }),
                is_gone: Box::new(move || queue.is_closed() || asks.get_status() >= ActorStatus::Stopping),
            };
            self.asked += 1;
            pool.doings.lease_wanted(|| resources.to_string());
            // A pool that is gone drops the lease, which gives it back.
            scheduler.ask(wish, move |lease| myself.cast(PoolMessage::Leased(lease)).is_ok());
        }
    }

    async fn start(&mut self, myself: ActorCell, lease: Arc<Lease>) -> Result<(), ActorProcessingErr> {
        let PoolArguments { pool, host, restarts, .. } = &self.arguments;
        let worker = self.workers;
        self.workers += 1;
        let lane = host.lane().await?;
        let device = if pool.may_have_a_device() && !lease.gpus().is_empty() { Some(host.lane().await?) } else { None };
        let (pool, held) = (Arc::clone(pool), Arc::clone(&lease));
        let (name, env) = (format!("{}#{worker}", pool.operator).into(), Arc::clone(&pool.env));
        let launch = Box::new(LaunchWorker { pool, worker, lane, device, lease: held });
        let arguments = GuardianArguments { name, launch, budget: restarts.clone(), env };
        let (guardian, _) = ractor::Actor::spawn_linked(None, Guardian, arguments, myself).await?;
        let guardian = guardian.get_cell();
        self.alive.insert(guardian.get_id(), Alive { worker, guardian, lease });
        Ok(())
    }

    /// Others take the places of workers whose calls do not come back.
    async fn look(&mut self, myself: &ActorRef<PoolMessage>) -> Result<(), ActorProcessingErr> {
        for stuck in self.arguments.pool.give_up_stuck() {
            let at = self.alive.iter().find(|(_, alive)| alive.worker == stuck.worker).map(|(id, _)| *id);
            let Some((id, alive)) = at.and_then(|id| Some((id, self.alive.remove(&id)?))) else { continue };
            self.given_up.insert(id);
            // With it go its thread, once that comes back, and all that it still does.
            alive.guardian.stop(None);
            // A job whose rows are all done needs no other worker, however many close() calls hang.
            if !self.arguments.pool.queue.is_closed() {
                self.arguments.pool.may_go_on(&stuck)?;
                self.start(myself.get_cell(), alive.lease).await?;
            }
        }
        self.end_if_empty(myself);
        Ok(())
    }

    /// Looks again after a while, if calls have a limit.
    fn wind(&mut self, myself: &ActorRef<PoolMessage>) {
        let every = Stall::look_every(self.arguments.pool.task_progress_limit);
        self.clock = every.map(|every| Alarm::set(myself, every, || PoolMessage::Look));
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
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let (alive, given_up) = (BTreeMap::new(), BTreeSet::new());
        let mut state =
            PoolState { arguments, asked: 0, started: 0, workers: 0, alive, given_up, clock: None, closed: false };
        state.grow(&myself, state.arguments.begins.workers);
        state.wind(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PoolMessage::Grow(wanted) => state.grow(&myself, wanted),
            PoolMessage::Leased(lease) if !state.closed => {
                state.started += 1;
                state.arguments.pool.doings.lease_came();
                if state.started == 1 {
                    state.arguments.pool.tell(WorkerEvent::Leased);
                }
                state.start(myself.get_cell(), Arc::new(lease)).await?;
            }
            PoolMessage::Leased(_) => {}
            PoolMessage::Look => {
                state.look(&myself).await?;
                state.wind(&myself);
            }
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
                if state.given_up.remove(&who.get_id()) {
                    return Ok(());
                }
                let worker = state.alive.remove(&who.get_id()).map(|alive| alive.worker);
                // The queue, not `state.closed`: news of a death overtake messages.
                if !state.arguments.pool.queue.is_closed() {
                    return Err(state.left(worker).into());
                }
                state.end_if_empty(&myself);
                Ok(())
            }
            SupervisionEvent::ActorFailed(who, error) => {
                let worker = state.alive.remove(&who.get_id()).map(|alive| alive.worker);
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
