//! The pure thinking behind room: how a memory budget is divided among edges so that it is kept and nothing hangs.
//!
//! An *edge* here is any bounded place where blocks are: a port between two operators, or the window of results that an
//! operator holds back to keep them in order. Three rules (each has a test):
//! 1. Every edge owns a *floor* that nobody else can take. What lies above the floors is shared, downstream first.
//! 2. An edge that holds nothing always takes one thing, however large: admitted alone rather than never. With acyclic
//!    edges the last operator can therefore always go on, and so, one by one, can those before it.
//! 3. An edge never takes more than its *cap* in shared room: queues longer than what keeps the workers busy add memory
//!    and no speed.

use std::collections::BTreeMap;

/// The part of the shared room that an edge beyond its cap may take: the others still have as much.
const STRETCH_SHARE: u64 = 2;

/// Names an edge within a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EdgeId(pub(crate) u64);

/// What an edge may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgeLimits {
    /// Bytes that are its own.
    pub(crate) floor: u64,
    /// Bytes it may hold in all, if shared room is free.
    pub(crate) cap: u64,
    /// Things (blocks) it may hold.
    pub(crate) items_max: usize,
    /// Steps to the sink; the smaller, the earlier it is served.
    pub(crate) depth: usize,
}

#[derive(Debug)]
struct Edge {
    limits: EdgeLimits,
    used: u64,
    items: usize,
    stretched: bool,
}

impl Edge {
    /// Bytes above the floor, which count against the shared room.
    fn shared(&self) -> u64 {
        self.used.saturating_sub(self.limits.floor)
    }
}

/// How a budget is used.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u64,
    floors: u64,
    shared_used: u64,
    used: u64,
    peak: u64,
    edges: BTreeMap<EdgeId, Edge>,
}

impl Budget {
    pub(crate) fn new(total: u64) -> Self {
        Self { total, floors: 0, shared_used: 0, used: 0, peak: 0, edges: BTreeMap::new() }
    }

    /// There is more or less of it from now on. What is held above a smaller total is paid for by those who ask next.
    pub(crate) fn set_total(&mut self, total: u64) {
        self.total = total;
    }

    /// All bytes there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Adds an edge that holds nothing. With the first one after all have gone, the peak is counted anew: that of a job is
    /// not to be that of one before it.
    pub(crate) fn add(&mut self, id: EdgeId, limits: EdgeLimits) {
        if self.edges.is_empty() {
            self.peak = self.used;
        }
        let limits = EdgeLimits { cap: limits.cap.max(limits.floor), ..limits };
        self.floors += limits.floor;
        self.edges.insert(id, Edge { limits, used: 0, items: 0, stretched: false });
    }

    /// Forgets an edge and all it holds.
    pub(crate) fn remove(&mut self, id: EdgeId) {
        if let Some(edge) = self.edges.remove(&id) {
            self.floors -= edge.limits.floor;
            self.shared_used -= edge.shared();
            self.used -= edge.used;
        }
    }

    /// Takes room for one thing of `bytes`, if the rules allow it. An edge that is gone takes nothing and says yes:
    /// who holds on to it is about to learn that it is closed.
    pub(crate) fn try_take(&mut self, id: EdgeId, bytes: u64) -> bool {
        let shared = self.total.saturating_sub(self.floors);
        let shared_free = shared.saturating_sub(self.shared_used);
        let Some(edge) = self.edges.get(&id) else { return true };
        let after = edge.used.saturating_add(bytes);
        let extra = after.saturating_sub(edge.limits.floor) - edge.shared();
        let cap = if edge.stretched {
            edge.limits.cap.max(edge.limits.floor.saturating_add(shared / STRETCH_SHARE))
        } else {
            edge.limits.cap
        };
        let fits = after <= cap && edge.items < edge.limits.items_max && extra <= shared_free;
        if fits || edge.items == 0 {
            self.take(id, bytes);
            return true;
        }
        false
    }

    /// Lets an edge take more shared room than its cap, or ends that: what its workers make meanwhile cannot leave, and
    /// without it they would stand still beside free memory.
    pub(crate) fn stretch(&mut self, id: EdgeId, stretched: bool) {
        if let Some(edge) = self.edges.get_mut(&id) {
            edge.stretched = stretched;
        }
    }

    /// Whether an edge has emptied to its floor or to half of its cap. Who had to wait is served only then: one wake-up
    /// for several blocks instead of one for each.
    pub(crate) fn is_half_free(&self, id: EdgeId) -> bool {
        let Some(edge) = self.edges.get(&id) else { return true };
        edge.used <= edge.limits.floor.max(edge.limits.cap / 2) || edge.items == 0
    }

    /// Takes room whatever the rules say: for the oldest of an ordered window, and for what turned out larger than
    /// estimated. The debt is paid by those who ask next.
    pub(crate) fn take(&mut self, id: EdgeId, bytes: u64) {
        if let Some(edge) = self.edges.get_mut(&id) {
            edge.items += 1;
        }
        self.grow(id, bytes);
    }

    /// A thing turned out larger than its room.
    pub(crate) fn grow(&mut self, id: EdgeId, bytes: u64) {
        let Some(edge) = self.edges.get_mut(&id) else { return };
        let before = edge.shared();
        edge.used = edge.used.saturating_add(bytes);
        self.shared_used = self.shared_used.saturating_add(edge.shared() - before);
        self.used = self.used.saturating_add(bytes);
        self.peak = self.peak.max(self.used);
    }

