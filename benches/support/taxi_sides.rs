//! The taxi pipeline, by the engine and by hand: all columns of each shard are read, and each trip is scored.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use mobula::prelude::*;
use mobula_actors::operator::BoxError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};

use crate::compare::{Tally, each_file};

const PASSENGERS: &str = "Passenger_Count";
/// Of the model that all workers share.
const WEIGHTS_BYTES: usize = 100_000_000;
/// Rows of a batch of the loop; the engine chooses its own (about 1 MiB, which is about as many).
const BATCH_ROWS: usize = 8192;

/// Which columns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    All,
    Passengers,
}

/// Says whether an even number of passengers rode, as the example `taxi` does.
#[derive(Serialize, Deserialize)]
struct EvenPassengers {
    #[serde(skip)]
    weights: Option<Arc<Vec<u8>>>,
}

#[mobula::operator]
impl Operator for EvenPassengers {
    fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
        self.weights = Some(ctx.shared.get_or_make("weights", || OperatorResult::Ok(weights()))?);
        Ok(())
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let weights = self.weights.as_ref().ok_or("not opened")?;
        let even = score(&batch, weights)?;
        let schema = Schema::new(vec![Field::new("even", DataType::Boolean, true)]);
        out.emit(RecordBatch::try_new(schema.into(), vec![Arc::new(even) as ArrayRef])?);
        Ok(())
    }
}

pub(crate) fn weights() -> Vec<u8> {
    vec![1; WEIGHTS_BYTES]
}

fn score(batch: &RecordBatch, weights: &[u8]) -> OperatorResult<BooleanArray> {
    let passengers = batch.column_by_name(PASSENGERS).ok_or("no passengers")?.as_primitive::<Int64Type>();
    let one = i64::from(weights[0]);
    Ok(passengers.iter().map(|n| n.map(|n| n * one % 2 == 0)).collect())
}

fn tally(scores: &BooleanArray) -> Tally {
    Tally { rows: scores.len() as u64, checksum: scores.true_count() as u64 }
}

pub(crate) fn engine(session: &Session, folder: &Path, columns: Columns) -> Result<Tally, BoxError> {
    let trips = session.read_parquet(folder)?;
    let trips = if columns == Columns::All { trips } else { trips.select([PASSENGERS])? };
    let mut all = Tally::default();
    trips.map_batches(EvenPassengers { weights: None })?.for_each(|batch| {
        all.add(tally(batch.column(0).as_boolean()));
        Ok::<_, BoxError>(())
    })?;
    Ok(all)
}

pub(crate) fn by_hand(files: &[PathBuf], threads: usize, columns: Columns, weights: &[u8]) -> Result<Tally, BoxError> {
    each_file(files, threads, || {
        Ok(move |file: &Path| {
            let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?.with_batch_size(BATCH_ROWS);
            let mask = match columns {
                Columns::All => ProjectionMask::all(),
                Columns::Passengers => ProjectionMask::columns(builder.parquet_schema(), [PASSENGERS]),
            };
            let mut all = Tally::default();
            for batch in builder.with_projection(mask).build()? {
                all.add(tally(&score(&batch?, weights)?));
            }
            Ok(all)
        })
    })
}
