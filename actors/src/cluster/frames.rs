//! What the head and the pool of a node say to each other over a task stream: tasks one way, results the other.
//!
//! The head pulls tasks from an operator's queue and sends as many as the node has workers, and as many again, whose
//! inputs the node fetches while the others run. Room is the head's: a task that needs some asks (`NeedRoom`) and is
//! answered (`Room`, or `PutBack` if an older task wants the worker). With its results a task tells what room it has
//! `left`; what is neither result nor left is free again. A pool whose workers need leases gets tasks once it said `Leased`:
//! until then others may run them. `Why` is answered by `Why`, one at a time.

use serde::{Deserialize, Serialize};

use crate::block::{BlockId, BlockName};
use crate::job::DeviceStats;
use crate::job::why::picture::PoolPicture;
use crate::logs::LogsFrame;
use crate::operator::Split;
use crate::units::{Bytes, Rows};

/// From the head to a node's pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ToPool {
    /// Run this.
    Task(TaskFrame),
    /// Room that this attempt asked for.
    Room { seq: u64, attempt: u32, bytes: Bytes },
    /// An older task needs a worker: this attempt goes back.
    PutBack { seq: u64, attempt: u32 },
    /// No more tasks will come.
    Close,
    /// Nobody needs more of this operator.
    Stop,
    /// What do your workers wait for?
    Why,
}

/// A task on its way to a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TaskFrame {
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
    pub(crate) from: Rows,
    /// Where the attempt ends, if the input does not end before.
    pub(crate) until: Rows,
    pub(crate) input: InputFrame,
}

/// What a task works on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum InputFrame {
    /// Up to a row.
    Split(u32, Split, Rows),
    Pieces(Vec<PieceFrame>),
}

/// Rows of a block, wherever it lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PieceFrame {
    pub(crate) block: BlockName,
    pub(crate) from: usize,
    pub(crate) rows: usize,
}

/// From a node's pool to the head.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum FromPool {
    /// Results of an attempt; the blocks stay on the node until the head lets them go.
    Emitted { seq: u64, attempt: u32, results: Vec<BlockName>, left: Bytes, progress: Rows, done: bool },
    /// An attempt failed; in a call, it was with the rows up to `reached`. The chain of causes.
    Failed { seq: u64, attempt: u32, reached: Option<Rows>, cause: Vec<String> },
    /// The attempt stopped where its results end.
    PutBack { seq: u64, attempt: u32 },
    /// The worker died with the attempt.
    Lost { seq: u64, attempt: u32, exit: String },
    /// What operators logged.
    Logs(LogsFrame),
    /// Parts of a task's input that were given up.
    Skipped { seq: u64, reasons: Vec<String> },
    /// The attempt needs room.
    NeedRoom { seq: u64, attempt: u32, bytes: Bytes },
    /// What the node's workers did since the last such frame, and how many there are.
    Metrics(MetricsFrame),
    /// The pool gave up: the chain of causes.
    GaveUp { worker: usize, cause: Vec<String> },
    /// What its workers wait for.
    Why(PoolPicture),
    /// Its first worker has its lease.
    Leased,
    /// The last worker has ended; nothing follows.
    Ended,
}

impl FromPool {
    /// The blocks that it names: whoever drops it unsent lets them go, since the head will never know of them.
    pub(crate) fn blocks(&self) -> Vec<BlockId> {
        match self {
            Self::Emitted { results, .. } => results.iter().map(|name| name.id).collect(),
            _ => Vec::new(),
        }
    }
}

/// Times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MetricsFrame {
    pub(crate) rows_in: u64,
    pub(crate) busy: u64,
    pub(crate) waited_input: u64,
    pub(crate) waited_room: u64,
    pub(crate) waited_lease: u64,
    pub(crate) workers: usize,
    /// The devices of its workers, by worker, if anything about them changed: all since their start.
    pub(crate) devices: Vec<(usize, DeviceStats)>,
}
