//! Expressions as operators: [`Filter`] and [`Project`], registered by name so that they run on any node.
//!
//! Both bind to the schema of the first batch, and again when the schema changes. Their parameters are the
//! expressions themselves.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use linkme::distributed_slice;
use mobula_actors::function::{OperatorEntry, decode, encode, registry::OPERATORS};
use mobula_actors::operator::{BoxError, IntoOperator, Operator, OperatorResult, OperatorSpec, Output};
use serde::Serialize;

use super::bind::BoundExpr;
use super::error::ExprError;
use super::project::BoundProjection;
use super::tree::Expr;

/// Passes on the rows for which a predicate is true; not those for which it is null.
///
/// ```
/// use mobula::expr::{Filter, col};
/// use mobula_actors::operator::IntoOperator;
/// assert_eq!(Filter::new(col("fare").gt(10.0)).into_operator().label, "filter fare > 10.0");
/// ```
#[derive(Debug, Clone)]
pub struct Filter {
    predicate: Expr,
    bound: Bound<BoundExpr>,
}

impl Filter {
    /// Filters by `predicate`.
    pub fn new(predicate: Expr) -> Self {
        Self { predicate, bound: Bound::default() }
    }

    /// The rows of a batch that pass. A batch that passes as a whole is returned as it is.
    ///
    /// # Errors
    /// If the predicate does not bind to its schema as a condition, or a row has no result.
    pub fn apply(&mut self, batch: RecordBatch) -> Result<RecordBatch, ExprError> {
        let predicate = &self.predicate;
        let bound = self.bound.to(batch.schema_ref(), |schema| predicate.bind_predicate(schema))?;
        let mask = bound.evaluate(&batch)?;
        let mask = mask.as_boolean();
        if mask.null_count() == 0 && mask.true_count() == mask.len() {
            return Ok(batch);
        }
        filter_record_batch(&batch, mask).map_err(|source| ExprError::Evaluate { expr: predicate.to_string(), source })
    }
}

impl Operator for Filter {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        out.emit(self.apply(batch)?);
        Ok(())
    }
}

impl IntoOperator for Filter {
    fn into_operator(self) -> OperatorSpec {
        let label = format!("filter {}", self.predicate.unaliased());
        spec(FILTER, self.predicate, Self::new).labelled(label)
    }
}

/// Replaces the columns of a batch by computed ones.
///
/// ```
/// use mobula::expr::{Project, col};
/// use mobula_actors::operator::IntoOperator;
/// let columns = vec![col("id"), (col("fare") * 2).alias("double")];
/// assert_eq!(Project::new(columns).into_operator().label, "project id, fare * 2 as double");
/// ```
#[derive(Debug, Clone)]
pub struct Project {
    columns: Vec<Expr>,
    bound: Bound<BoundProjection>,
}

impl Project {
    /// Computes these columns, named by their aliases.
    pub fn new(columns: Vec<Expr>) -> Self {
        Self { columns, bound: Bound::default() }
    }

    /// The columns for the rows of a batch.
    ///
    /// # Errors
    /// If an expression does not bind to its schema, or a row has no result.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ExprError> {
        let columns = &self.columns;
        self.bound.to(batch.schema_ref(), |schema| BoundProjection::new(columns, schema))?.evaluate(batch)
    }
}

impl Operator for Project {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        out.emit(self.apply(&batch)?);
        Ok(())
    }
}

impl IntoOperator for Project {
    fn into_operator(self) -> OperatorSpec {
        let columns: Vec<_> = self.columns.iter().map(ToString::to_string).collect();
        spec(PROJECT, self.columns, Self::new).labelled(format!("project {}", columns.join(", ")))
    }
}

const FILTER: &str = "mobula/filter@1";
const PROJECT: &str = "mobula/project@1";
const PLACE: &str = concat!(file!(), ":", line!());

#[distributed_slice(OPERATORS)]
static FILTER_ENTRY: OperatorEntry =
    OperatorEntry { name: FILTER, place: PLACE, build: |params| Ok(Box::new(Filter::new(decode(params)?))) };

#[distributed_slice(OPERATORS)]
static PROJECT_ENTRY: OperatorEntry =
    OperatorEntry { name: PROJECT, place: PLACE, build: |params| Ok(Box::new(Project::new(decode(params)?))) };

/// A spec by name. An expression that cannot be encoded (a cast to a type that has no text form) stays in this
/// process, and a cluster says so when it is planned.
fn spec<P, O>(name: &'static str, params: P, make: fn(P) -> O) -> OperatorSpec
where
    P: Serialize + Clone + Send + Sync + 'static,
    O: Operator,
{
    match encode(&params) {
        Ok(bytes) => OperatorSpec::named(name, bytes),
        Err(_) => OperatorSpec::local(name, move || Ok::<Box<dyn Operator>, BoxError>(Box::new(make(params.clone())))),
    }
}

/// Something bound to the schema of the last batch.
#[derive(Debug, Clone)]
struct Bound<T>(Option<(SchemaRef, T)>);

impl<T> Default for Bound<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Bound<T> {
    fn to(
        &mut self,
        schema: &SchemaRef,
        bind: impl FnOnce(&SchemaRef) -> Result<T, ExprError>,
    ) -> Result<&T, ExprError> {
        // Schemas compare by pointer first, so this costs nothing while it stays the same.
        if !self.0.as_ref().is_some_and(|(bound_to, _)| bound_to == schema) {
            self.0 = Some((SchemaRef::clone(schema), bind(schema)?));
        }
        Ok(self.0.as_ref().map(|(_, bound)| bound).expect("bound just above"))
    }
}
