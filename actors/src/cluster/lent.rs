//! What this node keeps for others: blocks that it made for a job of the head, until the head lets them go or is gone, and
//! stored values, by its engine for tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::agent::COPIES_SHARE;
use super::bytes;
use crate::block::{Block, BlockId, BlockName, BlockRef};
use crate::node::Parts;
use crate::operator::BoxError;
use crate::runtime::budget::EdgeLimits;
use crate::runtime::room::{Permit, RoomEdge};
use crate::runtime::tasks;
use crate::store::spill::{Spill, SpillOutcome};
use crate::task::ObjectId;
use crate::task::engine::{Engine, WeakEngine};

/// The blocks that others refer to, by number. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lent {
    blocks: Arc<Mutex<BTreeMap<BlockId, BlockRef>>>,
    values: Arc<OnceLock<WeakEngine>>,
    spill: Spill,
    sends: RoomEdge,
}

/// The part of the node's room that blocks on their way to others may take, and how many of them. Fewer let nodes wait for
/// each other; more take the room of copies. One is always let in, so that they never wait for copies.
const SENDS_SHARE: u64 = 4;
const SENDS_MAX: usize = 64;

impl Lent {
    /// Of a node with these parts.
    pub(crate) fn new(node: &Parts) -> Self {
        let cap = node.budget.0 / COPIES_SHARE / SENDS_SHARE;
        let sends = node.room.edge(EdgeLimits { floor: 0, cap, items_max: SENDS_MAX, depth: 0 });
        Self { blocks: Arc::default(), values: Arc::default(), spill: node.spill.clone(), sends }
    }

    /// A block as bytes, for a node that has asked for it and reads them now; they take the room that comes with them.
    pub(crate) async fn encoded(&self, name: &BlockName) -> Result<(Vec<u8>, Permit), BoxError> {
        let bytes = self.find(name)?.bytes;
        let room = self.sends.take(bytes, 0).await.ok_or("the node is ending")?;
        Ok((bytes::encode(&self.bring(name).await?)?, room))
    }

    /// Who keeps its stored values.
    pub(crate) fn set_values(&self, engine: &Engine) {
        // Once, when the node starts.
        let _ = self.values.set(engine.weak());
    }

    /// The bytes of a stored value, if it is here.
    pub(crate) fn value(&self, id: ObjectId) -> Option<::bytes::Bytes> {
        self.values.get()?.get()?.data(id)
    }

    /// Keeps a block.
    pub(crate) fn keep(&self, block: BlockRef) {
        self.lock().insert(block.id, block);
    }

    /// Lets blocks go.
    pub(crate) fn release(&self, ids: &[BlockId]) {
        let released: Vec<_> = {
            let mut blocks = self.lock();
            ids.iter().filter_map(|id| blocks.remove(id)).collect()
        };
        // The memory is freed here, after the lock.
        drop(released);
    }

    fn get(&self, id: BlockId) -> Option<BlockRef> {
        self.lock().get(&id).cloned()
    }

    /// The rows of a block that is kept here, read back if it was spilled. Whoever asks has room for it.
    pub(crate) async fn bring(&self, name: &BlockName) -> Result<Block, BoxError> {
        let block = self.find(name)?;
        match block.here() {
            Some(rows) => Ok(rows),
            None => tasks::blocking(move || block.bring()).await?,
        }
    }

    /// The block, if it is kept here, or an error that says so. Each life of each node counts its blocks from 0, so a number
    /// alone may be that of another's block.
    pub(crate) fn find(&self, name: &BlockName) -> Result<BlockRef, BoxError> {
        let Some(block) = self.get(name.id) else {
            return Err(format!("block {} is not here any more", name.id.0).into());
        };
        if (block.home, block.incarnation) != (name.home, name.incarnation) {
            let (asked, here) = (name.home.0, block.home.0);
            return Err(
                format!("a block of another life or node (number {asked}) was asked for here (number {here})").into()
            );
        }
        Ok(block)
    }

    /// Moves a block to disk: the head says that it is needed last.
    pub(crate) async fn spill(&self, id: BlockId) -> SpillOutcome {
        let block = self.get(id);
        let Some((stored, bytes)) = block.and_then(|block| Some((Arc::clone(block.stored()?), block.bytes))) else {
            return SpillOutcome::Stays;
        };
        match self.spill.ready_in(bytes) {
            Some(Duration::ZERO) => {
                let spill = self.spill.clone();
                // A runtime that is ending takes all blocks with it.
                tasks::blocking(move || stored.to_disk(&spill)).await.unwrap_or(SpillOutcome::Stays)
            }
            again => SpillOutcome::Refused { again },
        }
    }

    /// Lets all go: the head is gone.
    pub(crate) fn clear(&self) {
        let blocks = std::mem::take(&mut *self.lock());
        drop(blocks);
    }

    /// How many blocks are kept.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BlockId, BlockRef>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
