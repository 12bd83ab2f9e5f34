//! What is found before any data is read.

use super::fake::{Fake, model, tensor};
use super::*;
use crate::predict::PredictError;
use mobula_actors::job::Resources;
use mobula_actors::operator::BatchSize;

fn checked(fake: &Fake, onnx: Onnx, schema: &Schema) -> Result<CheckedModel, PredictError> {
    onnx.check_with(Some(Arc::new(fake.clone())), schema, &Shared::default())
}

fn onnx() -> Onnx {
    Onnx::bytes(Vec::new())
}

fn refused(fake: &Fake, onnx: Onnx, schema: &Schema) -> String {
    full(&checked(fake, onnx, schema).expect_err("refused"))
}

fn floats(shape: &[&str]) -> Fake {
    model(vec![tensor("x", DataType::Float32, shape)])
}

#[test]
fn a_missing_model_a_directory_and_a_file_that_is_no_model_are_told_apart() {
    let schema = schema([("x", DataType::Float32)]);
    let missing = check_error(&Onnx::file("no/such.onnx"), &schema);
    assert!(missing.starts_with("cannot read model no/such.onnx; give the path of an ONNX file: "), "{missing}");
    let directory = check_error(&Onnx::file("examples/data"), &schema);
    assert_eq!(directory, "model examples/data is a directory; give the ONNX file in it");
    each_engine(|engine| {
        let text = check_error(&Onnx::file("Cargo.toml").engine(engine.clone()), &schema);
        assert!(text.contains("cannot use model Cargo.toml") && text.ends_with("it is not an ONNX model"), "{text}");
    });
}

#[test]
fn a_missing_column_is_an_error_that_lists_the_columns() {
    let schema = schema([("a", DataType::Float32), ("b", DataType::Utf8)]);
    let error = refused(&floats(&["batch"]), onnx().input("x", "fare"), &schema);
    assert_eq!(error, "column \"fare\" for input \"x\" of the model not found; there are: \"a\", \"b\"");
}

#[test]
fn one_input_takes_the_only_column_that_fits() {
    let schema = schema([("id", DataType::Utf8), ("pixels", list(4, DataType::Float32))]);
    let checked = checked(&floats(&["batch", "4"]), onnx(), &schema).expect("fits");
    assert_eq!(checked.input_columns(), ["pixels"]);
}

#[test]
fn several_columns_that_fit_are_an_error_that_lists_them() {
    let schema = schema([("a", DataType::Float32), ("b", DataType::Int32), ("c", DataType::Utf8)]);
    let error = refused(&floats(&["batch"]), onnx(), &schema);
    assert_eq!(
        error,
        "no column is named like input \"x\" (float32[batch]) of the model and several would fit: \"a\", \"b\"; \
         say .input(\"x\", \"column\")"
    );
}

#[test]
fn no_column_that_fits_is_an_error_that_shows_their_types() {
    let schema = schema([("a", DataType::Utf8)]);
    let error = refused(&floats(&["batch"]), onnx(), &schema);
    assert!(error.contains("none fits; there are: \"a\" (Utf8)"), "{error}");
}

#[test]
fn an_unknown_tensor_is_an_error_that_lists_those_there_are() {
    let schema = schema([("x", DataType::Float32)]);
    let fake = floats(&["batch"]);
    let input = refused(&fake, onnx().input("y", "x"), &schema);
    assert_eq!(input, "model given as bytes has no input \"y\"; it has: \"x\"");
    let output = refused(&fake, onnx().outputs(["mean"]), &schema);
    assert_eq!(output, "model given as bytes has no output \"mean\"; it has: \"sum\"");
    let renamed = refused(&fake, onnx().rename_output("mean", "m"), &schema);
    assert_eq!(renamed, output);
}

#[test]
fn types_and_shapes_that_do_not_fit_are_named_with_both_sides() {
    let fake = floats(&["batch", "64"]);
    let text = refused(&fake, onnx(), &schema([("x", DataType::Utf8)]));
    assert_eq!(
        text,
        "column \"x\" (Utf8) cannot feed input \"x\" (float32[batch, 64]) of the model: \
         it holds Utf8, the tensor Float32; only numbers feed a model"
    );
    let short = refused(&fake, onnx(), &schema([("x", list(63, DataType::Float32))]));
    assert!(short.ends_with("the model takes 64 elements a row, the column gives 63"), "{short}");
    let integers = model(vec![tensor("x", DataType::Int64, &["batch"])]);
    let fractions = refused(&integers, onnx(), &schema([("x", DataType::Float64)]));
    assert!(fractions.ends_with("it holds Float64, the tensor Int32; cast the column to an integer"), "{fractions}");
}

