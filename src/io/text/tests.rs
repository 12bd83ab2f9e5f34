//! Tests of the text sources.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use arrow::util::pretty::pretty_format_batches;
use mobula_actors::operator::{ReadBatch, SourceRecipe};
use mobula_actors::units::Bytes;
use proptest::prelude::*;

use super::{CsvOptions, CsvScan, JsonOptions, JsonScan};
use crate::io::testing::{drain, open, read_all, skipped};
use crate::io::{OnError, Scan};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn csv(dir: &Path, options: CsvOptions) -> Scan {
    CsvScan::open(dir, options).unwrap()
}

fn json(dir: &Path) -> Scan {
    JsonScan::open(dir, JsonOptions::default()).unwrap()
}

fn rows(scan: &Scan) -> RecordBatch {
    read_all(scan, Bytes::mib(1)).unwrap()
}

fn check(scan: &Scan, expected: &[&str]) {
    let printed = pretty_format_batches(&[rows(scan)]).unwrap().to_string();
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(",");
    let lines: Vec<_> = printed.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    assert_eq!(lines, expected);
}

#[test]
fn iris_of_another_program_has_its_known_means() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/iris.csv");
    let batch = rows(&CsvScan::open(path, CsvOptions::default()).unwrap());
    assert_eq!(batch.num_rows(), 150);
    // As published with the dataset: mean sepal length 5.84, mean petal width 1.20 (rounded).
    let mean = |i: usize| {
        let column = batch.column(i).as_primitive::<Float64Type>();
        column.values().iter().sum::<f64>() / column.values().len() as f64
    };
    assert!((mean(0) - 5.84).abs() < 0.01 && (mean(3) - 1.20).abs() < 0.01, "{} {}", mean(0), mean(3));
}

#[test]
fn csv_has_types_quotes_nulls_and_blank_lines() {
    let dir = folder(&[("a.csv", "n,w,e\n1,\"x, \"\"y\"\"\nz\",\n\n,NA,\r\n3,w,\n")]);
    let scan = csv(dir.path(), CsvOptions { nulls: vec!["NA".into()], ..CsvOptions::default() });
    let types: Vec<_> = scan.schema().fields().iter().map(|f| f.data_type().clone()).collect();
    assert_eq!(types, [DataType::Int64, DataType::Utf8, DataType::Utf8]);
    let batch = rows(&scan);
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    let words: Vec<_> = batch.column(1).as_string::<i32>().iter().collect();
    assert_eq!(words, [Some("x, \"y\"\nz"), None, Some("w")]);
}

#[test]
fn csv_without_header_and_with_another_delimiter() {
    let dir = folder(&[("a.csv", "1;2\n3;4")]);
    let scan = csv(dir.path(), CsvOptions { header: false, delimiter: b';', ..CsvOptions::default() });
    check(&scan, &["column_1,column_2", "1,2", "3,4"]);
}

#[test]
fn files_without_rows_are_fine() {
    let dir = folder(&[("a.csv", ""), ("b.csv", "x,y\n"), ("c.csv", "\u{feff}x,y\n1,2"), ("d.csv", "\n\n")]);
    check(&csv(dir.path(), CsvOptions::default()), &["x,y", "1,2"]);
    let dir = folder(&[("b.csv", "x,y\n")]);
    check(&csv(dir.path(), CsvOptions::default()), &["x,y"]);
    let dir = folder(&[("a.json", ""), ("b.json", "\n{\"x\":1}\n \n")]);
    check(&json(dir.path()), &["x", "1"]);
    let dir = folder(&[("a.csv", ""), ("a.json", "")]);
    let error = CsvScan::open(dir.path(), CsvOptions::default()).unwrap_err().to_string();
    assert!(error.contains("a.csv has no rows to infer one from"), "{error}");
}

#[test]
fn json_lines_have_types_and_nested_fields() {
    let dir = folder(&[("a.jsonl", "{\"b\":1,\"a\":\"x\",\"l\":[1,2]}\n{\"b\":2.5,\"n\":null}")]);
    let scan = json(dir.path());
    check(&scan, &["a,b,l,n", "x,1.0,[1, 2],", ",2.5,,"]);
    check(&scan.with_projection(&["l", "b"]).unwrap(), &["l,b", "[1, 2],1.0", ",2.5"]);
}

#[test]
fn a_projection_may_be_in_any_order_or_empty() {
    let dir = folder(&[("a.csv", "a,b,c\n1,2,3\n4,5,6\n"), ("a.json", "{\"a\":1}\n{\"a\":2}\n")]);
    let scan = csv(dir.path(), CsvOptions::default());
    check(&scan.with_projection(&["c", "a"]).unwrap(), &["c,a", "3,1", "6,4"]);
    assert_eq!(rows(&scan.with_projection::<&str>(&[]).unwrap()).num_rows(), 2);
    assert_eq!(rows(&json(dir.path()).with_projection::<&str>(&[]).unwrap()).num_rows(), 2);
}

