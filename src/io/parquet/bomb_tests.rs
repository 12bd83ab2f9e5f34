//! Files that are much larger than they look: read within what a batch may take, or refused by name.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, DictionaryArray, FixedSizeListArray, Int32Array, Int64Array,
    LargeStringArray, ListArray, MapArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use mobula_actors::block::batch_bytes;
use mobula_actors::operator::ReadBatch;
use mobula_actors::units::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::{ParquetScan, ReadOptions};
use crate::io::testing::open;
use crate::io::{OnError, Scan};

/// Bytes of the long value of each file.
const LONG: usize = 900_000;
/// What a batch aims at.
const AIM: Bytes = Bytes::kib(64);

/// Texts by number: 0 is a short one, 1 the long one.
fn texts(numbers: impl IntoIterator<Item = i32>) -> ArrayRef {
    let values: ArrayRef = Arc::new(StringArray::from(vec!["short".to_owned(), "x".repeat(LONG)]));
    Arc::new(DictionaryArray::<Int32Type>::new(Int32Array::from_iter_values(numbers), values))
}

fn write(path: &Path, column: ArrayRef) {
    let batch = RecordBatch::try_from_iter([("s", column)]).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_page_size_limit(2 * LONG)
        .build();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn scan(path: &Path, on_error: OnError) -> Scan {
    ParquetScan::open(path, ReadOptions::default().on_error(on_error)).unwrap()
}

/// Rows, the bytes of the texts in them, and the most that a batch took.
fn read(path: &Path) -> (usize, usize, Bytes) {
    let (source, splits) = scan(path, OnError::Fail).lower(Bytes::mib(64)).unwrap();
    let (mut rows, mut bytes, mut most) = (0, 0, Bytes(0));
    for split in &splits {
        let mut reader = open(&source, split, 0, ReadBatch { bytes: AIM, rows_max: 65_536 });
        let before = rows;
        while let Some(batch) = reader.next_batch().unwrap() {
            rows += batch.num_rows();
            bytes += batch.column(0).as_string::<i32>().iter().flatten().map(str::len).sum::<usize>();
            most = most.max(batch_bytes(&batch));
            assert_eq!(reader.rows_read().0, (rows - before) as u64, "rows are counted as they are returned");
        }
    }
    (rows, bytes, most)
}

#[test]
fn two_thousand_long_values_of_one_dictionary_come_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb.parquet");
    write(&path, texts(std::iter::repeat_n(1, 2000)));
    assert!(fs::metadata(&path).unwrap().len() < 2000, "the file is small");
    let (rows, bytes, most) = read(&path);
    assert_eq!((rows, bytes), (2000, 2000 * LONG));
    assert!(most <= Bytes(LONG as u64 + 100), "{most}");
}

#[test]
fn long_values_behind_many_short_ones_do_not_burst_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("late.parquet");
    write(&path, texts((0..30_000).map(|n| i32::from(n >= 29_700))));
    let (rows, bytes, most) = read(&path);
    assert_eq!((rows, bytes), (30_000, 29_700 * 5 + 300 * LONG));
    assert!(most <= Bytes(LONG as u64 + 100), "{most}");
}

/// What texts are stored as, each with as many texts as numbers.
fn columns(numbers: impl IntoIterator<Item = i32>) -> Vec<ArrayRef> {
    let texts = texts(numbers);
    let rows = texts.len();
    let item = |data_type: &DataType| Arc::new(Field::new("item", data_type.clone(), true));
    let one_each = || OffsetBuffer::from_lengths(std::iter::repeat_n(1, rows));
    let stored = |values: DataType| {
        let keyed = DataType::Dictionary(Box::new(DataType::Int32), Box::new(values));
        cast(&texts, &keyed).unwrap()
    };
    let large = stored(DataType::LargeUtf8);
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..rows as i32));
    let (key, value) = (Arc::new(Field::new("key", DataType::Int32, false)), item(texts.data_type()));
    let entries = StructArray::new(vec![key, value].into(), vec![numbers, Arc::clone(&texts)], None);
    let entry = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let list: ArrayRef = Arc::new(ListArray::new(item(texts.data_type()), one_each(), Arc::clone(&texts), None));
    vec![
        stored(DataType::LargeBinary),
        stored(DataType::Binary),
        cast(&list, &DataType::ListView(item(texts.data_type()))).unwrap(),
        cast(&list, &DataType::LargeList(item(texts.data_type()))).unwrap(),
        list,
        Arc::new(FixedSizeListArray::new(item(large.data_type()), 1, Arc::clone(&large), None)),
        Arc::new(MapArray::new(entry, one_each(), entries, None, false)),
        Arc::new(StructArray::new(vec![item(large.data_type())].into(), vec![Arc::clone(&large)], None)),
        large,
    ]
}

