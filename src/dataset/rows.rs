//! Functions over typed rows: `map`, `flat_map`, and `filter` by an expression or a function.

use std::marker::PhantomData;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::FieldRef;
use mobula_actors::operator::{Local, Operator, OperatorResult, OperatorSpec, Output};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::columns::check_predicate;
use super::{Dataset, typed};
use crate::error::Result;
use crate::expr::Expr;
use crate::plan::logical::{Effect, Kind, MapStep};

/// Rows that `flat_map` gathers before it passes a batch on: large enough to be cheap, small enough for a cache.
const FLAT_BATCH_ROWS: usize = 8192;

impl Dataset {
    /// A function from row to row. Rows are serde structs; only the columns that `T` names are read.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// use serde::{Deserialize, Serialize};
    /// #[derive(Deserialize)]
    /// struct Input { id: i64 }
    /// #[derive(Serialize, Deserialize)]
    /// struct Scored { id: i64, score: f64 }
    ///
    /// let ids = Session::local()?.range(0..3)?;
    /// let scored = ids.map(local(|row: Input| Scored { id: row.id, score: row.id as f64 / 2.0 }))?;
    /// assert_eq!(scored.schema()?.field(1).name(), "score");
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a field of `T` has no column, or one of another type; if a type is no struct that serde can read and write.
    pub fn map<F, T, U>(&self, function: Local<F>) -> Result<Self>
    where
        F: Fn(T) -> U + Clone + Send + Sync + 'static,
        T: DeserializeOwned + 'static,
        U: Serialize + DeserializeOwned + 'static,
    {
        let function = function.0;
        let each = move |rows: Vec<T>, out: &mut dyn FnMut(U) -> OperatorResult| {
            rows.into_iter().try_for_each(|row| out(function(row)))
        };
        self.map_rows("map", Effect::EachRow, each)
    }

    /// A function from a row to any number of rows.
    ///
    /// # Errors
    /// As [`map`](Dataset::map).
    pub fn flat_map<F, T, I>(&self, function: Local<F>) -> Result<Self>
    where
        F: Fn(T) -> I + Clone + Send + Sync + 'static,
        T: DeserializeOwned + 'static,
        I: IntoIterator + 'static,
        I::Item: Serialize + DeserializeOwned + 'static,
    {
        let function = function.0;
        let each = move |rows: Vec<T>, out: &mut dyn FnMut(I::Item) -> OperatorResult| {
            rows.into_iter().flat_map(&function).try_for_each(out)
        };
        self.map_rows("flat_map", Effect::Any, each)
    }

    /// The rows for which a condition holds: an expression that is true (not null), or a function of typed rows.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// #[derive(serde::Deserialize)]
    /// struct Row { id: i64 }
    /// let ids = Session::local()?.range(0..10)?;
    /// assert_eq!(ids.filter(col("id").lt(3))?.count()?, 3);
    /// assert_eq!(ids.filter(local(|row: Row| row.id < 3))?.count()?, 3);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the expression does not fit the columns or is no condition; if the row type does not fit them.
    pub fn filter<M>(&self, condition: impl IntoPredicate<M>) -> Result<Self> {
        let schema = self.plan.schema.clone();
        let kind = match condition.into_predicate().0 {
            Condition::Expr(predicate) => {
                schema.as_ref().map_or(Ok(()), |schema| check_predicate(&predicate, schema))?;
                Kind::Filter { input: self.plan.clone(), predicate }
            }
            Condition::Rows(make) => Kind::Map { input: self.plan.clone(), step: make(self)? },
        };
        Ok(self.over(kind, schema))
    }

