//! Which rows of a job's splits are finished: what need not be run again after a node is lost.
//!
//! A [`Segment`] counts once its results are where a lost node cannot take them. Each row is finished once: an overlap
//! means that rows were counted twice, so it is refused and the job must not go on as if nothing were wrong.
//! It knows nothing of tasks or nodes: whoever reads again asks [`Finished::remaining`] and makes tasks of the answer.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::block::Segment;
use crate::units::Rows;

/// Behind the last row of a split whose number of rows is not known.
pub const SPLIT_END_UNKNOWN: Rows = Rows(u64::MAX);

/// Ranges that one job may have at once, after neighbours are merged. A job has about as many as it has tasks in flight;
/// at this many (about 50 MiB) something reports crumbs.
pub const RANGES_MAX: usize = 1 << 20;

/// The finished segments of a job. Neighbours are one range.
///
/// ```
/// use mobula_actors::block::Segment;
/// use mobula_actors::cluster::progress::Finished;
/// use mobula_actors::units::Rows;
/// let segment = |from, to| Segment { source: 0, split: 4, from: Rows(from), to: Rows(to) };
/// let mut finished = Finished::default();
/// finished.add(segment(0, 10))?;
/// finished.add(segment(20, 30))?;
/// assert_eq!(finished.remaining(0, 4, Some(Rows(50))), [Rows(10)..Rows(20), Rows(30)..Rows(50)]);
/// assert!(finished.add(segment(5, 12)).is_err(), "rows 5 to 9 would be there twice");
/// # Ok::<_, mobula_actors::cluster::progress::ProgressError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    splits: BTreeMap<(u32, u32), Ranges>,
    ranges: usize,
}

/// From the first row of a range to the row behind its last. No two touch.
type Ranges = BTreeMap<Rows, Rows>;

/// Why segments cannot be finished. A job that meets one has to fail: its output would not be exact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgressError {
    /// Rows would be counted twice.
    #[error("{} were reported finished, and {} are already", show(.new), show(.known))]
    Overlap {
        /// What was to be added.
        new: Segment,
        /// What it overlaps, merged with its neighbours.
        known: Segment,
    },
    /// A segment ends before it begins.
    #[error("{} were reported finished: the end is before the beginning", show(.0))]
    Reversed(Segment),
    /// The rows that are finished lie too scattered.
    #[error("the finished rows are in more than {RANGES_MAX} separate ranges; use larger blocks")]
    Scattered,
}

fn show(segment: &Segment) -> String {
    format!("rows {} to {} of split {} of source {}", segment.from, segment.to, segment.split, segment.source)
}

impl Finished {
    /// Adds one segment. An empty one changes nothing.
    ///
    /// # Errors
    /// If a row of it is finished already, naming both; nothing is added then.
    pub fn add(&mut self, segment: Segment) -> Result<(), ProgressError> {
        self.add_all([segment])
    }

    /// Adds the segments of a block (`segments.iter().copied()`): all of them, or none.
    ///
    /// # Errors
    /// As [`Finished::add`]; the segments must not overlap each other either.
    pub fn add_all(&mut self, segments: impl IntoIterator<Item = Segment>) -> Result<(), ProgressError> {
        let mut new: Vec<Segment> = segments.into_iter().filter(|segment| segment.from != segment.to).collect();
        new.sort_unstable();
        self.check(&new)?;
        new.into_iter().for_each(|segment| self.insert(segment));
        Ok(())
    }

    fn check(&self, new: &[Segment]) -> Result<(), ProgressError> {
        if let Some(reversed) = new.iter().find(|segment| segment.from > segment.to) {
            return Err(ProgressError::Reversed(*reversed));
        }
        for (known, new) in new.iter().zip(new.iter().skip(1)) {
            if (known.source, known.split) == (new.source, new.split) && new.from < known.to {
                return Err(ProgressError::Overlap { new: *new, known: *known });
            }
        }
        for &new in new {
            if let Some(known) = self.overlapped(&new) {
                return Err(ProgressError::Overlap { new, known });
            }
        }
        if self.ranges.saturating_add(new.len()) > RANGES_MAX { Err(ProgressError::Scattered) } else { Ok(()) }
    }

    /// The last known range that begins before the end of this one overlaps it, or none does.
    fn overlapped(&self, new: &Segment) -> Option<Segment> {
        let (&from, &to) = self.splits.get(&(new.source, new.split))?.range(..new.to).next_back()?;
        (to > new.from).then_some(Segment { from, to, ..*new })
    }

    /// Adds a segment that overlaps nothing, merged with the ranges it touches.
    fn insert(&mut self, new: Segment) {
        let ranges = self.splits.entry((new.source, new.split)).or_default();
        let before = ranges.range(..new.from).next_back().filter(|(_, to)| **to == new.from).map(|(from, _)| *from);
        let behind = ranges.remove(&new.to);
        let merged = usize::from(before.is_some()) + usize::from(behind.is_some());
        ranges.insert(before.unwrap_or(new.from), behind.unwrap_or(new.to));
        self.ranges = self.ranges + 1 - merged;
    }

    /// What is left of a split, in order. If its number of rows is not known (`None`), the last range ends at
    /// [`SPLIT_END_UNKNOWN`]: read from its first row on to the end of the split.
    pub fn remaining(&self, source: u32, split: u32, rows: Option<Rows>) -> Vec<Range<Rows>> {
        let end = rows.unwrap_or(SPLIT_END_UNKNOWN);
        let mut left = Vec::new();
        let mut behind = Rows(0);
        for (&from, &to) in self.splits.get(&(source, split)).into_iter().flat_map(|ranges| ranges.range(..end)) {
            if behind < from {
                left.push(behind..from);
            }
            behind = to;
        }
        if behind < end {
            left.push(behind..end);
        }
        left
    }

