//! The scheduler of a node: who may use which resources, and who goes first.
//!
//! Two kinds of claims. A [`Lease`] is asked of the scheduler actor and held as long as a worker lives: GPUs, memory,
//! named extras. A [`turns::Turn`] is a claim on CPU cores and is held only while a worker computes, never while it
//! waits; a worker takes it for each task, thousands of times a second, so it is a lock and not a message. Turns go to
//! jobs in proportion to their weights. Both serve the operators nearest to the sink first, so that a pipeline drains.

mod actor;
mod discover;
pub(crate) mod leases;
pub(crate) mod shares;
pub(crate) mod turns;

pub(crate) use actor::{Lease, SchedulerHandle, Wish};
pub(crate) use discover::{Machine, discover};
pub(crate) use leases::{Asker, First};
