//! Values of each family of expressions, also over the less common column types.

use super::*;
use crate::expr::{coalesce, col, lit, when};
use arrow::array::{
    BinaryArray, Date32Array, Decimal128Array, DictionaryArray, Float16Array, LargeStringArray, NullArray,
    StringViewArray, TimestampMicrosecondArray, TimestampSecondArray, new_empty_array,
};
use arrow::datatypes::{Int8Type, TimeUnit};

#[test]
fn arithmetic_on_integers_is_whole_and_null_over_zero() {
    check(col("i32") + 1, ["2", "null", "-6"]);
    check(col("i32") / 2, ["0", "null", "-3"]);
    check(col("i32") % 2, ["1", "null", "-1"]);
    check(col("i32") / col("zero"), ["null", "null", "null"]);
    check(col("i32") % 0, ["null", "null", "null"]);
    check(lit(7) / lit(0), ["null", "null", "null"]);
    check(-col("i32"), ["-1", "null", "7"]);
    check(lit(2) * 3, ["6", "6", "6"]);
}

#[test]
fn arithmetic_on_floats_is_that_of_rust() {
    check(col("f32") / 0, ["inf", "null", "inf"]);
    check(col("f64") - 0.5, ["1.0", "null", "NaN"]);
    check(col("i32") / 2.0, ["0.5", "null", "-3.5"]);
}

#[test]
fn comparison_is_exact_between_all_integers() {
    check(col("u64").gt(col("i64")), ["false", "null", "true"]);
    check(col("u8").gt(-1), ["true", "null", "true"]);
    check(col("i8").lt(1000), ["true", "null", "true"]);
    check(col("i32").between(-7, 0), ["false", "null", "true"]);
    check(lit(1).eq(col("i32")), ["true", "null", "false"]);
}

#[test]
fn comparison_of_floats_is_that_of_rust() {
    check(col("f64").eq(col("f64")), ["true", "null", "false"]);
    check(col("f64").ne(1.5), ["false", "null", "true"]);
    check(col("f64").gt(0.0), ["true", "null", "false"]);
    let zeros = || -> ArrayRef { Arc::new(Float64Array::from(vec![0.0, -0.0, -f64::NAN])) };
    check_column(zeros(), col("x").eq(0.0), &["true", "true", "false"]);
    check_column(zeros(), col("x").lt(0.0), &["false", "false", "false"]);
    check_column(zeros(), lit(-0.0).gt_eq(col("x")), &["true", "true", "false"]);
    check_column(zeros(), col("x").is_in([0.0, f64::NAN]), &["true", "true", "false"]);
    let halves: ArrayRef = Arc::new(Float16Array::from(vec![half(1.0), half(2.0)]));
    check_column(Arc::clone(&halves), col("x").gt(1), &["false", "true"]);
    check_column(halves, col("x").sqrt().lt_eq(1.0), &["true", "false"]);
}

fn half(value: f32) -> <arrow::datatypes::Float16Type as arrow::array::ArrowPrimitiveType>::Native {
    <arrow::datatypes::Float16Type as arrow::array::ArrowPrimitiveType>::Native::from_f32(value)
}

#[test]
fn conditions_follow_the_logic_of_three_values() {
    check(col("flag").and(false), ["false", "false", "false"]);
    check(col("flag").or(true), ["true", "true", "true"]);
    check(col("flag").and(None::<bool>), ["null", "null", "false"]);
    check(!col("flag"), ["false", "null", "true"]);
    check(col("flag").is_null(), ["false", "true", "false"]);
    check(col("flag").is_not_null().and(col("flag")), ["true", "false", "false"]);
}

#[test]
fn a_list_finds_values_and_is_unknown_about_null() {
    check(col("i32").is_in([1, 2]), ["true", "null", "false"]);
    check(col("i32").is_in([1.5, -7.0]), ["false", "null", "true"]);
    check(col("u8").is_in([-1, 300, 255]), ["false", "null", "true"]);
    check(col("i32").is_in([Some(1), None]), ["true", "null", "null"]);
    check(col("i32").is_in((0..100).map(|n| n * 2 - 7)), ["true", "null", "true"]);
    check(col("text").is_in(["x", "y"]), ["false", "null", "true"]);
    check(col("text").is_in(('a'..='z').map(String::from)), ["false", "null", "true"]);
    check(col("i32").is_in(Vec::<i32>::new()), ["false", "null", "false"]);
}

