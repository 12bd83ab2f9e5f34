//! The pure thinking about rows that are too many for the memory of a process: half of them next time.
//!
//! What was too much is cut in two and tried again, down to one row. Later batches keep below it, until so many of them
//! went well that twice as many rows are tried once more: one huge row must not make all later batches small. Each try
//! that fails costs a process, so the next one waits twice as long.

use std::collections::VecDeque;

use arrow::record_batch::RecordBatch;

/// Batches in a row that go well before larger ones are tried again, at first. Fewer would start processes in vain where
/// all rows are large; more would keep batches small for long after the last large row.
const GOOD_FIRST: u32 = 8;
/// The same, at most.
const GOOD_MAX: u32 = 1 << 12;

/// How many rows go into one call.
#[derive(Debug, Clone)]
pub(crate) struct Halves {
    /// Most rows of a call; none: as they come.
    rows_max: Option<usize>,
    /// Full calls that went well since `rows_max` changed.
    good: u32,
    /// How many of them allow a larger one.
    enough: u32,
    /// Whether the last change was to more rows.
    grew: bool,
}

impl Default for Halves {
    fn default() -> Self {
        Self { rows_max: None, good: 0, enough: GOOD_FIRST, grew: false }
    }
}

impl Halves {
    /// The next call of those that are to be made, in order; the first is cut if it is more than what was too much.
    pub(crate) fn next(&self, calls: &mut VecDeque<Vec<RecordBatch>>) -> Option<Vec<RecordBatch>> {
        let call = calls.pop_front()?;
        let Some(most) = self.rows_max.filter(|most| rows(&call) > *most) else { return Some(call) };
        let parts: Vec<_> = call.iter().flat_map(|batch| parts(batch, most)).collect();
        for part in parts.into_iter().rev() {
            calls.push_front(vec![part]);
        }
        calls.pop_front()
    }

    /// A call of so many rows went well.
    pub(crate) fn on_good(&mut self, rows: usize) {
        let Some(most) = self.rows_max.filter(|most| rows >= *most) else { return };
        self.good += 1;
        if self.good >= self.enough {
            (self.rows_max, self.good, self.grew) = (most.checked_mul(2), 0, true);
        }
    }

    /// A call was too much: what to try instead, in order; `None` if less cannot be tried.
    pub(crate) fn on_out_of_memory(&mut self, call: &[RecordBatch]) -> Option<[Vec<RecordBatch>; 2]> {
        let rows = rows(call);
        if self.grew {
            self.enough = self.enough.saturating_mul(2).min(GOOD_MAX);
        }
        let most = (rows / 2).max(1);
        (self.rows_max, self.good, self.grew) = (Some(self.rows_max.map_or(most, |before| before.min(most))), 0, false);
        match call {
            [] => None,
            [batch] if batch.num_rows() <= 1 => None,
            [batch] => {
                let half = batch.num_rows() / 2;
                Some([vec![batch.slice(0, half)], vec![batch.slice(half, batch.num_rows() - half)]])
            }
            several => {
                let (first, second) = several.split_at(several.len() / 2);
                Some([first.to_vec(), second.to_vec()])
            }
        }
    }
}

/// Rows of all these batches.
pub(crate) fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

fn parts(batch: &RecordBatch, most: usize) -> impl Iterator<Item = RecordBatch> {
    let firsts = (0..batch.num_rows()).step_by(most.max(1));
    firsts.map(move |first| batch.slice(first, most.min(batch.num_rows() - first)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int32Array};
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    fn batch(numbers: impl IntoIterator<Item = i32>) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(numbers));
        RecordBatch::try_from_iter([("n", numbers)]).expect("one column")
    }

    fn numbers(batches: &[RecordBatch]) -> Vec<i32> {
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int32Type>().values().to_vec()).collect()
    }

    /// Runs slices where a call may take `fits`; gives the rows in the order they went through, and the failures.
    fn run(halves: &mut Halves, slices: Vec<Vec<RecordBatch>>, fits: impl Fn(&[i32]) -> bool) -> (Vec<i32>, usize) {
        let (mut done, mut failures) = (Vec::new(), 0);
        for slice in slices {
            let mut calls = VecDeque::from([slice]);
            while let Some(call) = halves.next(&mut calls) {
                if fits(&numbers(&call)) {
                    halves.on_good(rows(&call));
                    done.extend(numbers(&call));
                } else {
                    failures += 1;
                    let Some([first, second]) = halves.on_out_of_memory(&call) else { continue };
                    calls.push_front(second);
                    calls.push_front(first);
                }
            }
        }
        (done, failures)
    }

    #[test]
    fn too_many_rows_are_halved_and_later_calls_keep_below() {
        let mut halves = Halves::default();
        let (done, failures) = run(&mut halves, vec![vec![batch(0..1000)]], |call| call.len() <= 300);
        assert_eq!(
            (done, failures),
            ((0..1000).collect(), 2),
            "1000 and 500 are too much, 250 and what comes after fit"
        );
        let (_, failures) = run(&mut halves, vec![vec![batch(0..500)]; 2], |call| call.len() <= 300);
        assert_eq!(failures, 0);
    }

    #[test]
    fn one_huge_row_does_not_keep_calls_small_for_ever() {
        let mut halves = Halves::default();
        let slices = || vec![vec![batch(0..1024)]; 100];
        let (done, failures) = run(&mut halves, vec![vec![batch(0..1024)]], |call| !call.contains(&77));
        assert_eq!((done.len(), failures), (1023, 11), "ten halvings, and the row alone");
        run(&mut halves, slices(), |_| true);
        let next = halves.next(&mut VecDeque::from([vec![batch(0..1024)]]));
        assert_eq!(next.map(|call| rows(&call)), Some(1024));
    }

    #[test]
    fn larger_calls_are_tried_less_and_less_often() {
        let mut halves = Halves::default();
        let (_, failures) = run(&mut halves, vec![vec![batch(0..100)]; 1000], |call| call.len() <= 10);
        assert!(failures < 20, "{failures} processes died for 10,000 calls");
    }

    proptest! {
        /// Whatever fits: each row goes through once, in order, unless it does not fit alone.
        #[test]
        fn no_row_is_lost_or_doubled(sizes in prop::collection::vec(prop::collection::vec(1..60i32, 1..4), 1..10), bad in prop::collection::btree_set(0..400i32, 0..5), limit in 1..80usize) {
            let mut next = 0;
            let mut take = |size: i32| { next += size; batch(next - size..next) };
            let slices: Vec<Vec<_>> = sizes.into_iter().map(|slice| slice.into_iter().map(&mut take).collect()).collect();
            let all: Vec<i32> = slices.iter().flat_map(|slice| numbers(slice)).collect();
            let (done, _) = run(&mut Halves::default(), slices, |call| call.len() <= limit && !call.iter().any(|n| bad.contains(n)));
            prop_assert_eq!(done, all.into_iter().filter(|n| !bad.contains(n)).collect::<Vec<_>>());
        }
    }
}
