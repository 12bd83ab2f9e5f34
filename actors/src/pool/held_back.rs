//! The results that an ordered operator holds back: whoever waits for room may make some.
//!
//! What is done is decided in [`shelf`](crate::store::spill::shelf). In a session of one process the worker that needs the
//! room has the block written, and waits for that without a turn on a core: it has nothing else to do, and so no result is
//! made faster than the disk takes them. The disk is written to on a thread that nobody waits for with its own: if it hangs,
//! whoever gets room elsewhere goes on. On a cluster the blocks lie on the nodes that made them, while their
//! room and their order are known to the head: there, a task that waits for room has the block's node write it, and waits
//! for the answer just so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};

use crate::block::{BlockId, BlockRef, Home, NodeId};
use crate::runtime::env::SharedEnv;
use crate::runtime::room::{Permit, RoomEdge, Vacate};
use crate::runtime::tasks::{self, spawn};
use crate::store::Stored;
use crate::store::spill::shelf::{Relief, Shelf, Shelved};
use crate::store::spill::{Spill, SpillOutcome};
use crate::units::Bytes;

/// Blocks that are written to this process's own disk at a time: few keep a disk busy. It bounds the threads that a disk
/// takes which hangs.
const WRITES_MAX: usize = 4;
/// A node that did not answer is asked again after this: the head will have said by then whether it is dead.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The results of one operator.
pub(crate) struct HeldBack {
    inner: Arc<Inner>,
}

struct Inner {
    edge: RoomEdge,
    disks: Disks,
    env: SharedEnv,
    shelf: Mutex<Shelf<Result>>,
    changed: Notify,
}

/// Where results go.
pub(crate) enum Disks {
    /// To this process's own, where there is a place for one more.
    Own(Spill, Arc<Semaphore>),
    /// To those of the nodes that made them. From when on those that refused may be asked again, if ever.
    OfNodes(Mutex<BTreeMap<NodeId, Option<Duration>>>),
}

/// A result, with the room that it takes.
struct Result {
    block: Way,
    room: Vacate,
}

/// The way to a block.
enum Way {
    Here(Arc<Stored>),
    Away(Arc<dyn Home>, BlockId),
}

impl HeldBack {
    /// `edge` is the operator's window.
    pub(crate) fn new(edge: RoomEdge, disks: Disks, env: SharedEnv, spill_after: Duration) -> Self {
        let (shelf, changed) = (Mutex::new(Shelf::new(spill_after)), Notify::new());
        Self { inner: Arc::new(Inner { edge, disks, env, shelf, changed }) }
    }

    /// A task has a result, which takes this room until it leaves.
    pub(crate) fn put(&self, task: u64, block: &BlockRef, room: &mut Permit) {
        let way = match (block.stored(), block.away()) {
            _ if block.bytes == Bytes(0) => return,
            (Some(stored), _) => Way::Here(Arc::clone(stored)),
            (None, Some(home)) => Way::Away(Arc::clone(home), block.id),
            (None, None) => return,
        };
        let result = Result { block: way, room: room.vacate() };
        let mut shelf = self.inner.lock();
        shelf.put(Shelved { task, home: block.home, bytes: block.bytes, result });
        shelf.forget(|result| result.room.is_over());
        drop(shelf);
        self.inner.changed.notify_waiters();
    }

    /// All results of younger tasks wait for this one, and for nothing else; `None`: for something behind the operator, or
    /// nothing waits.
    pub(crate) fn hold(&self, oldest: Option<u64>) {
        if self.inner.lock().hold(oldest, self.inner.env.now()) {
            self.inner.edge.stretch(false);
            self.inner.changed.notify_waiters();
        }
    }

