//! Tests of text files that change while they are read, and of records without end.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use mobula_actors::operator::{ReadBatch, SplitReader};
use mobula_actors::units::Bytes;

use super::{CsvOptions, CsvScan, JsonOptions, JsonScan};
use crate::io::testing::{BATCH, drain, open, read_all, skipped};
use crate::io::{OnError, Scan};

/// A CSV file of some batches, planned and read as far as the first of them.
fn begun(dir: &Path, on_error: OnError) -> (Scan, Box<dyn SplitReader>) {
    let text: String = (0..50_000).map(|i| format!("{i:08}\n")).collect();
    fs::write(dir.join("a.csv"), format!("n\n{text}")).unwrap();
    let scan = CsvScan::open(dir, CsvOptions { on_error, ..CsvOptions::default() }).unwrap();
    let (source, splits) = scan.lower(Bytes::mib(1)).unwrap();
    let mut reader = open(&source, &splits[0], 0, BATCH);
    assert!(reader.next_batch().unwrap().is_some());
    (scan, reader)
}

fn check_changed(change: impl Fn(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut reader) = begun(dir.path(), OnError::Fail);
    change(&dir.path().join("a.csv"));
    let from = reader.rows_read().0;
    let error = drain(reader.as_mut(), from).unwrap_err().to_string();
    assert!(error.contains("a.csv changed since the job was planned"), "{error}");
    let (_, mut reader) = begun(dir.path(), OnError::Skip);
    change(&dir.path().join("a.csv"));
    let from = reader.rows_read().0;
    drain(reader.as_mut(), from).unwrap();
    let skipped = reader.take_skipped();
    assert!(skipped.len() == 1 && skipped[0].contains("changed since the job was planned"), "{skipped:?}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let write = |path: &Path| OpenOptions::new().write(true).open(path).unwrap();
    // Between two records, within one, and to more.
    check_changed(|path| write(path).set_len(2 + 9 * 30_000).unwrap());
    check_changed(|path| write(path).set_len(2 + 9 * 30_000 + 4).unwrap());
    check_changed(|path| OpenOptions::new().append(true).open(path).unwrap().write_all(b"7\n").unwrap());
    check_changed(|path| write(path).set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap());
    // What cannot be decoded any more is blamed on that, too.
    check_changed(|path| fs::write(path, "x,y,z\n".repeat(80_000)).unwrap());
}

#[test]
fn a_file_that_changes_is_an_error_also_where_a_limit_ends_the_reading() {
    let dir = tempfile::tempdir().unwrap();
    let (scan, _) = begun(dir.path(), OnError::Fail);
    let (source, splits) = scan.with_limit(20_000).lower(Bytes::mib(1)).unwrap();
    let mut reader = open(&source, &splits[0], 0, BATCH);
    assert!(reader.next_batch().unwrap().is_some());
    File::open(dir.path().join("a.csv")).unwrap().set_modified(UNIX_EPOCH).unwrap();
    let from = reader.rows_read().0;
    assert!(drain(reader.as_mut(), from).unwrap_err().to_string().contains("changed since"));
}

fn text_schema() -> Option<SchemaRef> {
    Some(Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)])))
}

#[test]
fn a_record_without_end_is_an_error_long_before_it_fills_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.csv"), format!("a\n1\n\"{}", "x\n".repeat(4 << 20))).unwrap();
    let scan = |on_error| {
        let options = CsvOptions { schema: text_schema(), on_error, ..CsvOptions::default() };
        CsvScan::open(dir.path(), options).unwrap()
    };
    let error = read_all(&scan(OnError::Fail), Bytes(1)).unwrap_err().to_string();
    let reason = "a.csv, line 3: a record of more than 4.0 MiB begins here, perhaps a quote that is not closed";
    assert!(error.contains(reason) && error.contains("a larger SessionBuilder::batch_bytes"), "{error}");
    assert_eq!(skipped(&scan(OnError::Skip)).len(), 1);
    let (source, splits) = scan(OnError::Fail).lower(Bytes(1)).unwrap();
    let mut larger = open(&source, &splits[0], 0, ReadBatch { bytes: Bytes::mib(1), rows_max: 8192 });
    let error = drain(larger.as_mut(), 0).unwrap_err().to_string();
    assert!(error.contains("a.csv, line 3: a quote that begins in this record is not closed"), "{error}");
}

#[test]
fn room_for_a_long_record_is_asked_for_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(500_000);
    fs::write(dir.path().join("a.csv"), format!("a\n1\n2\n{long}\n3\n{long}\n")).unwrap();
    let options = CsvOptions { schema: text_schema(), ..CsvOptions::default() };
    let (source, splits) = CsvScan::open(dir.path(), options).unwrap().lower(Bytes(1)).unwrap();
    let mut reader = open(&source, &splits[0], 0, BATCH);
    let mut seen = Vec::new();
    loop {
        let asked = reader.next_bytes() >= Bytes::mib(1);
        let Some(batch) = reader.next_batch().unwrap() else { break };
        seen.push((asked, batch.num_rows()));
    }
    assert_eq!(seen, [(false, 2), (true, 1), (false, 1), (true, 1)]);
}

#[test]
fn a_schema_is_found_within_limits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    let csv = |schema| CsvScan::open(&path, CsvOptions { schema, ..CsvOptions::default() }).unwrap_err().to_string();
    fs::write(&path, ",".repeat(100_000)).unwrap();
    for schema in [None, text_schema()] {
        let error = csv(schema);
        assert!(error.contains("a.csv, line 1: 100001 columns, and no more than 100000 are read"), "{error}");
    }
    fs::write(&path, ",".repeat(33 << 20)).unwrap();
    for (schema, limit) in [(None, "32.0 MiB"), (text_schema(), "1.0 MiB")] {
        let error = csv(schema);
        assert!(error.contains(&format!("a.csv, line 1: a record of more than {limit} begins here")), "{error}");
    }
    let path = dir.path().join("a.json");
    fs::write(&path, format!("\n{{\"a\":[{}1]}}\n", "1,".repeat(33 << 19))).unwrap();
    let error = JsonScan::open(&path, JsonOptions::default()).unwrap_err().to_string();
    assert!(error.contains("a.json, line 2: a record of more than 32.0 MiB begins here"), "{error}");
}
