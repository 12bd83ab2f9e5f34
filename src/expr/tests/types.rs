//! The promotion rules as they are written in the documentation of the module.

use super::*;
use crate::expr::{coalesce, col, lit, when};

#[test]
fn a_literal_takes_the_type_of_the_column_where_it_loses_nothing() {
    check_type(col("i8") + 5, DataType::Int8);
    check_type(col("u8") + 5, DataType::UInt8);
    check_type(lit(5) + col("i64"), DataType::Int64);
    check_type(col("f32") * 2, DataType::Float32);
    check_type(col("f32") * 2.5, DataType::Float32);
    check_type(col("i64") + -lit(5), DataType::Int64);
}

#[test]
fn a_literal_that_would_lose_something_is_a_value_like_any_other() {
    check_type(col("i8") + 500, DataType::Int32);
    check_type(col("u8") - lit(-1), DataType::Int32);
    check_type(col("f32") * 0.1, DataType::Float64);
    check_type(col("i32") * 2.0, DataType::Float64);
    check_type(col("i32") + lit(5).cast(DataType::Int64), DataType::Int64);
}

#[test]
fn columns_go_to_the_wider_type() {
    check_type(col("i8") + col("i32"), DataType::Int32);
    check_type(col("i8") + col("u8"), DataType::Int16);
    check_type(col("u64") + col("i32"), DataType::Int64);
    check_type(col("i8") * col("f32"), DataType::Float64);
    check_type(col("f32") * col("f64"), DataType::Float64);
}

#[test]
fn a_comparison_of_integers_casts_no_column() {
    let bound = col("i8").gt(10.0).bind(&batch().schema()).expect("binds");
    assert!(!format!("{bound:?}").contains("Cast"), "{bound:?}");
    let bound = (col("i8") + 5).bind(&batch().schema()).expect("binds");
    assert!(!format!("{bound:?}").contains("Cast"), "{bound:?}");
}

#[test]
fn a_choice_has_the_type_that_holds_all_its_values() {
    check_type(coalesce([col("i8"), lit(0)]), DataType::Int8);
    check_type(coalesce([lit(0), col("i8")]), DataType::Int8);
    check_type(col("i8").fill_null(0.5), DataType::Float64);
    check_type(when(col("flag")).then(1).otherwise(2i64), DataType::Int64);
    check_type(when(col("flag")).then(col("f32")).otherwise(None::<f64>), DataType::Float32);
    check_type(when(col("flag")).then("a").otherwise(col("text")), DataType::Utf8);
}

#[test]
fn functions_have_the_types_they_document() {
    check_type(col("text").length(), DataType::Int64);
    check_type(col("text").upper(), DataType::Utf8);
    check_type(col("i8").abs(), DataType::Int8);
    check_type(col("i8").sqrt(), DataType::Float64);
    check_type(col("f32").sqrt(), DataType::Float32);
    check_type(col("f64").is_nan(), DataType::Boolean);
    check_type(col("text").like("x%"), DataType::Boolean);
}

#[test]
fn nullability_follows_the_values() {
    let null = |expr: Expr| expr.data_type(&batch().schema()).expect("binds").1;
    assert!(!null(lit(1)) && null(lit(None::<i32>)) && null(col("i8")));
    assert!(!null(col("i8").is_null()) && !null(col("i8").fill_null(0)));
    assert!(null(lit(7) / 0), "division by zero is null");
    assert!(null(col("i8").try_cast(DataType::Utf8)));
}