    /// Makes some room, as soon as the rules allow it. May be dropped at any time: a block that is on its way to disk then
    /// arrives there all the same.
    pub(crate) async fn relieve(&self) {
        let Inner { edge, disks, env, changed, .. } = &*self.inner;
        loop {
            let mut changed = std::pin::pin!(changed.notified());
            changed.as_mut().enable();
            let now = env.now();
            let relief = self.inner.lock().relief(now, |home, bytes| disks.ready_at(home, bytes));
            match relief {
                Relief::None => changed.await,
                Relief::At(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(at.saturating_sub(now)) => {}
                },
                Relief::Stretch => {
                    self.inner.lock().stretched();
                    return edge.stretch(true);
                }
                // It has left meanwhile.
                Relief::Spill(shelved) if shelved.result.room.is_over() => {}
                Relief::Spill(shelved) => return self.spill(shelved).await,
            }
        }
    }

    async fn spill(&self, shelved: Shelved<Result>) {
        let spilling = match &shelved.result.block {
            Way::Here(stored) => {
                let stored = Arc::clone(stored);
                return self.write(stored, shelved).await;
            }
            Way::Away(home, block) => home.spill(*block),
        };
        let (inner, (done, over)) = (Arc::downgrade(&self.inner), oneshot::channel::<()>());
        spawn(async move {
            let outcome = spilling.await.unwrap_or_else(|error| {
                tracing::debug!(%error, node = shelved.home.0, "a node did not say whether it spilled a block");
                SpillOutcome::Refused { again: Some(ASK_AGAIN) }
            });
            // An operator that is gone has given all room back.
            if let Some(inner) = inner.upgrade() {
                inner.on_spilled(shelved, outcome);
            }
            drop(done);
        });
        // Nothing is sent: it is over when the sender is gone.
        let _ = over.await;
    }

    /// Writes a block on a thread for that: whoever waits for room may get some elsewhere, and a disk may hang.
    async fn write(&self, stored: Arc<Stored>, shelved: Shelved<Result>) {
        // Blocks of a head are reached like those of the other nodes.
        let Disks::Own(spill, writes) = &self.inner.disks else { return };
        let Ok(write) = Arc::clone(writes).try_acquire_owned() else {
            // Others were faster; it is for the next place.
            return self.inner.lock().put(shelved);
        };
        let (inner, spill) = (Arc::downgrade(&self.inner), spill.clone());
        let work = move || {
            let outcome = stored.to_disk(&spill);
            drop(write);
            // An operator that is gone has given all room back.
            if let Some(inner) = inner.upgrade() {
                inner.on_spilled(shelved, outcome);
                inner.changed.notify_waiters();
            }
        };
        // A runtime that is ending takes all blocks with it.
        let _ = tasks::blocking(work).await;
    }
}

impl Inner {
    fn on_spilled(&self, shelved: Shelved<Result>, outcome: SpillOutcome) {
        match outcome {
            SpillOutcome::Moved => shelved.result.room.vacate(),
            // It is being used, or it can never go.
            SpillOutcome::Stays => {}
            SpillOutcome::Refused { again } => {
                self.disks.refused(shelved.home, again.map(|again| self.env.now() + again));
                self.lock().put(shelved);
                self.changed.notify_waiters();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<Result>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disks {
    /// Those of this process.
    pub(crate) fn own(spill: Spill) -> Self {
        Self::Own(spill, Arc::new(Semaphore::new(WRITES_MAX)))
    }

    /// Those of the nodes of a cluster.
    pub(crate) fn of_nodes() -> Self {
        Self::OfNodes(Mutex::default())
    }

    /// From when on a block may be tried to be written there, as far as known here; `None`: never.
    fn ready_at(&self, home: NodeId, bytes: Bytes) -> Option<Duration> {
        match self {
            // Who is written to says when a place is free.
            Self::Own(_, writes) if writes.available_permits() == 0 => None,
            Self::Own(spill, _) => spill.ready_at(bytes),
            Self::OfNodes(refused) => lock(refused).get(&home).copied().unwrap_or(Some(Duration::ZERO)),
        }
    }

    fn refused(&self, home: NodeId, again_at: Option<Duration>) {
        match self {
            // It knows by itself.
            Self::Own(..) => {}
            Self::OfNodes(refused) => {
                lock(refused).insert(home, again_at);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