#[test]
fn a_choice_takes_the_first_value_that_applies() {
    check(when(col("flag")).then(1).otherwise(2), ["1", "2", "2"]);
    check(when(col("i32").ne(0)).then(col("zero") / col("i32")).otherwise(-1), ["0", "-1", "0"]);
    check(when(true).then(col("i32")).otherwise(0), ["1", "null", "-7"]);
    check(coalesce([col("i32"), lit(5)]), ["1", "5", "-7"]);
    check(col("text").fill_null("none"), ["Äpfel ", "none", "x"]);
    check(coalesce([lit(None::<i32>), col("zero"), col("i32")]), ["0", "0", "0"]);
}

#[test]
fn a_choice_between_constant_string_views_keeps_every_byte() {
    let view = |text: &str| lit(text).cast(DataType::Utf8View);
    for (then, otherwise) in [("", "nine char"), ("nine char", "x"), ("longer than a view holds", "twelve chars")] {
        check(when(col("flag")).then(view(then)).otherwise(view(otherwise)), [then, otherwise, otherwise]);
        check(when(col("flag")).then(view(otherwise)).otherwise(view(then)), [otherwise, then, then]);
    }
}

#[test]
fn strings_are_changed_character_by_character() {
    check(col("text").lower(), ["äpfel ", "null", "x"]);
    check(col("text").trim().upper(), ["ÄPFEL", "null", "X"]);
    check(col("text").length(), ["6", "null", "1"]);
    check(col("text").substring(0, 2), ["Äp", "null", "x"]);
    check(col("text").substring(-3, 2), ["el", "null", "x"]);
    check(col("text").substring(5, None), [" ", "null", ""]);
    check(col("text").replace("p", "PP"), ["ÄPPfel ", "null", "x"]);
    check(col("text").replace(col("text"), "-"), ["-", "null", "-"]);
}

#[test]
fn strings_are_searched_and_matched() {
    check(col("text").contains("fel"), ["true", "null", "false"]);
    check(col("text").starts_with("Ä"), ["true", "null", "false"]);
    check(col("text").ends_with("x"), ["false", "null", "true"]);
    check(col("text").like("Ä%l_"), ["true", "null", "false"]);
    check(col("text").ilike("X"), ["false", "null", "true"]);
    check(lit("xyz").contains(col("text")), ["false", "null", "true"]);
}

#[test]
fn functions_of_numbers_are_those_of_rust() {
    check(col("f32").round(), ["1.0", "null", "3.0"]);
    check(col("f32").floor(), ["0.0", "null", "2.0"]);
    check(col("f32").ceil(), ["1.0", "null", "3.0"]);
    check(col("i32").abs(), ["1", "null", "7"]);
    check(col("u8").abs(), ["1", "null", "255"]);
    check(col("i32").sqrt(), ["1.0", "null", "NaN"]);
    check(col("f64").is_nan(), ["false", "null", "true"]);
}

#[test]
fn casts_refuse_or_null_what_does_not_fit() {
    check(col("i32").cast(DataType::Utf8), ["1", "null", "-7"]);
    check(col("text").try_cast(DataType::Int32), ["null", "null", "null"]);
    check(lit("2009-01-05").cast(DataType::Date32), ["2009-01-05", "2009-01-05", "2009-01-05"]);
}

#[test]
fn every_string_type_takes_every_string_function() {
    let columns: [ArrayRef; 4] = [
        Arc::new(StringArray::from(vec![Some("ab"), None, Some("c")])),
        Arc::new(LargeStringArray::from(vec![Some("ab"), None, Some("c")])),
        Arc::new(StringViewArray::from(vec![Some("ab"), None, Some("c")])),
        Arc::new(DictionaryArray::<Int8Type>::from_iter([Some("ab"), None, Some("c")])),
    ];
    for column in columns {
        let check = |expr: Expr, values: &[&str]| check_column(Arc::clone(&column), expr, values);
        check(col("x").eq("ab"), &["true", "null", "false"]);
        check(lit("b").lt(col("x")), &["false", "null", "true"]);
        check(col("x").eq(col("x")), &["true", "null", "true"]);
        check(col("x").is_null(), &["false", "true", "false"]);
        check(col("x").is_in(["c"]), &["false", "null", "true"]);
        check(col("x").upper(), &["AB", "null", "C"]);
        check(col("x").length(), &["2", "null", "1"]);
        check(col("x").replace("a", "").substring(0, 1), &["b", "null", "c"]);
        check(col("x").starts_with("a"), &["true", "null", "false"]);
        check(col("x").like("_"), &["false", "null", "true"]);
        check(col("x").fill_null("?"), &["ab", "?", "c"]);
        check(when(col("x").eq("c")).then("!").otherwise(col("x")), &["ab", "null", "!"]);
        check_column(new_empty_array(column.data_type()), col("x").eq("ab").and(col("x").like("a%")), &[]);
    }
}

