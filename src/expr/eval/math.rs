//! Functions of numbers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use arrow::compute::kernels::cmp::lt;
use arrow::compute::kernels::numeric;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;

use super::{where_true, zero};
use crate::expr::tree::Function;
use crate::expr::value::Value;

/// Computes a function of one number.
pub(super) fn call(function: Function, value: &Value) -> Result<Value, ArrowError> {
    let array = value.array();
    let result = match (function, array.data_type()) {
        (Function::IsNan, DataType::Float32) => is_nan::<Float32Type>(array, f32::is_nan),
        (Function::IsNan, _) => is_nan::<Float64Type>(array, f64::is_nan),
        (_, DataType::Float32) => unary::<Float32Type>(array, on_f32(function)),
        (_, DataType::Float64) => unary::<Float64Type>(array, on_f64(function)),
        (Function::Abs, _) => absolute(array)?,
        // The other functions leave whole numbers as they are.
        _ => return Ok(value.clone()),
    };
    Ok(Value::new(result, value.is_scalar()))
}

/// The absolute value of integers and decimals; the smallest integer has none, which is an error.
fn absolute(array: &dyn Array) -> Result<ArrayRef, ArrowError> {
    let values = arrow::array::make_array(array.to_data());
    if array.data_type().is_unsigned_integer() {
        return Ok(values);
    }
    let negative = lt(&values, &zero(array.data_type())?)?;
    zip(&where_true(&negative), &numeric::neg(array)?, &values)
}

fn is_nan<T: ArrowPrimitiveType>(array: &dyn Array, test: fn(T::Native) -> bool) -> ArrayRef {
    Arc::new(BooleanArray::from_unary(array.as_primitive::<T>(), test))
}

fn unary<T: ArrowPrimitiveType>(array: &dyn Array, function: fn(T::Native) -> T::Native) -> ArrayRef {
    let result: PrimitiveArray<T> = array.as_primitive::<T>().unary(function);
    Arc::new(result)
}

fn on_f32(function: Function) -> fn(f32) -> f32 {
    match function {
        Function::Abs => f32::abs,
        Function::Round => f32::round,
        Function::Floor => f32::floor,
        Function::Ceil => f32::ceil,
        _ => f32::sqrt,
    }
}

fn on_f64(function: Function) -> fn(f64) -> f64 {
    match function {
        Function::Abs => f64::abs,
        Function::Round => f64::round,
        Function::Floor => f64::floor,
        Function::Ceil => f64::ceil,
        _ => f64::sqrt,
    }
}
