//! A year of taxi trips, a shard an item, predicted by a pool of four actors that load the model once each.
//!
//!     cargo run --release --example pool_predict               # here
//!     cargo run --release --example pool_predict -- cluster    # on a cluster of child processes
//!
//! What one learns: an `ActorPool` keeps equal actors with something expensive in them busy; results are small, since each
//! worker writes what it predicts where it runs; a worker that dies is replaced and its shard is done again.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/even.rs"]
mod even;
#[path = "support/processes.rs"]
mod processes;
#[path = "support/taxi.rs"]
mod taxi;

use std::error::Error;
use std::path::PathBuf;

use mobula::actix::{Actor, Context, Handler, Message};
use mobula::actor::ActorPool;
use mobula::prelude::*;
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
        even::predict(&self.weights, &shard).map_err(|error| format!("{}: {error}", shard.display()))
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
    std::fs::write(&model, even::weights())?;

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
