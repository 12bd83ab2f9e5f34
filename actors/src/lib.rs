//! The actor runtime of Mobula: *who* computes, *when*, within which limits.
//!
//! It knows blocks as opaque Arrow batches with a size, operators, resources, failure and supervision. It does not
//! know what a column means (that is the crate `mobula`) nor how bytes cross a network (`mobula-transport`).
//! Start reading at [`operator`], the vocabulary that the upper layer compiles a plan into, then [`job`], which runs it.

pub mod block;
pub mod function;
pub mod job;
pub mod node;
pub mod operator;
pub mod runtime;
pub mod units;

mod pool;
mod scheduler;
mod store;

pub use linkme;
pub use mobula_macros::{operator, remote};
