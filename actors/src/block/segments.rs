//! Segments: which rows of which split a block stands for. The unit of recovery.
//!
//! A segment begins whole, as one read slice. Where the results of its rows are cut into several blocks, each carries a
//! *share* of it, and the shares always add up to the whole: a segment is finished when all of its shares have come
//! together, in whatever order and by whatever ways. This is how weights tell the end of a computation that spreads over
//! many processes (Mattern: Global quiescence detection based on credit distribution and recovery, 1989).

use serde::{Deserialize, Serialize};

use crate::units::Rows;

/// A range of rows of one split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Segment {
    /// The read operator, by its index in the topology: a job may read several sources.
    pub source: u32,
    /// The split, by its number in the plan.
    pub split: u32,
    /// First row of the split.
    pub from: Rows,
    /// The row behind the last; [`Segment::END`] for all that is left of the split, however much that is.
    pub to: Rows,
}

impl Segment {
    /// Behind the last row of any split: how many rows there are need not be known to say that all are read.
    pub const END: Rows = Rows(u64::MAX);

    pub(super) fn touches(&self, next: &Self) -> bool {
        (self.source, self.split, self.to) == (next.source, next.split, next.from)
    }
}

/// How much of a segment something stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share(u64);

impl Share {
    /// All of it. Each cut divides by the pieces it makes, so this stands three cuts into a million pieces each.
    pub const WHOLE: Self = Self(1 << 62);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        // What peers say may add up to anything; more than the whole is never the whole.
        Self(self.0.saturating_add(other.0))
    }

    /// The part of it that falls on `from..to` of `all`. The parts of ranges that make up `all` add up to the share.
    fn part(self, from: u64, to: u64, all: u64) -> Self {
        let upto = |at: u64| u128::from(self.0) * u128::from(at.min(all)) / u128::from(all.max(1));
        Self((upto(to) - upto(from)) as u64)
    }
}

/// The segments that a block stands for, or shares of them: the results of those rows are in it, or there are none.
///
/// Map, filter and flat-map keep them; joining blocks concatenates them; cutting a block divides their shares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Segments(Vec<(Segment, Share)>);

impl Segments {
    /// One segment, whole.
    pub fn one(segment: Segment) -> Self {
        Self(vec![(segment, Share::WHOLE)])
    }

    /// Adds segments behind these; shares of one segment add up, and whole ranges that touch become one.
    ///
    /// ```
    /// use mobula_actors::block::{Segment, Segments};
    /// use mobula_actors::units::Rows;
    /// let segment = |from, to| Segments::one(Segment { source: 0, split: 4, from: Rows(from), to: Rows(to) });
    /// let mut both = segment(0, 10);
    /// both.append(&segment(10, 25));
    /// assert_eq!(both, segment(0, 25));
    /// ```
    pub fn append(&mut self, other: &Self) {
        other.0.iter().for_each(|(segment, share)| self.push(*segment, *share));
    }

    fn push(&mut self, segment: Segment, share: Share) {
        match self.0.last_mut() {
            Some((last, has)) if *last == segment => {
                *has = has.and(share);
                self.join_last();
            }
            Some((last, Share::WHOLE)) if share == Share::WHOLE && last.touches(&segment) => last.to = segment.to,
            _ => self.0.push((segment, share)),
        }
    }

    /// A segment that has just become whole may touch the one before it.
    fn join_last(&mut self) {
        if let [.., (before, Share::WHOLE), (last, Share::WHOLE)] = self.0.as_mut_slice()
            && before.touches(last)
        {
            before.to = last.to;
            self.0.pop();
        }
    }

    /// The part of them that falls on rows `from..to` of a block of `all` rows. Cut at the same borders, the parts of a
    /// block add up to what the block has.
    ///
    /// ```
    /// use mobula_actors::block::{Segment, Segments};
    /// use mobula_actors::units::Rows;
    /// let whole = Segments::one(Segment { source: 0, split: 0, from: Rows(0), to: Rows(9) });
    /// let mut back = whole.part(0, 5, 7);
    /// assert!(!back.are_whole());
    /// back.append(&whole.part(5, 7, 7));
    /// assert_eq!(back, whole);
    /// ```
    pub fn part(&self, from: u64, to: u64, all: u64) -> Self {
        if from == 0 && to >= all {
            return self.clone();
        }
        Self(self.0.iter().map(|(segment, share)| (*segment, share.part(from, to, all))).collect())
    }

    /// Takes an equal share out, one of `pieces` that these are cut into; what is left is the other pieces'.
    pub(crate) fn take_piece(&mut self, pieces: u64) -> Self {
        let piece = self.part(0, 1, pieces);
        if pieces > 1 {
            self.0.iter_mut().for_each(|(_, share)| *share = share.part(1, pieces, pieces));
        } else {
            self.0.clear();
        }
        piece
    }

    /// The same shares of other segments.
    ///
    /// # Errors
    /// The first that `other` returns.
    pub fn map<E>(&self, mut other: impl FnMut(Segment) -> Result<Segment, E>) -> Result<Self, E> {
        let mapped = self.0.iter().map(|(segment, share)| Ok((other(*segment)?, *share)));
        mapped.collect::<Result<_, E>>().map(Self)
    }

    /// The segments and their shares, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Segment, Share)> {
        self.0.iter().copied()
    }

    /// Whether each is here as a whole.
    pub fn are_whole(&self) -> bool {
        self.0.iter().all(|(_, share)| *share == Share::WHOLE)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(split: u32, from: u64, to: u64) -> Segments {
        Segments::one(Segment { source: 0, split, from: Rows(from), to: Rows(to) })
    }

    #[test]
    fn segments_of_several_splits_stay_apart() {
        let mut all = whole(0, 0, 5);
        all.append(&whole(1, 0, 5));
        all.append(&whole(1, 5, u64::MAX));
        assert_eq!(all.iter().count(), 2);
        assert!(all.are_whole());
    }

    #[test]
    fn a_segment_that_comes_together_joins_its_neighbour() {
        let (first, second) = (whole(0, 0, 5), whole(0, 5, 9));
        let mut all = first.clone();
        all.append(&second.part(0, 1, 3));
        all.append(&second.part(1, 3, 3));
        assert_eq!(all, whole(0, 0, 9));
    }

    proptest! {
        /// However a block is cut, and its pieces are cut again, nothing of a segment is lost or made up.
        #[test]
        fn shares_of_pieces_add_up_to_the_whole(cuts in prop::collection::vec(1u64..400, 1..8), pieces in 1u64..50) {
            let segments = whole(3, 10, 20);
            let all: u64 = cuts.iter().sum();
            let (mut at, mut back) = (0, Segments::default());
            for cut in cuts {
                let mut piece = segments.part(at, at + cut, all);
                at += cut;
                for left in (1..=pieces).rev() {
                    let part = piece.take_piece(left);
                    prop_assert!(part.iter().all(|(_, share)| share > Share::NONE));
                    back.append(&part);
                }
                prop_assert!(piece.is_empty());
            }
            prop_assert_eq!(back, segments);
        }
    }
}
