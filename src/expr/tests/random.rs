//! Random small expressions over random small batches: the evaluation agrees with the plain interpreter.

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{Float64Type, Int64Type};
use proptest::prelude::*;
use proptest::strategy::Union;

use super::interpreter::{Plain, Row, Type, interpret, type_of};
use super::*;
use crate::expr::{BinaryOp, col, lit, when};

type Made = BoxedStrategy<Expr>;

fn one_of(made: Vec<Made>) -> Made {
    Union::new(made).boxed()
}

fn binary(left: Made, ops: &'static [BinaryOp], right: Made) -> Made {
    let made = (left, prop::sample::select(ops), right);
    made.prop_map(|(left, op, right)| Expr::Binary { left: Box::new(left), op, right: Box::new(right) }).boxed()
}

fn choice(depth: u32, value: fn(u32) -> Made) -> Made {
    let made = (condition(depth), value(depth), value(depth));
    made.prop_map(|(condition, then, otherwise)| when(condition).then(then).otherwise(otherwise)).boxed()
}

fn filled(depth: u32, value: fn(u32) -> Made) -> Made {
    (value(depth), value(depth)).prop_map(|(a, b)| a.fill_null(b)).boxed()
}

const ARITHMETIC: &[BinaryOp] =
    &[BinaryOp::Add, BinaryOp::Subtract, BinaryOp::Multiply, BinaryOp::Divide, BinaryOp::Remainder];
const COMPARISON: &[BinaryOp] =
    &[BinaryOp::Eq, BinaryOp::NotEq, BinaryOp::Lt, BinaryOp::LtEq, BinaryOp::Gt, BinaryOp::GtEq];

fn integer(depth: u32) -> Made {
    let literal = prop_oneof![(-3..4i32).prop_map(lit), prop::sample::select(vec![300, i32::MAX]).prop_map(lit)];
    let leaf = prop_oneof![3 => prop::sample::select(vec!["i", "l", "u"]).prop_map(col), 1 => literal].boxed();
    let Some(depth) = depth.checked_sub(1) else { return leaf };
    one_of(vec![
        leaf,
        binary(integer(depth), ARITHMETIC, integer(depth)),
        integer(depth).prop_map(|a| -a).boxed(),
        integer(depth).prop_map(Expr::abs).boxed(),
        text(depth).prop_map(Expr::length).boxed(),
        filled(depth, integer),
        choice(depth, integer),
    ])
}

fn float(depth: u32) -> Made {
    let literal = prop::sample::select(vec![0.0, -0.0, 1.5, f64::NAN]).prop_map(lit);
    let leaf = prop_oneof![2 => Just(col("f")), 1 => literal].boxed();
    let Some(depth) = depth.checked_sub(1) else { return leaf };
    one_of(vec![
        leaf,
        binary(float(depth), ARITHMETIC, float(depth)),
        binary(float(depth), ARITHMETIC, integer(depth)),
        integer(depth).prop_map(Expr::sqrt).boxed(),
        float(depth).prop_map(Expr::floor).boxed(),
        filled(depth, float),
        choice(depth, float),
    ])
}

fn text(depth: u32) -> Made {
    let leaf = prop_oneof![Just(col("s")), prop::sample::select(vec!["", "a", "Ä b"]).prop_map(lit)].boxed();
    let Some(depth) = depth.checked_sub(1) else { return leaf };
    let part = (text(depth), -3..4i64, prop::option::of(0..3u64));
    one_of(vec![
        leaf,
        text(depth).prop_map(Expr::upper).boxed(),
        text(depth).prop_map(Expr::trim).boxed(),
        part.prop_map(|(text, start, length)| text.substring(start, length)).boxed(),
        (text(depth), text(depth), text(depth)).prop_map(|(a, b, c)| a.replace(b, c)).boxed(),
        filled(depth, text),
        choice(depth, text),
    ])
}

