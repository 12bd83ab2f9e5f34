//! The pure thinking of a shard: which blocks there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::stored::Stored;
use crate::block::BlockId;

/// The blocks of one shard.
#[derive(Default)]
pub(crate) struct Table {
    blocks: BTreeMap<BlockId, Arc<Stored>>,
}

impl Table {
    /// Takes a block in. The id is fresh: a node never uses one twice.
    pub(crate) fn put(&mut self, id: BlockId, block: Arc<Stored>) {
        let before = self.blocks.insert(id, block);
        debug_assert!(before.is_none(), "block ids are used once");
    }

    /// Lets a block go; returned so that its memory is freed outside the lock.
    pub(crate) fn release(&mut self, id: BlockId) -> Option<Arc<Stored>> {
        self.blocks.remove(&id)
    }

    /// The block, if it is here.
    pub(crate) fn get(&self, id: BlockId) -> Option<Arc<Stored>> {
        self.blocks.get(&id).cloned()
    }

    /// Number of blocks.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }
}
