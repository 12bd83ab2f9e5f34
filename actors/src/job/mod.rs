//! Jobs: one run of one topology.
//!
//! [`Topology`] is what runs, [`JobError`] why it did not, [`JobSummary`] what it did. The actor is in `actor`, the way a
//! topology is stood up in `build`, the division of memory among its edges in `limits` (pure).

mod actor;
mod build;
mod delivery;
mod error;
mod limits;
mod summary;
mod topology;

pub(crate) use actor::{Job, JobArguments, JobMessage, explain};
pub(crate) use build::pool_shared;
pub(crate) use delivery::{DELIVERY_BLOCKS_MAX, Delivery};
pub use error::JobError;
pub(crate) use error::WorkerGaveUp;
pub use summary::{JobSummary, OperatorState, OperatorStats};
pub use topology::{Logic, OperatorPlan, Resources, Topology, TopologyError, Workers};
