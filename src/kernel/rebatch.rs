//! Batches of exactly so many rows, out of batches of any size, in order.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;

/// Cuts and joins batches so that each has exactly `rows` rows; only the last may have fewer.
///
/// A batch that lies within one input batch is a slice of it: no row is copied. Only those across borders are.
///
/// ```
/// use std::{num::NonZeroUsize, sync::Arc};
/// use arrow::array::{ArrayRef, Int64Array, RecordBatch};
/// use mobula::kernel::rebatch::Rebatch;
///
/// let batch = |values: Vec<i64>| RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(values)) as ArrayRef)]);
/// let mut rebatch = Rebatch::new(NonZeroUsize::new(2).expect("not zero"));
/// rebatch.push(batch(vec![1, 2, 3])?);
/// rebatch.push(batch(vec![4])?);
/// rebatch.push(batch(vec![5])?);
/// assert_eq!(rebatch.next_full()?, Some(batch(vec![1, 2])?));
/// assert_eq!(rebatch.next_full()?, Some(batch(vec![3, 4])?));
/// assert_eq!(rebatch.next_full()?, None);
/// assert_eq!(rebatch.rest()?, Some(batch(vec![5])?));
/// # Ok::<(), arrow::error::ArrowError>(())
/// ```
#[derive(Debug)]
pub struct Rebatch {
    rows: usize,
    waiting: VecDeque<RecordBatch>,
    waiting_rows: usize,
}

impl Rebatch {
    /// Makes batches of `rows` rows.
    pub fn new(rows: NonZeroUsize) -> Self {
        Self { rows: rows.get(), waiting: VecDeque::new(), waiting_rows: 0 }
    }

    /// Takes a batch in. All batches must have one schema.
    pub fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.waiting_rows += batch.num_rows();
            self.waiting.push_back(batch);
        }
    }

    /// Rows taken in and not yet handed out.
    pub fn waiting_rows(&self) -> usize {
        self.waiting_rows
    }

    /// The next batch of exactly the wanted size, once there are rows enough.
    ///
    /// # Errors
    /// If batches of different schemas meet in it.
    pub fn next_full(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.waiting_rows < self.rows { Ok(None) } else { self.take(self.rows).map(Some) }
    }

    /// What is left when no more batches come; `None` if nothing is. To be called when [`Rebatch::next_full`] has
    /// no more.
    ///
    /// # Errors
    /// If batches of different schemas meet in it.
    pub fn rest(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        match self.waiting_rows.min(self.rows) {
            0 => Ok(None),
            rows => self.take(rows).map(Some),
        }
    }

    fn take(&mut self, rows: usize) -> Result<RecordBatch, ArrowError> {
        let mut parts = Vec::new();
        let mut missing = rows;
        while missing > 0 {
            let first = self.waiting.pop_front().expect("as many rows wait as are counted");
            let taken = first.num_rows().min(missing);
            parts.push(first.slice(0, taken));
            if taken < first.num_rows() {
                self.waiting.push_front(first.slice(taken, first.num_rows() - taken));
            }
            missing -= taken;
        }
        self.waiting_rows -= rows;
        match parts.as_slice() {
            [only] => Ok(only.clone()),
            several => concat_batches(several[0].schema_ref(), several),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn batch(values: &[i64]) -> RecordBatch {
        let array: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("a", array)]).expect("one column")
    }

    fn values(batch: &RecordBatch) -> Vec<i64> {
        batch.column(0).as_primitive::<Int64Type>().values().to_vec()
    }

    fn rebatch(rows: usize) -> Rebatch {
        Rebatch::new(NonZeroUsize::new(rows).expect("not zero"))
    }

    #[test]
    fn a_batch_within_one_input_batch_is_not_copied() {
        let input = batch(&[1, 2, 3, 4, 5]);
        let mut rebatch = rebatch(2);
        rebatch.push(input.clone());
        rebatch.next_full().expect("one schema");
        let second = rebatch.next_full().expect("one schema").expect("rows enough");
        let buffer = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().as_ptr() as usize;
        assert_eq!(buffer(&second), buffer(&input) + 16);
        assert_eq!(second.column(0).len(), 2);
    }

    #[test]
    fn batches_of_different_schemas_do_not_join() {
        let other =
            RecordBatch::try_from_iter([("b", Arc::new(arrow::array::StringArray::from(vec!["x"])) as ArrayRef)]);
        let mut rebatch = rebatch(2);
        rebatch.push(batch(&[1]));
        rebatch.push(other.expect("one column"));
        assert!(rebatch.next_full().is_err());
    }

    proptest! {
        #[test]
        fn every_row_comes_once_in_order_and_all_batches_but_the_last_are_full(
            sizes in prop::collection::vec(0usize..10, 0..10), rows in 1usize..12,
        ) {
            let mut rebatch = rebatch(rows);
            let (mut next, mut out) = (0, Vec::new());
            for size in sizes {
                rebatch.push(batch(&(next..next + size as i64).collect::<Vec<_>>()));
                next += size as i64;
                while let Some(full) = rebatch.next_full().expect("one schema") {
                    prop_assert_eq!(full.num_rows(), rows);
                    out.extend(values(&full));
                }
            }
            if let Some(rest) = rebatch.rest().expect("one schema") {
                prop_assert!(rest.num_rows() < rows);
                out.extend(values(&rest));
            }
            prop_assert_eq!(rebatch.waiting_rows(), 0);
            prop_assert_eq!(out, (0..next).collect::<Vec<_>>());
        }
    }
}