#[test]
fn a_dictionary_of_nulls_only_compares_to_null() {
    let nulls = || -> ArrayRef { Arc::new(DictionaryArray::<Int8Type>::from_iter([None::<&str>, None])) };
    check_column(nulls(), col("x").eq("a"), &["null", "null"]);
    check_column(nulls(), col("x").contains("a"), &["null", "null"]);
    check_column(nulls(), col("x").is_null(), &["true", "true"]);
    let inside = DictionaryArray::<Int8Type>::try_new(
        arrow::array::Int8Array::from(vec![0, 1]),
        Arc::new(StringArray::from(vec![None, Some("a")])),
    );
    let inside: ArrayRef = Arc::new(inside.expect("keys are in range"));
    check_column(Arc::clone(&inside), col("x").eq("a"), &["null", "true"]);
    check_column(Arc::clone(&inside), col("x").is_null(), &["true", "false"]);
    check_column(inside, col("x").is_in(["a"]), &["null", "true"]);
}

#[test]
fn dates_and_timestamps_compare_across_units() {
    let dates = || -> ArrayRef { Arc::new(Date32Array::from(vec![Some(0), None, Some(20_000)])) };
    let day = lit("1970-01-02").cast(DataType::Date32);
    check_column(dates(), col("x").lt(day.clone()), &["true", "null", "false"]);
    let second = lit("1970-01-01T00:00:01").cast(DataType::Timestamp(TimeUnit::Second, None));
    check_column(dates(), col("x").gt(second.clone()), &["false", "null", "true"]);
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(999_999), None, Some(1_000_001)]));
    check_column(Arc::clone(&times), col("x").gt_eq(second.clone()), &["false", "null", "true"]);
    check_column(
        times,
        (col("x") - second).gt(lit(0i64).cast(DataType::Duration(TimeUnit::Microsecond))),
        &["false", "null", "true"],
    );
    let zoned: ArrayRef = Arc::new(TimestampSecondArray::from(vec![0]).with_timezone("+02:00"));
    let other = lit("1970-01-01T00:00:00Z").cast(DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())));
    check_column(zoned, col("x").eq(other), &["true"]);
}

#[test]
fn decimals_calculate_and_compare_exactly() {
    let fares = || -> ArrayRef {
        let cents = Decimal128Array::from(vec![Some(1050), None, Some(10)]);
        Arc::new(cents.with_precision_and_scale(10, 2).expect("fits"))
    };
    check_column(fares(), col("x").gt(10), &["true", "null", "false"]);
    check_column(fares(), col("x").eq(0.1), &["false", "null", "true"]);
    check_column(fares(), col("x") + 1, &["11.50", "null", "1.10"]);
    check_column(fares(), -col("x"), &["-10.50", "null", "-0.10"]);
    check_column(fares(), (-col("x")).abs(), &["10.50", "null", "0.10"]);
    check_column(fares(), (col("x") / 0).is_null(), &["true", "true", "true"]);
    check_column(fares(), col("x") * 0.5, &["5.25", "null", "0.05"]);
    check_column(fares(), col("x").is_in([10.5]), &["true", "null", "false"]);
    check_column(fares(), col("x").fill_null(0), &["10.50", "0.00", "0.10"]);
}

#[test]
fn bytes_and_untyped_nulls_compare() {
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(b"a".as_slice()), None]));
    check_column(bytes, col("x").eq(b"a".as_slice()), &["true", "null"]);
    let nulls = || -> ArrayRef { Arc::new(NullArray::new(2)) };
    check_column(nulls(), col("x").gt(1), &["null", "null"]);
    check_column(nulls(), col("x").is_null(), &["true", "true"]);
    check_column(nulls(), col("x") + 1, &["null", "null"]);
    check_column(nulls(), col("x").fill_null("a"), &["a", "a"]);
    check_column(nulls(), col("x").and(false), &["false", "false"]);
}
