//! Parallelism is the business of workers: a model runs on the threads that its worker has cores, and runs start none.
//! Alone in its file, since it counts the threads of the process.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs::File;

use arrow::record_batch::RecordBatch;
use mobula::predict::Onnx;
use mobula::predict::engine::{EngineChoice, OnnxRuntime};
use mobula_actors::job::Resources;
use mobula_actors::operator::{OpenContext, Operator, Output, Shared};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("procfs").count()
}

fn digits() -> RecordBatch {
    let file = File::open("examples/data/digits/part-000.parquet").expect("a file");
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet").build().expect("a reader");
    reader.next().expect("a batch").expect("rows")
}

/// A worker that has so many cores, after its first batch.
fn worker(engine: impl Into<EngineChoice>, cpus: f64) -> Box<dyn Operator> {
    let batch = digits();
    let model = Onnx::file("examples/data/digits_mlp.onnx").engine(engine).resources(Resources::cpu(cpus));
    let model = model.check(batch.schema_ref()).expect("fits");
    let mut operator = model.operator().build().expect("registered");
    let shared = Shared::default();
    operator
        .open(&OpenContext { operator: "predict".into(), worker: 0, incarnation: 0, gpus: Vec::new(), shared })
        .expect("opened");
    operator.process(batch, &mut Output::default()).expect("predicted");
    operator
}

fn check_runs_start_no_threads(engine: impl Into<EngineChoice>) {
    let mut operator = worker(engine, 1.0);
    let (batch, before) = (digits(), threads());
    for _ in 0..200 {
        operator.process(batch.clone(), &mut Output::default()).expect("predicted");
    }
    assert_eq!(threads(), before);
}

#[test]
fn a_model_has_the_threads_that_its_worker_has_cores_and_running_it_starts_none() {
    if has_onnxruntime() {
        // First of all: it joins its threads at their end, while those of rten may linger.
        check_threads_of_onnxruntime();
        check_runs_start_no_threads(OnnxRuntime::default());
    }
    check_runs_start_no_threads(EngineChoice::Rten);
}

fn check_threads_of_onnxruntime() {
    // Loads the library, and with it what it keeps for good.
    drop(worker(OnnxRuntime::default(), 1.0));
    let without = threads();
    // The worker's own thread is one of them.
    for (cpus, more) in [(1.0, 0), (0.5, 0), (3.0, 2)] {
        let worker = worker(OnnxRuntime::default(), cpus);
        assert_eq!(threads(), without + more, "with {cpus} cores");
        drop(worker);
    }
}

fn has_onnxruntime() -> bool {
    let named = std::env::var_os("ORT_DYLIB_PATH").is_some_and(|path| !path.is_empty());
    let wanted = std::env::var_os("MOBULA_TEST_ONNXRUNTIME").is_some();
    assert!(named || !wanted, "MOBULA_TEST_ONNXRUNTIME is set, and ORT_DYLIB_PATH names no library");
    if !named || cfg!(not(feature = "onnxruntime")) {
        println!("skipped on ONNX Runtime: name its library in ORT_DYLIB_PATH (.ci/onnxruntime gets it)");
        return false;
    }
    true
}
