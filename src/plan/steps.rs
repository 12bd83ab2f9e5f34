//! The planner's own operators, beside the filter and projection of expressions. They travel by name.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;
use mobula_actors::operator::{
    IntoOperator, IntoSource, OpenContext, Operator, OperatorResult, OperatorSpec, Output, ReadBatch, Source,
    SourceSpec, Split, SplitReader,
};
use mobula_actors::units::Rows;
use serde::{Deserialize, Serialize};

use super::columns::{Column, Edit};
use super::logical::comma;
use crate::expr::{Expr, Filter, Project};
use crate::io::schema::fit;
use crate::io::wire;

/// Makes exactly these columns.
pub(super) fn select(columns: &[Column]) -> OperatorSpec {
    let exprs = columns.iter().map(Column::to_expr).collect();
    Project::new(exprs).into_operator().labelled(format!("select {}", comma(columns))).keeping_rows(true)
}

/// Keeps the rows for which the predicate is true.
pub(super) fn filter(predicate: &Expr) -> OperatorSpec {
    Filter::new(predicate.clone()).into_operator()
}

/// Changes columns of whatever schema comes.
pub(super) fn edit(edit: &Edit) -> OperatorSpec {
    let label = edit.to_string();
    Change { edit: edit.clone(), bound: None }.into_operator().labelled(label).keeping_rows(true)
}

/// Puts batches under a schema that allows more nulls than theirs.
pub(super) fn widen(schema: &SchemaRef) -> OperatorSpec {
    Widen { schema: Arc::clone(schema) }.into_operator().labelled("widen").keeping_rows(true)
}

/// Counts rows: each batch becomes one row with their number.
pub(crate) fn count() -> OperatorSpec {
    Count {}.into_operator().labelled("count")
}

/// A source without rows.
pub(super) fn nothing() -> SourceSpec {
    Nothing {}.into_source().labelled("empty")
}

#[derive(Serialize, Deserialize)]
struct Change {
    edit: Edit,
    #[serde(skip)]
    bound: Option<(SchemaRef, Project)>,
}

#[mobula_actors::operator(crate = mobula_actors)]
impl Operator for Change {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        if !self.bound.as_ref().is_some_and(|(schema, _)| schema == batch.schema_ref()) {
            let columns = self.edit.resolve(batch.schema_ref())?;
            self.bound = Some((batch.schema(), Project::new(columns.iter().map(Column::to_expr).collect())));
        }
        let (_, project) = self.bound.as_mut().expect("bound just above");
        out.emit(project.apply(&batch)?);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Widen {
    #[serde(with = "wire::schema")]
    schema: SchemaRef,
}

#[mobula_actors::operator(crate = mobula_actors)]
impl Operator for Widen {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        out.emit(fit(&batch, &self.schema)?);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Count {}

#[mobula_actors::operator(crate = mobula_actors)]
impl Operator for Count {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let rows: ArrayRef = Arc::new(UInt64Array::from(vec![batch.num_rows() as u64]));
        out.emit(RecordBatch::try_from_iter([("rows", rows)])?);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Nothing {}

#[mobula_actors::source(crate = mobula_actors, name = "mobula/nothing@1")]
impl Source for Nothing {
    fn open(&self, _: &Split, _: Range<Rows>, _: ReadBatch, _: &OpenContext) -> OperatorResult<Box<dyn SplitReader>> {
        Err("an empty source has no splits".into())
    }
}
