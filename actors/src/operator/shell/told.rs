//! What goes wrong, in the log: one by one at first, and not a line for each of a million rows.

use std::sync::Arc;

use super::OperatorShell;
use crate::operator::BoxError;
use crate::units::Rows;

/// Rows of a job that are given up with a warning each: the table of dead letters has all of them.
const ROWS_TOLD: u64 = 20;
/// Attempts of an operator that fail with a warning each: the summary counts all of them.
const RETRIES_TOLD: u64 = 100;

impl OperatorShell {
    pub(super) fn tell_retry(&self, task: u64, attempt: u32, cause: &Arc<BoxError>) {
        let operator = &self.parts.pool.operator;
        match self.parts.pool.metrics.retries.get() {
            0..RETRIES_TOLD => tracing::warn!(%operator, task, attempt, %cause, "attempt failed, trying again"),
            RETRIES_TOLD => {
                tracing::warn!(%operator, "more attempts fail and are tried again; the level debug tells each")
            }
            _ => tracing::debug!(%operator, task, attempt, %cause, "attempt failed, trying again"),
        }
    }

    pub(super) fn tell_row(&self, task: u64, row: Rows, attempts: u32, cause: &Arc<BoxError>) {
        let operator = &self.parts.pool.operator;
        match self.parts.given_up.count() {
            0..ROWS_TOLD => tracing::warn!(%operator, task, %row, attempts, %cause, "a row is given up"),
            ROWS_TOLD => tracing::warn!(%operator, "more rows are given up; the level debug tells each"),
            _ => tracing::debug!(%operator, task, %row, attempts, %cause, "a row is given up"),
        }
    }
}
