//! Where the input of an operator is whole, so that a task that ends there shares no segment with the next: pure.
//!
//! Exact batch sizes put rows of two blocks into one batch, and the end of a file lies anywhere in a stream. Results that
//! share a segment are recorded together, so a chain of them would be recorded at the end of the job. It is broken now and
//! then by a task that ends where all segments that have come are whole.

use std::collections::BTreeMap;

use crate::block::{Segment, Segments, Share};

/// What has come of each segment that is not whole yet.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    open: BTreeMap<Segment, Share>,
}

impl Whole {
    /// A block has come; whether all that has come with it is whole.
    pub(crate) fn on_block(&mut self, segments: &Segments) -> bool {
        for (segment, share) in segments.iter() {
            let has = self.open.remove(&segment).unwrap_or(Share::NONE).and(share);
            if has != Share::WHOLE {
                self.open.insert(segment, has);
            }
        }
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rows;

    fn segment(split: u32) -> Segments {
        Segments::one(Segment { source: 0, split, from: Rows(0), to: Segment::END })
    }

    #[test]
    fn input_is_whole_where_no_segment_is_in_part_only() {
        let mut whole = Whole::default();
        assert!(whole.on_block(&segment(0)));
        assert!(!whole.on_block(&segment(1).part(0, 1, 3)));
        assert!(!whole.on_block(&segment(2)), "the rest of a segment is still to come");
        assert!(whole.on_block(&segment(1).part(1, 3, 3)));
    }
}
