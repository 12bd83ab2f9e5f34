//! The way to the blocks of all nodes: connections that are opened when first needed and kept. Where two nodes cannot reach
//! each other, their blocks come through the head, which reaches both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use mobula_transport::{Connection, Endpoint, Lane};

use super::detour::{Detour, Way};
use super::inputs::Network;
use super::link::{CALL_DEADLINE, fetch, fetch_object, fetch_value};
use super::messages::{NodeAnswer, NodeCall};
use super::objects::Objects;
use crate::block::{Block, BlockName, NodeId};
use crate::operator::{BoxError, ObjectName};
use crate::runtime::env::SharedEnv;
use crate::runtime::net::Net;
use crate::task::{ObjectId, PartyId};
use crate::units::Bytes;

/// The head's number.
pub(crate) const HEAD: NodeId = NodeId(0);

/// Connections to nodes, by number. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    net: Net,
    env: SharedEnv,
    /// A node's way to the head: calls, and its blocks. `None` on the head itself.
    head: Option<(Connection, Connection)>,
    /// Those of the head, on the head.
    objects: Option<Objects>,
    known: Mutex<BTreeMap<NodeId, Slot>>,
}

/// What is known of one peer. Who looks for a connection holds the lock; the others wait for what it finds.
type Slot = Arc<tokio::sync::Mutex<Peer>>;

#[derive(Default)]
struct Peer {
    /// Its name, once the head has said it.
    name: Option<String>,
    connection: Option<Connection>,
    detour: Detour,
}

/// Why there is no connection to a node.
enum NoWay {
    /// The head does not know it any more, or cannot be asked.
    Gone(BoxError),
    /// It lives and cannot be reached from here.
    Blocked(BoxError),
}

impl Peers {
    /// Those of a node, with its connections to the head.
    pub(crate) fn of_node(endpoint: Endpoint, net: Net, env: SharedEnv, control: Connection, data: Connection) -> Self {
        let head = Some((control, data));
        Self::new(Inner { endpoint, net, env, head, objects: None, known: Mutex::default() })
    }

    /// Those of the head, with its objects.
    pub(crate) fn of_head(endpoint: Endpoint, net: Net, env: SharedEnv, objects: Objects) -> Self {
        Self::new(Inner { endpoint, net, env, head: None, objects: Some(objects), known: Mutex::default() })
    }

    fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// A node has come whose data connection is this.
    pub(crate) fn add(&self, node: NodeId, data: Connection) {
        let peer = Peer { connection: Some(data), ..Peer::default() };
        let slot = Arc::new(tokio::sync::Mutex::new(peer));
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner).insert(node, slot);
    }

    /// A node has gone.
    pub(crate) fn remove(&self, node: NodeId) {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    /// On the head: the connection that a node opened.
    pub(crate) async fn opened(&self, node: NodeId) -> Result<Connection, BoxError> {
        let known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned();
        let slot = known.ok_or_else(|| gone(node))?;
        let connection = slot.lock().await.connection.clone().filter(|connection| !connection.is_closed());
        connection.ok_or_else(|| gone(node))
    }

    async fn fetch_now(&self, name: BlockName) -> Result<Block, BoxError> {
        let net = self.inner.net.clone();
        self.from(name.home, |connection| fetch(connection, &net, name.clone())).await
    }

    /// The bytes of a stored value that is on this node.
    pub(crate) async fn value(&self, home: NodeId, id: ObjectId, bytes: Bytes) -> Result<bytes::Bytes, BoxError> {
        let ask =
            |connection: Connection| async move { fetch_value(&connection, id, PartyId(home.0), bytes).await }.boxed();
        self.from(home, ask).await
    }

    /// Asks a node for something: straight, or through the head where that is not possible.
    async fn from<T>(
        &self,
        home: NodeId,
        ask: impl Fn(Connection) -> BoxFuture<'static, Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        let Some((control, data)) = &self.inner.head else { return ask(self.opened(home).await?).await };
        if home == HEAD {
            return ask(data.clone()).await;
        }
        let why = match self.straight(home, control).await {
            Ok(connection) => match ask(connection.clone()).await {
                Err(error) if connection.is_closed() => error,
                fetched => return fetched,
            },
            Err(NoWay::Gone(error)) => return Err(error),
            Err(NoWay::Blocked(error)) => error,
        };
        match ask(data.clone()).await {
            Ok(fetched) => Ok(fetched),
            Err(through_head) => {
                let (here, there) = (self.inner.endpoint.identity().node(), self.called(home).await);
                let way = format!("node {here} cannot reach {there} ({why})");
                Err(format!("{way}, and through the head it did not come either: {through_head}").into())
            }
        }
    }

    /// What people call a node.
    async fn called(&self, node: NodeId) -> String {
        let known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned();
        let name = match known {
            Some(slot) => slot.lock().await.name.clone(),
            None => None,
        };
        name.map_or_else(|| format!("node number {}", node.0), |name| format!("node {name}"))
    }

    /// A connection to the node itself, unless it is known that there is no way.
    async fn straight(&self, node: NodeId, control: &Connection) -> Result<Connection, NoWay> {
        let slot = {
            let mut known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(node).or_default())
        };
        let mut peer = slot.lock().await;
        if let Some(connection) = &peer.connection {
            if !connection.is_closed() {
                return Ok(connection.clone());
            }
            let reason = connection.closed().await;
            tracing::info!(node = node.0, %reason, "the way to a node is lost; its blocks come through the head for now");
            peer.connection = None;
            peer.detour.lost(self.inner.env.now());
        }
        match peer.detour.way(self.inner.env.now()) {
            Way::Straight => {
                let found = self.connect(node, control, &mut peer.name).await;
                match &found {
                    Ok(connection) => peer.connection = Some(connection.clone()),
                    Err(NoWay::Blocked(error)) => {
                        tracing::warn!(node = node.0, %error, "a node cannot be reached; its blocks come through the head");
                        peer.detour.blocked(self.inner.env.now());
                    }
                    Err(NoWay::Gone(_)) => {}
                }
                found
            }
            Way::ThroughHead { look } => {
                if look {
                    self.inner.net.spawn(self.clone().look(node, control.clone(), Arc::clone(&slot)));
                }
                Err(NoWay::Blocked("it could not be reached a moment ago".into()))
            }
        }
    }

    /// Sees whether a node can be reached again.
    async fn look(self, node: NodeId, control: Connection, slot: Slot) {
        match self.connect(node, &control, &mut None).await {
            Ok(connection) => {
                tracing::info!(node = node.0, "a node can be reached again");
                let mut peer = slot.lock().await;
                peer.connection = Some(connection);
                peer.detour.open();
            }
            Err(NoWay::Blocked(error) | NoWay::Gone(error)) => {
                tracing::debug!(node = node.0, %error, "a node still cannot be reached");
            }
        }
    }

    async fn connect(
        &self,
        node: NodeId,
        control: &Connection,
        called: &mut Option<String>,
    ) -> Result<Connection, NoWay> {
        let asked = control.call(&NodeCall::Where { number: node.0 }, CALL_DEADLINE).await;
        let NodeAnswer::At { name, address } = asked.map_err(|error| NoWay::Gone(error.into()))? else {
            return Err(NoWay::Gone(gone(node)));
        };
        let found = connect(&self.inner.endpoint, &name, &address, Lane::Data).await;
        *called = Some(name);
        found.map_err(NoWay::Blocked)
    }
}

/// Connects to the node of this name, which should be at this address. Where two networks use the same addresses, another
/// may be there, or this node itself.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    name: &str,
    address: &str,
    lane: Lane,
) -> Result<Connection, BoxError> {
    let parsed = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let connection = endpoint.connect(parsed, lane).await?;
    let there = &connection.peer().node;
    if there.as_str() != name {
        let hint = "two nodes say that they listen there; give each an address that the others reach it at";
        return Err(format!("node {there} answers at {address}, where node {name} should be ({hint})").into());
    }
    Ok(connection)
}

fn gone(node: NodeId) -> BoxError {
    format!("node number {} is gone", node.0).into()
}

impl Peers {
    /// Where objects are: on the head itself, or at the other end of the connection to it.
    async fn object_here(&self, name: ObjectName) -> Result<bytes::Bytes, BoxError> {
        match (&self.inner.objects, &self.inner.head) {
            (Some(objects), _) => Ok(objects.send(&name)?),
            (None, Some((_, data))) => fetch_object(data, name).await,
            (None, None) => Err("there is no way to the head".into()),
        }
    }
}

impl Network for Peers {
    fn object(&self, name: ObjectName) -> BoxFuture<'static, Result<bytes::Bytes, BoxError>> {
        let peers = self.clone();
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.inner.net.spawn(async move {
            // Who asked may have gone.
            let _ = tx.send(peers.object_here(name).await);
        });
        async move { rx.await.map_err(|_| "the network thread is gone")? }.boxed()
    }

    fn fetch(&self, name: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
        let peers = self.clone();
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.inner.net.spawn(async move {
            // Who asked may have gone.
            let _ = tx.send(peers.fetch_now(name).await);
        });
        async move { rx.await.map_err(|_| "the network thread is gone")? }.boxed()
    }
}
