//! The real model on real digits: 1,797 images of 8 x 8 pixels.

use std::fs::File;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

fn read(path: &str) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("a file")).expect("parquet");
    let reader = reader.build().expect("a reader");
    let batches: Vec<_> = reader.collect::<Result<_, _>>().expect("batches");
    concat_batches(&batches[0].schema(), &batches).expect("one schema")
}

fn digits() -> RecordBatch {
    let parts: Vec<_> = (0..12).map(|part| read(&format!("examples/data/digits/part-{part:03}.parquet"))).collect();
    concat_batches(&parts[0].schema(), &parts).expect("one schema")
}

fn labels(batch: &RecordBatch) -> Vec<i64> {
    let labels = batch.column_by_name("label").expect("the model's output");
    cast(labels, &DataType::Int64).expect("integers").as_primitive::<Int64Type>().values().to_vec()
}

/// The highest of the ten probabilities of each row.
fn probability(batch: &RecordBatch) -> Vec<f64> {
    let lists = batch.column_by_name("probabilities").expect("the model's output").as_fixed_size_list();
    let row = |i: usize| lists.value(i).as_primitive::<Float32Type>().values().iter().copied().fold(0.0, f32::max);
    (0..lists.len()).map(|i| f64::from(row(i))).collect()
}

fn expected(column: &str, data_type: &DataType) -> ArrayRef {
    let all = read("examples/data/digits_expected.parquet");
    cast(all.column_by_name(column).expect("a column"), data_type).expect("numbers")
}

fn model(engine: &EngineChoice) -> Onnx {
    Onnx::file(DIGITS).engine(engine.clone())
}

#[test]
fn digits_get_the_expected_labels_and_probabilities_row_for_row() {
    each_engine(|engine| {
        let all = predict(&model(engine), &digits()).expect("predicted");
        assert_eq!(all.num_rows(), 1797);
        assert_eq!(labels(&all), expected("label", &DataType::Int64).as_primitive::<Int64Type>().values().to_vec());
        let wanted = expected("probability", &DataType::Float64);
        for (row, (got, wanted)) in
            probability(&all).iter().zip(wanted.as_primitive::<Float64Type>().values()).enumerate()
        {
            assert!((got - wanted).abs() < 1e-5, "row {row}: {got} is not {wanted}");
        }
    });
}

#[test]
fn any_batch_size_gives_the_same_labels() {
    each_engine(|engine| {
        let digits = digits();
        let whole = labels(&predict(&model(engine), &digits).expect("predicted"));
        let checked = model(engine).check(digits.schema_ref()).expect("fits");
        let mut operator = opened(&checked);
        for size in [1, 7, 1024] {
            let mut parts = Vec::new();
            for first in (0..digits.num_rows()).step_by(size) {
                // A slice: its buffers begin in the middle of the column's.
                let batch = digits.slice(first, size.min(digits.num_rows() - first));
                parts.extend(process(&mut *operator, batch).expect("predicted").iter().flat_map(labels));
            }
            assert_eq!(parts, whole, "batches of {size}");
        }
    });
}

#[test]
fn the_input_columns_pass_through_and_the_pixels_are_not_copied() {
    each_engine(|engine| {
        let digits = digits().slice(100, 50);
        let predicted = predict(&model(engine), &digits).expect("predicted");
        for (i, column) in digits.columns().iter().enumerate() {
            assert_eq!(predicted.column(i), column);
        }
        let checked = model(engine).check(digits.schema_ref()).expect("fits");
        let binding = crate::predict::bind::InputBinding {
            tensor: "pixels".into(),
            element: crate::predict::engine::Element::Float32,
            columns: checked.input_columns().to_vec(),
            row_shape: vec![64],
        };
        let tensor = crate::predict::input::tensor(&binding, &digits, Default::default()).expect("a tensor");
        let crate::predict::engine::Elements::Float32(elements) = tensor.elements else { panic!("floats") };
        let pixels = digits.column_by_name("pixels").expect("a column").as_fixed_size_list().values();
        assert_eq!(elements.as_ptr(), pixels.as_primitive::<Float32Type>().values().as_ptr());
    });
}

#[test]
fn the_operator_travels_by_name() {
    each_engine(|engine| {
        let checked = model(engine).check(digits().schema_ref()).expect("fits");
        assert_eq!(checked.operator().label, "predict digits_mlp.onnx");
        assert_eq!(checked.batch_rows(), 8192);
        let recipe = checked.operator().recipe;
        assert!(matches!(recipe, mobula_actors::operator::Recipe::Named { name, .. } if name == "mobula/predict@1"));
    });
}

#[test]
fn a_model_given_as_bytes_gives_the_same() {
    each_engine(|engine| {
        let digits = digits().slice(0, 20);
        let bytes = std::fs::read(DIGITS).expect("a file");
        let from_bytes = predict(&Onnx::bytes(bytes).engine(engine.clone()), &digits).expect("predicted");
        assert_eq!(from_bytes, predict(&model(engine), &digits).expect("predicted"));
    });
}

#[test]
fn outputs_are_chosen_and_renamed() {
    each_engine(|engine| {
        let digits = digits().slice(0, 3);
        let chosen = model(engine).outputs(["probabilities", "label"]).rename_output("label", "class");
        let predicted = predict(&chosen, &digits).expect("predicted");
        assert_eq!(predicted.num_columns(), digits.num_columns() + 2);
        assert_eq!(predicted.schema().field(digits.num_columns()).name(), "probabilities");
        let class = predicted.schema().field(digits.num_columns() + 1).clone();
        assert_eq!((class.name().as_str(), class.data_type()), ("class", &DataType::Int64), "as the model declares it");
    });
}

#[test]
fn a_truncated_model_is_refused_with_its_path_wherever_it_was_cut() {
    each_engine(|engine| {
        let whole = std::fs::read(DIGITS).expect("a file");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cut.onnx");
        for cut in (0..whole.len()).step_by(251) {
            std::fs::write(&path, &whole[..cut]).expect("written");
            let error = check_error(&Onnx::file(&path).engine(engine.clone()), digits().schema_ref());
            assert!(error.starts_with("cannot use model ") && error.contains("cut.onnx"), "{cut}: {error}");
        }
    });
}

#[test]
fn a_damaged_model_is_an_error_or_runs_but_never_a_panic() {
    each_engine(|engine| {
        use rand::{Rng, SeedableRng};
        let whole = std::fs::read(DIGITS).expect("a file");
        let schema = digits().schema();
        for seed in 0..200 {
            let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
            let mut bytes = whole.clone();
            // The structure is in the first bytes and around each tensor's header; most of the rest is weights.
            let at = random.random_range(0..if seed % 2 == 0 { 600 } else { bytes.len() });
            bytes[at] ^= 1 << random.random_range(0..8);
            let _ = Onnx::bytes(bytes).engine(engine.clone()).check(&schema);
        }
    });
}
