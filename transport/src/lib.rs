//! How *bytes* reach another node: identities, endpoints, calls, task streams, blocks, and the codec below all of them.
//!
//! It knows no Arrow and no actors. Between nodes everything is QUIC with TLS 1.3 and a certificate of the cluster on both
//! sides; `docs/internals/wire.md` tells the protocol message by message. Start at [`Endpoint`], then [`Connection`].
//!
//! ```
//! use std::time::Duration;
//! use mobula_transport::{About, Authority, Config, Endpoint, Inbound, Lane, Limits, NodeId, Role};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let authority = Authority::create(&dir.path().join("cluster"))?;
//! let start = |role, node: &str| {
//!     let config = Config {
//!         identity: authority.issue(role, NodeId::new(node).unwrap()).unwrap(),
//!         listen: "127.0.0.1:0".parse().unwrap(),
//!         about: About { build: "b1".into(), ..About::default() },
//!         limits: Limits::default(),
//!         authority: None,
//!         socket: None,
//!     };
//!     Endpoint::start(config, |_peer| Ok(Vec::new()))
//! };
//! let (head, node) = (start(Role::Head, "head")?, start(Role::Node, "n1")?);
//!
//! let to_head = node.connect(head.local_addr(), Lane::Control).await?;
//! let to_node = head.accept().await.expect("the endpoint is open");
//! let serve = async {
//!     let Ok(Inbound::Call(call)) = to_node.accept().await else { return };
//!     let number: u32 = call.decode().unwrap();
//!     call.reply(&(number + 1)).await.unwrap();
//! };
//! let (reply, ()) = tokio::join!(to_head.call::<u32, u32>(&41, Duration::from_secs(5)), serve);
//! assert_eq!(reply?, 42);
//! # Ok(()) }
//! ```

mod accept;
pub mod authority;
pub mod backoff;
pub mod block;
mod borrowed;
pub mod call;
pub mod closed;
pub mod codec;
pub mod connection;
pub mod endpoint;
mod files;
mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod held;
pub mod hello;
pub mod identity;
mod inbound;
pub mod join;
pub mod limits;
mod link;
pub mod name;
mod settings;
pub mod sim;
mod socket;
pub mod stream;
mod task;
mod tls;
pub mod token;

pub use authority::Authority;
pub use backoff::Backoff;
pub use block::{BlockReceiver, FetchError, IncomingFetch};
pub use call::{CallError, IncomingCall, ReplyError};
pub use closed::{ClosedReason, Refusal, RefusalKind};
pub use codec::CodecError;
pub use connection::{Connection, Inbound};
pub use endpoint::{Config, ConnectError, Endpoint, EndpointError, Refused};
pub use hello::{About, Lane, PROTOCOL_VERSION, Peer};
pub use identity::{Identity, IdentityError};
pub use join::{JoinError, join, join_as, join_through};
pub use limits::{Congestion, Limits};
pub use name::{ClusterId, NameError, NodeId, Role};
/// What an endpoint sends and receives packets through.
pub use quinn::AsyncUdpSocket;
pub use sim::SimNetwork;
pub use stream::{FrameReceiver, FrameSender, StreamError};
pub use token::{Token, TokenError};
