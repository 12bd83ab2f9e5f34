//! The way to the blocks of all nodes: connections that are opened when first needed and kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use mobula_transport::{Connection, Endpoint, Lane};

use super::inputs::Network;
use super::link::{CALL_DEADLINE, fetch};
use super::messages::{NodeAnswer, NodeCall};
use crate::block::{Block, BlockName, NodeId};
use crate::operator::BoxError;
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
    known: Mutex<BTreeMap<NodeId, Arc<tokio::sync::Mutex<Option<Connection>>>>>,
}

impl Peers {
    pub(crate) fn new(endpoint: Endpoint, net: Net, head: Option<(Connection, Connection)>) -> Self {
        Self { inner: Arc::new(Inner { endpoint, net, head, known: Mutex::default() }) }
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

impl Network for Peers {
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
