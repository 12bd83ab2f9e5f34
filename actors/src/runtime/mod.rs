//! The actor runtime: how actors of both crates are started, bounded, watched and restarted.
//!
//! `guardian` is the one place where the two actor crates meet: a ractor actor that starts an actix actor, learns of
//! its death and restarts it within a budget. `room` is what bounds mailboxes in bytes. [`env`] is where time,
//! chance and the [`disk`] come from. This module knows no operators and no jobs.

pub mod disk;
pub mod env;
pub mod port;
pub mod restart;
pub mod system;
pub mod threads;

pub(crate) mod alarm;
mod allocator;
pub(crate) mod budget;
pub(crate) mod guardian;
pub(crate) mod host;
pub(crate) mod left_behind;
pub(crate) mod line;
pub(crate) mod load;
pub(crate) mod net;
#[cfg(unix)]
pub(crate) mod process;
pub(crate) mod room;
pub(crate) mod tasks;
pub(crate) mod tell;
pub(crate) mod wait;
pub(crate) mod watch;

pub use disk::{Disk, DiskFile, DiskLock, SharedDisk, SystemDisk};
pub use env::{Env, SystemEnv};
pub use port::{Carried, Closed, Port, PortLimits};
pub use restart::RestartBudget;
pub use room::Permit;
pub use system::{ActorSystem, AskError, Supervised};
pub use threads::Threads;
pub use watch::Exit;
