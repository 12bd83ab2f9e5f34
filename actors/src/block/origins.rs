//! Origins: which row of the input each row of a block came from, where that is known.
//!
//! [Segments](super::Segments) say what a block stands for, whatever became of the rows; origins say more, and only as long
//! as each step made one row of each row, in order. They are kept in jobs that may give rows up, so that a dead letter names
//! its row also far behind the read.

use serde::{Deserialize, Serialize};

use super::Segment;
use crate::units::Rows;

/// Where rows come from, in their order. None of them, or more of them than there are rows, means that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origins(Vec<Segment>);

/// Runs of rows that one block may name. Where each row comes from a split of its own, a block of small rows has as many as
/// rows; each takes some twenty bytes in a message.
const RUNS_MAX: usize = 4096;

impl Origins {
    /// Rows of the input, one after the other.
    pub(crate) fn one(rows: Segment) -> Self {
        Self(Vec::from_iter((rows.from < rows.to).then_some(rows)))
    }

    /// These rows, then those. Of what nobody knows nothing is added, so that the numbers do not fit any more.
    pub(crate) fn append(&mut self, other: Self) {
        for run in other.0 {
            let is_full = self.0.len() >= RUNS_MAX;
            match self.0.last_mut() {
                Some(last) if last.touches(&run) => last.to = run.to,
                _ if is_full => return self.0.clear(),
                _ => self.0.push(run),
            }
        }
    }

    /// How many rows they name.
    pub(crate) fn rows(&self) -> Rows {
        self.0.iter().map(|run| run.to - run.from).sum()
    }

    /// Those of rows `from..to`.
    pub(crate) fn part(&self, from: u64, to: u64) -> Self {
        let mut at = 0;
        let cut = |run: &Segment| {
            let rows = (run.to - run.from).0;
            let (first, end) = (from.max(at) - at, to.clamp(at, at + rows) - at);
            at += rows;
            (first < end).then(|| Segment { from: run.from + Rows(first), to: run.from + Rows(end), ..*run })
        };
        Self(self.0.iter().filter_map(cut).collect())
    }

    /// The only row that they name.
    pub(crate) fn row(&self) -> Option<Segment> {
        match self.0.as_slice() {
            [one] if one.from + Rows(1) == one.to => Some(*one),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(split: u32, from: u64, to: u64) -> Origins {
        Origins::one(Segment { source: 0, split, from: Rows(from), to: Rows(to) })
    }

    #[test]
    fn a_row_is_found_behind_joins_and_cuts() {
        let mut all = run(0, 5, 10);
        all.append(run(0, 10, 12));
        all.append(run(3, 0, 4));
        assert_eq!((all.rows(), all.0.len()), (Rows(11), 2));
        assert_eq!(all.part(8, 9).row(), run(3, 1, 2).row());
        assert_eq!(all.part(6, 7).row(), run(0, 11, 12).row());
        assert_eq!((all.part(6, 8).row(), all.part(11, 12).row()), (None, None));
    }

    #[test]
    fn too_many_runs_are_none() {
        let mut all = Origins::default();
        (0..RUNS_MAX as u32).for_each(|split| all.append(run(split, 0, 1)));
        assert_eq!(all.rows(), Rows(RUNS_MAX as u64));
        all.append(run(9, 7, 8));
        assert_eq!(all, Origins::default());
    }

    proptest! {
        /// However often they are cut and put together, each row keeps its place.
        #[test]
        fn parts_put_together_are_the_whole(
            runs in prop::collection::vec((0u32..3, 0u64..50, 1u64..20), 1..10),
            cuts in prop::collection::vec(0u64..200, 0..6),
        ) {
            let (mut all, mut named) = (Origins::default(), Vec::new());
            for (split, from, rows) in runs {
                all.append(run(split, from, from + rows));
                named.extend((from..from + rows).map(|row| (split, row)));
            }
            let mut cuts: Vec<u64> = cuts.into_iter().map(|cut| cut.min(all.rows().0)).chain([0, all.rows().0]).collect();
            cuts.sort_unstable();
            let mut back = Origins::default();
            cuts.windows(2).for_each(|cut| back.append(all.part(cut[0], cut[1])));
            prop_assert_eq!(&back, &all);
            for (at, (split, row)) in named.into_iter().enumerate() {
                let at = at as u64;
                prop_assert_eq!(all.part(at, at + 1), run(split, row, row + 1));
            }
        }
    }
}
