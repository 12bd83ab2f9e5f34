//! Which physical rows of some row groups are still to be read: pure bookkeeping behind pruning and resuming.

use std::collections::VecDeque;
use std::ops::Range;

/// Runs of physical rows that are read, in order; everything between them is pruned.
///
/// Rows are counted from the first of the row groups, before pruning, so a position means the same whatever is pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runs {
    /// Not empty, disjoint, ascending.
    runs: VecDeque<Range<u64>>,
    position: u64,
    end: u64,
}

impl Runs {
    /// The rows of `runs` (ascending, disjoint) from row `from` on, up to row `end`.
    pub(super) fn new(runs: impl IntoIterator<Item = Range<u64>>, from: u64, end: u64) -> Self {
        let clipped = runs.into_iter().map(|run| run.start.max(from)..run.end.min(end));
        let mut runs = Self { runs: clipped.filter(|run| !run.is_empty()).collect(), position: from.min(end), end };
        runs.settle();
        runs
    }

    /// Rows that are behind: read, pruned, or before the first.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Rows still to be read.
    pub(super) fn left(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// Whether the next so many rows, or all that are left, follow one another from the position on.
    pub(super) fn is_next(&self, rows: u64) -> bool {
        let run = self.runs.front();
        run.is_some_and(|run| run.start == self.position && run.end - run.start >= rows.min(self.left()))
    }

    /// What is still to be read.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().cloned()
    }

    /// `rows` more rows were read.
    pub(super) fn advance(&mut self, mut rows: u64) {
        while rows > 0 {
            let Some(run) = self.runs.front_mut() else { break };
            let taken = rows.min(run.end - run.start);
            run.start += taken;
            rows -= taken;
            self.position = run.start;
            if run.is_empty() {
                self.runs.pop_front();
            }
        }
        debug_assert!(rows == 0, "read {rows} rows more than there are");
        self.settle();
    }

    /// Nothing more will be read.
    pub(super) fn give_up(&mut self) {
        self.runs.clear();
        self.settle();
    }

    /// Rows pruned behind the last run are behind as soon as it is read.
    fn settle(&mut self) {
        if self.runs.is_empty() {
            self.position = self.end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_position_counts_pruned_rows() {
        let mut runs = Runs::new([2..4, 6..9], 0, 12);
        assert_eq!((runs.position(), runs.left()), (0, 5));
        assert!(!runs.is_next(2), "row 0 is pruned");
        runs.advance(1);
        assert!(runs.is_next(1) && !runs.is_next(2));
        runs.advance(1);
        assert_eq!((runs.position(), runs.left()), (4, 3));
        runs.advance(1);
        assert_eq!((runs.position(), runs.left()), (7, 2));
        assert!(runs.is_next(2) && runs.is_next(100));
        runs.advance(2);
        assert_eq!((runs.position(), runs.left()), (12, 0));
    }

    proptest! {
        #[test]
        fn resuming_at_a_position_leaves_the_same_rows(kept in proptest::collection::vec(any::<bool>(), 0..60), take in 0u64..60) {
            let end = kept.len() as u64;
            let all = || kept.iter().enumerate().filter(|(_, k)| **k).map(|(i, _)| i as u64..i as u64 + 1);
            let mut runs = Runs::new(all(), 0, end);
            runs.advance(take.min(runs.left()));
            let resumed = Runs::new(all(), runs.position(), end);
            prop_assert_eq!(resumed.iter().collect::<Vec<_>>(), runs.iter().collect::<Vec<_>>());
            prop_assert_eq!(resumed.position(), runs.position());
        }
    }
}
