//! Remote actors: a driver spawns a supervised actor on a node, asks it, and sees it restart.
//!
//! Who does what: [`handle`] is the driver's side and what users hold; [`route`] is the head's, which passes calls on and
//! stops the actors of a driver that is gone; [`host`] is the node's, with the actors; [`shell`] is the actix actor round
//! a user's value; [`message`] is what they say to each other. What dies with what: a panic costs an incarnation, and the
//! next one begins with the start state; the restart budget used up ends the actor; so does the end of its node's life,
//! of its driver (unless it was detached), or of its handle. An actor does not move to another node.
//!
//! The way is driver, head, node and back, on control connections: messages of up to 256 KiB. Data travels as blocks.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mobula_transport::codec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::operator::BoxError;

pub(crate) mod handle;
pub(crate) mod host;
pub(crate) mod message;
pub(crate) mod route;
pub(crate) mod shell;

pub use handle::RemoteHandle;
pub use shell::{AnyActor, build_actor};

/// Bytes of a start state, a request or a reply. All asks that a node takes at a time ([`NODE_ASKS_MAX`]) then fill half
/// of what its control connection lets in (64 MiB), and block releases beside them are not held up.
pub const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Asks of one actor that wait or are handled; more are refused ([`RemoteError::Busy`]). An actor handles one at a time:
/// who wants more of them under way wants more actors.
pub const ASKS_MAX: usize = 32;
/// Asks that one node takes at a time, and that the head takes of one driver: half of the 256 calls that a connection
/// lets in, so that slow actors never hold up what else travels there.
pub const NODE_ASKS_MAX: usize = 128;
/// Remote actors on one node. Each has a thread of its own.
pub const NODE_ACTORS_MAX: usize = 256;

/// Time for an actor's first incarnation to stand: its start state may load what it needs.
pub(crate) const SPAWN_DEADLINE: Duration = Duration::from_secs(60);

/// An actor that can be spawned on another node. Its value is its start state: it travels once, and each incarnation is
/// a fresh one decoded from it.
///
/// Write `#[mobula::remote_actor(name = "…")]` on the implementation, which puts it into the registry of the binary.
/// Each actor has a thread of its own, so `handle` may compute and wait as long as it likes.
///
/// ```
/// use mobula_actors::cluster::RemoteActor;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Counter { count: u64 }
///
/// #[mobula_actors::remote_actor(crate = mobula_actors, name = "counter@1")]
/// impl RemoteActor for Counter {
///     type Request = u64;
///     type Reply = u64;
///
///     fn handle(&mut self, request: u64) -> u64 {
///         self.count += request;
///         self.count
///     }
/// }
/// ```
pub trait RemoteActor: Serialize + DeserializeOwned + 'static {
    /// What it is asked; at most [`MESSAGE_BYTES_MAX`] encoded.
    type Request: Serialize + DeserializeOwned;
    /// What it answers; at most [`MESSAGE_BYTES_MAX`] encoded.
    type Reply: Serialize + DeserializeOwned + Send + 'static;

    /// Handles one request. A panic ends this incarnation.
    fn handle(&mut self, request: Self::Request) -> Self::Reply;
}

/// The name of a remote actor in the registry; `#[remote_actor]` writes it.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no name in the registry",
    note = "write `#[mobula::remote_actor]` on `impl RemoteActor for {Self}`"
)]
pub trait NamedActor: RemoteActor {
    /// The registered name.
    const NAME: &'static str;
}

/// A remote actor's address in its cluster: the number of its node's life, and its own. Neither comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActorId {
    pub(crate) node: u64,
    pub(crate) number: u64,
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.number)
    }
}

/// The text is no actor's number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a remote actor's number is its node's and its own, as in 3/17")]
pub struct ActorIdError;

impl FromStr for ActorId {
    type Err = ActorIdError;

    fn from_str(text: &str) -> Result<Self, ActorIdError> {
        let (node, number) = text.split_once('/').ok_or(ActorIdError)?;
        let parse = |text: &str| text.parse().map_err(|_| ActorIdError);
        Ok(Self { node: parse(node)?, number: parse(number)? })
    }
}

/// Why a remote actor gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RemoteError {
    /// No answer in time. Whether the actor acted on the request is not known; one that it has not begun is not begun
    /// any more.
    #[error("the actor did not answer within {0:?}; whether it acted on the request is not known")]
    Deadline(Duration),
    /// This request made it panic. A fresh incarnation with the start state has taken its place.
    #[error("the actor {cause}; incarnation {incarnation} has taken its place")]
    Panicked {
        /// What it did: `panicked: …`.
        cause: String,
        /// The number of the incarnation that came after.
        incarnation: u64,
    },
    /// It died more often than its restart budget allows, and answers no more.
    #[error("the actor {cause}; its restarts are used up: {restarts}")]
    GaveUp {
        /// How often it was restarted.
        restarts: u64,
        /// How it died last: `panicked: …`, or `could not be built: …`.
        cause: String,
    },
    /// The life of its node is over, and the actor's with it.
    #[error("the node of the actor is gone, and the actor with it; spawn it on another node")]
    NodeLost,
    /// There is no actor of this number and name on its node (any more).
    #[error("there is no such actor (any more): it was stopped, or its driver is gone")]
    NotHere,
    /// As many asks as may be are under way.
    #[error("{asks_max} asks are under way, which is the limit; ask again when some are answered")]
    Busy {
        /// The limit that was met.
        asks_max: usize,
    },
    /// What was asked for cannot be done.
    #[error("refused: {0}")]
    Refused(String),
    /// The head is gone, or its answer makes no sense.
    #[error("the head did not answer: {0}")]
    Head(String),
}

/// Encodes a start state, a request or a reply.
pub(crate) fn encode<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>, BoxError> {
    codec::encode(value, MESSAGE_BYTES_MAX)
        .map_err(|error| format!("the {what} cannot travel: {error}; large data travels as blocks").into())
}

/// Decodes what [`encode`] made.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, BoxError> {
    codec::decode(bytes, MESSAGE_BYTES_MAX).map_err(|error| format!("the {what} cannot be read: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::message::{ActorAnswer, ActorCall, RemoteCall};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_too_large_to_travel_is_refused_with_the_way_out() {
        let error = encode("request", &vec![0u8; MESSAGE_BYTES_MAX + 1]).expect_err("too large").to_string();
        assert!(error.starts_with("the request cannot travel") && error.ends_with("travels as blocks"), "{error}");
    }

    #[test]
    fn an_actors_number_is_read_as_it_is_printed() {
        let id = ActorId { node: 3, number: u64::MAX };
        assert_eq!(id.to_string().parse(), Ok(id));
        for odd in ["", "3", "3/", "/3", "3/-1", "3/4/5"] {
            assert_eq!(odd.parse::<ActorId>(), Err(ActorIdError));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_harm(bytes: Vec<u8>) {
            let _ = codec::decode::<RemoteCall>(&bytes, MESSAGE_BYTES_MAX);
            let _ = codec::decode::<ActorCall>(&bytes, MESSAGE_BYTES_MAX);
            let _ = codec::decode::<ActorAnswer>(&bytes, MESSAGE_BYTES_MAX);
        }
    }
}
