//! Blocks between nodes that cannot reach each other: they ask the head, which reaches both and passes the bytes on.
//!
//! The head keeps no block for that: what is here of one at a time is what the windows of the two connections hold. It is
//! a way out and no thoroughfare, so only a few blocks pass at a time and the others wait.

use std::sync::Arc;

use mobula_transport::{Connection, FetchError, Inbound, IncomingFetch};
use tokio::sync::Semaphore;

use super::lent::Lent;
use super::link::FETCH_DEADLINE;
use super::messages::{FetchAnswer, FetchCall};
use super::objects::Objects;
use super::peers::{HEAD, Peers};
use super::serve;
use crate::block::{BlockName, NodeId};
use crate::operator::BoxError;
use crate::runtime::net::Net;
use crate::task::{ObjectId, PartyId};

/// Blocks that pass at a time. Each takes a stream's window at most (8 MiB), so 128 MiB together. Fewer: nodes wait for each
/// other's slow connections. More: memory that no budget sees.
const BLOCKS_MAX: usize = 16;

/// The head's desk for blocks of others. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Relay {
    peers: Peers,
    objects: Objects,
    places: Arc<Semaphore>,
}

impl Relay {
    pub(crate) fn new(peers: Peers, objects: Objects) -> Self {
        Self { peers, objects, places: Arc::new(Semaphore::new(BLOCKS_MAX)) }
    }

    /// Serves a node on its data connection: it fetches objects, and blocks of the head or, through it, of other nodes.
    pub(crate) async fn serve(self, connection: Connection, own: Lent, net: Net) {
        while let Ok(inbound) = connection.accept().await {
            match inbound {
                Inbound::Fetch(fetch) => match fetch.decode::<FetchCall>() {
                    Ok(FetchCall::Block { name }) if name.home != HEAD => net.spawn(self.clone().pass(fetch, name)),
                    Ok(FetchCall::Value { id, node }) => net.spawn(self.clone().value(fetch, id, node, own.clone())),
                    Ok(FetchCall::Object { name }) => net.spawn(serve::answer_object(fetch, self.objects.send(&name))),
                    _ => net.spawn(serve::send(fetch, own.clone())),
                },
                Inbound::Call(call) => net.spawn(serve::refuse(call)),
                // Dropped, which ends it: only the head opens pools.
                Inbound::Stream { .. } => {}
            }
        }
    }

    async fn pass(self, fetch: IncomingFetch, name: BlockName) {
        let Ok(_place) = self.places.acquire().await else { return };
        let (home, block) = (name.home, name.id);
        let sent: Result<(), BoxError> = match self.ask(name).await {
            Ok(body) => fetch.forward(&FetchAnswer::Block, body).await.map_err(FetchError::into),
            Err(error) => fetch.refuse(&error.to_string()).await.map_err(Into::into),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, node = home.0, block = block.0, "a block was not passed on");
        }
    }

    /// Sends a stored value of the head's own, or passes on one of another node.
    pub(crate) async fn value(self, fetch: IncomingFetch, id: ObjectId, node: PartyId, own: Lent) {
        if NodeId(node.0) == HEAD {
            return serve::answer_value(fetch, own.value(id)).await;
        }
        let Ok(_place) = self.places.acquire().await else { return };
        let sent: Result<(), BoxError> = match self.ask_value(id, node).await {
            Ok(body) => fetch.forward(&FetchAnswer::Value, body).await.map_err(FetchError::into),
            Err(error) => fetch.refuse(&error.to_string()).await.map_err(Into::into),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, node = node.0, %id, "a value was not passed on");
        }
    }

    async fn ask_value(&self, id: ObjectId, node: PartyId) -> Result<mobula_transport::BlockReceiver, BoxError> {
        let home = self.peers.opened(NodeId(node.0)).await?;
        let (answer, body) = home.fetch::<_, FetchAnswer>(&FetchCall::Value { id, node }, FETCH_DEADLINE).await?;
        match answer {
            FetchAnswer::Value => Ok(body),
            _ => Err("an answer that is no value".into()),
        }
    }

    async fn ask(&self, name: BlockName) -> Result<mobula_transport::BlockReceiver, BoxError> {
        let home = self.peers.opened(name.home).await?;
        let (answer, body) = home.fetch::<_, FetchAnswer>(&FetchCall::Block { name }, FETCH_DEADLINE).await?;
        match answer {
            FetchAnswer::Block => Ok(body),
            _ => Err("an answer that is no block".into()),
        }
    }
}