    fn map_rows<E, T, U>(&self, verb: &'static str, effect: Effect, each: E) -> Result<Self>
    where
        E: Fn(Vec<T>, &mut dyn FnMut(U) -> OperatorResult) -> OperatorResult + Clone + Send + Sync + 'static,
        T: DeserializeOwned + 'static,
        U: Serialize + DeserializeOwned + 'static,
    {
        let (input, output) = (self.fields::<T>(verb)?, typed::fields_of::<U>(verb)?);
        let below = self.selected(verb, typed::names(&input))?;
        let schema = typed::schema_of(&output);
        let make = move || {
            let rows = RowMap { each: each.clone(), input: input.clone(), output: output.clone(), types: PhantomData };
            Ok(Box::new(rows) as Box<dyn Operator>)
        };
        let label = format!("{} to {}", typed::short_name::<T>(), typed::short_name::<U>());
        let spec = OperatorSpec::local("local(..)", make).labelled(label);
        let step = MapStep::new(verb, spec, effect);
        Ok(below.over(Kind::Map { input: below.plan.clone(), step }, Some(schema)))
    }

    /// The fields of `T`, checked against the columns where those are known.
    fn fields<T: DeserializeOwned>(&self, call: &str) -> Result<Vec<FieldRef>> {
        let fields = typed::fields_of::<T>(call)?;
        if let Some(schema) = &self.plan.schema {
            typed::check_fields::<T>(call, &fields, schema)?;
        }
        Ok(fields)
    }
}

/// A condition of [`Dataset::filter`].
pub struct Predicate(Condition);

enum Condition {
    Expr(Expr),
    Rows(MakeStep),
}

/// Makes the step once the columns are there to check the row type against.
type MakeStep = Box<dyn FnOnce(&Dataset) -> Result<MapStep>>;

/// What can be a condition of [`Dataset::filter`]: an [`Expr`], or `local(|row: T| -> bool)`. `M` only tells the
/// compiler which of the two; it is never written.
pub trait IntoPredicate<M> {
    /// The condition.
    fn into_predicate(self) -> Predicate;
}

impl IntoPredicate<()> for Expr {
    fn into_predicate(self) -> Predicate {
        Predicate(Condition::Expr(self))
    }
}

impl<F, T> IntoPredicate<(T,)> for Local<F>
where
    F: Fn(T) -> bool + Clone + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
{
    fn into_predicate(self) -> Predicate {
        Predicate(Condition::Rows(Box::new(move |dataset| row_filter(self.0, dataset))))
    }
}

fn row_filter<F, T>(function: F, dataset: &Dataset) -> Result<MapStep>
where
    F: Fn(T) -> bool + Clone + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
{
    let fields = dataset.fields::<T>("filter")?;
    let needs = typed::names(&fields);
    let make = move || {
        let filter = RowFilter { function: function.clone(), fields: fields.clone(), types: PhantomData };
        Ok(Box::new(filter) as Box<dyn Operator>)
    };
    let spec = OperatorSpec::local("local(..)", make).labelled(format!("by {}", typed::short_name::<T>()));
    Ok(MapStep::new("filter", spec, Effect::Keep { needs }))
}

struct RowMap<E, T, U> {
    each: E,
    input: Vec<FieldRef>,
    output: Vec<FieldRef>,
    types: PhantomData<fn(T) -> U>,
}

impl<E, T, U> Operator for RowMap<E, T, U>
where
    E: Fn(Vec<T>, &mut dyn FnMut(U) -> OperatorResult) -> OperatorResult + 'static,
    T: DeserializeOwned + 'static,
    U: Serialize + 'static,
{
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let rows = typed::rows_of::<T>(&batch, &self.input)?;
        let mut made = Vec::with_capacity(rows.len());
        (self.each)(rows, &mut |row| {
            made.push(row);
            if made.len() == FLAT_BATCH_ROWS {
                out.emit(typed::batch_of(&made, &self.output)?);
                made.clear();
            }
            Ok(())
        })?;
        out.emit(typed::batch_of(&made, &self.output)?);
        Ok(())
    }
}

struct RowFilter<F, T> {
    function: F,
    fields: Vec<FieldRef>,
    types: PhantomData<fn(T)>,
}

impl<F, T> Operator for RowFilter<F, T>
where
    F: Fn(T) -> bool + 'static,
    T: DeserializeOwned + 'static,
{
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let rows = typed::rows_of::<T>(&batch, &self.fields)?;
        let keep: BooleanArray = rows.into_iter().map(|row| Some((self.function)(row))).collect();
        out.emit(filter_record_batch(&batch, &keep)?);
        Ok(())
    }
}
