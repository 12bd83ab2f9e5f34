//! Room that the head grants to the workers of another node, asked for in chunks so that a slice rarely waits for the
//! wire.
//!
//! The head owns the window of an operator. A task that needs room asks through its stream; the answer is credit, from
//! which its slices take. What a task has left when its results leave is told to the head, which takes it back into its
//! count; see `cluster/frames.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::window::Took;
use crate::runtime::room::{Permit, RoomEdge};
use crate::units::Bytes;

/// The credit of the tasks that run here. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Grants {
    inner: Arc<Inner>,
}

struct Inner {
    /// Counts what is held here and bounds nothing: the head does.
    edge: RoomEdge,
    /// Least to ask for at once.
    chunk: Bytes,
    ask: Box<dyn Fn(u64, Bytes) + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, Credit>,
    closed: bool,
}

#[derive(Default)]
struct Credit {
    bytes: u64,
    waiting: Option<oneshot::Sender<Answer>>,
}

/// What the head says to a task that asked.
pub(crate) enum Answer {
    Granted,
    PutBack,
}

impl Grants {
    /// `ask` sends "this task needs so many bytes" to the head.
    pub(crate) fn new(edge: RoomEdge, chunk: Bytes, ask: impl Fn(u64, Bytes) + Send + Sync + 'static) -> Self {
        Self { inner: Arc::new(Inner { edge, chunk, ask: Box::new(ask), state: Mutex::default() }) }
    }

    /// A task has come; only now can it be given credit.
    pub(crate) fn begin(&self, seq: u64) {
        self.lock().tasks.insert(seq, Credit::default());
    }

    /// The task has left; credit that still comes for it is void.
    pub(crate) fn end(&self, seq: u64) {
        self.lock().tasks.remove(&seq);
    }

    /// What the task has left.
    pub(crate) fn left(&self, seq: u64) -> Bytes {
        Bytes(self.lock().tasks.get(&seq).map_or(0, |credit| credit.bytes))
    }

    /// The head granted room.
    pub(crate) fn granted(&self, seq: u64, bytes: Bytes) {
        self.answer(seq, bytes, Answer::Granted);
    }

    /// The head wants the task back.
    pub(crate) fn put_back(&self, seq: u64) {
        self.answer(seq, Bytes(0), Answer::PutBack);
    }

    fn answer(&self, seq: u64, bytes: Bytes, answer: Answer) {
        let waiting = {
            let mut state = self.lock();
            let Some(credit) = state.tasks.get_mut(&seq) else { return };
            credit.bytes += bytes.0;
            credit.waiting.take()
        };
        if let Some(waiting) = waiting {
            // A task that no longer waits keeps the credit for its next slice.
            let _ = waiting.send(answer);
        }
    }

    pub(crate) fn try_take(&self, bytes: Bytes, seq: u64) -> Option<Permit> {
        {
            let mut state = self.lock();
            let credit = state.tasks.get_mut(&seq).filter(|credit| credit.bytes >= bytes.0)?;
            credit.bytes -= bytes.0;
        }
        Some(self.force(bytes))
    }

    pub(crate) async fn take(&self, bytes: Bytes, seq: u64) -> Took {
        loop {
            if let Some(permit) = self.try_take(bytes, seq) {
                return Took::Room(permit);
            }
            let (tx, rx) = oneshot::channel();
            let missing = {
                let mut state = self.lock();
                if state.closed {
                    return Took::Closed;
                }
                let Some(credit) = state.tasks.get_mut(&seq) else { return Took::Closed };
                credit.waiting = Some(tx);
                Bytes(bytes.0 - credit.bytes.min(bytes.0))
            };
            (self.inner.ask)(seq, missing.max(self.inner.chunk));
            match rx.await {
                Ok(Answer::Granted) => {}
                Ok(Answer::PutBack) => return Took::PutBack,
                Err(_) => return Took::Closed,
            }
        }
    }

    pub(crate) fn force(&self, bytes: Bytes) -> Permit {
        self.inner.edge.force(bytes)
    }

    /// Ends all: who waits is told so.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.tasks.values_mut().for_each(|credit| credit.waiting = None);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::budget::EdgeLimits;
    use crate::runtime::room::Room;
    use futures::FutureExt;

    fn grants() -> (Grants, Arc<Mutex<Vec<(u64, u64)>>>) {
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let log = Arc::clone(&asked);
        let limits = EdgeLimits { floor: 0, cap: u64::MAX, items_max: usize::MAX, depth: 0 };
        let edge = Room::new(Bytes(u64::MAX)).edge(limits);
        (Grants::new(edge, Bytes(100), move |seq, bytes| log.lock().expect("no panic").push((seq, bytes.0))), asked)
    }

    #[test]
    fn a_task_asks_in_chunks_and_takes_from_its_credit() {
        let (grants, asked) = grants();
        grants.begin(7);
        let mut first = Box::pin(grants.take(Bytes(30), 7));
        assert!(first.as_mut().now_or_never().is_none());
        grants.granted(7, Bytes(100));
        assert!(matches!(first.now_or_never(), Some(Took::Room(_))));
        assert!(grants.try_take(Bytes(60), 7).is_some());
        assert_eq!(grants.left(7), Bytes(10));
        let mut large = Box::pin(grants.take(Bytes(500), 7));
        assert!(large.as_mut().now_or_never().is_none());
        assert_eq!(*asked.lock().expect("no panic"), [(7, 100), (7, 490)]);
    }

    #[test]
    fn credit_for_a_task_that_has_left_is_void_and_a_closed_window_wakes_who_waits() {
        let (grants, _) = grants();
        grants.begin(1);
        let mut back = Box::pin(grants.take(Bytes(1), 1));
        assert!(back.as_mut().now_or_never().is_none());
        grants.put_back(1);
        assert!(matches!(back.now_or_never(), Some(Took::PutBack)));
        grants.end(1);
        grants.granted(1, Bytes(100));
        assert_eq!(grants.left(1), Bytes(0));
        grants.begin(2);
        let mut stuck = Box::pin(grants.take(Bytes(1), 2));
        assert!(stuck.as_mut().now_or_never().is_none());
        grants.close();
        assert!(matches!(stuck.now_or_never(), Some(Took::Closed)));
    }
}
