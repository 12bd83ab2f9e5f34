//! What is left to read of a split: where a job that goes on begins, and where rows that are finished lie behind.

use serde::{Deserialize, Serialize};

use super::Split;
use crate::block::Segment;
use crate::units::Rows;

/// Rows of a split that are not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Left {
    /// The split, by its number in the plan.
    pub split: u32,
    /// The first of the rows.
    pub from: Rows,
    /// The row behind the last; [`Segment::END`] for all there are.
    pub to: Rows,
}

impl Left {
    /// All rows of a split.
    pub fn all(split: u32) -> Self {
        Self { split, from: Rows(0), to: Segment::END }
    }

    /// How many rows these are, where that is known.
    pub(crate) fn rows_of(&self, splits: &[Split]) -> Option<Rows> {
        let all = splits.get(self.split as usize)?.rows;
        if self.to == Segment::END { all.map(|all| all - self.from) } else { Some(self.to - self.from) }
    }
}
