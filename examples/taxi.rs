//! A year of taxi trips, a shard a month, scored by a model too large to copy.
//!
//!     cargo run --release --example taxi -- --rows 1000000
//!
//! What one learns: an operator that loads something large in `open` takes it from `ctx.shared`, so that all workers of
//! a process use one copy; parts of the output follow the order of the input.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/taxi.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use mobula::prelude::*;
use serde::{Deserialize, Serialize};

/// Says whether an even number of passengers rode. The hundred megabytes of its weights are ballast: they show what
/// happens to a model of that size.
#[derive(Serialize, Deserialize)]
struct EvenPassengers {
    weights_bytes: usize,
    #[serde(skip)]
    weights: Option<Arc<Vec<u8>>>,
}

#[mobula::operator]
impl Operator for EvenPassengers {
    fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
        let load = || {
            println!("loading {} MB of weights", self.weights_bytes / 1_000_000);
            OperatorResult::Ok(vec![1; self.weights_bytes])
        };
        self.weights = Some(ctx.shared.get_or_make("taxi weights", load)?);
        Ok(())
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let weights = self.weights.as_ref().ok_or("not opened")?;
        let passengers = batch.column_by_name("Passenger_Count").ok_or("no column Passenger_Count")?;
        let one = i64::from(weights[0]);
        let even: BooleanArray =
            passengers.as_primitive::<Int64Type>().iter().map(|n| n.map(|n| n * one % 2 == 0)).collect();
        let schema = Schema::new(vec![Field::new("even", DataType::Boolean, true)]);
        out.emit(RecordBatch::try_new(schema.into(), vec![Arc::new(even) as ArrayRef])?);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (shards, scores) = (Path::new("target/taxi/trips"), Path::new("target/taxi/scores"));
    let rows = rows_asked_for()?;
    support::write_shards(shards, 12, rows, 2009)?;

    let session = Session::local()?;
    list(&session, shards)?;
    session
        .read_parquet(shards)?
        .map_batches(EvenPassengers { weights_bytes: 100_000_000, weights: None })?
        .write_parquet_with(scores, WriteOptions::default().mode(WriteMode::Overwrite))?;
    list(&session, scores)?;

    let scores = session.read_parquet(scores)?;
    println!("{} of {} trips had an even number of passengers", scores.filter(col("even"))?.count()?, scores.count()?);
    Ok(())
}

/// Prints rows and size of each file of a folder.
fn list(session: &Session, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut files = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "parquet"));
    files.sort();
    for file in files {
        let bytes = file.metadata()?.len();
        println!("{}: {} rows, {bytes} bytes", file.display(), session.read_parquet(&file)?.count()?);
    }
    Ok(())
}

/// The number after `--rows`; 10,000 a shard without it.
fn rows_asked_for() -> Result<usize, Box<dyn std::error::Error>> {
    match std::env::args().skip_while(|arg| arg != "--rows").nth(1) {
        Some(rows) => Ok(rows.parse().map_err(|_| format!("--rows wants a number, not {rows:?}"))?),
        None => Ok(10_000),
    }
}
