//! The command line as a user meets it: what it writes, what it says, and how it ends.
//!
//! Each test runs the built binary in a folder of its own.

#[path = "cli/replay.rs"]
mod replay;
#[path = "cli/side_by_side.rs"]
mod side_by_side;
#[cfg(unix)]
#[path = "cli/signals.rs"]
mod signals;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use arrow::array::{AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

const MODEL: &str = "examples/data/digits_mlp.onnx";
const DIGITS: &str = "examples/data/digits/*.parquet";
const EXPECTED: &str = "examples/data/digits_expected.parquet";

fn mobula(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mobula"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("MOBULA_LOG");
    command
}

fn predict(input: &str, output: &Path, more: &[&str]) -> Output {
    let output = output.to_str().expect("a path of text");
    let all = [&["predict", "--model", MODEL, "--input", input, "--output", output], more].concat();
    mobula(&all).output().expect("the binary starts")
}

#[track_caller]
fn assert_done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The command ended with `code`, told an error that holds all `words`, and no backtrace.
#[track_caller]
fn assert_error(output: &Output, code: i32, words: &[&str]) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.lines().any(|line| line.starts_with("error: ")), "{error}");
    assert!(!error.contains("panicked") && !error.contains("stack backtrace"), "{error}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in:\n{error}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for a test")
}

/// Files that a user sees in a folder: those whose names do not begin with `.` or `_`.
fn visible(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| !file.file_name().expect("a name").to_string_lossy().starts_with(['.', '_']));
    files.sort();
    files
}

