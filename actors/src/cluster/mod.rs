//! Many nodes as one: the head places the workers of a job on all nodes, blocks stay where they were made.
//!
//! The operators of a job live on the head; [`sites`] is the pool of one of them whose workers live elsewhere, [`agent`]
//! what opens and feeds those workers on their node, [`frames`] what the two say to each other. Start there. The thinking
//! is in pure modules: [`membership`] (who is there), [`placement`] (where work goes), [`share`] (whose job is served
//! next), [`restart`] (what need not be run again after a loss).

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod ids;
pub mod membership;
pub mod placement;

pub(crate) mod agent;
pub(crate) mod asker;
pub(crate) mod build_id;
pub(crate) mod bytes;
pub(crate) mod detour;
pub(crate) mod driver;
pub(crate) mod frames;
pub(crate) mod gate;
pub(crate) mod head;
pub(crate) mod here;
pub(crate) mod inputs;
pub(crate) mod jobs;
pub(crate) mod lent;
pub(crate) mod link;
pub(crate) mod local;
pub(crate) mod member;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod objects;
pub(crate) mod offers;
pub(crate) mod peers;
pub(crate) mod relay;
pub(crate) mod restart;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod site;
pub(crate) mod sites;
pub(crate) mod sockets;
pub(crate) mod tasks;
mod watch;

pub use driver::{Driver, DriverConfig, DriverJob, DriverWatch, join};
pub use head::{ClusterJob, Head};
pub use local::LocalCluster;
pub use member::{ClusterError, Member, MemberConfig};
pub use messages::{CancelOutcome, ClusterStatus, JobInfo, NodeInfo, TaskInfo, TaskList};
pub use mobula_transport::{Authority, Identity, JoinError, Limits, NodeId, Role, Token};
pub use objects::ObjectStats;
pub use server::{HeadConfig, HeadServer};
pub use sockets::Sockets;
pub use watch::ClusterWatch;
