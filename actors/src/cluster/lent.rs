//! What this node keeps for others: blocks that it made for a job of the head, until the head lets them go or is gone, and
//! stored values, by its engine for tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::block::{Block, BlockId, BlockRef};
use crate::task::ObjectId;
use crate::task::engine::{Engine, WeakEngine};

/// The blocks that others refer to, by number. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Lent {
    blocks: Arc<Mutex<BTreeMap<BlockId, BlockRef>>>,
    values: Arc<OnceLock<WeakEngine>>,
}

impl Lent {
    /// Who keeps its stored values.
    pub(crate) fn set_values(&self, engine: &Engine) {
        // Once, when the node starts.
        let _ = self.values.set(engine.weak());
    }

    /// The bytes of a stored value, if it is here.
    pub(crate) fn value(&self, id: ObjectId) -> Option<bytes::Bytes> {
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