#[test]
fn values_of_any_type_do_not_burst_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("typed.parquet");
    for column in columns((0..3000).map(|n| i32::from(n >= 2980))) {
        let kind = column.data_type().clone();
        write(&path, column);
        let (source, splits) = scan(&path, OnError::Fail).lower(Bytes::mib(64)).unwrap();
        let mut reader = open(&source, &splits[0], 0, ReadBatch { bytes: AIM, rows_max: 65_536 });
        let (mut rows, mut long) = (0, 0);
        while let Some(batch) = reader.next_batch().unwrap() {
            let bytes = batch.column(0).get_array_memory_size();
            // Twice the value where it was appended to a buffer.
            assert!(bytes < 3 * LONG, "{bytes} B in {} rows of {kind}", batch.num_rows());
            rows += batch.num_rows();
            long += usize::from(bytes > LONG);
        }
        assert_eq!((rows, long), (3000, 20), "{kind}");
    }
}

#[test]
fn values_that_share_a_prefix_come_a_few_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prefix.parquet");
    let schema = Arc::new(Schema::new(vec![Field::new("s", DataType::LargeUtf8, false)]));
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_encoding(Encoding::DELTA_BYTE_ARRAY)
        .build();
    let mut writer =
        ArrowWriter::try_new(fs::File::create(&path).unwrap(), Arc::clone(&schema), Some(properties)).unwrap();
    let mut write = |texts: Vec<String>| {
        let column: ArrayRef = Arc::new(LargeStringArray::from_iter_values(texts));
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap()).unwrap();
    };
    write(vec!["short".to_owned(); 2000]);
    for _ in 0..100 {
        write(vec!["x".repeat(LONG / 10); 10]);
    }
    writer.close().unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 3 * LONG as u64);
    let (source, splits) = scan(&path, OnError::Fail).lower(Bytes::mib(64)).unwrap();
    let mut reader = open(&source, &splits[0], 0, ReadBatch { bytes: AIM, rows_max: 65_536 });
    let mut rows = 0;
    while let Some(batch) = reader.next_batch().unwrap() {
        assert!(batch.num_rows() <= 64 && batch.get_array_memory_size() < 14 * LONG, "{}", batch.num_rows());
        rows += batch.num_rows();
    }
    assert_eq!(rows, 3000);
}

#[test]
fn a_page_of_zeros_that_nobody_has_memory_for_is_refused_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zeros.parquet");
    let zeros: ArrayRef = Arc::new(BinaryArray::from_iter_values([vec![0u8; 80 << 20]]));
    let batch = RecordBatch::try_from_iter([("s", zeros)]).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (source, splits) = scan(&path, OnError::Fail).lower(Bytes::mib(64)).unwrap();
    let mut reader = open(&source, &splits[0], 0, ReadBatch { bytes: AIM, rows_max: 65_536 });
    let error = reader.next_batch().unwrap_err().to_string();
    assert!(error.contains("zeros.parquet") && error.contains("would take 80.0 MiB from"), "{error}");
}

