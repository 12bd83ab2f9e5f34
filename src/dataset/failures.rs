//! Verbs that say what a run does about rows that user code fails on.

use std::time::Duration;

use mobula_actors::job::{BACKOFF_MAX, ErrorBudget, FailurePolicy};

use super::Dataset;
use crate::error::{Error, Result};

impl Dataset {
    /// The same rows, of which a run may give up so many: a number, or a share ([`ErrorBudget::Percent`]). Rows on which a
    /// step returns an error, panics or takes its worker down are found by halving what failed, and are given up one by one;
    /// all others are in the result. Without a budget (the default) the first of them fails the run.
    ///
    /// A run that gives up more fails. [`stats`](Dataset::stats) tells which rows were given up and why; a write keeps them
    /// beside its output, see [`WriteSummary::dead_letters`](crate::prelude::WriteSummary::dead_letters).
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let picky = |batch: RecordBatch| {
    ///     let ids: Vec<i64> = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    ///     if ids.contains(&17) { Err("17 is unlucky") } else { Ok(batch) }
    /// };
    /// let rows = Session::local()?.range(0..100)?.map_batches(local(picky))?.error_budget(1)?;
    /// assert_eq!(rows.count()?, 99);
    /// let letter = &rows.stats().expect("it ran").dead_letters[0];
    /// assert_eq!(letter.row().map(|row| row.0), Some(17));
    /// assert!(letter.error.ends_with("17 is unlucky"));
    /// # use arrow::{array::AsArray, datatypes::Int64Type};
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the share is not between 0 and 100 percent.
    pub fn error_budget(&self, budget: impl Into<ErrorBudget>) -> Result<Self> {
        let budget = budget.into();
        if let ErrorBudget::Percent(percent) = budget
            && !(0.0..=100.0).contains(&percent)
        {
            return Err(Error::invalid("error_budget", format!("{percent} percent is not between 0 and 100")));
        }
        Ok(self.failing(FailurePolicy { budget, ..self.failures }))
    }

    /// The same rows, whose runs try a task so often before they fail or give up rows, with this wait before the second
    /// attempt and twice as much before each one after it. Default: 4 attempts and 20 ms, which gets over a hiccup.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// use std::time::Duration;
    /// let patient = Session::local()?.range(0..10)?.attempts(6, Duration::from_secs(1))?;
    /// assert_eq!(patient.count()?, 10);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is not even one attempt, or the wait is over an hour.
    pub fn attempts(&self, attempts: u32, backoff: Duration) -> Result<Self> {
        if attempts == 0 || backoff > BACKOFF_MAX {
            let wanted = "at least one attempt is needed, and a wait of at most an hour";
            return Err(Error::invalid("attempts", wanted));
        }
        Ok(self.failing(FailurePolicy { attempts: Some(attempts), backoff: Some(backoff), ..self.failures }))
    }

    pub(crate) fn failing(&self, failures: FailurePolicy) -> Self {
        Self { failures, ..Self::new(self.session.clone(), self.plan.clone()) }
    }

    pub(crate) fn failures(&self) -> FailurePolicy {
        self.failures
    }
}
