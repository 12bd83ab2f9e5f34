//! The job actor: stands a topology up from sink to source, and ends it when its work is done, fails, or is cancelled.
//!
//! Protocol. From operators: `OperatorDone` once each, `Satisfied` when a limit needs no more, `Failed` when a task is
//! given up. From pools: `PoolEnded` once each, when the last worker is gone. From the driver: `Cancel`, and `Why`, which
//! is answered when the operators have. From its own clock: `Look`. To the driver:
//! the blocks of the last operator, then one `Delivery::End`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use ractor::{ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::mpsc;

use super::build::{self, Built};
use super::delivery::Delivery;
use super::standstill::Standstill;
use super::taker::Taker;
use super::why::{Why, gather};
use super::{GivenUp, JobError, Topology, WorkerGaveUp};
use crate::cluster::site::Sites;
use crate::node::Parts;
use crate::operator::shell::{OperatorShell, Stop};
use crate::pool::metrics::Metrics;
use crate::pool::worker::PoolShared;
use crate::runtime::guardian::GaveUp;
use crate::runtime::tasks::spawn;
use crate::runtime::tell::tell;

/// What a job is told.
pub(crate) enum JobMessage {
    /// This operator has passed everything on, or was stopped.
    OperatorDone(u32),
    /// This operator needs no more input.
    Satisfied(u32),
    /// The last worker of this operator has ended.
    PoolEnded(u32),
    /// Something cannot be mended; the first reason counts.
    Failed(JobError),
    /// The driver wants no more.
    Cancel,
    /// Workers had their time to end.
    Overdue,
    /// So had those upstream of this operator, which needs no more.
    Abandon(u32),
    /// Who waits for whom?
    Why(RpcReplyPort<Why>),
    /// Time to see whether anything has moved.
    Look,
}

/// Workers get this long to come to the end of their call when a job is stopped. User code that takes longer is left
/// behind on its thread; the driver is told within a second.
const STOP_TIME_MAX: Duration = Duration::from_millis(500);

/// The job actor.
pub(crate) struct Job;

/// What a job is made of.
pub(crate) struct JobArguments {
    pub(crate) topology: Topology,
    pub(crate) node: Parts,
    pub(crate) driver: mpsc::Sender<Delivery>,
    /// One for each operator, in order.
    pub(crate) metrics: Vec<Arc<Metrics>>,
    /// The nodes that its workers go to; none: they run here.
    pub(crate) sites: Sites,
    /// Who takes its results.
    pub(crate) taker: Taker,
    /// Where rows that it gives up are counted.
    pub(crate) given_up: GivenUp,
}

/// What a job remembers.
pub(crate) struct JobState {
    driver: mpsc::Sender<Delivery>,
    operators: Vec<Running>,
    /// Keeps the thread of the operators' actors.
    _built: Built,
    operators_left: BTreeSet<u32>,
    pools_left: BTreeSet<u32>,
    failed: Option<JobError>,
    taker: Taker,
    standstill: Standstill,
    /// Limits that have what they need.
    satisfied: BTreeSet<u32>,
    given_up: GivenUp,
}

/// An operator of a running job.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) name: Arc<str>,
    pub(crate) inputs: Vec<usize>,
    pub(crate) shell: Addr<OperatorShell>,
    pub(crate) pool: Arc<PoolShared>,
}

impl JobState {
    /// Stops an operator and everything upstream of it.
    fn stop_upstream(&self, index: usize) {
        let inputs = self.operators.get(index).map(|operator| operator.inputs.clone()).unwrap_or_default();
        for input in inputs {
            self.stop(input);
            self.stop_upstream(input);
        }
    }

    /// Does not wait any longer for workers upstream.
    fn abandon_upstream(&mut self, index: usize) {
        let inputs = self.operators.get(index).map(|operator| operator.inputs.clone()).unwrap_or_default();
        for input in inputs {
            self.pools_left.remove(&(input as u32));
            self.abandon_upstream(input);
        }
    }

    fn stop(&self, index: usize) {
        if let Some(operator) = self.operators.get(index) {
            // At once for the workers, whatever the operator's actor has in its mailbox.
            operator.pool.stop();
            tell(&operator.shell, Stop);
        }
    }

