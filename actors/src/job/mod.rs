//! Jobs: one run of one topology.
//!
//! [`Topology`] is what runs, [`WireTopology`] the form in which it travels, [`JobError`] why it did not run,
//! [`JobSummary`] what it did. The actor is in `actor`, the way a
//! topology is stood up in `build`, the division of memory among its edges in `limits` (pure).

pub(crate) mod actor;
mod build;
pub(crate) mod causes;
mod delivery;
mod error;
mod failures;
mod limits;
mod standstill;
mod summary;
pub(crate) mod taker;
mod topology;
pub(crate) mod why;
mod wire;

pub use crate::scheduler::shares::{Weight, WeightError};
pub(crate) use actor::{Job, JobArguments, JobMessage, explain};
pub(crate) use build::pool_shared;
pub(crate) use causes::{texts, told};
pub(crate) use delivery::{DELIVERY_BLOCKS_MAX, Delivery};
pub use error::JobError;
pub(crate) use error::WorkerGaveUp;
pub use failures::{BACKOFF_MAX, DeadLetter, ErrorBudget, FailurePolicy, LETTERS_SHOWN, PLACES_MAX, Place, Skip};
pub(crate) use failures::{Fallen, GivenUp};
pub use summary::{DeviceStats, JobSummary, OperatorState, OperatorStats};
pub use topology::{Logic, OPERATORS_MAX, OperatorPlan, Resources, Topology, TopologyError, Workers};
pub use why::{Cause, Why};
pub(crate) use wire::spec_to_wire;
pub use wire::{
    NotPortable, TOPOLOGY_BYTES_MAX, WireLogic, WireObject, WireOperator, WireSource, WireSpec, WireTopology,
};
