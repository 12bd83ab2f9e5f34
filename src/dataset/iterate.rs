//! `iter_batches`: rows as a stream of batches of an exact size, pulled by the caller.

use std::num::NonZeroUsize;

use arrow::array::RecordBatch;

use super::Dataset;
use super::run::{Run, RunWatch};
use crate::error::{Error, Result};
use crate::kernel::rebatch::Rebatch;

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
        let zero = || Error::invalid("iter_batches", "a batch size of 0 rows; the least is 1");
        let rebatch = Rebatch::new(NonZeroUsize::new(batch_size).ok_or_else(zero)?);
        Ok(BatchIter { run: Some(self.run()?), rebatch })
    }
}

/// The batches of a running job: see [`Dataset::iter_batches`].
pub struct BatchIter {
    /// `None` once the job has ended.
    run: Option<Run>,
    rebatch: Rebatch,
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
        let batch = self.next_batch();
        if batch.is_err() {
            self.run = None;
        }
        batch.transpose()
    }
}

impl BatchIter {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(run) = &mut self.run {
            if let Some(batch) = self.rebatch.next_full()? {
                return Ok(Some(batch));
            }
            match run.next_block() {
                Ok(Some(block)) => block.batches().iter().for_each(|batch| self.rebatch.push(batch.clone())),
                Ok(None) => self.run = None,
                Err(error) => {
                    // What came before an error is no full batch, and its rows would look like the last ones.
                    self.rebatch = Rebatch::new(NonZeroUsize::MIN);
                    return Err(error);
                }
            }
        }
        match self.rebatch.next_full()? {
            Some(batch) => Ok(Some(batch)),
            None => Ok(self.rebatch.rest()?),
        }
    }
}

impl std::fmt::Debug for BatchIter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchIter").field("waiting_rows", &self.rebatch.waiting_rows()).finish_non_exhaustive()
    }
}
