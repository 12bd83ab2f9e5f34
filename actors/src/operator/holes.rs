//! Holes in the input of a job that goes on: pure.
//!
//! Parts of a write are recorded as they come, in any order. So what a job that goes on has left to read may lie around
//! parts that are finished. A file, or an exact batch, that holds rows from both sides of such a hole would have no place
//! among the files in the order of the rows; so it ends where the hole is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::left::Left;
use crate::block::{Segment, Segments};
use crate::units::Rows;

/// Source, split and row.
type Place = (u32, u32, Rows);

/// Watches an ordered stream of blocks for the places where finished rows are missing. Without holes it costs nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holes {
    /// The first rows behind each.
    resumes: Arc<BTreeSet<Place>>,
    /// Where the segment begins that came last.
    reached: Option<Place>,
}

impl Holes {
    /// Those between what is left of the reads; each with its index, how many splits it has and which rows of them are left,
    /// both in order.
    pub(crate) fn between(reads: impl IntoIterator<Item = (u32, usize, Vec<Left>)>) -> Self {
        let (mut resumes, mut is_hole) = (BTreeSet::new(), false);
        for (source, splits, left) in reads {
            let mut next = (0, Rows(0));
            for Left { split, from, to } in left {
                if is_hole || (split, from) != next {
                    resumes.insert((source, split, from));
                }
                is_hole = false;
                next = if to == Segment::END { (split + 1, Rows(0)) } else { (split, to) };
            }
            is_hole |= next != (splits as u32, Rows(0));
        }
        Self { resumes: Arc::new(resumes), reached: None }
    }

    /// A block has come; whether a hole lies between it and the one before.
    pub(crate) fn on_block(&mut self, segments: &Segments) -> bool {
        if self.resumes.is_empty() {
            return false;
        }
        let place = |(segment, _): (Segment, _)| (segment.source, segment.split, segment.from);
        let mut places = segments.iter().map(place);
        let Some(first) = places.next() else { return false };
        let before = self.reached.replace(places.last().unwrap_or(first));
        before.is_some_and(|before| before < first && self.resumes.range(before..=first).any(|at| *at > before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn left(split: u32, from: u64, to: u64) -> Left {
        Left { split, from: Rows(from), to: Rows(to) }
    }

    fn rows(source: u32, split: u32, from: u64, to: u64) -> Segments {
        Segments::one(Segment { source, split, from: Rows(from), to: Rows(to) })
    }

    const END: u64 = u64::MAX;

    #[test]
    fn a_job_that_begins_has_no_holes() {
        let all = |splits: u32| (0..splits).map(Left::all).collect::<Vec<_>>();
        let mut holes = Holes::between([(0, 3, all(3)), (2, 0, all(0)), (3, 2, all(2))]);
        assert!(holes.resumes.is_empty());
        assert!(!holes.on_block(&rows(0, 0, 0, END)) && !holes.on_block(&rows(3, 1, 0, END)));
    }

    #[test]
    fn a_hole_lies_where_rows_are_finished_in_a_split_between_splits_and_between_sources() {
        let within = vec![left(0, 0, 10), left(0, 20, END), left(2, 0, END)];
        let mut holes = Holes::between([(0, 3, within), (1, 1, vec![left(0, 5, END)])]);
        assert!(!holes.on_block(&rows(0, 0, 0, 5)) && !holes.on_block(&rows(0, 0, 5, 10)));
        assert!(holes.on_block(&rows(0, 0, 20, 30)));
        assert!(!holes.on_block(&Segments::default()) && !holes.on_block(&rows(0, 0, 30, END)));
        assert!(holes.on_block(&rows(0, 2, 0, END)));
        assert!(holes.on_block(&rows(1, 0, 5, END)));
    }

    #[test]
    fn a_hole_at_the_end_of_a_source_lies_before_the_next() {
        let mut holes = Holes::between([(0, 2, vec![left(0, 0, END)]), (1, 1, vec![left(0, 0, END)])]);
        assert!(!holes.on_block(&rows(0, 0, 0, END)));
        assert!(holes.on_block(&rows(1, 0, 0, END)));
    }

    proptest! {
        /// Blocks of what is left in order: a hole lies just where rows between two of them are not left.
        #[test]
        fn holes_are_where_finished_rows_are_missing(
            finished in prop::collection::vec(any::<bool>(), 1..40), a_split in 1u64..6,
        ) {
            let place = |row: usize| ((row as u64 / a_split) as u32, row as u64 % a_split);
            let ends = |row: usize| (row as u64 + 1).is_multiple_of(a_split) || row + 1 == finished.len();
            let to = |row: usize| if ends(row) { END } else { place(row).1 + 1 };
            let open: Vec<usize> = (0..finished.len()).filter(|row| !finished[*row]).collect();
            let splits = finished.len().div_ceil(a_split as usize);
            let lefts = open.iter().map(|row| left(place(*row).0, place(*row).1, to(*row))).collect();
            let mut holes = Holes::between([(7, splits, lefts)]);
            let mut before = None;
            for row in open {
                let found = holes.on_block(&rows(7, place(row).0, place(row).1, to(row)));
                prop_assert_eq!(found, before.is_some_and(|before| before + 1 != row), "at row {}", row);
                before = Some(row);
            }
        }
    }
}
