//! Pools: equal workers, each an actor on a thread of its own, that pull tasks from one queue.
//!
//! [`queue`] is what they pull from, [`worker`] the actor, [`task`] what it runs. [`supervisor`] starts workers and
//! restarts those that die. [`doing`] is what each worker is at; those in calls that do not come back are given up in
//! `stuck`. How a task's input is cut is decided in [`slices`], which is pure. Workers of GPUs keep theirs
//! fed by way of [`device`]; operators that may take a process down have one of their own ([`isolated`]).

pub(crate) mod doing;
pub(crate) mod grants;
pub(crate) mod held_back;
#[cfg(unix)]
pub(crate) mod isolated;
#[cfg(not(unix))]
#[path = "isolated/elsewhere.rs"]
pub(crate) mod isolated;
pub(crate) mod metrics;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod supervisor;
pub(crate) mod task;
pub(crate) mod window;
pub(crate) mod worker;

mod blocks;
mod chain;
mod device;
mod input;
mod outbox;
mod picture;
mod run;
mod slices;
mod stuck;
