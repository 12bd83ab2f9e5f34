//! A fused chain: several operators run as one call, batch by batch, with nothing between them but the stack.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use super::doing::Doing;
use crate::block::batch_bytes;
use crate::logs::InStep;
use crate::operator::{
    BoxError, Computed, OnDevice, OpenContext, Operator, OperatorResult, OperatorSpec, Output, Prepared, TaskContext,
};
use crate::runtime::watch::guarded;
use crate::units::Bytes;

/// The operators of a chain, each built and opened.
pub(crate) struct Chain {
    steps: Vec<Step>,
}

/// One operator of a chain.
struct Step {
    /// Its place in the chain, and where it is said that it runs.
    index: usize,
    doing: Arc<Doing>,
    /// Its own name, where the operator that errors name is a fusion of several.
    label: Option<Arc<str>>,
    operator: Box<dyn Operator>,
}

/// Which step of a fused operator failed.
#[derive(Debug)]
pub(crate) struct StepFailed {
    step: String,
    pub(crate) cause: BoxError,
}

impl fmt::Display for StepFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.cause)
    }
}

impl Error for StepFailed {
    /// What is behind the cause, whose own text is part of this one's.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

impl Step {
    fn open(index: usize, spec: &OperatorSpec, ctx: &OpenContext, doing: &Arc<Doing>) -> OperatorResult<Self> {
        doing.step(index);
        let label = (*spec.label != *ctx.operator).then(|| spec.label.as_str().into());
        let _logs = InStep::enter(label.as_ref());
        let opened = guarded(|| {
            let mut operator = spec.build()?;
            operator.open(ctx)?;
            Ok(operator)
        });
        let operator = opened.and_then(|opened| opened).map_err(|cause| labelled(label.as_deref(), cause))?;
        Ok(Self { index, doing: Arc::clone(doing), label, operator })
    }

    /// Calls the user's code: a panic becomes an error, and an error says which step it came from.
    fn call<R>(&mut self, call: impl FnOnce(&mut dyn Operator) -> OperatorResult<R>) -> OperatorResult<R> {
        let _logs = InStep::enter(self.label.as_ref());
        self.doing.step(self.index);
        let result = guarded(|| call(&mut *self.operator)).and_then(|result| result);
        result.map_err(|cause| labelled(self.label.as_deref(), cause))
    }

    /// Makes one call with `input` bytes and pushes its results through the operators behind.
    fn push(
        &mut self,
        behind: &mut [Self],
        input: Bytes,
        below: Bytes,
        produced: &mut Produced,
        call: impl FnOnce(&mut dyn Operator, &mut Output) -> OperatorResult,
    ) -> OperatorResult {
        let mut out = Output::default();
        self.call(|operator| call(operator, &mut out))?;
        let results = out.take();
        let alive = below + input + results.iter().map(batch_bytes).sum();
        produced.peak = produced.peak.max(alive);
        results.into_iter().try_for_each(|result| push(behind, result, alive, produced))
    }
}

fn labelled(step: Option<&str>, cause: BoxError) -> BoxError {
    match step {
        Some(step) => StepFailed { step: step.to_owned(), cause }.into(),
        None => cause,
    }
}

/// An operator that had a device part when it was opened.
const NO_DEVICE: &str = "the operator has no part on a device any more; on_device must always answer the same";

/// What came out of a call.
#[derive(Default)]
pub(crate) struct Produced {
    pub(crate) batches: Vec<RecordBatch>,
    /// Most bytes that were alive at once: input, between operators, results.
    pub(crate) peak: Bytes,
}

impl Chain {
    /// Builds and opens the operators.
    pub(crate) fn open(specs: &[OperatorSpec], ctx: &OpenContext, doing: &Arc<Doing>) -> OperatorResult<Self> {
        let specs = specs.iter().enumerate();
        let steps = specs.map(|(index, spec)| Step::open(index, spec, ctx, doing)).collect::<OperatorResult<_>>()?;
        Ok(Self { steps })
    }

    pub(crate) fn begin(&mut self, task: &TaskContext) -> OperatorResult {
        self.steps.iter_mut().try_for_each(|step| step.call(|operator| operator.begin(task)))
    }

    /// Runs batches through all operators: together through the first, which they were cut for, then one by one.
    pub(crate) fn process(&mut self, batches: Vec<RecordBatch>) -> OperatorResult<Produced> {
        let mut produced = Produced::default();
        let input = batches.iter().map(batch_bytes).sum();
        let Some((first, rest)) = self.steps.split_first_mut() else {
            return Ok(Produced { batches, peak: input });
        };
        first.push(rest, input, Bytes(0), &mut produced, |operator, out| operator.process_all(batches, out))?;
        Ok(produced)
    }

    /// Calls the device part of the first operator; `None` if it has none.
    pub(crate) fn on_device<R>(
        &mut self,
        call: impl FnOnce(&mut dyn OnDevice) -> OperatorResult<R>,
    ) -> Option<OperatorResult<R>> {
        let first = self.steps.first_mut()?;
        // Looked for first: most operators have none, and it is no failure.
        first.call(|operator| Ok(operator.on_device().is_some())).ok().filter(|has| *has)?;
        Some(first.call(|operator| operator.on_device().ok_or_else(|| NO_DEVICE.into()).and_then(call)))
    }

    /// What the device takes of a batch.
    pub(crate) fn prepare(&mut self, batch: &RecordBatch) -> OperatorResult<Prepared> {
        self.on_device(|device| device.prepare(batch)).unwrap_or_else(|| Err(NO_DEVICE.into()))
    }

    /// The results of batches that come back from the device, through the operators behind the first.
    pub(crate) fn finish_on_device(&mut self, done: Vec<(RecordBatch, Computed)>) -> OperatorResult<Produced> {
        let mut produced = Produced::default();
        for (batch, computed) in done {
            let input = batch_bytes(&batch);
            let Some((first, rest)) = self.steps.split_first_mut() else { return Err(NO_DEVICE.into()) };
            first.push(rest, input, Bytes(0), &mut produced, |operator, out| {
                let device = operator.on_device().ok_or(NO_DEVICE)?;
                out.emit(device.finish(batch, computed)?);
                Ok(())
            })?;
        }
        Ok(produced)
    }

    /// Ends the task: what each operator still emits runs through those behind it.
    pub(crate) fn finish(&mut self) -> OperatorResult<Produced> {
        let mut produced = Produced::default();
        for at in 0..self.steps.len() {
            let (head, rest) = self.steps.split_at_mut(at + 1);
            let mut out = Output::default();
            if let Some(step) = head.last_mut() {
                step.call(|operator| operator.finish(&mut out))?;
            }
            for batch in out.take() {
                push(rest, batch, Bytes(0), &mut produced)?;
            }
        }
        Ok(produced)
    }

    pub(crate) fn close(&mut self) -> OperatorResult {
        self.steps.iter_mut().try_for_each(|step| step.call(|operator| operator.close()))
    }
}

/// `below` is what the callers of this call keep alive.
fn push(steps: &mut [Step], batch: RecordBatch, below: Bytes, produced: &mut Produced) -> OperatorResult {
    let input = batch_bytes(&batch);
    let Some((step, rest)) = steps.split_first_mut() else {
        produced.peak = produced.peak.max(below + input);
        produced.batches.push(batch);
        return Ok(());
    };
    step.push(rest, input, below, produced, |operator, out| operator.process(batch, out))
}
