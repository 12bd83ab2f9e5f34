//! Results for the items of an iterator.

use std::collections::BTreeSet;

use super::plan::ItemId;
use super::{Accepts, ActorPool, PoolError, Travels};

/// Results for the items of an iterator: see [`ActorPool::map`]. Dropped, items that are under way are done for nobody.
pub struct Map<'a, A: Accepts<M>, M: Travels + Clone, I> {
    pool: &'a ActorPool<A, M>,
    items: std::iter::Fuse<I>,
    ordered: bool,
    /// What was submitted and is not taken.
    under_way: BTreeSet<ItemId>,
}

impl<'a, A: Accepts<M>, M: Travels + Clone, I: Iterator<Item = M>> Map<'a, A, M, I> {
    pub(super) fn new(pool: &'a ActorPool<A, M>, items: I, ordered: bool) -> Self {
        Self { pool, items: items.fuse(), ordered, under_way: BTreeSet::new() }
    }

    /// Submits as many items as there is room for, at least one if none is under way.
    fn fill(&mut self) -> Result<(), PoolError> {
        while self.under_way.is_empty() || self.pool.inner.room.available_permits() > 0 {
            let Some(message) = self.items.next() else { break };
            self.under_way.insert(self.pool.inner.submit(message, false)?);
        }
        Ok(())
    }

    /// What can be taken now.
    fn ready(&self, is_ready: impl Fn(&ItemId) -> bool) -> Option<ItemId> {
        match self.ordered {
            true => self.under_way.first().copied().filter(is_ready),
            false => self.under_way.iter().copied().find(is_ready),
        }
    }
}

impl<A: Accepts<M>, M: Travels + Clone, I: Iterator<Item = M>> Iterator for Map<'_, A, M, I> {
    type Item = Result<M::Result, PoolError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.fill() {
            return Some(Err(error));
        }
        if self.under_way.is_empty() {
            return None;
        }
        let inner = &self.pool.inner;
        let mut state = inner.lock();
        loop {
            if let Some(item) = self.ready(|item| state.results.contains_key(item)) {
                self.under_way.remove(&item);
                return state.results.remove(&item);
            }
            state = inner.wait(state);
        }
    }
}

impl<A: Accepts<M>, M: Travels + Clone, I> Drop for Map<'_, A, M, I> {
    fn drop(&mut self) {
        let mut state = self.pool.inner.lock();
        for item in &self.under_way {
            // One that is not done is kept by nobody when it is: its result goes with the pool.
            state.results.remove(item);
        }
    }
}
