//! Blocks that gather for a batch beyond what their port has room for.

use super::OperatorShell;
use crate::job::{JobError, JobMessage};

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
}
