//! Tasks on a cluster: the head's desk and the ways of the parties to it.
//!
//! [`desk`] is the shell round the head's [`Directory`](crate::task::directory); [`link`] the other end, in a driver or a
//! node. Between them is one stream for each party on its control connection, many messages to a frame ([`pack`]). The
//! head's own node is a party like the others, without a wire. Large values do not travel here: whoever needs one fetches
//! it from a node that has it, on data connections, as blocks are fetched.

pub(crate) mod desk;
pub(crate) mod link;
pub(crate) mod pack;

pub(crate) use desk::Desk;
pub(crate) use link::{DriverWay, NodeWay, TaskLink};
