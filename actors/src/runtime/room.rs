//! Room: byte permits taken before a block exists, carried with it, given back when its receiver has passed it on.
//!
//! The thinking is in [`super::budget`]; this shell adds waiting. Who waits is served in the order of (steps to the
//! sink, key, arrival): downstream first, then the oldest task.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::budget::{Budget, EdgeId, EdgeLimits};
use crate::plant::{Bug, is_planted};
use crate::units::Bytes;

/// The room of a node: one memory budget shared by the edges of all its jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Room {
    state: Arc<Mutex<State>>,
}

struct State {
    budget: Budget,
    next_edge: u64,
    next_ticket: u64,
    waiting: BTreeMap<Place, Waiter>,
    urgent: BTreeMap<EdgeId, u64>,
}

/// Where a waiter stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    depth: usize,
    edge: EdgeId,
    key: u64,
    ticket: u64,
}

struct Waiter {
    bytes: u64,
    grant: oneshot::Sender<Permit>,
}

impl Room {
    pub(crate) fn new(total: Bytes) -> Self {
        let budget = Budget::new(total.0);
        let (waiting, urgent) = (BTreeMap::new(), BTreeMap::new());
        let state = State { budget, next_edge: 0, next_ticket: 0, waiting, urgent };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A new edge; it goes with the last clone of what is returned.
    pub(crate) fn edge(&self, limits: EdgeLimits) -> RoomEdge {
        let mut state = self.lock();
        let id = EdgeId(state.next_edge);
        state.next_edge += 1;
        state.budget.add(id, limits);
        RoomEdge { owner: Arc::new(EdgeOwner { id, room: self.clone() }) }
    }

    /// There is more or less of it from now on.
    pub(crate) fn set_total(&self, total: Bytes) {
        self.change(|state| state.budget.set_total(total.0));
    }

    /// All bytes there are.
    pub(crate) fn total(&self) -> Bytes {
        Bytes(self.lock().budget.total())
    }

    /// Bytes that no edge has as its own.
    pub(crate) fn unclaimed(&self) -> Bytes {
        Bytes(self.lock().budget.unclaimed())
    }

    /// Bytes held now and the most that ever were.
    pub(crate) fn used_and_peak(&self) -> (Bytes, Bytes) {
        let (used, peak) = self.lock().budget.used_and_peak();
        (Bytes(used), Bytes(peak))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: EdgeId) {
        self.change(|state| {
            state.budget.remove(id);
            state.urgent.remove(&id);
            state.waiting.retain(|place, _| place.edge != id);
        });
    }

    /// Changes the budget, then serves who waits. Permits are sent after the lock is released, because one that nobody
    /// wants any more gives its room back, which takes the lock again.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut granted = Vec::new();
        let result = {
            let mut state = self.lock();
            let result = change(&mut state);
            if !state.waiting.is_empty() {
                state.serve(self, &mut granted);
            }
            result
        };
        for (grant, permit) in granted {
            let _ = grant.send(permit);
        }
        result
    }
}

impl State {
    fn take_if_urgent(&mut self, edge: EdgeId, key: u64, bytes: u64) -> bool {
        let urgent = self.urgent.get(&edge) == Some(&key);
        if urgent {
            self.urgent.remove(&edge);
            self.budget.take(edge, bytes);
        }
        urgent
    }

    /// Grants what can be granted: the first of each edge, downstream edges first. Behind a waiter that does not fit,
    /// nobody of the same edge is served, or a large block would wait for ever.
    fn serve(&mut self, room: &Room, granted: &mut Vec<(oneshot::Sender<Permit>, Permit)>) {
        let mut next = self.waiting.first_key_value().map(|(place, _)| *place);
        while let Some(place) = next {
            let served = self.serve_one(place, room, granted);
            next = match served {
                true => self.waiting.range(place..).next().map(|(place, _)| *place),
                // On to the next edge; of this one, only a waiter that is urgent.
                false => {
                    let last = Place { key: u64::MAX, ticket: u64::MAX, ..place };
                    self.serve_urgent(place, last, room, granted);
                    self.waiting.range((Bound::Excluded(last), Bound::Unbounded)).next().map(|(place, _)| *place)
                }
            };
        }
    }

    /// Grants this waiter, or forgets it if it has gone; `false` if there is no room for it.
    fn serve_one(&mut self, place: Place, room: &Room, granted: &mut Vec<(oneshot::Sender<Permit>, Permit)>) -> bool {
        let Some(waiter) = self.waiting.get(&place) else { return true };
        let (bytes, gone) = (waiter.bytes, waiter.grant.is_closed());
        let urgent = !gone && self.take_if_urgent(place.edge, place.key, bytes);
        let fits = gone || urgent || self.budget.is_half_free(place.edge) && self.budget.try_take(place.edge, bytes);
        if fits
            && let Some(waiter) = self.waiting.remove(&place)
            && !gone
        {
            let mut permit = Permit::new(place.edge, bytes, room);
            permit.urgent = urgent.then_some(place.key);
            granted.push((waiter.grant, permit));
        }
        fits
    }

