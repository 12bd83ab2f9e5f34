//! The verbs of a dataset, end to end on the engine.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use mobula::io::Compression;
use mobula::prelude::*;
use serde::{Deserialize, Serialize};

fn session() -> Session {
    Session::builder().cpus(2).memory_budget(Bytes::mib(128)).build().unwrap()
}

/// Blocks of a few hundred rows, so that a thousand rows are many blocks.
fn small_blocks() -> Session {
    let builder = Session::builder().cpus(2).memory_budget(Bytes::mib(64));
    builder.block_bytes(Bytes(2000)).batch_bytes(Bytes(1000)).build().unwrap()
}

fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    let values = |batch: &RecordBatch| batch["id"].as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(values).collect()
}

fn names(dataset: &Dataset) -> Vec<String> {
    dataset.schema().unwrap().fields().iter().map(|field| field.name().clone()).collect()
}

fn visible(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('_')).collect()
}

#[test]
fn the_digits_are_classified_as_expected_row_for_row() {
    let digits = session().read_parquet("examples/data/digits/*.parquet").unwrap();
    let labelled = digits.predict(Onnx::file("examples/data/digits_mlp.onnx").batch_size(100).workers(1..=2)).unwrap();
    let expected = session().read_parquet("examples/data/digits_expected.parquet").unwrap();
    let label = names(&labelled)[3].clone();
    let got = labelled.select(["id", &label]).unwrap().collect().unwrap();
    let want = expected.collect().unwrap();
    let text = |batches: &[RecordBatch], column: usize| -> Vec<String> {
        let cells = |batch: &RecordBatch| {
            let cast = arrow::compute::cast(batch.column(column), &DataType::Utf8).unwrap();
            cast.as_string::<i32>().iter().map(|cell| cell.unwrap().to_owned()).collect::<Vec<_>>()
        };
        batches.iter().flat_map(cells).collect()
    };
    assert_eq!(text(&got, 0).len(), 1797);
    assert_eq!(text(&got, 0), text(&want, 0));
    assert_eq!(text(&got, 1), text(&want, 1));
}

#[test]
fn a_count_comes_from_footers_or_from_a_run_that_reads_only_what_it_must() {
    let digits = session().read_parquet("examples/data/digits/*.parquet").unwrap();
    assert_eq!(digits.with_column("x", col("id") + 1).unwrap().limit(1000).unwrap().count().unwrap(), 1000);
    assert!(digits.session().stats().is_none(), "no job ran");
    let sevens = digits.filter(col("digit").eq(7)).unwrap();
    let all: usize = sevens.collect().unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(sevens.count().unwrap(), all as u64);
    assert!(all > 100);
}

#[test]
fn take_and_limit_give_the_first_rows() {
    let numbers = small_blocks().range(0..10_000).unwrap();
    assert_eq!(ids(&numbers.take(5).unwrap()), [0, 1, 2, 3, 4]);
    assert_eq!(
        ids(&numbers.filter(col("id").gt(4000)).unwrap().limit(3).unwrap().collect().unwrap()),
        [4001, 4002, 4003]
    );
    assert_eq!(numbers.limit(0).unwrap().collect().unwrap()[0].num_columns(), 1);
    assert_eq!(numbers.limit(0).unwrap().count().unwrap(), 0);
    assert_eq!(numbers.limit(20_000).unwrap().count().unwrap(), 10_000);
    assert_eq!(ids(&numbers.limit(7).unwrap().union(&numbers.limit(2).unwrap()).unwrap().collect().unwrap()).len(), 9);
}

#[test]
fn iter_batches_gives_exact_sizes_and_may_be_dropped_early() {
    let numbers = small_blocks().range(0..1000).unwrap();
    let sizes: Vec<usize> = numbers.iter_batches(300).unwrap().map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!(sizes, [300, 300, 300, 100]);
    let mut batches = numbers.iter_batches(7).unwrap();
    assert_eq!(ids(&[batches.next().unwrap().unwrap()]), [0, 1, 2, 3, 4, 5, 6]);
    drop(batches);
    assert_eq!(numbers.count().unwrap(), 1000);
}

