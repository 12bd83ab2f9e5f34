//! What comes to an operator that it cannot work with: too much for one batch, or input that nobody could read.

use super::OperatorShell;
use crate::block::Segment;
use crate::job::{JobError, JobMessage, Skip};
use crate::pool::task::TaskInput;
use crate::units::Rows;

impl OperatorShell {
    /// Ends the job where the batch that gathers takes more than one may. Whether it does.
    pub(super) fn refuse_large_batch(&self) -> bool {
        let most = self.parts.batch_max;
        let Some((batch, rows, bytes)) = self.flow.gathers().filter(|(.., bytes)| *bytes > most) else { return false };
        let reason = format!(
            "{rows} rows of a batch of {batch} take {bytes} already, and {most} is the most for one: half of the memory \
             budget, as its blocks and the batch are there at once; ask for smaller batches, or allow more memory"
        );
        let operator = self.parts.pool.operator.clone();
        // A job that is gone has failed already.
        let _ = self.parts.job.cast(JobMessage::Failed(JobError::Infeasible { operator, reason }));
        true
    }

    /// A reader gave up what it could not read of a split: all up to the end of the task.
    pub(super) fn skipped(&mut self, seq: u64, reasons: Vec<String>) {
        let pool = &self.parts.pool;
        if let Some(TaskInput::Split(split, _, to)) = self.tasks.get(seq).map(|todo| todo.input) {
            // Where it began to is not known here; that the end is finished says that it is all over.
            let segment = Segment { source: pool.index, split: *split, from: *to - Rows(1), to: *to };
            let skips = reasons.iter().map(|reason| Skip { segment, reason: reason.clone() });
            self.parts.given_up.skip(pool.run, skips);
        }
        pool.metrics.skip(reasons);
    }
}