fn read(file: &Path) -> Vec<RecordBatch> {
    let file = fs::File::open(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet").build().expect("parquet");
    reader.map(|batch| batch.expect("a batch")).collect()
}

fn read_folder(folder: &Path) -> Vec<RecordBatch> {
    visible(folder).iter().flat_map(|file| read(file)).collect()
}

fn int64(batches: &[RecordBatch], column: &str) -> Vec<i64> {
    let values = |batch: &RecordBatch| {
        let column = batch.column_by_name(column).unwrap_or_else(|| panic!("no column {column}"));
        column.as_primitive::<Int64Type>().values().to_vec()
    };
    batches.iter().flat_map(values).collect()
}

fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// A Parquet file of `rows` rows in the shape of the digits.
fn write_digits(file: &Path, rows: usize) {
    write_pixels(file, rows, |n| (n % 17) as f32);
}

/// The same with pixels of one's own.
fn write_pixels(file: &Path, rows: usize, pixel: impl Fn(usize) -> f32) {
    write_column(file, "pixels", rows, pixel);
}

/// The same with another name for the pixels.
fn write_column(file: &Path, name: &str, rows: usize, pixel: impl Fn(usize) -> f32) {
    let pixels = Arc::new(Float32Array::from_iter_values((0..rows * 64).map(pixel)));
    let item = Arc::new(Field::new_list_field(DataType::Float32, false));
    let pixels = FixedSizeListArray::try_new(item, 64, pixels, None).expect("64 pixels a row");
    let ids = Int64Array::from_iter_values(0..rows as i64);
    let batch =
        RecordBatch::try_from_iter([("id", Arc::new(ids) as _), (name, Arc::new(pixels) as _)]).expect("columns");
    let mut writer =
        ArrowWriter::try_new(fs::File::create(file).expect("a file"), batch.schema(), None).expect("parquet");
    writer.write(&batch).expect("rows are written");
    writer.close().expect("the footer is written");
}

#[test]
fn digits_get_the_labels_of_an_independent_engine_row_for_row() {
    let folder = folder();
    let out = folder.path().join("out");
    let summary = assert_done(&predict(DIGITS, &out, &[]));
    assert!(summary.contains("bound by: "), "{summary}");
    let (found, expected) = (read_folder(&out), read(Path::new(EXPECTED)));
    assert_eq!(rows(&found), 1797);
    assert_eq!(int64(&found, "id"), int64(&expected, "id"));
    assert_eq!(int64(&found, "label"), int64(&expected, "label"));
    assert_probabilities(&found, &expected);
}

#[test]
fn a_model_in_processes_of_its_own_gives_the_same_and_errors_read_alike() {
    let folder = folder();
    let (input, out) = (folder.path().join("in.parquet"), folder.path().join("out"));
    let isolated = ["--isolated", "--worker-memory", "1GiB", "--batch-timeout", "60s"];
    assert_done(&predict(DIGITS, &out, &isolated));
    assert_eq!(int64(&read_folder(&out), "label"), int64(&read(Path::new(EXPECTED)), "label"));
    write_pixels(&input, 300, |n| if n == 170 * 64 + 3 { f32::NAN } else { 1.0 });
    let result = predict(input.to_str().expect("text"), &folder.path().join("none"), &isolated);
    assert_error(&result, 1, &["predict digits_mlp.onnx", "\"pixels\"", "NaN", "row 170"]);
    let result = predict(DIGITS, &folder.path().join("none"), &["--worker-memory", "1GiB"]);
    assert_error(&result, 2, &["--isolated"]);
    let result = predict(DIGITS, &folder.path().join("none"), &["--isolated", "--worker-memory", "1MiB"]);
    assert_error(&result, 1, &["the least is 64.0 MiB"]);
}

/// The probability of each label is that of the independent engine, up to rounding.
#[track_caller]
fn assert_probabilities(found: &[RecordBatch], expected: &[RecordBatch]) {
    let expected: Vec<f64> = expected
        .iter()
        .flat_map(|batch| {
            let column =
                arrow::compute::cast(batch.column_by_name("probability").expect("a column"), &DataType::Float64);
            column.expect("a number").as_primitive::<arrow::datatypes::Float64Type>().values().to_vec()
        })
        .collect();
    let labels = int64(found, "label");
    let mut row = 0;
    for batch in found {
        let all = batch.column_by_name("probabilities").expect("a column").as_fixed_size_list();
        for index in 0..batch.num_rows() {
            let ten = all.value(index);
            let probability = f64::from(ten.as_primitive::<Float32Type>().value(labels[row] as usize));
            assert!((probability - expected[row]).abs() < 1e-4, "row {row}: {probability}, {}", expected[row]);
            row += 1;
        }
    }
}

#[test]
fn only_the_columns_to_keep_and_the_outputs_are_written_in_order_with_any_number_of_workers() {
    let folder = folder();
    for workers in ["1", "1..3"] {
        let out = folder.path().join(workers);
        assert_done(&predict(
            DIGITS,
            &out,
            &["--keep", "id", "--workers", workers, "--batch-size", "100", "--memory", "64MiB", "--task-timeout", "5m"],
        ));
        let found = read_folder(&out);
        let schema = found[0].schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["id", "label", "probabilities"]);
        assert_eq!(int64(&found, "id"), (0..1797).collect::<Vec<i64>>());
    }
}

#[test]
fn a_tensor_can_take_a_column_of_another_name() {
    let folder = folder();
    let (input, out) = (folder.path().join("in.parquet"), folder.path().join("out"));
    let batch = read(Path::new("examples/data/digits/part-000.parquet")).remove(0);
    let renamed = ["id", "image", "digit"].map(str::to_owned);
    let fields: Vec<Field> = batch
        .schema()
        .fields()
        .iter()
        .zip(renamed)
        .map(|(field, name)| field.as_ref().clone().with_name(name))
        .collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), batch.columns().to_vec()).expect("renamed");
    let mut writer =
        ArrowWriter::try_new(fs::File::create(&input).expect("a file"), batch.schema(), None).expect("parquet");
    writer.write(&batch).expect("rows are written");
    writer.close().expect("the footer is written");
    let input = input.to_str().expect("text");
    assert_error(&predict(input, &out, &["--columns", "pixels=id"]), 1, &["\"pixels\"", "--columns pixels=COLUMN"]);
    assert_done(&predict(input, &out, &["--columns", "id,pixels=image"]));
    assert_eq!(rows(&read_folder(&out)), batch.num_rows());
}

