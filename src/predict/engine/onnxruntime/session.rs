//! Sessions: a model made ready for one device.

use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::super::{DeviceChoice, EngineError};
use super::{OrtEngine, failure};

impl OrtEngine {
    /// A session that runs the model on that device, whose number is known.
    pub(super) fn session(&self, bytes: &[u8], device: DeviceChoice) -> Result<Session, EngineError> {
        let mut builder = self.builder().map_err(|error| EngineError::Run(error.to_string()))?;
        for provider in providers(device)? {
            let registered = provider.register(&mut builder);
            registered.map_err(|error| failure::of_device_error(error.message(), device))?;
        }
        let session = builder.commit_from_memory(bytes);
        session.map_err(|error| failure::of_load(error.code(), error.message(), bytes, device))
    }

    /// A session to read a model's inputs and outputs off, made as quickly as can be.
    pub(super) fn reading_session(&self, bytes: &[u8]) -> Result<Session, EngineError> {
        let builder = self.builder().and_then(|builder| Ok(builder.with_optimization_level(AS_IT_IS)?));
        let session = builder.map_err(|error| EngineError::Run(error.to_string()))?.commit_from_memory(bytes);
        session.map_err(|error| failure::of_load(error.code(), error.message(), bytes, DeviceChoice::Cpu))
    }

    fn builder(&self) -> ort::Result<SessionBuilder> {
        let builder = Session::builder(&self.environment)?.with_log_level(LogLevel::Warning)?;
        // The threads of a pool that wait for work would take the cores from other workers.
        let builder = builder.with_intra_threads(self.threads)?.with_intra_op_spinning(false)?;
        Ok(builder.with_inter_threads(1)?)
    }
}

const AS_IT_IS: GraphOptimizationLevel = GraphOptimizationLevel::Disable;

/// What runs the model, best first; the CPU, which takes what they cannot, is always there.
fn providers(device: DeviceChoice) -> Result<Vec<ExecutionProviderDispatch>, EngineError> {
    let cuda = |id| ep::CUDA::default().with_device_id(id).build();
    match device {
        DeviceChoice::Cpu => Ok(Vec::new()),
        DeviceChoice::Cuda(number) => {
            check_built_for::<ep::CUDA>(device)?;
            Ok(vec![cuda(device_id(number))])
        }
        DeviceChoice::TensorRt(number) => {
            check_built_for::<ep::TensorRT>(device)?;
            let id = device_id(number);
            Ok(vec![ep::TensorRT::default().with_device_id(id).build(), cuda(id)])
        }
    }
}

fn check_built_for<P: ExecutionProvider>(device: DeviceChoice) -> Result<(), EngineError> {
    match P::is_available() {
        Ok(true) => Ok(()),
        Ok(false) => Err(failure::of_device_error(NOT_BUILT_FOR, device)),
        Err(error) => Err(failure::of_device_error(error.message(), device)),
    }
}

const NOT_BUILT_FOR: &str = "this ONNX Runtime was built without it; take the library of the Python package \
                             onnxruntime-gpu, or the device cpu";

/// The number of a device as CUDA counts.
fn device_id(number: Option<u32>) -> i32 {
    number.and_then(|number| i32::try_from(number).ok()).unwrap_or(i32::MAX)
}
