//! Why an actor gave no answer, or could not be spawned.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::operator::BoxError;

/// Why an actor gave no answer, or could not be spawned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ActorError {
    /// No answer in time. Whether the actor acted on the message is not known; one that it has not begun is not begun
    /// any more.
    #[error("the actor did not answer within {0:?}; whether it acted on the message is not known")]
    Deadline(Duration),
    /// It died while it had this message. A fresh incarnation has taken its place.
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
    /// There is no actor of this number and kind on its node (any more).
    #[error("there is no such actor (any more): it was stopped, or its driver is gone")]
    NotHere,
    /// The way to its node broke; whether it acted on the message is not known.
    #[error("the way to the actor's node broke ({0}); whether it acted on the message is not known")]
    Cut(String),
    /// Another actor has this name.
    #[error("an actor named {0:?} is there already; look it up, stop it, or take another name")]
    NameTaken(String),
    /// No actor has this name.
    #[error("no actor is named {0:?} (any more)")]
    NoSuchName(String),
    /// No node can ever give what it asks for, or what it asks for stayed in use.
    #[error("the actor has no place: {0}")]
    NoPlace(String),
    /// What was asked for cannot be done.
    #[error("refused: {0}")]
    Refused(String),
    /// The head is gone, or its answer makes no sense.
    #[error("the head did not answer: {0}")]
    Head(String),
    /// The session or node that the handle belongs to has ended.
    #[error("the session of this handle has ended")]
    SessionEnded,
    /// The handle was decoded where no session is known.
    #[error("this handle was decoded outside of a session; tie it to one by `ActorHandle::of`")]
    NoSession,
}

impl ActorError {
    pub(crate) fn refused(error: BoxError) -> Self {
        Self::Refused(crate::job::texts(&*error).join(": "))
    }

    /// Whether the actor is gone for good.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::GaveUp { .. } | Self::NodeLost | Self::NotHere | Self::SessionEnded)
    }
}
