//! A test oracle: runs a topology on one thread, operator by operator, each on all rows of its inputs.

use arrow::record_batch::RecordBatch;
use mobula_actors::block::Segment;
use mobula_actors::job::{Logic, OperatorPlan, Topology};
use mobula_actors::operator::{
    BatchSize, OpenContext, OperatorResult, OperatorSpec, Output, ReadBatch, Shared, SourceSpec, Split, TaskContext,
};
use mobula_actors::units::{Bytes, Rows};

use crate::kernel::rebatch::Rebatch;

/// The batches of the last operator.
pub(super) fn run(topology: &Topology) -> OperatorResult<Vec<RecordBatch>> {
    let mut results: Vec<Vec<RecordBatch>> = Vec::new();
    for operator in &topology.operators {
        let result = run_operator(operator, &results)?;
        results.push(result);
    }
    Ok(results.pop().unwrap_or_default())
}

fn run_operator(operator: &OperatorPlan, results: &[Vec<RecordBatch>]) -> OperatorResult<Vec<RecordBatch>> {
    let input: Vec<RecordBatch> = operator.inputs.iter().flat_map(|index| results[*index].iter().cloned()).collect();
    match &operator.logic {
        Logic::Read { source, splits, chain } => run_chain(chain, read(source, splits)?),
        Logic::Map { chain, .. } => run_chain(chain, input),
        Logic::Limit(rows) => Ok(first(input, rows.0)),
        Logic::Union => Ok(input),
    }
}

fn read(source: &SourceSpec, splits: &[Split]) -> OperatorResult<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for split in splits {
        let batch = ReadBatch { bytes: Bytes::kib(4), rows_max: 7 };
        let mut reader = source.build().unwrap().open(split, Rows(0)..Segment::END, batch, &context())?;
        while let Some(batch) = reader.next_batch()? {
            batches.push(batch);
        }
    }
    Ok(batches)
}

fn run_chain(chain: &[OperatorSpec], batches: Vec<RecordBatch>) -> OperatorResult<Vec<RecordBatch>> {
    chain.iter().try_fold(batches, |batches, spec| {
        let mut operator = spec.build()?;
        operator.open(&context())?;
        operator.begin(&TaskContext { task: 0, attempt: 1 })?;
        let mut out = Output::default();
        let mut made = Vec::new();
        for batch in regrouped(spec.batch, batches)? {
            operator.process(batch, &mut out)?;
            made.extend(out.take());
        }
        operator.finish(&mut out)?;
        made.extend(out.take());
        operator.close()?;
        Ok(made)
    })
}

fn regrouped(size: BatchSize, batches: Vec<RecordBatch>) -> OperatorResult<Vec<RecordBatch>> {
    let Some(rows) = size.rows() else { return Ok(batches) };
    let mut rebatch = Rebatch::new(rows);
    batches.into_iter().for_each(|batch| rebatch.push(batch));
    let mut made = Vec::new();
    while let Some(batch) = rebatch.next_full()? {
        made.push(batch);
    }
    made.extend(rebatch.rest()?);
    Ok(made)
}

fn first(batches: Vec<RecordBatch>, mut rows: u64) -> Vec<RecordBatch> {
    let mut kept = Vec::new();
    for batch in batches {
        let take = (batch.num_rows() as u64).min(rows);
        if take > 0 {
            kept.push(batch.slice(0, take as usize));
        }
        rows -= take;
    }
    kept
}

fn context() -> OpenContext {
    OpenContext { operator: "test".into(), worker: 0, incarnation: 0, gpus: Vec::new(), shared: Shared::default() }
}
