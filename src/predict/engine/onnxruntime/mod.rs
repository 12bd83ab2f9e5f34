//! The engine for production and for GPUs: ONNX Runtime, a library that is loaded at run time. `library` finds and loads
//! it, `values` turns tensors into its values and back, `failure` its errors into ours.
//!
//! Its sessions cannot be run by two threads at a time. On the CPU each worker therefore has a session of its own, with as
//! many threads as the worker has cores; so the weights are there once for each worker. On a GPU, where the device's
//! memory is dear and runs follow each other anyway, the workers of one device take turns with one session.

mod failure;
mod library;
mod values;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue};

use super::choice::Asker;
use super::{Device, Engine, EngineError, EngineKind, Inputs, Model, Runner, Signature, Tensor, TensorInfo};

/// The engine on one device.
#[derive(Debug, Clone)]
pub(super) struct OnnxRuntime {
    environment: Environment,
    device: Device,
    /// Threads of a session, its caller's among them.
    threads: usize,
}

impl OnnxRuntime {
    /// Loads the library if this process has not yet done so.
    pub(super) fn new(
        device: Device,
        threads: usize,
        library: Option<&Path>,
        asker: Asker,
    ) -> Result<Self, EngineError> {
        Ok(Self { environment: library::environment(library, asker)?, device, threads: threads.max(1) })
    }

    fn session(&self, bytes: &[u8]) -> Result<Session, EngineError> {
        let mut builder = self.builder().map_err(|error| EngineError::Run(error.to_string()))?;
        for provider in self.providers()? {
            let registered = provider.register(&mut builder);
            registered.map_err(|error| failure::of_device_error(error.message(), self.device))?;
        }
        let session = builder.commit_from_memory(bytes);
        session.map_err(|error| failure::of_load(error.code(), error.message(), bytes, self.device))
    }

    fn builder(&self) -> ort::Result<SessionBuilder> {
        let builder = Session::builder(&self.environment)?.with_log_level(LogLevel::Warning)?;
        // The threads of a pool that wait for work would take the cores from other workers.
        let builder = builder.with_intra_threads(self.threads)?.with_intra_op_spinning(false)?;
        Ok(builder.with_inter_threads(1)?)
    }

    /// What runs the model, best first; the CPU, which takes what they cannot, is always there.
    fn providers(&self) -> Result<Vec<ExecutionProviderDispatch>, EngineError> {
        let cuda = |id| ep::CUDA::default().with_device_id(id).build();
        match self.device {
            Device::Cpu => Ok(Vec::new()),
            Device::Cuda(number) => {
                self.check_built_for::<ep::CUDA>()?;
                Ok(vec![cuda(device_id(number))])
            }
            Device::TensorRt(number) => {
                self.check_built_for::<ep::TensorRT>()?;
                let id = device_id(number);
                Ok(vec![ep::TensorRT::default().with_device_id(id).build(), cuda(id)])
            }
        }
    }

    fn check_built_for<P: ExecutionProvider>(&self) -> Result<(), EngineError> {
        match P::is_available() {
            Ok(true) => Ok(()),
            Ok(false) => Err(failure::of_device_error(
                "this ONNX Runtime was built without it; take the library of the Python package onnxruntime-gpu, or the device cpu",
                self.device,
            )),
            Err(error) => Err(failure::of_device_error(error.message(), self.device)),
        }
    }
}

/// The number of a device as CUDA counts.
fn device_id(number: Option<u32>) -> i32 {
    number.and_then(|number| i32::try_from(number).ok()).unwrap_or_default()
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        EngineKind::OnnxRuntime.name()
    }

    fn key(&self) -> String {
        format!("{} on {} with {} threads", self.name(), self.device, self.threads)
    }

    fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Model>, EngineError> {
        let session = self.session(bytes)?;
        let all = |outlets: &[ort::value::Outlet]| outlets.iter().map(values::info).collect::<Result<Vec<_>, _>>();
        let signature = Signature { inputs: all(session.inputs())?, outputs: all(session.outputs())? };
        let sessions = match self.device {
            Device::Cpu => Sessions::Each { bytes: bytes.into(), idle: Mutex::new(Some(session)) },
            _ => Sessions::One(Arc::new(Mutex::new(session))),
        };
        Ok(Arc::new(OrtModel { engine: self.clone(), signature, sessions }))
    }
}

struct OrtModel {
    engine: OnnxRuntime,
    signature: Signature,
    sessions: Sessions,
}