#[test]
fn results_can_be_csv_or_json_lines() {
    let folder = folder();
    for (format, first) in [("csv", "id,label\n0,"), ("json", "{\"id\":0,\"label\":")] {
        let out = folder.path().join(format);
        let flags = ["--format", format, "--keep", "id", "--outputs", "label"];
        assert_done(&predict("examples/data/digits/part-000.parquet", &out, &flags));
        let lines = fs::read_to_string(&visible(&out)[0]).expect("text");
        assert!(lines.starts_with(first), "{lines}");
    }
}

#[test]
fn a_format_that_cannot_hold_a_column_says_which() {
    let folder = folder();
    let result = predict(DIGITS, &folder.path().join("out"), &["--format", "csv"]);
    assert_error(&result, 1, &["pixels", "CSV", "--keep"]);
}

#[test]
fn zero_matching_files_are_an_error_that_names_the_pattern() {
    let folder = folder();
    let result = predict("examples/data/nothing/*.parquet", &folder.path().join("out"), &[]);
    assert_error(&result, 1, &["examples/data/nothing/*.parquet", "hint: "]);
}

#[test]
fn a_missing_model_is_named() {
    let folder = folder();
    let out = folder.path().join("out");
    let args = ["predict", "--model", "no/such.onnx", "--input", DIGITS, "--output", out.to_str().expect("text")];
    assert_error(&mobula(&args).output().expect("the binary starts"), 1, &["no/such.onnx"]);
    assert!(!out.exists());
}

#[test]
#[cfg(unix)]
fn a_model_that_is_no_regular_file_or_too_large_is_refused_before_it_is_read() {
    let folder = folder();
    let out = folder.path().join("out");
    let (pipe, large) = (folder.path().join("pipe.onnx"), folder.path().join("large.onnx"));
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    fs::File::create(&large).and_then(|file| file.set_len((2 << 30) + 1)).expect("a file of holes");
    let refused = |model: &str, why: &str| {
        let args = ["predict", "--model", model, "--input", DIGITS, "--output", out.to_str().expect("text")];
        assert_error(&mobula(&args).output().expect("the binary starts"), 1, &[model, why]);
    };
    refused("/dev/zero", "not a regular file");
    refused(pipe.to_str().expect("text"), "not a regular file");
    refused(large.to_str().expect("text"), "at most 2.0 GiB");
    assert!(!out.exists());
}

#[test]
fn a_column_that_is_only_guessed_to_feed_the_model_is_told() {
    let folder = folder();
    let input = folder.path().join("noise.parquet");
    write_column(&input, "noise", 10, |_| 1.0);
    let input = input.to_str().expect("text");
    let note = "note: model input \"pixels\" is taken from column \"noise\"; --columns pixels=NAME chooses another\n";
    let told = |name: &str, flags: &[&str]| {
        let result = predict(input, &folder.path().join(name), flags);
        assert_done(&result);
        text(&result.stderr).contains(note)
    };
    assert!(told("guessed", &[]));
    assert!(!told("quiet", &["--quiet"]));
    assert!(!told("chosen", &["--columns", "pixels=noise"]));
}

#[test]
fn a_missing_column_is_named_with_the_choices_there_are() {
    let folder = folder();
    let out = folder.path().join("out");
    assert_error(&predict(DIGITS, &out, &["--columns", "id,pixel"]), 1, &["\"pixel\"", "pixels"]);
    assert_error(&predict(DIGITS, &out, &["--keep", "name"]), 1, &["\"name\"", "digit"]);
    assert!(visible(&out).is_empty());
}

