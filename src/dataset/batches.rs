//! `map_batches`: functions, operators and actors over whole batches.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::datatypes::SchemaRef;
use mobula_actors::job::{Resources, Workers};
use mobula_actors::operator::{BatchSize, IntoOperator, Isolation, OperatorSpec, Recipe};

use super::Dataset;
use crate::error::{Error, Result};
use crate::plan::logical::{Effect, Kind, MapStep};

/// How [`Dataset::map_batches_with`] runs its operator; what is not chosen is up to the engine.
///
/// ```
/// use mobula::prelude::*;
/// let options = MapOptions { batch_size: Some(1024), workers: Some(1..=4), ..MapOptions::default() };
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default)]
pub struct MapOptions {
    /// Rows in each batch, exactly, across block borders; only the last may be smaller. Default: about 1 MiB of rows,
    /// within a block. Costs a copy where blocks are joined.
    pub batch_size: Option<usize>,
    /// Workers of its own: so many at least, so many at most. Default: it shares the workers of the step before it.
    pub workers: Option<RangeInclusive<usize>>,
    /// What each worker needs. Default: one core while it computes.
    pub resources: Option<Resources>,
    /// The columns that come out. Default: found before anything runs by calling the function with a batch without
    /// rows, else unknown, and then the verbs after it are checked as they run.
    pub schema: Option<SchemaRef>,
    /// The columns that go in. Default: all. Naming them lets a file's other columns unread.
    pub columns: Option<Vec<String>>,
    /// Whether one row comes out for each row that goes in, in order. Default: no. It lets a limit stop the rows before
    /// they get here.
    pub keeps_rows: bool,
    /// Runs it in processes of its own, one for each worker, within these limits: code that aborts, crashes or never
    /// returns then costs a process and an attempt. Default: no. It is for what has a name ([`#[mobula::remote]`]
    /// [remote], [`#[mobula::operator]`][operator]) and costs a copy of the rows there and back. Its columns are not found
    /// by calling it here: declare them by `schema`, or the verbs after it are checked as they run. The program has to
    /// take the role of such a process: see [`isolated_worker`](crate::isolated_worker).
    ///
    /// [remote]: macro@crate::remote
    /// [operator]: macro@crate::operator
    pub isolated: Option<Isolation>,
    /// Name in plans, progress and errors. Default: that of the operator.
    pub label: Option<String>,
}

impl Dataset {
    /// Runs an operator over the rows, batch by batch: [`local`](crate::prelude::local) with a closure, a
    /// `#[mobula::remote]` function's `map(..)`, a value of a `#[mobula::operator]` type, an actor.
    ///
    /// A function is called once with a batch without rows, now, to learn which columns it makes. If it fails or
    /// panics on that, the columns are unknown until it runs; [`MapOptions::schema`] declares them.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let ids = Session::local()?.range(0..100)?;
    /// let odd = ids.map_batches(local(|batch: RecordBatch| Ok::<_, Error>(batch.slice(0, batch.num_rows() / 2))))?;
    /// assert_eq!(odd.schema()?, ids.schema()?);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// None today; the verbs share their shape.
    pub fn map_batches(&self, operator: impl IntoOperator) -> Result<Self> {
        self.map_batches_with(operator, MapOptions::default())
    }

    /// [`map_batches`](Dataset::map_batches) with a batch size, workers, resources or a declared schema.
    ///
    /// # Errors
    /// If a column of `options.columns` is not there, a number makes no sense, or what is to be isolated cannot run in
    /// another process (a closure, an actor).
    pub fn map_batches_with(&self, operator: impl IntoOperator, options: MapOptions) -> Result<Self> {
        let input = match &options.columns {
            Some(columns) => self.selected("map_batches", columns)?,
            None => self.clone(),
        };
        let step = options.step(operator.into_operator())?;
        let schema = options.schema.or_else(|| output_schema(&step.spec, input.plan.schema.as_ref()?));
        Ok(input.over(Kind::Map { input: input.plan.clone(), step }, schema))
    }
}

impl MapOptions {
    fn step(&self, mut spec: OperatorSpec) -> Result<MapStep> {
        if let Some(label) = &self.label {
            spec = spec.labelled(label.clone());
        }
        if let Some(rows) = self.batch_size {
            let rows = NonZeroUsize::new(rows)
                .ok_or_else(|| Error::invalid("map_batches", "a batch size of 0 rows; the least is 1"))?;
            spec = spec.with_batch(BatchSize::Rows(rows));
        }
        let workers = self.workers.clone().map(|range| workers("map_batches", range)).transpose()?;
        if let Some(limits) = self.isolated {
            spec = spec.isolated(limits).map_err(|refused| Error::invalid("map_batches", refused.to_string()))?;
        }
        let effect = if self.keeps_rows { Effect::EachRow } else { Effect::Any };
        Ok(MapStep { workers, resources: self.resources.clone(), ..MapStep::new("map_batches", spec, effect) })
    }
}

/// Checks how many workers are asked for.
pub(super) fn workers(call: &str, range: RangeInclusive<usize>) -> Result<Workers> {
    let (min, max) = range.into_inner();
    if min == 0 || min > max {
        return Err(Error::invalid(call, format!("workers {min}..={max}; write min..=max with 1 <= min <= max")));
    }
    Ok(Workers { min, max })
}

/// The columns that an operator makes of these, if it can say so. User code runs here, so a panic counts as "no".
pub(super) fn output_schema(spec: &OperatorSpec, input: &SchemaRef) -> Option<SchemaRef> {
    // What may take its process down does not run in this one.
    if matches!(spec.recipe, Recipe::Actor(_)) || spec.isolation.is_some() {
        return None;
    }
    catch_unwind(AssertUnwindSafe(|| spec.build().ok()?.output_schema(input))).ok().flatten()
}
