//! Tests of JSON that is not what it seems: fractions among integers, numbers beyond all range, nesting without end.

use std::fs;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit, UInt64Type};
use arrow::util::pretty::pretty_format_batches;
use mobula_actors::operator::OperatorResult;
use mobula_actors::units::Bytes;

use super::{JsonOptions, JsonScan};
use crate::io::testing::read_all;

fn read_json(text: &str, options: JsonOptions) -> OperatorResult<RecordBatch> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.json"), text).unwrap();
    read_all(&JsonScan::open(dir.path(), options)?, Bytes(1))
}

fn inferred() -> JsonOptions {
    JsonOptions { infer_rows: 1, ..JsonOptions::default() }
}

fn typed(data_type: DataType) -> JsonOptions {
    let schema = Schema::new(vec![Field::new("a", data_type, true)]);
    JsonOptions { schema: Some(Arc::new(schema)), ..JsonOptions::default() }
}

fn check_refused(text: &str, options: JsonOptions, reason: &str) {
    let line = text.lines().count();
    let error = read_json(text, options).unwrap_err().to_string();
    assert!(error.contains(&format!("a.json, line {line}: ")) && error.contains(reason), "{error}");
}

#[test]
fn a_fraction_in_a_column_of_integers_is_an_error() {
    check_refused("{\"a\":1}\n{\"a\":2.7}", inferred(), "2.7 is no whole number that column \"a\" can hold");
    check_refused("{\"x\":0.5,\"a\":1}\n{\"x\":1.5,\"\\u0061\":25e-1}", inferred(), "25e-1 is no whole number");
    check_refused("{\"x\":0.5,\"a\":[1,2]}\n{\"x\":1,\"a\":[3,4.5]}", inferred(), "4.5 is no whole number");
    check_refused("{\"a\":{\"b\":[{\"c\":1}]}}\n{\"a\":{\"b\":[{\"c\":2},{\"c\":-0.1}]}}", inferred(), "column \"a\"");
    check_refused("{\"a\":1.5}", typed(DataType::UInt8), "1.5 is no whole number");
    check_refused("{\"a\":1.5}", typed(DataType::Date32), "1.5 is no whole number");
    check_refused("{\"a\":1}\n{\"a\":-0.5}", typed(DataType::UInt64), "-0.5 is no whole number");
    let map = |value| {
        let fields = vec![Field::new("keys", DataType::Utf8, false), Field::new("values", value, true)];
        let entries = Field::new("entries", DataType::Struct(Fields::from(fields)), false);
        typed(DataType::Map(Arc::new(entries), false))
    };
    check_refused("{\"a\":{\"1.5\":1}}\n{\"a\":{\"k\":1.5}}", map(DataType::Int64), "1.5 is no whole number");
}

#[test]
fn a_field_that_no_inferred_row_has_is_an_error_where_all_columns_are_read() {
    let text = "{\"a\":1,\"s\":{\"c\":1}}\n{\"a\":2,\"b\":3}";
    check_refused(text, inferred(), "'b'");
    check_refused(text, inferred(), "a.json, --infer-rows looks at more)");
    check_refused("{\"a\":1,\"s\":{\"c\":1}}\n{\"s\":{\"d\":3}}", inferred(), "'d'");
    let more = JsonOptions { infer_rows: 2, ..JsonOptions::default() };
    assert_eq!(read_json(text, more).unwrap().num_columns(), 3);
    assert_eq!(read_json(text, typed(DataType::Int64)).unwrap().num_columns(), 1, "others are not asked for");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.json"), text).unwrap();
    let scan = JsonScan::open(dir.path(), inferred()).unwrap().with_projection(&["a"]).unwrap();
    assert_eq!(read_all(&scan, Bytes(1)).unwrap().num_rows(), 2);
    fs::write(dir.path().join("a.json"), "{\"a\":1,\"s\":{\"c\":1}}\n{\"b\":1,\"s\":{\"c\":1,\"d\":2}}").unwrap();
    let scan = JsonScan::open(dir.path(), inferred()).unwrap();
    assert_eq!(read_all(&scan.with_projection(&["a"]).unwrap(), Bytes(1)).unwrap().num_rows(), 2);
    let error = read_all(&scan.with_projection(&["s"]).unwrap(), Bytes(1)).unwrap_err().to_string();
    assert!(error.contains("a.json, line 2: ") && error.contains("field 'd' of an object"), "{error}");
}

