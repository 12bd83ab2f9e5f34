//! What the parts of a job say of what they wait for, at one moment: gathered by the job's actor, and from nodes by way of
//! their task streams. Times are how long something lasts already, since no two processes have one clock.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::runtime::room::RoomEdge;
use crate::units::{Bytes, Rows};

/// A job.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct JobPicture {
    /// In the order of the topology.
    pub(crate) operators: Vec<OperatorPicture>,
    pub(crate) driver: DriverPicture,
}

/// Whoever takes the results.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DriverPicture {
    pub(crate) at: DriverAt,
    pub(crate) since: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum DriverAt {
    /// It has not asked for the next block.
    #[default]
    Away,
    /// It waits for the next block.
    Asks,
    /// It records results in the job's ledger.
    Records,
    /// It fetches a block from the node of this number.
    Fetches(u64),
    /// It reads one back from disk.
    Restores,
}

/// An operator and its workers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OperatorPicture {
    pub(crate) name: Arc<str>,
    pub(crate) inputs: Vec<usize>,
    /// What its actor says; nothing if it did not answer.
    pub(crate) shell: Option<ShellPicture>,
    /// Its workers: in this process, or on each node.
    pub(crate) pools: Vec<PlacedPool>,
}

/// What an operator's actor says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ShellPicture {
    pub(crate) done: bool,
    /// A block waits for room at the port of the next operator.
    pub(crate) leaving: Option<RoomWait>,
    /// The task that all its other results wait for, or else the oldest that is not done.
    pub(crate) oldest: Option<TaskPicture>,
    /// Tasks that are not done.
    pub(crate) running: usize,
    /// Room that its results take before they leave.
    pub(crate) window: Filled,
}

/// How full something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filled {
    pub(crate) taken: Bytes,
    /// What it may take if others leave it that much.
    pub(crate) of: Bytes,
    pub(crate) things: usize,
}

impl Filled {
    pub(crate) fn of(edge: &RoomEdge) -> Self {
        let (taken, things, of) = edge.filled();
        Self { taken, of, things }
    }
}

/// Somebody waits for room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RoomWait {
    pub(crate) bytes: Bytes,
    pub(crate) since: Duration,
    pub(crate) room: Filled,
}

/// A task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskPicture {
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
    /// What it works on.
    pub(crate) what: String,
}

/// The workers of an operator in one place.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PlacedPool {
    /// The node; `None` in this process.
    pub(crate) node: Option<Arc<str>>,
    /// Its number, which blocks carry.
    pub(crate) number: u64,
    /// Tasks that are there, by number.
    pub(crate) tasks: Vec<u64>,
    /// What the node says; nothing if it did not answer, for so long.
    pub(crate) pool: Option<PoolPicture>,
    pub(crate) silent: Duration,
}

/// What a pool says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PoolPicture {
    pub(crate) workers: Vec<WorkerPicture>,
    pub(crate) lease: Option<LeasePicture>,
    /// Turns of workers of other jobs are out where these workers are.
    pub(crate) others_compute: bool,
    /// Tasks whose inputs are not all there.
    pub(crate) inputs: Vec<InputPicture>,
    /// Threads of the job that were left behind there.
    pub(crate) left_behind: usize,
}

/// Workers that wait for resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeasePicture {
    /// How many wait.
    pub(crate) workers: usize,
    /// What each needs.
    pub(crate) wanted: String,
    pub(crate) since: Duration,
    /// Who holds leases there, in words.
    pub(crate) held_by: String,
}

/// A task whose input is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputPicture {
    pub(crate) seq: u64,
    pub(crate) at: InputAt,
    pub(crate) since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InputAt {
    /// It waits for room for copies.
    Room(Bytes),
    /// A block is fetched from the node of this number.
    Fetch(u64),
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerPicture {
    pub(crate) worker: usize,
    pub(crate) at: At,
    pub(crate) since: Duration,
    /// The task that it is at.
    pub(crate) task: Option<TaskPicture>,
    /// All tasks that it has pulled, by number: several where it feeds a device.
    pub(crate) holds: Vec<u64>,
    /// The step that runs, where several are fused.
    pub(crate) step: Option<String>,
}

impl WorkerPicture {
    /// Step, task and rows, in words.
    pub(crate) fn what(&self) -> String {
        let mut parts: Vec<String> = self.step.iter().map(|step| format!("step {step:?}")).collect();
        if let Some(TaskPicture { seq, attempt, what }) = &self.task {
            parts.push(format!("task {seq} ({what}), attempt {attempt}"));
        }
        if let At::Computing { from, rows: Some(rows) } = self.at {
            parts.push(format!("rows {} to {}", from.0, from.0.saturating_add(rows)));
        }
        parts.join(", ")
    }

    /// What it does that does not come back, in words.
    pub(crate) fn call(&self) -> String {
        match self.at {
            At::Restoring => format!("reading back from disk: {}", self.what()),
            At::Closing => "close() of its operator".to_owned(),
            _ => self.what(),
        }
    }
}

/// Where a worker is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum At {
    /// It opens its operator: loads a model, say.
    #[default]
    Opening,
    /// It waits for a task.
    Input,
    /// It waits for a turn on a core.
    Turn,
    /// It waits for room for results.
    Room(Bytes),
    /// It waits for its device, to which it has handed all it may.
    Device,
    /// User code runs, on rows from this one on: so many, or as many as there are.
    Computing { from: Rows, rows: Option<u64> },
    /// Its device runs user code on so many rows.
    OnDevice { rows: u64 },
    /// It reads the input of its task back from disk.
    Restoring,
    /// It closes its operator: there are no more rows.
    Closing,
}
