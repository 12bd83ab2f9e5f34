//! Comparison. Floats compare as in Rust, all other types by Arrow's kernels.

use arrow::array::{Array, ArrowPrimitiveType, AsArray, BooleanArray, Datum};
use arrow::compute::kernels::cmp;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;

use super::unknown;
use crate::expr::tree::BinaryOp;
use crate::expr::value::Value;

/// Compares two values of one type (a dictionary counts as the type of its values).
pub(super) fn compare(left: &Value, op: BinaryOp, right: &Value) -> Result<Value, ArrowError> {
    let scalar = left.is_scalar() && right.is_scalar();
    let result = match (left.array().data_type(), right.array().data_type()) {
        (DataType::Float16, DataType::Float16) => floats::<Float16Type>(left, op, right),
        (DataType::Float32, DataType::Float32) => floats::<Float32Type>(left, op, right),
        (DataType::Float64, DataType::Float64) => floats::<Float64Type>(left, op, right),
        _ => kernel(op)(left, right)?,
    };
    Ok(Value::boolean(result, scalar))
}

fn kernel(op: BinaryOp) -> fn(&dyn Datum, &dyn Datum) -> Result<BooleanArray, ArrowError> {
    match op {
        BinaryOp::Eq => cmp::eq,
        BinaryOp::NotEq => cmp::neq,
        BinaryOp::Lt => cmp::lt,
        BinaryOp::LtEq => cmp::lt_eq,
        BinaryOp::Gt => cmp::gt,
        _ => cmp::gt_eq,
    }
}

/// Arrow's kernels order floats totally: there NaN equals NaN, -NaN (what x86 makes of 0/0) is below all numbers,
/// and -0.0 below 0.0. That surprises, and contradicts the bounds that Parquet keeps, which know no NaN.
fn floats<T: ArrowPrimitiveType>(left: &Value, op: BinaryOp, right: &Value) -> BooleanArray
where
    T::Native: PartialOrd,
{
    match op {
        BinaryOp::Eq => each::<T>(left, right, |a, b| a == b),
        BinaryOp::NotEq => each::<T>(left, right, |a, b| a != b),
        BinaryOp::Lt => each::<T>(left, right, |a, b| a < b),
        BinaryOp::LtEq => each::<T>(left, right, |a, b| a <= b),
        BinaryOp::Gt => each::<T>(left, right, |a, b| a > b),
        _ => each::<T>(left, right, |a, b| a >= b),
    }
}

fn each<T: ArrowPrimitiveType>(
    left: &Value,
    right: &Value,
    test: impl Fn(T::Native, T::Native) -> bool,
) -> BooleanArray {
    let ((left, left_scalar), (right, right_scalar)) = (left.get(), right.get());
    let (a, b) = (left.as_primitive::<T>(), right.as_primitive::<T>());
    match (left_scalar, right_scalar) {
        (_, true) if b.is_null(0) => unknown(a.len()),
        (true, _) if a.is_null(0) => unknown(b.len()),
        (_, true) => {
            let b = b.value(0);
            BooleanArray::from_unary(a, |a| test(a, b))
        }
        (true, false) => {
            let a = a.value(0);
            BooleanArray::from_unary(b, |b| test(a, b))
        }
        (false, false) => BooleanArray::from_binary(a, b, test),
    }
}
