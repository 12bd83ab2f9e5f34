//! A line: the way from threads that must not wait to a task that passes things on.
//!
//! It has no number of places. What stands in it is bounded elsewhere: each thing is for a block that has taken room, or
//! says that one is let go, and a block does either a few times only.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

struct Inner<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    things: VecDeque<T>,
    senders: usize,
    received: bool,
}

impl<T> Inner<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both ends of a new line.
pub(crate) fn line<T>() -> (LineSender<T>, LineReceiver<T>) {
    let state = Mutex::new(State { things: VecDeque::new(), senders: 1, received: true });
    let inner = Arc::new(Inner { state, changed: Notify::new() });
    (LineSender { inner: Arc::clone(&inner) }, LineReceiver { inner })
}

/// Where things go in.
pub(crate) struct LineSender<T> {
    inner: Arc<Inner<T>>,
}

impl<T> LineSender<T> {
    /// Puts a thing in; it is dropped if nobody receives any more.
    pub(crate) fn send(&self, thing: T) {
        let mut state = self.inner.lock();
        if state.received {
            state.things.push_back(thing);
            drop(state);
            self.inner.changed.notify_one();
        }
    }
}

impl<T> Clone for LineSender<T> {
    fn clone(&self) -> Self {
        self.inner.lock().senders += 1;
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> Drop for LineSender<T> {
    fn drop(&mut self) {
        self.inner.lock().senders -= 1;
        self.inner.changed.notify_one();
    }
}

/// Where things come out, in order.
pub(crate) struct LineReceiver<T> {
    inner: Arc<Inner<T>>,
}

impl<T> LineReceiver<T> {
    /// The next thing, waiting for it; `None` when nobody can send any more.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        loop {
            {
                let mut state = self.inner.lock();
                if let Some(thing) = state.things.pop_front() {
                    return Some(thing);
                }
                if state.senders == 0 {
                    return None;
                }
            }
            // A notification between the look and this is kept.
            self.inner.changed.notified().await;
        }
    }

    /// The next things, `most` at most, waiting for the first; none when nobody can send any more.
    pub(crate) async fn recv_many(&mut self, most: usize) -> Vec<T> {
        let Some(first) = self.recv().await else { return Vec::new() };
        let mut state = self.inner.lock();
        let more = state.things.len().min(most.saturating_sub(1));
        std::iter::once(first).chain(state.things.drain(..more)).collect()
    }
}

impl<T> Drop for LineReceiver<T> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.inner.lock();
            state.received = false;
            std::mem::take(&mut state.things)
        };
        // What is in them may send again, so after the lock.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn things_come_out_in_order_until_the_last_sender_is_gone() {
        let (sender, mut receiver) = line();
        let other = sender.clone();
        (0..5).for_each(|n| sender.send(n));
        assert_eq!(receiver.recv().now_or_never(), Some(Some(0)));
        assert_eq!(receiver.recv_many(3).now_or_never(), Some(vec![1, 2, 3]));
        drop(sender);
        other.send(5);
        assert_eq!(receiver.recv_many(9).now_or_never(), Some(vec![4, 5]));
        assert_eq!(receiver.recv().now_or_never(), None);
        drop(other);
        assert_eq!(receiver.recv().now_or_never(), Some(None));
    }

    #[test]
    fn nothing_is_kept_for_a_receiver_that_is_gone() {
        let (sender, receiver) = line();
        let thing = Arc::new(());
        sender.send(Arc::clone(&thing));
        drop(receiver);
        sender.send(Arc::clone(&thing));
        assert_eq!(Arc::strong_count(&thing), 1);
    }
}
