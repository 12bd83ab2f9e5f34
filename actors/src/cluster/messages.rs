//! What head, nodes and drivers say to each other beside task streams: calls and the requests of fetches.
//!
//! See `docs/internals/wire.md` for who may say what. All types are flat and travel by the codec of the transport.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actor::message::{ActorAnswer, ActorCall, DirectoryCall};
use crate::block::{BlockId, BlockName};
use crate::job::{JobError, JobSummary, Resources, Weight, Why, WireObject, WireOperator};
use crate::logs::LogPage;
use crate::operator::ObjectName;
use crate::task::{ObjectId, PartyId, TaskCounts};
use crate::units::Bytes;

/// What a node says of itself when it joins: the details of its Hello.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeFacts {
    pub(crate) resources: Resources,
    pub(crate) memory_budget: Bytes,
    pub(crate) version: String,
}

/// What the head answers to a node that joins: the details of its Welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Admitted {
    /// The node's number in this life, which its blocks carry.
    pub(crate) number: u64,
}

/// A node to the head, on its control connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum NodeCall {
    /// It lives.
    Heartbeat,
    /// Where does this node listen?
    Where { number: u64 },
    /// It takes no more tasks and goes once its blocks are not needed any more.
    Draining,
    /// Of actors, for an actor or a task that runs there.
    Actors { call: Box<DirectoryCall> },
}

/// The head's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NodeAnswer {
    Noted,
    /// Its name and address.
    At {
        name: String,
        address: String,
    },
    /// There is no node of this number (any more).
    Gone,
    Actors {
        answer: ActorAnswer,
    },
}

/// The head to a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum HeadCall {
    /// Nobody refers to these blocks any more.
    Release { blocks: Vec<BlockId> },
    /// Move this block to disk, it is needed last; answered by a `SpillOutcome` when that is done.
    Spill { block: BlockId },
    /// Of the actor with this number on the node; answered by an `ActorAnswer`.
    Actor { actor: u64, call: ActorCall },
}

/// The head of a task stream: opens a pool on the node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OpenPool {
    pub(crate) job: u64,
    pub(crate) weight: Weight,
    pub(crate) index: u32,
    pub(crate) operator: WireOperator,
    pub(crate) workers: usize,
    pub(crate) depth: usize,
    pub(crate) block_bytes: Bytes,
    pub(crate) batch_bytes: Bytes,
    pub(crate) run: u32,
    pub(crate) task_progress_limit: Option<Duration>,
    pub(crate) isolates: bool,
    pub(crate) together: u32,
}

/// A fetch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum FetchCall {
    /// A block that lives on the node that is asked; the head passes on those of others.
    Block { name: BlockName },
    /// A block of a job's results, by its number from 0: the one that was got last may be asked for again, else the next.
    Result { job: u64, number: u64 },
    /// The bytes of a stored value that is on this node; the head passes on those of others, and the driver sends what it leaves
    /// with the head.
    Value { id: ObjectId, node: PartyId },
    /// The bytes of an object: a node asks the head, the head the driver that submits a job.
    Object { name: ObjectName },
}

/// What comes before the bytes of a fetch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum FetchAnswer {
    /// The bytes are a block.
    Block,
    /// The bytes are the object's.
    Object,
    /// The bytes are the value's.
    Value,
    /// The job has ended so; no bytes follow. Its operators logged so many lines.
    End { error: Option<JobError>, summary: Box<JobSummary>, finished: Option<Vec<u8>>, logs: u64 },
}

/// A driver to the head.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum DriverCall {
    /// Run this topology (encoded as `WireTopology`). The driver's name for it is what `jobs` shows.
    Submit { name: String, topology: Vec<u8> },
    /// Fetch these objects from me now, for a job that is to come.
    Put { objects: Vec<WireObject> },
    /// Fetch this value from me now and keep it.
    Keep { id: ObjectId, bytes: Bytes },
    /// How far is it, and what did its operators log since?
    Summary { job: u64, logs_from: u64 },
    /// Stop it. Answered when it has ended, or after a while; `told`: it was asked before, and only its end is wanted.
    Cancel { job: u64, told: bool },
    /// Which jobs are there?
    Jobs,
    /// Which nodes are there?
    Status,
    /// Of actors.
    Actors { call: DirectoryCall },
    /// Who waits for whom in this job?
    Why { job: u64 },
    /// What do tasks wait for?
    Tasks,
}

/// The head's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum DriverAnswer {
    /// It runs. `left` are objects that are not there, each with the reason; its operators do without.
    Submitted {
        job: u64,
        left: Vec<String>,
    },
    /// Those that are within the limits are there.
    Put,
    /// It is there, unless it was refused.
    Kept {
        refused: Option<String>,
    },
    /// `given`: blocks of its results that were given to its driver.
    Summary {
        summary: JobSummary,
        logs: LogPage,
        given: u64,
    },
    /// The job was stopped, or had ended before.
    Cancel {
        outcome: CancelOutcome,
    },
    /// The job is told to stop and has not ended yet.
    Cancelling,
    Jobs {
        jobs: Vec<JobInfo>,
    },
    Status {
        status: ClusterStatus,
    },
    Actors {
        answer: ActorAnswer,
    },
    Failed {
        error: JobError,
    },
    /// What the job waits for; nothing if it has ended.
    Why {
        why: Why,
    },
    /// There is no such job (any more).
    Unknown,
    Tasks {
        list: TaskList,
    },
}

/// What came of cancelling a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelOutcome {
    /// It ran, and has ended by this.
    Cancelled,
    /// There was nothing left to cancel: it has ended with this state, as `jobs` shows it.
    Ended(String),
}

/// A job as `jobs` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInfo {
    /// Its number on the head.
    pub job: u64,
    /// The driver's name for it.
    pub name: String,
    /// The driver that started it.
    pub driver: String,
    /// `running`, `done`, or why it failed.
    pub state: String,
    /// Seconds since it was started.
    pub seconds: u64,
    /// Rows its reads have behind them, and of how many where known.
    pub rows: (u64, Option<u64>),
}

/// A task that has not ended, as `tasks` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Its name, which errors use too: who submitted it, and the how manieth it was.
    pub task: String,
    /// The function that it runs.
    pub function: String,
    /// Where it runs, or what it waits for.
    pub state: String,
}

/// What `tasks` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskList {
    /// How many there are.
    pub counts: TaskCounts,
    /// The first of them: those that run, those that wait for a node, those that wait for arguments.
    pub tasks: Vec<TaskInfo>,
}

/// A node as `status` lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its number in this life.
    pub number: u64,
    /// `joining`, `alive`, `suspect`, `draining`, `dead` or `left`.
    pub state: String,
    /// Where it listens.
    pub address: String,
    /// What it has.
    pub resources: Resources,
    /// Its budget for blocks.
    pub memory_budget: Bytes,
}

/// What `status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: String,
    /// Cores that jobs may use.
    pub cpus: usize,
    /// The smallest budget for blocks of a node.
    pub memory_budget: Bytes,
    /// Size that blocks aim at.
    pub block_bytes: Bytes,
    /// The nodes, the head first.
    pub nodes: Vec<NodeInfo>,
    /// Jobs that run.
    pub jobs: usize,
}