    fn serve_urgent(
        &mut self,
        after: Place,
        last: Place,
        room: &Room,
        granted: &mut Vec<(oneshot::Sender<Permit>, Permit)>,
    ) {
        let Some(&key) = self.urgent.get(&after.edge) else { return };
        let found = self.waiting.range(after..=last).map(|(place, _)| *place).find(|place| place.key == key);
        if let Some(place) = found {
            self.serve_one(place, room, granted);
        }
    }
}

/// One edge of a room. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RoomEdge {
    owner: Arc<EdgeOwner>,
}

struct EdgeOwner {
    id: EdgeId,
    room: Room,
}

impl Drop for EdgeOwner {
    fn drop(&mut self) {
        self.room.forget(self.id);
    }
}

impl RoomEdge {
    /// Room for one thing of `bytes` for `key`, if there is some and nobody waits for it, or if `key` is urgent.
    pub(crate) fn try_take(&self, bytes: Bytes, key: u64) -> Option<Permit> {
        let EdgeOwner { id, room } = &*self.owner;
        let mut state = room.lock();
        let waited_for = state.waiting.range(place_range(&state, *id)).next().is_some();
        if !waited_for && state.budget.try_take(*id, bytes.0) || state.take_if_urgent(*id, key, bytes.0) {
            return Some(Permit::new(*id, bytes.0, room));
        }
        None
    }

    /// Room for one thing of `bytes`, waiting for it; the smallest `key` is served first. `None` once the edge is closed.
    pub(crate) async fn take(&self, bytes: Bytes, key: u64) -> Option<Permit> {
        if let Some(permit) = self.try_take(bytes, key) {
            return Some(permit);
        }
        let waiting = self.enqueue(bytes, key);
        let mut permit = waiting.await.ok()?;
        permit.urgent = None;
        Some(permit)
    }

    fn enqueue(&self, bytes: Bytes, key: u64) -> oneshot::Receiver<Permit> {
        let (grant, waiting) = oneshot::channel();
        let id = self.owner.id;
        self.owner.room.change(|state| {
            // Without the edge nobody would ever serve it: the dropped sender tells the waiter.
            let Some(depth) = state.budget.depth(id) else { return };
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.insert(Place { depth, edge: id, key, ticket }, Waiter { bytes: bytes.0, grant });
        });
        waiting
    }

    /// Room for one thing whatever the rules say; those who ask next pay for it.
    pub(crate) fn force(&self, bytes: Bytes) -> Permit {
        let EdgeOwner { id, room } = &*self.owner;
        room.lock().budget.take(*id, bytes.0);
        Permit::new(*id, bytes.0, room)
    }

    /// Lets the next thing for `key` in, once, whatever the rules say: the oldest task of an ordered window may always
    /// go on, or younger results would hold all room and wait for it for ever.
    pub(crate) fn make_urgent(&self, key: u64) {
        let id = self.owner.id;
        self.owner.room.change(|state| {
            state.urgent.insert(id, key);
        });
    }

    /// Lets the edge take shared room beyond its cap, or ends that.
    pub(crate) fn stretch(&self, stretched: bool) {
        let id = self.owner.id;
        self.owner.room.change(|state| state.budget.stretch(id, stretched));
    }

    /// Bytes and things that it holds, and the most bytes that it may hold if others leave it that much.
    pub(crate) fn filled(&self) -> (Bytes, usize, Bytes) {
        let EdgeOwner { id, room } = &*self.owner;
        let (taken, things, cap) = room.lock().budget.filled(*id).unwrap_or_default();
        (Bytes(taken), things, Bytes(cap))
    }

    /// Ends the edge: who waits is told so, and nothing is counted any more.
    pub(crate) fn close(&self) {
        self.owner.room.forget(self.owner.id);
    }
}

fn place_range(state: &State, edge: EdgeId) -> std::ops::RangeInclusive<Place> {
    let depth = state.budget.depth(edge).unwrap_or_default();
    Place { depth, edge, key: 0, ticket: 0 }..=Place { depth, edge, key: u64::MAX, ticket: u64::MAX }
}

/// Room that was taken. Given back on drop.
pub struct Permit {
    edge: EdgeId,
    bytes: u64,
    items: usize,
    room: Room,
    /// On its way to a waiter that was urgent, by its key: if that one has gone, the next one with the key is urgent.
    urgent: Option<u64>,
    /// Whether it was given back already, by somebody who holds a [`Vacate`]; of the last permits of a block only.
    vacated: Option<Arc<AtomicBool>>,
}

