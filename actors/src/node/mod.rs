//! A node: the root supervisor of a process, and the handles by which a driver starts and watches jobs.

mod config;
mod handle;

pub use config::NodeConfig;
pub use handle::{Canceller, JobHandle, JobWatch, Node, NodeError};
