//! A job on a cluster of three processes, one of which is killed half-way.
//!
//!     cargo run --release --example cluster            # kills a node at a random moment
//!     cargo run --release --example cluster -- SEED    # at the same moment again
//!
//! What one learns: a session of a cluster has the same verbs as one of this process; when a node is lost, what it had is
//! done again elsewhere, and the result is that of an undisturbed run, row for row. All processes run one binary, so this
//! program is its own head and its own nodes.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/processes.rs"]
mod processes;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use mobula::prelude::*;
use processes::Processes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const MODEL: &str = "examples/data/digits_mlp.onnx";
/// The labels that ONNX Runtime gives for the same rows and model.
const EXPECTED: &str = "examples/data/digits_expected.parquet";
/// How often the 1,797 digits are read, so that there is time to kill a node.
const COPIES: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    processes::serve_if_asked()?;
    let seed = std::env::args().nth(1).map_or(Ok(rand::random::<u64>() % 1000), |seed| seed.parse())?;
    let mut random = SmallRng::seed_from_u64(seed);
    let mut cluster = Processes::start(&["", ""])?;
    println!("a head and 2 nodes are up; seed {seed}");

    let (input, output) = (cluster.folder("digits"), cluster.folder("labels"));
    copy_digits(&input)?;
    let session = cluster.connect()?;
    let labelled = session.read_parquet(&input)?.predict(Onnx::file(MODEL))?.select(["id", "label"])?;
    let running = labelled.start_write(&output, Format::Parquet, WriteOptions::default())?;

    let (node, share) = (random.random_range(0..2), random.random_range(0.0..1.0));
    wait_for_share(&running.watch(), share);
    cluster.kill(node)?;
    println!("killed node {} when {:.0} % of the rows were read", node + 1, share * 100.0);

    let rows = running.wait()?.rows;
    let labels = numbers(&session.read_parquet(&output)?)?;
    let expected = numbers(&session.read_parquet(EXPECTED)?)?.repeat(COPIES);
    let equal = labels.iter().zip(&expected).filter(|(a, b)| a == b).count();
    println!("{rows} rows written, labels equal to ONNX Runtime's: {equal} of {}", expected.len());
    if labels != expected {
        return Err("the result differs from that of an undisturbed run".into());
    }
    Ok(())
}

/// Waits until the job has read a share of its rows; a minute at most.
fn wait_for_share(watch: &RunWatch, share: f64) {
    let read = |watch: &RunWatch| {
        let summary = watch.summary();
        let first = summary.operators.first()?;
        Some(first.rows_in.0 as f64 / first.rows_total?.0 as f64)
    };
    for _ in 0..6_000 {
        if read(watch).unwrap_or_default() >= share {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn copy_digits(to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for (copy, part) in (0..COPIES).flat_map(|copy| (0..12).map(move |part| (copy, part))) {
        fs::copy(
            format!("examples/data/digits/part-{part:03}.parquet"),
            to.join(format!("{copy:03}-{part:03}.parquet")),
        )?;
    }
    Ok(())
}

/// The labels, in the order of the rows.
fn numbers(dataset: &Dataset) -> mobula::Result<Vec<i64>> {
    let batches = dataset.select([col("label").cast(DataType::Int64)])?.collect()?;
    Ok(batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect())
}
