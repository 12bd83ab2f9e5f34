//! What does a cluster cost, and what does a second node bring?
//!
//! - `cluster.taxi.ratio`: the taxi job on two nodes of one core each against one node of two cores, throughput by
//!   throughput: what it costs that a job is spread.
//! - `cluster.tasks.rate`: tasks by second over the wire, where each reads a file of ten rows.
//! - `cluster.cold_start`: from nothing to the end of the digits job on three nodes: keys, four processes, joins, job.
//! - `cluster.idle_rss`: resident memory of a node that waits for work.
//!
//! All processes are this program. `--rows N` makes smaller shards, `--rounds N` more or fewer rounds.
#![allow(clippy::disallowed_methods, reason = "a bench takes real time")]
#![allow(clippy::print_stdout, reason = "a bench says what it found")]

#[allow(dead_code, reason = "made for several benches")]
#[path = "support/compare.rs"]
mod compare;
#[path = "../examples/support/processes.rs"]
mod processes;
#[path = "../examples/support/taxi.rs"]
mod shards;
#[allow(dead_code, reason = "made for several benches")]
#[path = "support/taxi_sides.rs"]
mod taxi;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array};
use mobula::prelude::*;
use mobula_actors::operator::BoxError;
use parquet::arrow::ArrowWriter;

use compare::{made_once, median};
use processes::Processes;
use taxi::Columns;

const SHARDS: u32 = 12;
/// Rows of a shard.
const ROWS: usize = 1_000_000;
const ROUNDS: usize = 5;
/// Files of the job that is nearly nothing but tasks.
const TINY_FILES: usize = 2_000;
const TINY_ROWS: i64 = 10;

fn main() -> Result<(), BoxError> {
    processes::serve_if_asked().map_err(|error| error.to_string())?;
    let rows = number("--rows", ROWS)?;
    let rounds = number("--rounds", ROUNDS)?;
    let (trips, _) = made_once(&format!("taxi-{rows}"), |folder| {
        shards::write_shards(folder, SHARDS, rows, 2009).map(|_| ()).map_err(|error| error.to_string().into())
    })?;
    let (tiny, _) = made_once(&format!("tiny-{TINY_FILES}"), write_tiny)?;

    let one = Cluster::start(&["cpus=2"])?;
    let two = Cluster::start(&["cpus=1", "cpus=1"])?;
    let idle = two.idle_bytes()?;
    let (mut of_one, mut of_two, mut tasks, mut cold) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (first, second) = (one.taxi(&trips)?, two.taxi(&trips)?);
        let rate = two.tiny(&tiny)?;
        let start = cold_start()?;
        println!("round {round}: one {first:.0} rows/s, two {second:.0} rows/s, {rate:.0} tasks/s, cold {start:.3} s");
        if round > 0 {
            of_one.push(first);
            of_two.push(second);
            tasks.push(rate);
            cold.push(start);
        }
    }
    let (one, two) = (median(of_one), median(of_two));
    println!("figure cluster.taxi.one_node {one:.0} rows/s");
    println!("figure cluster.taxi.two_nodes {two:.0} rows/s");
    println!("figure cluster.taxi.ratio {:.3} ratio", two / one);
    println!("figure cluster.tasks.rate {:.0} tasks/s", median(tasks));
    println!("figure cluster.cold_start {:.3} s", median(cold));
    println!("figure cluster.idle_rss {:.1} MiB", idle / (1 << 20) as f64);
    Ok(())
}

/// Running processes and a session of them.
struct Cluster {
    processes: Processes,
    session: Session,
}

impl Cluster {
    fn start(nodes: &[&str]) -> Result<Self, BoxError> {
        let processes = Processes::start(nodes).map_err(|error| error.to_string())?;
        let session = processes.connect()?;
        Ok(Self { processes, session })
    }

    /// Rows by second of the taxi job.
    fn taxi(&self, trips: &Path) -> Result<f64, BoxError> {
        let from = Instant::now();
        let tally = taxi::engine(&self.session, trips, Columns::All)?;
        Ok(tally.rows as f64 / from.elapsed().as_secs_f64())
    }

    /// Tasks by second where a task is nearly nothing.
    fn tiny(&self, folder: &Path) -> Result<f64, BoxError> {
        let tiny = self.session.read_parquet(folder)?;
        let from = Instant::now();
        let mut rows = 0;
        tiny.for_each(|batch| {
            rows += batch.num_rows();
            Ok::<_, BoxError>(())
        })?;
        let seconds = from.elapsed().as_secs_f64();
        if rows != TINY_FILES * TINY_ROWS as usize {
            return Err(format!("{rows} rows came").into());
        }
        Ok(TINY_FILES as f64 / seconds)
    }

    /// Resident bytes of the first node.
    fn idle_bytes(&self) -> Result<f64, BoxError> {
        let id = *self.processes.ids().first().ok_or("no node")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024.0)
    }
}

/// Seconds from nothing to the end of the digits job on three nodes.
fn cold_start() -> Result<f64, BoxError> {
    let from = Instant::now();
    let cluster = Cluster::start(&["", "", ""])?;
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let model = Onnx::file(digits.join("digits_mlp.onnx"));
    let rows: usize = {
        let labelled = cluster.session.read_parquet(digits.join("digits"))?.predict(model)?;
        labelled.collect()?.iter().map(RecordBatch::num_rows).sum()
    };
    let seconds = from.elapsed().as_secs_f64();
    if rows == 1797 { Ok(seconds) } else { Err(format!("{rows} rows came").into()) }
}

fn write_tiny(folder: &Path) -> Result<(), BoxError> {
    for file in 0..TINY_FILES {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..TINY_ROWS));
        let batch = RecordBatch::try_from_iter([("n", numbers)])?;
        let to = std::fs::File::create(folder.join(format!("{file:05}.parquet")))?;
        let mut writer = ArrowWriter::try_new(to, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
    }
    Ok(())
}

fn number(name: &str, without: usize) -> Result<usize, BoxError> {
    match std::env::args().skip_while(|arg| arg != name).nth(1) {
        Some(text) => text.parse().map_err(|_| format!("{name} wants a number, not {text:?}").into()),
        None => Ok(without),
    }
}
