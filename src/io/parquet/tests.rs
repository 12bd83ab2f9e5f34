//! Tests of the Parquet source, with files that other programs and our own sink wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::sum;
use arrow::datatypes::{DataType, Int64Type};
use mobula_actors::block::Segment;
use mobula_actors::operator::{ReadBatch, SourceRecipe};
use mobula_actors::units::{Bytes, Rows};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use proptest::prelude::*;

use super::{ParquetScan, ReadOptions};
use crate::io::testing::{BATCH, context, drain, ids, open, read_all, skipped};
use crate::io::{OnError, Scan};

fn write(path: &Path, batch: &RecordBatch, properties: WriterPropertiesBuilder) {
    let file = fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn groups_of(rows: usize) -> WriterPropertiesBuilder {
    WriterProperties::builder().set_max_row_group_row_count(Some(rows))
}

/// Row groups of `rows` rows with pages of `page` rows.
fn pages_of(rows: usize, page: usize) -> WriterPropertiesBuilder {
    groups_of(rows).set_data_page_row_count_limit(page).set_write_batch_size(page)
}

fn scan(path: impl crate::io::IntoPaths) -> Scan {
    ParquetScan::open(path, ReadOptions::default()).unwrap()
}

fn error(path: impl crate::io::IntoPaths) -> String {
    ParquetScan::open(path, ReadOptions::default()).unwrap_err().to_string()
}

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits/*.parquet")
}

#[test]
fn digits_of_another_program_are_all_there() {
    let scan = scan(digits());
    assert_eq!(scan.row_count(), Some(1797));
    let batch = read_all(&scan, Bytes::mib(8)).unwrap();
    assert_eq!(batch.num_rows(), 1797);
    // The digits dataset as published: 1797 labels that add up to 8070.
    let labels = scan.with_projection(&["digit"]).unwrap();
    let labels = read_all(&labels, Bytes::mib(8)).unwrap();
    let labels = arrow::compute::cast(labels.column(0), &DataType::Int64).unwrap();
    assert_eq!(sum(labels.as_primitive::<Int64Type>()), Some(8070));
}

#[test]
fn splits_are_row_groups_of_about_the_target() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.parquet"), &ids(0..100), groups_of(10));
    let (_, splits) = scan(dir.path()).lower(Bytes(8 * 25)).unwrap();
    let rows: Vec<_> = splits.iter().map(|s| s.rows.unwrap().0).collect();
    assert_eq!(rows, [20; 5]);
    assert_eq!(splits[0].bytes, Bytes(160));
    assert!(splits[1].label.ends_with("a.parquet, row groups 2..=3"), "{}", splits[1].label);
    let path = dir.path().join("a.parquet");
    assert_eq!(splits[1].place(), (path.to_str().unwrap(), Rows(20)), "rows are named as those of the file");
    assert_eq!(read_all(&scan(dir.path()), Bytes(1)).unwrap(), ids(0..100));
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_is_refused_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    // One is held in memory whole, the other is read page by page.
    for rows in [20_000, 300_000] {
        for cut in [0, 100] {
            write(&path, &ids(0..rows), groups_of(1 << 20).set_dictionary_enabled(false));
            let (source, splits) = scan(&path).lower(Bytes::mib(100)).unwrap();
            let mut reader = open(&source, &splits[0], 0, BATCH);
            assert!(reader.next_batch().unwrap().is_some());
            let size = fs::metadata(&path).unwrap().len();
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(if cut > 0 { cut } else { size + 1 }).unwrap();
            let read = reader.rows_read().0;
            let error = drain(reader.as_mut(), read).unwrap_err().to_string();
            assert!(
                error.contains("a.parquet changed since the job was planned"),
                "{rows} rows, cut at {cut}: {error}"
            );
        }
    }
}

#[test]
fn a_projection_reads_columns_in_the_order_asked_for() {
    let scan = scan(digits());
    let names: Vec<String> = scan.schema().fields().iter().rev().take(3).map(|f| f.name().clone()).collect();
    let narrow = scan.with_projection(&names).unwrap();
    let batch = read_all(&narrow, Bytes::mib(1)).unwrap();
    let all = read_all(&scan, Bytes::mib(1)).unwrap();
    for name in &names {
        assert_eq!(batch.column_by_name(name), all.column_by_name(name));
    }
    assert_eq!(batch.schema(), narrow.schema());
    let error = scan.with_projection(&["digits"]).unwrap_err().to_string();
    assert!(error.contains("column \"digits\" not found; there are: "), "{error}");
}

#[test]
fn no_columns_still_have_rows() {
    let none = scan(digits()).with_projection::<&str>(&[]).unwrap();
    assert_eq!(read_all(&none, Bytes::mib(1)).unwrap().num_rows(), 1797);
}

#[test]
fn batches_of_large_rows_keep_to_the_bytes_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<String> = (10..50).map(|i: i32| i.to_string().repeat(50_000)).collect();
    let strings = StringArray::from_iter_values(&large);
    let batch = RecordBatch::try_from_iter([("s", Arc::new(strings) as ArrayRef)]).unwrap();
    write(&dir.path().join("a.parquet"), &batch, groups_of(1000));
    let (source, splits) = scan(dir.path()).lower(Bytes::mib(100)).unwrap();
    let size = ReadBatch { bytes: Bytes(300_000), rows_max: 8192 };
    let mut reader = open(&source, &splits[0], 0, size);
    let promised = reader.next_bytes();
    let batches = drain(reader.as_mut(), 0).unwrap();
    assert!(batches.iter().all(|b| b.num_rows() <= 3), "rows: {:?}", batches.iter().map(|b| b.num_rows()).max());
    assert!(promised >= Bytes(200_000), "{promised}");
}

#[test]
fn a_dictionary_of_long_values_does_not_burst_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(10_000);
    let strings = StringArray::from_iter_values((0..5000).map(|_| &long));
    let batch = RecordBatch::try_from_iter([("s", Arc::new(strings) as ArrayRef)]).unwrap();
    write(&dir.path().join("a.parquet"), &batch, groups_of(10_000));
    let (source, splits) = scan(dir.path()).lower(Bytes::mib(100)).unwrap();
    let mut reader = open(&source, &splits[0], 0, ReadBatch { bytes: Bytes(1_000_000), rows_max: 8192 });
    let batches = drain(reader.as_mut(), 0).unwrap();
    assert!(batches.iter().all(|b| b.num_rows() <= 200), "rows: {:?}", batches.iter().map(|b| b.num_rows()).max());
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 5000);
}

#[test]
fn a_limit_cuts_the_splits() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..3 {
        write(&dir.path().join(format!("{file}.parquet")), &ids(file * 100..file * 100 + 100), groups_of(10));
    }
    let first = scan(dir.path()).with_limit(115);
    assert_eq!(first.row_count(), Some(115));
    assert_eq!(read_all(&first, Bytes(200)).unwrap(), ids(0..115));
    let (_, splits) = first.lower(Bytes::mib(1)).unwrap();
    assert_eq!(
        splits.iter().map(|s| (s.rows, s.bytes)).collect::<Vec<_>>(),
        [(Some(Rows(100)), Bytes(800)), (Some(Rows(15)), Bytes(120))]
    );
}

#[test]
fn files_without_rows_or_row_groups_are_fine() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.parquet"), &ids(0..0), groups_of(10));
    assert_eq!(read_all(&scan(dir.path()), Bytes(1)).unwrap(), ids(0..0));
    write(&dir.path().join("b.parquet"), &ids(0..3), groups_of(10));
    assert_eq!(read_all(&scan(dir.path()), Bytes(1)).unwrap(), ids(0..3));
}

#[test]
fn mixed_schemas_name_both_files_and_the_column() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.parquet"), &ids(0..3), groups_of(10));
    let other = RecordBatch::try_from_iter([("id", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]).unwrap();
    write(&dir.path().join("b.parquet"), &other, groups_of(10));
    // Which of the two is the odd one nobody can tell, so neither is skipped.
    for on_error in [OnError::Fail, OnError::Skip] {
        let error = ParquetScan::open(dir.path(), ReadOptions::default().on_error(on_error)).unwrap_err().to_string();
        assert!(error.contains("a.parquet and ") && error.contains("b.parquet differ: column \"id\""), "{error}");
    }
}

#[test]
fn nullability_widens_over_files() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.parquet"), &ids(0..2), groups_of(10));
    let null: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(2)]));
    write(&dir.path().join("b.parquet"), &RecordBatch::try_from_iter([("id", null)]).unwrap(), groups_of(10));
    let batch = read_all(&scan(dir.path()), Bytes(1)).unwrap();
    assert_eq!(batch.column(0).as_ref(), &Int64Array::from(vec![Some(0), Some(1), None, Some(2)]));
}

#[test]
fn damaged_files_name_the_path_and_are_skipped_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write(&path("a.parquet"), &ids(0..1000), groups_of(100));
    let whole = fs::read(path("a.parquet")).unwrap();
    let mut bad_page = whole.clone();
    bad_page[4..2000].fill(0xff);
    let cases: [(&str, &[u8]); 4] = [
        ("cut", &whole[..whole.len() / 2]),
        ("empty", &[]),
        ("text", b"this is not a Parquet file"),
        ("tail", b"PAR1aaaa\xff\xff\xff\xffPAR1"),
    ];
    for (name, bytes) in cases {
        let name = format!("{name}.parquet");
        fs::write(path(&name), bytes).unwrap();
        let error = error(path(&name));
        assert!(error.contains(&name) && error.contains("on_error = skip"), "{error}");
    }
    fs::write(path("page.parquet"), &bad_page).unwrap();
    assert!(read_all(&scan(path("page.parquet")), Bytes::mib(1)).unwrap_err().to_string().contains("page.parquet"));

    let lenient = ParquetScan::open(dir.path(), ReadOptions::default().on_error(OnError::Skip)).unwrap();
    let gone = skipped(&lenient);
    assert_eq!(gone.len(), 5, "{gone:#?}");
    assert_eq!(read_all(&lenient, Bytes::mib(1)).unwrap(), ids(0..1000));
    let nothing = ParquetScan::open(path("cut.parquet"), ReadOptions::default().on_error(OnError::Skip));
    assert!(nothing.unwrap_err().to_string().contains("no schema"));
}

#[test]
fn a_file_that_changed_since_planning_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    write(&path, &ids(0..10), groups_of(10));
    let (source, splits) = scan(path.clone()).lower(Bytes::mib(1)).unwrap();
    write(&path, &ids(0..20), groups_of(10));
    let error =
        source.build().unwrap().open(&splits[0], Rows(0)..Segment::END, BATCH, &context()).err().unwrap().to_string();
    assert!(error.contains("a.parquet changed since the job was planned"), "{error}");
}

#[test]
fn nested_columns_and_row_groups_resume() {
    let dir = tempfile::tempdir().unwrap();
    let lists = arrow::array::ListArray::from_iter_primitive::<Int64Type, _, _>(
        (0..200).map(|i| (i % 7 != 0).then(|| (0..i % 5).map(Some).collect::<Vec<_>>())),
    );
    let batch = RecordBatch::try_from_iter([("l", Arc::new(lists) as ArrayRef)]).unwrap();
    write(&dir.path().join("a.parquet"), &batch, pages_of(50, 7));
    check_resume(&scan(dir.path()), &batch, 13);
}

#[test]
fn dictionaries_and_views_are_read_as_plain_values() {
    let dir = tempfile::tempdir().unwrap();
    let words = StringArray::from(vec![Some("a"), None, Some("b"), Some("a")]);
    let as_type = |to: &DataType| arrow::compute::cast(&words, to).unwrap();
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let item = Arc::new(arrow::datatypes::Field::new("item", dictionary.clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([3, 1]);
    let lists = arrow::array::ListArray::new(item, offsets, as_type(&dictionary), None);
    let lists: ArrayRef = Arc::new(lists);
    let flat = RecordBatch::try_from_iter([("d", as_type(&dictionary)), ("v", as_type(&DataType::Utf8View))]).unwrap();
    write(&dir.path().join("flat.parquet"), &flat, groups_of(10));
    write(&dir.path().join("list.parquet"), &RecordBatch::try_from_iter([("l", lists)]).unwrap(), groups_of(10));
    let read = read_all(&scan(dir.path().join("flat.parquet")), Bytes(1)).unwrap();
    assert_eq!((read.column(0).as_ref(), read.column(1).as_ref()), (&words as _, &words as _));
    let read = read_all(&scan(dir.path().join("list.parquet")), Bytes(1)).unwrap();
    assert_eq!(read.column(0).as_list::<i32>().values().as_ref(), &words as &dyn arrow::array::Array);
}

#[test]
fn row_groups_around_those_that_are_left_out_are_splits_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.parquet"), &ids(0..50), groups_of(10));
    let (low, high) = (crate::expr::col("id").lt(10), crate::expr::col("id").gt_eq(30));
    let (_, splits) = scan(dir.path()).with_predicate(&low.or(high)).lower(Bytes::mib(1)).unwrap();
    let found: Vec<_> = splits.iter().map(|split| (split.place().1.0, split.rows.unwrap().0)).collect();
    assert_eq!(found, [(0, 10), (30, 20)], "so that each is a run of rows of the file");
}

#[test]
fn a_large_row_group_is_shared_by_several_splits() {
    let dir = tempfile::tempdir().unwrap();
    let words = StringArray::from_iter_values((0..800).map(|i| (i / 100).to_string().repeat(150_000)));
    let numbers = Arc::clone(ids(0..800).column(0));
    let batch = RecordBatch::try_from_iter([("id", numbers), ("w", Arc::new(words) as ArrayRef)]).unwrap();
    write(&dir.path().join("a.parquet"), &batch, groups_of(1000));
    let scan = scan(dir.path());
    let (_, splits) = scan.lower(Bytes::mib(1)).unwrap();
    assert_eq!(splits.iter().map(|s| s.rows.unwrap().0).collect::<Vec<_>>(), [267, 267, 266]);
    assert!(splits[1].label.ends_with("row group 0, rows 267..534"), "{}", splits[1].label);
    assert_eq!(splits[1].place().1, Rows(267));
    let ranges = scan.with_predicate(&crate::expr::col("id").gt_eq(0));
    assert_eq!(read_all(&ranges, Bytes::mib(1)).unwrap(), batch);
    check_resume(&scan, &batch, 133);
    // Only the small column: it is not worth while to cut that.
    assert_eq!(scan.with_projection(&["id"]).unwrap().lower(Bytes::mib(1)).unwrap().1.len(), 1);
}

/// Opens every split at every `step`-th row; together with the rows before, that must be all rows.
fn check_resume(scan: &Scan, all: &RecordBatch, step: usize) {
    let (source, splits) = scan.lower(Bytes::mib(1)).unwrap();
    let mut start = 0;
    for split in &splits {
        let rows = split.rows.unwrap().0 as usize;
        for from in (0..=rows).step_by(step) {
            let mut reader = open(&source, split, from as u64, ReadBatch { bytes: Bytes(256), rows_max: 16 });
            let batches = drain(reader.as_mut(), from as u64).unwrap();
            let read = arrow::compute::concat_batches(&scan.schema(), &batches).unwrap();
            assert_eq!(read.columns(), all.slice(start + from, rows - from).columns(), "from {from}");
            assert_eq!(reader.rows_read().0 as usize, rows);
        }
        start += rows;
    }
    assert_eq!(start, all.num_rows());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn resuming_at_any_row_gives_the_rest(rows in 1i64..300, group in 1usize..100, page in 1usize..40) {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a.parquet"), &ids(0..rows), pages_of(group, page));
        check_resume(&scan(dir.path()), &ids(0..rows), 1 + rows as usize / 20);
    }

    #[test]
    fn damage_anywhere_is_an_error_or_skipped_never_a_panic(
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..300).map(|i| format!("w{}", i % 7))));
        let batch = RecordBatch::try_from_iter([("id", Arc::clone(ids(0..300).column(0))), ("w", words)]).unwrap();
        write(&path, &batch, pages_of(100, 20));
        let mut bytes = fs::read(&path).unwrap();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        fs::write(&path, bytes).unwrap();
        let lenient = ReadOptions::default().on_error(OnError::Skip);
        let predicate = crate::expr::col("id").gt(150).and(crate::expr::col("w").lt("w3"));
        if let Ok(scan) = ParquetScan::open(path, lenient) {
            for scan in [scan.clone(), scan.with_predicate(&predicate)] {
                let (source, splits) = scan.lower(Bytes(1000)).unwrap();
                for split in &splits {
                    let mut reader = source.build().unwrap().open(split, Rows(0)..Segment::END, BATCH, &context()).unwrap();
                    while reader.next_batch().unwrap().is_some() {}
                    prop_assert_eq!(Some(reader.rows_read()), split.rows);
                }
            }
        }
    }
}

#[test]
fn splits_name_files_by_absolute_paths_under_the_label_that_the_user_wrote() {
    // Tests run in the root of the package.
    let (source, splits) = scan("examples/data/digits/*.parquet").lower(Bytes::mib(1)).unwrap();
    assert!(matches!(&source.recipe, SourceRecipe::Named { name, .. } if name == "mobula/parquet@1"));
    assert_eq!(source.label, "read_parquet examples/data/digits/*.parquet");
    for split in splits {
        assert!(split.label.starts_with("examples/data/digits/"), "{}", split.label);
        let part: super::reader::Part = mobula_actors::function::decode(&split.payload).unwrap();
        assert!(part.path.is_absolute() && part.path.is_file(), "{}", part.path.display());
    }
}

#[test]
fn the_codecs_of_other_programs_are_read_and_those_that_are_not_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for (number, codec) in codecs.into_iter().enumerate() {
        let path = dir.path().join(format!("{number}.parquet"));
        write(&path, &ids(0..1_000), WriterProperties::builder().set_compression(codec));
        assert_eq!(read_all(&scan(&path), Bytes::mib(1)).unwrap(), ids(0..1_000), "{codec}");
        assert_eq!(super::scan::unread(codec), None);
    }
    assert_eq!(super::scan::unread(Compression::BROTLI(Default::default())), Some("brotli"));
}
