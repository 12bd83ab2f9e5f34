//! Tests of pruning: never a row too few, and rows saved where they can be.

use std::fs;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampSecondArray,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, TimeUnit};
use mobula_actors::operator::ReadBatch;
use mobula_actors::units::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use proptest::prelude::*;

use crate::expr::{Expr, Literal, col, lit};
use crate::io::testing::{drain, open, read_all};
use crate::io::{ParquetScan, ReadOptions, Scan};

/// One row: nullable columns of several types.
type Row = (Option<i32>, Option<f64>, Option<String>, Option<bool>);

fn batch(rows: &[Row]) -> RecordBatch {
    let n: ArrayRef = Arc::new(rows.iter().map(|r| r.0).collect::<Int32Array>());
    let f: ArrayRef = Arc::new(rows.iter().map(|r| r.1).collect::<Float64Array>());
    let s: ArrayRef = Arc::new(rows.iter().map(|r| r.2.clone()).collect::<StringArray>());
    let b: ArrayRef = Arc::new(rows.iter().map(|r| r.3).collect::<BooleanArray>());
    let t: ArrayRef = Arc::new(rows.iter().map(|r| r.0.map(i64::from)).collect::<TimestampSecondArray>());
    RecordBatch::try_from_iter_with_nullable([
        ("n", n, true),
        ("f", f, true),
        ("s", s, true),
        ("b", b, true),
        ("t", t, true),
    ])
    .unwrap()
}

/// A file of these rows; row groups, pages and statistics as given. Text bounds are cut to two bytes.
fn scan(
    dir: &tempfile::TempDir,
    batch: &RecordBatch,
    group: usize,
    page: usize,
    statistics: EnabledStatistics,
) -> Scan {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group))
        .set_data_page_row_count_limit(page)
        .set_write_batch_size(page)
        .set_statistics_enabled(statistics)
        .set_statistics_truncate_length(Some(2))
        .set_column_index_truncate_length(Some(2))
        .build();
    let path = dir.path().join("a.parquet");
    let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    ParquetScan::open(path, ReadOptions::default()).unwrap()
}

fn matching(batch: &RecordBatch, predicate: &Expr) -> RecordBatch {
    let mask = predicate.bind(&batch.schema()).unwrap().evaluate(batch).unwrap();
    filter_record_batch(batch, mask.as_boolean()).unwrap()
}

fn numbers(batch: &RecordBatch) -> Vec<Option<i32>> {
    batch.column(0).as_primitive::<arrow::datatypes::Int32Type>().iter().collect()
}

fn sorted_rows() -> Vec<Row> {
    (0..100).map(|i| (Some(i), Some(f64::from(i)), Some(format!("{i:03}")), Some(i >= 50))).collect()
}

/// Rows that are read of 100 sorted ones, in row groups of 20 and pages of 5.
fn check_read(predicate: Expr, groups: usize, pages: usize) {
    let dir = tempfile::tempdir().unwrap();
    let all = batch(&sorted_rows());
    for (statistics, expected) in
        [(EnabledStatistics::None, 100), (EnabledStatistics::Chunk, groups), (EnabledStatistics::Page, pages)]
    {
        let scan = scan(&dir, &all, 20, 5, statistics).with_predicate(&predicate);
        let read = read_all(&scan, Bytes(1)).unwrap();
        assert_eq!(read.num_rows(), expected, "{predicate}, {statistics:?}");
        assert_eq!(matching(&read, &predicate), matching(&all, &predicate), "{predicate}");
    }
}

#[test]
fn bounds_save_reading() {
    check_read(col("n").gt(77), 40, 25);
    check_read(col("n").gt(77.5), 40, 25);
    check_read(lit(77).lt(col("n")), 40, 25);
    check_read(col("n").eq(33), 20, 5);
    check_read(col("f").lt_eq(3.0), 20, 5);
    check_read(col("s").eq("033"), 20, 10);
    check_read(col("b"), 60, 50);
    check_read(!col("b"), 60, 50);
    check_read(col("n").lt(5).or(col("n").gt_eq(95)), 40, 10);
    check_read(col("n").gt(33).and(col("f").lt(38.0)), 20, 10);
    check_read(!col("n").lt(80), 20, 20);
    check_read(col("n").is_in([1, 99]), 40, 10);
    check_read(col("n").is_null(), 0, 0);
    check_read(col("n").is_not_null(), 100, 100);
    check_read(col("n").gt(1000), 0, 0);
    let at = |seconds: i64| lit(seconds).cast(DataType::Timestamp(TimeUnit::Second, None));
    check_read(col("t").lt(at(10)), 20, 10);
}

#[test]
fn a_page_index_that_claims_without_end_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let all = batch(&sorted_rows());
    scan(&dir, &all, 20, 5, EnabledStatistics::Page);
    let path = dir.path().join("a.parquet");
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&fs::File::open(&path).unwrap()).unwrap();
    let at = metadata.row_group(4).column(0).offset_index_offset().unwrap() as usize;
    let mut bytes = fs::read(&path).unwrap();
    // A list of as many places as there can be.
    bytes[at..at + 7].copy_from_slice(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07]);
    fs::write(&path, bytes).unwrap();
    let forged = ParquetScan::open(path, ReadOptions::default()).unwrap().with_predicate(&col("n").gt(77));
    let read = read_all(&forged, Bytes(1)).unwrap();
    assert_eq!((read.num_rows(), matching(&read, &col("n").gt(77)).num_rows()), (40, 22));
}

