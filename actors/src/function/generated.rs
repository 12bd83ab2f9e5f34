//! What the code calls that `#[remote]`, `#[operator]` and `#[source]` write; its types carry the compiler's messages.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::registry::{decode, encode};
use crate::operator::{BatchFunction, BoxError, Operator, OperatorSpec, Source, SourceSpec};
use crate::task::Storable;
use arrow::record_batch::RecordBatch;

/// The spec of a registered operator. Parameters that cannot be encoded are an error when it is built, not here,
/// so that making an operator stays one expression.
pub fn named_spec<T: Serialize>(name: &'static str, label: &str, params: &T) -> OperatorSpec {
    let spec = match encode(params) {
        Ok(params) => OperatorSpec::named(name, params),
        Err(error) => {
            let message = format!("cannot encode the parameters of operator {name:?}: {error}");
            OperatorSpec::local(name, move || Err(message.clone().into()))
        }
    };
    spec.labelled(label)
}

/// Builds an operator that is its own parameters.
///
/// # Errors
/// If the bytes are no such parameters.
pub fn build_operator<T: Operator + DeserializeOwned>(params: &[u8]) -> Result<Box<dyn Operator>, BoxError> {
    Ok(Box::new(decode::<T>(params)?))
}

/// The spec of a registered source. One whose parameters cannot be encoded (too large, as a rule) still reads in this
/// process, and a cluster refuses it by its name.
pub fn named_source<T: Source + Serialize>(name: &'static str, label: &str, source: T) -> SourceSpec {
    let spec = match encode(&source) {
        Ok(params) => SourceSpec::named(name, params),
        Err(error) => {
            tracing::debug!(name, error, "the parameters of a source cannot travel");
            SourceSpec::local(name, Arc::new(source))
        }
    };
    spec.labelled(label)
}

/// Builds a source that is its own parameters.
///
/// # Errors
/// If the bytes are no such parameters.
pub fn build_source<T: Source + DeserializeOwned>(params: &[u8]) -> Result<Arc<dyn Source>, BoxError> {
    Ok(Arc::new(decode::<T>(params)?))
}

/// A function from batch to batch, as an operator.
pub fn batch_function<F, E>(function: F) -> Box<dyn Operator>
where
    F: Fn(RecordBatch) -> Result<RecordBatch, E> + 'static,
    E: Into<BoxError> + 'static,
{
    Box::new(BatchFunction(function))
}

/// Compiles only for what can be a parameter of a remote function: it is cloned for each batch, and it travels.
pub fn is_parameter<T: Clone + Serialize + DeserializeOwned + 'static>() {}

/// Compiles only for what can be a parameter of a task that the function gets as its own: each attempt gets a copy.
pub fn is_owned_argument<T: Clone + Storable>() {}

/// Compiles only for what can be a parameter of a task that the function borrows.
pub fn is_argument<T: Storable>() {}

/// Compiles only for what can be an operator that travels.
pub fn travels<T: Operator + Serialize + DeserializeOwned>() {}

/// Compiles only for what can be a source that travels.
pub fn source_travels<T: Source + Serialize + DeserializeOwned>() {}

/// What a remote function returns.
#[diagnostic::on_unimplemented(
    message = "a remote function returns `Result<RecordBatch, E>`, where `E` is any error",
    label = "this is `{Self}`"
)]
pub trait Outcome {}

impl<E: Into<BoxError>> Outcome for Result<RecordBatch, E> {}

/// Compiles only for what a remote function may return.
pub fn is_outcome<T: Outcome>() {}
