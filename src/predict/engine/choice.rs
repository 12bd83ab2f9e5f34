//! Which engine runs a model and on what device: how a user names them, what travels to the nodes, and the engine that
//! a worker makes of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Engine, EngineError, rten};

/// An engine by its name.
///
/// ```
/// use mobula::predict::EngineKind;
///
/// assert_eq!("onnxruntime".parse(), Ok(EngineKind::OnnxRuntime));
/// assert_eq!(EngineKind::default().to_string(), "rten");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EngineKind {
    /// Pure Rust, on the CPU; there is nothing to install.
    #[default]
    Rten,
    /// ONNX Runtime, a shared library that each process loads when it first needs it: on the CPU, and on GPUs where the
    /// library is built for them.
    OnnxRuntime,
}

impl EngineKind {
    /// The name that the command line and error messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rten => "rten",
            Self::OnnxRuntime => "onnxruntime",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Rten, Self::OnnxRuntime];
        let found = all.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("there is no engine {name:?}; there are rten and onnxruntime"))
    }
}

/// Where a model runs. A GPU without a number is the one of the worker's lease.
///
/// ```
/// use mobula::predict::Device;
///
/// assert_eq!("cuda:1".parse(), Ok(Device::Cuda(Some(1))));
/// assert_eq!(Device::TensorRt(None).to_string(), "tensorrt");
/// assert!("gpu".parse::<Device>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Device {
    /// The cores of the worker.
    #[default]
    Cpu,
    /// A GPU by CUDA.
    Cuda(Option<u32>),
    /// A GPU by TensorRT; by CUDA what TensorRT cannot run.
    TensorRt(Option<u32>),
}

impl Device {
    /// Whether each worker runs on the GPU that it leases.
    pub fn is_leased(self) -> bool {
        matches!(self, Self::Cuda(None) | Self::TensorRt(None))
    }

    /// With the number of the worker's GPU where it has none of its own.
    fn on(self, gpus: &[u32]) -> Result<Self, EngineError> {
        let leased = || {
            let reason =
                "the worker leases no GPU; ask for one by .resources(..), or name one such as cuda:0".to_owned();
            gpus.first().copied().map(Some).ok_or_else(|| EngineError::Device { device: self.to_string(), reason })
        };
        Ok(match self {
            Self::Cuda(None) => Self::Cuda(leased()?),
            Self::TensorRt(None) => Self::TensorRt(leased()?),
            named => named,
        })
    }
}

impl fmt::Display for Device {
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

impl FromStr for Device {
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

/// Engine and device as a user chose them: part of a predictor's parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct EngineChoice {
    pub(crate) kind: EngineKind,
    pub(crate) device: Device,
    /// Where the engine's library is, if the user said so.
    pub(crate) library: Option<PathBuf>,
    /// Threads that one run may use: the worker's share of the cores.
    pub(crate) threads: usize,
}

impl EngineChoice {
    /// The path of a library as it means the same in any directory. A mere name is for the system's loader, unless a file
    /// here has it.
    pub(crate) fn library(path: &Path) -> PathBuf {
        let name_only = path.is_relative() && path.components().count() == 1;
        match std::path::absolute(path) {
            Ok(whole) if !name_only || whole.exists() => whole,
            _ => path.to_owned(),
        }
    }

    /// Whether engine and device go together, with `gpus` leased by each worker.
    pub(crate) fn check(&self, gpus: f64) -> Result<(), String> {
        let Self { kind, device, .. } = self;
        match (kind, device) {
            (EngineKind::Rten, Device::Cpu) if self.library.is_some() => {
                Err("the engine rten has no library; choose the engine onnxruntime".to_owned())
            }
            (_, Device::Cpu) => Ok(()),
            (EngineKind::Rten, _) => {
                Err(format!("the engine rten runs on the CPU only; choose the engine onnxruntime for device {device}"))
            }
            (EngineKind::OnnxRuntime, device) if !device.is_leased() && gpus > 0.0 => Err(format!(
                "each worker leases a GPU of its own, so the device cannot be {device}; leave its number out"
            )),
            _ => Ok(()),
        }
    }

