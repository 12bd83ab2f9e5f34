//! What waits to be written to a peer, by weight, so that a peer that asks and does not read is not listened to meanwhile.
//!
//! Who answers puts answers into a [`line`](super::line), which has no number of places. The peer's own reading empties it;
//! a peer that only asks would fill the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes of answers that may wait for one peer before no more is read from it. Some fifty thousand small answers, a second's
/// worth; a larger bound costs memory for each peer, a smaller one makes peers wait whose link is slow.
pub(crate) const WAITING_BYTES_MAX: usize = 16 << 20;

/// The weight. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Load {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    bytes: AtomicUsize,
    lifted: AtomicBool,
    less: Notify,
}

impl Load {
    /// So much more waits.
    pub(crate) fn add(&self, bytes: usize) {
        self.inner.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much of it was written.
    pub(crate) fn sub(&self, bytes: usize) {
        self.inner.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.inner.less.notify_waiters();
    }

    /// Nothing is written any more, so nobody need wait for it.
    pub(crate) fn lift(&self) {
        self.inner.lifted.store(true, Ordering::Relaxed);
        self.inner.less.notify_waiters();
    }

    /// Waits until there is less than may wait.
    pub(crate) async fn until_less(&self) {
        loop {
            // Asked for before the look, so that no change in between is missed.
            let less = self.inner.less.notified();
            let is_less = self.inner.bytes.load(Ordering::Relaxed) < WAITING_BYTES_MAX;
            if is_less || self.inner.lifted.load(Ordering::Relaxed) {
                return;
            }
            less.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn who_reads_waits_while_too_much_waits_to_be_written_and_no_longer_than_that() {
        let load = Load::default();
        load.add(WAITING_BYTES_MAX - 1);
        assert!(load.until_less().now_or_never().is_some());
        load.add(1);
        let mut waiting = Box::pin(load.until_less());
        assert!((&mut waiting).now_or_never().is_none());
        load.sub(2);
        assert!((&mut waiting).now_or_never().is_some());
        load.add(2);
        let mut waiting = Box::pin(load.until_less());
        assert!((&mut waiting).now_or_never().is_none());
        load.lift();
        assert!((&mut waiting).now_or_never().is_some());
    }
}
