//! A fused chain: several operators run as one call, batch by batch, with nothing between them but the stack.

use arrow::record_batch::RecordBatch;

use crate::block::batch_bytes;
use crate::operator::{OpenContext, Operator, OperatorResult, OperatorSpec, Output, TaskContext};
use crate::runtime::watch::guarded;
use crate::units::Bytes;

/// The operators of a chain, each built and opened.
pub(crate) struct Chain {
    operators: Vec<Box<dyn Operator>>,
}

/// What came out of a call.
#[derive(Default)]
pub(crate) struct Produced {
    pub(crate) batches: Vec<RecordBatch>,
    /// Most bytes that were alive at once: input, between operators, results.
    pub(crate) peak: Bytes,
}

impl Chain {
    /// Builds and opens the operators.
    pub(crate) fn open(specs: &[OperatorSpec], ctx: &OpenContext) -> OperatorResult<Self> {
        guarded(|| {
            let mut operators = Vec::with_capacity(specs.len());
            for spec in specs {
                let mut operator = spec.build()?;
                operator.open(ctx)?;
                operators.push(operator);
            }
            Ok(Self { operators })
        })?
    }

    pub(crate) fn begin(&mut self, task: &TaskContext) -> OperatorResult {
        guarded(|| self.operators.iter_mut().try_for_each(|operator| operator.begin(task)))?
    }

    /// Runs one batch through all operators.
    pub(crate) fn process(&mut self, batch: RecordBatch) -> OperatorResult<Produced> {
        guarded(|| {
            let mut produced = Produced::default();
            push(&mut self.operators, batch, Bytes(0), &mut produced)?;
            Ok(produced)
        })?
    }

    /// Ends the task: what each operator still emits runs through those behind it.
    pub(crate) fn finish(&mut self) -> OperatorResult<Produced> {
        guarded(|| {
            let mut produced = Produced::default();
            for at in 0..self.operators.len() {
                let (head, rest) = self.operators.split_at_mut(at + 1);
                let mut out = Output::default();
                if let Some(operator) = head.last_mut() {
                    operator.finish(&mut out)?;
                }
                for batch in out.take() {
                    push(rest, batch, Bytes(0), &mut produced)?;
                }
            }
            Ok(produced)
        })?
    }

    pub(crate) fn close(&mut self) -> OperatorResult {
        guarded(|| self.operators.iter_mut().try_for_each(|operator| operator.close()))?
    }
}

/// `below` is what the callers of this call keep alive.
fn push(
    operators: &mut [Box<dyn Operator>],
    batch: RecordBatch,
    below: Bytes,
    produced: &mut Produced,
) -> OperatorResult {
    let input = batch_bytes(&batch);
    let Some((operator, rest)) = operators.split_first_mut() else {
        produced.peak = produced.peak.max(below + input);
        produced.batches.push(batch);
        return Ok(());
    };
    let mut out = Output::default();
    operator.process(batch, &mut out)?;
    let results = out.take();
    let alive = below + input + results.iter().map(batch_bytes).sum();
    produced.peak = produced.peak.max(alive);
    for result in results {
        push(rest, result, alive, produced)?;
    }
    Ok(())
}
