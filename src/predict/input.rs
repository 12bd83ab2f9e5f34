//! Columns to tensors: the buffer of the column itself where type and layout allow, else one conversion.

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, OffsetSizeTrait};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int8Type, Int32Type, Int64Type, UInt8Type,
};
use arrow::record_batch::RecordBatch;

use super::OnNan;
use super::bind::{InputBinding, names};
use super::engine::{Element, Elements, Tensor};
use super::error::BatchError;

/// The tensor that feeds one input.
pub(super) fn tensor(binding: &InputBinding, batch: &RecordBatch, on_nan: OnNan) -> Result<Tensor, BatchError> {
    let row_len = binding.row_len();
    let elements = match binding.columns.as_slice() {
        [column] => elements(column, batch, Some(row_len), binding.element, on_nan)?.0,
        columns => {
            let parts = columns.iter().map(|column| elements(column, batch, None, binding.element, on_nan));
            side_by_side(binding.element, &parts.collect::<Result<Vec<_>, _>>()?, batch.num_rows())
        }
    };
    let mut shape = Vec::with_capacity(binding.row_shape.len() + 1);
    shape.push(batch.num_rows());
    shape.extend_from_slice(&binding.row_shape);
    if elements.len() != batch.num_rows() * row_len {
        let column = binding.columns.join(", ");
        let (found, why) = (format!("{} elements", elements.len()), format!("it takes {row_len} elements a row"));
        return Err(BatchError::Changed { column, found, why });
    }
    Ok(Tensor { shape, elements })
}

/// The elements of a column, and how many a row has. `row_len` is what the model takes, where one column says all.
fn elements(
    column: &str,
    batch: &RecordBatch,
    row_len: Option<usize>,
    element: Element,
    on_nan: OnNan,
) -> Result<(Elements, usize), BatchError> {
    let array = batch
        .column_by_name(column)
        .ok_or_else(|| BatchError::NoColumn { column: column.to_owned(), choices: names(batch.schema_ref()) })?;
    let (leaf, row_len) = leaf(column, array, row_len)?;
    let elements = match element {
        Element::Float32 => Elements::Float32(floats(column, &leaf, row_len, on_nan)?),
        Element::Float64 => {
            let values = cast::<Float64Type>(column, &leaf, row_len)?;
            check_nan(column, &values, row_len, on_nan, |value| value.is_nan())?;
            Elements::Float64(values)
        }
        Element::Int32 => Elements::Int32(cast::<Int32Type>(column, &leaf, row_len)?),
        Element::Int64 => Elements::Int64(cast::<Int64Type>(column, &leaf, row_len)?),
        Element::Int8 => Elements::Int8(cast::<Int8Type>(column, &leaf, row_len)?),
        Element::UInt8 => Elements::UInt8(cast::<UInt8Type>(column, &leaf, row_len)?),
    };
    Ok((elements, row_len))
}

/// Strips all lists off, with no null at any depth: the numbers inside, just those of these rows, and how many a row has.
fn leaf(column: &str, array: &ArrayRef, row_len: Option<usize>) -> Result<(ArrayRef, usize), BatchError> {
    let mut leaf = array.clone();
    let mut width = 1;
    loop {
        check_nulls(column, &leaf, width)?;
        leaf = match leaf.data_type() {
            DataType::FixedSizeList(_, size) => {
                width *= size.as_usize();
                fixed_values(leaf.as_fixed_size_list())
            }
            DataType::List(_) => list_values::<i32>(column, leaf.as_list(), &mut width, row_len)?,
            DataType::LargeList(_) => list_values::<i64>(column, leaf.as_list(), &mut width, row_len)?,
            _ => return Ok((leaf, width)),
        };
    }
}

/// The values of just these rows, also where the list is a slice of another.
fn fixed_values(list: &FixedSizeListArray) -> ArrayRef {
    let size = list.value_length().as_usize();
    let first = list.value_offset(0).as_usize();
    list.values().slice(first, list.len() * size)
}

/// The values of just these rows, each of which must have the model's length. Only the outermost list varies.
fn list_values<O: OffsetSizeTrait>(
    column: &str,
    list: &GenericListArray<O>,
    width: &mut usize,
    row_len: Option<usize>,
) -> Result<ArrayRef, BatchError> {
    let inner = inner_len(list.value_type());
    let expected = row_len.and_then(|row_len| row_len.checked_div(inner)).unwrap_or(1);
    let offsets = list.value_offsets();
    for (row, pair) in offsets.windows(2).enumerate() {
        let found = pair.last().map_or(0, |end| end.as_usize()) - pair.first().map_or(0, |start| start.as_usize());
        if found != expected {
            return Err(BatchError::Length { column: column.to_owned(), row, found, expected });
        }
    }
    *width *= expected;
    let first = offsets.first().map_or(0, |start| start.as_usize());
    Ok(list.values().slice(first, list.len() * expected))
}

