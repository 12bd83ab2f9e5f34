//! The object store of a node: shards, each an actor that holds blocks until the last reference to them drops.
//!
//! Putting and releasing a block happen once for each block and operator, so they go straight to the shard's table,
//! under its lock: a message to another thread would cost more than the rest of a block's way (see
//! `benches/mailbox.rs`). The shard's actor owns the table and answers everything that may wait or that comes from
//! elsewhere. A block may move to disk and back while it is there ([`spill`]).

mod census;
mod shard;
mod stored;
mod table;

pub(crate) mod spill;

pub(crate) use shard::{LaunchShard, SharedTable, Store};
pub(crate) use stored::Stored;
