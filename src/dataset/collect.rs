//! Verbs that bring rows to the caller: `collect`, `take`, `show`, `count`, `schema`, `for_each`, `materialize`.

use std::io::Write;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef, UInt64Type};
use mobula_actors::operator::BoxError;

use super::Dataset;
use crate::error::{Error, Result};
use crate::io;
use crate::kernel::table::{TableOptions, table};
use crate::plan::logical::{Effect, Kind, Logical, MapStep, PlanRef};
use crate::plan::{rules, steps};

/// Rows that [`Dataset::show`] prints: a screenful.
const SHOW_ROWS: u64 = 20;

impl Dataset {
    /// All rows, in memory. Where the columns are known there is at least one batch, so that they are not lost.
    ///
    /// # Errors
    /// Why the job failed.
    pub fn collect(&self) -> Result<Vec<RecordBatch>> {
        let mut run = self.run()?;
        let mut batches = run.batches()?;
        if let (true, Some(schema)) = (batches.is_empty(), run.schema()) {
            batches.push(RecordBatch::new_empty(schema.clone()));
        }
        Ok(batches)
    }

    /// The first `rows` rows, in memory. Reads no more of the input than it needs.
    ///
    /// # Errors
    /// Why the job failed.
    pub fn take(&self, rows: u64) -> Result<Vec<RecordBatch>> {
        let limited = self.limit(rows)?;
        let batches = limited.collect();
        self.adopt_stats(&limited);
        batches
    }

    /// Prints the first 20 rows as a table.
    ///
    /// # Errors
    /// Why the job failed.
    pub fn show(&self) -> Result<()> {
        let text = self.show_string(SHOW_ROWS)?;
        // A reader that has gone away (`| head`) does not care for the rest.
        let _ = write!(std::io::stdout().lock(), "{text}");
        Ok(())
    }

    /// The first `rows` rows as a table.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let table = Session::local()?.range(0..100)?.show_string(1)?;
    /// assert_eq!(table, "   id\nint64\n-----\n    0\n");
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// Why the job failed.
    pub fn show_string(&self, rows: u64) -> Result<String> {
        let batches = self.take(rows)?;
        let schema = batches.first().map(RecordBatch::schema).unwrap_or_else(|| Schema::empty().into());
        let rows_max = usize::try_from(rows).unwrap_or(usize::MAX);
        Ok(table(&schema, &batches, &TableOptions { rows_max, ..TableOptions::default() })?)
    }

    /// The number of rows: out of the files' own counts where the plan changes no rows, else by running the plan
    /// without the columns it does not need.
    ///
    /// # Errors
    /// Why the job failed.
    pub fn count(&self) -> Result<u64> {
        if let Some(rows) = rules::optimize(&self.plan).rows_exact() {
            return Ok(rows);
        }
        let mut run = self.run_plan(&self.counted())?;
        let counts = run.batches()?;
        Ok(counts.iter().flat_map(|batch| batch.column(0).as_primitive::<UInt64Type>().values()).sum())
    }

    /// The columns. Where only running tells, the first row is computed.
    ///
    /// # Errors
    /// Why that failed; if there is no row to tell.
    pub fn schema(&self) -> Result<SchemaRef> {
        if let Some(schema) = &self.plan.schema {
            return Ok(schema.clone());
        }
        let reason = "the columns are not known, for there are no rows; declare them by MapOptions::schema";
        self.take(1)?.first().map(RecordBatch::schema).ok_or_else(|| Error::invalid("schema", reason))
    }

    /// Hands all batches to a function, in order, on this thread. The job waits while the function runs.
    ///
    /// # Errors
    /// Why the job failed, or what the function said; then the job is cancelled.
    pub fn for_each<E: Into<BoxError>>(&self, mut function: impl FnMut(RecordBatch) -> Result<(), E>) -> Result<()> {
        let mut run = self.run()?;
        let mut rows = 0;
        while let Some(block) = run.next_block()? {
            for batch in block.batches() {
                function(batch.clone()).map_err(|cause| Error::ForEach { rows, cause: cause.into() })?;
                rows += batch.num_rows() as u64;
            }
        }
        Ok(())
    }

    /// Runs the plan once and keeps the rows in memory: the dataset that comes back gives them without running it
    /// again. The memory is beside the session's budget.
    ///
    /// # Errors
    /// Why the job failed; if there is no row and the columns are not known.
    pub fn materialize(&self) -> Result<Self> {
        let batches = self.collect()?;
        if batches.is_empty() {
            return Ok(self.in_place_of(Logical::new(Kind::Empty, None)));
        }
        let scan = io::batches(batches)?;
        let schema = Some(scan.schema());
        Ok(self.in_place_of(Logical::new(Kind::Scan(scan), schema)))
    }

    /// A plan whose rows add up to the number of rows of this one.
    fn counted(&self) -> PlanRef {
        let bare = Kind::Project { input: self.plan.clone(), columns: Vec::new() };
        let bare = Logical::new(bare, Some(Schema::empty().into()));
        let step = MapStep { spec: steps::count(), effect: Effect::Any, workers: None, resources: None };
        Logical::new(Kind::Map { input: bare, step }, None)
    }

    /// What a run on behalf of this dataset did counts as its own.
    fn adopt_stats(&self, other: &Dataset) {
        if let Some(summary) = other.last.get() {
            self.last.set(summary);
        }
    }
}
