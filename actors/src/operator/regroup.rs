//! The pure thinking that makes tasks out of arriving blocks: a block a task, or exact row counts across block borders,
//! or enough bytes for a part of a sink.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use crate::units::Bytes;

/// How blocks become tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// A block is a task.
    Block,
    /// A task holds whole batches of so many rows; only the last of all may be smaller.
    Rows(NonZeroUsize),
    /// A task takes blocks until it holds so many bytes.
    Bytes(Bytes),
}

/// What can be grouped: something with rows and bytes.
pub(crate) trait Measured {
    fn rows(&self) -> usize;
    fn bytes(&self) -> Bytes;
}

/// Some rows of something that arrived: (the thing, first row, number of rows).
pub(crate) type Part<T> = (T, usize, usize);

/// Blocks that wait to become tasks, in order.
#[derive(Debug)]
pub(crate) struct Regroup<T> {
    grouping: Grouping,
    waiting: VecDeque<Part<T>>,
    rows: usize,
    bytes: Bytes,
}

/// A task of exact batches holds at most so many: enough to make its messages cheap, few enough to share among workers.
const BATCHES_A_TASK_MAX: usize = 8;

impl<T: Measured + Clone> Regroup<T> {
    pub(crate) fn new(grouping: Grouping) -> Self {
        Self { grouping, waiting: VecDeque::new(), rows: 0, bytes: Bytes(0) }
    }

    /// Takes a block in.
    pub(crate) fn push(&mut self, block: T) {
        let rows = block.rows();
        self.rows += rows;
        self.bytes += block.bytes();
        self.waiting.push_back((block, 0, rows));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The parts of the next task, if they are all there; with `flush`, what is left counts as all there is.
    pub(crate) fn next(&mut self, flush: bool) -> Option<Vec<Part<T>>> {
        match self.grouping {
            Grouping::Block => self.take_blocks(1),
            Grouping::Bytes(enough) if self.bytes >= enough || flush => {
                let mut bytes = Bytes(0);
                let fit = self.waiting.iter().take_while(|(block, ..)| {
                    let open = bytes < enough;
                    bytes += block.bytes();
                    open
                });
                let blocks = fit.count();
                self.take_blocks(blocks)
            }
            Grouping::Rows(batch) => self.next_batches(batch.get(), flush),
            Grouping::Bytes(_) => None,
        }
    }

    fn take_blocks(&mut self, blocks: usize) -> Option<Vec<Part<T>>> {
        let parts: Vec<_> = self.waiting.drain(..blocks.min(self.waiting.len())).collect();
        for (block, _, rows) in &parts {
            self.rows -= rows;
            self.bytes = self.bytes - block.bytes();
        }
        (!parts.is_empty()).then_some(parts)
    }

    /// Whole batches out of the first block where it has some, so that they need no copy; else one batch across
    /// borders; at the end, what is left.
    fn next_batches(&mut self, batch: usize, flush: bool) -> Option<Vec<Part<T>>> {
        let first = self.waiting.front()?.2;
        let whole = (first / batch).min(BATCHES_A_TASK_MAX);
        if whole > 0 {
            return Some(self.take_rows(whole * batch));
        }
        if self.rows >= batch {
            return Some(self.take_rows(batch));
        }
        flush.then(|| self.take_rows(self.rows))
    }

    fn take_rows(&mut self, mut rows: usize) -> Vec<Part<T>> {
        let mut parts = Vec::new();
        self.rows -= rows;
        // Blocks without rows go with those before them.
        while let Some((block, from, len)) = self.waiting.pop_front_if(|(.., len)| rows > 0 || *len == 0) {
            let part = len.min(rows);
            rows -= part;
            if part < len {
                self.waiting.push_front((block.clone(), from + part, len - part));
            } else {
                self.bytes = self.bytes - block.bytes();
            }
            parts.push((block, from, part));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    impl Measured for (usize, usize) {
        fn rows(&self) -> usize {
            self.1
        }
        fn bytes(&self) -> Bytes {
            Bytes(self.1 as u64 * 10)
        }
    }

    fn groupings() -> impl Strategy<Value = Grouping> {
        prop_oneof![
            Just(Grouping::Block),
            (1usize..50).prop_map(|n| Grouping::Rows(NonZeroUsize::new(n).expect("above zero"))),
            (1u64..500).prop_map(|n| Grouping::Bytes(Bytes(n))),
        ]
    }

    proptest! {
        /// Every row of every block is in exactly one task, in order, and exact batches are exact.
        #[test]
        fn tasks_hold_every_row_once_and_in_order(
            grouping in groupings(),
            sizes in prop::collection::vec(0usize..100, 0..20),
        ) {
            let mut regroup = Regroup::new(grouping);
            let mut tasks = Vec::new();
            for block in sizes.iter().copied().enumerate() {
                regroup.push(block);
                while let Some(task) = regroup.next(false) {
                    tasks.push(task);
                }
            }
            while let Some(task) = regroup.next(true) {
                tasks.push(task);
            }
            prop_assert!(regroup.is_empty());
            let rows_of = |task: &Vec<Part<(usize, usize)>>| task.iter().map(|part| part.2).sum::<usize>();
            if let Grouping::Rows(batch) = grouping {
                let (last, full) = tasks.split_last().map_or((None, &[][..]), |(last, full)| (Some(last), full));
                prop_assert!(full.iter().all(|task| rows_of(task) % batch.get() == 0));
                prop_assert!(last.is_none_or(|task| rows_of(task) > 0 || sizes.iter().all(|rows| *rows == 0)));
            }
            let blocks: BTreeSet<_> = tasks.iter().flatten().map(|((block, _), ..)| *block).collect();
            prop_assert_eq!(blocks.len(), sizes.len(), "also of those without rows");
            let seen: Vec<_> = tasks.iter().flatten().flat_map(|((block, _), from, rows)| (*from..from + rows).map(move |row| (*block, row))).collect();
            let all: Vec<_> = sizes.iter().enumerate().flat_map(|(block, rows)| (0..*rows).map(move |row| (block, row))).collect();
            prop_assert_eq!(seen, all);
        }
    }
}
