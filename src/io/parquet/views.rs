//! Texts and bytes on their way out of the decoder: as views, which take what the file takes, and only then, a part of a
//! batch at a time, as the values that a batch holds.
//!
//! A dictionary lets a file of 445 bytes hold 2,000 rows of 900 kB each, and no number in it has to say so. Decoded as
//! values, a batch of them takes whatever it takes before anybody can measure it. As views each row takes 16 bytes beside
//! the dictionary; what the values will take is counted exactly, before any of it is allocated.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Schema};
use mobula_actors::block::batch_bytes;
use mobula_actors::units::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

/// The schema with texts and bytes of these columns as views, also inside lists, maps and structs.
pub(super) fn as_views(schema: &Schema, columns: &BTreeSet<usize>) -> Schema {
    let fields = schema.fields().iter().enumerate().map(|(index, field)| match columns.contains(&index) {
        true => view_field(field),
        false => Arc::clone(field),
    });
    Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone())
}

fn view_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(view_type(field.data_type())))
}

fn view_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::List(field) => DataType::List(view_field(field)),
        DataType::LargeList(field) => DataType::LargeList(view_field(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(view_field(field), *length),
        DataType::Map(entries, sorted) => DataType::Map(view_field(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(view_field).collect()),
        other => other.clone(),
    }
}

/// The chosen columns of a row group whose values may take far more than the file does: those with a dictionary, but for
/// one of short words. `are_short` tells what it is.
pub(super) fn bursting<'a>(
    group: &'a RowGroupMetaData,
    chosen: &'a ProjectionMask,
    are_short: impl Fn(&ColumnChunkMetaData) -> bool + 'a,
) -> impl Iterator<Item = usize> + 'a {
    let leaves = group.columns().iter().enumerate().filter(|(leaf, _)| chosen.leaf_included(*leaf));
    let bursting = leaves.filter(move |(_, chunk)| {
        // A row of a list shows values as often as it likes.
        let one_a_row = chunk.column_descr().max_rep_level() == 0;
        let is_text = chunk.column_type() == parquet::basic::Type::BYTE_ARRAY;
        is_text && has_dictionary(chunk) && !(one_a_row && are_short(chunk))
    });
    bursting.map(|(leaf, _)| group.schema_descr().get_column_root_idx(leaf))
}

/// Whether values of the chosen columns may take far more than the file does in a way that views do not help with: they
/// share prefixes, and each is put together by itself; or they are numbers of any length, which have no view.
pub(super) fn bursts_as_views(
    group: &RowGroupMetaData,
    chosen: &ProjectionMask,
    are_short: impl Fn(&ColumnChunkMetaData) -> bool,
) -> bool {
    let mut leaves = group.columns().iter().enumerate().filter(|(leaf, _)| chosen.leaf_included(*leaf));
    leaves.any(|(_, chunk)| {
        let is_decimal = chunk.column_descr().converted_type() == parquet::basic::ConvertedType::DECIMAL;
        chunk.column_type() == parquet::basic::Type::BYTE_ARRAY
            && (shares_prefixes(chunk) || is_decimal && has_dictionary(chunk) && !are_short(chunk))
    })
}

pub(super) fn shares_prefixes(chunk: &ColumnChunkMetaData) -> bool {
    chunk.encodings().any(|encoding| encoding == parquet::basic::Encoding::DELTA_BYTE_ARRAY)
}

pub(super) fn has_dictionary(chunk: &ColumnChunkMetaData) -> bool {
    chunk.dictionary_page_offset().is_some() || chunk.encodings().any(is_dictionary)
}

fn is_dictionary(encoding: parquet::basic::Encoding) -> bool {
    use parquet::basic::Encoding;
    #[allow(deprecated)]
    let dictionary = matches!(encoding, Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY);
    dictionary
}

/// Bytes that the rows of a batch take as values.
pub(super) fn values_bytes(batch: &RecordBatch) -> Bytes {
    Bytes(batch.columns().iter().map(array_bytes).fold(0, u64::saturating_add))
}

fn array_bytes(array: &ArrayRef) -> u64 {
    // A view's lowest four bytes are the length of its value.
    let lengths = |views: &[u128]| views.iter().map(|view| u64::from(*view as u32) + OFFSET_BYTES).sum();
    match array.data_type() {
        DataType::Utf8View => lengths(array.as_string_view().views()),
        DataType::BinaryView => lengths(array.as_binary_view().views()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (first, last) = ends(list.value_offsets().iter().map(|offset| i64::from(*offset)));
            list_bytes(list.values(), first, last, array.len())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let (first, last) = ends(list.value_offsets().iter().copied());
            list_bytes(list.values(), first, last, array.len())
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (first, last) = ends(map.value_offsets().iter().map(|offset| i64::from(*offset)));
            let entries: ArrayRef = Arc::new(map.entries().clone());
            list_bytes(&entries, first, last, array.len())
        }
        DataType::FixedSizeList(..) => array_bytes(array.as_fixed_size_list().values()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(array_bytes).fold(0, u64::saturating_add),
        _ => {
            let field = arrow::datatypes::Field::new("", array.data_type().clone(), true);
            let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(array)]);
            batch.map_or(0, |batch| batch_bytes(&batch).0)
        }
    }
}