#[test]
fn what_is_no_row_at_all_is_not_laid_to_what_was_inferred() {
    let error = read_json("{\"a\":1}\n{\"a\":", inferred()).unwrap_err().to_string();
    assert!(error.contains("line 2: ") && !error.contains("--infer-rows"), "{error}");
}

#[test]
fn ids_of_64_bits_without_a_sign_are_read_as_they_are() {
    let text = "{\"a\":18446744073709551615}\n{\"a\":18446744073709551614}\n{\"a\":1}";
    let read = read_json(text, JsonOptions::default()).unwrap();
    let ids = read.column(0).as_primitive::<UInt64Type>();
    assert_eq!(ids.values().to_vec(), [u64::MAX, u64::MAX - 1, 1]);
}

#[test]
fn a_number_beyond_an_integer_is_an_error() {
    check_refused("{\"a\":1}\n{\"a\":1e30}", inferred(), "1e30");
    check_refused("{\"a\":1}\n{\"a\":9223372036854775808}", inferred(), "9223372036854775808");
    check_refused("{\"a\":1}\n{\"a\":-9223372036854775809}", inferred(), "-9223372036854775809");
    check_refused("{\"a\":1}\n{\"a\":9007199254740993.0}", inferred(), "9007199254740993.0");
    check_refused("{\"a\":9223372036854775808}", typed(DataType::Timestamp(TimeUnit::Second, None)), "no whole number");
}

#[test]
fn whole_numbers_in_any_spelling_and_fractions_elsewhere_are_read() {
    let text =
        "{\"a\":1,\"b\":[0.5],\"s\":\"\\\"a\\\":1.5\"}\n{\"a\":1e3,\"b\":[1.25,2],\"s\":\"[2.5]\"}\n{\"a\":10.0}\n";
    let rows =
        read_json(&format!("{text}{{\"a\":-9007199254740993}}\n{{\"a\":null,\"b\":[1.5]}}\n"), inferred()).unwrap();
    let printed = pretty_format_batches(&[rows]).unwrap().to_string();
    let cell = |line: &str| line.split('|').nth(1).map(|cell| cell.trim().to_owned());
    let cells: Vec<_> = printed.lines().filter_map(cell).collect();
    assert_eq!(cells, ["a", "1", "1000", "10", "-9007199254740993", ""]);
    let time = typed(DataType::Timestamp(TimeUnit::Millisecond, None));
    let rows = read_json("{\"a\":\"2020-01-01T00:00:00.5Z\"}\n{\"a\":1e3}\n", time).unwrap();
    assert_eq!(rows.num_rows(), 2);
    let large = read_json("{\"a\":18446744073709551615}\n{\"a\":1.0}\n", typed(DataType::UInt64)).unwrap();
    assert_eq!(large.num_rows(), 2);
}

#[test]
fn what_is_wrong_in_the_first_rows_names_the_line() {
    let check = |text: &[u8], line: u64, reason: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.json"), text).unwrap();
        let error = JsonScan::open(dir.path(), JsonOptions::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("a.json, line {line}: ")) && error.contains(reason), "{error}");
        assert!(line == 1 || !error.contains("line 1"), "{error}");
    };
    let good = "{\"a\":1}\n".repeat(300);
    check(format!("{good}\n{{\"a\":\n{good}").as_bytes(), 302, "");
    check(format!("{good}{{\"a\":{{\"b\":2}}}}\n{good}").as_bytes(), 301, "");
    check(format!("{good}[1]\n{good}").as_bytes(), 301, "");
    check(format!("[1]\n{good}").as_bytes(), 1, "one object a line");
    check(&[good.as_bytes(), b"{\"a\":\"\xff\"}\n", good.as_bytes()].concat(), 301, "UTF-8");
}

#[test]
fn deep_nesting_is_an_error_that_names_the_line() {
    let deep = format!("{{\"a\":1}}\n{{\"a\":{}{}}}\n", "[".repeat(400_000), "]".repeat(400_000));
    check_refused(&deep, typed(DataType::Int64), "nested deeper than 128");
    let deep = format!("{{\"a\":1}}\n{}1{}\n", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    check_refused(&deep, inferred(), "nested deeper than 128");
    assert_eq!(read_json(&format!("{{\"a\":1,\"b\":\"{}\"}}", "[".repeat(1000)), inferred()).unwrap().num_rows(), 1);
}
