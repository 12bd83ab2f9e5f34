//! Blocks that this node made for a job of the head: kept until the head lets them go, or until the head is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::block::{Block, BlockId, BlockRef};

/// The blocks that others refer to, by number. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Lent {
    blocks: Arc<Mutex<BTreeMap<BlockId, BlockRef>>>,
}

impl Lent {
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

    /// The block, if it is kept here.
    pub(crate) fn get(&self, id: BlockId) -> Option<BlockRef> {
        self.lock().get(&id).cloned()
    }

    /// The rows of a block, if it is kept here.
    pub(crate) fn block(&self, id: BlockId) -> Option<Block> {
        self.get(id)?.here()
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
