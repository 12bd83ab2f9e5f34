//! Why a job failed, in words that name the place and the next step.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::causes;
use super::topology::TopologyError;
use super::wire::NotPortable;
use crate::operator::BoxError;
use crate::runtime::guardian::GaveUp;
use crate::runtime::watch::Exit;

/// Why a job did not finish. It travels: a cause from another process prints the same, and is of no type that could be
/// asked for.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
pub enum JobError {
    /// A task failed at each of its attempts.
    #[error("operator {operator:?}, task {task} ({input}), attempt {attempt} of {attempts}: {cause}")]
    Task {
        /// The operator.
        operator: Arc<str>,
        /// Number of the task in it.
        task: u64,
        /// What the task reads: a split's label, or the rows of its input.
        input: String,
        /// The attempt that failed last.
        attempt: u32,
        /// How many it had.
        attempts: u32,
        /// What the user code, the source or the sink said.
        #[serde(with = "causes")]
        cause: Arc<BoxError>,
    },
    /// More rows failed than the job may give up.
    #[error(
        "{rows} {} given up and the error budget is {budget}; the last was {input}, at operator {operator:?}: {cause}",
        if *.rows == 1 { "row was" } else { "rows were" }
    )]
    ErrorBudget {
        /// How many were given up, that one counted.
        rows: u64,
        /// How many may be, in words.
        budget: String,
        /// The operator that failed last.
        operator: Arc<str>,
        /// The row that it failed on, or where it comes from.
        input: String,
        /// Why.
        #[serde(with = "causes")]
        cause: Arc<BoxError>,
    },
    /// A worker could not be started, or died more often than its restart budget allows.
    #[error("operator {operator:?}, worker {worker}: {cause} (restarts used up: {restarts})")]
    Worker {
        /// The operator.
        operator: Arc<str>,
        /// Number of the worker in its pool.
        worker: usize,
        /// How often it was restarted.
        restarts: u32,
        /// Why it died last.
        #[serde(with = "causes")]
        cause: Arc<BoxError>,
    },
    /// The source of an operator that reads could not be built.
    #[error("operator {operator:?} cannot read: {cause}")]
    Source {
        /// The operator.
        operator: Arc<str>,
        /// What the registry or the source said.
        #[serde(with = "causes")]
        cause: Arc<BoxError>,
    },
    /// The job asks for resources that this node does not have.
    #[error("operator {operator:?} cannot run here: {reason}")]
    Infeasible {
        /// The operator.
        operator: Arc<str>,
        /// What is asked for and what there is.
        reason: String,
    },
    /// The topology contradicts itself.
    #[error("the topology cannot run")]
    Topology(#[from] TopologyError),
    /// The topology holds something that cannot leave the driver's process.
    #[error(transparent)]
    NotPortable(#[from] NotPortable),
    /// The system refused a thread, a file handle or memory for one.
    #[error("cannot start a worker's thread: {0}; raise the limit (`ulimit -n`, `ulimit -u`) or ask for fewer workers")]
    Threads(String),
    /// A model, a table or another object of the job did not get to the head.
    #[error("the head does not take {reason}")]
    Object {
        /// Which object, and why not.
        reason: String,
    },
    /// A block of the results did not come from its node, or not back from disk.
    #[error("a block of the results cannot be had: {cause}")]
    Block {
        /// Why.
        #[serde(with = "causes")]
        cause: Arc<BoxError>,
    },
    /// Too many calls of user code did not come back, and each holds a thread.
    #[error(
        "operator {operator:?}: more than {most} threads of the job are left behind on one node in calls that do not come back (left_behind_max); the last: {cause}"
    )]
    LeftBehind {
        /// The operator of the last.
        operator: Arc<str>,
        /// How many there may be.
        most: usize,
        /// What the last one was doing.
        #[serde(with = "causes")]
        cause: Arc<BoxError>,
    },
    /// A node left with blocks that the job still needed.
    #[error("node {node} was lost with blocks of the job")]
    NodeLost {
        /// Its name.
        node: Arc<str>,
    },
    /// What the job had finished could not be recorded.
    #[error("the ledger of the output could not be kept: {cause}")]
    Ledger {
        /// Why.
        #[serde(with = "super::causes")]
        cause: Arc<BoxError>,
    },
    /// The job ended, but what it wrote could not be made visible.
    #[error("the output could not be made visible: {cause}")]
    Finish {
        /// Why.
        #[serde(with = "super::causes")]
        cause: Arc<BoxError>,
    },
    /// The head knows no job of this number.
    #[error("there is no job {job} (any more); `mobula jobs` lists those there are")]
    Unknown {
        /// The number.
        job: u64,
    },
    /// The head of the cluster is gone, or cannot be reached.
    #[error("the head was lost: {reason}; if it lives, a job that writes goes on: see `mobula jobs`")]
    HeadLost {
        /// What was noticed.
        reason: String,
    },
    /// The job was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// A part of the engine itself died; this is a bug.
    #[error("{actor} died: {reason}; this is a bug in Mobula, please report it")]
    Internal {
        /// Which actor.
        actor: String,
        /// What it said.
        reason: String,
    },
}

/// A worker used up its restarts: what its pool passes upwards.
#[derive(Debug, thiserror::Error)]
#[error("worker {worker} of operator {operator:?}: {gave_up}")]
pub(crate) struct WorkerGaveUp {
    pub(crate) operator: Arc<str>,
    pub(crate) worker: usize,
    pub(crate) gave_up: GaveUp,
}

impl From<WorkerGaveUp> for JobError {
    fn from(worker: WorkerGaveUp) -> Self {
        let cause = match worker.gave_up.exit {
            Exit::Failed(cause) => cause,
            exit => Arc::new(exit.to_string().into()),
        };
        let restarts = worker.gave_up.restarts;
        Self::Worker { operator: worker.operator, worker: worker.worker, restarts, cause }
    }
}
