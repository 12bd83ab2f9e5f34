//! Tasks: functions that run somewhere, by reference to their arguments and results.
//!
//! Start with [`wire`](self), what the parties of a cluster say to each other, then `directory/`, the head's thinking.

#[allow(dead_code, unused_imports, reason = "see wire")]
mod directory;
#[allow(dead_code, reason = "see wire")]
mod error;
#[allow(dead_code, reason = "see above")]
mod ids;
#[allow(dead_code, reason = "what the head and nodes say to each other is wired up next")]
pub(crate) mod wire;

pub use error::TaskError;
pub use ids::{ObjectId, PartyId};
