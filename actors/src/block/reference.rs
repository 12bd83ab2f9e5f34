//! References to blocks: what actors exchange.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Block, Segments};
use crate::store::SharedTable;
use crate::units::{Bytes, Rows};

/// Number of a block on its home node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockId(pub u64);

/// Name of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// One life of a node: a restarted process is a new incarnation, and references of the old one are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// Everything about a block but its bytes: what travels to other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockName {
    /// Its number on its home node.
    pub id: BlockId,
    /// The node that holds it.
    pub home: NodeId,
    /// The life of that node.
    pub incarnation: Incarnation,
    /// Its rows.
    pub rows: Rows,
    /// Its bytes in memory.
    pub bytes: Bytes,
    /// The input segments that are complete with it.
    pub segments: Segments,
}

/// A name together with a pin: as long as one clone lives on the home node, the block stays in its shard.
#[derive(Clone)]
pub struct BlockRef {
    pin: Arc<Pin>,
}

struct Pin {
    name: BlockName,
    block: Block,
    table: SharedTable,
}

impl BlockRef {
    pub(crate) fn pinned(name: BlockName, block: Block, table: SharedTable) -> Self {
        Self { pin: Arc::new(Pin { name, block, table }) }
    }

    /// The block itself: no copy, the buffers are shared.
    pub fn block(&self) -> &Block {
        &self.pin.block
    }
}

impl Deref for BlockRef {
    type Target = BlockName;

    fn deref(&self) -> &BlockName {
        &self.pin.name
    }
}

impl fmt::Debug for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockRef({}, {} rows, {})", self.id.0, self.rows, self.bytes)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.table.release(self.name.id);
    }
}
