//! Every operation over every type of column: it is refused when it is bound, or gives values of the type it said.

use super::*;
use crate::expr::{BinaryOp, Function, Literal, UnaryOp, coalesce, col, lit, when};
use arrow::array::{new_empty_array, new_null_array};
use arrow::compute::{can_cast_types, cast, concat};
use arrow::datatypes::{Field, IntervalUnit, TimeUnit};

fn types() -> Vec<DataType> {
    use DataType::*;
    let plain = [
        Null,
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float16,
        Float32,
        Float64,
        Date32,
        Date64,
        Utf8,
        LargeUtf8,
        Utf8View,
        Binary,
        LargeBinary,
        BinaryView,
        FixedSizeBinary(4),
    ];
    let with_parameters = [
        Timestamp(TimeUnit::Second, None),
        Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        Time32(TimeUnit::Millisecond),
        Time64(TimeUnit::Nanosecond),
        Duration(TimeUnit::Second),
        Duration(TimeUnit::Nanosecond),
        Interval(IntervalUnit::YearMonth),
        Interval(IntervalUnit::DayTime),
        Interval(IntervalUnit::MonthDayNano),
        Decimal32(9, 2),
        Decimal64(18, 0),
        Decimal128(38, 10),
        Decimal256(76, -3),
        Dictionary(Box::new(Int8), Box::new(Utf8)),
        Dictionary(Box::new(UInt16), Box::new(Float64)),
        Dictionary(Box::new(Int32), Box::new(Int64)),
        Dictionary(Box::new(Int32), Box::new(Timestamp(TimeUnit::Second, None))),
        RunEndEncoded(Field::new("run_ends", Int32, false).into(), Field::new("values", Utf8, true).into()),
        RunEndEncoded(Field::new("run_ends", Int16, false).into(), Field::new("values", Float32, true).into()),
        DataType::new_list(Int32, true),
        DataType::new_fixed_size_list(Float32, 2, true),
        Struct(vec![Field::new("a", Int8, true)].into()),
    ];
    plain.into_iter().chain(with_parameters).collect()
}

/// A null, and the value 1 where the type can hold it, or no row at all.
fn arrays(of: &DataType) -> Vec<ArrayRef> {
    let one: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let made = [one, text].into_iter().filter(|from| can_cast_types(from.data_type(), of));
    let values = made.filter_map(|from| cast(&from, of).ok()).next();
    let null = new_null_array(of, 1);
    let both = values.and_then(|value| concat(&[&value, &null]).ok()).unwrap_or_else(|| Arc::clone(&null));
    vec![both, null, new_empty_array(of)]
}

/// Evaluates what binds; panics if a value has another type than was said, or another length.
fn check_all(a: &DataType, b: &DataType, exprs: &[Expr]) -> usize {
    let mut bound = 0;
    for (x, y) in arrays(a).into_iter().zip(arrays(b)) {
        let rows = x.len().min(y.len());
        let columns = [("x", x.slice(0, rows), true), ("y", y.slice(0, rows), true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length");
        for expr in exprs {
            let Ok(expr) = expr.bind(&batch.schema()) else { continue };
            bound += 1;
            let Ok(result) = expr.evaluate(&batch) else { continue };
            assert_eq!(result.data_type(), expr.data_type(), "{a} and {b}: {}", expr.field().name());
            assert_eq!(result.len(), rows, "{a} and {b}: {}", expr.field().name());
        }
    }
    bound
}

fn functions() -> Vec<Expr> {
    use Function::*;
    let one = [Abs, Round, Floor, Ceil, Sqrt, IsNan, Lower, Upper, Trim, Length, Substring { start: -1, length: None }];
    let two = [Contains, StartsWith, EndsWith, Like, ILike, Coalesce];
    let one = one.map(|function| Expr::Call { function, args: vec![col("x")] });
    let two = two.map(|function| Expr::Call { function, args: vec![col("x"), lit("1")] });
    one.into_iter().chain(two).chain([col("x").replace("1", "2")]).collect()
}

fn literals() -> Vec<Literal> {
    vec![true.into(), 1i8.into(), (-1i64).into(), u64::MAX.into(), 0.1f32.into(), f64::NAN.into(), "1".into()]
}

const BINARY: [BinaryOp; 13] = [
    BinaryOp::Add,
    BinaryOp::Subtract,
    BinaryOp::Multiply,
    BinaryOp::Divide,
    BinaryOp::Remainder,
    BinaryOp::Eq,
    BinaryOp::NotEq,
    BinaryOp::Lt,
    BinaryOp::LtEq,
    BinaryOp::Gt,
    BinaryOp::GtEq,
    BinaryOp::And,
    BinaryOp::Or,
];

#[test]
fn every_operation_on_one_column_is_refused_or_works() {
    let mut exprs = functions();
    exprs.extend([UnaryOp::Not, UnaryOp::Negate, UnaryOp::IsNull, UnaryOp::IsNotNull].map(|op| col("x").unary(op)));
    for literal in literals() {
        exprs.extend(BINARY.map(|op| col("x").binary(op, literal.clone())));
        exprs.push(col("x").is_in([literal.clone()]));
        exprs.push(col("x").is_in(vec![literal.clone(); 20]));
        exprs.push(lit(literal).binary(BinaryOp::Divide, col("x")));
    }
    for of in types() {
        assert!(check_all(&of, &DataType::Null, &exprs) > 0, "{of} takes null tests at least");
    }
}

#[test]
fn every_operation_on_two_columns_is_refused_or_works() {
    let mut exprs: Vec<_> = BINARY.into_iter().map(|op| col("x").binary(op, col("y"))).collect();
    exprs.push(coalesce([col("x"), col("y")]));
    exprs.push(when(col("x").is_null()).then(col("x")).otherwise(col("y")));
    for (a, b) in types().iter().flat_map(|a| types().into_iter().map(move |b| (a.clone(), b))) {
        check_all(&a, &b, &exprs);
    }
}

#[test]
fn every_cast_is_refused_or_works() {
    for (a, b) in types().iter().flat_map(|a| types().into_iter().map(move |b| (a.clone(), b))) {
        check_all(&a, &DataType::Null, &[col("x").cast(b.clone()), col("x").try_cast(b)]);
    }
}

#[test]
fn every_type_that_is_not_nested_compares_with_itself() {
    for of in types().into_iter().filter(|of| !of.is_nested()) {
        assert!(check_all(&of, &of, &[col("x").lt(col("y"))]) > 0, "{of}");
    }
}