    /// The engine as a worker with these GPUs runs it.
    pub(crate) fn engine(&self, gpus: &[u32], asker: Asker) -> Result<Arc<dyn Engine>, EngineError> {
        let device = self.device.on(gpus)?;
        match self.kind {
            EngineKind::Rten => Ok(Arc::new(rten::Rten)),
            EngineKind::OnnxRuntime => onnx_runtime(device, self.threads, self.library.as_deref(), asker),
        }
    }

    /// The engine with which a plan is checked. The process that plans has no lease, and on a cluster no device: there the
    /// same engine tries the model on the CPU.
    pub(crate) fn engine_of_plan(&self, here: bool) -> Result<Arc<dyn Engine>, EngineError> {
        let device = if here && !self.device.is_leased() { self.device } else { Device::Cpu };
        Self { device, ..self.clone() }.engine(&[], Asker::Plan)
    }
}

#[cfg(feature = "onnxruntime")]
fn onnx_runtime(
    device: Device,
    threads: usize,
    library: Option<&Path>,
    asker: Asker,
) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(super::onnxruntime::OnnxRuntime::new(device, threads, library, asker)?))
}

#[cfg(not(feature = "onnxruntime"))]
fn onnx_runtime(_: Device, _: usize, _: Option<&Path>, _: Asker) -> Result<Arc<dyn Engine>, EngineError> {
    let reason = "this program was built without the feature `onnxruntime`; build it with it".to_owned();
    Err(EngineError::Unavailable { engine: EngineKind::OnnxRuntime.name(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(kind: EngineKind, device: &str) -> EngineChoice {
        EngineChoice { kind, device: device.parse().expect("a device"), ..EngineChoice::default() }
    }

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["cpu", "cuda", "cuda:0", "cuda:12", "tensorrt", "tensorrt:3"] {
            assert_eq!(text.parse::<Device>().map(|device| device.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:0:1", "CUDA"] {
            let error = text.parse::<Device>().expect_err("no device");
            assert_eq!(
                error,
                format!("there is no device {text:?}; there are cpu, cuda, cuda:0, tensorrt, tensorrt:0")
            );
        }
    }

    #[test]
    fn a_device_without_a_number_is_that_of_the_lease() {
        let on = |device: &str, gpus: &[u32]| {
            let device: Device = device.parse().expect("a device");
            device.on(gpus).map(|device| device.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(on("cuda", &[3]), Ok("cuda:3".to_owned()));
        assert_eq!(on("tensorrt", &[1, 2]), Ok("tensorrt:1".to_owned()));
        assert_eq!(on("cuda:5", &[]), Ok("cuda:5".to_owned()));
        assert_eq!(on("cpu", &[3]), Ok("cpu".to_owned()));
        assert!(
            on("cuda", &[]).expect_err("no lease").starts_with("device cuda cannot be used: the worker leases no GPU")
        );
    }

    #[test]
    fn engines_and_devices_that_do_not_go_together_are_told() {
        assert_eq!(choice(EngineKind::OnnxRuntime, "cuda").check(1.0), Ok(()));
        assert_eq!(choice(EngineKind::OnnxRuntime, "cuda:1").check(0.0), Ok(()));
        assert_eq!(choice(EngineKind::OnnxRuntime, "cpu").check(1.0), Ok(()));
        let rten = choice(EngineKind::Rten, "cuda:1").check(0.0).expect_err("on the CPU");
        assert!(rten.contains("choose the engine onnxruntime for device cuda:1"), "{rten}");
        let both = choice(EngineKind::OnnxRuntime, "cuda:1").check(1.0).expect_err("two masters");
        assert!(both.ends_with("leave its number out"), "{both}");
    }
}
