//! Specs: operators as values that can be printed, compared with a registry and, where registered, sent to a node.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::{BoxError, Isolation, Object, Operator, OperatorResult, Output};
use crate::function::registry;

/// How the rows handed to one call of an operator are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BatchSize {
    /// By the engine: as many rows as fit a cache-sized batch, within a block.
    #[default]
    Auto,
    /// Exactly so many rows, across block borders; only the last batch of the job may be smaller, and in a job that writes one
    /// in each `commit_interval`, so that what is finished can be told from what is not. In the chain of a read at most so
    /// many: what its reader gives at once is cut, and not put together.
    Rows(NonZeroUsize),
    /// So many rows, and fewer where they are wide: a batch is closed at about the bytes of a block. For operators that take
    /// any number of rows and are quickest with so many.
    UpTo(NonZeroUsize),
}

impl BatchSize {
    /// The rows of a batch, if the operator says how many.
    pub fn rows(self) -> Option<NonZeroUsize> {
        match self {
            Self::Auto => None,
            Self::Rows(rows) | Self::UpTo(rows) => Some(rows),
        }
    }
}

/// What an operator's results stand for, and so what is repeated when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Scope {
    /// Each batch on its own: results are passed on at once, a new attempt starts behind the last batch.
    #[default]
    Batch,
    /// The whole task: results appear in `finish`, a new attempt starts from the task's first row (file sinks).
    Task,
}

/// One operator of a job: how to build it and how to feed it.
#[derive(Clone)]
pub struct OperatorSpec {
    /// Short name for plans, progress and errors: `filter fare > 10`.
    pub label: String,
    /// How rows are grouped into calls.
    pub batch: BatchSize,
    /// What is repeated after a failure.
    pub scope: Scope,
    /// How to build it.
    pub recipe: Recipe,
    /// What its parameters name by hash: bytes that are too large for them.
    pub objects: Vec<Object>,
    /// Whether each of its workers runs it in a process of its own, and within which limits.
    pub isolation: Option<Isolation>,
    /// Whether it makes one row of each row, in order: then a row that fails behind it is known exactly.
    pub keeps_rows: bool,
}

/// How a worker builds its own value of an operator.
#[derive(Clone)]
pub enum Recipe {
    /// By name out of the registry of this binary, with encoded parameters. Runs on any node.
    Named {
        /// The registered name.
        name: String,
        /// The parameters, in the wire encoding.
        params: Arc<[u8]>,
    },
    /// By a closure. Runs in this process only.
    Local {
        /// The call that made it, for the error of a cluster that refuses it.
        call: &'static str,
        /// Builds the operator on the worker's thread.
        make: Arc<dyn Fn() -> Result<Box<dyn Operator>, BoxError> + Send + Sync>,
    },
    /// A user's actor: see [`crate::operator::actor`].
    Actor(Arc<dyn super::actor::ActorRecipe>),
}

impl OperatorSpec {
    /// A spec of an operator that is registered under `name`.
    pub fn named(name: impl Into<String>, params: Vec<u8>) -> Self {
        let name = name.into();
        Self::new(name.clone(), Recipe::Named { name, params: params.into() })
    }

    /// A spec of an operator that only this process can build. `call` names the call that made it.
    pub fn local<F>(call: &'static str, make: F) -> Self
    where
        F: Fn() -> Result<Box<dyn Operator>, BoxError> + Send + Sync + 'static,
    {
        Self::new(call.to_owned(), Recipe::Local { call, make: Arc::new(make) })
    }

    fn new(label: String, recipe: Recipe) -> Self {
        let (batch, scope) = (BatchSize::default(), Scope::default());
        Self { label, batch, scope, recipe, objects: Vec::new(), isolation: None, keeps_rows: false }
    }

    /// The same with another label.
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The same with a fixed number of rows for each call.
    pub fn with_batch(mut self, batch: BatchSize) -> Self {
        self.batch = batch;
        self
    }

    /// The same, which makes one row of each row, in order, or not.
    pub fn keeping_rows(mut self, keeps_rows: bool) -> Self {
        self.keeps_rows = keeps_rows;
        self
    }

    /// The same with another scope.
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// The same with an object that its parameters name. Its bytes reach each node that runs the operator once, and a
    /// worker gets them by [`Shared::object`](super::Shared::object).
    ///
    /// ```
    /// use mobula_actors::operator::{Object, OperatorSpec};
    /// let table = Object::new("the prices", vec![0; 1 << 20]);
    /// let params = mobula_actors::function::encode(&table.name())?;
    /// let spec = OperatorSpec::named("mine/priced@1", params).with_object(table);
    /// assert_eq!(spec.objects.len(), 1);
    /// # Ok::<(), mobula_actors::operator::BoxError>(())
    /// ```
    pub fn with_object(mut self, object: Object) -> Self {
        self.objects.push(object);
        self
    }

    /// Builds the operator.
    ///
    /// # Errors
    /// If no operator of that name is in this binary (naming the ones there are), or its parameters do not decode.
    pub fn build(&self) -> Result<Box<dyn Operator>, BoxError> {
        match &self.recipe {
            Recipe::Named { name, params } => registry::build(name, params),
            Recipe::Local { make, .. } => make(),
            Recipe::Actor(_) => Err("a user's actor is started by its worker, not built as a value".into()),
        }
    }
}

impl fmt::Debug for OperatorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorSpec({})", self.label)
    }
}

/// What can be given to a dataset as an operator: a spec, a registered operator, a remote function, [`local`].
pub trait IntoOperator {
    /// The spec of it.
    fn into_operator(self) -> OperatorSpec;
}

impl IntoOperator for OperatorSpec {
    fn into_operator(self) -> OperatorSpec {
        self
    }
}

/// A closure wrapped by [`local`].
#[derive(Clone)]
pub struct Local<F>(pub F);

/// Wraps a closure for use in this process. A plan that holds one is refused on a cluster: a closure cannot travel.
/// For a function that runs anywhere, put `#[mobula::remote]` on it.
pub fn local<F>(function: F) -> Local<F> {
    Local(function)
}

impl<F, E> IntoOperator for Local<F>
where
    F: Fn(RecordBatch) -> Result<RecordBatch, E> + Clone + Send + Sync + 'static,
    E: Into<BoxError>,
{
    fn into_operator(self) -> OperatorSpec {
        let function = self.0;
        OperatorSpec::local("local(..)", move || Ok(Box::new(BatchFunction(function.clone()))))
    }
}

/// A function from batch to batch as an operator.
pub struct BatchFunction<F>(pub F);

impl<F, E> Operator for BatchFunction<F>
where
    F: Fn(RecordBatch) -> Result<RecordBatch, E> + 'static,
    E: Into<BoxError>,
{
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        out.emit((self.0)(batch).map_err(Into::into)?);
        Ok(())
    }

    /// Found by calling the function with a batch without rows; unknown if it fails on that.
    fn output_schema(&self, input: &SchemaRef) -> Option<SchemaRef> {
        let batch = (self.0)(RecordBatch::new_empty(SchemaRef::clone(input))).ok()?;
        Some(batch.schema())
    }
}
