//! How a process gets a stream to the actors of another node: straight where it can, else through the head.

use std::collections::BTreeMap;
use std::sync::Arc;

use mobula_transport::{Connection, Endpoint, FrameReceiver, FrameSender, Lane};

use super::ActorError;
use super::directory::{Directory, Owned};
use super::message::{ActorAnswer, DirectoryCall, StreamHead};
use super::places::Places;
use crate::block::NodeId;
use crate::cluster::link::CALL_DEADLINE;
use crate::cluster::members::Members;
use crate::cluster::messages::{DriverAnswer, DriverCall, NodeAnswer, NodeCall};
use crate::cluster::peers::{HEAD, connect};
use std::time::Duration;

/// What a process reaches others by.
pub(crate) enum Ways {
    /// It is alone.
    Alone { directory: Directory, owned: Owned },
    /// It is the head.
    Head { directory: Directory, owned: Owned, members: Arc<Members> },
    /// It is a node: its calls to the head, and its own endpoint.
    Node { head: Connection, places: Places, endpoint: Endpoint, known: tokio::sync::Mutex<BTreeMap<u64, Connection>> },
    /// It is a driver, who talks to the head alone.
    Driver { head: Connection, places: Places },
}

type Stream = (FrameSender, FrameReceiver);

impl Ways {
    pub(crate) fn node(head: Connection, endpoint: Endpoint) -> Self {
        Self::Node { head, places: Places::default(), endpoint, known: tokio::sync::Mutex::default() }
    }

    pub(crate) fn driver(head: Connection) -> Self {
        Self::Driver { head, places: Places::default() }
    }

    /// The directory in this process.
    pub(crate) fn directory(&self) -> Option<&Directory> {
        match self {
            Self::Alone { directory, .. } | Self::Head { directory, .. } => Some(directory),
            Self::Node { .. } | Self::Driver { .. } => None,
        }
    }

    /// A stream to the actors of this node.
    pub(crate) async fn open(&self, node: u64) -> Result<Stream, ActorError> {
        match self {
            Self::Alone { .. } => Err(ActorError::NodeLost),
            Self::Head { members, .. } => {
                let control = members.control(NodeId(node)).ok_or(ActorError::NodeLost)?;
                stream(&control, node).await
            }
            Self::Driver { head, .. } => stream(head, node).await,
            Self::Node { head, .. } if NodeId(node) == HEAD => stream(head, node).await,
            Self::Node { head, .. } => match self.straight(node).await {
                Ok(connection) => stream(&connection, node).await,
                Err(ActorError::Cut(error)) => {
                    tracing::info!(node, error, "a node cannot be reached; messages to its actors go through the head");
                    stream(head, node).await
                }
                Err(error) => Err(error),
            },
        }
    }

    /// A connection to the node itself. `Cut` if it lives and cannot be reached.
    async fn straight(&self, node: u64) -> Result<Connection, ActorError> {
        let Self::Node { head, endpoint, known, .. } = self else { return Err(ActorError::NodeLost) };
        // Whoever looks for a connection holds the lock; the others wait for what it finds.
        let mut known = known.lock().await;
        known.retain(|_, connection| !connection.is_closed());
        if let Some(connection) = known.get(&node) {
            return Ok(connection.clone());
        }
        let asked = head.call(&NodeCall::Where { number: node }, CALL_DEADLINE).await;
        let NodeAnswer::At { name, address } = asked.map_err(|error| ActorError::Head(error.to_string()))? else {
            return Err(ActorError::NodeLost);
        };
        let found = connect(endpoint, &name, &address, Lane::Control).await;
        let connection = found.map_err(|error| ActorError::Cut(error.to_string()))?;
        known.insert(node, connection.clone());
        Ok(connection)
    }

    /// Asks the directory.
    pub(crate) async fn call(&self, call: DirectoryCall, deadline: Duration) -> Result<ActorAnswer, ActorError> {
        let lost = |error: mobula_transport::CallError| match error {
            mobula_transport::CallError::Deadline(deadline) => ActorError::Deadline(deadline),
            other => ActorError::Head(other.to_string()),
        };
        let answer = match self {
            Self::Alone { directory, owned } | Self::Head { directory, owned, .. } => {
                directory.serve(call, owned).await
            }
            Self::Driver { head, places } => {
                let asked = places.call(call.kind(), deadline, |waited| async move {
                    let call = call.after(waited);
                    head.call(&DriverCall::Actors { call }, deadline).await.map_err(lost)
                });
                match asked.await.map_err(ActorError::Deadline)?? {
                    DriverAnswer::Actors { answer } => answer,
                    other => return Err(ActorError::Head(format!("it does not fit the question: {other:?}"))),
                }
            }
            Self::Node { head, places, .. } => {
                let asked = places.call(call.kind(), deadline, |waited| async move {
                    let call = Box::new(call.after(waited));
                    head.call(&NodeCall::Actors { call }, deadline).await.map_err(lost)
                });
                match asked.await.map_err(ActorError::Deadline)?? {
                    NodeAnswer::Actors { answer } => answer,
                    other => return Err(ActorError::Head(format!("it does not fit the question: {other:?}"))),
                }
            }
        };
        answer.checked()
    }

    /// What it means that a stream to this node ended.
    pub(crate) async fn verdict(&self, node: u64, reason: String) -> ActorError {
        match self.call(DirectoryCall::Lives { node }, CALL_DEADLINE).await {
            Ok(_) => ActorError::Cut(reason),
            Err(error) => error,
        }
    }
}

async fn stream(connection: &Connection, node: u64) -> Result<Stream, ActorError> {
    let opened = connection.open_stream(&StreamHead::Actors { to: node }).await;
    opened.map_err(|error| ActorError::Cut(error.to_string()))
}
