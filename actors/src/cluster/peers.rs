//! The way to the blocks of all nodes: connections that are opened when first needed and kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use mobula_transport::{Connection, Endpoint, Lane};

use super::inputs::Network;
use super::link::{CALL_DEADLINE, fetch, fetch_object};
use super::messages::{NodeAnswer, NodeCall};
use super::objects::Objects;
use crate::block::{Block, BlockName, NodeId};
use crate::operator::{BoxError, ObjectName};
use crate::runtime::net::Net;

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
    /// A node's way to the head: calls, and its blocks. `None` on the head itself.
    head: Option<(Connection, Connection)>,
    /// Those of the head, on the head.
    objects: Option<Objects>,
    known: Mutex<BTreeMap<NodeId, Arc<tokio::sync::Mutex<Option<Connection>>>>>,
}

impl Peers {
    /// Those of a node, with its connections to the head.
    pub(crate) fn of_node(endpoint: Endpoint, net: Net, control: Connection, data: Connection) -> Self {
        Self::new(Inner { endpoint, net, head: Some((control, data)), objects: None, known: Mutex::default() })
    }

    /// Those of the head, with its objects.
    pub(crate) fn of_head(endpoint: Endpoint, net: Net, objects: Objects) -> Self {
        Self::new(Inner { endpoint, net, head: None, objects: Some(objects), known: Mutex::default() })
    }

    fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// A node has come whose data connection is this.
    pub(crate) fn add(&self, node: NodeId, data: Connection) {
        let slot = Arc::new(tokio::sync::Mutex::new(Some(data)));
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner).insert(node, slot);
    }

    /// A node has gone.
    pub(crate) fn remove(&self, node: NodeId) {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    async fn connection(&self, node: NodeId) -> Result<Connection, BoxError> {
        let Inner { endpoint, head, known, .. } = &*self.inner;
        if let Some((_, data)) = head.as_ref().filter(|_| node == HEAD) {
            return Ok(data.clone());
        }
        let slot = {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            match head {
                Some(_) => Arc::clone(known.entry(node).or_default()),
                None => known.get(&node).cloned().ok_or_else(|| format!("node number {} is gone", node.0))?,
            }
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let (control, _) = head.as_ref().ok_or_else(|| format!("node number {} is gone", node.0))?;
        let answer: NodeAnswer = control.call(&NodeCall::Where { number: node.0 }, CALL_DEADLINE).await?;
        let NodeAnswer::At { address: Some(address) } = answer else {
            return Err(format!("node number {} is gone", node.0).into());
        };
        let connection = endpoint.connect(address.parse()?, Lane::Data).await?;
        Ok(slot.insert(connection).clone())
    }
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
        let (peers, net) = (self.clone(), self.inner.net.clone());
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.inner.net.spawn(async move {
            let block = match peers.connection(name.home).await {
                Ok(connection) => fetch(connection, &net, name).await,
                Err(error) => Err(error),
            };
            // Who asked may have gone.
            let _ = tx.send(block);
        });
        async move { rx.await.map_err(|_| "the network thread is gone")? }.boxed()
    }
}
