//! The pure thinking that makes tasks out of arriving blocks: a block a task, or exact row counts across block borders,
//! or row counts within a bound of bytes, or enough bytes for a part of a sink.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use crate::units::Bytes;

/// How blocks become tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// A block is a task.
    Block,
    /// A task holds whole batches of so many rows; only the last of all may be smaller, and one now and then in a job whose
    /// results are recorded.
    Rows(NonZeroUsize),
    /// The same, but a batch is closed before it takes more than so many bytes: at the border of a block, or within one
    /// that alone takes twice as many.
    Within(NonZeroUsize, Bytes),
    /// A task takes blocks until it holds so many bytes.
    Bytes(Bytes),
}

/// What can be grouped: something with rows and bytes.
pub(crate) trait Measured {
    fn rows(&self) -> usize;
    fn bytes(&self) -> Bytes;
    /// Whether a task that ends with it shares no segment with the next.
    fn ends_whole(&self) -> bool;
    /// Whether no task may hold rows of it and of the one before it.
    fn begins_apart(&self) -> bool;
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

    /// How blocks become tasks.
    pub(crate) fn grouping(&self) -> Grouping {
        self.grouping
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

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// What the blocks take that wait, all of their rows.
    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// The parts of the next task, if they are all there; with `flush`, what is left counts as all there is, and with `cut`
    /// what there is up to the first block that ends whole. No task goes beyond a block that begins apart.
    pub(crate) fn next(&mut self, flush: bool, cut: bool) -> Option<Vec<Part<T>>> {
        let cut = self.waiting.iter().position(|(block, ..)| cut && block.ends_whole()).map(|at| at + 1);
        let apart = self.waiting.iter().skip(1).position(|(block, ..)| block.begins_apart()).map(|at| at + 1);
        let cut = cut.into_iter().chain(apart).min();
        match self.grouping {
            Grouping::Block => self.take_blocks(1),
            Grouping::Bytes(enough) if self.bytes >= enough || flush || cut.is_some() => {
                let mut bytes = Bytes(0);
                let fit = self.waiting.iter().take_while(|(block, ..)| {
                    let open = bytes < enough;
                    bytes += block.bytes();
                    open
                });
                let blocks = fit.count();
                self.take_blocks(cut.map_or(blocks, |cut| blocks.min(cut)))
            }
            Grouping::Rows(batch) => {
                let most = cut.map_or(self.rows, |blocks| self.rows_of(blocks));
                self.next_batches(batch.get(), most, flush || cut.is_some())
            }
            Grouping::Within(batch, bytes) => {
                let most = cut.map_or(self.rows, |blocks| self.rows_of(blocks));
                match self.rows_within(bytes) {
                    Some(fit) => self.next_batches(batch.get(), fit.min(most), true),
                    None => self.next_batches(batch.get(), most, flush || cut.is_some()),
                }
            }
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

    fn rows_of(&self, blocks: usize) -> usize {
        self.waiting.iter().take(blocks).map(|(.., rows)| rows).sum()
    }

    /// The first rows that take so many bytes together or would with the next block; `None` if there are not so many yet.
    fn rows_within(&self, most: Bytes) -> Option<usize> {
        let (mut rows, mut bytes) = (0, 0);
        for (block, _, part) in self.waiting.iter().filter(|(.., part)| *part > 0) {
            let of_block = block.bytes().0 as f64 / block.rows().max(1) as f64;
            let more = (of_block * *part as f64) as u64;
            if rows == 0 && more >= most.0.saturating_mul(2) {
                return Some(((most.0 as f64 / of_block) as usize).clamp(1, *part));
            }
            if rows > 0 && bytes + more > most.0 {
                return Some(rows);
            }
            (rows, bytes) = (rows + part, bytes + more);
            if bytes >= most.0 {
                return Some(rows);
            }
        }
        None
    }

    /// Whole batches out of the first block where it has some, so that they need no copy; else one batch across
    /// borders; at the end, what is left.
    fn next_batches(&mut self, batch: usize, most: usize, short: bool) -> Option<Vec<Part<T>>> {
        let first = self.waiting.front()?.2.min(most);
        let whole = (first / batch).min(BATCHES_A_TASK_MAX);
        if whole > 0 {
            return Some(self.take_rows(whole * batch));
        }
        if most >= batch {
            return Some(self.take_rows(batch));
        }
        short.then(|| self.take_rows(most))
    }

    fn take_rows(&mut self, mut rows: usize) -> Vec<Part<T>> {
        let mut parts = Vec::new();
        self.rows -= rows;
        // Blocks without rows go with those before them.
        let mut first = true;
        while let Some((block, from, len)) = self.waiting.pop_front_if(|(block, _, len)| {
            (rows > 0 || *len == 0) && (std::mem::take(&mut first) || !block.begins_apart())
        }) {
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
        fn ends_whole(&self) -> bool {
            self.0.is_multiple_of(3)
        }
        fn begins_apart(&self) -> bool {
            self.0 % 7 == 6
        }
    }

    fn groupings() -> impl Strategy<Value = Grouping> {
        prop_oneof![
            Just(Grouping::Block),
            (1usize..50).prop_map(|n| Grouping::Rows(NonZeroUsize::new(n).expect("above zero"))),
            ((1usize..50), 1u64..500)
                .prop_map(|(n, bytes)| { Grouping::Within(NonZeroUsize::new(n).expect("above zero"), Bytes(bytes)) }),
            (1u64..500).prop_map(|n| Grouping::Bytes(Bytes(n))),
        ]
    }

    proptest! {
        /// Every row of every block is in exactly one task, in order, and exact batches are exact.
        #[test]
        fn tasks_hold_every_row_once_and_in_order(
            grouping in groupings(),
            sizes in prop::collection::vec(0usize..100, 0..20),
            cut in any::<bool>(),
        ) {
            let mut regroup = Regroup::new(grouping);
            let mut tasks = Vec::new();
            for block in sizes.iter().copied().enumerate() {
                regroup.push(block);
                while let Some(task) = regroup.next(false, cut) {
                    tasks.push(task);
                }
            }
            while let Some(task) = regroup.next(true, cut) {
                tasks.push(task);
            }
            prop_assert!(regroup.is_empty());
            let rows_of = |task: &Vec<Part<(usize, usize)>>| task.iter().map(|part| part.2).sum::<usize>();
            if let Grouping::Rows(batch) = grouping {
                let full = tasks.split_last().map_or(&[][..], |(_, full)| full);
                let is_cut = |task: &Vec<Part<(usize, usize)>>| {
                    let next = |block: &(usize, usize)| (block.0 + 1, 0).begins_apart();
                    task.last().is_some_and(|(block, from, rows)| {
                        (next(block) || cut && block.ends_whole()) && from + rows == block.1
                    })
                };
                prop_assert!(full.iter().all(|task| rows_of(task) % batch.get() == 0 || is_cut(task)));
            }
            if let Grouping::Within(batch, bytes) = grouping {
                let most = |task: &Vec<Part<(usize, usize)>>| {
                    let rows = rows_of(task);
                    // A row is 10 bytes. What is more than the bound is one block, or one row.
                    rows <= 1 || rows as u64 * 10 <= bytes.0 || rows as u64 * 10 < 2 * bytes.0 && task.iter().filter(|part| part.2 > 0).count() == 1
                };
                prop_assert!(tasks.iter().all(most));
                prop_assert!(tasks.iter().all(|task| rows_of(task) <= BATCHES_A_TASK_MAX * batch.get()));
            }
            let blocks: BTreeSet<_> = tasks.iter().flatten().map(|((block, _), ..)| *block).collect();
            prop_assert_eq!(blocks.len(), sizes.len(), "also of those without rows");
            prop_assert!(tasks.iter().all(|task| task.iter().skip(1).all(|(block, from, _)| *from > 0 || !block.begins_apart())));
            let seen: Vec<_> = tasks.iter().flatten().flat_map(|((block, _), from, rows)| (*from..from + rows).map(move |row| (*block, row))).collect();
            let all: Vec<_> = sizes.iter().enumerate().flat_map(|(block, rows)| (0..*rows).map(move |row| (block, row))).collect();
            prop_assert_eq!(seen, all);
        }
    }

    #[test]
    fn a_batch_of_wide_rows_is_closed_by_its_bytes_and_one_of_narrow_rows_by_their_number() {
        let rows = |bytes: u64, blocks: &[usize]| {
            let mut regroup = Regroup::new(Grouping::Within(NonZeroUsize::new(100).expect("above zero"), Bytes(bytes)));
            blocks.iter().copied().enumerate().for_each(|(at, rows)| regroup.push((7 * at, rows)));
            let tasks = std::iter::from_fn(|| regroup.next(true, false));
            tasks.map(|parts| parts.iter().map(|part| part.2).sum::<usize>()).collect::<Vec<_>>()
        };
        assert_eq!(rows(10_000, &[40, 40, 40, 40]), [100, 60], "by rows");
        assert_eq!(rows(1_000, &[40, 40, 40, 40]), [80, 80], "before the block that is too much");
        assert_eq!(rows(350, &[40, 40]), [40, 40], "a block that is a little larger stays whole");
        assert_eq!(rows(100, &[35]), [10, 10, 15], "a large one is cut");
        assert_eq!(rows(5, &[3]), [1, 1, 1], "a row is the least");
    }
}