#[test]
fn for_each_sees_all_rows_in_order_and_stops_at_an_error() {
    let numbers = small_blocks().range(0..1000).unwrap();
    let mut seen = Vec::new();
    numbers
        .for_each(|batch| {
            seen.extend(ids(&[batch]));
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    let error = numbers.for_each(|_| Err("enough")).unwrap_err();
    assert_eq!(error.to_string(), "for_each: the function failed after 0 rows");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "enough");
}

#[test]
fn show_prints_names_types_and_rows() {
    insta::assert_snapshot!(session().range(0..100).unwrap().show_string(2).unwrap(), @r"
       id
    int64
    -----
        0
        1
    ");
    insta::assert_snapshot!(session().range(0..0).unwrap().show_string(2).unwrap(), @r"
       id
    int64
    -----
    ");
}

#[derive(Clone, Serialize, Deserialize)]
struct Number {
    id: i64,
}

#[derive(Serialize, Deserialize)]
struct Named {
    id: i64,
    name: Option<String>,
}

#[test]
fn typed_rows_go_in_and_out() {
    let numbers = small_blocks().range(0..100).unwrap();
    let named = numbers.map(local(|row: Number| Named { id: row.id, name: (row.id % 2 == 0).then(|| "even".into()) }));
    let batches = named.unwrap().filter(col("name").is_not_null()).unwrap().collect().unwrap();
    assert_eq!(ids(&batches), (0..100).step_by(2).collect::<Vec<_>>());
    let thrice = numbers.flat_map(local(|row: Number| vec![row; 3])).unwrap();
    assert_eq!(ids(&thrice.take(5).unwrap()), [0, 0, 0, 1, 1]);
    assert_eq!(thrice.count().unwrap(), 300);
    assert_eq!(numbers.flat_map(local(|_: Number| Vec::<Number>::new())).unwrap().count().unwrap(), 0);
    assert_eq!(numbers.filter(local(|row: Number| row.id > 96)).unwrap().count().unwrap(), 3);
}

#[test]
fn nothing_in_gives_nothing_out_and_keeps_the_columns() {
    let session = session();
    let column: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    let empty = session.from_batches(vec![RecordBatch::try_from_iter([("id", column)]).unwrap()]).unwrap();
    let none = session.range(0..10).unwrap().filter(col("id").gt(100)).unwrap();
    for data in [empty, none] {
        let shaped =
            data.with_column("x", col("id") * 2).unwrap().union(&data.with_column("x", col("id")).unwrap()).unwrap();
        let shaped =
            shaped.map_batches_with(local(same), MapOptions { batch_size: Some(3), ..MapOptions::default() }).unwrap();
        let batches = shaped.collect().unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
        assert_eq!(batches[0].schema().fields().len(), 2);
        assert_eq!(shaped.count().unwrap(), 0);
        assert_eq!(shaped.iter_batches(4).unwrap().count(), 0);
        assert_eq!(shaped.materialize().unwrap().schema().unwrap(), shaped.schema().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        assert_eq!(shaped.write_parquet(&out).unwrap().rows, 0);
        let back = session.read_parquet(&out).unwrap();
        assert_eq!(names(&back), ["id", "x"]);
        assert_eq!(back.count().unwrap(), 0);
    }
}

fn same(batch: RecordBatch) -> mobula::Result<RecordBatch> {
    Ok(batch)
}

#[test]
fn what_is_written_is_read_back_in_order() {
    let session = small_blocks();
    let dir = tempfile::tempdir().unwrap();
    let data = session.range(0..5000).unwrap().with_column("text", col("id").cast(DataType::Utf8)).unwrap();
    let at = |name: &str| dir.path().join(name);
    let options = WriteOptions::default().compression(Compression::None);
    let summary = data.write_parquet_with(at("parquet"), options).unwrap();
    assert_eq!(summary.rows, 5000);
    assert_eq!(summary.files.len(), visible(&at("parquet")).len());
    assert_eq!(summary.bytes.0, summary.files.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum::<u64>());
    data.write_csv(at("csv")).unwrap();
    data.write_json(at("json")).unwrap();
    let all: Vec<i64> = (0..5000).collect();
    assert_eq!(ids(&session.read_parquet(at("parquet")).unwrap().collect().unwrap()), all);
    assert_eq!(ids(&session.read_csv(at("csv")).unwrap().collect().unwrap()), all);
    assert_eq!(ids(&session.read_json(at("json")).unwrap().collect().unwrap()), all);
}

#[test]
fn a_directory_that_holds_something_is_only_appended_to_or_overwritten_when_told() {
    let session = session();
    let dir = tempfile::tempdir().unwrap();
    let one = session.range(0..10).unwrap();
    one.write_parquet(dir.path()).unwrap();
    let again = one.write_parquet(dir.path()).unwrap();
    assert!(again.done_before && again.rows == 10, "the same write has nothing to do");
    let other = session.range(0..11).unwrap();
    let error = other.write_parquet(dir.path()).unwrap_err().to_string();
    assert!(error.contains("the output of another job"), "{error}");
    one.write_parquet_with(dir.path(), WriteOptions::default().mode(WriteMode::Append)).unwrap();
    assert_eq!(session.read_parquet(dir.path()).unwrap().count().unwrap(), 20);
    one.write_parquet_with(dir.path(), WriteOptions::default().mode(WriteMode::Overwrite)).unwrap();
    assert_eq!(session.read_parquet(dir.path()).unwrap().count().unwrap(), 10);
}

#[test]
fn a_truncated_file_is_named_or_skipped_and_counted() {
    let session = session();
    let dir = tempfile::tempdir().unwrap();
    let (input, out) = (dir.path().join("in"), dir.path().join("out"));
    session.range(0..10).unwrap().write_parquet(&input).unwrap();
    let whole = std::fs::read(input.join("part-00000.parquet")).unwrap();
    std::fs::write(input.join("broken.parquet"), &whole[..whole.len() / 2]).unwrap();
    let error = session.read_parquet(&input).unwrap_err().to_string();
    assert!(error.contains("broken.parquet") && error.contains("skip"), "{error}");
    let lenient = session.read_parquet_with(&input, ReadOptions::default().on_error(OnError::Skip)).unwrap();
    let summary = lenient.write_parquet(&out).unwrap();
    assert_eq!((summary.rows, summary.skipped_count), (10, 1));
    assert!(summary.skipped[0].contains("broken.parquet"), "{:?}", summary.skipped);
}

#[test]
fn a_text_file_is_read_up_to_its_first_bad_line() {
    let dir = tempfile::tempdir().unwrap();
    let (json, csv) = (dir.path().join("a.json"), dir.path().join("a.csv"));
    let lines = |line: fn(usize) -> String| (0..30_000).map(line).collect::<String>();
    std::fs::write(&json, lines(|i| format!("{{\"id\":{i}}}\n")) + "{\"id\":0.25}\n{\"id\":1}\n").unwrap();
    std::fs::write(&csv, format!("id\n{}0.25\n1\n", lines(|i| format!("{i}\n")))).unwrap();
    let on_error = OnError::Skip;
    let session = session();
    let read = [
        session.read_json_with(&json, JsonOptions { on_error, ..JsonOptions::default() }).unwrap(),
        session.read_csv_with(&csv, CsvOptions { on_error, ..CsvOptions::default() }).unwrap(),
    ];
    for (i, (dataset, line)) in read.into_iter().zip([30_001, 30_002]).enumerate() {
        let out = dir.path().join(format!("out{i}"));
        let summary = dataset.write_parquet(&out).unwrap();
        assert_eq!((summary.rows, summary.skipped_count), (30_000, 1));
        assert!(summary.skipped[0].contains(&format!("given up from line {line} on")), "{:?}", summary.skipped);
        let ids = ids(&session.read_parquet(&out).unwrap().collect().unwrap());
        assert!(ids.into_iter().eq(0..30_000));
    }
}

#[test]
fn files_that_differ_or_are_not_there_are_named() {
    let session = session();
    let dir = tempfile::tempdir().unwrap();
    let numbers = session.range(0..3).unwrap();
    numbers.write_parquet(dir.path().join("a")).unwrap();
    numbers.rename([("id", "key")]).unwrap().write_parquet(dir.path().join("b")).unwrap();
    let error = session.read_parquet(dir.path()).unwrap_err().to_string();
    assert!(error.contains("a/part-00000.parquet") && error.contains("b/part-00000.parquet"), "{error}");
    let error = session.read_parquet(dir.path().join("*.pq")).unwrap_err().to_string();
    assert!(error.contains("*.pq"), "{error}");
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = numbers.write_csv(dir.path().join("file")).unwrap_err().to_string();
    assert!(error.contains("is a file"), "{error}");
}

#[test]
fn a_job_that_asks_for_what_there_is_not_fails_at_once() {
    let wanted = Resources { gpus: 3.0, ..Resources::cpu(1.0) };
    let options = MapOptions { resources: Some(wanted), ..MapOptions::default() };
    let session = Session::builder().cpus(1).gpus(1).build().unwrap();
    let data = session.range(0..3).unwrap().map_batches_with(local(same), options).unwrap();
    let error = data.collect().unwrap_err().to_string();
    assert!(error.contains("gpu"), "{error}");
}

#[test]
fn a_function_that_fails_names_the_operator_and_leaves_no_file() {
    let session = Session::builder().cpus(2).attempts(1).build().unwrap();
    let failing = local(|batch: RecordBatch| match ids(std::slice::from_ref(&batch)).contains(&700) {
        true => Err("seven hundred"),
        false => Ok(batch),
    });
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let options = MapOptions {
        workers: Some(1..=2),
        batch_size: Some(100),
        label: Some("check".into()),
        ..MapOptions::default()
    };
    let data = session.range(0..1000).unwrap().map_batches_with(failing, options).unwrap();
    let error = data.write_parquet(&out).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("map_batches check") && text.contains("seven hundred"), "{text}");
    assert!(!error.is_cancelled());
    assert_eq!(visible(&out), Vec::<String>::new());
    assert!(data.collect().is_err());
    // The session goes on.
    assert_eq!(session.range(0..10).unwrap().filter(col("id").gt(4)).unwrap().count().unwrap(), 5);
}

#[test]
fn a_panic_in_a_function_is_an_error_of_the_job() {
    let session = Session::builder().cpus(2).attempts(2).build().unwrap();
    let data = session.range(0..10).unwrap().filter(local(|row: Number| {
        assert!(row.id != 5, "five came by");
        true
    }));
    let text = data.unwrap().collect().unwrap_err().to_string();
    assert!(text.contains("five came by"), "{text}");
}

#[test]
fn a_write_that_is_cancelled_says_so_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (started, is_started) = std::sync::mpsc::sync_channel(1);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let waiting = local(move |batch: RecordBatch| {
        if batch.num_rows() > 0 && started.try_send(()).is_ok() {
            // Until the test has cancelled the job and lets go.
            let _ = released.lock().unwrap().recv();
        }
        same(batch)
    });
    let options = MapOptions { batch_size: Some(10), workers: Some(1..=1), ..MapOptions::default() };
    let data = small_blocks().range(0..100_000).unwrap().map_batches_with(waiting, options).unwrap();
    let running = data.start_write(&out, Format::Parquet, WriteOptions::default()).unwrap();
    let watch = running.watch();
    is_started.recv().unwrap();
    assert!(!watch.summary().operators.is_empty());
    watch.cancel();
    drop(release);
    assert!(running.wait().unwrap_err().is_cancelled());
    assert_eq!(visible(&out), Vec::<String>::new());
}

#[test]
fn a_write_that_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let data = small_blocks().range(0..1_000_000).unwrap().with_column("x", col("id") * 2).unwrap();
    drop(data.start_write(&out, Format::Csv, WriteOptions::default()).unwrap());
    assert!(!out.exists());
}

#[derive(Deserialize)]
struct Value {
    value: i64,
}

#[test]
fn a_null_in_a_field_that_takes_none_is_an_error_that_names_the_row_type() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let session = Session::builder().cpus(1).attempts(1).build().unwrap();
    let data = session.from_batches(vec![RecordBatch::try_from_iter([("value", column)]).unwrap()]).unwrap();
    let error = data.filter(local(|row: Value| row.value > 0)).unwrap().collect().unwrap_err();
    insta::assert_snapshot!(error, @r#"operator "1 batches in memory", task 0 (rows 0..2), attempt 1 of 1: filter by Value: row type Value: required array value is null (data_type: "Int64", field: "$.value"); make the field an Option, or filter the nulls out"#);
}

/// Adds one to each id, and counts the rows it has seen.
struct Adder(i64);

impl actix::Actor for Adder {
    type Context = actix::Context<Self>;
}

impl actix::Handler<Process> for Adder {
    type Result = OperatorResult<Vec<RecordBatch>>;

    fn handle(&mut self, Process { batch }: Process, _: &mut Self::Context) -> Self::Result {
        let ids = ids(&[batch]).into_iter().map(|id| id + self.0);
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
        Ok(vec![RecordBatch::try_from_iter([("id", column)])?])
    }
}

#[test]
fn an_actor_takes_batches_and_passes_rows_on_in_order() {
    let options = MapOptions { workers: Some(2..=2), ..MapOptions::default() };
    let adder = ActorOperator::new(|_| Adder(1));
    let data = small_blocks().range(0..2000).unwrap().map_batches_with(adder, options).unwrap();
    let kept = data.filter(col("id").gt(1000)).unwrap();
    assert_eq!(ids(&kept.collect().unwrap()), (1001..=2000).collect::<Vec<_>>());
}

#[test]
fn a_materialized_dataset_does_not_run_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counting = {
        let calls = Arc::clone(&calls);
        local(move |batch: RecordBatch| {
            calls.fetch_add(batch.num_rows(), Ordering::Relaxed);
            same(batch)
        })
    };
    let data = session().range(0..100).unwrap().map_batches(counting).unwrap().materialize().unwrap();
    assert_eq!(ids(&data.collect().unwrap()).len(), 100);
    assert_eq!(data.count().unwrap(), 100);
    assert_eq!(calls.load(Ordering::Relaxed), 100);
}

