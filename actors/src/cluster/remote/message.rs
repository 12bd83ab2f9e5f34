//! What driver, head and node say to each other about remote actors. See `docs/internals/wire.md`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ActorId, RemoteError};
use crate::runtime::RestartBudget;

/// A driver to the head.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum RemoteCall {
    /// Spawn an actor on the node of this name; it ends with the driver's connection.
    Spawn { node: String, order: ActorOrder },
    /// Pass this on to the node of the actor.
    To { id: ActorId, call: ActorCall },
    /// The actor does not end with its driver any more.
    Detach { id: ActorId },
}

/// What actor to spawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ActorOrder {
    /// The registered name.
    pub(crate) name: String,
    /// The encoded start state.
    pub(crate) start: Vec<u8>,
    pub(crate) restarts_max: u32,
    pub(crate) window: Duration,
}

impl ActorOrder {
    pub(crate) fn budget(&self) -> RestartBudget {
        RestartBudget::new(self.restarts_max, self.window)
    }
}

/// The head to a node, of one actor there; a driver to the head, of one actor anywhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ActorCall {
    /// Spawn it; answered once its first incarnation stands. Not for drivers.
    Spawn { order: ActorOrder },
    /// Let it handle a request.
    Ask { request: Vec<u8>, deadline: Duration },
    /// Is it there, and of this name?
    Find { name: String },
    /// Which incarnation of it lives?
    Incarnation,
    /// Stop it. One that is not there is no error.
    Stop,
}

/// The answer to either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ActorAnswer {
    /// It stands.
    Spawned { id: ActorId },
    /// The encoded reply.
    Reply { reply: Vec<u8> },
    /// The number of the incarnation that lives.
    Incarnation { incarnation: u64 },
    /// It is there, was stopped, or was detached.
    Done,
    /// It cannot be done.
    Failed { error: RemoteError },
}

impl From<Result<ActorAnswer, RemoteError>> for ActorAnswer {
    fn from(result: Result<ActorAnswer, RemoteError>) -> Self {
        result.unwrap_or_else(|error| Self::Failed { error })
    }
}
