//! What a part of an expression evaluates to: an array, or one value that stands for all rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Datum, Scalar, UInt32Array};
use arrow::compute::take;
use arrow::error::ArrowError;

/// An array, or one value for all rows: constants are not repeated until a result needs it.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A value a row.
    Array(ArrayRef),
    /// One value for all rows: an array of length 1.
    Scalar(Scalar<ArrayRef>),
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        match self {
            Self::Array(array) => (array, false),
            Self::Scalar(scalar) => scalar.get(),
        }
    }
}

impl Value {
    /// The result of a kernel: one value if all that went in was.
    pub(super) fn new(array: ArrayRef, scalar: bool) -> Self {
        if scalar { Self::Scalar(Scalar::new(array)) } else { Self::Array(array) }
    }

    /// A boolean result.
    pub(super) fn boolean(array: BooleanArray, scalar: bool) -> Self {
        Self::new(Arc::new(array), scalar)
    }

    pub(super) fn is_scalar(&self) -> bool {
        matches!(self, Self::Scalar(_))
    }

    /// Its values, one if it is a scalar.
    pub(super) fn array(&self) -> &dyn Array {
        self.get().0
    }

    /// Its values as a shared array, one if it is a scalar.
    pub(super) fn into_inner(self) -> ArrayRef {
        match self {
            Self::Array(array) => array,
            Self::Scalar(scalar) => scalar.into_inner(),
        }
    }

    /// Its values, as often as there are rows.
    pub(super) fn into_array(self, rows: usize) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Array(array) => Ok(array),
            Self::Scalar(scalar) => take(&scalar.into_inner(), &UInt32Array::from(vec![0; rows]), None),
        }
    }
}

/// The kernel's boolean operands, brought to one length. Two scalars stay of length 1.
pub(super) fn booleans(left: Value, right: Value) -> Result<(BooleanArray, BooleanArray, bool), ArrowError> {
    let scalar = left.is_scalar() && right.is_scalar();
    let rows = if left.is_scalar() { right.array().len() } else { left.array().len() };
    let (left, right) = (left.into_array(rows)?, right.into_array(rows)?);
    Ok((left.as_boolean().clone(), right.as_boolean().clone(), scalar))
}
