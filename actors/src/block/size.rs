//! The size of the rows in a batch. Arrow's own count takes the whole child of a sliced list; this one does not.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;

use crate::units::Bytes;

/// Bytes of the rows in a batch; a slice of a larger buffer counts with its own part only, a dictionary's values count
/// whole.
pub fn batch_bytes(batch: &RecordBatch) -> Bytes {
    Bytes(batch.columns().iter().map(array_bytes).sum())
}

fn array_bytes(array: &ArrayRef) -> u64 {
    let rows = array.len() as u64;
    let nulls = if array.nulls().is_some() { rows.div_ceil(8) } else { 0 };
    nulls + values_bytes(array, rows)
}

fn values_bytes(array: &ArrayRef, rows: u64) -> u64 {
    if let Some(width) = array.data_type().primitive_width() {
        return rows * width as u64;
    }
    match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8 => text_bytes(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => text_bytes(array.as_string::<i64>().value_offsets()),
        DataType::Binary => text_bytes(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => text_bytes(array.as_binary::<i64>().value_offsets()),
        DataType::FixedSizeBinary(width) => rows * (*width).max(0) as u64,
        DataType::List(_) => list_bytes(array.as_list::<i32>().value_offsets(), array.as_list::<i32>().values()),
        DataType::LargeList(_) => list_bytes(array.as_list::<i64>().value_offsets(), array.as_list::<i64>().values()),
        DataType::FixedSizeList(..) => array_bytes(array.as_fixed_size_list().values()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(array_bytes).sum(),
        // Views, dictionaries, unions, maps, runs: whatever stands behind them counts whole, never too little.
        _ => array.get_array_memory_size() as u64,
    }
}

fn text_bytes<O: OffsetSizeTrait>(offsets: &[O]) -> u64 {
    std::mem::size_of_val(offsets) as u64 + span(offsets).1 as u64
}

fn list_bytes<O: OffsetSizeTrait>(offsets: &[O], values: &ArrayRef) -> u64 {
    let (from, len) = span(offsets);
    std::mem::size_of_val(offsets) as u64 + array_bytes(&values.slice(from, len))
}

/// Where the values of a slice begin, and how many there are.
fn span<O: OffsetSizeTrait>(offsets: &[O]) -> (usize, usize) {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (first.as_usize(), last.as_usize() - first.as_usize()),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    fn bytes_of(array: ArrayRef) -> u64 {
        batch_bytes(&RecordBatch::try_from_iter([("a", array)]).expect("one column")).0
    }

    #[test]
    fn a_slice_counts_with_its_own_part() {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..1000));
        assert_eq!(bytes_of(numbers.slice(10, 5)), 20);
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(["a".repeat(1000), "b".repeat(10)]));
        assert_eq!(bytes_of(text.slice(1, 1)), 10 + 8);
        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1); 1000]), Some(vec![Some(2); 3])]);
        let list: ArrayRef = Arc::new(list);
        // Four values and their nulls if the builder made any, and two offsets.
        assert!(bytes_of(list.slice(1, 1)) <= 3 * 4 + 8 + 1);
    }
}
