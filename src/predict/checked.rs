//! [`CheckedModel`]: what is known of a model once it was held against a schema.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use mobula_actors::job::Resources;
use mobula_actors::operator::{IntoOperator, OperatorSpec};

/// A model that fits a schema: its output columns, and the operator that makes them.
#[derive(Debug, Clone)]
pub struct CheckedModel {
    pub(super) label: String,
    pub(super) spec: OperatorSpec,
    pub(super) input_columns: Vec<String>,
    pub(super) fields: Vec<Field>,
    pub(super) schema: Arc<Schema>,
    pub(super) batch_rows: usize,
    pub(super) workers: Option<RangeInclusive<usize>>,
    pub(super) resources: Resources,
}

impl CheckedModel {
    /// Short name for plans and progress: `predict digits_mlp.onnx`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The columns that the model adds, in order.
    pub fn output_fields(&self) -> &[Field] {
        &self.fields
    }

    /// The schema of the dataset behind the model: its own columns, then the outputs.
    pub fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.schema)
    }

    /// Rows in one run of the model.
    pub fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    /// How many workers run it, if the user said so.
    pub fn workers(&self) -> Option<RangeInclusive<usize>> {
        self.workers.clone()
    }

    /// What each worker needs.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The columns that feed the model, in the model's order.
    pub fn input_columns(&self) -> &[String] {
        &self.input_columns
    }

    /// The operator for one worker, fed with [`CheckedModel::batch_rows`] rows a call.
    pub fn operator(&self) -> OperatorSpec {
        self.spec.clone()
    }
}

impl IntoOperator for CheckedModel {
    fn into_operator(self) -> OperatorSpec {
        self.spec
    }
}
