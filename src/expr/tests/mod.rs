//! Tests of expressions as users meet them: types, results, errors; and random ones against a plain interpreter.

mod errors;
mod every_type;
mod interpreter;
mod operators;
mod random;
mod results;
mod types;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, RecordBatch,
    StringArray, UInt8Array, UInt64Array,
};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{Expr, ExprError};

/// Three rows of the common types; the second row is null.
fn batch() -> RecordBatch {
    let columns: [(&str, ArrayRef); 10] = [
        ("i8", Arc::new(Int8Array::from(vec![Some(1), None, Some(-128)]))),
        ("i32", Arc::new(Int32Array::from(vec![Some(1), None, Some(-7)]))),
        ("i64", Arc::new(Int64Array::from(vec![Some(10), None, Some(i64::MAX)]))),
        ("u8", Arc::new(UInt8Array::from(vec![Some(1), None, Some(255)]))),
        ("u64", Arc::new(UInt64Array::from(vec![Some(10), None, Some(u64::MAX)]))),
        ("f32", Arc::new(Float32Array::from(vec![Some(0.5), None, Some(2.5)]))),
        ("f64", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("text", Arc::new(StringArray::from(vec![Some("Äpfel "), None, Some("x")]))),
        ("zero", Arc::new(Int32Array::from(vec![0, 0, 0]))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn evaluate(expr: &Expr, batch: &RecordBatch) -> Result<ArrayRef, ExprError> {
    expr.bind(&batch.schema())?.evaluate(batch)
}

/// The values of an array as printed, with `null` for null.
fn printed(array: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::new().with_null("null");
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).expect("a printable type");
    (0..array.len()).map(|row| formatter.value(row).to_string()).collect()
}

/// Checks the values over [`batch`].
#[track_caller]
fn check(expr: Expr, values: [&str; 3]) {
    let result = evaluate(&expr, &batch()).unwrap_or_else(|error| panic!("{expr}: {error}"));
    assert_eq!(printed(&result), values, "{expr}");
}

/// Checks the values of an expression over one column `x`.
#[track_caller]
fn check_column(column: ArrayRef, expr: Expr, values: &[&str]) {
    let batch = RecordBatch::try_from_iter_with_nullable([("x", column, true)]).expect("one column");
    let result = evaluate(&expr, &batch).unwrap_or_else(|error| panic!("{expr}: {error}"));
    assert_eq!(printed(&result), values, "{expr}");
}

/// Checks the type and nullability over [`batch`].
#[track_caller]
fn check_type(expr: Expr, data_type: DataType) {
    let found = expr.data_type(&batch().schema()).unwrap_or_else(|error| panic!("{expr}: {error}"));
    assert_eq!(found.0, data_type, "{expr}");
}

/// Checks that binding to [`batch`] fails with these words.
#[track_caller]
fn check_refused(expr: Expr, words: &str) {
    let error = expr.bind(&batch().schema()).expect_err("is refused");
    assert_eq!(error.to_string(), words);
}