fn condition(depth: u32) -> Made {
    let leaf = prop_oneof![3 => Just(col("b")), 1 => any::<bool>().prop_map(lit)].boxed();
    let Some(depth) = depth.checked_sub(1) else { return leaf };
    one_of(vec![
        leaf,
        binary(integer(depth), COMPARISON, integer(depth)),
        binary(integer(depth), COMPARISON, float(depth)),
        binary(float(depth), COMPARISON, float(depth)),
        binary(text(depth), COMPARISON, text(depth)),
        binary(condition(depth), &[BinaryOp::And, BinaryOp::Or], condition(depth)),
        condition(depth).prop_map(|a| !a).boxed(),
        integer(depth).prop_map(Expr::is_null).boxed(),
        text(depth).prop_map(Expr::is_not_null).boxed(),
        (integer(depth), prop::collection::vec(-9..9i32, 0..12)).prop_map(|(a, list)| a.is_in(list)).boxed(),
        (text(depth), text(depth)).prop_map(|(a, b)| a.contains(b)).boxed(),
        (text(depth), text(depth)).prop_map(|(a, b)| a.starts_with(b)).boxed(),
    ])
}

fn row() -> impl Strategy<Value = Row> {
    let number = |small: std::ops::Range<i128>, edges: Vec<i128>| {
        let value = prop_oneof![4 => small, 1 => prop::sample::select(edges)];
        prop_oneof![4 => value.prop_map(Plain::Int), 1 => Just(Plain::Null)]
    };
    let float = prop::sample::select(vec![0.0, -0.0, 1.5, -2.0, 1e300, f64::NAN, f64::INFINITY]);
    let text = prop::sample::select(vec!["", "a", "Ä b", " ab ", "bßc"]);
    (
        number(-4..5, vec![i128::from(i32::MIN), i128::from(i32::MAX)]),
        number(-4..5, vec![i128::from(i64::MIN), i128::from(i64::MAX)]),
        number(0..5, vec![255]),
        prop_oneof![4 => float.prop_map(Plain::Float), 1 => Just(Plain::Null)],
        prop_oneof![4 => any::<bool>().prop_map(Plain::Bool), 1 => Just(Plain::Null)],
        prop_oneof![4 => text.prop_map(|text| Plain::Text(text.to_owned())), 1 => Just(Plain::Null)],
    )
        .prop_map(|(i, l, u, f, b, s)| Row::from([("i", i), ("l", l), ("u", u), ("f", f), ("b", b), ("s", s)]))
}

fn integers<T: TryFrom<i128>>(rows: &[Row], name: &str) -> Vec<Option<T>> {
    let value = |row: &Row| match row[name] {
        Plain::Int(value) => value.try_into().ok(),
        _ => None,
    };
    rows.iter().map(value).collect()
}

