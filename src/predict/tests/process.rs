//! What is found batch by batch, and small models run by the real engine.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, ListArray,
};
use arrow::compute::cast;
use arrow::datatypes::{Float32Type, Float64Type, Int64Type};
use proptest::prelude::*;
use rten_onnx::onnx::{
    DataType as OnnxType, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto,
    TypeProto, TypeProtoTensor, ValueInfoProto,
};

use super::*;
use crate::predict::OnNan;

fn dim(dim: &str) -> Dimension {
    match dim.parse() {
        Ok(size) => Dimension { dim_value: Some(size), dim_param: None },
        Err(_) => Dimension { dim_value: None, dim_param: Some(dim.to_owned()) },
    }
}

fn info(name: &str, elem: OnnxType, shape: &[&str]) -> ValueInfoProto {
    let shape = TensorShapeProto { dim: shape.iter().map(|d| dim(d)).collect() };
    let tensor = TypeProtoTensor { elem_type: Some(elem), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type: Some(tensor), sequence: None }),
    }
}

/// The file of a model with one operator.
fn onnx(op: &str, inputs: &[ValueInfoProto], output: ValueInfoProto) -> Vec<u8> {
    let node = NodeProto {
        op_type: Some(op.to_owned()),
        name: Some("node".to_owned()),
        input: inputs.iter().filter_map(|input| input.name.clone()).collect(),
        output: output.name.iter().cloned().collect(),
        ..NodeProto::default()
    };
    let mut input = inputs.to_vec();
    input.dedup_by(|a, b| a.name == b.name);
    let graph = GraphProto { node: vec![node], input, output: vec![output], ..GraphProto::default() };
    let opset = OperatorSetIdProto { domain: None, version: Some(13) };
    let model =
        ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() };
    model.write_buf().expect("a model")
}

/// `x` added to itself.
fn doubled(engine: &EngineChoice, elem: OnnxType, shape: &[&str]) -> Onnx {
    let x = info("x", elem, shape);
    Onnx::bytes(onnx("Add", &[x.clone(), x], info("y", elem, shape)).to_vec()).engine(engine.clone())
}

/// `y`, the largest `x` of the whole batch: not a row for each row.
pub(super) fn reduced_over_the_batch() -> Vec<u8> {
    onnx("ReduceMax", &[info("x", OnnxType::FLOAT, &["batch"])], info("y", OnnxType::FLOAT, &["batch"]))
}

fn batch(name: &str, column: impl Array + 'static) -> RecordBatch {
    RecordBatch::try_from_iter([(name, Arc::new(column) as ArrayRef)]).expect("one column")
}

fn lists(size: i32, values: impl Into<Float32Array>) -> FixedSizeListArray {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    FixedSizeListArray::new(item, size, Arc::new(values.into()), None)
}

fn y(batch: &RecordBatch) -> Vec<f32> {
    let mut column = batch.column_by_name("y").expect("the output").clone();
    if let Some(lists) = column.as_fixed_size_list_opt() {
        column = lists.values().clone();
    }
    column.as_primitive::<Float32Type>().values().to_vec()
}

#[test]
fn an_operator_that_the_engine_lacks_is_named_before_any_data_is_read() {
    each_engine(|engine| {
        let x = [info("x", OnnxType::FLOAT, &["batch"])];
        let model = onnx("Teleport", &x, info("y", OnnxType::FLOAT, &["batch"]));
        let error = check_error(&Onnx::bytes(model).engine(engine.clone()), &schema([("x", DataType::Float32)]));
        assert!(error.contains("the engine cannot run it: ") && error.contains("Teleport"), "{error}");
    });
}

#[test]
fn integers_pass_through_as_the_type_that_the_model_declares() {
    each_engine(|engine| {
        let predicted =
            predict(&doubled(engine, OnnxType::INT64, &["batch"]), &batch("x", Int64Array::from(vec![1, -2])));
        let predicted = predicted.expect("predicted");
        assert_eq!(predicted.column_by_name("y").expect("y").as_primitive::<Int64Type>().values(), &[2, -4]);
    });
}

