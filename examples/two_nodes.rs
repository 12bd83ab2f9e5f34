//! A pipeline over two nodes: its functions run on one, its model on the other, chosen by label.
//!
//!     cargo run --release --example two_nodes
//!
//! What one learns: a step says by `Resources` what its workers need, labels among it, and runs only on nodes that have
//! them; blocks go from node to node by themselves. Functions that travel are `#[mobula::remote]`, models and other state
//! are operators.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/processes.rs"]
mod processes;

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{Float32Type, UInt32Type};
use mobula::prelude::*;
use processes::Processes;
use serde::{Deserialize, Serialize};

/// The mean of each image's pixels, and which process computed it.
#[mobula::remote]
fn brightness(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    let pixels = batch.column_by_name("pixels").ok_or("no column pixels")?.as_fixed_size_list();
    let mean = |row| {
        let row = pixels.value(row);
        row.as_primitive::<Float32Type>().values().iter().sum::<f32>() / row.len() as f32
    };
    let means: ArrayRef = Arc::new(Float32Array::from_iter_values((0..batch.num_rows()).map(mean)));
    Ok(RecordBatch::try_from_iter([("brightness", means), ("prepared_by", here(batch.num_rows()))])?)
}

/// A model with one weight. It is loaded once a worker, on the node that the worker lives on.
#[derive(Serialize, Deserialize)]
struct IsBold {
    threshold: f32,
}

#[mobula::operator]
impl Operator for IsBold {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let means = batch.column(0).as_primitive::<Float32Type>();
        let bold: ArrayRef = Arc::new(
            means.iter().map(|mean| mean.map(|mean| mean > self.threshold)).collect::<arrow::array::BooleanArray>(),
        );
        let columns =
            [("bold", bold), ("prepared_by", batch.column(1).clone()), ("predicted_by", here(batch.num_rows()))];
        out.emit(RecordBatch::try_from_iter(columns)?);
        Ok(())
    }
}

/// This process's id, for each row.
fn here(rows: usize) -> ArrayRef {
    Arc::new(UInt32Array::from_value(std::process::id(), rows))
}

fn main() -> Result<(), Box<dyn Error>> {
    processes::serve_if_asked()?;
    let cluster = Processes::start(&["part=functions", "part=model"])?;
    let on =
        |part: &str| MapOptions { resources: Some(Resources::default().label("part", part)), ..MapOptions::default() };
    let predicted = cluster
        .connect()?
        .read_parquet("examples/data/digits/*.parquet")?
        .map_batches_with(brightness::map(), on("functions"))?
        .map_batches_with(IsBold { threshold: 5.0 }, on("model"))?;
    let rows = predicted.collect()?;

    let ids = cluster.ids();
    for (index, part, column) in [(0, "functions", "prepared_by"), (1, "model", "predicted_by")] {
        let all = rows.iter().flat_map(|batch| batch[column].as_primitive::<UInt32Type>().values().to_vec());
        let (count, there) = all.fold((0, 0), |(count, there), id| (count + 1, there + usize::from(id == ids[index])));
        println!("{column} the node with part={part}: {there} of {count} rows");
    }
    let bold: usize = rows.iter().map(|batch| batch["bold"].as_boolean().true_count()).sum();
    println!("bold digits: {bold}");
    Ok(())
}
