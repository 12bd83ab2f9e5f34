//! Why a model cannot be used on a dataset, or a batch not be fed to it.

use std::path::PathBuf;

use arrow::error::ArrowError;
use mobula_actors::operator::ObjectError;
use mobula_actors::units::Bytes;

use super::engine::{Device, EngineError};

/// What can go wrong between a model and a dataset. All of it is found before any data is read; what only
/// data can show is a [`BatchError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// The model file cannot be read.
    #[error("cannot read model {}; give the path of an ONNX file", path.display())]
    Read {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The path is a directory.
    #[error("model {} is a directory; give the ONNX file in it", path.display())]
    Directory {
        /// As it was given.
        path: PathBuf,
    },
    /// The path is a pipe, a device or a socket, which may never end.
    #[error("model {} is not a regular file; copy it into one", path.display())]
    NotAFile {
        /// As it was given.
        path: PathBuf,
    },
    /// The file is larger than an ONNX file can be.
    #[error("model {} has {bytes}; an ONNX file has at most {limit}", path.display())]
    TooLarge {
        /// As it was given.
        path: PathBuf,
        /// Its size.
        bytes: Bytes,
        /// Most that an ONNX file has.
        limit: Bytes,
    },
    /// The file at the path is not the one that was checked when the job was planned.
    #[error(
        "model {} has changed since the job was planned; run the job again, or give each node the same file",
        path.display()
    )]
    Changed {
        /// Where it is looked for.
        path: PathBuf,
    },
    /// The bytes of the model did not come.
    #[error("cannot get model {model}")]
    Object {
        /// Its path, or that it came as bytes.
        model: String,
        /// What happened.
        #[source]
        source: ObjectError,
    },
    /// The bytes of the model did not come, and its file is of no use.
    #[error("{object}, and its file is of no use here")]
    Away {
        /// Why the bytes did not come.
        object: ObjectError,
        /// What is wrong with the file on this node.
        #[source]
        file: Box<PredictError>,
    },
    /// The engine refuses the model.
    #[error(
        "cannot use model {model}; export it as ONNX again, or open it with another tool to see whether it is whole"
    )]
    Load {
        /// Its path, or that it came as bytes.
        model: String,
        /// What the engine said.
        #[source]
        source: EngineError,
    },
    /// The engine or its device cannot be had, whatever the model.
    #[error("cannot run model {model}")]
    Engine {
        /// Its path, or that it came as bytes.
        model: String,
        /// What the engine said.
        #[source]
        source: EngineError,
    },
    /// A device of the worker does not take the model.
    #[error("cannot run model {model} on {device}")]
    Device {
        /// Its path, or that it came as bytes.
        model: String,
        /// Where it should run.
        device: Device,
        /// What the engine said.
        #[source]
        source: EngineError,
    },
    /// The model loads but fails on a made-up batch of the right shapes.
    #[error("model {model} fails on a trial batch of {rows} rows")]
    Trial {
        /// Its path, or that it came as bytes.
        model: String,
        /// Rows of the trial batch.
        rows: usize,
        /// What happened.
        #[source]
        source: BatchError,
    },
    /// A setting names a tensor that the model does not have.
    #[error("model {model} has no {role} {tensor:?}; it has: {choices}")]
    NoTensor {
        /// Its path, or that it came as bytes.
        model: String,
        /// `input` or `output`.
        role: &'static str,
        /// As it was given.
        tensor: String,
        /// The names there are.
        choices: String,
    },
    /// A column that feeds the model is not in the dataset.
    #[error("column {column:?} for input {tensor:?} of the model not found; there are: {choices}")]
    NoColumn {
        /// Input of the model.
        tensor: String,
        /// As it was given.
        column: String,
        /// The names there are.
        choices: String,
    },
    /// No column is named like an input of the model, and none or several would fit.
    #[error(
        "no column is named like input {tensor:?} ({needs}) of the model and {why}; say .input({tensor:?}, \"column\")"
    )]
    Unmatched {
        /// Input of the model.
        tensor: String,
        /// Its type and shape.
        needs: String,
        /// Which columns fit or why none does.
        why: String,
    },
    /// A column does not fit the input it feeds.
    #[error("column {column} cannot feed input {tensor:?} ({needs}) of the model: {why}")]
    Mismatch {
        /// Name and type of the column, or of several.
        column: String,
        /// Input of the model.
        tensor: String,
        /// Its type and shape.
        needs: String,
        /// What does not fit, and what to do.
        why: String,
    },
    /// An output would have the name of a column that is already there.
    #[error(
        "output {output:?} of the model would become column {column:?}, which is there already; say .rename_output({output:?}, \"other\")"
    )]
    Collision {
        /// Output of the model.
        output: String,
        /// The column it would become.
        column: String,
    },
    /// A setting of the predictor makes no sense.
    #[error("{0}")]
    Setting(String),
}