fn ends(mut offsets: impl DoubleEndedIterator<Item = i64>) -> (usize, usize) {
    let first = offsets.next().unwrap_or(0);
    let last = offsets.next_back().unwrap_or(first);
    (usize::try_from(first).unwrap_or(0), usize::try_from(last).unwrap_or(0))
}

fn list_bytes(values: &ArrayRef, first: usize, last: usize, rows: usize) -> u64 {
    let values = values.slice(first, last.saturating_sub(first));
    array_bytes(&values).saturating_add(rows as u64 * OFFSET_BYTES)
}

/// What an offset takes, beside the bytes of its value.
const OFFSET_BYTES: u64 = 4;

/// Rows from the front of the batch that take about `most` as values, at least one, with what they take.
pub(super) fn rows_within(batch: &RecordBatch, most: Bytes) -> (usize, Bytes) {
    let (mut rows, mut bytes) = (batch.num_rows(), values_bytes(batch));
    // A factor of two is what batches vary by anyway.
    while rows > 1 && bytes.0 > most.0.saturating_mul(2) {
        let fitting = (rows as f64 * most.0 as f64 / bytes.0 as f64) as usize;
        rows = fitting.clamp(1, rows / 2);
        bytes = values_bytes(&batch.slice(0, rows));
    }
    (rows, bytes)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray, StringArray, StringViewArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::compute::cast;
    use arrow::datatypes::Field;

    use super::*;

    fn texts(lengths: impl Iterator<Item = usize>) -> RecordBatch {
        let texts: StringViewArray = lengths.map(|length| Some("x".repeat(length))).collect();
        RecordBatch::try_from_iter([("s", Arc::new(texts) as ArrayRef)]).unwrap()
    }

    #[test]
    fn what_values_will_take_is_known_before_they_are_made() {
        let batch = texts((0..100).map(|n| n * 7));
        let values = cast(batch.column(0), &DataType::Utf8).unwrap();
        let made = batch_bytes(&RecordBatch::try_from_iter([("s", values)]).unwrap());
        // Arrow has one offset more than there are rows.
        assert_eq!(values_bytes(&batch) + Bytes(OFFSET_BYTES), made);
        let (rows, bytes) = rows_within(&batch.slice(40, 60), Bytes(1000));
        assert!(rows >= 1 && bytes <= Bytes(2000), "{rows} rows of {bytes}");
        assert_eq!(rows_within(&texts([9000, 1].into_iter()), Bytes(10)).0, 1, "one at least");
    }

    #[test]
    fn lists_count_with_the_values_that_they_show() {
        let texts: ArrayRef = Arc::new((0..10).map(|_| Some("word ".repeat(10))).collect::<StringViewArray>());
        let field = Arc::new(Field::new("item", DataType::Utf8View, true));
        let list = ListArray::new(field, OffsetBuffer::from_lengths([4, 0, 6]), texts, None);
        let batch = RecordBatch::try_from_iter([("l", Arc::new(list) as ArrayRef)]).unwrap();
        assert_eq!(values_bytes(&batch.slice(1, 2)), Bytes(6 * 54 + 2 * 4));
    }

    #[test]
    fn only_texts_and_bytes_become_views() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let words: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("w", words)]).unwrap();
        let types = |columns| {
            let views = as_views(&batch.schema(), &BTreeSet::from_iter(columns));
            views.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>()
        };
        assert_eq!(types(vec![0, 1]), [DataType::Int64, DataType::Utf8View]);
        assert_eq!(types(vec![0]), [DataType::Int64, DataType::Utf8]);
    }

    #[test]
    fn texts_and_bytes_of_any_offsets_become_views_wherever_they_are() {
        let field = |data_type| Arc::new(Field::new("item", data_type, true));
        let view = |data_type| view_type(&data_type);
        assert_eq!(view(DataType::LargeUtf8), DataType::Utf8View);
        assert_eq!(view(DataType::LargeBinary), DataType::BinaryView);
        let fixed = |data_type| DataType::FixedSizeList(field(data_type), 3);
        assert_eq!(view(fixed(DataType::LargeUtf8)), fixed(DataType::Utf8View));
        let entries = |data_type| DataType::Struct([field(DataType::Int32), field(data_type)].into_iter().collect());
        let map = |data_type| DataType::Map(field(entries(data_type)), false);
        assert_eq!(view(map(DataType::Binary)), map(DataType::BinaryView));
    }
}