/// Both ways to meet a bad record: an error that names file and line, and the rest of the file given up.
fn check_bad(name: &str, text: &str, line: u64, reason: &str, good: usize) {
    let dir = folder(&[(name, text)]);
    let scan = |on_error| match name.ends_with("csv") {
        true => csv(dir.path(), CsvOptions { on_error, infer_rows: 1, ..CsvOptions::default() }),
        false => JsonScan::open(dir.path(), JsonOptions { on_error, infer_rows: 1, ..JsonOptions::default() }).unwrap(),
    };
    let error = read_all(&scan(OnError::Fail), Bytes(1)).unwrap_err().to_string();
    assert!(error.contains(&format!("{name}, line {line}: ")) && error.contains(reason), "{error}");
    let gone = skipped(&scan(OnError::Skip));
    assert_eq!(gone.len(), 1);
    assert!(gone[0].contains(&format!("the rest of the file is given up from line {line} on")), "{gone:?}");
    assert_eq!(rows(&scan(OnError::Skip)).num_rows(), good);
}

#[test]
fn bad_records_name_file_and_line() {
    check_bad("a.csv", "a,b\n1,\"x\ny\"\n\n2,z,3\n4,w\n", 5, "incorrect number of fields, expected 2 got", 1);
    check_bad("a.csv", "a,b\n1,2\n3,4\nfive,6\n", 4, "'five' as type 'Int64'", 2);
    check_bad("a.json", "{\"a\":1}\n\n{\"a\":\"x\"}\n", 3, "\"x\"", 1);
    check_bad("a.json", "{\"a\":1}\n{\"a\":\n", 2, "", 1);
    check_bad("a.json", "{\"a\":1}\n{\"a\":2}{\"a\":3}\n", 2, "more than one object in a line", 1);
}

#[test]
fn another_header_is_an_error_that_names_the_file() {
    let dir = folder(&[("a.csv", "x,y\n1,2\n"), ("b.csv", "x,z\n3,4\n")]);
    for on_error in [OnError::Fail, OnError::Skip] {
        let error =
            CsvScan::open(dir.path(), CsvOptions { on_error, ..CsvOptions::default() }).unwrap_err().to_string();
        assert!(error.contains("b.csv, line 1: the header is [x, z], expected [x, y]"), "{error}");
    }
}

#[test]
fn a_header_that_is_no_text_is_skipped_on_demand() {
    let dir = folder(&[("a.csv", "x,y\n1,2\n")]);
    fs::write(dir.path().join("b.csv"), b"\xff\xfe\xfd,\x00\n\xff\n").unwrap();
    let error = CsvScan::open(dir.path(), CsvOptions::default()).unwrap_err().to_string();
    assert!(error.contains("b.csv: "), "{error}");
    let lenient = csv(dir.path(), CsvOptions { on_error: OnError::Skip, ..CsvOptions::default() });
    check(&lenient, &["x,y", "1,2"]);
    assert_eq!(skipped(&lenient).len(), 1);
}

#[test]
fn a_json_array_is_told_in_a_few_words() {
    let array = format!("[{}{{\"a\":1}}]\n", "{\"a\":1},".repeat(10_000));
    let dir = folder(&[("a.json", &array), ("b.json", "[\n  {\"a\": 1}\n]\n")]);
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    for name in ["a.json", "b.json"] {
        let path = dir.path().join(name);
        let error = JsonScan::open(&path, JsonOptions::default()).unwrap_err();
        let text = crate::io::given_up::reason(&error);
        assert!(text.contains("one object a line (JSON lines)") && text.len() < 700, "{text}");
        let options = JsonOptions { schema: Some(Arc::clone(&schema)), ..JsonOptions::default() };
        let text = read_all(&JsonScan::open(&path, options).unwrap(), Bytes(1)).unwrap_err().to_string();
        assert!(text.contains("one object a line (JSON lines)") && text.len() < 700, "{text}");
    }
}

#[test]
fn a_long_record_is_quoted_in_part() {
    let dir = folder(&[("a.csv", &format!("a\n1\n\"{}\"\n", "é".repeat(5000)))]);
    let scan = csv(dir.path(), CsvOptions { infer_rows: 1, ..CsvOptions::default() });
    let text = read_all(&scan, Bytes(1)).unwrap_err().to_string();
    assert!(text.contains("a.csv, line 3: ") && text.contains("éé…") && text.chars().count() < 500, "{text}");
}

#[test]
fn a_given_schema_is_used() {
    let dir = folder(&[("a.csv", "x\n1\n")]);
    let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Float32, true)]));
    let scan = csv(dir.path(), CsvOptions { schema: Some(Arc::clone(&schema)), ..CsvOptions::default() });
    assert_eq!(rows(&scan).schema(), schema);
}