#[test]
fn an_integer_beyond_the_tensor_is_an_error_with_its_row() {
    each_engine(|engine| {
        let column = Int64Array::from(vec![1, 1 << 40]);
        let error = predict(&doubled(engine, OnnxType::INT32, &["batch"]), &batch("x", column)).expect_err("too large");
        assert_eq!(error, "column \"x\" has in row 1 of the batch a value that does not fit the tensor's type int32");
    });
}

#[test]
fn onnx_runtime_carries_64_bits_where_rten_has_32() {
    let large = batch("x", Int64Array::from(vec![1, 1 << 40]));
    let rten = predict(&doubled(&EngineChoice::Rten, OnnxType::INT64, &["batch"]), &large).expect_err("too large");
    assert_eq!(rten, "column \"x\" has in row 1 of the batch a value that does not fit the tensor's type int32");
    if has_onnxruntime() {
        let whole = predict(&doubled(&onnxruntime(), OnnxType::INT64, &["batch"]), &large).expect("fits");
        assert_eq!(whole.column_by_name("y").expect("y").as_primitive::<Int64Type>().values(), &[2, 1 << 41]);
        let doubles = doubled(&onnxruntime(), OnnxType::DOUBLE, &["batch"]);
        let exact = predict(&doubles, &batch("x", Float64Array::from(vec![0.1, 1e300]))).expect("fits");
        assert_eq!(exact.column_by_name("y").expect("y").as_primitive::<Float64Type>().values(), &[0.2, 2e300]);
        let error = predict(&doubles, &batch("x", Float64Array::from(vec![0.1, f64::NAN]))).expect_err("a NaN");
        assert!(error.starts_with("column \"x\" is NaN in row 1 of the batch; "), "{error}");
    }
}

#[test]
fn every_element_type_goes_in_and_comes_out_as_the_model_declares_it() {
    each_engine(|engine| {
        for (elem, wanted) in [
            (OnnxType::FLOAT, DataType::Float32),
            (OnnxType::DOUBLE, DataType::Float64),
            (OnnxType::FLOAT16, DataType::Float16),
            (OnnxType::INT8, DataType::Int8),
            (OnnxType::INT32, DataType::Int32),
            (OnnxType::INT64, DataType::Int64),
            (OnnxType::UINT8, DataType::UInt8),
            (OnnxType::BOOL, DataType::Boolean),
        ] {
            let model = Onnx::bytes(onnx("Identity", &[info("x", elem, &["n", "2"])], info("y", elem, &["n", "2"])));
            let item = Arc::new(Field::new_list_field(DataType::Int64, true));
            let ones = Arc::new(Int64Array::from(vec![0, 1, 1, 0]));
            let column = FixedSizeListArray::new(item, 2, ones, None);
            let predicted = predict(&model.engine(engine.clone()), &batch("x", column)).expect("predicted");
            let lists = predicted.column_by_name("y").expect("y").as_fixed_size_list().values().clone();
            assert_eq!(lists.data_type(), &wanted, "{engine:?}");
            let numbers = cast(&lists, &DataType::Int64).expect("numbers");
            assert_eq!(numbers.as_primitive::<Int64Type>().values(), &[0, 1, 1, 0], "{wanted} on {engine:?}");
        }
    });
}

#[test]
fn strings_are_refused_by_the_name_of_the_tensor() {
    each_engine(|engine| {
        let model = onnx("Identity", &[info("x", OnnxType::STRING, &["n"])], info("y", OnnxType::STRING, &["n"]));
        let error = check_error(&Onnx::bytes(model).engine(engine.clone()), &schema([("x", DataType::Utf8)]));
        assert!(error.contains("tensor \"x\" has ") && error.ends_with("leave it out when exporting"), "{error}");
    });
}

#[test]
fn doubles_are_rounded_and_those_beyond_float32_refused() {
    each_engine(|engine| {
        let model = doubled(engine, OnnxType::FLOAT, &["batch"]);
        let predicted = predict(&model, &batch("x", Float64Array::from(vec![0.1, f64::INFINITY]))).expect("predicted");
        assert_eq!(y(&predicted), [0.2_f32, f32::INFINITY]);
        let error = predict(&model, &batch("x", Float64Array::from(vec![0.0, 1e300]))).expect_err("too large");
        assert!(error.contains("row 1 of the batch a value that does not fit"), "{error}");
    });
}

