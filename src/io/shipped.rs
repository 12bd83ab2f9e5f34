//! Rows of this process that travel: what a source of batches in memory becomes when its plan leaves the process.
//!
//! In one process batches are shared and never encoded; this is the form for a cluster only. Each split then carries
//! its own rows, so a node gets only what it reads.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use mobula_actors::operator::{
    IntoSource, OpenContext, OperatorResult, ReadBatch, Source, SourceSpec, Split, SplitReader,
};
use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};

use super::memory::{RowwiseReader, numbered};
use super::wire;

/// Most bytes of rows that travel inside a plan. A plan reaches the head by one call and a split its node by one frame, and
/// either has 16 MiB (`Limits` of the transport); the rest of the plan fits beside the rows. They are held by the driver and
/// by the head at once, and delay the start of the job; more than this belongs into files that the nodes read.
const SHIPPED_BYTES_MAX: Bytes = Bytes::mib(15);

/// Reads splits whose payload is their rows.
#[derive(Serialize, Deserialize)]
struct ShippedBatches {
    #[serde(with = "crate::io::wire::schema")]
    schema: SchemaRef,
}

/// The source and splits that carry `rows`: each split with the batches of it.
///
/// # Errors
/// If they are more than [`SHIPPED_BYTES_MAX`] together.
pub(super) fn ship(
    schema: &SchemaRef,
    rows: impl Iterator<Item = OperatorResult<(Split, Vec<RecordBatch>)>>,
) -> OperatorResult<(SourceSpec, Vec<Split>)> {
    let (mut splits, mut bytes) = (Vec::new(), Bytes(0));
    for found in rows {
        let (split, batches) = found?;
        let payload = wire::encode_batches(schema, &batches)?;
        bytes += Bytes(payload.len() as u64);
        if bytes > SHIPPED_BYTES_MAX {
            return Err(format!("they take more than {SHIPPED_BYTES_MAX}: write them to files first").into());
        }
        splits.push(Split { payload, ..split });
    }
    Ok((ShippedBatches { schema: Arc::clone(schema) }.into_source(), splits))
}

#[mobula_actors::source(crate = mobula_actors, name = "mobula/batches@1")]
impl Source for ShippedBatches {
    fn open(
        &self,
        split: &Split,
        rows: Range<Rows>,
        batch: ReadBatch,
        _ctx: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        let (all, batches) = numbered(wire::decode_batches(&split.payload)?.1);
        Ok(Box::new(RowwiseReader::over_batches(batches, all, rows.start, batch, Arc::clone(&self.schema))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::batches;
    use crate::io::testing::{BATCH, drain, ids, open, read_all};
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::compute::concat_batches;

    fn portable(scan: &crate::io::Scan, target: Bytes) -> OperatorResult<Option<(SourceSpec, Vec<Split>)>> {
        let (spec, splits) = scan.lower(target)?;
        spec.build()?.portable(&splits)
    }

    #[test]
    fn batches_in_memory_travel_in_their_splits_with_the_columns_that_are_read() {
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|n| format!("name {n}"))));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let all = RecordBatch::try_from_iter([("name", names), ("id", numbers)]).unwrap();
        let scan = batches(vec![all.slice(0, 70), all.slice(70, 30)]).unwrap().with_projection(&["id"]).unwrap();
        let (spec, splits) = portable(&scan, Bytes(500)).unwrap().expect("small");
        assert!(splits.len() > 2, "{splits:?}");
        let mut read = Vec::new();
        for split in &splits {
            let rows = split.rows.unwrap().0;
            read.extend(drain(open(&spec, split, 0, BATCH).as_mut(), 0).unwrap());
            let resumed = drain(open(&spec, split, rows - 1, BATCH).as_mut(), rows - 1).unwrap();
            assert_eq!(resumed.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        }
        assert_eq!(concat_batches(&scan.schema(), &read).unwrap(), read_all(&scan, Bytes::mib(1)).unwrap());
        assert_eq!(concat_batches(&scan.schema(), &read).unwrap(), ids(0..100));
    }

    #[test]
    fn batches_over_the_limit_do_not_travel() {
        let large: ArrayRef = Arc::new(Int64Array::from_value(7, 1 << 18));
        let batch = RecordBatch::try_from_iter([("n", large)]).unwrap();
        // Eight bytes a row: eight of these are just over the limit with what Arrow puts around them.
        let scan = |count| batches(vec![batch.clone(); count]).unwrap();
        assert!(portable(&scan(7), Bytes::mib(8)).unwrap().is_some());
        let error = portable(&scan(8), Bytes::mib(8)).unwrap_err().to_string();
        assert_eq!(error, "they take more than 15.0 MiB: write them to files first");
    }
}
