//! Kernels behind the nodes of a bound expression. Operands come with the types that binding gave them.

mod compare;
mod math;
mod membership;
mod text;

pub(super) use membership::Membership;

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Datum, Scalar};
use arrow::compute::kernels::boolean::{and_kleene, or_kleene};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::kernels::numeric;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, is_null, nullif, prep_null_mask_filter};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::node::cast_value;
use super::tree::{BinaryOp, Function};
use super::value::{Value, booleans};

pub(super) fn not(value: &Value) -> Result<Value, ArrowError> {
    Ok(Value::boolean(arrow::compute::not(value.array().as_boolean())?, value.is_scalar()))
}

pub(super) fn negate(value: &Value) -> Result<Value, ArrowError> {
    Ok(Value::new(numeric::neg(value.array())?, value.is_scalar()))
}

pub(super) fn null_test(value: &Value, null: bool) -> Result<Value, ArrowError> {
    let test = if null { is_null } else { is_not_null };
    Ok(Value::boolean(test(value.array())?, value.is_scalar()))
}

pub(super) fn binary(left: Value, op: BinaryOp, right: Value) -> Result<Value, ArrowError> {
    match op {
        BinaryOp::And | BinaryOp::Or => {
            let (left, right, scalar) = booleans(left, right)?;
            let kernel = if op == BinaryOp::And { and_kleene } else { or_kleene };
            Ok(Value::boolean(kernel(&left, &right)?, scalar))
        }
        op if op.is_comparison() => compare::compare(&left, op, &right),
        op => arithmetic(&left, op, &right),
    }
}

fn arithmetic(left: &Value, op: BinaryOp, right: &Value) -> Result<Value, ArrowError> {
    let scalar = left.is_scalar() && right.is_scalar();
    let array = match op {
        BinaryOp::Add => numeric::add(left, right)?,
        BinaryOp::Subtract => numeric::sub(left, right)?,
        BinaryOp::Multiply => numeric::mul(left, right)?,
        BinaryOp::Divide => numeric::div(left, &zero_to_null(right)?)?,
        _ => numeric::rem(left, &zero_to_null(right)?)?,
    };
    Ok(Value::new(array, scalar))
}

/// Division of integers and decimals by zero is null: one bad row must not end a long job, and a guard such as
/// `when(b.ne(0)).then(a / b)` computes the quotient for all rows. Floats have infinity and NaN for it.
fn zero_to_null(divisor: &Value) -> Result<Value, ArrowError> {
    let data_type = divisor.array().data_type();
    if !divides_to_null(data_type) {
        return Ok(divisor.clone());
    }
    let zero = zero(data_type)?;
    let is_zero = eq(divisor, &zero)?;
    if is_zero.true_count() == 0 {
        return Ok(divisor.clone());
    }
    Ok(Value::new(nullif(divisor.array(), &is_zero)?, divisor.is_scalar()))
}

/// Whether division by a zero of this type gives null.
pub(super) fn divides_to_null(divisor: &DataType) -> bool {
    divisor.is_integer() || divisor.is_decimal()
}

fn zero(data_type: &DataType) -> Result<Value, ArrowError> {
    let zero = Arc::new(arrow::array::Int8Array::from(vec![0]));
    cast_value(Value::Scalar(Scalar::new(zero)), data_type, false)
}

/// `then` where the condition is true, else `otherwise`.
pub(super) fn choose(condition: &Value, then: &Value, otherwise: &Value) -> Result<Value, ArrowError> {
    let mask = condition.array().as_boolean();
    if condition.is_scalar() {
        return Ok(if mask.is_valid(0) && mask.value(0) { then.clone() } else { otherwise.clone() });
    }
    // Between two scalars of a view type the kernel garbles `otherwise` if it is inlined beside a buffer.
    let views = matches!(then.array().data_type(), DataType::Utf8View | DataType::BinaryView);
    let otherwise = if views { Value::Array(otherwise.clone().into_array(mask.len())?) } else { otherwise.clone() };
    let array = zip(&where_true(mask), then, &otherwise)?;
    Ok(Value::Array(array))
}

/// The mask with null counted as false.
fn where_true(mask: &BooleanArray) -> BooleanArray {
    if mask.null_count() == 0 { mask.clone() } else { prep_null_mask_filter(mask) }
}

pub(super) fn call(function: Function, args: Vec<Value>) -> Result<Value, ArrowError> {
    match function {
        Function::Coalesce => coalesce(args),
        Function::Abs | Function::Round | Function::Floor | Function::Ceil | Function::Sqrt | Function::IsNan => {
            math::call(function, &first(args))
        }
        _ => text::call(function, &args),
    }
}

fn first(args: Vec<Value>) -> Value {
    args.into_iter().next().expect("a bound function has its arguments")
}

fn coalesce(args: Vec<Value>) -> Result<Value, ArrowError> {
    let mut found: Option<Value> = None;
    for arg in args.into_iter().rev() {
        found = Some(match found {
            None => arg,
            Some(_) if all_valid(&arg) => arg,
            Some(rest) => choose(&null_test(&arg, false)?, &arg, &rest)?,
        });
    }
    Ok(found.expect("a bound coalesce has arguments"))
}

fn all_valid(value: &Value) -> bool {
    value.get().0.logical_null_count() == 0
}

/// The null boolean, as often as there are rows.
fn unknown(rows: usize) -> BooleanArray {
    BooleanArray::new_null(rows)
}