#[test]
fn a_nan_is_an_error_with_its_row_unless_it_is_allowed() {
    each_engine(|engine| {
        let model = doubled(engine, OnnxType::FLOAT, &["batch", "2"]);
        let column = batch("x", lists(2, vec![0.0, 1.0, 2.0, f32::NAN]));
        let error = predict(&model, &column).expect_err("rejected");
        assert!(error.starts_with("column \"x\" is NaN in row 1 of the batch; "), "{error}");
        let predicted = predict(&model.on_nan(OnNan::Allow), &column).expect("allowed");
        assert!(y(&predicted)[3].is_nan());
    });
}

#[test]
fn a_null_is_an_error_with_its_row_at_any_depth() {
    each_engine(|engine| {
        let plain = batch("x", Float32Array::from(vec![Some(1.0), None]));
        let error = predict(&doubled(engine, OnnxType::FLOAT, &["batch"]), &plain).expect_err("rejected");
        assert!(error.starts_with("column \"x\" is null in row 1 of the batch; "), "{error}");
        let inner = batch("x", lists(2, vec![Some(0.0), Some(1.0), None, Some(2.0)]).slice(1, 1));
        let error = predict(&doubled(engine, OnnxType::FLOAT, &["batch", "2"]), &inner).expect_err("rejected");
        assert!(error.starts_with("column \"x\" is null in row 0 of the batch; "), "{error}");
    });
}

#[test]
fn a_null_outside_of_the_slice_does_no_harm() {
    each_engine(|engine| {
        let column = lists(2, vec![None, Some(1.0), Some(2.0), Some(3.0)]).slice(1, 1);
        let predicted =
            predict(&doubled(engine, OnnxType::FLOAT, &["batch", "2"]), &batch("x", column)).expect("predicted");
        assert_eq!(y(&predicted), [4.0, 6.0]);
    });
}

#[test]
fn a_list_of_another_length_is_an_error_with_its_row() {
    each_engine(|engine| {
        let of = |rows: Vec<Vec<f32>>| {
            let rows = rows.into_iter().map(|row| Some(row.into_iter().map(Some).collect::<Vec<_>>()));
            ListArray::from_iter_primitive::<Float32Type, _, _>(rows)
        };
        let model = doubled(engine, OnnxType::FLOAT, &["batch", "2"]);
        let good = batch("x", of(vec![vec![9.0], vec![1.0, 2.0], vec![3.0, 4.0]]).slice(1, 2));
        assert_eq!(y(&predict(&model, &good).expect("predicted")), [2.0, 4.0, 6.0, 8.0]);
        let error = predict(&model, &batch("x", of(vec![vec![1.0, 2.0], vec![3.0]]))).expect_err("too short");
        assert_eq!(error, "column \"x\" has a list of 1 elements in row 1 of the batch; the model takes 2");
    });
}

#[test]
fn several_columns_feed_one_input_side_by_side() {
    each_engine(|engine| {
        let columns = RecordBatch::try_from_iter([
            ("a", Arc::new(Float64Array::from(vec![1.0, 2.0])) as ArrayRef),
            ("b", Arc::new(lists(2, vec![10.0, 11.0, 20.0, 21.0])) as ArrayRef),
            ("c", Arc::new(BooleanArray::from(vec![true, false])) as ArrayRef),
        ]);
        let model = doubled(engine, OnnxType::FLOAT, &["batch", "4"]).input("x", ["c", "a", "b"]);
        let predicted = predict(&model, &columns.expect("columns")).expect("predicted");
        assert_eq!(y(&predicted), [2.0, 2.0, 20.0, 22.0, 0.0, 4.0, 40.0, 42.0]);
    });
}

