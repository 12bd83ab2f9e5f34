//! Which engine runs a model: a value that travels with the predictor, and the engine it stands for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fake::FakeDevice;
use super::rten::Rten;
use super::{Device, Engine, EngineError};

/// The engine that a predictor runs its model on, with its options.
///
/// ```
/// use mobula::predict::Onnx;
/// use mobula::predict::engine::EngineChoice;
///
/// let model = Onnx::file("ranker.onnx").engine(EngineChoice::Rten); // which is the default
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EngineChoice {
    /// The engine in pure Rust, on the cores of the worker.
    #[default]
    Rten,
    /// ONNX Runtime.
    OnnxRuntime(OnnxRuntime),
    /// A device that is not there, for tests.
    Fake(FakeDevice),
}

/// ONNX Runtime: a shared library that each process loads when it first needs it, on the cores of the worker or, where
/// the library is built for them, on GPUs.
///
/// ```no_run
/// use mobula::predict::Onnx;
/// use mobula::predict::engine::{DeviceChoice, OnnxRuntime};
///
/// let each_its_own = OnnxRuntime::default()
///     .device(DeviceChoice::Cuda(None))           // each worker leases a GPU; without it the CPU
///     .library("/opt/ort/libonnxruntime.so");     // without it $ORT_DYLIB_PATH
/// let model = Onnx::file("ranker.onnx").engine(each_its_own);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OnnxRuntime {
    device: DeviceChoice,
    library: Option<PathBuf>,
}

impl OnnxRuntime {
    /// Its name in the command line and in error messages.
    pub const NAME: &str = "onnxruntime";

    /// Where it runs models. A device that cannot be had is an error; single operators of a model that the device lacks
    /// run on the CPU.
    pub fn device(mut self, device: DeviceChoice) -> Self {
        self.device = device;
        self
    }

    /// Its shared library. Without it the one that `ORT_DYLIB_PATH` names, or that the system finds. On a node of a
    /// cluster its own `ORT_DYLIB_PATH` comes first. A process loads one library and keeps it to its end.
    pub fn library(mut self, path: impl AsRef<Path>) -> Self {
        self.library = Some(Self::whole(path.as_ref()));
        self
    }

    /// The path of a library as it means the same in any directory. A mere name is for the system's loader, unless a file
    /// here has it.
    pub(super) fn whole(path: &Path) -> PathBuf {
        let name_only = path.is_relative() && path.components().count() == 1;
        match std::path::absolute(path) {
            Ok(whole) if !name_only || whole.exists() => whole,
            _ => path.to_owned(),
        }
    }

    #[cfg(feature = "onnxruntime")]
    fn engine(&self, threads: usize, asker: Asker) -> Result<Arc<dyn Engine>, EngineError> {
        let library = self.library.as_deref();
        Ok(Arc::new(super::onnxruntime::OrtEngine::new(self.device, threads, library, asker)?))
    }

    #[cfg(not(feature = "onnxruntime"))]
    fn engine(&self, _: usize, _: Asker) -> Result<Arc<dyn Engine>, EngineError> {
        let reason = "this program was built without the feature `onnxruntime`; build it with it".to_owned();
        Err(EngineError::Unavailable { engine: Self::NAME, reason })
    }
}

impl From<OnnxRuntime> for EngineChoice {
    fn from(options: OnnxRuntime) -> Self {
        Self::OnnxRuntime(options)
    }
}

/// Where ONNX Runtime runs a model. A GPU without a number is the one of the worker's lease.
///
/// ```
/// use mobula::predict::engine::DeviceChoice;
///
/// assert_eq!("cuda:1".parse(), Ok(DeviceChoice::Cuda(Some(1))));
/// assert_eq!(DeviceChoice::TensorRt(None).to_string(), "tensorrt");
/// assert!("gpu".parse::<DeviceChoice>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The cores of the worker.
    #[default]
    Cpu,
    /// A GPU by CUDA.
    Cuda(Option<u32>),
    /// A GPU by TensorRT; by CUDA what TensorRT cannot run.
    TensorRt(Option<u32>),
}

impl DeviceChoice {
    /// Whether each worker runs on the GPU that it leases.
    pub fn is_leased(self) -> bool {
        matches!(self, Self::Cuda(None) | Self::TensorRt(None))
    }

    /// The device itself, for a worker that computes there.
    #[cfg_attr(not(feature = "onnxruntime"), allow(dead_code, reason = "its only user is left out"))]
    pub(super) fn on(self, worker: Device) -> Result<Self, EngineError> {
        let refused = |reason: &str| EngineError::Device { device: self.to_string(), reason: reason.to_owned() };
        match (self, worker) {
            (Self::Cuda(None), Device::Gpu(leased)) => Ok(Self::Cuda(Some(leased))),
            (Self::TensorRt(None), Device::Gpu(leased)) => Ok(Self::TensorRt(Some(leased))),
            (Self::Cuda(None) | Self::TensorRt(None), Device::Cpu) => {
                Err(refused("the worker leases no GPU; ask for one by .resources(..), or name one such as cuda:0"))
            }
            (named, Device::Cpu) => Ok(named),
            (_, Device::Gpu(_)) => Err(refused("the worker leases a GPU of its own; leave the number out")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, number) = match self {
            Self::Cpu => ("cpu", &None),
            Self::Cuda(number) => ("cuda", number),
            Self::TensorRt(number) => ("tensorrt", number),
        };
        match number {
            Some(number) => write!(f, "{name}:{number}"),
            None => f.write_str(name),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("there is no device {text:?}; there are cpu, cuda, cuda:0, tensorrt, tensorrt:0");
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, number) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", number) => Ok(Self::Cuda(number)),
            ("tensorrt", number) => Ok(Self::TensorRt(number)),
            _ => Err(unknown()),
        }
    }
}