#[test]
fn a_row_that_nobody_has_memory_for_is_refused_by_file_and_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("row.parquet");
    let values = texts(std::iter::repeat_n(0, 3).chain(std::iter::repeat_n(1, 1300)));
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    write(&path, Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1, 2, 1300]), values, None)));
    let read = |on_error| {
        // All rows in one split.
        let (source, splits) = scan(&path, on_error).lower(Bytes::mib(1 << 20)).unwrap();
        let mut reader = open(&source, &splits[0], 0, ReadBatch { bytes: AIM, rows_max: 65_536 });
        let mut rows = 0;
        let end = loop {
            match reader.next_batch() {
                Ok(Some(batch)) => rows += batch.num_rows(),
                Ok(None) => break Ok(reader.take_skipped()),
                Err(error) => break Err(error.to_string()),
            }
        };
        (rows, end)
    };
    let (rows, error) = read(OnError::Fail);
    assert_eq!(rows, 2, "{error:?}");
    let error = error.unwrap_err();
    assert!(error.contains("row.parquet") && error.contains("row 2 of its row groups takes 1.1 GiB"), "{error}");
    let (rows, skipped) = read(OnError::Skip);
    assert!(rows == 2 && skipped.unwrap()[0].contains("1 rows given up"));
}

/// A file of one row with a list of this many times the same number.
fn one_long_list(path: &Path, values: usize) {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![7; values]));
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    let lengths = OffsetBuffer::from_lengths([values.len()]);
    write(path, Arc::new(ListArray::new(item, lengths, values, None)));
}

/// A number as headers and footers hold it.
fn varint(number: usize) -> Vec<u8> {
    let (mut bytes, mut left) = (Vec::new(), number * 2);
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

/// Writes another number in place of this one, in the footer or in front of it.
fn forge(path: &Path, number: usize, claimed: usize, in_footer: bool) {
    let mut bytes = fs::read(path).unwrap();
    let tail = bytes.len() - 8;
    let length = u32::from_le_bytes(bytes[tail..tail + 4].try_into().unwrap()) as usize;
    let part = if in_footer { tail - length..tail } else { 0..tail - length };
    let (number, claimed) = (varint(number), varint(claimed));
    assert_eq!(number.len(), claimed.len());
    let places: Vec<usize> = part.filter(|at| bytes[*at..].starts_with(&number)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + claimed.len()].copy_from_slice(&claimed);
    }
    fs::write(path, bytes).unwrap();
}

fn first_error(path: &Path) -> String {
    let (source, splits) = scan(path, OnError::Fail).lower(Bytes::mib(1 << 20)).unwrap();
    let mut reader = open(&source, &splits[0], 0, ReadBatch { bytes: AIM, rows_max: 65_536 });
    reader.next_batch().unwrap_err().to_string()
}

#[test]
fn a_list_of_more_values_than_anybody_has_memory_for_is_refused_by_its_page_and_by_its_footer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.parquet");
    for (in_footer, why) in [(false, "a row may take 1.5 GiB"), (true, "row 0 of its row groups takes 1.5 GiB")] {
        one_long_list(&path, 1_100_000);
        forge(&path, 1_100_000, 130_000_000, in_footer);
        let error = first_error(&path);
        assert!(error.contains("runs.parquet") && error.contains(why), "{error}");
    }
}

#[test]
fn a_footer_that_claims_or_nests_without_end_is_refused_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forged.parquet");
    // A schema of elements that have one in them each, said to be so many.
    let element = [0x35, 0x00, 0x18, 0x01, b'a', 0x15, 0x02, 0x00];
    for (count, elements, why) in [(1 << 30, 1, "claims more than it holds"), (1 << 20, 1 << 20, "is too deep")] {
        let footer = [&[0x15, 0x02, 0x19, 0xfc][..], &unsigned(count), &element.repeat(elements), &[0x00]].concat();
        let length = (footer.len() as u32).to_le_bytes();
        fs::write(&path, [b"PAR1", &footer[..], &length, b"PAR1"].concat()).unwrap();
        let error = ParquetScan::open(&path, ReadOptions::default()).unwrap_err().to_string();
        assert!(error.contains("forged.parquet") && error.contains(why), "{error}");
    }
}

/// Of an even number: a length as a footer holds it.
fn unsigned(length: usize) -> Vec<u8> {
    varint(length / 2)
}
