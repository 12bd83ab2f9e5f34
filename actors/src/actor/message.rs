//! What processes say to each other about actors: calls to the directory, calls to a node, frames of a stream of messages.
//! See `docs/internals/wire.md`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ActorError, ActorId};
use crate::job::Resources;
use crate::runtime::RestartBudget;
use crate::task::wire::Blob;

/// The head of a stream between two processes: what travels on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StreamHead {
    /// Messages to actors of the node with this number ([`AskFrame`]s one way, [`ReplyFrame`]s the other).
    Actors { to: u64 },
    /// Tasks and stored values, between a party and the head.
    Tasks,
}

/// A message on its way to an actor of the node that the stream leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskFrame {
    /// The sender's number for it.
    pub(crate) seq: u64,
    pub(crate) actor: u64,
    /// Which of its messages.
    pub(crate) message: u16,
    pub(crate) body: Blob,
    /// How long the sender waits for the reply; `None` for a tell.
    pub(crate) left: Option<Duration>,
}

/// A message is done with. Its place in the sender's window is free again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplyFrame {
    pub(crate) seq: u64,
    /// Empty for a tell.
    pub(crate) result: Result<Blob, ActorError>,
}

/// What actor to spawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ActorOrder {
    /// The registered name.
    pub(crate) kind: String,
    /// The encoded start state.
    pub(crate) start: Blob,
    pub(crate) restarts_max: u32,
    pub(crate) window: Duration,
    pub(crate) resources: Resources,
    pub(crate) own_thread: bool,
    pub(crate) mailbox: u32,
    pub(crate) snapshot_every: Option<u64>,
    /// Time for a place to be free and the first incarnation to stand.
    pub(crate) within: Duration,
}

impl ActorOrder {
    pub(crate) fn budget(&self) -> RestartBudget {
        RestartBudget::new(self.restarts_max, self.window)
    }
}

/// Where to spawn an actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PlaceFrame {
    /// Wherever there is room.
    Anywhere,
    /// On the node of this name.
    Named(String),
    /// On the node of this number.
    Numbered(u64),
}

/// A process to the directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum DirectoryCall {
    /// Spawn an actor. Unless `detached` it ends with the caller's connection.
    Spawn { place: PlaceFrame, name: Option<String>, detached: bool, order: ActorOrder },
    /// Which actor has this name?
    Lookup { name: String },
    /// Pass this on to the node of the actor.
    To { id: ActorId, call: ActorCall },
    /// The actor does not end with its spawner any more.
    Detach { id: ActorId },
    /// This actor of the calling node has ended by itself.
    Ended { id: ActorId },
    /// Does this life of a node go on?
    Lives { node: u64 },
}

/// The directory to a node, of one actor there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum ActorCall {
    /// Spawn it; answered once its first incarnation stands. Not for others than the directory.
    Spawn { order: ActorOrder },
    /// Is it there, and of this kind?
    Find { kind: String },
    /// Which incarnation of it lives?
    Incarnation,
    /// Take a snapshot now.
    Snapshot,
    /// Stop it. One that is not there is no error.
    Stop,
}

/// The answer to either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ActorAnswer {
    /// It stands, or has this name.
    Is { id: ActorId },
    /// The number of the incarnation that lives.
    Incarnation { incarnation: u64 },
    /// It is there, was stopped, or was detached.
    Done,
    /// It cannot be done.
    Failed { error: ActorError },
}

impl From<Result<ActorAnswer, ActorError>> for ActorAnswer {
    fn from(result: Result<ActorAnswer, ActorError>) -> Self {
        result.unwrap_or_else(|error| Self::Failed { error })
    }
}

impl ActorAnswer {
    /// The failure as an error.
    pub(crate) fn checked(self) -> Result<Self, ActorError> {
        match self {
            Self::Failed { error } => Err(error),
            answer => Ok(answer),
        }
    }
}

/// An answer that does not fit the question.
pub(crate) fn odd(answer: &ActorAnswer) -> ActorError {
    ActorError::Head(format!("it does not fit the question: {answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::super::MESSAGE_BYTES_MAX;
    use super::*;
    use mobula_transport::codec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_harm(bytes: Vec<u8>) {
            let _ = codec::decode::<DirectoryCall>(&bytes, MESSAGE_BYTES_MAX);
            let _ = codec::decode::<ActorCall>(&bytes, MESSAGE_BYTES_MAX);
            let _ = codec::decode::<ActorAnswer>(&bytes, MESSAGE_BYTES_MAX);
            let _ = codec::decode::<Vec<AskFrame>>(&bytes, MESSAGE_BYTES_MAX);
            let _ = codec::decode::<Vec<ReplyFrame>>(&bytes, MESSAGE_BYTES_MAX);
        }
    }
}
