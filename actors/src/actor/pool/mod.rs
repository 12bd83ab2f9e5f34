//! ActorPool: equal actors that work off items, one each at a time.
//!
//! The thinking is in [`plan`]; this carries it out: it starts and stops workers, asks them, and keeps results until they
//! are taken. It is no actor: it owns nothing that must fail alone, and whoever holds it drives it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Accepts, ActorError, ActorHandle, Travels};
use inner::Inner;

mod builder;
mod inner;
mod map;
pub(crate) mod plan;

pub use builder::{PoolBuilder, PoolSize};
pub use map::Map;

/// Tries of one item, unless the builder says otherwise: one that ends its worker may be unlucky twice.
const ATTEMPTS: u32 = 3;
/// Time without work after which a worker goes: longer than the pause between two batches of work, shorter than a model's
/// memory is missed.
const IDLE: Duration = Duration::from_secs(60);
/// Time for one item. A worker that takes longer is taken for stuck, and replaced.
const ITEM_TIME: Duration = Duration::from_secs(3600);
/// Starts of workers that fail one after the other before what waits is given up.
const START_FAILURES: u32 = 3;
/// Items in flight for each worker that there may be: enough for all to be busy while their results are taken.
const IN_FLIGHT_A_WORKER: usize = 4;
/// Results that nobody has taken; who submits more has forgotten to.
const RESULTS_MAX: usize = 1 << 20;

/// Why an item of a pool has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Each attempt came to nothing.
    #[error("item {item} was tried {attempts} times, and the last time {cause}")]
    Failed {
        /// Its number, by the order of submission.
        item: u64,
        /// How often it was tried.
        attempts: u32,
        /// What became of the last attempt.
        cause: ActorError,
    },
    /// No worker could be started for it.
    #[error("item {item} found no worker: {cause}")]
    NoWorker {
        /// Its number, by the order of submission.
        item: u64,
        /// Why the last start failed.
        cause: ActorError,
    },
    /// Nothing is submitted whose result was not taken.
    #[error("there is nothing to wait for: all results were taken; submit more first")]
    Nothing,
    /// No result came in time.
    #[error("no result came within {0:?}")]
    Deadline(Duration),
    /// Too many results were not taken.
    #[error("{0} results wait to be taken, which is the limit; take some with `get_next` before submitting more")]
    Untaken(usize),
    /// The session has ended.
    #[error("the session of this pool has ended")]
    SessionEnded,
}

/// Equal actors that work off items. Results are taken in the order of submission or as they come. Dropped, it ends its
/// workers, and nobody gets what is not done. It may be used from several threads.
///
/// A worker that dies is replaced, and its item is tried again, elsewhere if need be; so an item may be begun more than
/// once. Workers are started when what waits can use them, as many at once, and go when they are idle.
///
/// ```
/// use actix::{Actor, Context, Handler, Message};
/// use mobula_actors::actor::ActorPool;
/// use mobula_actors::node::{Node, NodeConfig};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Squares;
///
/// #[mobula_actors::actor(crate = mobula_actors, name = "squares@1", messages(Square))]
/// impl Actor for Squares { type Context = Context<Self>; }
///
/// #[derive(Clone, Message, Serialize, Deserialize)]
/// #[rtype(result = "u64")]
/// struct Square(u64);
///
/// impl Handler<Square> for Squares {
///     type Result = u64;
///     fn handle(&mut self, Square(n): Square, _: &mut Context<Self>) -> u64 { n * n }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let node = Node::start(NodeConfig::default())?;
///     let pool: ActorPool<Squares, Square> = node.actors().spawn(Squares).pool(2).start()?;
///     let squares: Result<Vec<u64>, _> = pool.map((0..5).map(Square)).collect();
///     assert_eq!(squares?, [0, 1, 4, 9, 16]);
///     pool.submit(Square(7))?;
///     assert_eq!(pool.get_next()?, 49);
///     Ok(())
/// }
/// ```
pub struct ActorPool<A: Accepts<M>, M: Travels + Clone> {
    inner: Arc<Inner<A, M>>,
}

impl<A: Accepts<M>, M: Travels + Clone> ActorPool<A, M> {
    /// Submits an item; waits while as many as may be are in flight.
    ///
    /// # Errors
    /// If too many results were not taken, or the session has ended.
    pub fn submit(&self, message: M) -> Result<(), PoolError> {
        self.inner.submit(message, true).map(drop)
    }

    /// Whether there is a result to take, now or later.
    pub fn has_next(&self) -> bool {
        !self.inner.lock().untaken.is_empty()
    }

    /// The result of the oldest item whose result nobody has taken, waiting for it.
    ///
    /// # Errors
    /// Why the item has none, or that there is nothing to wait for.
    pub fn get_next(&self) -> Result<M::Result, PoolError> {
        self.inner.next_in_order(None)
    }

    /// As [`get_next`](Self::get_next), for so long at most. The item keeps its turn.
    ///
    /// # Errors
    /// As [`get_next`](Self::get_next), and if no result came in time.
    pub fn get_next_within(&self, time: Duration) -> Result<M::Result, PoolError> {
        self.inner.next_in_order(Some(time))
    }

    /// The result that came first of those that nobody has taken, waiting for one.
    ///
    /// # Errors
    /// Why the item has none, or that there is nothing to wait for.
    pub fn get_next_unordered(&self) -> Result<M::Result, PoolError> {
        let mut state = self.inner.lock();
        loop {
            if let Some(item) = state.finished.pop_front() {
                state.untaken.remove(&item);
                return state.results.remove(&item).unwrap_or(Err(PoolError::SessionEnded));
            }
            if state.untaken.is_empty() {
                return Err(PoolError::Nothing);
            }
            state = self.inner.wait(state);
        }
    }

    /// The results for all items, in their order. Items are taken from the iterator as fast as they are worked off.
    pub fn map<I: IntoIterator<Item = M>>(&self, items: I) -> Map<'_, A, M, I::IntoIter> {
        Map::new(self, items.into_iter(), true)
    }

    /// The results for all items, as they come.
    pub fn map_unordered<I: IntoIterator<Item = M>>(&self, items: I) -> Map<'_, A, M, I::IntoIter> {
        Map::new(self, items.into_iter(), false)
    }

    /// An actor that was spawned elsewhere joins the workers, until it is gone. If the pool holds the last clone of the
    /// handle that it was spawned with, it ends with the pool.
    pub fn push(&self, worker: ActorHandle<A>) {
        self.inner.act(|plan, state| {
            let (number, actions) = plan.on_pushed(state.1);
            state.0.insert(number, worker);
            actions
        });
    }

    /// Takes a worker out of the pool that has nothing to do; it is the caller's from now on.
    pub fn pop_idle(&self) -> Option<ActorHandle<A>> {
        let mut state = self.inner.lock();
        let worker = state.plan.pop_idle()?;
        state.workers.remove(&worker)
    }

    /// Workers that are there or are started.
    pub fn size(&self) -> usize {
        self.inner.lock().plan.workers()
    }
}

impl<A: Accepts<M>, M: Travels + Clone> Drop for ActorPool<A, M> {
    fn drop(&mut self) {
        let workers = {
            let mut state = self.inner.lock();
            state.plan.close();
            std::mem::take(&mut state.workers)
        };
        drop(workers);
    }
}

impl<A: Accepts<M>, M: Travels + Clone> fmt::Debug for ActorPool<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorPool({}, {} workers)", A::NAME, self.size())
    }
}
