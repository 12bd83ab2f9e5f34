//! `--columns x=a,x=b`: several columns feed one input of the model.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, RecordBatch};
use arrow::datatypes::Float32Type;
use parquet::arrow::ArrowWriter;

use super::{assert_done, assert_error, folder, int64, predict, read, read_folder};

#[test]
fn columns_that_name_one_input_are_laid_side_by_side() {
    let folder = folder();
    let (input, out) = (folder.path().join("in.parquet"), folder.path().join("out"));
    let digits = read(Path::new("examples/data/digits/part-000.parquet")).remove(0);
    let pixels = digits.column_by_name("pixels").expect("a column").as_fixed_size_list();
    let values = pixels.values().as_primitive::<Float32Type>().values();
    let column =
        |at: usize| Arc::new(values.iter().skip(at).step_by(64).copied().collect::<Float32Array>()) as ArrayRef;
    let batch = RecordBatch::try_from_iter((0..64).map(|at| (format!("p{at}"), column(at)))).expect("columns");
    let file = File::create(&input).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("parquet");
    writer.write(&batch).expect("rows are written");
    writer.close().expect("the footer is written");
    let input = input.to_str().expect("text");
    let flags: Vec<String> = (0..64).map(|at| format!("pixels=p{at}")).collect();
    assert_done(&predict(input, &out, &["--columns", &flags.join(",")]));
    let whole = folder.path().join("whole");
    assert_done(&predict("examples/data/digits/part-000.parquet", &whole, &[]));
    assert_eq!(int64(&read_folder(&out), "label"), int64(&read_folder(&whole), "label"));
    let few = predict(input, &folder.path().join("few"), &["--columns", "pixels=p0,pixels=p1"]);
    assert_error(&few, 1, &["pixels", "p0"]);
}
