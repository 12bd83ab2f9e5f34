//! A shard: the actor that owns a table of blocks, and the handle by which workers put blocks into it.
//!
//! When a shard's actor dies its blocks are void, and with it the node's jobs: it is not restarted here, the failure
//! goes up. The tables of all shards of a node are reached through [`Store`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::{Actor, Addr, Context, Handler, Message};
use tokio::sync::oneshot;

use super::census::Census;
use super::stored::Stored;
use super::table::Table;
use crate::block::{Block, BlockId, BlockName, BlockRef, Incarnation, NodeId, Origins, Segments};
use crate::runtime::guardian::Launch;
use crate::runtime::host::Lane;
use crate::runtime::watch::DeathWatch;
use crate::units::Bytes;

/// A shard's table, shared by its actor and by the references to its blocks. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct SharedTable {
    table: Arc<Mutex<Table>>,
    /// One for all shards of the node: slices of one buffer may lie in several.
    census: Arc<Mutex<Census>>,
}

impl SharedTable {
    fn put(&self, id: BlockId, block: Block) -> Arc<Stored> {
        let stored = Arc::new(Stored::new(block, Arc::clone(&self.census)));
        lock(&self.table).put(id, Arc::clone(&stored));
        stored
    }

    /// Lets a block go.
    pub(crate) fn release(&self, id: BlockId) {
        let released = lock(&self.table).release(id);
        // The memory is freed here, and a file removed, after the lock.
        if let Some(stored) = released {
            stored.release();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All shards of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    incarnation: Incarnation,
    next_block: AtomicU64,
    shards: Vec<SharedTable>,
}

/// What the store of a node holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StoreStats {
    /// Blocks.
    pub(crate) blocks: usize,
    /// Exact bytes of their buffers.
    pub(crate) bytes: Bytes,
    /// The most bytes there ever were.
    pub(crate) peak: Bytes,
}

impl Store {
    /// The empty store of a node.
    pub(crate) fn new(node: NodeId, incarnation: Incarnation, shards: usize) -> Self {
        let census = Arc::default();
        let shard = |_| SharedTable { table: Arc::default(), census: Arc::clone(&census) };
        let shards = (0..shards.max(1)).map(shard).collect();
        Self { inner: Arc::new(Inner { node, incarnation, next_block: AtomicU64::new(0), shards }) }
    }

    /// The node that the blocks live on.
    pub(crate) fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The table of each shard, for the actors that own them.
    pub(crate) fn tables(&self) -> &[SharedTable] {
        &self.inner.shards
    }

    /// Takes a block in and names it. `shard` picks the shard (modulo their number): a worker always uses the same.
    pub(crate) fn put(&self, block: Block, (segments, origins): (Segments, Origins), shard: usize) -> BlockRef {
        let Inner { node, incarnation, next_block, shards } = &*self.inner;
        let id = BlockId(next_block.fetch_add(1, Ordering::Relaxed));
        let name = BlockName {
            id,
            home: *node,
            incarnation: *incarnation,
            rows: block.rows(),
            bytes: block.bytes(),
            segments,
            origins,
        };
        let table = shards.get(shard % shards.len()).expect("a store has at least one shard").clone();
        let stored = table.put(id, block);
        BlockRef::pinned(name, stored, table)
    }

    /// What the node's shards hold.
    pub(crate) fn stats(&self) -> StoreStats {
        let tables = &self.inner.shards;
        let blocks = tables.iter().map(|shard| lock(&shard.table).len()).sum();
        let census = tables.first().map(|shard| lock(&shard.census));
        let (bytes, peak) = census.map_or((0, 0), |census| (census.bytes(), census.peak()));
        StoreStats { blocks, bytes: Bytes(bytes), peak: Bytes(peak) }
    }
}

/// The actor of one shard.
pub(crate) struct StoreShard {
    table: SharedTable,
}

impl Actor for StoreShard {
    type Context = Context<Self>;
}

/// Asks a shard for a block: the way in for readers that hold a name but no pin. `None` if it is not here any more.
pub(crate) struct Lookup {
    pub(crate) id: BlockId,
    pub(crate) reply: oneshot::Sender<Option<Block>>,
}

impl Message for Lookup {
    type Result = ();
}

impl Handler<Lookup> for StoreShard {
    type Result = ();

    fn handle(&mut self, Lookup { id, reply }: Lookup, _: &mut Context<Self>) {
        let stored = lock(&self.table.table).get(id);
        // A reader that no longer waits needs no answer.
        let _ = reply.send(stored.and_then(|stored| stored.bring().ok()));
    }
}

/// Starts a shard's actor. Several shards share one lane: they do no work of their own.
pub(crate) struct LaunchShard {
    pub(crate) table: SharedTable,
    pub(crate) lane: Arc<Lane>,
    pub(crate) address: Option<Addr<StoreShard>>,
}

impl Launch for LaunchShard {
    fn launch(&mut self, _incarnation: u64, watch: DeathWatch) {
        let table = self.table.clone();
        self.address = Some(StoreShard::start_in_arbiter(&self.lane.handle(), move |ctx| {
            watch.attach(ctx);
            StoreShard { table }
        }));
    }
}