    /// A thing turned out smaller than its room.
    pub(crate) fn shrink(&mut self, id: EdgeId, bytes: u64) {
        let Some(edge) = self.edges.get_mut(&id) else { return };
        debug_assert!(edge.used >= bytes, "room is given back once");
        let before = edge.shared();
        let bytes = bytes.min(edge.used);
        edge.used -= bytes;
        self.shared_used -= before - edge.shared();
        self.used -= bytes;
    }

    /// Gives the room of `items` things back.
    pub(crate) fn give_back(&mut self, id: EdgeId, bytes: u64, items: usize) {
        self.shrink(id, bytes);
        if let Some(edge) = self.edges.get_mut(&id) {
            debug_assert!(edge.items >= items, "room is given back once");
            edge.items = edge.items.saturating_sub(items);
        }
    }

    /// Bytes and things that an edge holds, and the most bytes that it may hold if others leave it that much.
    pub(crate) fn filled(&self, id: EdgeId) -> Option<(u64, usize, u64)> {
        self.edges.get(&id).map(|edge| (edge.used, edge.items, edge.limits.cap))
    }

    pub(crate) fn depth(&self, id: EdgeId) -> Option<usize> {
        self.edges.get(&id).map(|edge| edge.limits.depth)
    }

    /// Bytes that no edge has as its own.
    pub(crate) fn unclaimed(&self) -> u64 {
        self.total.saturating_sub(self.floors)
    }

    /// Bytes held now and the most that ever were.
    pub(crate) fn used_and_peak(&self) -> (u64, u64) {
        (self.used, self.peak)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: EdgeId = EdgeId(0);
    const B: EdgeId = EdgeId(1);

    fn limits(floor: u64, cap: u64) -> EdgeLimits {
        EdgeLimits { floor, cap, items_max: 100, depth: 0 }
    }

    fn two_edges() -> Budget {
        let mut budget = Budget::new(100);
        budget.add(A, limits(20, 80));
        budget.add(B, limits(20, 80));
        budget
    }

    #[test]
    fn the_floor_of_an_edge_is_its_own() {
        let mut budget = two_edges();
        assert!(budget.try_take(A, 79));
        assert!(budget.try_take(B, 20));
        assert!(!budget.try_take(B, 2), "A holds 59 of the 60 shared bytes");
        assert!(budget.try_take(B, 1));
    }

    #[test]
    fn an_empty_edge_takes_one_thing_however_large() {
        let mut budget = two_edges();
        assert!(budget.try_take(A, 1000));
        assert!(!budget.try_take(A, 1));
        budget.give_back(A, 1000, 1);
        assert!(budget.try_take(A, 1));
    }

    #[test]
    fn an_edge_keeps_to_its_cap_and_its_number_of_things() {
        let mut budget = Budget::new(1000);
        budget.add(A, EdgeLimits { floor: 1, cap: 50, items_max: 2, depth: 0 });
        assert!(budget.try_take(A, 40));
        assert!(!budget.try_take(A, 11));
        assert!(budget.try_take(A, 1));
        assert!(!budget.try_take(A, 1));
    }

    #[test]
    fn a_stretched_edge_goes_beyond_its_cap_into_half_of_the_shared_room() {
        let mut budget = Budget::new(100);
        budget.add(A, limits(20, 25));
        budget.add(B, limits(20, 80));
        assert!(budget.try_take(A, 25) && !budget.try_take(A, 1));
        budget.stretch(A, true);
        assert!(budget.try_take(A, 25), "half of 60 above its floor");
        assert!(!budget.try_take(A, 1));
        assert!(budget.try_take(B, 50), "the floor and the other half");
        budget.stretch(A, false);
        budget.give_back(A, 25, 1);
        assert!(!budget.try_take(A, 1), "its cap holds again");
    }

    #[test]
    fn a_budget_that_shrinks_takes_nothing_back_and_gives_nothing_more() {
        let mut budget = two_edges();
        assert!(budget.try_take(A, 79));
        budget.set_total(60);
        assert_eq!(budget.unclaimed(), 20);
        assert!(!budget.try_take(A, 1));
        assert!(budget.try_take(B, 20), "the floor is still its own");
        budget.give_back(A, 79, 1);
        assert!(budget.try_take(A, 40));
        assert!(!budget.try_take(A, 1));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take(usize, u64),
        GiveBack(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3usize, 1..60u64).prop_map(|(edge, bytes)| Step::Take(edge, bytes)),
            (0..3usize).prop_map(Step::GiveBack),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        /// At most the budget, but for one oversize thing an edge; and an empty edge is never refused.
        #[test]
        fn the_budget_is_kept(steps in steps()) {
            let mut budget = Budget::new(200);
            let mut held: Vec<Vec<u64>> = vec![Vec::new(); 3];
            for id in 0..3 {
                budget.add(EdgeId(id), EdgeLimits { floor: 30, cap: 120, items_max: 50, depth: id as usize });
            }
            for step in steps {
                match step {
                    Step::Take(edge, bytes) => {
                        let taken = budget.try_take(EdgeId(edge as u64), bytes);
                        prop_assert!(taken || !held[edge].is_empty());
                        if taken {
                            held[edge].push(bytes);
                        }
                    }
                    Step::GiveBack(edge) => {
                        if let Some(bytes) = held[edge].pop() {
                            budget.give_back(EdgeId(edge as u64), bytes, 1);
                        }
                    }
                }
                let sum: u64 = held.iter().flatten().sum();
                prop_assert_eq!(budget.used_and_peak().0, sum);
                // Each of three empty edges may have been given one thing of at most 60, 30 of it its own.
                prop_assert!(sum <= 200 + 3 * 30);
            }
        }
    }
}
