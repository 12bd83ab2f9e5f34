//! References to blocks: what actors exchange.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Block, Origins, Segments};
use crate::operator::BoxError;
use crate::store::spill::SpillOutcome;
use crate::store::{SharedTable, Stored};
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
    /// The input segments that it stands for, or shares of them.
    pub segments: Segments,
    /// The rows of the input that its first rows came from, where that is known and somebody may ask.
    pub origins: Origins,
}

/// A name together with a pin: as long as one clone lives, the block stays in its shard, here or on its home node.
#[derive(Clone)]
pub struct BlockRef {
    pin: Arc<Pin>,
}

struct Pin {
    name: BlockName,
    held: Held,
}

/// What a reference keeps alive.
enum Held {
    /// A block of this node's own shards.
    Here { stored: Arc<Stored>, table: SharedTable },
    /// A block of another node, which is told when the reference goes.
    Away(Arc<dyn Home>),
    /// A copy of another node's block, or a block that no shard holds.
    Copy(Block),
    /// The first rows of another, or all of them under other segments.
    First(BlockRef),
}

/// The way to the node that a block lives on.
pub(crate) trait Home: Send + Sync {
    /// Nobody here refers to the block any more.
    fn release(&self, id: BlockId);

    /// Brings a copy of the block.
    fn fetch(&self, name: BlockName) -> BoxFuture<'static, Result<Block, BoxError>>;

    /// Moves the block to the disk there.
    fn spill(&self, id: BlockId) -> BoxFuture<'static, Result<SpillOutcome, BoxError>>;
}

impl BlockRef {
    pub(crate) fn pinned(name: BlockName, stored: Arc<Stored>, table: SharedTable) -> Self {
        Self { pin: Arc::new(Pin { name, held: Held::Here { stored, table } }) }
    }

    /// A reference to a block of another node, which keeps it until the reference goes.
    pub(crate) fn of_home(name: BlockName, home: Arc<dyn Home>) -> Self {
        Self { pin: Arc::new(Pin { name, held: Held::Away(home) }) }
    }

    /// A reference to a copy of a block.
    pub(crate) fn copied(name: BlockName, block: Block) -> Self {
        Self { pin: Arc::new(Pin { name, held: Held::Copy(block) }) }
    }

    /// The first rows of this block, wherever it is: nothing is copied or moved.
    pub(crate) fn first_rows(&self, rows: Rows) -> Self {
        let part = Bytes(self.bytes.0.saturating_mul(rows.0) / self.rows.0.max(1));
        let name = BlockName { rows, bytes: part, ..BlockName::clone(self) };
        Self { pin: Arc::new(Pin { name, held: Held::First(self.clone()) }) }
    }

    /// The same block, which stands for these segments too: those whose results were no rows at all.
    pub(crate) fn carrying(&self, mut segments: Segments) -> Self {
        segments.append(&self.segments);
        let name = BlockName { segments, ..BlockName::clone(self) };
        Self { pin: Arc::new(Pin { name, held: Held::First(self.clone()) }) }
    }

    /// The same block under the name that somebody else gave it: fewer of its rows, or other segments.
    pub(crate) fn named(&self, name: BlockName) -> Self {
        Self { pin: Arc::new(Pin { name, held: Held::First(self.clone()) }) }
    }

    /// The block itself, if it is in the memory of this process: no copy, the buffers are shared.
    pub fn here(&self) -> Option<Block> {
        if self.rows == Rows(0) {
            return Some(Block::new(Vec::new()));
        }
        match &self.pin.held {
            Held::Here { stored, .. } => stored.in_memory(),
            Held::Copy(block) => Some(block.clone()),
            Held::First(whole) => Some(whole.here()?.first_rows(self.rows)),
            Held::Away(_) => None,
        }
    }

    /// Whether this process has it on disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        match &self.pin.held {
            Held::Here { stored, .. } => stored.is_on_disk(),
            Held::First(whole) => whole.is_on_disk(),
            Held::Copy(_) | Held::Away(_) => false,
        }
    }

    /// The block itself, read back by this thread if it was spilled.
    pub(crate) fn bring(&self) -> Result<Block, BoxError> {
        if self.rows == Rows(0) {
            return Ok(Block::new(Vec::new()));
        }
        match &self.pin.held {
            Held::Here { stored, .. } => stored.bring(),
            Held::Copy(block) => Ok(block.clone()),
            Held::First(whole) => Ok(whole.bring()?.first_rows(self.rows)),
            Held::Away(_) => Err("a block that was not brought here".into()),
        }
    }

    /// What its shard has of it, if that is of this node.
    pub(crate) fn stored(&self) -> Option<&Arc<Stored>> {
        match &self.pin.held {
            Held::Here { stored, .. } => Some(stored),
            Held::Copy(_) | Held::First(_) | Held::Away(_) => None,
        }
    }

    /// The way to the other node that it lives on.
    pub(crate) fn away(&self) -> Option<&Arc<dyn Home>> {
        match &self.pin.held {
            Held::Away(home) => Some(home),
            Held::Here { .. } | Held::Copy(_) | Held::First(_) => None,
        }
    }

    /// The block itself, fetched if it lives on another node.
    pub(crate) async fn get(&self) -> Result<Block, BoxError> {
        if let Some(block) = self.here() {
            return Ok(block);
        }
        let mut whole = self;
        while let Held::First(of) = &whole.pin.held {
            whole = of;
        }
        match &whole.pin.held {
            Held::Away(home) => Ok(home.fetch(BlockName::clone(whole)).await?.first_rows(self.rows)),
            _ => self.bring(),
        }
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
        match &self.held {
            Held::Here { table, .. } => table.release(self.name.id),
            Held::Away(home) => home.release(self.name.id),
            Held::Copy(_) | Held::First(_) => {}
        }
    }
}