impl PredictError {
    /// What an engine said when it was to load a model.
    pub(super) fn of_engine(model: String, source: EngineError) -> Self {
        match source {
            EngineError::Unavailable { .. }
            | EngineError::Device { .. }
            | EngineError::DeviceLost(_)
            | EngineError::OutOfMemory(_) => Self::Engine { model, source },
            source => Self::Load { model, source },
        }
    }

    /// What an engine said when a worker was to run a model on that device.
    pub(super) fn of_runner(model: String, device: Device, source: EngineError) -> Self {
        match source {
            // They name the device as the user did.
            EngineError::Unavailable { .. } | EngineError::Device { .. } => Self::Engine { model, source },
            source => Self::Device { model, device, source },
        }
    }
}

/// What is wrong with one batch. Rows count from 0 within the batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A column that feeds the model is not in the batch.
    #[error("column {column:?} not found in the batch; there are: {choices}")]
    NoColumn {
        /// Its name.
        column: String,
        /// The names there are.
        choices: String,
    },
    /// A null, which no tensor can hold.
    #[error("column {column:?} is null in row {row} of the batch; fill nulls or filter them out before predict")]
    Null {
        /// Its name.
        column: String,
        /// Row in the batch.
        row: usize,
    },
    /// A NaN, under the default policy.
    #[error(
        "column {column:?} is NaN in row {row} of the batch; clean the column, filter such rows out, or allow NaN (OnNan::Allow)"
    )]
    Nan {
        /// Its name.
        column: String,
        /// Row in the batch.
        row: usize,
    },
    /// A list of another length than the model takes.
    #[error("column {column:?} has a list of {found} elements in row {row} of the batch; the model takes {expected}")]
    Length {
        /// Its name.
        column: String,
        /// Row in the batch.
        row: usize,
        /// Elements it has.
        found: usize,
        /// Elements the model takes.
        expected: usize,
    },
    /// A number that the tensor's element type cannot hold.
    #[error("column {column:?} has in row {row} of the batch a value that does not fit the tensor's type {element}")]
    Range {
        /// Its name.
        column: String,
        /// Row in the batch.
        row: usize,
        /// Type of the tensor.
        element: String,
    },
    /// A column changed its type after the plan was checked.
    #[error("column {column:?} is {found} in this batch and does not fit the model: {why}")]
    Changed {
        /// Its name.
        column: String,
        /// Its type now.
        found: String,
        /// What does not fit.
        why: String,
    },
    /// The model gave another shape than it declares.
    #[error("output {output:?} of the model has shape {found:?} for a batch of {rows} rows, not {expected}")]
    Output {
        /// Its name.
        output: String,
        /// The shape that came.
        found: Vec<usize>,
        /// Rows that went in.
        rows: usize,
        /// Type and shape it declares.
        expected: String,
    },
    /// The model loads and has nothing to run on.
    #[error(transparent)]
    Runner(Box<PredictError>),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Arrow refused a conversion.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}
