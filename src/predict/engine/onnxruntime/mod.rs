//! The engine for production and for GPUs: ONNX Runtime, a library that is loaded at run time. `library` finds and loads
//! it, `session` makes its sessions, `values` turns tensors into its values and back, `failure` its errors into ours.
//!
//! A session cannot be run by two threads at a time. On the CPU each worker therefore has one of its own, with as many
//! threads as the worker has cores; so the weights are there once for each worker. On a GPU, where the device's memory is
//! dear and runs follow each other anyway, the workers of one device take turns with one session.

mod failure;
mod library;
mod session;
mod values;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ort::environment::Environment;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue};

use super::{
    Asker, Device, DeviceChoice, Engine, EngineError, Inputs, Model, OnnxRuntime, Runner, Signature, Tensor, TensorInfo,
};

/// The engine with its library.
#[derive(Debug, Clone)]
pub(super) struct OrtEngine {
    environment: Environment,
    device: DeviceChoice,
    /// Threads of a session, its caller's among them.
    threads: usize,
}

impl OrtEngine {
    /// Loads the library if this process has not yet done so.
    pub(super) fn new(
        device: DeviceChoice,
        threads: usize,
        library: Option<&Path>,
        asker: Asker,
    ) -> Result<Self, EngineError> {
        Ok(Self { environment: library::environment(library, asker)?, device, threads: threads.max(1) })
    }
}

impl Engine for OrtEngine {
    fn name(&self) -> &'static str {
        OnnxRuntime::NAME
    }

    fn options(&self) -> String {
        format!("on {} with {} threads", self.device, self.threads)
    }

    fn has_gpus(&self) -> bool {
        self.device != DeviceChoice::Cpu
    }

    fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Model>, EngineError> {
        // Which device a worker will have is not known yet; what the model takes and gives is the same on all.
        let (session, idle) = match self.device {
            DeviceChoice::Cpu => (self.session(bytes, DeviceChoice::Cpu)?, true),
            _ => (self.reading_session(bytes)?, false),
        };
        let all = |outlets: &[ort::value::Outlet]| outlets.iter().map(values::info).collect::<Result<Vec<_>, _>>();
        let signature = Signature { inputs: all(session.inputs())?, outputs: all(session.outputs())? };
        let idle = Mutex::new(Some(session).filter(|_| idle));
        Ok(Arc::new(OrtModel { engine: self.clone(), signature, bytes: bytes.into(), idle, shared: Mutex::default() }))
    }
}

struct OrtModel {
    engine: OrtEngine,
    signature: Signature,
    /// What sessions are made of.
    bytes: Box<[u8]>,
    /// A session of the CPU that a worker left, for the next: so a model that is kept warm takes about as much as its file.
    idle: Mutex<Option<Session>>,
    /// The session of each GPU while it has workers.
    shared: Mutex<BTreeMap<u32, Arc<Slot>>>,
}

/// Where the workers of one GPU find their session; locked while the first of them makes it.
type Slot = Mutex<Weak<Mutex<Session>>>;

impl OrtModel {
    fn own(&self) -> Result<Session, EngineError> {
        let left = locked(&self.idle).take();
        left.map_or_else(|| self.engine.session(&self.bytes, DeviceChoice::Cpu), Ok)
    }

