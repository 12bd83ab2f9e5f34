//! The results that an ordered operator holds back, as its workers see them: a worker that waits for room may make some.
//!
//! What is done is decided in [`shelf`](crate::store::spill::shelf). The worker that needs the room does it, on its own
//! thread and without a turn on a core: it has nothing else to do, and so no result is made faster than the disk takes
//! them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::block::BlockRef;
use crate::runtime::env::SharedEnv;
use crate::runtime::room::{Permit, RoomEdge, Vacate};
use crate::store::Stored;
use crate::store::spill::shelf::{Relief, Shelf};
use crate::store::spill::{Spill, SpillError};
use crate::units::Bytes;

/// The results of one operator on this node.
pub(crate) struct HeldBack {
    edge: RoomEdge,
    spill: Spill,
    env: SharedEnv,
    shelf: Mutex<Shelf<Result>>,
    changed: Notify,
}

/// A result, with the room that it takes.
struct Result {
    stored: Arc<Stored>,
    room: Vacate,
}

impl HeldBack {
    /// `edge` is the operator's window.
    pub(crate) fn new(edge: RoomEdge, spill: Spill, env: SharedEnv, spill_after: Duration) -> Self {
        Self { edge, spill, env, shelf: Mutex::new(Shelf::new(spill_after)), changed: Notify::new() }
    }

    /// A task has a result, which takes this room until it leaves.
    pub(crate) fn put(&self, task: u64, block: &BlockRef, room: &mut Permit) {
        let Some(stored) = block.stored().filter(|_| block.bytes > Bytes(0)) else { return };
        let result = Result { stored: Arc::clone(stored), room: room.vacate() };
        let mut shelf = self.lock();
        shelf.put(task, block.bytes, result);
        shelf.forget(|result| result.room.is_over());
        drop(shelf);
        self.changed.notify_waiters();
    }

    /// All results of younger tasks wait for this one, and for nothing else; `None`: for something behind the operator, or
    /// nothing waits.
    pub(crate) fn hold(&self, oldest: Option<u64>) {
        if self.lock().hold(oldest, self.env.now()) {
            self.edge.stretch(false);
            self.changed.notify_waiters();
        }
    }

    /// Makes some room, as soon as the rules allow it.
    pub(crate) async fn relieve(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.env.now();
            let relief = self.lock().relief(now, |bytes| self.spill.ready_at(bytes));
            match relief {
                Relief::None => changed.await,
                Relief::At(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(at.saturating_sub(now)) => {}
                },
                Relief::Stretch => {
                    self.lock().stretched();
                    return self.edge.stretch(true);
                }
                Relief::Spill => return self.spill_one(),
            }
        }
    }

    fn spill_one(&self) {
        let Some((task, bytes, result)) = self.lock().take() else { return };
        match result.stored.spill(&self.spill) {
            Ok(true) => result.room.vacate(),
            // It is being used.
            Ok(false) => {}
            Err(SpillError::Encode(error)) => tracing::debug!(%error, "a block stays in memory"),
            Err(_) => self.lock().put(task, bytes, result),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<Result>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