#[test]
fn an_output_that_is_there_is_done_for_the_same_command_and_refused_added_to_or_replaced_by_others() {
    let folder = folder();
    let out = folder.path().join("out");
    let one = "examples/data/digits/part-000.parquet";
    assert_done(&predict(one, &out, &[]));
    let once = rows(&read_folder(&out));
    // The same command has nothing to do, another one may not touch it.
    let again = predict(one, &out, &[]);
    assert_done(&again);
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to do"), "{again:?}");
    assert_error(&predict(one, &out, &["--keep", "id"]), 1, &["the output of another job", "--append", "--overwrite"]);
    assert_error(&predict(one, &out, &["--restart"]), 1, &["the finished output of this job; read it", "--overwrite"]);
    assert_done(&predict(one, &out, &["--append"]));
    assert_eq!(rows(&read_folder(&out)), 2 * once);
    assert_done(&predict(one, &out, &["--overwrite"]));
    assert_eq!(rows(&read_folder(&out)), once);
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").expect("a file");
    for out in [file.clone(), file.join("below")] {
        assert_error(&predict(DIGITS, &out, &[]), 1, &[file.to_str().expect("text")]);
    }
    assert_eq!(fs::read_to_string(&file).expect("the file is untouched"), "not a folder");
}

#[test]
fn a_folder_that_holds_the_input_is_not_overwritten() {
    let folder = folder();
    let io = folder.path().join("io");
    fs::create_dir(&io).expect("a folder");
    let input = io.join("part-00000.parquet");
    fs::copy("examples/data/digits/part-000.parquet", &input).expect("a file");
    let path = input.to_str().expect("text");
    for more in [&["--overwrite"] as &[_], &["--overwrite", "--on-error", "skip"]] {
        assert_error(&predict(path, &io, more), 1, &["part-00000.parquet", "choose another directory"]);
    }
    assert!(input.is_file());
}

#[test]
fn a_truncated_file_fails_the_job_or_is_skipped_and_listed() {
    let folder = folder();
    let input = folder.path().join("in");
    fs::create_dir(&input).expect("a folder");
    let whole = fs::read("examples/data/digits/part-000.parquet").expect("data");
    fs::write(input.join("a.parquet"), &whole).expect("a file");
    fs::write(input.join("b.parquet"), &whole[..whole.len() / 2]).expect("a file");
    let (input, out) = (input.to_str().expect("text"), folder.path().join("out"));
    assert_error(&predict(input, &out, &[]), 1, &["b.parquet", "--on-error skip"]);
    assert!(visible(&out).is_empty());
    let summary = assert_done(&predict(input, &out, &["--on-error", "skip"]));
    assert!(summary.contains("b.parquet") && summary.contains("skipped 1"), "{summary}");
    assert_eq!(rows(&read_folder(&out)), rows(&read(Path::new("examples/data/digits/part-000.parquet"))));
    let again = predict(input, &out, &["--on-error", "skip"]);
    assert!(assert_done(&again).contains("nothing to do"));
    let told = text(&again.stderr);
    assert!(told.contains("1 part of the input could not be read") && told.contains("b.parquet"), "{told}");
    let verified = mobula(&["verify", out.to_str().expect("text")]).output().expect("the binary starts");
    let verified = assert_done(&verified);
    assert!(verified.contains("1 of its input left out") && verified.contains("b.parquet"), "{verified}");
    let quiet = predict(input, &folder.path().join("quiet"), &["--on-error", "skip", "--quiet"]);
    assert_eq!(assert_done(&quiet), "");
    assert!(text(&quiet.stderr).contains("skipped 1") && text(&quiet.stderr).contains("b.parquet"));
}

#[test]
fn files_with_different_columns_are_both_named() {
    let folder = folder();
    let inputs = ["examples/data/digits/part-000.parquet", EXPECTED];
    let args = ["predict", "--model", MODEL, "--input", inputs[0], inputs[1], "--output"];
    let result = mobula(&args).arg(folder.path().join("out")).output().expect("the binary starts");
    assert_error(&result, 1, &inputs);
}

