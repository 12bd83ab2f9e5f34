//! A set of numbers as ranges: pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint ranges that do not touch, by their beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range; one that touches others joins them. A range that is in here already, in part or as a whole, is
    /// refused with what is in here of it.
    pub(super) fn insert(&mut self, range: Range<u64>) -> Result<(), Range<u64>> {
        if range.is_empty() {
            return Ok(());
        }
        if let Some((&from, &to)) = self.0.range(..range.end).next_back()
            && to > range.start
        {
            return Err(from.max(range.start)..to.min(range.end));
        }
        let mut joined = range;
        if let Some((&from, &to)) = self.0.range(..=joined.start).next_back()
            && to == joined.start
        {
            joined.start = from;
        }
        if let Some(to) = self.0.remove(&joined.end) {
            joined.end = to;
        }
        self.0.insert(joined.start, joined.end);
        Ok(())
    }

    /// What of `all` is not in here.
    pub(super) fn gaps(&self, all: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = all.start;
        for (&from, &to) in self.0.range(..all.end) {
            if from > at {
                gaps.push(at..from);
            }
            at = at.max(to);
        }
        if at < all.end {
            gaps.push(at..all.end);
        }
        gaps
    }

    /// Whether it is this one range.
    pub(super) fn is(&self, range: Range<u64>) -> bool {
        self.0.len() == 1 && self.0.get(&range.start) == Some(&range.end)
    }

    /// How many numbers are in here.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Against a plain set of numbers: what is refused, what is in, and what is missing.
        #[test]
        fn ranges_are_a_set(inserts in prop::collection::vec((0u64..40, 0u64..10), 0..40)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (from, len) in inserts {
                let range = from..from + len;
                let overlaps = range.clone().any(|n| set.contains(&n));
                let inserted = ranges.insert(range.clone());
                prop_assert_eq!(inserted.is_err(), overlaps);
                match inserted {
                    Ok(()) => set.extend(range),
                    Err(of) => prop_assert!(!of.is_empty() && of.clone().any(|n| set.contains(&n))),
                }
                prop_assert_eq!(ranges.count(), set.len() as u64);
                let missing: Vec<_> = ranges.gaps(5..45).into_iter().flatten().collect();
                prop_assert_eq!(missing, (5..45).filter(|n| !set.contains(n)).collect::<Vec<_>>());
                prop_assert!(ranges.0.iter().zip(ranges.0.keys().skip(1)).all(|((_, to), next)| to < next));
            }
        }
    }
}
