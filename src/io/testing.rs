//! Helpers of this module's tests: reading a scan as a worker would, without an engine.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use mobula_actors::block::Segment;
use mobula_actors::operator::{
    OpenContext, OperatorResult, Output, ReadBatch, Shared, SourceSpec, Split, SplitReader, TaskContext,
};
use mobula_actors::units::{Bytes, Rows};

use super::output::OutputDir;
use super::scan::Scan;

pub(crate) const BATCH: ReadBatch = ReadBatch { bytes: Bytes::kib(64), rows_max: 8192 };

pub(crate) fn context() -> OpenContext {
    OpenContext { operator: "test".into(), worker: 0, incarnation: 0, gpus: Vec::new(), shared: Shared::default() }
}

pub(crate) fn open(source: &SourceSpec, split: &Split, from: u64, batch: ReadBatch) -> Box<dyn SplitReader> {
    source.build().unwrap().open(split, Rows(from)..Segment::END, batch, &context()).unwrap()
}

/// All batches of a reader, checking what the trait promises on the way.
pub(crate) fn drain(reader: &mut dyn SplitReader, from: u64) -> OperatorResult<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    let mut before = from;
    while let Some(batch) = reader.next_batch()? {
        assert!(batch.num_rows() > 0, "an empty batch");
        let after = reader.rows_read().0;
        assert!(after >= before + batch.num_rows() as u64, "rows_read went from {before} to {after}");
        before = after;
        batches.push(batch);
    }
    Ok(batches)
}

/// All rows of a scan, in splits of about `target` bytes.
pub(crate) fn read_all(scan: &Scan, target: Bytes) -> OperatorResult<RecordBatch> {
    let (source, splits) = scan.lower(target)?;
    let mut batches = Vec::new();
    for split in &splits {
        let mut reader = source.build().unwrap().open(split, Rows(0)..Segment::END, BATCH, &context())?;
        let read = drain(reader.as_mut(), 0)?;
        if let Some(rows) = split.rows {
            assert_eq!(reader.rows_read(), rows, "{}", split.label);
        }
        assert!(read.iter().all(|batch| batch.schema() == scan.schema()));
        batches.extend(read);
    }
    Ok(concat_batches(&scan.schema(), &batches)?)
}

/// What a scan skips, in all its splits.
pub(crate) fn skipped(scan: &Scan) -> Vec<String> {
    let (source, splits) = scan.lower(Bytes::mib(1)).unwrap();
    let mut all = Vec::new();
    for split in &splits {
        let mut reader = open(&source, split, 0, BATCH);
        drain(reader.as_mut(), 0).unwrap();
        all.extend(reader.take_skipped());
        assert!(reader.take_skipped().is_empty(), "emptied by the call");
    }
    all
}

/// Runs one attempt of a sink task.
pub(crate) fn write_task(output: &OutputDir, task: u64, attempt: u32, batches: &[RecordBatch]) -> Vec<RecordBatch> {
    let mut operator = output.operator().unwrap().build().unwrap();
    let mut out = Output::default();
    operator.open(&context()).unwrap();
    operator.begin(&TaskContext { task, attempt }).unwrap();
    for batch in batches {
        operator.process(batch.clone(), &mut out).unwrap();
    }
    assert!(out.take().is_empty(), "results appear in finish");
    operator.finish(&mut out).unwrap();
    operator.close().unwrap();
    out.take()
}

/// A batch of one column `id` with these values.
pub(crate) fn ids(values: std::ops::Range<i64>) -> RecordBatch {
    let column = arrow::array::Int64Array::from_iter_values(values);
    RecordBatch::try_from_iter([("id", Arc::new(column) as arrow::array::ArrayRef)]).unwrap()
}
