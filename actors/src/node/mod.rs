//! A node: the root supervisor of a process, and the handles by which a driver starts and watches jobs.

mod actor;
mod bring;
mod config;
mod handle;
mod job;

pub use crate::store::spill::SpillStats;
pub(crate) use actor::{Parts, memory_budget, resources};
pub use config::NodeConfig;
pub use handle::{Node, NodeError};
pub(crate) use handle::{job_name, workers_max};
pub use job::{JobHandle, JobWatch};
