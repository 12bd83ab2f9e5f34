//! Several expressions bound together: the columns of a projection.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::bind::BoundExpr;
use super::error::ExprError;
use super::tree::Expr;

/// The columns of a projection bound to a schema.
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::{ArrayRef, Int64Array, RecordBatch};
/// use mobula::expr::{BoundProjection, col};
///
/// let a: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
/// let batch = RecordBatch::try_from_iter([("a", a)])?;
/// let projection = BoundProjection::new(&[col("a"), (col("a") + 1).alias("b")], &batch.schema())?;
/// assert_eq!(projection.schema().field(1).name(), "b");
/// assert_eq!(projection.evaluate(&batch)?.num_columns(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct BoundProjection {
    columns: Vec<BoundExpr>,
    schema: SchemaRef,
}

impl BoundProjection {
    /// Binds the columns to the schema of the input. The metadata of that schema is kept.
    ///
    /// # Errors
    /// If an expression does not bind, or two columns would have one name.
    pub fn new(columns: &[Expr], input: &Schema) -> Result<Self, ExprError> {
        let columns = columns.iter().map(|column| column.bind(input)).collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = columns.iter().find(|column| !names.insert(column.field().name())) {
            return Err(ExprError::DuplicateName { name: twice.field().name().clone() });
        }
        let fields: Vec<Field> = columns.iter().map(|column| column.field().clone()).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()));
        Ok(Self { columns, schema })
    }

    /// The schema of the result.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns computed for a batch. Columns that are passed on share their buffers with it.
    ///
    /// # Errors
    /// As [`BoundExpr::evaluate`].
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<RecordBatch, ExprError> {
        let columns = self.columns.iter().map(|column| column.evaluate(batch)).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = Arc::clone(&self.schema);
        RecordBatch::try_new_with_options(schema, columns, &options)
            .map_err(|source| ExprError::Evaluate { expr: "the columns of a projection".to_owned(), source })
    }
}
