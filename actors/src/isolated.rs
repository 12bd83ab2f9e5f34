//! Operators in processes of their own, as programs see them: the role that a program takes, and how a process ended.
//!
//! What is marked is in [`operator::Isolation`](crate::operator::Isolation); how it works in `pool::isolated`.

pub use crate::pool::isolated::isolated_worker;
#[cfg(unix)]
pub use crate::pool::isolated::{HowItEnded, ProcessDied};
