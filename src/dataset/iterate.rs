//! `iter_batches`: rows as a stream of batches of an exact size, pulled by the caller.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::Dataset;
use super::run::{Run, RunWatch};
use crate::error::{Error, Result};

impl Dataset {
    /// Batches of exactly `batch_size` rows, across block borders; only the last may be smaller. The job runs ahead of
    /// the caller by no more than its ports hold. Dropping the iterator cancels the job.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let sizes: Vec<usize> = Session::local()?
    ///     .range(0..10)?
    ///     .iter_batches(4)?
    ///     .map(|batch| batch.map(|batch| batch.num_rows()))
    ///     .collect::<Result<_, _>>()?;
    /// assert_eq!(sizes, [4, 4, 2]);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If `batch_size` is 0 or the job cannot start; why the job failed, as an item, after which the iterator ends.
    pub fn iter_batches(&self, batch_size: usize) -> Result<BatchIter> {
        if batch_size == 0 {
            return Err(Error::invalid("iter_batches", "a batch size of 0 rows; the least is 1"));
        }
        Ok(BatchIter { run: Some(self.run()?), cutter: Cutter { size: batch_size, ..Cutter::default() } })
    }
}

/// The batches of a running job: see [`Dataset::iter_batches`].
pub struct BatchIter {
    /// `None` once the job has ended.
    run: Option<Run>,
    cutter: Cutter,
}

impl BatchIter {
    /// Pictures and cancels the job from another thread; `None` once it has ended.
    pub fn watch(&self) -> Option<RunWatch> {
        self.run.as_ref().map(Run::watch)
    }
}

impl Iterator for BatchIter {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(run) = &mut self.run {
            if self.cutter.is_full() {
                break;
            }
            match run.next_block() {
                Ok(Some(block)) => block.batches().iter().for_each(|batch| self.cutter.push(batch.clone())),
                Ok(None) => self.run = None,
                Err(error) => {
                    self.run = None;
                    self.cutter = Cutter::default();
                    return Some(Err(error));
                }
            }
        }
        self.cutter.next().map(|batch| batch.map_err(Error::from))
    }
}

impl std::fmt::Debug for BatchIter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchIter").field("batch_size", &self.cutter.size).finish_non_exhaustive()
    }
}

/// Cuts batches of any size into batches of one size.
#[derive(Default)]
struct Cutter {
    size: usize,
    waiting: VecDeque<RecordBatch>,
    rows: usize,
}

impl Cutter {
    fn push(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.waiting.push_back(batch);
    }

    fn is_full(&self) -> bool {
        self.rows >= self.size
    }

    /// The next batch of the size, or what is left.
    fn next(&mut self) -> Option<Result<RecordBatch, arrow::error::ArrowError>> {
        let mut parts = Vec::new();
        let mut missing = self.size.min(self.rows);
        while missing > 0 {
            let batch = self.waiting.pop_front()?;
            let rows = batch.num_rows().min(missing);
            if rows < batch.num_rows() {
                self.waiting.push_front(batch.slice(rows, batch.num_rows() - rows));
            }
            parts.push(batch.slice(0, rows));
            missing -= rows;
            self.rows -= rows;
        }
        match parts.len() {
            0 => None,
            // Nothing to join: the buffers are shared.
            1 => parts.pop().map(Ok),
            _ => Some(concat_batches(&parts.first()?.schema(), &parts)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;

    fn batch(values: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        RecordBatch::try_from_iter([("id", column)]).unwrap()
    }

    proptest! {
        #[test]
        fn batches_of_any_size_become_batches_of_one_size(sizes in prop::collection::vec(0i64..20, 0..20), size in 1usize..15) {
            let mut cutter = Cutter { size, ..Cutter::default() };
            let mut start = 0;
            for rows in sizes {
                cutter.push(batch(start..start + rows));
                start += rows;
            }
            let made: Vec<RecordBatch> = std::iter::from_fn(|| cutter.next()).map(Result::unwrap).collect();
            let values: Vec<i64> =
                made.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
            prop_assert_eq!(values, (0..start).collect::<Vec<_>>());
            let full = made.len().saturating_sub(1);
            prop_assert!(made.iter().take(full).all(|b| b.num_rows() == size));
        }
    }
}