#[test]
fn what_is_not_understood_reads_all() {
    check_read((col("n") + 1).gt(77), 100, 100);
    check_read(!col("f").lt(80.0), 100, 100);
    check_read(col("f").ne(80.0), 100, 100);
    check_read(col("n").gt(77).or((col("n") + 1).lt(0)), 100, 100);
}

#[test]
fn a_limit_and_a_predicate_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let scan = scan(&dir, &batch(&sorted_rows()), 20, 5, EnabledStatistics::Page);
    let limited = scan.with_limit(30).with_predicate(&col("n").gt(77));
    assert_eq!(numbers(&read_all(&limited, Bytes(1)).unwrap()).len(), 30);
    let pruned = scan.with_predicate(&col("n").gt(77)).with_limit(1);
    assert_eq!(numbers(&read_all(&pruned, Bytes(1)).unwrap()).len(), 25);
    assert_eq!(pruned.row_count(), None);
    assert!(pruned.describe().ends_with("a.parquet, pruned by n > 77"), "{}", pruned.describe());
}

#[test]
fn a_predicate_on_a_column_that_is_not_read_prunes() {
    let dir = tempfile::tempdir().unwrap();
    let scan = scan(&dir, &batch(&sorted_rows()), 20, 5, EnabledStatistics::Page);
    let narrow = scan.with_predicate(&col("n").gt(77)).with_projection(&["b"]).unwrap();
    assert_eq!(read_all(&narrow, Bytes(1)).unwrap().num_rows(), 25);
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(f64::NAN),
        Just(-f64::NAN),
        Just(0.0),
        Just(-0.0),
        Just(f64::INFINITY),
        (-5i32..5).prop_map(f64::from)
    ]
}

fn row() -> impl Strategy<Value = Row> {
    use proptest::option::weighted;
    let text = "[a-b\u{7f}\u{e9}\u{10ffff}]{0,4}";
    (weighted(0.8, -5i32..5), weighted(0.8, float()), weighted(0.8, text), weighted(0.8, any::<bool>()))
}

fn condition() -> impl Strategy<Value = Expr> {
    let value = prop_oneof![
        (-5i32..5).prop_map(|n| (col("n"), lit(n))),
        float().prop_map(|f| (col("n"), lit(f))),
        float().prop_map(|f| (col("f"), lit(f))),
        (-5i32..5).prop_map(|n| (col("f"), lit(n))),
        "[a-b\u{7f}\u{e9}\u{10ffff}]{0,4}".prop_map(|s| (col("s"), lit(s))),
        any::<bool>().prop_map(|b| (col("b"), lit(b))),
    ];
    let compare = (value, 0..6, any::<bool>()).prop_map(|((a, b), op, swap)| {
        let (a, b) = if swap { (b, a) } else { (a, b) };
        match op {
            0 => a.eq(b),
            1 => a.ne(b),
            2 => a.lt(b),
            3 => a.lt_eq(b),
            4 => a.gt(b),
            _ => a.gt_eq(b),
        }
    });
    prop_oneof![
        6 => compare,
        1 => Just(col("b")),
        1 => prop_oneof![Just("n"), Just("f"), Just("s")].prop_map(|name| col(name).is_null()),
        1 => prop_oneof![Just("n"), Just("f"), Just("s")].prop_map(|name| col(name).is_not_null()),
        1 => proptest::collection::vec(-5i32..5, 0..3).prop_map(|list| col("n").is_in(list)),
        1 => proptest::collection::vec(float().prop_map(Literal::from), 1..3).prop_map(|list| col("f").is_in(list)),
    ]
}

fn predicate() -> impl Strategy<Value = Expr> {
    condition().prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.or(b)),
            inner.prop_map(|a| !a),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn pruning_never_loses_a_row(
        rows in proptest::collection::vec(row(), 1..40),
        predicate in predicate(),
        (group, page) in (1usize..12, 1usize..6),
        statistics in prop_oneof![Just(EnabledStatistics::Chunk), Just(EnabledStatistics::Page)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let all = batch(&rows);
        let pruned = scan(&dir, &all, group, page, statistics).with_predicate(&predicate);
        let read = read_all(&pruned, Bytes(200)).unwrap();
        let (found, expected) = (matching(&read, &predicate), matching(&all, &predicate));
        prop_assert_eq!(format!("{:?}", found.columns()), format!("{:?}", expected.columns()), "{}", predicate);
    }

    #[test]
    fn resuming_between_batches_is_exact_under_pruning(
        rows in proptest::collection::vec(row(), 1..60),
        predicate in predicate(),
        (group, page, most) in (1usize..12, 1usize..6, 1usize..9),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let pruned = scan(&dir, &batch(&rows), group, page, EnabledStatistics::Page).with_predicate(&predicate);
        let (source, splits) = pruned.lower(Bytes(300)).unwrap();
        let size = ReadBatch { bytes: Bytes::mib(1), rows_max: most };
        for split in &splits {
            let mut reader = open(&source, split, 0, size);
            let mut steps = vec![(0, None)];
            while let Some(batch) = reader.next_batch().unwrap() {
                steps.push((reader.rows_read().0, Some(batch)));
            }
            prop_assert_eq!(Some(reader.rows_read()), split.rows);
            for (done, (from, _)) in steps.iter().enumerate() {
                let rest = drain(open(&source, split, *from, size).as_mut(), *from).unwrap();
                let expected: Vec<_> = steps.iter().skip(done + 1).filter_map(|(_, batch)| batch.clone()).collect();
                let schema = pruned.schema();
                let (rest, expected) = (concat_batches(&schema, &rest).unwrap(), concat_batches(&schema, &expected).unwrap());
                prop_assert_eq!(format!("{:?}", rest.columns()), format!("{:?}", expected.columns()));
            }
        }
    }
}
