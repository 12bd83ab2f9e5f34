//! The handles that a driver holds.

use crate::block::Block;
use crate::job::{JobError, JobSummary, Topology};
use crate::node::NodeConfig;
use crate::units::Bytes;

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The system refused a thread or a runtime.
    #[error("cannot start the node's threads")]
    Threads(#[from] std::io::Error),
    /// A limit makes no sense.
    #[error("configuration: {0}")]
    Config(String),
}

/// A running node. Cheap to clone; the last clone stops it.
#[derive(Clone)]
pub struct Node {}

impl Node {
    /// Starts a node on this machine; opens no socket.
    ///
    /// # Errors
    /// If a limit makes no sense or the system refuses a thread.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let _ = config;
        Ok(Self {})
    }

    /// CPU cores that workers compute on at once.
    pub fn cpus(&self) -> usize {
        1
    }

    /// The memory budget for blocks.
    pub fn memory_budget(&self) -> Bytes {
        Bytes::mib(256)
    }

    /// The size that blocks aim at.
    pub fn block_bytes(&self) -> Bytes {
        Bytes::mib(8)
    }

    /// Starts a job.
    ///
    /// # Errors
    /// If the node cannot ever give what an operator asks for.
    pub fn submit(&self, topology: Topology) -> Result<JobHandle, JobError> {
        let _ = topology;
        Err(JobError::Cancelled)
    }
}

/// A job as its driver sees it. Dropping the handle cancels a job that still runs.
pub struct JobHandle {}

impl JobHandle {
    /// The next block of the last operator, waiting for it; `None` when the job has finished. The block's room is given
    /// back to the job when the next block is asked for.
    ///
    /// # Errors
    /// Why the job failed.
    pub fn next_block(&mut self) -> Result<Option<Block>, JobError> {
        Ok(None)
    }

    /// A picture of the job now.
    pub fn summary(&self) -> JobSummary {
        JobSummary::default()
    }

    /// A handle that can cancel the job from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller {}
    }

    /// A handle that can picture the job from another thread while this one waits for blocks.
    pub fn watch(&self) -> JobWatch {
        JobWatch {}
    }
}

/// Pictures a job. Cheap to clone; does not keep the job alive.
#[derive(Clone)]
pub struct JobWatch {}

impl JobWatch {
    /// A picture of the job now; the last one once the job has ended.
    pub fn summary(&self) -> JobSummary {
        JobSummary::default()
    }
}

/// Cancels a job. Cheap to clone.
#[derive(Clone)]
pub struct Canceller {}

impl Canceller {
    /// Stops the job; its driver sees [`JobError::Cancelled`].
    pub fn cancel(&self) {}
}