#[test]
fn shapes_that_hold_as_many_elements_fit() {
    let of = |size| list(size, DataType::Float32);
    for (shape, column) in [
        (vec!["batch"], DataType::Float64),
        (vec!["batch"], DataType::UInt16),
        (vec!["batch", "1"], DataType::Int64),
        (vec!["batch", "features"], DataType::Boolean),
        (vec!["batch", "8", "8"], of(64)),
        (vec!["batch", "8", "width"], of(64)),
        (vec!["batch", "height", "width"], list(8, of(8))),
        (vec!["batch", "1", "8", "8"], list(8, of(8))),
        (vec!["batch", "6"], DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)))),
    ] {
        let schema = schema([("x", column.clone())]);
        checked(&floats(&shape), onnx(), &schema).unwrap_or_else(|e| panic!("{column} into {shape:?}: {}", full(&e)));
    }
}

#[test]
fn an_open_length_needs_a_fixed_size_list() {
    let lists = DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)));
    let error = refused(&floats(&["batch", "n"]), onnx(), &schema([("x", lists)]));
    assert!(error.ends_with("the model's length is open: use a fixed-size list"), "{error}");
}

#[test]
fn an_output_that_would_hide_a_column_says_how_to_rename_it() {
    let schema = schema([("x", DataType::Float32), ("sum", DataType::Float32)]);
    let fake = floats(&["batch"]);
    assert_eq!(
        refused(&fake, onnx(), &schema),
        "output \"sum\" of the model would become column \"sum\", which is there already; \
         say .rename_output(\"sum\", \"other\")"
    );
    let renamed = checked(&fake, onnx().rename_output("sum", "total"), &schema).expect("free");
    assert_eq!(renamed.output_fields()[0].name(), "total");
}

#[test]
fn outputs_become_the_columns_that_their_shapes_say() {
    let outputs = [
        (tensor("plain", DataType::Int64, &["batch"]), "Int64"),
        (tensor("one", DataType::Float32, &["batch", "1"]), "Float32"),
        (tensor("fixed", DataType::Float64, &["batch", "2"]), "FixedSizeList(2 x non-null Float64)"),
        (tensor("open", DataType::Boolean, &["batch", "n"]), "List(non-null Boolean)"),
        (
            tensor("nested", DataType::Float32, &["batch", "2", "n"]),
            "FixedSizeList(2 x non-null List(non-null Float32))",
        ),
    ];
    let mut fake = floats(&["batch"]);
    fake.0.outputs = outputs.iter().map(|(info, _)| info.clone()).collect();
    let checked = checked(&fake, onnx(), &schema([("x", DataType::Float32)])).expect("fits");
    for (field, (_, wanted)) in checked.output_fields().iter().zip(&outputs) {
        assert_eq!(field.data_type().to_string(), *wanted, "{}", field.name());
    }
}

#[test]
fn an_output_that_does_not_follow_the_batch_is_found_by_the_trial() {
    let mut fake = floats(&["batch"]);
    fake.0.outputs = vec![tensor("sum", DataType::Float32, &["batch", "n", "2"])];
    fake.0.inputs = vec![tensor("x", DataType::Float32, &["batch"])];
    assert!(checked(&fake, onnx(), &schema([("x", DataType::Float32)])).is_ok());
    let reduced = super::process::reduced_over_the_batch();
    each_engine(|engine| {
        let error =
            check_error(&Onnx::bytes(reduced.clone()).engine(engine.clone()), &schema([("x", DataType::Float32)]));
        assert!(error.contains("fails on a trial batch of 2 rows: output \"y\" of the model has shape [1]"), "{error}");
    });
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let schema = schema([("x", DataType::Float32)]);
    let fake = floats(&["batch"]);
    assert_eq!(refused(&fake, onnx().batch_size(0), &schema), "the batch size of a model is at least 1 row");
    assert!(refused(&fake, onnx().workers(0..=2), &schema).starts_with("a model has at least 1 worker"));
    let leased = check_error(&onnx().resources(Resources { gpus: 1.0, ..Resources::default() }), &schema);
    assert!(
        leased.starts_with("each worker asks for 1 gpus, but models run on the cpu with the engine rten"),
        "{leased}"
    );
}

#[test]
fn the_default_batch_shrinks_as_rows_grow() {
    let rows = |size: &str| {
        let schema = schema([("x", list(size.parse().expect("a number"), DataType::Float32))]);
        checked(&floats(&["batch", size]), onnx(), &schema).expect("fits").batch_rows()
    };
    assert_eq!([rows("1"), rows("64"), rows("784"), rows("150528"), rows("1000000")], [8192, 8192, 668, 3, 1]);
}

#[test]
fn a_batch_that_the_user_or_the_model_names_is_exact_and_one_that_was_chosen_gives_way_to_wide_rows() {
    let schema = schema([("x", DataType::Float32)]);
    let batch = |dim: &str, onnx: Onnx| checked(&floats(&[dim]), onnx, &schema).expect("fits").operator().batch;
    assert!(matches!(batch("batch", onnx()), BatchSize::UpTo(rows) if rows.get() == 8192));
    assert!(matches!(batch("batch", onnx().batch_size(300)), BatchSize::Rows(rows) if rows.get() == 300));
    assert!(matches!(batch("16", onnx()), BatchSize::Rows(rows) if rows.get() == 16));
}