fn inner_len(data_type: DataType) -> usize {
    match data_type {
        DataType::FixedSizeList(inner, size) => size.as_usize() * inner_len(inner.data_type().clone()),
        _ => 1,
    }
}

fn check_nulls(column: &str, array: &ArrayRef, width: usize) -> Result<(), BatchError> {
    let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) else { return Ok(()) };
    match nulls.iter().position(|valid| !valid) {
        Some(index) => Err(BatchError::Null { column: column.to_owned(), row: index / width.max(1) }),
        None => Ok(()),
    }
}

fn floats(column: &str, leaf: &ArrayRef, row_len: usize, on_nan: OnNan) -> Result<ScalarBuffer<f32>, BatchError> {
    let values = cast::<Float32Type>(column, leaf, row_len)?;
    if let Some(wide) = leaf.as_primitive_opt::<Float64Type>() {
        // A finite value beyond float32 would silently become infinite.
        let lost = |(narrow, wide): (&f32, &f64)| narrow.is_infinite() && wide.is_finite();
        if let Some(index) = values.iter().zip(wide.values()).position(lost) {
            return Err(range::<Float32Type>(column, index, row_len));
        }
    }
    check_nan(column, &values, row_len, on_nan, |value| value.is_nan())?;
    Ok(values)
}

fn check_nan<T: Copy>(
    column: &str,
    values: &[T],
    row_len: usize,
    on_nan: OnNan,
    is_nan: impl Fn(T) -> bool,
) -> Result<(), BatchError> {
    if on_nan == OnNan::Allow || !has_nan(values, &is_nan) {
        return Ok(());
    }
    let index = values.iter().position(|value| is_nan(*value)).unwrap_or_default();
    Err(BatchError::Nan { column: column.to_owned(), row: index / row_len.max(1) })
}

/// Whether there is a NaN, without a branch for each value.
fn has_nan<T: Copy>(values: &[T], is_nan: impl Fn(T) -> bool) -> bool {
    values.chunks(1024).any(|chunk| chunk.iter().fold(false, |any, value| any | is_nan(*value)))
}

/// The values in the tensor's type: the buffer itself if it is of that type already.
fn cast<T: ArrowPrimitiveType>(
    column: &str,
    leaf: &ArrayRef,
    row_len: usize,
) -> Result<ScalarBuffer<T::Native>, BatchError> {
    if let Some(same) = leaf.as_primitive_opt::<T>() {
        return Ok(same.values().clone());
    }
    let cast = cast_with_options(leaf, &T::DATA_TYPE, &CastOptions::default())?;
    // The cast turns what does not fit into a null.
    match cast.nulls().and_then(|nulls| nulls.iter().position(|valid| !valid)) {
        Some(index) => Err(range::<T>(column, index, row_len)),
        None => Ok(cast.as_primitive::<T>().values().clone()),
    }
}

fn range<T: ArrowPrimitiveType>(column: &str, index: usize, row_len: usize) -> BatchError {
    let element = T::DATA_TYPE.to_string().to_lowercase();
    BatchError::Range { column: column.to_owned(), row: index / row_len.max(1), element }
}

/// Lays the rows of several columns side by side.
fn side_by_side(element: Element, parts: &[(Elements, usize)], rows: usize) -> Elements {
    macro_rules! lay {
        ($variant:ident) => {{
            let parts = parts.iter().map(|(elements, width)| match elements {
                Elements::$variant(values) => (&values[..], *width),
                _ => (&[][..], 0),
            });
            Elements::$variant(interleave(&parts.collect::<Vec<_>>(), rows).into())
        }};
    }
    match element {
        Element::Float32 => lay!(Float32),
        Element::Float64 => lay!(Float64),
        Element::Int32 => lay!(Int32),
        Element::Int64 => lay!(Int64),
        Element::Int8 => lay!(Int8),
        Element::UInt8 => lay!(UInt8),
    }
}

fn interleave<T: Copy>(parts: &[(&[T], usize)], rows: usize) -> Vec<T> {
    let mut laid = Vec::with_capacity(rows * parts.iter().map(|(_, width)| width).sum::<usize>());
    for row in 0..rows {
        for (values, width) in parts {
            laid.extend_from_slice(values.get(row * width..(row + 1) * width).unwrap_or_default());
        }
    }
    laid
}
