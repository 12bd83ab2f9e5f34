//! Turns: claims on CPU cores for as long as a worker computes.
//!
//! There are as many workers as the operators of a job ask for, but no more of them compute at once than twice the
//! cores. Who waits is served downstream first, then in order of arrival. A turn is yielded between two slices of work
//! if someone nearer to the sink waits and the holder had it for [`QUANTUM`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a worker may go on before it yields its turn to another. Much shorter and hand-overs cost more than they
/// order; much longer and downstream starves.
pub(crate) const QUANTUM: Duration = Duration::from_millis(2);

/// Turns for each core. A worker that has a turn is off its core at times (it waits for its model's own thread, for a
/// page, for a file), and with one turn a core that core is then idle: `benches/pipeline.rs` ran slower with one.
const TURNS_A_CORE: u64 = 2;

/// The cores of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Turns {
    state: Arc<Mutex<State>>,
}

struct State {
    free_milli: u64,
    cores_milli: u64,
    next_ticket: u64,
    waiting: BTreeMap<(usize, u64), (u64, oneshot::Sender<Turn>)>,
}

impl Turns {
    /// Turns on so many cores.
    pub(crate) fn new(cpus: usize) -> Self {
        let cores_milli = cpus as u64 * 1000;
        let free_milli = cores_milli * TURNS_A_CORE;
        let state = State { free_milli, cores_milli, next_ticket: 0, waiting: BTreeMap::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A turn on `milli` thousandths of a core, if they are free and nobody waits for them.
    pub(crate) fn try_take(&self, milli: u64) -> Option<Turn> {
        let mut state = self.lock();
        if state.free_milli < milli || !state.waiting.is_empty() {
            return None;
        }
        state.free_milli -= milli;
        Some(Turn { milli, turns: self.clone() })
    }

    /// A turn on `milli` thousandths of a core, waiting for it.
    pub(crate) async fn take(&self, priority: usize, milli: u64) -> Turn {
        loop {
            if let Some(turn) = self.try_take(milli) {
                return turn;
            }
            let waiting = self.enqueue(priority, milli);
            if let Ok(turn) = waiting.await {
                return turn;
            }
        }
    }

    fn enqueue(&self, priority: usize, milli: u64) -> oneshot::Receiver<Turn> {
        let (grant, waiting) = oneshot::channel();
        {
            let mut state = self.lock();
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.insert((priority, ticket), (milli, grant));
        }
        // A core may have been given back since the first look.
        self.give_back(0);
        waiting
    }

    /// Whether more turns are out than there are cores, so that some who have one wait for a core all the same.
    pub(crate) fn exceed_cores(&self) -> bool {
        let state = self.lock();
        state.cores_milli * TURNS_A_CORE - state.free_milli > state.cores_milli
    }

    /// Whether someone of this priority or nearer to the sink waits.
    pub(crate) fn wanted_by(&self, priority: usize) -> bool {
        self.lock().waiting.first_key_value().is_some_and(|((first, _), _)| *first <= priority)
    }

    fn give_back(&self, milli: u64) {
        let mut granted = Vec::new();
        {
            let mut state = self.lock();
            state.free_milli += milli;
            // Strictly in order: a large claim at the front is not overtaken for ever by small ones.
            while let Some(entry) = state.waiting.first_entry() {
                let wanted = entry.get().0;
                if entry.get().1.is_closed() {
                    entry.remove();
                    continue;
                }
                if wanted > state.free_milli {
                    break;
                }
                if let Some((_, (milli, grant))) = state.waiting.pop_first() {
                    state.free_milli -= milli;
                    granted.push((grant, Turn { milli, turns: self.clone() }));
                }
            }
        }
        for (grant, turn) in granted {
            let _ = grant.send(turn);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claim on a core. Given back on drop.
pub(crate) struct Turn {
    milli: u64,
    turns: Turns,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.give_back(self.milli);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn the_worker_nearest_to_the_sink_gets_the_next_turn() {
        let turns = Turns::new(1);
        let held = turns.try_take(TURNS_A_CORE * 1000).expect("free");
        let mut far = Box::pin(turns.take(5, TURNS_A_CORE * 1000));
        let mut near = Box::pin(turns.take(1, TURNS_A_CORE * 1000));
        assert!(far.as_mut().now_or_never().is_none());
        assert!(near.as_mut().now_or_never().is_none());
        assert!(turns.wanted_by(1) && !turns.wanted_by(0));
        drop(held);
        let got = near.as_mut().now_or_never().expect("served first");
        assert!(far.as_mut().now_or_never().is_none());
        drop(got);
        assert!(far.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_worker_that_gives_up_waiting_loses_nobodys_turn() {
        let turns = Turns::new(1);
        let held = turns.try_take(TURNS_A_CORE * 1000).expect("free");
        let mut gone = Box::pin(turns.take(0, 1000));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        drop(held);
        assert!(turns.try_take(1000).is_some());
    }
}