#[test]
fn batches_of_large_records_keep_to_the_bytes_asked_for() {
    let long = "x".repeat(50_000);
    let text: String = (0..100).map(|i| format!("{i},{long}\n")).collect();
    let dir = folder(&[("a.csv", &format!("a,b\n{text}"))]);
    let (source, splits) = csv(dir.path(), CsvOptions::default()).lower(Bytes::mib(1)).unwrap();
    let mut reader = open(&source, &splits[0], 0, ReadBatch { bytes: Bytes(200_000), rows_max: 8192 });
    let batches = drain(reader.as_mut(), 0).unwrap();
    let sizes: Vec<_> = batches.iter().map(RecordBatch::num_rows).collect();
    assert!(sizes.iter().all(|&rows| rows <= 5), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 100);
}

#[test]
fn a_limit_stops_reading_a_file() {
    let text: String = (0..1000).map(|i| format!("{{\"i\":{i}}}\n")).collect();
    let dir = folder(&[("a.json", &text)]);
    assert_eq!(rows(&json(dir.path()).with_limit(70)).num_rows(), 70);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn text_resumes_at_any_row(words in proptest::collection::vec("[a-c\"\n, ]{0,6}", 1..40), from in 0usize..40) {
        let quoted = |word: &String| format!("\"{}\",x\n", word.replace('"', "\"\""));
        let text: String = words.iter().map(quoted).collect();
        let dir = folder(&[("a.csv", &format!("w,x\n{text}"))]);
        let string = |name| Field::new(name, DataType::Utf8, true);
        let schema = Some(Arc::new(Schema::new(vec![string("w"), string("x")])));
        let scan = csv(dir.path(), CsvOptions { schema, ..CsvOptions::default() });
        let from = from.min(words.len());
        let (source, splits) = scan.lower(Bytes(1)).unwrap();
        let mut reader = open(&source, &splits[0], from as u64, ReadBatch { bytes: Bytes(20), rows_max: 3 });
        let read = drain(reader.as_mut(), from as u64).unwrap();
        let read: Vec<_> = read.iter().flat_map(|batch| {
            let column = batch.column(0).as_string::<i32>();
            column.iter().map(|word| word.unwrap_or_default().to_owned()).collect::<Vec<_>>()
        }).collect();
        prop_assert_eq!(&read, &words[from..]);
    }

    #[test]
    fn any_bytes_are_rows_or_an_error_never_a_panic(text in "[a{}:\",0-9.\r\n\\\\\\[\\]\u{e9} -]{0,80}", cut in any::<proptest::sample::Index>()) {
        // Cut anywhere, also within a character.
        let bytes = text.as_bytes();
        let bytes = &bytes[..cut.index(bytes.len() + 1)];
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.csv"), bytes).unwrap();
        fs::write(dir.path().join("a.json"), bytes).unwrap();
        let field = |name, data_type| Field::new(name, data_type, true);
        let schema = Some(Arc::new(Schema::new(vec![field("a", DataType::Int64), field("b", DataType::Utf8)])));
        let scans = [
            CsvScan::open(dir.path(), CsvOptions { infer_rows: 2, ..CsvOptions::default() }),
            CsvScan::open(dir.path(), CsvOptions { schema: schema.clone(), header: false, ..CsvOptions::default() }),
            JsonScan::open(dir.path(), JsonOptions { infer_rows: 2, ..JsonOptions::default() }),
            JsonScan::open(dir.path(), JsonOptions { schema, ..JsonOptions::default() }),
        ];
        for scan in scans.into_iter().flatten() {
            if let Err(error) = read_all(&scan, Bytes(1)) {
                prop_assert!(error.to_string().contains(", line "), "{}", error);
            }
        }
    }
}

#[test]
fn what_stands_for_null_travels_with_the_source() {
    let dir = folder(&[("a.csv", "x,y\n1,NA\n2,b\n")]);
    let scan = csv(dir.path(), CsvOptions { nulls: vec!["NA".to_owned()], ..CsvOptions::default() });
    let (source, _) = scan.lower(Bytes::mib(1)).unwrap();
    assert!(matches!(&source.recipe, SourceRecipe::Named { name, .. } if name == "mobula/csv@2"));
    assert_eq!(rows(&scan).column(1).null_count(), 1);
}

#[test]
fn types_come_from_a_row_however_long_the_first_is() {
    let long = "x".repeat(9 << 20);
    let dir = folder(&[("a.csv", &format!("a,b\n{long},1\ny,2\n"))]);
    let schema = csv(dir.path(), CsvOptions::default()).schema().clone();
    let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types, [DataType::Utf8, DataType::Int64]);
}

#[test]
fn a_file_that_is_cut_within_quotes_is_an_error() {
    check_bad("a.csv", "a,b\n1,x\n2,\"y\nz", 3, "is not closed before the file ends", 1);
    let dir = folder(&[("a.csv", "a,b\n1,\"x")]);
    let error = CsvScan::open(dir.path(), CsvOptions::default()).unwrap_err().to_string();
    assert!(error.contains("a.csv, line 2: a quote"), "{error}");
}
