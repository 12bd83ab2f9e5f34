//! The pure thinking of a cluster: who is there, where work goes, whose turn it is, what is finished.
//!
//! No sockets, clocks, tasks or addresses: what happened comes in by `on_*` methods with the time since the start, what
//! follows from it is returned, and the actors round it carry it out. Start at [`membership`]; [`placement`]
//! chooses among its members, [`share`] says whose job is served next, [`progress`] what need not be run again after a
//! loss, and [`ids`] names nodes and jobs.

pub mod ids;
pub mod membership;
pub mod placement;
pub mod progress;
pub mod share;
