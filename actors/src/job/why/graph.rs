//! Who waits for whom: parties and edges, and the chains from each root cause to all who wait because of it.
//!
//! Pure, and of any parties: who they are is told in [`super::parties`]. A root cause is a party that waits for nobody, or
//! a cycle whose parties wait for each other and for nobody else.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Parties, and whom each waits for.
#[derive(Debug, Clone)]
pub(crate) struct Graph<P> {
    waits_for: BTreeMap<P, BTreeSet<P>>,
}

/// A root cause and those who wait because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain<P> {
    /// One party, or those of a cycle: each waits for the next, the last for the first.
    pub(crate) root: Vec<P>,
    pub(crate) is_cycle: bool,
    /// The others. Each waits for the nearest before it that is one step less deep; the root is at depth 0.
    pub(crate) waiting: Vec<(usize, P)>,
}

impl<P> Default for Graph<P> {
    fn default() -> Self {
        Self { waits_for: BTreeMap::new() }
    }
}

impl<P: Ord + Clone> Graph<P> {
    /// A party, which may wait for nobody.
    pub(crate) fn party(&mut self, party: P) {
        self.waits_for.entry(party).or_default();
    }

    /// `who` waits for `whom`.
    pub(crate) fn edge(&mut self, who: P, whom: P) {
        self.party(whom.clone());
        self.waits_for.entry(who).or_default().insert(whom);
    }

    /// Whether this party waits for anybody.
    #[cfg(test)]
    pub(crate) fn waits(&self, party: &P) -> bool {
        self.waits_for.get(party).is_some_and(|whom| !whom.is_empty())
    }

    /// The chains, in the order of their roots. A party that waits is in the chain of each root that it waits for,
    /// directly or not, once.
    pub(crate) fn chains(&self) -> Vec<Chain<P>> {
        let links = Links::of(&self.waits_for);
        let roots = links.knots().into_iter().filter(|knot| links.is_root(knot));
        let mut chains: Vec<_> = roots.map(|knot| links.chain(&knot)).collect();
        chains.sort_by(|a, b| a.root.cmp(&b.root));
        chains
    }
}

/// The graph by numbers, in both directions.
struct Links<'a, P> {
    parties: Vec<&'a P>,
    waits_for: Vec<Vec<usize>>,
    waited_for_by: Vec<Vec<usize>>,
}

/// Parties that all wait for each other; mostly one alone.
type Knot = BTreeSet<usize>;

impl<'a, P: Ord + Clone> Links<'a, P> {
    fn of(graph: &'a BTreeMap<P, BTreeSet<P>>) -> Self {
        let parties: Vec<&P> = graph.keys().collect();
        let number: BTreeMap<&P, usize> = parties.iter().enumerate().map(|(number, party)| (*party, number)).collect();
        let numbers = |whom: &BTreeSet<P>| whom.iter().filter_map(|party| number.get(party).copied()).collect();
        let waits_for: Vec<Vec<usize>> = graph.values().map(numbers).collect();
        let mut waited_for_by = vec![Vec::new(); parties.len()];
        for (who, whom) in waits_for.iter().enumerate() {
            for &whom in whom {
                if let Some(by) = waited_for_by.get_mut(whom) {
                    by.push(who);
                }
            }
        }
        Self { parties, waits_for, waited_for_by }
    }

    /// All parties in knots (the strongly connected components, by Kosaraju's two searches).
    fn knots(&self) -> Vec<Knot> {
        let mut seen = BTreeSet::new();
        let mut left = Vec::new();
        for start in 0..self.parties.len() {
            search(&self.waits_for, start, &mut seen, &mut |party| left.push(party));
        }
        let mut taken = BTreeSet::new();
        let mut knots = Vec::new();
        for start in left.into_iter().rev() {
            let mut knot = Knot::new();
            search(&self.waited_for_by, start, &mut taken, &mut |party| {
                knot.insert(party);
            });
            if !knot.is_empty() {
                knots.push(knot);
            }
        }
        knots
    }

    fn next(&self, party: usize) -> &[usize] {
        self.waits_for.get(party).map_or(&[], Vec::as_slice)
    }

    fn is_root(&self, knot: &Knot) -> bool {
        knot.iter().all(|party| self.next(*party).iter().all(|whom| knot.contains(whom)))
    }

    fn chain(&self, knot: &Knot) -> Chain<P> {
        let first = knot.first().copied().unwrap_or_default();
        let cycle = self.cycle(first, knot);
        let root = if cycle.is_empty() { vec![first] } else { cycle.clone() };
        let mut seen: BTreeSet<usize> = root.iter().copied().collect();
        let mut waiting = Vec::new();
        // The last to be pushed comes out first, so each party is followed by those who wait for it.
        let mut open: Vec<(usize, usize)> = Vec::new();
        let push = |open: &mut Vec<_>, depth, party: usize| {
            let by = self.waited_for_by.get(party).map_or(&[][..], Vec::as_slice);
            open.extend(by.iter().rev().map(|who| (depth, *who)));
        };
        root.iter().rev().for_each(|party| push(&mut open, 1, *party));
        while let Some((depth, party)) = open.pop() {
            if seen.insert(party) {
                waiting.push((depth, party));
                push(&mut open, depth + 1, party);
            }
        }
        let named = |party: usize| self.parties.get(party).map(|party| P::clone(party));
        Chain {
            root: root.into_iter().filter_map(named).collect(),
            is_cycle: !cycle.is_empty(),
            waiting: waiting.into_iter().filter_map(|(depth, party)| Some((depth, named(party)?))).collect(),
        }
    }

