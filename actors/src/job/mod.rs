//! Jobs: one run of one topology.

mod error;
mod summary;
mod topology;

pub use error::JobError;
pub use summary::{JobSummary, OperatorState, OperatorStats};
pub use topology::{Logic, OperatorPlan, Resources, Topology, Workers};
