//! A year of taxi trips, a task a shard, predicted by a model of 100 MB that is put once.
//!
//!     cargo run --release --example tasks_predict               # here
//!     cargo run --release --example tasks_predict -- cluster    # on a cluster of child processes
//!
//! What one learns: what is passed by reference is fetched once by each node, however many tasks take it there; a task
//! writes its result where it is made and returns what is small, here how many rows it wrote.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/even.rs"]
mod even;
#[path = "support/processes.rs"]
mod processes;
#[path = "support/taxi.rs"]
mod taxi;

use std::error::Error;
use std::path::PathBuf;

use bytes::Bytes as Weights;
use mobula::prelude::*;

/// Trips in each shard.
const ROWS: usize = 1_000;

/// Predicts a shard into a file beside it; how many rows that has. The weights are borrowed: all tasks of a node share them.
#[mobula::remote]
fn predict(weights: &Weights, shard: PathBuf) -> OperatorResult<usize> {
    even::predict(weights, &shard)
}

fn main() -> Result<(), Box<dyn Error>> {
    processes::serve_if_asked()?;
    let on_cluster = std::env::args().nth(1).as_deref() == Some("cluster");
    // The processes end when this is dropped.
    let cluster = on_cluster.then(|| processes::Processes::start(&["", ""])).transpose()?;
    let session = cluster.as_ref().map_or_else(Session::local, |cluster| cluster.connect())?;
    let folder = tempfile::tempdir()?;
    let shards = taxi::write_shards(folder.path(), 12, ROWS, 2009)?;

    let weights = session.put(Weights::from(even::weights()))?;
    let submit = |shard: &PathBuf| session.submit(predict::task(&weights, shard.clone()));
    let sizes = shards.iter().map(submit).collect::<mobula::Result<Vec<_>>>()?;
    for (shard, size) in shards.iter().zip(session.get_all(&sizes)?) {
        let name = shard.file_name().unwrap_or_default().display();
        println!("{name}: {size} rows predicted");
        if *size != ROWS {
            return Err(format!("{name} has {ROWS} trips").into());
        }
    }

    // What the tasks wrote, and what the engine counts in the trips themselves.
    let predicted = session.read_parquet(folder.path().join("*.predicted"))?.filter(col("even"))?.count()?;
    let trips = session.read_parquet(folder.path().join("*.parquet"))?;
    let expected = trips.filter((col("Passenger_Count") % 2).eq(0))?.count()?;
    println!("{predicted} of {} trips had an even number of passengers", trips.count()?);
    if predicted == expected { Ok(()) } else { Err(format!("{expected} were expected").into()) }
}
