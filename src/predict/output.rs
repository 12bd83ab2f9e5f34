//! Tensors to columns: the buffer that the engine made becomes the column's buffer.
//!
//! `[batch]` and `[batch, 1]` become plain columns; each further dimension becomes a list, of fixed size where the model
//! declares the size.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, ListArray, PrimitiveArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, FieldRef, Float32Type, Float64Type, Int8Type, Int32Type, Int64Type, UInt8Type,
};
use arrow::error::ArrowError;

use super::engine::{Dim, Elements, Tensor, TensorInfo};
use super::error::BatchError;

/// The column that an output becomes. A model gives no nulls.
pub(super) fn field(info: &TensorInfo, name: &str) -> Field {
    let data_type = row_dims(info).iter().rev().fold(info.declared.clone(), |inner, dim| match dim {
        Dim::Fixed(size) => DataType::FixedSizeList(item(inner), i32::try_from(*size).unwrap_or(i32::MAX)),
        Dim::Symbolic(_) => DataType::List(item(inner)),
    });
    Field::new(name, data_type, false)
}

/// The column itself, of exactly `rows` rows.
pub(super) fn column(info: &TensorInfo, tensor: Tensor, rows: usize) -> Result<ArrayRef, BatchError> {
    check_shape(info, &tensor, rows)?;
    let mut column = leaf(tensor.elements);
    if column.data_type() != &info.declared {
        column = cast(&column, &info.declared)?;
    }
    let sizes = tensor.shape.get(1..).unwrap_or_default();
    for (i, dim) in row_dims(info).iter().enumerate().rev() {
        let size = sizes.get(i).copied().unwrap_or(1);
        let lists = rows * sizes.iter().take(i).product::<usize>();
        column = match dim {
            Dim::Fixed(_) => fixed(column, size, lists)?,
            Dim::Symbolic(_) => {
                let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(size, lists));
                Arc::new(ListArray::try_new(item(column.data_type().clone()), offsets, column, None)?)
            }
        };
    }
    Ok(column)
}

/// The dimensions that become lists.
fn row_dims(info: &TensorInfo) -> &[Dim] {
    match info.shape.as_slice() {
        [_, Dim::Fixed(1)] | [] => &[],
        [_, rest @ ..] => rest,
    }
}

fn check_shape(info: &TensorInfo, tensor: &Tensor, rows: usize) -> Result<(), BatchError> {
    let fits = |(i, (dim, size)): (usize, (&Dim, &usize))| match dim {
        _ if i == 0 => *size == rows,
        Dim::Fixed(n) => n == size,
        Dim::Symbolic(_) => true,
    };
    let same_rank = info.shape.len() == tensor.shape.len() && !tensor.shape.is_empty();
    if same_rank && info.shape.iter().zip(&tensor.shape).enumerate().all(fits) {
        return Ok(());
    }
    let (output, found, expected) = (info.name.clone(), tensor.shape.clone(), info.to_string());
    Err(BatchError::Output { output, found, rows, expected })
}

fn leaf(elements: Elements) -> ArrayRef {
    match elements {
        Elements::Float32(values) => Arc::new(PrimitiveArray::<Float32Type>::new(values, None)),
        Elements::Float64(values) => Arc::new(PrimitiveArray::<Float64Type>::new(values, None)),
        Elements::Int32(values) => Arc::new(PrimitiveArray::<Int32Type>::new(values, None)),
        Elements::Int64(values) => Arc::new(PrimitiveArray::<Int64Type>::new(values, None)),
        Elements::Int8(values) => Arc::new(PrimitiveArray::<Int8Type>::new(values, None)),
        Elements::UInt8(values) => Arc::new(PrimitiveArray::<UInt8Type>::new(values, None)),
    }
}

fn fixed(values: ArrayRef, size: usize, lists: usize) -> Result<ArrayRef, ArrowError> {
    let length = i32::try_from(size).map_err(|_| ArrowError::ComputeError(format!("a list of {size} elements")))?;
    let item = item(values.data_type().clone());
    let list = match size {
        // No element says how many lists there are.
        0 => FixedSizeListArray::try_new_with_length(item, length, values, None, lists)?,
        _ => FixedSizeListArray::try_new(item, length, values, None)?,
    };
    Ok(Arc::new(list))
}

fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(data_type, false))
}
