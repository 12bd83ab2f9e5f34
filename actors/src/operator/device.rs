//! Operators that compute on a device: what the host does and what the device does, cut apart, so that the host prepares
//! the next batches while the device computes.
//!
//! An operator that has a device half says so by [`Operator::on_device`](super::Operator::on_device). Its worker then has
//! two threads. On its own it calls [`prepare`](OnDevice::prepare) and [`finish`](OnDevice::finish); on the device's it
//! makes the half from [`half`](OnDevice::half) and calls it batch by batch. How many rows a batch has, how many wait
//! ready, and what follows from a failure is decided by the pool (`pool/device`).

use std::any::Any;
use std::num::NonZeroUsize;

use arrow::record_batch::RecordBatch;

use super::{BoxError, OperatorResult};
use crate::units::Bytes;

/// The host's half of an operator that computes on a device.
///
/// For each batch: `prepare`, the device half's call, `finish`. Several batches are on their way at a time; `finish` comes
/// in the order of `prepare`, except that a batch for which the device had no memory is prepared again in two parts.
///
/// ```
/// use arrow::array::RecordBatch;
/// use mobula_actors::operator::*;
/// use mobula_actors::units::Bytes;
/// use std::num::NonZeroUsize;
///
/// /// Counts rows on a device and passes the rows on.
/// struct Counted;
///
/// impl OnDevice for Counted {
///     fn batch(&self) -> DeviceBatch {
///         let one = NonZeroUsize::MIN;
///         DeviceBatch { rows: one, step: one, bytes_max: Bytes::mib(1), climbs: true }
///     }
///     fn half(&mut self) -> OperatorResult<MakeDeviceHalf> {
///         let mut all = 0;
///         Ok(Box::new(move || {
///             Ok(Box::new(move |rows: Prepared| {
///                 all += rows.downcast_ref::<usize>().ok_or_else(|| DeviceError::Failed("no rows".into()))?;
///                 Ok(Box::new(all) as Computed)
///             }))
///         }))
///     }
///     fn prepare(&mut self, batch: &RecordBatch) -> OperatorResult<Prepared> {
///         Ok(Box::new(batch.num_rows()))
///     }
///     fn finish(&mut self, batch: RecordBatch, all: Computed) -> OperatorResult<RecordBatch> {
///         println!("{:?} rows so far", all.downcast_ref::<usize>());
///         Ok(batch)
///     }
/// }
///
/// impl Operator for Counted {
///     fn on_device(&mut self) -> Option<&mut dyn OnDevice> {
///         Some(self)
///     }
///     fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
///         out.emit(batch); // Of a worker without a device.
///         Ok(())
///     }
/// }
/// ```
pub trait OnDevice {
    /// How its rows are cut into batches.
    fn batch(&self) -> DeviceBatch;

    /// What makes the device half, on the device's thread. Called once, after `open`.
    ///
    /// # Errors
    /// If there is nothing to make it of.
    fn half(&mut self) -> OperatorResult<MakeDeviceHalf>;

    /// Makes of a batch what the device half takes.
    ///
    /// # Errors
    /// If the rows do not fit it. The task fails and is tried again, as with [`Operator::process`](super::Operator::process).
    fn prepare(&mut self, batch: &RecordBatch) -> OperatorResult<Prepared>;

    /// Makes a batch of results of what came back for this one.
    ///
    /// # Errors
    /// If it is not what it should be. The task fails, as above.
    fn finish(&mut self, batch: RecordBatch, computed: Computed) -> OperatorResult<RecordBatch>;

    /// The device half failed with something else than too little memory. Whatever is on the device is dropped next.
    fn device_failed(&mut self) {}
}

/// What the host hands to the device half. The types are known to the operator alone.
pub type Prepared = Box<dyn Any + Send>;

/// What the device half hands back.
pub type Computed = Box<dyn Any + Send>;

/// The device half: it lives on the device's thread and need be neither `Send` nor `Sync`.
pub type DeviceHalf = Box<dyn FnMut(Prepared) -> Result<Computed, DeviceError>>;

/// Makes the device half, for instance brings a model's weights to the device.
pub type MakeDeviceHalf = Box<dyn FnOnce() -> Result<DeviceHalf, DeviceError> + Send>;

/// Why a device did not compute.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// It had too little memory for so many rows. They are tried again in halves, and later batches are smaller.
    #[error("{0}")]
    OutOfMemory(#[source] BoxError),
    /// It will not compute again in this worker: the worker ends, a fresh one tries the rows again.
    #[error("{0}")]
    Lost(#[source] BoxError),
    /// The call failed; the next one may not.
    #[error("{0}")]
    Failed(#[source] BoxError),
}

/// How rows are cut into batches for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceBatch {
    /// Rows of a batch: to begin with, or always.
    pub rows: NonZeroUsize,
    /// Batches have a multiple of so many rows where there are as many: what the device computes at once anyway.
    pub step: NonZeroUsize,
    /// Most bytes of a batch. One step of rows goes in whatever it takes.
    pub bytes_max: Bytes,
    /// Whether it grows while the rows a second do.
    pub climbs: bool,
}
