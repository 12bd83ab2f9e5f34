//! What users read when an expression cannot work.

use super::*;
use crate::expr::{BinaryOp, Function, Literal, coalesce, col, lit, when};

#[test]
fn a_missing_column_is_named_with_the_choices_and_the_closest() {
    check_refused(
        col("Text").eq("x"),
        "column \"Text\" not found (did you mean \"text\"?); there are: \
         i8, i32, i64, u8, u64, f32, f64, flag, text, zero",
    );
}

#[test]
fn types_that_do_not_go_together_are_named_with_what_to_cast() {
    check_refused(
        col("flag").and(col("text").gt(5)),
        "in `text > 5`: cannot compare utf8 with int32; cast one of them, for example `text` with \
         .cast(DataType::Int32)",
    );
    check_refused(
        col("i64") + col("text"),
        "in `i64 + text`: cannot add int64 and utf8; cast one of them, for example `text` with .cast(DataType::Int64)",
    );
    check_refused(
        coalesce([col("text"), lit(0)]),
        "in `coalesce(text, 0)`: cannot choose between utf8 and int32; cast one of them, for example `text` with \
         .cast(DataType::Int32)",
    );
    check_refused(
        col("u64").fill_null(col("i64")),
        "in `coalesce(u64, i64)`: cannot choose between uint64 and int64; cast one of them, for example `i64` with \
         .cast(DataType::UInt64)",
    );
    check_refused(
        col("i64").is_in(["a"]),
        "in `i64 in [\"a\"]`: cannot look up utf8 among values of int64; cast one of them, for example `\"a\"` with \
         .cast(DataType::Int64)",
    );
}

#[test]
fn operations_on_types_that_have_none_say_so() {
    check_refused(-col("u8"), "in `-u8`: uint8 has no negative values; cast it to a signed type first");
    check_refused(-col("text"), "in `-text`: cannot negate utf8");
    check_refused(!col("i8"), "in `not i8`: `i8` is int8, not boolean");
    check_refused(
        when(col("i8")).then(1).otherwise(2),
        "in `when i8 then 1 otherwise 2 end`: `i8` is int8, not boolean",
    );
    check_refused(
        col("i8").lower(),
        "in `lower(i8)`: lower takes strings, and `i8` is int8; cast it with .cast(DataType::Utf8)",
    );
    check_refused(col("text").sqrt(), "in `sqrt(text)`: sqrt takes a number, not utf8");
    check_refused(col("i8").is_nan(), "in `is_nan(i8)`: is_nan does not take int8; cast it to float64 first");
    check_refused(col("flag").cast(DataType::Date32), "in `cast(flag as date32)`: cannot cast boolean to date32");
    check_refused(coalesce(Vec::<Expr>::new()), "in `coalesce()`: needs at least one value");
}

#[test]
fn a_predicate_that_is_no_condition_is_refused() {
    let error = (col("i8") + 1).bind_predicate(&batch().schema()).expect_err("is refused");
    assert_eq!(error.to_string(), "`i8 + 1` is int8, not boolean: a filter needs a condition such as a comparison");
}

#[test]
fn an_overflow_names_the_part_of_the_expression() {
    let message = |expr: Expr| evaluate(&expr, &batch()).expect_err("overflows").to_string();
    assert!(message((col("i64") + 1).gt(0)).starts_with("cannot compute `i64 + 1`: "));
    assert!(message(col("i8").abs() * 2).starts_with("cannot compute `abs(i8)`: "));
    assert!(message(-col("i8")).starts_with("cannot compute `-i8`: "));
    assert!(message(col("u64") + col("i8")).starts_with("cannot compute `u64`: "), "u64::MAX is no int64");
    assert!(message(col("text").cast(DataType::Int8)).starts_with("cannot compute `cast(text as int8)`: "));
}

#[test]
fn a_constant_without_a_value_is_found_before_any_row() {
    let error = (col("i8") + (lit(i8::MAX) + lit(1i8))).bind(&batch().schema()).expect_err("overflows");
    assert!(matches!(&error, ExprError::Evaluate { expr, .. } if expr == "127 + 1"), "{error}");
}

#[test]
fn a_tree_that_is_too_deep_is_refused_when_bound() {
    let deep = (0..10_000).fold(col("i64"), |expr, _| expr + 1);
    assert!(matches!(deep.bind(&batch().schema()), Err(ExprError::TooDeep { depth: 10_001 })));
}

#[test]
fn a_call_with_a_wrong_number_of_arguments_is_refused() {
    let call = Expr::Call { function: Function::Contains, args: vec![col("text")] };
    check_refused(call, "in `contains(text)`: contains takes 2 arguments, not 1");
}

#[test]
fn a_batch_of_another_schema_is_refused() {
    let bound = col("zero").gt(0).bind(&batch().schema()).expect("binds");
    let narrow = batch().project(&[0, 1]).expect("columns exist");
    let message = bound.evaluate(&narrow).expect_err("has no such column").to_string();
    assert_eq!(message, "column \"zero\" was int32 when the expression was bound, and is missing");
}

#[test]
fn nested_columns_take_null_tests_and_refuse_comparison() {
    let mut lists = arrow::array::ListBuilder::new(arrow::array::Int32Builder::new());
    lists.append_value([Some(1)]);
    lists.append_null();
    let column: ArrayRef = Arc::new(lists.finish());
    check_column(Arc::clone(&column), col("x").is_null(), &["false", "true"]);
    let batch = RecordBatch::try_from_iter([("x", column)]).expect("one column");
    for op in [BinaryOp::Eq, BinaryOp::Lt, BinaryOp::Add] {
        let expr = Expr::Binary { left: Box::new(col("x")), op, right: Box::new(col("x")) };
        let message = expr.bind(&batch.schema()).expect_err("is refused").to_string();
        assert!(message.contains("list(int32)"), "{message}");
    }
    assert!(col("x").is_in([Literal::Int8(1)]).bind(&batch.schema()).is_err());
}
