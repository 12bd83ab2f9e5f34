//! The planner's own operators: columns, filters and what keeps schemas in line. They travel by name.
//!
//! Expressions are bound to the schema of the batches at hand, once for as long as it stays the same; where the schema
//! was known to the planner, that cannot fail any more.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use mobula_actors::operator::{
    IntoOperator, OpenContext, Operator, OperatorResult, OperatorSpec, Output, ReadBatch, Source, SourceSpec, Split,
    SplitReader,
};
use mobula_actors::units::Rows;
use serde::{Deserialize, Serialize};

use super::columns::{Column, Edit, schema_of};
use super::exprs;
use super::logical::comma;
use crate::expr::{BoundExpr, Expr};

/// Makes exactly these columns.
pub(super) fn select(columns: &[Column]) -> OperatorSpec {
    let label = format!("select {}", comma(columns));
    Select { columns: columns.to_vec(), bound: None }.into_operator().labelled(label)
}

/// Changes columns of whatever schema comes.
pub(super) fn edit(edit: &Edit) -> OperatorSpec {
    let label = edit.to_string();
    Change { edit: edit.clone(), bound: None }.into_operator().labelled(label)
}

/// Keeps the rows for which the predicate is true.
pub(super) fn filter(predicate: &Expr) -> OperatorSpec {
    let label = format!("filter {predicate}");
    Filter { predicate: predicate.clone(), bound: None }.into_operator().labelled(label)
}

/// Declares these columns nullable, as those of the other inputs of a union are.
pub(super) fn nullable(columns: Vec<String>) -> OperatorSpec {
    Nullable { columns }.into_operator().labelled("nullable")
}

/// A source without rows.
pub(super) fn nothing() -> SourceSpec {
    SourceSpec { label: "empty".to_owned(), source: Arc::new(Nothing) }
}

#[derive(Serialize, Deserialize)]
struct Select {
    columns: Vec<Column>,
    #[serde(skip)]
    bound: Option<BoundColumns>,
}

#[mobula_actors::operator(crate = mobula_actors)]
impl Operator for Select {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let columns = &self.columns;
        let bound = BoundColumns::for_batch(&mut self.bound, &batch, "select", |_| Ok(columns.clone()))?;
        out.emit(bound.evaluate(&batch)?);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Change {
    edit: Edit,
    #[serde(skip)]
    bound: Option<BoundColumns>,
}

#[mobula_actors::operator(crate = mobula_actors)]
impl Operator for Change {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let edit = &self.edit;
        let bound = BoundColumns::for_batch(&mut self.bound, &batch, edit.call(), |input| edit.resolve(input))?;
        out.emit(bound.evaluate(&batch)?);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Filter {
    predicate: Expr,
    #[serde(skip)]
    bound: Option<(SchemaRef, BoundExpr)>,
}

#[mobula_actors::operator(crate = mobula_actors)]
impl Operator for Filter {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let known = self.bound.as_ref().is_some_and(|(schema, _)| same(schema, batch.schema_ref()));
        if !known {
            self.bound = Some((batch.schema(), exprs::bind_predicate(&self.predicate, batch.schema_ref())?));
        }
        let (_, bound) = self.bound.as_ref().expect("bound above");
        let keep = bound.evaluate(&batch)?;
        // A null keeps its row out: the kernel takes it as false.
        out.emit(filter_record_batch(&batch, keep.as_boolean())?);
        Ok(())
    }
}

/// Counts rows: each batch becomes one row with their number.
pub(crate) fn count() -> OperatorSpec {
    Count {}.into_operator().labelled("count")
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
struct Nullable {
    columns: Vec<String>,
}

#[mobula_actors::operator(crate = mobula_actors)]
impl Operator for Nullable {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let schema = with_nullable(batch.schema_ref(), &self.columns);
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        out.emit(RecordBatch::try_new_with_options(Arc::new(schema), batch.columns().to_vec(), &options)?);
        Ok(())
    }
}

/// The schema with these columns nullable, and without metadata.
pub(crate) fn with_nullable(schema: &Schema, columns: &[String]) -> Schema {
    let field = |field: &Arc<arrow::datatypes::Field>| {
        let nullable = field.is_nullable() || columns.contains(field.name());
        field.as_ref().clone().with_nullable(nullable)
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

/// Columns bound to the schema of the batches at hand.
struct BoundColumns {
    input: SchemaRef,
    output: SchemaRef,
    exprs: Vec<BoundExpr>,
}

impl BoundColumns {
    /// What is in `slot` if it fits the batch, else bound afresh.
    fn for_batch<'a>(
        slot: &'a mut Option<Self>,
        batch: &RecordBatch,
        call: &str,
        columns: impl FnOnce(&Schema) -> crate::Result<Vec<Column>>,
    ) -> OperatorResult<&'a Self> {
        let known = slot.as_ref().is_some_and(|bound| same(&bound.input, batch.schema_ref()));
        if !known {
            let columns = columns(batch.schema_ref())?;
            *slot = Some(Self::bind(call, &columns, batch.schema())?);
        }
        Ok(slot.as_ref().expect("bound above"))
    }

    fn bind(call: &str, columns: &[Column], input: SchemaRef) -> OperatorResult<Self> {
        let output = schema_of(call, columns, &input)?;
        let exprs = columns.iter().map(|column| column.expr.bind(&input)).collect::<Result<_, _>>()?;
        Ok(Self { input, output, exprs })
    }

    fn evaluate(&self, batch: &RecordBatch) -> OperatorResult<RecordBatch> {
        let arrays = self.exprs.iter().map(|expr| expr.evaluate(batch)).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(SchemaRef::clone(&self.output), arrays, &options)?)
    }
}

/// Batches of one source share their schema, so the cheap question nearly always answers it.
fn same(a: &SchemaRef, b: &SchemaRef) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

struct Nothing;

impl Source for Nothing {
    fn open(&self, _: &Split, _: Rows, _: ReadBatch, _: &OpenContext) -> OperatorResult<Box<dyn SplitReader>> {
        Err("an empty source has no splits".into())
    }
}
