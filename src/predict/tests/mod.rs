//! The predictor against models and batches; `digits` holds it against labels that scikit-learn made.

mod check;
mod digits;
mod fake;
mod process;
mod warm;
mod wide;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use mobula_actors::operator::{OpenContext, Operator, Output, Shared};

use super::engine::{EngineChoice, OnnxRuntime};
use super::{CheckedModel, Onnx};

const DIGITS: &str = "examples/data/digits_mlp.onnx";

fn schema(columns: impl IntoIterator<Item = (&'static str, DataType)>) -> SchemaRef {
    Arc::new(Schema::new(columns.into_iter().map(|(name, ty)| Field::new(name, ty, true)).collect::<Vec<_>>()))
}

fn list(size: i32, of: DataType) -> DataType {
    DataType::FixedSizeList(Arc::new(Field::new_list_field(of, true)), size)
}

fn context() -> OpenContext {
    OpenContext { operator: "predict".into(), worker: 0, incarnation: 0, gpus: Vec::new(), shared: Shared::default() }
}

/// The test on each engine that can be had: the default one, and ONNX Runtime where `ORT_DYLIB_PATH` names its library.
/// With `MOBULA_TEST_ONNXRUNTIME` set, as `.ci/run` has it, a library that is not there is a failure.
fn each_engine(test: impl Fn(&EngineChoice)) {
    test(&EngineChoice::Rten);
    if has_onnxruntime() {
        test(&onnxruntime());
    }
}

fn onnxruntime() -> EngineChoice {
    OnnxRuntime::default().into()
}

pub(in crate::predict) fn has_onnxruntime() -> bool {
    let named = std::env::var_os("ORT_DYLIB_PATH").is_some_and(|path| !path.is_empty());
    let wanted = std::env::var_os("MOBULA_TEST_ONNXRUNTIME").is_some();
    assert!(named || !wanted, "MOBULA_TEST_ONNXRUNTIME is set, and ORT_DYLIB_PATH names no library");
    if !named || cfg!(not(feature = "onnxruntime")) {
        println!("skipped on ONNX Runtime: name its library in ORT_DYLIB_PATH (.ci/onnxruntime gets it)");
        return false;
    }
    true
}

/// The operator as a worker has it after `open`.
fn opened(model: &CheckedModel) -> Box<dyn Operator> {
    let spec = model.operator();
    let mut operator = spec.build().expect("a registered operator");
    let context = context();
    operator
        .open(&OpenContext { shared: context.shared.with_objects(&spec.objects), ..context })
        .expect("a model that was checked");
    operator
}

fn process(operator: &mut dyn Operator, batch: RecordBatch) -> Result<Vec<RecordBatch>, String> {
    let mut out = Output::default();
    operator.process(batch, &mut out).map_err(|error| full(&*error))?;
    Ok(out.take())
}

fn predict(model: &Onnx, batch: &RecordBatch) -> Result<RecordBatch, String> {
    let checked = model.check(batch.schema_ref()).map_err(|error| full(&error))?;
    let batches = process(&mut *opened(&checked), batch.clone())?;
    let [predicted] = batches.try_into().expect("one batch");
    let predicted: RecordBatch = predicted;
    assert_eq!(predicted.schema(), checked.schema(), "the schema that was promised");
    Ok(predicted)
}

fn check_error(model: &Onnx, schema: &Schema) -> String {
    full(&model.check(schema).expect_err("refused"))
}

/// The message with its causes.
fn full(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
