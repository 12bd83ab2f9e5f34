//! Lists without the values that no row of theirs shows.
//!
//! A part of a batch of lists still holds the values of all of it, and what turns values into others turns them all: one
//! row of two thousand would become as large as all of them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, RecordBatch,
    RecordBatchOptions, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// The same rows, with no more values than they show. Nothing but offsets is copied.
pub(super) fn shown(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(column).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

fn column(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::List(_) => list::<i32>(array),
        DataType::LargeList(_) => list::<i64>(array),
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let (offsets, first, length) = rebased(map.offsets());
            let shown = structure(&map.entries().slice(first, length))?;
            let nulls = map.nulls().cloned();
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, shown, nulls, *sorted)?))
        }
        // Without values nothing says how many rows there are.
        DataType::FixedSizeList(field, length) if *length > 0 => {
            let list = array.as_fixed_size_list();
            let (values, nulls) = (column(list.values())?, list.nulls().cloned());
            Ok(Arc::new(FixedSizeListArray::try_new(Arc::clone(field), *length, values, nulls)?))
        }
        DataType::Struct(_) => Ok(Arc::new(structure(array.as_struct())?)),
        _ => Ok(Arc::clone(array)),
    }
}

fn list<O: OffsetSizeTrait>(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let (field, offsets, values, nulls) = array.as_list::<O>().clone().into_parts();
    let (offsets, first, length) = rebased(&offsets);
    let values = column(&values.slice(first, length))?;
    Ok(Arc::new(GenericListArray::<O>::try_new(field, offsets, values, nulls)?))
}

fn structure(array: &StructArray) -> Result<StructArray, ArrowError> {
    let columns = array.columns().iter().map(column).collect::<Result<_, _>>()?;
    StructArray::try_new_with_length(array.fields().clone(), columns, array.nulls().cloned(), array.len())
}

/// Offsets from 0, the first value that they show, and how many they do.
fn rebased<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> (OffsetBuffer<O>, usize, usize) {
    let first = offsets.first().copied().unwrap_or_default();
    let last = offsets.last().copied().unwrap_or_default();
    let rebased = match first.as_usize() {
        0 => offsets.clone(),
        _ => OffsetBuffer::new(offsets.iter().map(|offset| *offset - first).collect()),
    };
    (rebased, first.as_usize(), (last - first).as_usize())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, ListArray, StringViewArray};
    use arrow::datatypes::Field;

    use super::*;

    fn words(count: usize) -> ArrayRef {
        Arc::new((0..count).map(|n| Some(format!("the word of number {n}"))).collect::<StringViewArray>())
    }

    fn field(data_type: &DataType) -> Arc<Field> {
        Arc::new(Field::new("item", data_type.clone(), true))
    }

    fn check(array: ArrayRef) {
        let batch = RecordBatch::try_from_iter([("column", array)]).unwrap();
        for (from, rows) in [(0, 3), (0, 1), (1, 1), (1, 2), (3, 0)] {
            let part = batch.slice(from, rows);
            assert_eq!(shown(&part).unwrap(), part, "rows {from}..+{rows}");
        }
    }

    fn lists() -> ListArray {
        let values = words(10);
        ListArray::new(
            field(values.data_type()),
            OffsetBuffer::from_lengths([4, 0, 6]),
            values,
            Some(vec![true, false, true].into()),
        )
    }

    #[test]
    fn a_part_of_lists_holds_its_own_values_only() {
        let part = RecordBatch::try_from_iter([("column", Arc::new(lists()) as ArrayRef)]).unwrap().slice(1, 2);
        let part = shown(&part).unwrap();
        assert_eq!(part.column(0).as_list::<i32>().values().len(), 6);
    }

    #[test]
    fn rows_stay_what_they_are() {
        check(words(3));
        check(Arc::new(lists()));
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..10));
        let entries = StructArray::try_from(vec![("key", numbers), ("value", words(10))]).unwrap();
        let item = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        check(Arc::new(MapArray::new(item, OffsetBuffer::from_lengths([4, 0, 6]), entries.clone(), None, false)));
        let outer = Arc::new(lists()) as ArrayRef;
        check(Arc::new(StructArray::try_from(vec![("inner", outer)]).unwrap()));
        let (six, inner) = (words(6), field(&DataType::Utf8View));
        check(Arc::new(FixedSizeListArray::new(inner, 2, six, None)));
    }
}