#[test]
fn stats_tell_what_the_operators_of_the_last_run_did() {
    let data = session().range(0..1000).unwrap().filter(col("id").lt(10)).unwrap();
    assert!(data.stats().is_none());
    data.collect().unwrap();
    let stats = data.stats().unwrap();
    assert_eq!(stats.operators.len(), 1);
    assert_eq!((stats.operators[0].rows_in, stats.operators[0].rows_out), (Rows(1000), Rows(10)));
    assert!(data.session().stats().is_some());
}

#[test]
fn without_order_the_rows_are_the_same() {
    let data = small_blocks().range(0..3000).unwrap().unordered().unwrap();
    let mut got = ids(&data.filter((col("id") % 3).eq(0)).unwrap().collect().unwrap());
    got.sort_unstable();
    assert_eq!(got, (0..3000).step_by(3).collect::<Vec<_>>());
}

#[test]
fn a_union_with_nulls_on_one_side_has_one_schema() {
    let session = session();
    let never = session.range(0..3).unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(7)]));
    let sometimes = session.from_batches(vec![RecordBatch::try_from_iter([("id", column)]).unwrap()]).unwrap();
    let both = never.union(&sometimes).unwrap();
    let sized =
        both.map_batches_with(local(same), MapOptions { batch_size: Some(5), ..MapOptions::default() }).unwrap();
    let batches = sized.collect().unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0]["id"].null_count(), 1);
    assert_eq!(batches[0].schema(), both.schema().unwrap());
}

