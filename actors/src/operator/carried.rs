//! Blocks without rows on their way out of an operator: what a filter dropped is finished all the same, and whoever keeps
//! the ledger must learn it. They travel with the next block that has rows, so that they cost no message.

use std::time::Duration;

use super::holes::Holes;
use crate::block::BlockRef;
use crate::runtime::room::Permit;

/// A block without rows that stands for all that came since the last one with rows.
#[derive(Default)]
pub(crate) struct Carried {
    waiting: Option<(BlockRef, Permit, Duration)>,
    /// What leaves as it is behind what left last.
    next: Option<(BlockRef, Permit)>,
    holes: Holes,
}

/// Segments that wait so long for a row leave without one. Longer, and more is done again after a crash where rows are
/// rare; shorter, and a filter that keeps nothing costs a message more often.
const CARRY_TIME_MAX: Duration = Duration::from_secs(1);

/// And so many segments do. Each is some tens of bytes in a message.
const CARRY_SEGMENTS_MAX: usize = 256;

impl Carried {
    /// Nothing travels across a hole in the input: what stands for rows before it would not be in their order behind it.
    pub(crate) fn new(holes: Holes) -> Self {
        Self { holes, ..Self::default() }
    }

    /// A block is about to leave; returns what leaves now, if anything.
    pub(crate) fn on_block(&mut self, block: BlockRef, room: Permit, now: Duration) -> Option<(BlockRef, Permit)> {
        let apart = self.holes.on_block(&block.segments);
        if let Some((before, held, _)) = self.waiting.take_if(|_| apart) {
            match block.rows.0 > 0 {
                true => self.next = Some((block, room)),
                false => self.waiting = Some((block, room, now)),
            }
            return Some((before, held));
        }
        let Some((before, held, since)) = self.waiting.take() else {
            if block.rows.0 > 0 {
                return Some((block, room));
            }
            self.waiting = Some((block, room, now));
            return None;
        };
        let has_rows = block.rows.0 > 0;
        let block = block.carrying(before.segments.clone());
        let due = now.saturating_sub(since) >= CARRY_TIME_MAX || block.segments.len() >= CARRY_SEGMENTS_MAX;
        if has_rows || due {
            return Some((block, room));
        }
        self.waiting = Some((block, held, since));
        None
    }

    /// What leaves before any other block.
    pub(crate) fn next(&mut self) -> Option<(BlockRef, Permit)> {
        self.next.take()
    }

    /// What waits, at the end.
    pub(crate) fn take(&mut self) -> Option<(BlockRef, Permit)> {
        self.waiting.take().map(|(block, room, _)| (block, room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, BlockId, BlockName, Incarnation, NodeId, Segment, Segments};
    use crate::operator::Left;
    use crate::runtime::budget::EdgeLimits;
    use crate::runtime::room::{Room, RoomEdge};
    use crate::units::{Bytes, Rows};

    fn block(rows: u64, from: u64) -> BlockRef {
        let segment = Segment { source: 0, split: 0, from: Rows(from), to: Rows(from + 1) };
        let segments = Segments::one(segment);
        let (id, home, incarnation) = (BlockId(from), NodeId(0), Incarnation(0));
        let name = BlockName {
            id,
            home,
            incarnation,
            rows: Rows(rows),
            bytes: Bytes(rows),
            segments,
            origins: Default::default(),
        };
        BlockRef::copied(name, Block::new(Vec::new()))
    }

    fn edge() -> RoomEdge {
        Room::new(Bytes(1000)).edge(EdgeLimits { floor: 100, cap: 1000, items_max: 1000, depth: 0 })
    }

    #[test]
    fn segments_without_rows_leave_with_the_next_row() {
        let (edge, mut carried) = (edge(), Carried::default());
        for from in 0..3 {
            assert!(carried.on_block(block(0, from), edge.force(Bytes(0)), Duration::ZERO).is_none());
        }
        let (leaves, _) = carried.on_block(block(5, 3), edge.force(Bytes(5)), Duration::ZERO).expect("it has rows");
        let all = Segments::one(Segment { source: 0, split: 0, from: Rows(0), to: Rows(4) });
        assert_eq!((leaves.rows, &leaves.segments), (Rows(5), &all));
        assert!(carried.take().is_none());
    }

    #[test]
    fn segments_without_rows_do_not_travel_across_a_hole() {
        let left = |from, to| Left { split: 0, from: Rows(from), to: Rows(to) };
        let holes = Holes::between([(0, 1, vec![left(0, 1), left(5, 7)])]);
        let (edge, mut carried) = (edge(), Carried::new(holes));
        assert!(carried.on_block(block(0, 0), edge.force(Bytes(0)), Duration::ZERO).is_none());
        let (leaves, _) = carried.on_block(block(3, 5), edge.force(Bytes(0)), Duration::ZERO).expect("a hole");
        assert_eq!((leaves.rows, &leaves.segments), (Rows(0), &block(0, 0).segments));
        assert_eq!(carried.next().map(|(block, _)| block.rows), Some(Rows(3)));
        assert!(carried.next().is_none() && carried.take().is_none());
    }

    #[test]
    fn segments_do_not_wait_long_for_a_row() {
        let (edge, mut carried) = (edge(), Carried::default());
        assert!(carried.on_block(block(0, 0), edge.force(Bytes(0)), Duration::ZERO).is_none());
        let late = carried.on_block(block(0, 1), edge.force(Bytes(0)), CARRY_TIME_MAX);
        assert_eq!(late.map(|(block, _)| block.segments.iter().count()), Some(1));
        assert!(carried.on_block(block(0, 2), edge.force(Bytes(0)), CARRY_TIME_MAX).is_none());
        assert!(carried.take().is_some());
    }
}
