//! Results on their way from their nodes: waited for as long as anybody wants them, their node lives, and a call may take
//! (the disk of a node that lives may hang).

use std::sync::Arc;
use std::time::Duration;

use super::{ClusterJob, Head};
use crate::block::{Block, BlockRef, NodeId, Segments};
use crate::operator::BoxError;

/// A result that does not come is asked for again, for as long as it takes to declare its node dead.
const TRIES: u32 = 24;
const PAUSE: Duration = Duration::from_millis(250);

/// What came of a result.
pub(super) enum Fetched {
    /// It is here, and stands for these segments.
    Block(Block, Segments),
    /// The job was cancelled.
    Unwanted,
    /// This node is lost, and the result with it.
    Lost(Arc<str>),
}

impl Head {
    /// Tries again while the block's node may only be slow to answer.
    async fn get(&self, reference: &BlockRef) -> Result<Block, BoxError> {
        let mut tries = 0;
        loop {
            match reference.get().await {
                Ok(block) => return Ok(block),
                Err(error) if tries >= TRIES || !self.sites().contains_key(&reference.home) => return Err(error),
                Err(_) => {}
            }
            tries += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until this life of a node is over.
    async fn dies(&self, node: NodeId) {
        // The other end is this head.
        let _ = self.inner.dead.subscribe().wait_for(|dead| dead.contains(&node)).await;
    }
}

impl ClusterJob {
    /// Brings a result.
    pub(super) async fn fetch(&mut self, reference: BlockRef) -> Fetched {
        self.run.taker().fetches(reference.home.0);
        let fetched = tokio::select! {
            biased;
            () = self.watch.cancelled() => Fetched::Unwanted,
            block = self.head.get(&reference) => match block {
                Ok(block) => Fetched::Block(block, reference.segments.clone()),
                Err(error) => {
                    tracing::warn!(%error, "a block of results did not come");
                    self.lost(&reference)
                }
            },
            () = self.head.dies(reference.home) => self.lost(&reference),
            () = tokio::time::sleep(self.call_limit()) => {
                tracing::warn!(node = reference.home.0, "a block of results did not come within task_progress_limit");
                self.lost(&reference)
            }
        };
        self.run.taker().took();
        fetched
    }

    fn call_limit(&self) -> Duration {
        let of_nodes = self.head.inner.node.parts().config.task_progress_limit;
        self.topology.task_progress_limit.unwrap_or(of_nodes)
    }

    /// The node that a result was on, by its name if it is still known.
    fn lost(&self, reference: &BlockRef) -> Fetched {
        let name = self.head.sites().get(&reference.home).map(|placed| placed.site.name());
        Fetched::Lost(name.unwrap_or_else(|| format!("number {}", reference.home.0).into()))
    }
}
