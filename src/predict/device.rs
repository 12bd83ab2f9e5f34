//! The predictor on a device: tensors are made on the worker's thread, the model runs on the device's, and its results
//! become columns on the worker's again. So the next batches are ready while the device computes.

use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use mobula_actors::operator::{
    BoxError, Computed, DeviceBatch, DeviceError, DeviceHalf, MakeDeviceHalf, OnDevice, OperatorResult, Prepared,
};
use mobula_actors::units::Bytes;
use serde::{Deserialize, Serialize};

use super::engine::{EngineError, Runner, Tensor};
use super::error::BatchError;
use super::operator::{Cut, Predictor, Settings};

/// Most bytes of columns in one batch whose size is found while running: three are on their way at a time, for each device.
/// 55 images of 224 x 224 x 3 floats; far more rows of anything smaller than devices gain from.
const CLIMB_BYTES_MAX: Bytes = Bytes::mib(32);

/// The same where the user says how many rows: large enough for what is meant, small enough for a slip to be harmless.
const ROWS_BYTES_MAX: Bytes = Bytes::mib(256);

/// Rows of the first batch where the size is found while running: few enough for any device, and doubled soon.
const FIRST_ROWS: usize = 32;

/// How rows are cut for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum DeviceRows {
    /// More while that makes more rows a second.
    #[default]
    Climb,
    /// So many, fewer only if the device runs out of memory or they take too many bytes.
    Rows(NonZeroUsize),
}

/// A batch on its way to the device: the tensors of each run.
struct Runs(Vec<Vec<Tensor>>);

impl OnDevice for Predictor {
    fn batch(&self) -> DeviceBatch {
        let step = self.settings.rows.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN);
        let first = step.max(NonZeroUsize::new(FIRST_ROWS).unwrap_or(step));
        match self.settings.on_device {
            DeviceRows::Climb => DeviceBatch { rows: first, step, bytes_max: CLIMB_BYTES_MAX, climbs: true },
            DeviceRows::Rows(rows) => DeviceBatch { rows, step, bytes_max: ROWS_BYTES_MAX, climbs: false },
        }
    }

    fn half(&mut self) -> OperatorResult<MakeDeviceHalf> {
        let model = self.model.as_ref().ok_or("the model is loaded by `open`")?;
        let (model, device, settings) = (Arc::clone(model.value().as_ref()), self.device, self.settings.clone());
        Ok(Box::new(move || {
            let runner = model.runner_on(device).map_err(device_error)?;
            Ok(half(runner, settings))
        }))
    }

    fn prepare(&mut self, batch: &RecordBatch) -> OperatorResult<Prepared> {
        let tensors = self.tensors(batch)?;
        Ok(Box::new(Runs(Cut::of(&self.settings, batch.num_rows()).runs_of(tensors))))
    }

    fn finish(&mut self, batch: RecordBatch, computed: Computed) -> OperatorResult<RecordBatch> {
        let Runs(results) = *computed.downcast::<Runs>().map_err(|_| "what came back is of another operator")?;
        let columns = self.columns_of(Cut::of(&self.settings, batch.num_rows()), results)?;
        Ok(self.append(&batch, columns)?)
    }

    fn device_failed(&mut self) {
        self.torn = true;
    }
}

/// The half that lives on the device's thread.
fn half(mut runner: Box<dyn Runner>, settings: Settings) -> DeviceHalf {
    Box::new(move |prepared| {
        let Runs(runs) = *prepared.downcast::<Runs>().map_err(|_| device_bug())?;
        let runs = runs.into_iter().map(|tensors| settings.named(tensors)).collect();
        let results = runner.run_all(runs, &settings.output_names()).map_err(device_error)?;
        Ok(Box::new(Runs(results)) as Computed)
    })
}

fn device_bug() -> DeviceError {
    DeviceError::Failed("what came is of another operator".into())
}

fn device_error(error: EngineError) -> DeviceError {
    let kind = match &error {
        EngineError::OutOfMemory(_) => DeviceError::OutOfMemory,
        EngineError::DeviceLost(_) => DeviceError::Lost,
        _ => DeviceError::Failed,
    };
    kind(BoxError::from(BatchError::Engine(error)))
}