    /// How many rows of a split are finished.
    pub fn rows(&self, source: u32, split: u32) -> Rows {
        self.splits.get(&(source, split)).into_iter().flatten().map(|(from, to)| *to - *from).sum()
    }

    /// All that is finished, in order, neighbours merged.
    pub fn iter(&self) -> impl Iterator<Item = Segment> {
        let segments = |(&(source, split), ranges)| {
            Ranges::iter(ranges).map(move |(&from, &to)| Segment { source, split, from, to })
        };
        self.splits.iter().flat_map(segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn segment(split: u32, from: u64, to: u64) -> Segment {
        Segment { source: 1, split, from: Rows(from), to: Rows(to) }
    }

    #[test]
    fn neighbours_become_one_range() {
        let mut finished = Finished::default();
        for (from, to) in [(20, 30), (0, 10), (10, 20)] {
            finished.add(segment(0, from, to)).expect("apart");
        }
        assert_eq!(finished.iter().collect::<Vec<_>>(), [segment(0, 0, 30)]);
        assert_eq!(finished.rows(1, 0), Rows(30));
    }

    #[test]
    fn rows_finished_twice_are_refused_naming_both_ranges() {
        let mut finished = Finished::default();
        finished.add(segment(3, 0, 10)).expect("the first");
        let error = finished.add(segment(3, 9, 12)).expect_err("row 9 twice");
        let message = "rows 9 to 12 of split 3 of source 1 were reported finished, \
                       and rows 0 to 10 of split 3 of source 1 are already";
        assert_eq!(error.to_string(), message);
        let reversed = finished.add(segment(3, 30, 20)).expect_err("reversed");
        assert_eq!(reversed, ProgressError::Reversed(segment(3, 30, 20)));
    }

    #[test]
    fn a_block_counts_with_all_its_segments_or_with_none() {
        let mut finished = Finished::default();
        finished.add(segment(2, 0, 10)).expect("the first");
        let before = finished.clone();
        assert!(finished.add_all([segment(0, 0, 5), segment(2, 5, 6)]).is_err());
        assert!(finished.add_all([segment(0, 0, 5), segment(0, 4, 8)]).is_err(), "they overlap each other");
        assert_eq!(finished, before);
    }

    #[test]
    fn what_is_left_of_a_split_of_unknown_length_has_no_end() {
        let mut finished = Finished::default();
        assert_eq!(finished.remaining(1, 0, None), [Rows(0)..SPLIT_END_UNKNOWN]);
        finished.add(segment(0, 5, 10)).expect("the first");
        assert_eq!(finished.remaining(1, 0, None), [Rows(0)..Rows(5), Rows(10)..SPLIT_END_UNKNOWN]);
        assert_eq!(finished.remaining(1, 0, Some(Rows(0))), []);
        assert_eq!(finished.remaining(1, 0, Some(Rows(7))), [Rows(0)..Rows(5)]);
    }

    const ROWS: u64 = 40;

    fn segments() -> impl Strategy<Value = Vec<Segment>> {
        let one = (0..2u32, 0..2u32, 0..ROWS, 0..8u64).prop_map(|(source, split, from, rows)| Segment {
            source,
            split,
            from: Rows(from),
            to: Rows((from + rows).min(ROWS)),
        });
        prop::collection::vec(one, 0..40)
    }

    fn rows_of(segment: &Segment) -> impl Iterator<Item = (u32, u32, u64)> {
        let (source, split) = (segment.source, segment.split);
        (segment.from.0..segment.to.0).map(move |row| (source, split, row))
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set_of_row_numbers(segments in segments()) {
            let mut finished = Finished::default();
            let mut set = BTreeSet::new();
            for segment in segments {
                let fresh = rows_of(&segment).all(|row| !set.contains(&row));
                match finished.add(segment) {
                    Ok(()) => prop_assert!(fresh),
                    Err(ProgressError::Overlap { new, known }) => {
                        prop_assert!(!fresh);
                        prop_assert_eq!(new, segment);
                        prop_assert!(rows_of(&known).all(|row| set.contains(&row)));
                        prop_assert!(known.from < new.to && new.from < known.to);
                        continue;
                    }
                    Err(other) => prop_assert!(false, "{}", other),
                }
                set.extend(rows_of(&segment));
            }
            for (source, split) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let left = finished.remaining(source, split, Some(Rows(ROWS)));
                prop_assert!(left.windows(2).all(|two| two[0].end < two[1].start), "in order and merged: {:?}", left);
                let left: Vec<u64> = left.into_iter().flat_map(|range| range.start.0..range.end.0).collect();
                let expected: Vec<u64> = (0..ROWS).filter(|&row| !set.contains(&(source, split, row))).collect();
                prop_assert_eq!(left.len() as u64, ROWS - finished.rows(source, split).0);
                prop_assert_eq!(left, expected);
            }
            let merged: Vec<Segment> = finished.iter().collect();
            prop_assert_eq!(merged.len(), finished.ranges);
            prop_assert!(merged.iter().flat_map(rows_of).eq(set.iter().copied()));
            let mut again = Finished::default();
            again.add_all(merged).expect("what it lists can be added again");
            prop_assert_eq!(again, finished);
        }
    }
}
