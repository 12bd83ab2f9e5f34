//! Segments: which rows of which split a block stands for. The unit of recovery.

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
    /// The row behind the last.
    pub to: Rows,
}

/// The segments that are complete once a block is: all results of their rows are in it or in blocks before it.
///
/// Map, filter and flat-map keep them; joining blocks concatenates them; when a block is cut, they stay with its last
/// piece.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Segments(Vec<Segment>);

impl Segments {
    /// One segment.
    pub fn one(segment: Segment) -> Self {
        Self(vec![segment])
    }

    /// Adds segments behind these; ranges that touch become one.
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
        for next in &other.0 {
            match self.0.last_mut() {
                Some(last) if (last.source, last.split, last.to) == (next.source, next.split, next.from) => {
                    last.to = next.to;
                }
                _ => self.0.push(*next),
            }
        }
    }

    /// The segments, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