    fn shared(&self, device: DeviceChoice, number: u32) -> Result<Arc<Mutex<Session>>, EngineError> {
        let slot = Arc::clone(locked(&self.shared).entry(number).or_default());
        let mut slot = locked(&slot);
        if let Some(session) = slot.upgrade() {
            return Ok(session);
        }
        let session = Arc::new(Mutex::new(self.engine.session(&self.bytes, device)?));
        *slot = Arc::downgrade(&session);
        Ok(session)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Model for OrtModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Its session is made when it first runs: only then is there a way to say why it cannot be.
    fn runner(self: Arc<Self>) -> Box<dyn Runner> {
        Box::new(OrtRunner { model: self, device: DeviceChoice::Cpu, session: Held::Own(None), options: None })
    }

    fn runner_on(self: Arc<Self>, device: Device) -> Result<Box<dyn Runner>, EngineError> {
        let device = self.engine.device.on(device)?;
        let session = match device {
            DeviceChoice::Cuda(Some(number)) | DeviceChoice::TensorRt(Some(number)) => {
                Held::Shared(self.shared(device, number)?)
            }
            _ => Held::Own(Some(self.own()?)),
        };
        Ok(Box::new(OrtRunner { model: self, device, session, options: None }))
    }
}

struct OrtRunner {
    model: Arc<OrtModel>,
    device: DeviceChoice,
    session: Held,
    /// The outputs of the last run, and the options that ask for them: they are the same from run to run.
    options: Option<(Vec<String>, RunOptions<HasSelectedOutputs>)>,
}

enum Held {
    /// Empty while a run has it: one that broke off is not used again.
    Own(Option<Session>),
    Shared(Arc<Mutex<Session>>),
}

impl Runner for OrtRunner {
    fn run(&mut self, inputs: Inputs<'_>, outputs: &[&str]) -> Result<Vec<Tensor>, EngineError> {
        let Self { model, device, session, options } = self;
        let there = &model.signature;
        let fed = inputs.iter().map(|(name, tensor)| Ok((*name, values::feed(find(&there.inputs, name)?, tensor)?)));
        let fed = fed.collect::<Result<Vec<_>, EngineError>>()?;
        let wanted = outputs.iter().map(|name| find(&there.outputs, name)).collect::<Result<Vec<_>, _>>()?;
        let options = asking_for(options, outputs)?;
        match session {
            Held::Shared(session) => {
                let broken =
                    |_| EngineError::DeviceLost(format!("{device}: another worker died in the middle of a run"));
                run(&mut *session.lock().map_err(broken)?, fed, options, &wanted, *device)
            }
            Held::Own(own) => {
                let mut session = own.take().map_or_else(|| model.own(), Ok)?;
                let results = run(&mut session, fed, options, &wanted, *device);
                // After any error it still works: what ONNX Runtime refuses, it refuses before or between operators.
                *own = Some(session);
                results
            }
        }
    }
}

impl Drop for OrtRunner {
    fn drop(&mut self) {
        if let Held::Own(own) = &mut self.session
            && let Some(session) = own.take()
        {
            locked(&self.model.idle).get_or_insert(session);
        }
    }
}

fn run(
    session: &mut Session,
    fed: Vec<(&str, SessionInputValue<'_>)>,
    options: &RunOptions<HasSelectedOutputs>,
    wanted: &[&TensorInfo],
    device: DeviceChoice,
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

#[cfg(test)]
mod tests {
    use super::super::Elements;
    use super::*;
    use crate::predict::tests::has_onnxruntime;

    fn digits(device: DeviceChoice) -> Result<Arc<OrtModel>, EngineError> {
        let engine = OrtEngine::new(device, 1, None, Asker::Worker)?;
        let bytes = std::fs::read("examples/data/digits_mlp.onnx").expect("a model");
        let session = engine.session(&bytes, DeviceChoice::Cpu)?;
        let all = |outlets: &[ort::value::Outlet]| outlets.iter().map(values::info).collect::<Result<Vec<_>, _>>();
        let signature = Signature { inputs: all(session.inputs())?, outputs: all(session.outputs())? };
        let idle = Mutex::new(Some(session));
        Ok(Arc::new(OrtModel { engine, signature, bytes: bytes.into(), idle, shared: Mutex::default() }))
    }

    fn labels(runner: &mut dyn Runner, rows: usize) -> Vec<i64> {
        let pixels: Vec<f32> = (0..rows * 64).map(|n| (n % 17) as f32).collect();
        let tensor = Tensor { shape: vec![rows, 64], elements: Elements::Float32(pixels.into()) };
        let mut results = runner.run(vec![("pixels", tensor)], &["label"]).expect("it runs");
        let Some(Elements::Int64(labels)) = results.pop().map(|tensor| tensor.elements) else { panic!("labels") };
        labels.to_vec()
    }

    #[test]
    fn workers_that_take_turns_with_one_session_get_what_one_with_its_own_gets() {
        if !has_onnxruntime() {
            return;
        }
        let model = digits(DeviceChoice::Cpu).expect("a model");
        let mut own = Arc::clone(&model).runner_on(Device::Cpu).expect("a session");
        let expected = labels(&mut *own, 50);
        let shared = Arc::new(Mutex::new(model.own().expect("a session")));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let session = Held::Shared(Arc::clone(&shared));
                    let model = Arc::clone(&model);
                    let mut runner = OrtRunner { model, device: DeviceChoice::Cpu, session, options: None };
                    for _ in 0..20 {
                        assert_eq!(labels(&mut runner, 50), expected);
                    }
                });
            }
        });
    }

    #[test]
    fn a_session_that_a_worker_leaves_is_for_the_next_and_no_more_than_one_waits() {
        if !has_onnxruntime() {
            return;
        }
        let model = digits(DeviceChoice::Cpu).expect("a model");
        let runners: Vec<_> = (0..3).map(|_| Arc::clone(&model).runner_on(Device::Cpu).expect("a session")).collect();
        assert!(locked(&model.idle).is_none());
        drop(runners);
        assert!(locked(&model.idle).is_some());
    }

    #[test]
    fn a_run_that_is_refused_leaves_a_session_that_runs() {
        if !has_onnxruntime() {
            return;
        }
        let mut runner = digits(DeviceChoice::Cpu).expect("a model").runner_on(Device::Cpu).expect("a session");
        let wrong = Tensor { shape: vec![2, 3], elements: Elements::Float32(vec![1.0; 6].into()) };
        let error = runner.run(vec![("pixels", wrong)], &["label"]).expect_err("63 pixels too few");
        assert!(matches!(error, EngineError::Run(_)), "{error}");
        let unknown = runner.run(Vec::new(), &["nonsense"]).expect_err("no such output").to_string();
        assert_eq!(unknown, "tensor \"nonsense\" is not in the model");
        assert_eq!(labels(&mut *runner, 7).len(), 7);
    }

    #[test]
    fn a_process_keeps_its_library_and_tells_a_plan_that_names_another() {
        if !has_onnxruntime() {
            return;
        }
        digits(DeviceChoice::Cpu).expect("a model");
        let other = |asker| OrtEngine::new(DeviceChoice::Cpu, 1, Some(Path::new("/no/other.so")), asker);
        let error = other(Asker::Plan).expect_err("one is loaded").to_string();
        assert!(error.ends_with("and cannot change to /no/other.so; start another"), "{error}");
        other(Asker::Worker).expect("a worker takes what its process has");
    }

    #[test]
    fn a_worker_on_a_gpu_is_refused_by_a_library_without_it_rather_than_run_on_the_cpu() {
        if !has_onnxruntime() {
            return;
        }
        let model = digits(DeviceChoice::Cuda(None)).expect("a model");
        let refused = |device| match Arc::clone(&model).runner_on(device) {
            Ok(_) => panic!("there is no gpu"),
            Err(error) => error.to_string(),
        };
        assert!(refused(Device::Gpu(3)).starts_with("device cuda:3 cannot be used: "));
        assert!(refused(Device::Cpu).starts_with("device cuda cannot be used: the worker leases no GPU"));
    }
}
