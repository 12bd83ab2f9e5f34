//! The actor runtime of Mobula: *who* computes, *when*, within which limits.
//!
//! It knows blocks as opaque Arrow batches with a size, operators, resources, failure and supervision. It does not
//! know what a column means (that is the crate `mobula`) nor how bytes cross a network (`mobula-transport`).
//! Start reading at [`operator`], the vocabulary that the upper layer compiles a plan into, then [`job`], which runs it.

pub mod actor;
pub mod block;
pub mod cluster;
pub mod function;
pub mod isolated;
pub mod job;
pub mod ledger;
pub mod logs;
pub mod node;
pub mod operator;
#[cfg(feature = "plant")]
pub mod plant;
pub mod runtime;
pub mod sim;
pub mod task;
pub mod units;

#[cfg(not(feature = "plant"))]
mod plant;
mod pool;
mod scheduler;
mod store;

/// The actor crate of the data plane, for actors that users write.
pub use actix;
pub use mobula_macros::{actor, operator, remote, source};

/// What the code needs that the attribute macros write. Not for use by hand; `mobula` re-exports it.
#[doc(hidden)]
pub mod __private {
    pub use actix;
    pub use linkme;

    pub use crate::actor::{
        Accepts, MessageEntry, NamedActor, TakeSnapshot, Work, host_actor, message_entry, take_snapshot,
    };
    pub use crate::function::generated::{
        batch_function, build_operator, build_source, is_argument, is_outcome, is_owned_argument, is_parameter,
        named_source, named_spec, source_travels, travels,
    };
    pub use crate::function::registry::TASKS;
    pub use crate::function::registry::{ACTORS, ActorEntry, OPERATORS, OperatorEntry, SOURCES, SourceEntry, decode};
    pub use crate::ledger::recorder::RECORDERS;
    pub use crate::operator::{IntoOperator, IntoSource, OperatorSpec, SourceSpec};
    pub use crate::task::{Batch, Call, Given, IntoArg, Results, StreamTask, Task, TaskEntry, TaskOutcome, TaskValue};
}
