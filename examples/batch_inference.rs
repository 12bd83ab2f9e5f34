//! Offline batch inference: 1,797 handwritten digits through an ONNX model, and back to files.
//!
//!     cargo run --release --example batch_inference            # predicts, then compares
//!     cargo run --release --example batch_inference -- FOLDER  # compares what `mobula predict` wrote there
//!
//! What one learns: `predict` runs a model over a dataset, on several workers that share the loaded
//! model; rows come out in the order they went in, so that results can be compared line by line.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use mobula::prelude::*;

const DIGITS: &str = "examples/data/digits/*.parquet";
const MODEL: &str = "examples/data/digits_mlp.onnx";
/// The labels that ONNX Runtime gives for the same rows and model.
const EXPECTED: &str = "examples/data/digits_expected.parquet";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let session = Session::local()?;
    let folder = match std::env::args().nth(1) {
        Some(folder) => folder,
        None => predict(&session)?,
    };
    let results = session.read_parquet(&folder)?;
    let labels = numbers(&results, "label")?;
    let expected = numbers(&session.read_parquet(EXPECTED)?, "label")?;
    let digits = numbers(&session.read_parquet(DIGITS)?, "digit")?;

    println!("labels equal to ONNX Runtime's: {} of {}", equal(&labels, &expected), expected.len());
    println!("labels equal to the digit that was written: {} of {}", equal(&labels, &digits), digits.len());
    if labels != expected {
        return Err(format!("{folder} does not hold the labels of {EXPECTED}, row for row").into());
    }
    Ok(())
}

/// Reads, predicts, writes; gives the folder of the results.
fn predict(session: &Session) -> mobula::Result<String> {
    let folder = "target/batch_inference".to_owned();
    session
        .read_parquet(DIGITS)?
        .predict(Onnx::file(MODEL).batch_size(256).workers(1..=4))?
        .select(["id", "label"])?
        .write_parquet_with(&folder, WriteOptions::default().mode(WriteMode::Overwrite))?;
    Ok(folder)
}

fn equal(a: &[i64], b: &[i64]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a == b).count()
}

/// The values of a column of whole numbers, in the order of the rows.
fn numbers(dataset: &Dataset, column: &str) -> mobula::Result<Vec<i64>> {
    let batches = dataset.select([col(column).cast(DataType::Int64)])?.collect()?;
    Ok(batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect())
}
