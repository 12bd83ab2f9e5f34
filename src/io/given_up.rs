//! A split of which nothing is read: it only says why, so that the job's summary lists and counts it.

use arrow::record_batch::RecordBatch;
use mobula_actors::operator::{OperatorResult, SplitReader};
use mobula_actors::units::{Bytes, Rows};

use super::error::IoError;

pub(crate) struct GivenUp {
    reason: Option<String>,
    rows: Rows,
}

impl GivenUp {
    /// Gives up `rows` rows, or all of a file whose rows nobody counted.
    pub(crate) fn reader(reason: String, rows: Rows) -> Box<dyn SplitReader> {
        Box::new(Self { reason: Some(reason), rows })
    }
}

impl SplitReader for GivenUp {
    fn next_bytes(&self) -> Bytes {
        Bytes(0)
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        Ok(None)
    }

    fn rows_read(&self) -> Rows {
        self.rows
    }

    fn take_skipped(&mut self) -> Vec<String> {
        self.reason.take().into_iter().collect()
    }
}

/// An error with its causes in one line, for lists of what was given up.
pub(crate) fn reason(error: &IoError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
