//! The head's own node as one of the nodes to run on: pools without a wire.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::agent::Agent;
use super::lent::Lent;
use super::peers::HEAD;
use super::site::{PoolLink, PoolOrder, Site};
use crate::block::{Block, BlockId, BlockName, Home, NodeId};
use crate::operator::BoxError;
use crate::store::spill::SpillOutcome;

/// The head as a site.
pub(crate) struct HereSite {
    pub(crate) name: Arc<str>,
    pub(crate) agent: Agent,
}

impl Site for HereSite {
    fn id(&self) -> NodeId {
        HEAD
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn open(&self, order: PoolOrder) -> BoxFuture<'static, Result<PoolLink, BoxError>> {
        let agent = self.agent.clone();
        async move { agent.open(order).await }.boxed()
    }

    fn home(&self) -> Arc<dyn Home> {
        Arc::new(HereHome(self.agent.lent().clone()))
    }
}

struct HereHome(Lent);

impl Home for HereHome {
    fn release(&self, id: BlockId) {
        self.0.release(&[id]);
    }

    fn fetch(&self, name: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
        let lent = self.0.clone();
        async move { lent.bring(&name).await }.boxed()
    }

    fn spill(&self, id: BlockId) -> BoxFuture<'static, Result<SpillOutcome, BoxError>> {
        let lent = self.0.clone();
        async move { Ok(lent.spill(id).await) }.boxed()
    }
}
