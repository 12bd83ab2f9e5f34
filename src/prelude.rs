//! What most programs use: `use mobula::prelude::*;`.

pub use crate::dataset::{Dataset, MapOptions, RunWatch, RunningWrite, WriteSummary};
pub use crate::error::{Error, Result};
pub use crate::expr::{Expr, coalesce, col, lit, when};
pub use crate::io::{
    CsvOptions, Format, JsonOptions, LetterOptions, OnError, Publish, ReadOptions, WriteMode, WriteOptions,
};
pub use crate::predict::Onnx;
pub use crate::session::Session;

pub use arrow::record_batch::RecordBatch;
pub use mobula_actors::job::{ErrorBudget, Resources};
pub use mobula_actors::operator::actor::{ActorOperator, Process};
pub use mobula_actors::operator::{
    IntoOperator, Isolation, OpenContext, Operator, OperatorResult, OperatorSpec, Output, TaskContext, local,
};
pub use mobula_actors::task::{ObjectRef, Results};
pub use mobula_actors::units::{Bytes, Rows};
