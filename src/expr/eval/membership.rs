//! `x in [..]`: a short list by comparisons, a long one by binary search.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, make_comparator};
use arrow::compute::{SortOptions, sort};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;

use super::{compare, unknown};
use crate::expr::tree::BinaryOp;
use crate::expr::value::Value;

/// The list of an `in`, of the type of what is looked up in it.
#[derive(Debug, Clone)]
pub(in crate::expr) struct Membership {
    /// Without nulls and NaN, in order.
    sorted: ArrayRef,
    /// Whether the list holds a null: what is not found is then unknown.
    null: bool,
}

impl Membership {
    /// A list of values of one type, and whether there is a null beside them.
    pub(in crate::expr) fn new(values: &ArrayRef, null: bool) -> Result<Self, ArrowError> {
        Ok(Self { sorted: sort(&numbers(values), None)?, null })
    }

    /// Whether each value is in the list; null for null.
    pub(in crate::expr) fn test(&self, value: Value) -> Result<Value, ArrowError> {
        let scalar = value.is_scalar();
        let array = numbers(&value.into_inner());
        let found = match self.sorted.len() {
            ..=COMPARED_MAX => self.compare(array)?,
            _ => self.search(&array)?,
        };
        if !self.null {
            return Ok(Value::boolean(found, scalar));
        }
        Ok(Value::boolean(arrow::compute::or_kleene(&found, &unknown(found.len()))?, scalar))
    }

    fn compare(&self, array: ArrayRef) -> Result<BooleanArray, ArrowError> {
        let value = Value::Array(Arc::clone(&array));
        let mut found = BooleanArray::new(arrow::buffer::BooleanBuffer::new_unset(array.len()), array.logical_nulls());
        for n in 0..self.sorted.len() {
            let one = Value::new(self.sorted.slice(n, 1), true);
            let equal = compare::compare(&value, BinaryOp::Eq, &one)?;
            found = arrow::compute::or(&found, equal.array().as_boolean())?;
        }
        Ok(found)
    }

    fn search(&self, array: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        let order = make_comparator(&self.sorted, array, SortOptions::default())?;
        let nulls = array.logical_nulls();
        let found = (0..array.len()).map(|row| {
            let valid = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
            valid.then(|| is_found(self.sorted.len(), |n| order(n, row)))
        });
        Ok(found.collect())
    }
}

/// Binary search among `len` positions in order.
fn is_found(len: usize, order: impl Fn(usize) -> Ordering) -> bool {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        match order(middle) {
            Ordering::Equal => return true,
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    false
}

/// Longest list for which one vectorized comparison a value beats a search a row.
const COMPARED_MAX: usize = 8;

/// Floats with one zero instead of two, as the order of Arrow tells -0.0 from 0.0.
fn numbers(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float16 => one_zero::<Float16Type>(array),
        DataType::Float32 => one_zero::<Float32Type>(array),
        DataType::Float64 => one_zero::<Float64Type>(array),
        _ => array.clone(),
    }
}

fn one_zero<T: ArrowPrimitiveType>(array: &ArrayRef) -> ArrayRef
where
    T::Native: std::ops::Add<Output = T::Native>,
{
    Arc::new(array.as_primitive::<T>().unary::<_, T>(|x| x + T::Native::default()))
}
