//! Models: an ONNX file becomes an operator that adds the model's outputs to each batch as columns.
//!
//! [`Onnx`] says which model and how it is fed. [`Onnx::check`] holds it against the schema of a dataset, before any
//! data is read, and gives a [`CheckedModel`]: the output columns and the operator. Inside, `bind` decides which columns
//! feed which tensors, `input` and `output` turn columns into tensors and back, `operator` is the predictor that runs
//! on workers, `device` its part on GPUs, and [`engine`] is the only part that knows a model library.
//!
//! This module does not choose workers or form batches: it says what it wants, the engine below does it.

mod bind;
mod checked;
mod columns;
mod device;
pub mod engine;
mod error;
mod input;
mod onnx;
mod operator;
mod output;
#[cfg(test)]
mod tests;

pub use checked::CheckedModel;
pub use columns::InputColumns;
pub use engine::FakeDevice;
pub use error::{BatchError, PredictError};
pub use onnx::Onnx;

use serde::{Deserialize, Serialize};

/// What to do with a NaN in a column that feeds a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnNan {
    /// Fail, naming column and row.
    #[default]
    Reject,
    /// Hand it to the model.
    Allow,
}
