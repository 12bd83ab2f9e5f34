//! How fast does each engine run the digits on one thread, at the batch sizes of offline jobs? Columns in, columns out, as a
//! worker calls it; files, blocks and other workers are left out.
//!
//! Rounds of the engines alternate; each figure is the median of its rounds. ONNX Runtime is measured where
//! `ORT_DYLIB_PATH` names its library (`.ci/onnxruntime` gets it).

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::fs::File;
use std::time::Instant;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use mobula::predict::Onnx;
use mobula::predict::engine::{EngineChoice, OnnxRuntime};
use mobula_actors::operator::{BoxError, OpenContext, Operator, Output, Shared};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const ROUNDS: usize = 9;
/// Rows of a round.
const ROWS: usize = 400_000;

fn main() -> Result<(), BoxError> {
    let digits = digits()?;
    let engines = engines();
    for batch_rows in [64_usize, 1_024, 8_192] {
        let repeated: Vec<&RecordBatch> = vec![&digits; batch_rows.div_ceil(digits.num_rows())];
        let batch = concat_batches(&digits.schema(), repeated)?.slice(0, batch_rows);
        let mut workers = Vec::new();
        for (name, engine) in &engines {
            workers.push((*name, worker(engine.clone(), &batch)?, Vec::new()));
        }
        for _ in 0..ROUNDS {
            for (_, worker, rates) in &mut workers {
                rates.push(rate(&mut **worker, &batch)?);
            }
        }
        let medians = workers.into_iter().map(|(name, _, rates)| (name, median(rates))).collect::<Vec<_>>();
        for (name, rate) in &medians {
            println!("figure engines.digits.{name}.{batch_rows} {rate:.0} rows/s");
        }
        if let [(_, rten), (_, onnxruntime)] = medians.as_slice() {
            println!("figure engines.digits.ratio.{batch_rows} {:.3} ratio", onnxruntime / rten);
        }
    }
    Ok(())
}

/// Those that can be had.
fn engines() -> Vec<(&'static str, EngineChoice)> {
    let mut engines = vec![("rten", EngineChoice::Rten)];
    match std::env::var_os("ORT_DYLIB_PATH") {
        Some(_) => engines.push(("onnxruntime", OnnxRuntime::default().into())),
        None => println!("without ONNX Runtime: name its library in ORT_DYLIB_PATH"),
    }
    engines
}

fn digits() -> Result<RecordBatch, BoxError> {
    let file = File::open("examples/data/digits/part-000.parquet")?;
    let batches = ParquetRecordBatchReaderBuilder::try_new(file)?.build()?.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&batches.first().ok_or("a file without rows")?.schema(), &batches)?)
}

/// The operator as a worker of one core has it.
fn worker(engine: EngineChoice, batch: &RecordBatch) -> Result<Box<dyn Operator>, BoxError> {
    let model = Onnx::file("examples/data/digits_mlp.onnx").engine(engine).check(batch.schema_ref())?;
    let spec = model.operator();
    let mut operator = spec.build()?;
    let shared = Shared::default().with_objects(&spec.objects);
    operator.open(&OpenContext { operator: "predict".into(), worker: 0, incarnation: 0, gpus: Vec::new(), shared })?;
    Ok(operator)
}

/// Rows by second.
fn rate(worker: &mut dyn Operator, batch: &RecordBatch) -> Result<f64, BoxError> {
    let batches = ROWS.div_ceil(batch.num_rows());
    #[allow(clippy::disallowed_methods, reason = "a bench times what it runs")]
    let from = Instant::now();
    for _ in 0..batches {
        let mut out = Output::default();
        worker.process(batch.clone(), &mut out)?;
        assert_eq!(out.take().iter().map(RecordBatch::num_rows).sum::<usize>(), batch.num_rows());
    }
    Ok((batches * batch.num_rows()) as f64 / from.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
