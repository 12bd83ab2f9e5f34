//! Engines: what loads a model and runs it. The rest of this module tree knows models only by these types.
//!
//! An [`Engine`] makes a [`Model`] from the bytes of a file; a model names its inputs and outputs in a [`Signature`], and
//! workers share it: each has a [`Runner`] of its own on a [`Device`], which turns named tensors into named tensors. It
//! knows no columns: which column feeds which tensor is decided in `bind`. Which engine a predictor uses is said by an
//! [`EngineChoice`], a plain value that travels to nodes. The default engine is in `rten`, the one for production and for
//! GPUs in `onnxruntime`; [`FakeDevice`] stands in for devices in tests.

mod choice;
mod fake;
mod header;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod rten;
mod tensor;

pub(crate) use choice::Asker;
pub use choice::{DeviceChoice, EngineChoice, OnnxRuntime};
pub use fake::FakeDevice;
pub use tensor::{Element, Elements, Tensor};

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;

/// Loads models.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Its name.
    fn name(&self) -> &'static str;

    /// All options that change what it makes of a file: what one engine loads, another of the same name and options uses.
    fn options(&self) -> String {
        String::new()
    }

    /// Loads a model from the bytes of its file. Called once on a node for all its workers.
    ///
    /// # Errors
    /// If the bytes are no model, or one that this engine cannot run.
    fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Model>, EngineError>;

    /// Whether its models run on GPUs too. One whose models do not is refused for predictors that ask for GPUs.
    fn has_gpus(&self) -> bool {
        false
    }
}

/// Where a runner computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Device {
    /// On the cores of the worker.
    #[default]
    Cpu,
    /// On the GPU of this ordinal, which the worker has a lease of. Ordinals count from 0 as the node's driver does.
    Gpu(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(ordinal) => write!(f, "gpu {ordinal}"),
        }
    }
}

/// A loaded model, which all workers of a node share. Runs leave it as it is.
pub trait Model: Send + Sync {
    /// Its inputs and outputs.
    fn signature(&self) -> &Signature;

    /// What a worker runs it with on its cores, made on the worker's thread.
    fn runner(self: Arc<Self>) -> Box<dyn Runner>;

    /// What a worker runs it with on that device, made on the thread that then calls it. Workers of several devices make
    /// theirs side by side, so this is the place to bring weights to the device.
    ///
    /// # Errors
    /// If the engine has no such device, or the device refuses the model.
    fn runner_on(self: Arc<Self>, device: Device) -> Result<Box<dyn Runner>, EngineError> {
        match device {
            Device::Cpu => Ok(self.runner()),
            Device::Gpu(_) => Err(EngineError::Unsupported(format!("its models run on the cpu, not on {device}"))),
        }
    }
}

/// What a worker runs a model with. It belongs to the worker and need be neither `Send` nor `Sync`.
pub trait Runner {
    /// Runs it once on the calling worker: all inputs by name, and the results in the order of `outputs`.
    ///
    /// # Errors
    /// If a name is unknown, a tensor does not fit, or an operator of the model fails. [`EngineError::OutOfMemory`] if
    /// fewer rows at once might do; [`EngineError::DeviceLost`] if this runner will not work again.
    fn run(&mut self, inputs: Inputs<'_>, outputs: &[&str]) -> Result<Vec<Tensor>, EngineError>;

    /// Runs it once for each of `runs`. An engine that pays for each time it is entered overrides this.
    ///
    /// # Errors
    /// The first that [`run`](Self::run) would return.
    fn run_all(&mut self, runs: Vec<Inputs<'_>>, outputs: &[&str]) -> Result<Vec<Vec<Tensor>>, EngineError> {
        runs.into_iter().map(|inputs| self.run(inputs, outputs)).collect()
    }
}

/// What one run is fed: all inputs by name.
pub type Inputs<'a> = Vec<(&'a str, Tensor)>;

/// What a model takes and gives, in its own order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// Tensors to be fed.
    pub inputs: Vec<TensorInfo>,
    /// Tensors it can give.
    pub outputs: Vec<TensorInfo>,
}

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the model.
    pub name: String,
    /// The type that the model declares, as the Arrow type of a column of it.
    pub declared: DataType,
    /// The type in which the engine carries it.
    pub element: Element,
    /// Its dimensions; the first is the batch.
    pub shape: Vec<Dim>,
}

/// One dimension of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Always so many.
    Fixed(usize),
    /// Known at run time; the model gives it a name.
    Symbolic(String),
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbolic(name) => f.write_str(name),
        }
    }
}

/// `float32[batch, 64]`
impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.shape.iter().map(Dim::to_string).collect();
        write!(f, "{}[{}]", self.declared.to_string().to_lowercase(), dims.join(", "))
    }
}

/// Why an engine could not load or run a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The bytes are not a model in a format of this engine.
    #[error("it is not an ONNX model")]
    NotAModel,
    /// The bytes begin as a model and then break off or make no sense.
    #[error("the file is damaged or cut short: {0}")]
    Damaged(String),
    /// The model needs something that the engine does not have.
    #[error("the engine cannot run it: {0}")]
    Unsupported(String),
    /// An input or output of it cannot be used.
    #[error("tensor {tensor:?} {problem}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A run failed.
    #[error("the model failed: {0}")]
    Run(String),
    /// A run needed more memory than the device has left. The runner still works: the rows are tried again in halves.
    #[error("the device is out of memory: {0}")]
    OutOfMemory(String),
    /// The device or the engine's hold on it is broken, and so is every runner and model on it. The worker ends; the next
    /// one loads the model afresh and tries the rows again.
    #[error("the device is lost: {0}")]
    DeviceLost(String),
    /// The engine's library cannot be used.
    #[error("{engine} cannot be used here: {reason}")]
    Unavailable {
        /// Name of the engine.
        engine: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The device cannot be had.
    #[error("device {device} cannot be used: {reason}")]
    Device {
        /// As a user names it, with its number.
        device: String,
        /// What the engine said.
        reason: String,
    },
}