#[test]
fn a_row_that_the_model_cannot_take_fails_the_job_with_operator_column_and_cause() {
    let folder = folder();
    let (input, out) = (folder.path().join("in.parquet"), folder.path().join("out"));
    write_pixels(&input, 300, |n| if n == 170 * 64 + 3 { f32::NAN } else { 1.0 });
    let result = predict(input.to_str().expect("text"), &out, &[]);
    assert_error(&result, 1, &["predict digits_mlp.onnx", "\"pixels\"", "NaN", "row 170", "hint: --allow-nan"]);
    assert!(visible(&out).is_empty());
    assert_done(&predict(input.to_str().expect("text"), &out, &["--allow-nan"]));
    assert_eq!(rows(&read_folder(&out)), 300);
}

#[test]
fn an_input_file_without_rows_gives_results_without_rows() {
    let folder = folder();
    let (input, out) = (folder.path().join("empty.parquet"), folder.path().join("out"));
    write_digits(&input, 0);
    assert_done(&predict(input.to_str().expect("text"), &out, &[]));
    assert_eq!(rows(&read_folder(&out)), 0);
}

#[test]
fn wrong_flags_end_with_code_two_before_anything_is_read() {
    let base = ["predict", "--model", "m.onnx", "--input", "in", "--output", "out"];
    let wrong: [&[&str]; 13] = [
        &["--workers", "0"],
        &["--workers", "4..2"],
        &["--memory", "lots"],
        &["--memory", "1"],
        &["--batch-size", "0"],
        &["--task-timeout", "soon"],
        &["--append", "--overwrite"],
        &["--columns", "=x"],
        &["--format", "xml"],
        &["--input", "a.csv"],
        &["--overwrite", "--publish", "stream"],
        &["--input", "examples/data", "--output", "examples/data/digits/new"],
        &["--input", "out/*.parquet"],
    ];
    for flags in wrong {
        let result = mobula(&[&base, flags].concat()).output().expect("the binary starts");
        assert_error(&result, 2, &[]);
    }
    let result = mobula(&[&base[..], &["--memory", "1"]].concat()).output().expect("the binary starts");
    assert_error(&result, 2, &["--memory", "at least 1 MiB"]);
    assert_eq!(mobula(&[]).output().expect("the binary starts").status.code(), Some(2));
}

#[test]
fn help_shows_a_command_that_can_be_copied() {
    let help = assert_done(&mobula(&["predict", "--help"]).output().expect("the binary starts"));
    assert!(help.contains("mobula predict --model examples/data/digits_mlp.onnx"), "{help}");
    assert!(help.contains("Exit codes"), "{help}");
}

#[test]
fn inspect_tells_what_a_model_takes_and_what_files_hold() {
    let model = assert_done(&mobula(&["inspect", MODEL]).output().expect("the binary starts"));
    for line in ["input   pixels", "output  label", "output  probabilities"] {
        assert!(model.contains(line), "{model}");
    }
    let data = assert_done(&mobula(&["inspect", DIGITS]).output().expect("the binary starts"));
    assert!(data.contains("1,797 rows") && data.contains("pixels"), "{data}");
    assert_error(&mobula(&["inspect", "no/such.onnx"]).output().expect("the binary starts"), 1, &["no/such.onnx"]);
}

#[test]
#[cfg(target_os = "linux")]
fn inspect_fails_when_what_it_prints_cannot_be_written() {
    for path in [MODEL, DIGITS] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
        let result = mobula(&["inspect", path]).stdout(full).output().expect("the binary starts");
        assert_error(&result, 1, &["standard output"]);
    }
}

#[test]
fn quiet_prints_nothing_and_plain_progress_prints_lines() {
    let folder = folder();
    let one = "examples/data/digits/part-000.parquet";
    let quiet = predict(one, &folder.path().join("a"), &["--quiet"]);
    assert_eq!(assert_done(&quiet) + &text(&quiet.stderr), "");
    let plain = predict(one, &folder.path().join("b"), &["--progress", "plain"]);
    assert_done(&plain);
    assert!(text(&plain.stderr).starts_with('['), "{}", text(&plain.stderr));
}
