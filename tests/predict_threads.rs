//! Parallelism is the business of workers: a model runs on one thread, and runs start none. Alone in its file, since it
//! counts the threads of the process.
#![cfg(target_os = "linux")]

use std::fs::File;

use mobula::predict::Onnx;
use mobula_actors::operator::{OpenContext, Output, Shared};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("procfs").count()
}

#[test]
fn running_a_model_starts_no_threads() {
    let file = File::open("examples/data/digits/part-000.parquet").expect("a file");
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet").build().expect("a reader");
    let batch = reader.next().expect("a batch").expect("rows");
    let model = Onnx::file("examples/data/digits_mlp.onnx").check(batch.schema_ref()).expect("fits");
    let mut operator = model.operator().build().expect("registered");
    let shared = Shared::default();
    operator
        .open(&OpenContext { operator: "predict".into(), worker: 0, incarnation: 0, gpus: Vec::new(), shared })
        .expect("opened");
    let mut out = Output::default();
    operator.process(batch.clone(), &mut out).expect("predicted");
    let before = threads();
    for _ in 0..200 {
        operator.process(batch.clone(), &mut out).expect("predicted");
    }
    assert_eq!(threads(), before);
}