    fn fail(&mut self, error: JobError, myself: &ActorRef<JobMessage>) {
        if self.failed.is_none() {
            self.failed = Some(error);
            (0..self.operators.len()).for_each(|index| self.stop(index));
            myself.send_after(STOP_TIME_MAX, || JobMessage::Overdue);
        }
    }

    /// Tells the driver if everything has ended.
    fn end_if_done(&mut self, myself: &ActorRef<JobMessage>) {
        if self.operators_left.is_empty() && self.pools_left.is_empty() {
            self.end(myself);
        }
    }

    fn end(&mut self, myself: &ActorRef<JobMessage>) {
        for operator in &self.operators {
            operator.pool.forget_shell();
            // Threads that were left behind hold the pool, and must not hold its part of the budget.
            operator.pool.window.close();
            operator.pool.give_all_turns_back();
        }
        let reads = self.operators.iter().filter(|operator| operator.pool.source.is_some());
        let read = reads.map(|read| read.pool.metrics.picture().rows_in).sum();
        let result = self.failed.take().map_or_else(|| self.given_up.check(read), Err);
        // The channel has a place for the end; a driver that is gone needs none.
        let _ = self.driver.try_send(Delivery::End(result));
        myself.stop(None);
    }
}

impl ractor::Actor for Job {
    type Msg = JobMessage;
    type State = JobState;
    type Arguments = JobArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let (driver, taker) = (arguments.driver.clone(), arguments.taker.clone());
        let given_up = arguments.given_up.clone();
        let mut standstill = Standstill::new(&arguments);
        standstill.wind(&myself);
        let (operators, built) = build::stand_up(arguments, &myself).await?;
        let all: BTreeSet<u32> = (0..operators.len() as u32).collect();
        let pools_left = all.iter().copied().filter(|index| built.has_pool(*index)).collect();
        Ok(JobState {
            driver,
            operators,
            _built: built,
            operators_left: all,
            pools_left,
            failed: None,
            taker,
            standstill,
            satisfied: BTreeSet::new(),
            given_up,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            JobMessage::OperatorDone(index) => {
                state.operators_left.remove(&index);
            }
            JobMessage::PoolEnded(index) => {
                state.pools_left.remove(&index);
            }
            JobMessage::Satisfied(index) => {
                if state.satisfied.insert(index) {
                    state.stop_upstream(index as usize);
                    myself.send_after(STOP_TIME_MAX, move || JobMessage::Abandon(index));
                }
            }
            JobMessage::Abandon(index) => state.abandon_upstream(index as usize),
            JobMessage::Failed(error) => state.fail(error, &myself),
            JobMessage::Cancel => state.fail(JobError::Cancelled, &myself),
            JobMessage::Why(reply) => {
                let asking = gather::ask(state.operators.clone(), state.taker.clone());
                // Who asked may not wait any longer.
                spawn(async move { drop(reply.send(asking.await)) });
            }
            JobMessage::Look => state.standstill.look(&myself, &state.operators, &state.taker),
            JobMessage::Overdue => {
                tracing::warn!("user code did not return in time; its threads are left behind");
                state.end(&myself);
                return Ok(());
            }
        }
        state.end_if_done(&myself);
        Ok(())
    }

    /// Whatever fails below has used up its restarts: the job fails, but its actor lives to clean up.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            // A pool that failed reports no end of its own any more.
            state.pools_left.clear();
            state.fail(explain(error), &myself);
        }
        Ok(())
    }
}

pub(crate) fn explain(error: ActorProcessingErr) -> JobError {
    if let Some(refused) = error.downcast_ref::<std::io::Error>() {
        return JobError::Threads(refused.to_string());
    }
    if let Some(known) = error.downcast_ref::<JobError>() {
        return known.clone();
    }
    match error.downcast::<WorkerGaveUp>() {
        Ok(worker) => (*worker).into(),
        Err(error) => match error.downcast::<GaveUp>() {
            Ok(gave_up) => JobError::Internal { actor: gave_up.name.to_string(), reason: gave_up.exit.to_string() },
            Err(error) => JobError::Internal { actor: "a supervisor".to_owned(), reason: error.to_string() },
        },
    }
}
