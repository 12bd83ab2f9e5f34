//! Functions, operators, sources and actors that travel by name: the registry that the attribute macros fill at link time.

pub(crate) mod generated;
pub mod registry;

pub use generated::{build_source, named_source};
pub use registry::{ActorEntry, OperatorEntry, SourceEntry, decode, encode, names};
