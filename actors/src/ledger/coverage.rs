//! Which segments of a plan are finished: pure. The invariant of exactly-once lives here: no row is finished twice, and in
//! the end all are.

use std::collections::BTreeMap;

use super::ranges::Ranges;
use crate::block::Segment;
use crate::operator::Left;
use crate::units::Rows;

/// The finished segments of each source.
///
/// ```
/// use mobula_actors::block::Segment;
/// use mobula_actors::ledger::Coverage;
/// use mobula_actors::operator::Left;
/// use mobula_actors::units::Rows;
/// let mut coverage = Coverage::default();
/// coverage.insert(&Segment { source: 0, split: 1, from: Rows(10), to: Segment::END })?;
/// let left = [Left::all(0), Left { split: 1, from: Rows(0), to: Rows(10) }];
/// assert_eq!(coverage.left(0, 2), left);
/// assert!(!coverage.is_complete(&[2]));
/// # Ok::<(), mobula_actors::ledger::Overlap>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    sources: BTreeMap<u32, Splits>,
}

/// Splits that are finished by their numbers, others row by row: a million files take no more than those at hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Splits {
    done: Ranges,
    open: BTreeMap<u32, Ranges>,
}

/// Rows that are finished already: whoever says so again is wrong, or late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("rows {} of split {} of source {} are finished already", rows(*.from, *.to), .split, .source_number)]
pub struct Overlap {
    /// The source, in the order of the plan's reads.
    pub source_number: u32,
    /// The split, by its number.
    pub split: u32,
    /// The first of the rows.
    pub from: Rows,
    /// The row behind the last.
    pub to: Rows,
}

fn rows(from: Rows, to: Rows) -> String {
    if to == Segment::END { format!("from {from} on") } else { format!("{from}..{to}") }
}

impl Coverage {
    /// A segment is finished.
    ///
    /// # Errors
    /// If some of its rows are finished already; then nothing has changed.
    pub fn insert(&mut self, segment: &Segment) -> Result<(), Overlap> {
        let Segment { source, split, from, to } = *segment;
        let splits = self.sources.entry(source).or_default();
        let overlap = |rows: std::ops::Range<u64>| Overlap {
            source_number: source,
            split,
            from: Rows(rows.start),
            to: Rows(rows.end),
        };
        if from < to && splits.done.gaps(one(split)).is_empty() {
            return Err(overlap(from.0..to.0));
        }
        let open = splits.open.entry(split).or_default();
        open.insert(from.0..to.0).map_err(overlap)?;
        if open.is(0..Segment::END.0) {
            splits.open.remove(&split);
            // It was not there a few lines above.
            let _ = splits.done.insert(one(split));
        }
        Ok(())
    }

    /// What is left to read of the first `splits` splits of a source, in order.
    pub fn left(&self, source: u32, splits: u32) -> Vec<Left> {
        let Some(finished) = self.sources.get(&source) else { return (0..splits).map(Left::all).collect() };
        let unfinished = finished.done.gaps(0..u64::from(splits)).into_iter().flatten();
        let of_split = |split: u64| {
            let split = split as u32;
            let gaps = finished.open.get(&split).map(|open| open.gaps(0..Segment::END.0));
            let left = |gap: std::ops::Range<u64>| Left { split, from: Rows(gap.start), to: Rows(gap.end) };
            gaps.map_or_else(|| vec![Left::all(split)], |gaps| gaps.into_iter().map(left).collect())
        };
        unfinished.flat_map(of_split).collect()
    }

    /// Whether all of a plan is finished, whose sources have so many splits each, and nothing else is.
    pub fn is_complete(&self, splits: &[u32]) -> bool {
        let all = splits.iter().enumerate().all(|(source, splits)| self.left(source as u32, *splits).is_empty());
        all && self.is_within(splits)
    }

    /// Whether nothing is finished that the plan does not have.
    pub fn is_within(&self, splits: &[u32]) -> bool {
        self.sources.iter().all(|(source, finished)| {
            let there = splits.get(*source as usize).copied().unwrap_or_default();
            let missing: u64 = finished.done.gaps(0..u64::from(there)).into_iter().map(|gap| gap.end - gap.start).sum();
            finished.open.keys().all(|split| *split < there) && finished.done.count() + missing == u64::from(there)
        })
    }

    /// Whether all of these rows are finished.
    pub fn holds(&self, segment: &Segment) -> bool {
        let Segment { source, split, from, to } = *segment;
        let Some(splits) = self.sources.get(&source) else { return false };
        let open = || splits.open.get(&split).is_some_and(|open| open.gaps(from.0..to.0).is_empty());
        splits.done.gaps(one(split)).is_empty() || open()
    }

    /// Whether nothing is finished.
    pub fn is_empty(&self) -> bool {
        self.sources.values().all(|splits| splits.open.is_empty() && splits.done.count() == 0)
    }
}

fn one(split: u32) -> std::ops::Range<u64> {
    u64::from(split)..u64::from(split) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(split: u32, from: u64, to: u64) -> Segment {
        Segment { source: 0, split, from: Rows(from), to: Rows(to) }
    }

    #[test]
    fn rows_that_are_finished_are_named_when_they_come_again() {
        let mut coverage = Coverage::default();
        coverage.insert(&segment(3, 0, 10)).unwrap();
        let again = coverage.insert(&segment(3, 5, u64::MAX)).unwrap_err();
        assert_eq!(again.to_string(), "rows 5..10 of split 3 of source 0 are finished already");
        coverage.insert(&segment(3, 10, u64::MAX)).unwrap();
        let again = coverage.insert(&segment(3, 7, u64::MAX)).unwrap_err();
        assert_eq!(again.to_string(), "rows from 7 on of split 3 of source 0 are finished already");
    }

    #[test]
    fn a_plan_is_complete_when_each_of_its_splits_is_to_its_end() {
        let mut coverage = Coverage::default();
        assert!(coverage.is_complete(&[0]) && coverage.is_empty());
        coverage.insert(&segment(1, 0, u64::MAX)).unwrap();
        assert!(!coverage.is_complete(&[2]) && coverage.is_within(&[2]) && !coverage.is_within(&[1]));
        coverage.insert(&segment(0, 0, 9)).unwrap();
        assert!(!coverage.is_complete(&[2]));
        coverage.insert(&segment(0, 9, u64::MAX)).unwrap();
        assert!(coverage.is_complete(&[2]) && !coverage.is_complete(&[3]) && !coverage.is_complete(&[1]));
    }

    proptest! {
        /// What is left is just what was never finished, whatever came in which order.
        #[test]
        fn what_is_left_and_what_is_finished_make_up_the_plan(
            inserts in prop::collection::vec((0u32..4, 0u64..30, prop_oneof![0u64..12, Just(u64::MAX)]), 0..60),
        ) {
            let mut coverage = Coverage::default();
            for (split, from, len) in inserts {
                let to = from.saturating_add(len);
                let _ = coverage.insert(&segment(split, from, to));
                let mut all = coverage.clone();
                for Left { split, from, to } in coverage.left(0, 4) {
                    prop_assert!(from < to);
                    prop_assert!(all.insert(&segment(split, from.0, to.0)).is_ok());
                }
                prop_assert!(all.is_complete(&[4]));
            }
        }
    }
}
