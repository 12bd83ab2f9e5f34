//! Functions and operators that travel by name: the registry that the attribute macros fill at link time.

pub(crate) mod generated;
pub mod registry;

pub use registry::{OperatorEntry, decode, encode};
