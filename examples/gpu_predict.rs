//! Predictors that ask for one GPU each: two devices, each with a worker of its own that keeps it fed.
//!
//!     cargo run --release --example gpu_predict              # in this process
//!     cargo run --release --example gpu_predict -- cluster   # on two nodes with one GPU each
//!
//! What one learns: a model says by `Resources` what each of its workers needs; the engine gives whole devices to one
//! worker each, prepares the next batches while a device computes, and says in the end how long each device waited for
//! input. The devices here are made up (`FakeDevice`), so that this runs anywhere: one computes the sum of each row, and
//! takes 5 ms for a batch whatever its rows. With real ones, `Session::local()` finds them, and the model is
//! `Onnx::file(..)` with an engine that has GPUs.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/processes.rs"]
mod processes;

use std::error::Error;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use mobula::predict::FakeDevice;
use mobula::prelude::*;
use processes::Processes;

const DIGITS: &str = "examples/data/digits/*.parquet";

fn main() -> Result<(), Box<dyn Error>> {
    processes::serve_if_asked()?;
    let on_cluster = std::env::args().nth(1).as_deref() == Some("cluster");
    // The processes end when this is dropped.
    let cluster = on_cluster.then(|| Processes::start(&["gpus=1", "gpus=1"])).transpose()?;
    let session = match &cluster {
        Some(cluster) => cluster.connect()?,
        None => Session::builder().gpus(2).build()?,
    };
    println!("{} GPUs", session.gpus());

    // No more than 500 rows fit in its memory: of larger batches, halves are tried.
    let device = FakeDevice::new().batch_time(Duration::from_millis(5)).memory_rows(500);
    let one_gpu = Resources { gpus: 1.0, ..Resources::cpu(1.0) };
    let model = device.model().input("x", "pixels").resources(one_gpu).batch_size(50).workers(2..=2);
    let summed = session.read_parquet(DIGITS)?.predict(model)?;

    let (mut right, mut all) = (0, 0);
    for batch in summed.collect()? {
        right += rows_that_are_right(&batch)?;
        all += batch.num_rows();
    }
    println!("sums that are right: {right} of {all}");
    let summary = summed.stats().ok_or("it ran")?;
    for device in summary.operators.iter().flat_map(|operator| &operator.devices) {
        let waited = 100.0 * device.waited_share();
        println!("{device} waited for input {waited:.1} % of its time ({} rows in {} runs)", device.rows, device.runs);
    }
    Ok(())
}

/// Rows whose sum is that of their pixels.
fn rows_that_are_right(batch: &RecordBatch) -> Result<usize, Box<dyn Error>> {
    let pixels = batch.column_by_name("pixels").ok_or("no pixels")?.as_fixed_size_list();
    let sums = batch.column_by_name("sum").ok_or("no sums")?.as_primitive::<Float32Type>();
    let sum = |row| pixels.value(row).as_primitive::<Float32Type>().values().iter().sum::<f32>();
    Ok((0..batch.num_rows()).filter(|row| sums.value(*row) == sum(*row)).count())
}
