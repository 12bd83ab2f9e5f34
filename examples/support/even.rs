//! The dummy model of the taxi examples: it says whether an even number of passengers rode. Its hundred megabytes of
//! weights are ballast: they show what happens to a model of that size.
//!
//! For examples, which include this file by `#[path]`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::Int64Type;
use mobula::prelude::*;
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};

/// The weights, as they come from wherever models are kept.
pub(crate) fn weights() -> Vec<u8> {
    vec![1; 100_000_000]
}

/// Predicts a shard into a file beside it, `*.predicted`; gives how many rows that has.
pub(crate) fn predict(weights: &[u8], shard: &Path) -> OperatorResult<usize> {
    let one = i64::from(*weights.first().ok_or("a model without weights")?);
    let (mut writer, mut rows) = (None, 0);
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(shard)?)?.build()? {
        let passengers = batch?.column_by_name("Passenger_Count").ok_or("no passengers")?.clone();
        let passengers = passengers.as_primitive::<Int64Type>();
        let even: BooleanArray = passengers.iter().map(|n| n.map(|n| n * one % 2 == 0)).collect();
        let even = RecordBatch::try_from_iter([("even", Arc::new(even) as _)])?;
        if writer.is_none() {
            writer = Some(ArrowWriter::try_new(File::create(shard.with_extension("predicted"))?, even.schema(), None)?);
        }
        writer.as_mut().ok_or("no writer")?.write(&even)?;
        rows += even.num_rows();
    }
    writer.ok_or("an empty shard")?.close()?;
    Ok(rows)
}