/// Who asks for an engine, which decides where its library is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Whoever plans a job: what the user said comes first.
    Plan,
    /// A worker: what the node's own environment says comes first, since its files are its own affair.
    Worker,
}

impl EngineChoice {
    /// The engine, whose runs may use so many threads each. Its library, if it has one, is loaded now.
    pub(crate) fn engine(&self, threads: usize, asker: Asker) -> Result<Arc<dyn Engine>, EngineError> {
        match self {
            Self::Rten => Ok(Arc::new(Rten)),
            Self::OnnxRuntime(options) => options.engine(threads, asker),
            Self::Fake(device) => Ok(Arc::new(*device)),
        }
    }

    /// The choice with which a plan is checked, `here` if its workers are in this process too. Who plans has no lease, and
    /// for a cluster no device: there the same engine tries the model on the CPU.
    pub(crate) fn of_plan(&self, here: bool) -> Self {
        match self {
            Self::OnnxRuntime(options) if !here || options.device.is_leased() => {
                Self::OnnxRuntime(options.clone().device(DeviceChoice::Cpu))
            }
            same => same.clone(),
        }
    }

    /// GPUs that each worker leases, where the user names `asked`; or why that does not go together.
    pub(crate) fn gpus(&self, asked: f64) -> Result<f64, String> {
        let (name, device) = match self {
            Self::Rten => ("rten", DeviceChoice::Cpu),
            Self::OnnxRuntime(options) => (OnnxRuntime::NAME, options.device),
            Self::Fake(_) => return Ok(asked),
        };
        match device {
            DeviceChoice::Cpu if asked > 0.0 => Err(format!(
                "each worker asks for {asked} gpus, but models run on the cpu with the engine {name}: ask for none, or \
                 choose an engine and a device that has gpus"
            )),
            leased if leased.is_leased() => Ok(if asked > 0.0 { asked } else { 1.0 }),
            named if asked > 0.0 => Err(format!(
                "each worker leases a GPU of its own, so the device cannot be {named}; leave its number out"
            )),
            _ => Ok(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(device: &str) -> EngineChoice {
        OnnxRuntime::default().device(device.parse().expect("a device")).into()
    }

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["cpu", "cuda", "cuda:0", "cuda:12", "tensorrt", "tensorrt:3"] {
            assert_eq!(text.parse::<DeviceChoice>().map(|device| device.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:0:1", "CUDA"] {
            let error = text.parse::<DeviceChoice>().expect_err("no device");
            assert_eq!(
                error,
                format!("there is no device {text:?}; there are cpu, cuda, cuda:0, tensorrt, tensorrt:0")
            );
        }
    }

    #[test]
    fn a_device_without_a_number_is_that_of_the_lease() {
        let on = |device: &str, worker| {
            let device: DeviceChoice = device.parse().expect("a device");
            device.on(worker).map(|device| device.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(on("cuda", Device::Gpu(3)), Ok("cuda:3".to_owned()));
        assert_eq!(on("tensorrt", Device::Gpu(1)), Ok("tensorrt:1".to_owned()));
        assert_eq!(on("cuda:5", Device::Cpu), Ok("cuda:5".to_owned()));
        assert_eq!(on("cpu", Device::Cpu), Ok("cpu".to_owned()));
        let none = on("cuda", Device::Cpu).expect_err("no lease, and not the cpu instead");
        assert!(none.starts_with("device cuda cannot be used: the worker leases no GPU"), "{none}");
        on("cuda:5", Device::Gpu(3)).expect_err("two masters");
        on("cpu", Device::Gpu(3)).expect_err("a lease for nothing");
    }

    #[test]
    fn workers_lease_a_gpu_for_a_device_without_a_number_and_only_then() {
        assert_eq!(on("cuda").gpus(0.0), Ok(1.0));
        assert_eq!(on("cuda").gpus(0.5), Ok(0.5));
        assert_eq!(on("cuda:1").gpus(0.0), Ok(0.0));
        assert_eq!(EngineChoice::Rten.gpus(0.0), Ok(0.0));
        for choice in [EngineChoice::Rten, on("cpu"), on("cuda:1")] {
            choice.gpus(1.0).expect_err("a lease for nothing");
        }
    }

    #[test]
    fn a_plan_is_checked_on_the_cpu_unless_the_device_is_named_and_here() {
        assert_eq!(on("cuda:1").of_plan(true), on("cuda:1"));
        assert_eq!(on("cuda:1").of_plan(false), on("cpu"));
        assert_eq!(on("cuda").of_plan(true), on("cpu"));
        assert_eq!(EngineChoice::Rten.of_plan(false), EngineChoice::Rten);
    }
}
