//! A year of taxi trips, a shard an item, predicted by a pool of four actors that load the model once each.
//!
//!     cargo run --release --example pool_predict               # here
//!     cargo run --release --example pool_predict -- cluster    # on a cluster of child processes
//!
//! What one learns: an `ActorPool` keeps equal actors with something expensive in them busy; results are small, since each
//! worker writes what it predicts where it runs; a worker that dies is replaced and its shard is done again.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/processes.rs"]
mod processes;
#[path = "support/taxi.rs"]
mod taxi;

use std::error::Error;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::Int64Type;
use mobula::actix::{Actor, Context, Handler, Message};
use mobula::actor::ActorPool;
use mobula::prelude::*;
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};
use serde::{Deserialize, Serialize};

/// Says whether an even number of passengers rode. Its model is ballast of the size of a real one.
#[derive(Serialize, Deserialize)]
struct Predictor {
    model: PathBuf,
    #[serde(skip)]
    weights: Vec<u8>,
}

#[mobula::actor(name = "taxi/predictor@1", messages(Predict))]
impl Actor for Predictor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.weights = std::fs::read(&self.model).expect("the model can be read");
    }
}

/// Predict a shard into a file beside it; the reply is how many rows that has, or what went wrong.
#[derive(Clone, Message, Serialize, Deserialize)]
#[rtype(result = "Result<usize, String>")]
struct Predict(PathBuf);

impl Handler<Predict> for Predictor {
    type Result = Result<usize, String>;

    fn handle(&mut self, Predict(shard): Predict, _: &mut Context<Self>) -> Self::Result {
        self.predict(&shard).map_err(|error| format!("{}: {error}", shard.display()))
    }
}

impl Predictor {
    fn predict(&self, shard: &Path) -> Result<usize, Box<dyn Error>> {
        let one = i64::from(self.weights[0]);
        let (mut writer, mut rows) = (None, 0);
        for batch in ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(shard)?)?.build()? {
            let passengers = batch?.column_by_name("Passenger_Count").ok_or("no passengers")?.clone();
            let passengers = passengers.as_primitive::<Int64Type>();
            let even: BooleanArray = passengers.iter().map(|n| n.map(|n| n * one % 2 == 0)).collect();
            let even = RecordBatch::try_from_iter([("even", std::sync::Arc::new(even) as _)])?;
            if writer.is_none() {
                let file = std::fs::File::create(shard.with_extension("predicted"))?;
                writer = Some(ArrowWriter::try_new(file, even.schema(), None)?);
            }
            writer.as_mut().ok_or("no writer")?.write(&even)?;
            rows += even.num_rows();
        }
        writer.ok_or("an empty shard")?.close()?;
        Ok(rows)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    processes::serve_if_asked()?;
    let cluster = std::env::args().any(|arg| arg == "cluster").then(|| processes::Processes::start(&["", ""]));
    let cluster = cluster.transpose()?;
    let session = cluster.as_ref().map_or_else(Session::local, |cluster| cluster.connect())?;
    let folder = tempfile::tempdir()?;
    let shards = taxi::write_shards(folder.path(), 12, 1_000, 2009)?;
    let model = folder.path().join("model");
    std::fs::write(&model, vec![1; 100_000_000])?;

    let pool: ActorPool<Predictor, Predict> =
        session.spawn(Predictor { model, weights: Vec::new() }).pool(4).start()?;
    let mut all = 0;
    for (shard, rows) in shards.iter().zip(pool.map(shards.iter().cloned().map(Predict))) {
        let (rows, name) = (rows??, shard.file_name().unwrap_or_default().display());
        println!("{name}: {rows} rows predicted");
        all += rows;
    }
    println!("{all} rows by {} predictors", pool.size());
    Ok(())
}
