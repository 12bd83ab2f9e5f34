//! A device that is not there: an engine for tests, benches and examples, which takes its time, has little memory, and
//! breaks when told to. Its results are real and easily checked.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use arrow::datatypes::DataType;
use mobula_actors::units::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Device, Dim, Element, Elements, Engine, EngineChoice, EngineError, Inputs, Model, Runner, Signature, Tensor,
    TensorInfo,
};
use crate::predict::Onnx;

/// A stand-in for a GPU: a test double, not for production. Its model has one input `x` of any number of values a row and
/// one output `sum`, their sum.
///
/// What is set here holds on GPUs, real or made up by [`SessionBuilder::gpus`](crate::SessionBuilder::gpus). Where a
/// predictor asks for none, the model runs on the cpu, at once and without faults. It travels: nodes of a cluster make
/// the same device from these settings.
///
/// ```
/// use mobula::predict::FakeDevice;
/// use mobula::prelude::*;
/// use std::time::Duration;
///
/// let device = FakeDevice::new().batch_time(Duration::from_millis(2)).memory_rows(100);
/// let one_gpu = Resources { gpus: 1.0, ..Resources::cpu(1.0) };
/// let session = Session::builder().gpus(1).build()?;
/// let sums = session.range(0..1_000)?.predict(device.model().resources(one_gpu))?;
/// assert_eq!(sums.count()?, 1_000);
/// # Ok::<(), mobula::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FakeDevice {
    load_time: Duration,
    batch_time: Duration,
    row_time: Duration,
    memory_rows: Option<usize>,
    memory: Option<Bytes>,
    lost_at_run: Option<u64>,
}

impl FakeDevice {
    /// One that takes no time and never fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long it takes to bring the model to the device.
    pub fn load_time(mut self, time: Duration) -> Self {
        self.load_time = time;
        self
    }

    /// How long each run takes, whatever its rows.
    pub fn batch_time(mut self, time: Duration) -> Self {
        self.batch_time = time;
        self
    }

    /// How much longer for each row.
    pub fn row_time(mut self, time: Duration) -> Self {
        self.row_time = time;
        self
    }

    /// More rows than these in one run are out of memory.
    pub fn memory_rows(mut self, rows: usize) -> Self {
        self.memory_rows = Some(rows);
        self
    }

    /// More bytes of input than these in one run are out of memory.
    pub fn memory(mut self, bytes: Bytes) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The device is lost at the n-th run (from 1) after the model was brought to it, and fails until it is brought again.
    pub fn lost_at_run(mut self, run: u64) -> Self {
        self.lost_at_run = Some(run);
        self
    }

    /// The model on this device, for [`Dataset::predict`](crate::Dataset::predict).
    pub fn model(self) -> Onnx {
        Onnx::bytes(*b"a model of the fake device").engine(EngineChoice::Fake(self))
    }
}

impl Engine for FakeDevice {
    fn name(&self) -> &'static str {
        "fake device"
    }

    fn options(&self) -> String {
        format!("{self:?}")
    }

    fn has_gpus(&self) -> bool {
        true
    }

    fn load(&self, _: &[u8]) -> Result<Arc<dyn Model>, EngineError> {
        let tensor = |name: &str, shape| TensorInfo {
            name: name.to_owned(),
            declared: DataType::Float32,
            element: Element::Float32,
            shape,
        };
        let dim = |name: &str| Dim::Symbolic(name.to_owned());
        let signature = Signature {
            inputs: vec![tensor("x", vec![dim("batch"), dim("values")])],
            outputs: vec![tensor("sum", vec![dim("batch")])],
        };
        Ok(Arc::new(FakeModel { device: *self, signature }))
    }
}

struct FakeModel {
    device: FakeDevice,
    signature: Signature,
}

impl Model for FakeModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn runner(self: Arc<Self>) -> Box<dyn Runner> {
        Box::new(FakeRunner { device: FakeDevice::new(), clock: Clock::new(), runs: 0 })
    }

    fn runner_on(self: Arc<Self>, device: Device) -> Result<Box<dyn Runner>, EngineError> {
        match device {
            Device::Cpu => Ok(self.runner()),
            Device::Gpu(_) => {
                let clock = Clock::new();
                clock.wait(self.device.load_time);
                Ok(Box::new(FakeRunner { device: self.device, clock, runs: 0 }))
            }
        }
    }
}

struct FakeRunner {
    device: FakeDevice,
    clock: Clock,
    runs: u64,
}

impl Runner for FakeRunner {
    fn run(&mut self, inputs: Inputs<'_>, outputs: &[&str]) -> Result<Vec<Tensor>, EngineError> {
        let (_, tensor) = inputs.first().ok_or_else(|| EngineError::Run("it has one input, x".to_owned()))?;
        let rows = tensor.shape.first().copied().unwrap_or(0);
        let bytes = Bytes((tensor.elements.len() * tensor.elements.element().size()) as u64);
        self.runs += 1;
        if self.device.lost_at_run.is_some_and(|run| self.runs >= run) {
            return Err(EngineError::DeviceLost(format!("told to break at run {}", self.runs)));
        }
        let too_much = self.device.memory_rows.is_some_and(|most| rows > most)
            || self.device.memory.is_some_and(|most| bytes > most);
        if too_much {
            return Err(EngineError::OutOfMemory(format!("{rows} rows ({bytes}) are too much for a fake device")));
        }
        self.clock.wait(self.device.batch_time + self.device.row_time.saturating_mul(rows as u32));
        let sums = sums(tensor, rows)?;
        Ok(outputs.iter().map(|_| Tensor { shape: vec![rows], elements: sums.clone() }).collect())
    }
}

fn sums(tensor: &Tensor, rows: usize) -> Result<Elements, EngineError> {
    let Elements::Float32(values) = &tensor.elements else {
        return Err(EngineError::Run("its input is of 32-bit floats".to_owned()));
    };
    let width = (values.len() / rows.max(1)).max(1);
    Ok(Elements::Float32(values.chunks(width).map(|row| row.iter().sum::<f32>()).collect::<Vec<_>>().into()))
}

/// Lets time pass as a device does, while its thread waits for it: a receiver to which nobody ever sends.
struct Clock {
    never: Receiver<()>,
    _sender: Sender<()>,
}

impl Clock {
    fn new() -> Self {
        let (_sender, never) = channel();
        Self { never, _sender }
    }

    fn wait(&self, time: Duration) {
        if !time.is_zero() {
            let waited = self.never.recv_timeout(time);
            debug_assert_eq!(waited, Err(RecvTimeoutError::Timeout), "its sender is kept and never used");
        }
    }
}