/// Gives the room of a permit back while the permit lives: what it was for takes no memory any more.
#[derive(Debug)]
pub(crate) struct Vacate {
    edge: EdgeId,
    bytes: u64,
    items: usize,
    room: Room,
    vacated: Arc<AtomicBool>,
}

impl Vacate {
    /// Gives it back, unless the permit is gone.
    pub(crate) fn vacate(&self) {
        if !self.vacated.swap(true, Ordering::AcqRel) {
            self.room.change(|state| state.budget.give_back(self.edge, self.bytes, self.items));
        }
    }

    /// Whether the room was given back, here or with the permit.
    pub(crate) fn is_over(&self) -> bool {
        self.vacated.load(Ordering::Acquire)
    }
}

impl Permit {
    fn new(edge: EdgeId, bytes: u64, room: &Room) -> Self {
        Self { edge, bytes, items: 1, room: room.clone(), urgent: None, vacated: None }
    }

    /// Makes the room fit what it turned out to be for.
    pub(crate) fn resize(&mut self, bytes: Bytes) {
        let (edge, before) = (self.edge, self.bytes);
        if bytes.0 > before {
            self.room.lock().budget.grow(edge, bytes.0 - before);
        } else if bytes.0 < before {
            self.room.change(|state| state.budget.shrink(edge, before - bytes.0));
        }
        self.bytes = bytes.0;
    }

    /// Cuts off the room of one of several things.
    pub(crate) fn split(&mut self, bytes: Bytes) -> Self {
        let bytes = bytes.0.min(self.bytes);
        let items = usize::from(self.items > 1);
        self.bytes -= bytes;
        self.items -= items;
        Self { edge: self.edge, bytes, items, room: self.room.clone(), urgent: None, vacated: None }
    }

    /// A way to give the room back before the permit goes. It is not cut, joined or changed after that.
    pub(crate) fn vacate(&mut self) -> Vacate {
        let vacated = Arc::clone(self.vacated.get_or_insert_default());
        Vacate { edge: self.edge, bytes: self.bytes, items: self.items, room: self.room.clone(), vacated }
    }

    /// Joins the room of another thing on the same edge to this one.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        debug_assert_eq!(self.edge, other.edge, "permits of one edge are joined");
        self.bytes += std::mem::take(&mut other.bytes);
        self.items += std::mem::take(&mut other.items);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let is_mine = self.vacated.as_ref().is_none_or(|vacated| !vacated.swap(true, Ordering::AcqRel));
        if is_mine && (self.items > 0 || self.bytes > 0) && !is_planted(Bug::LeakPermit) {
            self.room.change(|state| {
                state.budget.give_back(self.edge, self.bytes, self.items);
                if let Some(key) = self.urgent.filter(|_| state.budget.depth(self.edge).is_some()) {
                    state.urgent.entry(self.edge).or_insert(key);
                }
            });
        }
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Permit({})", Bytes(self.bytes))
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room")
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_waiter_that_leaves_before_it_is_told_leaves_its_urgency_to_the_next() {
        let room = Room::new(Bytes(100));
        let edge = room.edge(EdgeLimits { floor: 10, cap: 100, items_max: 9, depth: 0 });
        let _full = edge.force(Bytes(200));
        let mut first = Box::pin(edge.take(Bytes(5), 7));
        assert!((&mut first).now_or_never().is_none());
        edge.make_urgent(7);
        // Granted, and gone before it looked.
        drop(first);
        assert_eq!(edge.take(Bytes(5), 8).now_or_never().map(|_| ()), None, "of the task it was for");
        assert!(edge.take(Bytes(5), 7).now_or_never().flatten().is_some());
        assert!(edge.take(Bytes(5), 7).now_or_never().is_none(), "once");
    }

    #[test]
    fn room_that_was_vacated_is_given_back_once_whoever_comes_first() {
        let room = Room::new(Bytes(100));
        let edge = room.edge(EdgeLimits { floor: 10, cap: 100, items_max: 9, depth: 0 });
        for permit_first in [false, true] {
            let mut permit = edge.force(Bytes(60));
            let vacate = permit.vacate();
            assert!(!vacate.is_over());
            if permit_first {
                drop(permit);
                vacate.vacate();
            } else {
                vacate.vacate();
                assert_eq!(room.used_and_peak().0, Bytes(0), "the permit lives, its room is free");
                drop(permit);
            }
            assert!(vacate.is_over());
            assert_eq!(room.used_and_peak().0, Bytes(0));
        }
    }
}
