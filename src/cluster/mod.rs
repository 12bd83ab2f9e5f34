//! More machines than one: what a program needs to be the head, a node or a driver of a cluster.
//!
//! A cluster has an authority, a folder made by [`init`] that never leaves the head's machine. Nodes and drivers come in
//! with a token of [`token`] and keep the identity that they got for it. [`start_head`] and [`start_node`] make a process
//! part of the cluster; [`driver_identity`] is what [`Session::connect`](crate::Session::connect) wants. All processes of
//! a cluster run one binary, so that a name means the same operator everywhere: a program with operators of its own
//! starts its own nodes, by [`main`](fn@crate::main) with the commands of `mobula`. The commands `cluster`, `node`, `token`
//! and `login` are these functions.

mod authority;
mod drivers;
mod lock;
mod logs;
mod start;

pub use authority::{init, token};
pub use drivers::{driver_folder, driver_identity, identity, keep_local, local_driver, login};
pub use logs::{OPERATOR_LOGS, operator_logs};
pub use mobula_actors::cluster::{
    CancelOutcome, ClusterError, ClusterStatus, Driver, DriverJob, DriverWatch, HeadServer, Identity, JobInfo, Limits,
    Member, NodeInfo, ObjectStats, Role, TaskInfo, TaskList, Token,
};
pub use mobula_actors::node::NodeConfig;
pub use mobula_actors::runtime::RestartBudget;
pub use start::{NodeOptions, StartedNode, start_head, start_node};

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::{Error, Result};

/// The first address that a text such as `127.0.0.1:4433` or `head.local:4433` stands for.
///
/// # Errors
/// If it is of another form, or its name is not known.
pub fn address(text: impl ToSocketAddrs) -> Result<SocketAddr> {
    let no = |reason: String| Error::invalid("an address", format!("{reason}; one is HOST:PORT, as in 127.0.0.1:4433"));
    let mut all = text.to_socket_addrs().map_err(|error| no(error.to_string()))?;
    all.next().ok_or_else(|| no("the name has no address".to_owned()))
}