    /// The shortest way from `first` back to itself within the knot, without its end; empty if there is none.
    fn cycle(&self, first: usize, knot: &Knot) -> Vec<usize> {
        let mut came_from = BTreeMap::new();
        let mut open = VecDeque::from([first]);
        while let Some(party) = open.pop_front() {
            for &whom in self.next(party).iter().filter(|whom| knot.contains(whom)) {
                if whom == first {
                    let mut way: Vec<usize> =
                        std::iter::successors(Some(party), |at| came_from.get(at).copied()).collect();
                    way.reverse();
                    return way;
                }
                if let Entry::Vacant(entry) = came_from.entry(whom) {
                    entry.insert(party);
                    open.push_back(whom);
                }
            }
        }
        Vec::new()
    }
}

/// Searches from `start` in depth, and says each party that had not been seen when all behind it were.
fn search(links: &[Vec<usize>], start: usize, seen: &mut BTreeSet<usize>, left: &mut dyn FnMut(usize)) {
    if !seen.insert(start) {
        return;
    }
    let mut open = vec![(start, 0)];
    while let Some((party, at)) = open.last_mut() {
        match links.get(*party).and_then(|next| next.get(*at)) {
            Some(&next) => {
                *at += 1;
                if seen.insert(next) {
                    open.push((next, 0));
                }
            }
            None => {
                left(*party);
                open.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn graph(edges: &[(u32, u32)]) -> Graph<u32> {
        let mut graph = Graph::default();
        edges.iter().for_each(|(who, whom)| graph.edge(*who, *whom));
        graph
    }

    #[test]
    fn a_chain_begins_with_its_root_cause() {
        let chains = graph(&[(3, 2), (2, 1), (4, 2), (9, 8)]).chains();
        assert_eq!(chains.len(), 2);
        assert_eq!((&chains[0].root, chains[0].is_cycle), (&vec![1], false));
        assert_eq!(chains[0].waiting, [(1, 2), (2, 3), (2, 4)]);
        assert_eq!((&chains[1].root, &chains[1].waiting), (&vec![8], &vec![(1, 9)]));
    }

    #[test]
    fn a_cycle_is_named_and_who_waits_for_it_is_behind_it() {
        let chains = graph(&[(1, 2), (2, 3), (3, 1), (4, 2), (5, 4)]).chains();
        assert_eq!(chains, [Chain { root: vec![1, 2, 3], is_cycle: true, waiting: vec![(1, 4), (2, 5)] }]);
        assert!(graph(&[(1, 1)]).chains()[0].is_cycle, "who waits for itself");
    }

    #[test]
    fn a_cycle_that_waits_for_somebody_is_no_root_cause() {
        let chains = graph(&[(1, 2), (2, 1), (2, 7)]).chains();
        assert_eq!(chains, [Chain { root: vec![7], is_cycle: false, waiting: vec![(1, 2), (2, 1)] }]);
    }

    #[test]
    fn a_long_chain_takes_no_stack() {
        let edges: Vec<_> = (0..100_000).map(|n| (n, n + 1)).collect();
        assert_eq!(graph(&edges).chains()[0].waiting.len(), 100_000);
    }

    proptest! {
        /// Whoever waits is in a chain, once in each, behind one that it waits for; and a cycle is one.
        #[test]
        fn every_waiting_party_is_in_a_chain(edges in prop::collection::vec((0..20u32, 0..20u32), 0..60)) {
            let (graph, chains) = (graph(&edges), graph(&edges).chains());
            let mut found = BTreeSet::new();
            for Chain { root, is_cycle, waiting } in &chains {
                prop_assert_eq!(*is_cycle, graph.waits(&root[0]));
                for (at, party) in root.iter().enumerate().filter(|_| *is_cycle) {
                    prop_assert!(graph.waits_for[party].contains(&root[(at + 1) % root.len()]));
                }
                let mut behind: Vec<BTreeSet<u32>> = vec![root.iter().copied().collect()];
                let mut once: BTreeSet<u32> = behind[0].clone();
                for (depth, party) in waiting {
                    prop_assert!(once.insert(*party), "{} twice", party);
                    behind.truncate(*depth);
                    prop_assert!(behind.last().expect("the root").iter().any(|whom| graph.waits_for[party].contains(whom)));
                    behind.push([*party].into());
                }
                found.extend(once);
            }
            prop_assert_eq!(found, graph.waits_for.keys().copied().collect::<BTreeSet<_>>());
        }
    }
}
