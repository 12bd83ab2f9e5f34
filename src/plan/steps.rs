//! The planner's own operators, beside the filter and projection of expressions. They travel by name.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use mobula_actors::operator::{
    IntoOperator, OpenContext, Operator, OperatorResult, OperatorSpec, Output, ReadBatch, Source, SourceSpec, Split,
    SplitReader,
};
use mobula_actors::units::Rows;
use serde::{Deserialize, Serialize};

use super::columns::{Column, Edit};
use super::logical::comma;
use crate::expr::{Expr, Filter, Project};
use crate::io::schema::fit;

/// Makes exactly these columns.
pub(super) fn select(columns: &[Column]) -> OperatorSpec {
    let exprs = columns.iter().map(Column::to_expr).collect();
    Project::new(exprs).into_operator().labelled(format!("select {}", comma(columns)))
}

/// Keeps the rows for which the predicate is true.
pub(super) fn filter(predicate: &Expr) -> OperatorSpec {
    Filter::new(predicate.clone()).into_operator()
}

/// Changes columns of whatever schema comes.
pub(super) fn edit(edit: &Edit) -> OperatorSpec {
    let label = edit.to_string();
    Change { edit: edit.clone(), bound: None }.into_operator().labelled(label)
}

/// Puts batches under a schema that allows more nulls than theirs.
///
/// # Errors
/// If the schema cannot be encoded.
pub(super) fn widen(schema: &SchemaRef) -> Result<OperatorSpec, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    writer.finish()?;
    Ok(Widen { schema: writer.into_inner()?, decoded: None }.into_operator().labelled("widen"))
}

/// Counts rows: each batch becomes one row with their number.
pub(crate) fn count() -> OperatorSpec {
    Count {}.into_operator().labelled("count")
}

/// A source without rows.
pub(super) fn nothing() -> SourceSpec {
    SourceSpec { label: "empty".to_owned(), source: Arc::new(Nothing) }
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
    /// In Arrow's own encoding: a stream without batches.
    schema: Vec<u8>,
    #[serde(skip)]
    decoded: Option<SchemaRef>,
}

#[mobula_actors::operator(crate = mobula_actors)]
impl Operator for Widen {
    fn open(&mut self, _: &OpenContext) -> OperatorResult {
        self.decoded = Some(StreamReader::try_new(self.schema.as_slice(), None)?.schema());
        Ok(())
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let schema = self.decoded.as_ref().expect("opened before the first batch");
        out.emit(fit(&batch, schema)?);
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

struct Nothing;

impl Source for Nothing {
    fn open(&self, _: &Split, _: Rows, _: ReadBatch, _: &OpenContext) -> OperatorResult<Box<dyn SplitReader>> {
        Err("an empty source has no splits".into())
    }
}
