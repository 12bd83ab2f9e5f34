//! Operators: the vocabulary that a plan is compiled into.
//!
//! [`Operator`] is the logic that users write; [`OperatorSpec`] names it with its parameters, so that any node can
//! build it; [`Source`] and [`Split`] are where rows come from. The actor that runs an operator is in the private
//! module `shell`; its thinking is in `flow`, `regroup`, `tasks` and `bisect`.

pub mod actor;
mod bisect;
mod carried;
pub(crate) mod flow;
pub(crate) mod holes;
pub(crate) mod outlet;
pub(crate) mod regroup;
pub(crate) mod shell;
pub(crate) mod tasks;

mod device;
mod error;
mod isolation;
pub(crate) mod left;
mod object;
mod shared;
mod source;
mod spec;
pub(crate) mod warm;
mod whole;

pub use device::{Computed, DeviceBatch, DeviceError, DeviceHalf, MakeDeviceHalf, OnDevice, Prepared};
pub use error::{BoxError, OperatorResult};
pub use isolation::{ISOLATED_MEMORY_MIN, Isolation, NotIsolated};
pub use left::Left;
pub use object::{Object, ObjectError, ObjectId, ObjectName};
pub(crate) use shared::WARM_TIME;
pub use shared::{ObjectData, Shared};
pub use source::{FileRows, IntoSource, ReadBatch, Source, SourceRecipe, SourceSpec, Split, SplitReader};
pub use spec::{BatchFunction, BatchSize, IntoOperator, Local, OperatorSpec, Recipe, Scope, local};
pub use warm::CheckedOut;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

/// The logic of one step of a job: rows in, rows out.
///
/// Each worker builds its own value, on its own thread, so state may be neither `Send` nor `Sync`. The calls come in
/// this order: `open` once, then for each task `begin`, `process` for each batch, `finish`; at last `close`.
/// An error or a panic fails the task, not the process: the value is thrown away, a fresh one is opened, and the rows
/// that were not passed on yet are tried again.
///
/// ```
/// use mobula_actors::operator::{Operator, OperatorResult, Output};
/// use arrow::record_batch::RecordBatch;
///
/// /// Passes every second row on.
/// struct EverySecond;
/// impl Operator for EverySecond {
///     fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
///         for row in (0..batch.num_rows()).step_by(2) {
///             out.emit(batch.slice(row, 1));
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Operator: 'static {
    /// Prepares the worker, for instance loads a model. Called once, before the first batch.
    fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
        let _ = ctx;
        Ok(())
    }

    /// A task begins. Sinks take the name of their part from it.
    fn begin(&mut self, task: &TaskContext) -> OperatorResult {
        let _ = task;
        Ok(())
    }

    /// Takes one batch (at least one row) and emits any number of batches.
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult;

    /// Takes several batches that are there at once, each cut as the operator's batch size asks. An operator overrides
    /// this if a call costs it something beside its rows: a hand-over to another thread, a trip to a device.
    fn process_all(&mut self, batches: Vec<RecordBatch>, out: &mut Output) -> OperatorResult {
        batches.into_iter().try_for_each(|batch| self.process(batch, out))
    }

    /// The task has no more batches. With [`Scope::Task`] this is where the result of the whole task is emitted.
    fn finish(&mut self, out: &mut Output) -> OperatorResult {
        let _ = out;
        Ok(())
    }

    /// Its half on the host, if it computes on a device. Asked after `open` where the worker has GPUs and no other operator
    /// is fused with this one. Its batches then go by way of the halves; `begin`, `process` and `finish` are not called.
    fn on_device(&mut self) -> Option<&mut dyn OnDevice> {
        None
    }

    /// The columns that come out for batches of the columns `input`, where that can be said before there is a row.
    /// A plan asks a value that was built and not opened, so that what follows can be checked before anything runs.
    fn output_schema(&self, input: &SchemaRef) -> Option<SchemaRef> {
        let _ = input;
        None
    }

    /// The worker ends in good order. Not called after an error or a panic.
    fn close(&mut self) -> OperatorResult {
        Ok(())
    }
}

/// What an operator is told when its worker starts.
#[derive(Debug, Clone)]
pub struct OpenContext {
    /// Name of the operator in the job, as progress and errors print it.
    pub operator: Arc<str>,
    /// Number of the worker in its pool, from 0.
    pub worker: usize,
    /// How often this worker was restarted.
    pub incarnation: u64,
    /// Ordinals of the GPUs leased to this worker.
    pub gpus: Vec<u32>,
    /// Values shared by all workers of the node.
    pub shared: Shared,
}

/// What an operator is told when a task begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskContext {
    /// Number of the task within its operator, in input order, from 0. The same at each attempt. Where a cluster goes on
    /// after the loss of a node, tasks get new numbers, all above those that are finished.
    pub task: u64,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

impl TaskContext {
    /// The bits of a task's number from this one on are the number of the run it belongs to: a run of a trillion tasks fits.
    pub const RUN_SHIFT: u32 = 40;
}

/// Collects what an operator emits for the batch at hand.
#[derive(Debug, Default)]
pub struct Output {
    batches: Vec<RecordBatch>,
}

impl Output {
    /// Passes a batch on. A batch without rows is dropped.
    pub fn emit(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.batches.push(batch);
        }
    }

    /// The batches emitted so far, leaving none.
    pub fn take(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.batches)
    }
}