/// Who runs on which session.
enum Sessions {
    /// Each worker on its own. One that a worker left is there for the next, so that a model which is kept warm takes
    /// about as much as its file; others are made of the bytes.
    Each { bytes: Box<[u8]>, idle: Mutex<Option<Session>> },
    /// All on the same, in turns.
    One(Arc<Mutex<Session>>),
}

impl Model for OrtModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn runner(self: Arc<Self>) -> Result<Box<dyn Runner>, EngineError> {
        let session = match &self.sessions {
            Sessions::One(session) => Held::Shared(Arc::clone(session)),
            Sessions::Each { bytes, idle } => {
                let left = idle.lock().unwrap_or_else(PoisonError::into_inner).take();
                Held::Own(Some(left.map_or_else(|| self.engine.session(bytes), Ok)?))
            }
        };
        Ok(Box::new(OrtRunner { model: self, session, options: None }))
    }
}

struct OrtRunner {
    model: Arc<OrtModel>,
    session: Held,
    /// The outputs of the last run, and the options that ask for them: they are the same from run to run.
    options: Option<(Vec<String>, RunOptions<HasSelectedOutputs>)>,
}

enum Held {
    /// Empty while a run has it: one that broke off, by an error or a panic, is not used again.
    Own(Option<Session>),
    Shared(Arc<Mutex<Session>>),
}

impl Runner for OrtRunner {
    fn run(&mut self, inputs: Inputs<'_>, outputs: &[&str]) -> Result<Vec<Tensor>, EngineError> {
        let Self { model, session, options } = self;
        let there = &model.signature;
        let fed = inputs.iter().map(|(name, tensor)| Ok((*name, values::feed(find(&there.inputs, name)?, tensor)?)));
        let fed = fed.collect::<Result<Vec<_>, EngineError>>()?;
        let wanted = outputs.iter().map(|name| find(&there.outputs, name)).collect::<Result<Vec<_>, _>>()?;
        let options = asking_for(options, outputs)?;
        match session {
            Held::Shared(session) => {
                let mut session = session.lock().map_err(|_| EngineError::Run(BROKEN.to_owned()))?;
                run(&mut session, fed, options, &wanted, model.engine.device)
            }
            Held::Own(own) => {
                let mut session = match own.take() {
                    Some(session) => session,
                    None => match &model.sessions {
                        Sessions::Each { bytes, .. } => model.engine.session(bytes)?,
                        Sessions::One(_) => return Err(EngineError::Run(BROKEN.to_owned())),
                    },
                };
                let results = run(&mut session, fed, options, &wanted, model.engine.device)?;
                *own = Some(session);
                Ok(results)
            }
        }
    }
}

const BROKEN: &str = "a run before this one broke off and left the session as it was";

impl Drop for OrtRunner {
    fn drop(&mut self) {
        if let (Held::Own(own), Sessions::Each { idle, .. }) = (&mut self.session, &self.model.sessions)
            && let Some(session) = own.take()
        {
            idle.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(session);
        }
    }
}

fn run(
    session: &mut Session,
    fed: Vec<(&str, SessionInputValue<'_>)>,
    options: &RunOptions<HasSelectedOutputs>,
    wanted: &[&TensorInfo],
    device: Device,
) -> Result<Vec<Tensor>, EngineError> {
    let results = session.run_with_options(fed, options);
    let results = results.map_err(|error| failure::of_run(error.code(), error.message(), device))?;
    let result = |info: &&TensorInfo| {
        let value =
            results.get(&info.name).ok_or_else(|| values::problem(&info.name, "is missing from the results"))?;
        values::take(info, value)
    };
    wanted.iter().map(result).collect()
}

/// The options that ask for just these outputs.
fn asking_for<'a>(
    known: &'a mut Option<(Vec<String>, RunOptions<HasSelectedOutputs>)>,
    outputs: &[&str],
) -> Result<&'a RunOptions<HasSelectedOutputs>, EngineError> {
    let (names, options) = match known.take().filter(|(names, _)| names == outputs) {
        Some(same) => same,
        None => {
            let options = RunOptions::new().map_err(|error| EngineError::Run(error.to_string()))?;
            let select = outputs.iter().fold(OutputSelector::no_default(), |select, name| select.with(*name));
            (outputs.iter().map(|name| (*name).to_owned()).collect(), options.with_outputs(select))
        }
    };
    Ok(&known.insert((names, options)).1)
}

fn find<'a>(there: &'a [TensorInfo], name: &str) -> Result<&'a TensorInfo, EngineError> {
    there.iter().find(|info| info.name == name).ok_or_else(|| values::problem(name, "is not in the model"))
}