/// A batch of the rows, with the strings in one of the types that hold strings.
fn to_batch(rows: &[Row], text_type: &DataType) -> RecordBatch {
    let f = rows.iter().map(|row| if let Plain::Float(value) = row["f"] { Some(value) } else { None });
    let b = rows.iter().map(|row| if let Plain::Bool(value) = row["b"] { Some(value) } else { None });
    let s = rows.iter().map(|row| if let Plain::Text(value) = &row["s"] { Some(value.clone()) } else { None });
    let s: ArrayRef = Arc::new(s.collect::<StringArray>());
    let columns: [(&str, ArrayRef, bool); 6] = [
        ("i", Arc::new(Int32Array::from(integers::<i32>(rows, "i"))), true),
        ("l", Arc::new(Int64Array::from(integers::<i64>(rows, "l"))), true),
        ("u", Arc::new(UInt8Array::from(integers::<u8>(rows, "u"))), true),
        ("f", Arc::new(f.collect::<Float64Array>()), true),
        ("b", Arc::new(b.collect::<BooleanArray>()), true),
        ("s", cast(&s, text_type).expect("strings to strings"), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

fn to_plain(array: &ArrayRef, of: Type) -> Vec<Plain> {
    let wide = |to| cast(array, &to).expect("a widening cast");
    let (integers, floats, texts) = (DataType::Int64, DataType::Float64, DataType::Utf8);
    match of {
        Type::Int { .. } => each(wide(integers).as_primitive::<Int64Type>().iter(), |v| Plain::Int(v.into())),
        Type::Float => each(wide(floats).as_primitive::<Float64Type>().iter(), Plain::Float),
        Type::Bool => each(array.as_boolean().iter(), Plain::Bool),
        Type::Text => each(wide(texts).as_string::<i32>().iter(), |v| Plain::Text(v.to_owned())),
    }
}

fn each<T>(values: impl Iterator<Item = Option<T>>, plain: impl Fn(T) -> Plain) -> Vec<Plain> {
    values.map(|value| value.map_or(Plain::Null, &plain)).collect()
}

/// Equal, where NaN is NaN and each zero is itself.
fn same(a: &Plain, b: &Plain) -> bool {
    match (a, b) {
        (Plain::Float(a), Plain::Float(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        _ => a == b,
    }
}

fn text_types() -> impl Strategy<Value = DataType> {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    prop::sample::select(vec![DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, dictionary])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_random_expression_evaluates_as_a_plain_interpreter_does(
        expr in prop_oneof![integer(3), float(3), text(3), condition(3)],
        rows in prop::collection::vec(row(), 0..8),
        (before, after) in (0usize..3, 0usize..3),
        text_type in text_types(),
    ) {
        let whole = to_batch(&rows, &text_type);
        let from = before.min(rows.len());
        let to = (rows.len() - after.min(rows.len())).max(from);
        let (batch, rows) = (whole.slice(from, to - from), &rows[from..to]);
        agrees(&expr, &batch, rows)?;
    }

    #[test]
    fn a_random_expression_comes_back_from_the_wire(expr in condition(4)) {
        let bytes = mobula_actors::function::encode(&expr).expect("encodes");
        let back: Expr = mobula_actors::function::decode(&bytes).expect("decodes");
        prop_assert_eq!(format!("{back:?}"), format!("{expr:?}"));
        prop_assert!(back.depth() <= 12);
    }

    #[test]
    fn any_bytes_decode_to_an_expression_or_fail_without_harm(bytes: Vec<u8>) {
        let _ = mobula_actors::function::decode::<Expr>(&bytes);
    }
}

/// Checks that the evaluation over a batch gives, or fails, what the interpreter does for its rows.
fn agrees(expr: &Expr, batch: &RecordBatch, rows: &[Row]) -> Result<(), TestCaseError> {
    // Constants are computed even for no rows.
    let unknown = no_row();
    let expected: Result<Vec<_>, _> = std::iter::once(&unknown).chain(rows).map(|row| interpret(expr, row)).collect();
    match (evaluate(expr, batch), expected) {
        (Ok(array), Ok(expected)) => {
            let found = to_plain(&array, type_of(expr));
            prop_assert_eq!(found.len(), rows.len());
            for (found, expected) in found.iter().zip(&expected[1..]) {
                prop_assert!(same(found, expected), "{}: {:?} instead of {:?}", expr, found, expected);
            }
            let (_, nullable) = expr.data_type(&batch.schema()).expect("just bound");
            prop_assert!(nullable || array.logical_null_count() == 0, "{} is said to have no nulls", expr);
        }
        (Err(_), Err(_)) => {}
        (found, expected) => prop_assert!(false, "{}: {:?} instead of {:?}", expr, found, expected),
    }
    Ok(())
}

fn no_row() -> Row {
    ["i", "l", "u", "f", "b", "s"].into_iter().map(|name| (name, Plain::Unknown)).collect()
}

fn row_of_nulls() -> Row {
    ["i", "l", "u", "f", "b", "s"].into_iter().map(|name| (name, Plain::Null)).collect()
}

/// Checks whether an expression fails over no rows and over a row of nulls, and that the interpreter agrees.
#[track_caller]
fn check_failures(expr: Expr, without_rows: bool, with_nulls: bool) {
    for (rows, fails) in [(vec![], without_rows), (vec![row_of_nulls()], with_nulls)] {
        let batch = to_batch(&rows, &DataType::Utf8);
        assert_eq!(evaluate(&expr, &batch).is_err(), fails, "{expr} over {} rows", rows.len());
        agrees(&expr, &batch, &rows).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn an_overflow_that_needs_a_row_of_nulls_does_not_happen_without_rows() {
    let overflow = || col("u").fill_null(i32::MAX) * lit(300).fill_null(col("i"));
    check_failures(overflow().is_null(), false, true);
    // Nor where the part that overflows is not chosen by the constant before it.
    check_failures(lit(1).fill_null(overflow()), false, true);
    check_failures(col("i") * i32::MAX, false, false);
}

#[test]
fn an_overflow_of_constants_is_found_without_rows() {
    check_failures(lit(i32::MAX) * 300, true, true);
    check_failures(col("i") + lit(i32::MAX) * 300, true, true);
    // A choice that no row can change is a constant.
    check_failures(lit(300).fill_null(col("i")) * i32::MAX, true, true);
    check_failures(when(lit(true)).then(i32::MAX).otherwise(col("i")) * 300, true, true);
    check_failures(when(col("b")).then(i32::MAX).otherwise(col("i")) * 300, false, false);
}
