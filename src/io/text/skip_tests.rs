//! Tests of files that are read as far as they are good: all rows before the first bad line, and none behind it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use mobula_actors::operator::ReadBatch;
use mobula_actors::units::Bytes;
use proptest::prelude::*;

use super::{CsvOptions, CsvScan, JsonOptions, JsonScan};
use crate::io::testing::{BATCH, drain, open};
use crate::io::{OnError, Scan};

/// Bad lines of each kind, with a part of what is said of them.
fn bad_lines(name: &str) -> Vec<(Vec<u8>, &'static str)> {
    if name.ends_with("csv") {
        return vec![
            (b"1,2,3\n".into(), "incorrect number of fields"),
            (b"1\n".into(), "incorrect number of fields"),
            (b"five,x\n".into(), "'five'"),
            (b"1.5,x\n".into(), "'1.5'"),
            (b"1,\xff\n".into(), "UTF-8"),
            (b"\"1,x\n".into(), "is not closed before the file ends"),
        ];
    }
    let deep = format!("{{\"b\":{}{}}}\n", "[".repeat(200), "]".repeat(200));
    vec![
        (b"{\"a\":0.25}\n".into(), "0.25 is no whole number"),
        (deep.into(), "nested deeper than 128"),
        (b"{\"a\":\n".into(), ""),
        (b"{\"a\":1}{\"a\":2}\n".into(), "more than one object in a line"),
        (b"{\"a\":\"x\"}\n".into(), "\"x\""),
        (b"{\"b\":\"\xff\"}\n".into(), "UTF-8"),
        (b"[1]\n".into(), ""),
    ]
}

fn good_lines(name: &str, rows: usize) -> Vec<u8> {
    let csv = name.ends_with("csv");
    let line = |i: usize| if csv { format!("{i},\"x,{i}\"\n") } else { format!("{{\"a\":{i},\"b\":\"x\"}}\n") };
    let header = if csv { "a,b\n" } else { "" };
    format!("{header}{}", (0..rows).map(line).collect::<String>()).into_bytes()
}

/// A file of good lines, a bad one and more good ones.
fn write(path: &Path, rows: usize, bad: &[u8]) -> Scan {
    let name = path.to_str().unwrap();
    fs::write(path, [&good_lines(name, rows), bad, b"7,y\n"].concat()).unwrap();
    let field = |name, data_type| Field::new(name, data_type, true);
    let schema = Some(Arc::new(Schema::new(vec![field("a", DataType::Int64), field("b", DataType::Utf8)])));
    let on_error = OnError::Skip;
    match name.ends_with("csv") {
        true => CsvScan::open(path, CsvOptions { schema, on_error, ..CsvOptions::default() }).unwrap(),
        false => JsonScan::open(path, JsonOptions { schema, on_error, ..JsonOptions::default() }).unwrap(),
    }
}

/// What is read from a row on: the rows of each batch, and what was skipped.
fn read(scan: &Scan, from: usize, batch: ReadBatch) -> (Vec<Vec<i64>>, String) {
    let (source, splits) = scan.lower(Bytes::mib(1)).unwrap();
    let mut reader = open(&source, &splits[0], from as u64, batch);
    let batches = drain(reader.as_mut(), from as u64).unwrap();
    let rows = batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
    let skipped = reader.take_skipped();
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    (rows.collect(), skipped[0].clone())
}

fn line_of(name: &str, row: usize) -> usize {
    row + if name.ends_with("csv") { 2 } else { 1 }
}

#[test]
fn all_rows_before_a_bad_line_of_the_same_batch_are_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let batch = ReadBatch { bytes: Bytes::mib(4), rows_max: 8192 };
    for name in ["a.csv", "a.json"] {
        for (bad, why) in bad_lines(name) {
            let scan = write(&dir.path().join(name), 2000, &bad);
            let line = line_of(name, 2000);
            for from in [0, 1, 1000, 1999, 2000] {
                let (rows, skipped) = read(&scan, from, batch);
                // 64 rows to see what one takes, and all others in one batch.
                assert!(
                    rows.last().is_none_or(|last| last.len() == 2000_usize.saturating_sub(from + 64) || from > 1936)
                );
                assert_eq!(rows.concat(), (from as i64..2000).collect::<Vec<_>>());
                let expected = format!("the rest of the file is given up from line {line} on: ");
                assert!(skipped.starts_with(&expected) && skipped.contains(why), "{skipped}");
                assert!(skipped.contains(&format!("{name}, line {line}: ")), "{skipped}");
            }
        }
    }
}

#[test]
fn all_rows_before_a_record_that_is_too_long_are_delivered() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.csv", "a.json"] {
        let begin = if name.ends_with("csv") { "1,\"" } else { "{\"b\":\"" };
        let bad = format!("{begin}{}", "x".repeat(5 << 20));
        let scan = write(&dir.path().join(name), 2000, bad.as_bytes());
        for from in [0, 1999, 2000] {
            let (rows, skipped) = read(&scan, from, BATCH);
            assert_eq!(rows.concat(), (from as i64..2000).collect::<Vec<_>>());
            let line = line_of(name, 2000);
            assert!(skipped.contains(&format!("given up from line {line} on: ")), "{skipped}");
            assert!(skipped.contains("a record of more than 4.0 MiB begins here"), "{skipped}");
        }
    }
}

#[test]
fn a_bad_line_among_those_of_the_schema_loses_no_row_before_it() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bad) in [("a.csv", "1,2,3\n"), ("a.json", "{\"a\":\n")] {
        let path = dir.path().join(name);
        write(&path, 30, bad.as_bytes());
        let on_error = OnError::Skip;
        let scan = match name {
            "a.csv" => CsvScan::open(&path, CsvOptions { on_error, ..CsvOptions::default() }).unwrap(),
            _ => JsonScan::open(&path, JsonOptions { on_error, ..JsonOptions::default() }).unwrap(),
        };
        let (rows, skipped) = read(&scan, 0, BATCH);
        assert_eq!(rows.concat(), (0..30).collect::<Vec<_>>());
        assert!(skipped.contains(&format!("given up from line {} on: ", line_of(name, 30))), "{skipped}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn batches_do_not_show_in_what_is_given_up(
        good in 0usize..40,
        from in 0usize..40,
        kind in any::<proptest::sample::Index>(),
        bytes in 1u64..2000,
        rows_max in 1usize..50,
    ) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.csv", "a.json"] {
            let kinds = bad_lines(name);
            let (bad, _) = kind.get(&kinds);
            let scan = write(&dir.path().join(name), good, bad);
            let from = from.min(good);
            let (rows, skipped) = read(&scan, from, ReadBatch { bytes: Bytes(bytes), rows_max });
            prop_assert_eq!(rows.concat(), (from as i64..good as i64).collect::<Vec<_>>());
            let line = line_of(name, good);
            prop_assert!(skipped.contains(&format!("given up from line {line} on: ")), "{}", skipped);
        }
    }
}