#[test]
fn a_model_of_fixed_batches_takes_any_batch() {
    each_engine(|engine| {
        let model = doubled(engine, OnnxType::FLOAT, &["4", "1"]);
        let values: Vec<f32> = (0..10u8).map(f32::from).collect();
        let column = batch("x", Float32Array::from(values.clone()));
        assert_eq!(model.check(column.schema_ref()).expect("fits").batch_rows(), 4);
        let wanted: Vec<f32> = values.iter().map(|value| value * 2.0).collect();
        assert_eq!(y(&predict(&model, &column).expect("predicted")), wanted);
        assert_eq!(y(&predict(&model, &column.slice(3, 2)).expect("predicted")), wanted[3..5]);
    });
}

#[test]
fn an_empty_batch_gives_nothing_and_no_error() {
    each_engine(|engine| {
        let column = batch("x", Float32Array::from(Vec::<f32>::new()));
        for shape in [&["batch"][..], &["4"]] {
            let checked = doubled(engine, OnnxType::FLOAT, shape).check(column.schema_ref()).expect("fits");
            assert_eq!(process(&mut *opened(&checked), column.clone()), Ok(Vec::new()));
        }
    });
}

#[test]
fn a_column_that_is_missing_or_changed_in_a_later_batch_is_an_error() {
    each_engine(|engine| {
        let model = doubled(engine, OnnxType::FLOAT, &["batch"]);
        let checked = model.check(&schema([("x", DataType::Float32)])).expect("fits");
        let mut operator = opened(&checked);
        let missing = process(&mut *operator, batch("z", Float32Array::from(vec![1.0]))).expect_err("no x");
        assert_eq!(missing, "column \"x\" not found in the batch; there are: \"z\"");
        let changed = process(&mut *operator, batch("x", lists(2, vec![1.0, 2.0]))).expect_err("a list");
        assert!(changed.starts_with("column \"x\" is "), "{changed}");
    });
}

#[test]
fn a_model_file_that_vanishes_before_the_worker_opens_is_named() {
    each_engine(|engine| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gone.onnx");
        let x = info("x", OnnxType::FLOAT, &["batch"]);
        std::fs::write(&path, onnx("Add", &[x.clone(), x], info("y", OnnxType::FLOAT, &["batch"]))).expect("written");
        let checked =
            Onnx::file(&path).engine(engine.clone()).check(&schema([("x", DataType::Float32)])).expect("fits");
        std::fs::remove_file(&path).expect("removed");
        let mut operator = checked.operator().build().expect("registered");
        let error = operator.open(&context()).expect_err("gone").to_string();
        assert!(error.starts_with("cannot read model ") && error.contains("gone.onnx"), "{error}");
    });
}

#[test]
fn a_model_file_that_was_written_anew_is_read_anew() {
    each_engine(|engine| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.onnx");
        let x = info("x", OnnxType::FLOAT, &["batch"]);
        let y_info = info("y", OnnxType::FLOAT, &["batch"]);
        let column = batch("x", Float32Array::from(vec![3.0]));
        let ctx = context();
        let predict = |model: Vec<u8>| {
            std::fs::write(&path, model).expect("written");
            let checked = Onnx::file(&path).engine(engine.clone()).check(column.schema_ref()).expect("fits");
            let mut operator = checked.operator().build().expect("registered");
            operator.open(&ctx).expect("opened");
            y(&process(&mut *operator, column.clone()).expect("predicted")[0])
        };
        assert_eq!(predict(onnx("Add", &[x.clone(), x.clone()], y_info.clone())), [6.0]);
        assert_eq!(predict(onnx("Neg", &[x], y_info)), [-3.0]);
    });
}

proptest! {
    #[test]
    fn any_slice_of_a_list_column_is_doubled_as_a_plain_vector_would_be(
        rows in prop::collection::vec(prop::array::uniform3(-1e6_f32..1e6), 1..40),
        from: prop::sample::Index,
        to: prop::sample::Index,
    ) {
        let (from, to) = (from.index(rows.len()), to.index(rows.len()));
        let (from, to) = (from.min(to), from.max(to) + 1);
        let column = batch("x", lists(3, rows.concat())).slice(from, to - from);
        let wanted: Vec<f32> = rows[from..to].concat().iter().map(|value| value + value).collect();
        each_engine(|engine| {
            let predicted = predict(&doubled(engine, OnnxType::FLOAT, &["batch", "3"]), &column).expect("predicted");
            assert_eq!(y(&predicted), wanted);
        });
    }
}