#[test]
fn columns_behind_an_unknown_step_are_worked_out_as_it_runs() {
    let unknown = local(|batch: RecordBatch| match batch.num_rows() {
        0 => Err("no rows"),
        _ => Ok(batch),
    });
    let data = session().range(0..5).unwrap().map_batches(unknown).unwrap();
    let shaped = data.with_column("y", col("id") * 2).unwrap().rename([("id", "x")]).unwrap();
    assert_eq!(names(&shaped), ["x", "y"]);
    assert_eq!(names(&shaped.drop_columns(["x"]).unwrap()), ["y"]);
    let error = shaped.select(["z"]).unwrap().collect().unwrap_err().to_string();
    assert!(error.contains("column \"z\" not found"), "{error}");
    assert_eq!(data.filter(col("id").gt(2)).unwrap().count().unwrap(), 2);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(shaped.write_parquet(dir.path()).unwrap().rows, 5);
    let none = data.filter(col("id").gt(99)).unwrap();
    assert!(none.schema().unwrap_err().to_string().contains("MapOptions::schema"));
}

#[test]
fn a_projection_of_nothing_but_constants_keeps_the_number_of_rows() {
    let data = session().read_parquet("examples/data/digits/*.parquet").unwrap();
    let ones = data.select([lit(1).alias("one")]).unwrap();
    let batches = ones.collect().unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1797);
}

#[test]
fn rows_that_take_no_bytes_are_rows_all_the_same() {
    let data = session().range(0..100).unwrap().filter(col("id").lt(10)).unwrap();
    // Only the number of rows is asked for, so batches without columns cross the union.
    assert_eq!(data.union(&data).unwrap().count().unwrap(), 20);
    let nulls: ArrayRef = Arc::new(arrow::array::NullArray::new(7));
    let batch = RecordBatch::try_from_iter([("nothing", nulls)]).unwrap();
    let nulls = data.session().from_batches(vec![batch]).unwrap();
    let rows = nulls.collect().unwrap().iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(rows, 7);
}

#[test]
fn a_csv_file_goes_through_typed_rows() {
    let iris = session().read_csv("examples/data/iris.csv").unwrap();
    assert_eq!(iris.count().unwrap(), 150);
    let first = iris.select([names(&iris)[0].as_str()]).unwrap().take(1).unwrap();
    assert_eq!(first[0].num_rows(), 1);
}
