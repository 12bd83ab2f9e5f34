//! Tests of output directories and sinks.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, ListArray, StringArray};
use arrow::datatypes::Int64Type;
use mobula_actors::operator::{Output, SourceSpec, Split};

use arrow::record_batch::RecordBatch;
use mobula_actors::block::{Segment, Segments};
use mobula_actors::job::{Logic, OperatorPlan, Resources, Topology, Workers};
use mobula_actors::ledger::{Recorder, Results};
use mobula_actors::runtime::SharedDisk;

use super::recorder::PartRecorder;
use super::*;
use crate::io::parquet::{ParquetScan, ReadOptions};
use crate::io::testing::{context, ids, read_all, write_task};

pub(super) fn prepare(dir: &Path, mode: WriteMode) -> IoResult<OutputDir> {
    prepare_with(dir, Format::Parquet, &ids(0..0).schema(), &WriteOptions::default().mode(mode))
}

fn prepare_with(dir: &Path, format: Format, schema: &SchemaRef, options: &WriteOptions) -> IoResult<OutputDir> {
    match OutputDir::prepare(dir, format, schema, options, &JobPlan::nothing(format, options))? {
        Prepared::Job(output) => Ok(*output),
        Prepared::Done(written) => panic!("done already: {written:?}"),
    }
}

pub(super) fn system() -> SharedDisk {
    Arc::new(SystemDisk)
}

/// A recorder as a job has it.
pub(super) fn record(output: &OutputDir) -> Box<PartRecorder> {
    let there = mobula_actors::function::decode(&mobula_actors::function::encode(output).unwrap()).unwrap();
    Box::new(PartRecorder::open(there, &Topology::default(), &system()).unwrap())
}

/// Results that stand for nothing in particular.
pub(super) fn results(batches: Vec<RecordBatch>) -> Vec<Results> {
    vec![Results { batches, segments: Segments::default() }]
}

pub(super) fn finish(recorder: Box<PartRecorder>) -> Written {
    mobula_actors::function::decode(&recorder.finish().unwrap()).unwrap()
}

/// Writes each batch as a task of its own and commits, the last task first.
pub(super) fn write_tasks(output: OutputDir, batches: &[RecordBatch]) -> Written {
    let tasks: Vec<_> = batches.iter().cloned().enumerate().collect();
    let write =
        |(task, batch): &(usize, RecordBatch)| write_task(&output, *task as u64, 1, std::slice::from_ref(batch));
    let mut recorder = record(&output);
    recorder.record(results(tasks.iter().rev().flat_map(write).collect())).unwrap();
    output.hand_over();
    finish(recorder)
}

pub(super) fn read(dir: &Path) -> RecordBatch {
    read_all(&ParquetScan::open(dir, ReadOptions::default()).unwrap(), Bytes::mib(1)).unwrap()
}

pub(super) fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != folder::HIDDEN);
    names.sort();
    names
}

#[test]
fn parts_become_visible_together_in_the_order_of_tasks() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("new/out");
    let output = prepare(&dir, WriteMode::Error).unwrap();
    let written = write_tasks(output, &[ids(0..5), ids(5..7), ids(7..9)]);
    assert_eq!(listing(&dir), ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]);
    assert_eq!((written.rows, written.files.len()), (Rows(9), 3));
    assert_eq!(written.bytes.0, written.files.iter().map(|f| fs::metadata(f).unwrap().len()).sum::<u64>());
    assert_eq!(read(&dir), ids(0..9));
}

#[test]
fn before_the_commit_and_after_a_drop_nothing_is_visible() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    let output = prepare(&dir, WriteMode::Error).unwrap();
    write_task(&output, 0, 1, &[ids(0..5)]);
    assert!(listing(&dir).is_empty());
    drop(output);
    assert!(!dir.exists());

    fs::create_dir(&dir).unwrap();
    drop(prepare(&dir, WriteMode::Error).unwrap());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_second_attempt_writes_another_file_and_only_results_count() {
    let root = tempfile::tempdir().unwrap();
    let output = prepare(root.path(), WriteMode::Error).unwrap();
    let mut recorder = record(&output);
    write_task(&output, 0, 1, &[ids(0..3)]);
    write_task(&output, 0, 1, &[ids(0..3)]);
    recorder.record(results(write_task(&output, 0, 2, &[ids(0..5), ids(5..6)]))).unwrap();
    finish(recorder);
    output.hand_over();
    assert_eq!(listing(root.path()), ["part-00000.parquet"]);
    assert_eq!(read(root.path()), ids(0..6));
}

#[test]
fn a_task_that_dies_midway_leaves_no_file() {
    let root = tempfile::tempdir().unwrap();
    let output = prepare(root.path(), WriteMode::Error).unwrap();
    let mut operator = output.operator().unwrap().build().unwrap();
    operator.open(&context()).unwrap();
    operator.begin(&mobula_actors::operator::TaskContext { task: 0, attempt: 1 }).unwrap();
    operator.process(ids(0..5), &mut Output::default()).unwrap();
    assert_eq!(listing(&output.folder.parts()).len(), 1);
    drop(operator);
    assert!(listing(&output.folder.parts()).is_empty());
}

#[test]
fn no_rows_make_one_file_with_the_schema() {
    let root = tempfile::tempdir().unwrap();
    write_tasks(prepare(root.path(), WriteMode::Error).unwrap(), &[]);
    assert_eq!(read(root.path()), ids(0..0));
}

#[test]
fn a_directory_with_data_is_refused_appended_to_or_overwritten() {
    let root = tempfile::tempdir().unwrap();
    write_tasks(prepare(root.path(), WriteMode::Error).unwrap(), &[ids(0..2), ids(2..4)]);
    let options = WriteOptions { row_group_rows: 7, ..WriteOptions::default() };
    let error = prepare_with(root.path(), Format::Parquet, &ids(0..0).schema(), &options).unwrap_err().to_string();
    assert!(error.contains("holds the output of another job: the options of the format was"), "{error}");
    assert!(error.contains("append or overwrite"), "{error}");

    write_tasks(prepare(root.path(), WriteMode::Append).unwrap(), &[ids(4..5)]);
    assert_eq!(read(root.path()), ids(0..5));

    write_tasks(prepare(root.path(), WriteMode::Overwrite).unwrap(), &[ids(7..9)]);
    assert_eq!(listing(root.path()), ["part-00000.parquet"]);
    assert_eq!(read(root.path()), ids(7..9));
}

#[test]
fn two_jobs_that_append_at_once_keep_each_others_parts() {
    let root = tempfile::tempdir().unwrap();
    let append = |job: &str| {
        let options = WriteOptions::default().mode(WriteMode::Append).named(job);
        prepare_with(root.path(), Format::Parquet, &ids(0..0).schema(), &options).unwrap()
    };
    let (a, b) = (append("a"), append("b"));
    write_tasks(a, &[ids(0..2)]);
    write_tasks(b, &[ids(2..4)]);
    assert_eq!(read(root.path()), ids(0..4));
}

#[test]
fn a_name_that_somebody_took_meanwhile_is_not_passed_by() {
    for mode in [WriteMode::Error, WriteMode::Overwrite] {
        let root = tempfile::tempdir().unwrap();
        let output = prepare(root.path(), mode).unwrap();
        let mut recorder = record(&output);
        recorder.record(results(write_task(&output, 0, 1, &[ids(0..5)]))).unwrap();
        output.hand_over();
        fs::write(root.path().join("part-00000.txt"), "mine").unwrap();
        let error = recorder.finish().unwrap_err().to_string();
        assert!(error.contains("part-00000.txt"), "{mode:?}: {error}");
        assert_eq!(listing(root.path()), ["part-00000.txt"]);
        // What was done is not lost: without the stranger, the same job has only to publish.
        fs::remove_file(root.path().join("part-00000.txt")).unwrap();
        let written = write_tasks(prepare(root.path(), mode).unwrap(), &[]);
        assert_eq!((written.rows, read(root.path())), (Rows(5), ids(0..5)));
    }
}

#[test]
fn what_an_overwrite_has_replaced_is_not_looked_for() {
    let root = tempfile::tempdir().unwrap();
    write_tasks(prepare(root.path(), WriteMode::Error).unwrap(), &[ids(0..3), ids(3..9)]);
    write_tasks(prepare(root.path(), WriteMode::Overwrite).unwrap(), &[ids(0..40)]);
    let (jobs, strangers) = verify::verify(root.path()).unwrap();
    assert_eq!((jobs[0].replaced_by, jobs[1].replaced_by), (Some(1), None));
    assert!(jobs.iter().all(|job| job.wrong.is_empty()) && strangers.is_empty(), "{jobs:?}");
    fs::write(root.path().join("part-00001.parquet"), "a name of the first").unwrap();
    assert_eq!(verify::verify(root.path()).unwrap().1, ["part-00001.parquet"]);
}

#[test]
fn parts_behind_a_limit_are_not_seen_before_the_end() {
    let root = tempfile::tempdir().unwrap();
    let options = WriteOptions::default().publish(Publish::AsWritten);
    let mut plan = JobPlan::nothing(Format::Parquet, &options);
    plan.reads_all = false;
    let schema = ids(0..0).schema();
    let output = match OutputDir::prepare(root.path(), Format::Parquet, &schema, &options, &plan).unwrap() {
        Prepared::Job(output) => *output,
        other => panic!("{other:?}"),
    };
    let mut recorder = record(&output);
    recorder.record(results(write_task(&output, 0, 1, &[ids(0..5)]))).unwrap();
    assert!(listing(root.path()).is_empty());
    output.hand_over();
    assert_eq!((finish(recorder).rows, listing(root.path()).len()), (Rows(5), 1));
}

#[test]
fn a_job_that_runs_is_not_begun_again() {
    let root = tempfile::tempdir().unwrap();
    let output = prepare(root.path(), WriteMode::Error).unwrap();
    let recorder = record(&output);
    output.hand_over();
    let error = prepare(root.path(), WriteMode::Error).unwrap_err().to_string();
    assert!(error.starts_with("this job runs already") && error.contains("`mobula attach`"), "{error}");
    recorder.stop();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "it had finished nothing");
}

#[test]
fn results_of_an_operator_that_reads_nothing_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let output = prepare(root.path(), WriteMode::Error).unwrap();
    let mut recorder = record(&output);
    let batches = write_task(&output, 0, 1, &[ids(0..5)]);
    let segment = Segment { source: 0, split: 0, from: Rows(0), to: Segment::END };
    let error = recorder.record(vec![Results { batches, segments: Segments::one(segment) }]).unwrap_err().to_string();
    assert!(error.contains("operator 0 does not read"), "{error}");
    recorder.stop();
}

/// A job that reads so many splits.
pub(super) fn reading(splits: u32) -> Topology {
    let split = |_| Split { label: "a.csv".into(), rows: None, bytes: Bytes(9), payload: Vec::new(), file: None };
    let logic = Logic::Read {
        source: SourceSpec::named("files@1", Vec::new()),
        splits: (0..splits).map(split).collect(),
        chain: Vec::new(),
    };
    let read = OperatorPlan {
        name: "read".into(),
        inputs: Vec::new(),
        logic,
        workers: Workers { min: 1, max: 1 },
        resources: Resources::default(),
        ordered: true,
    };
    Topology { operators: vec![read], ..Topology::default() }
}

#[test]
fn a_finished_job_is_done_and_another_is_not() {
    let root = tempfile::tempdir().unwrap();
    let written = write_tasks(prepare(root.path(), WriteMode::Error).unwrap(), &[ids(0..5)]);
    let options = WriteOptions::default();
    let plan = JobPlan::nothing(Format::Parquet, &options);
    let again = OutputDir::prepare(root.path(), Format::Parquet, &ids(0..0).schema(), &options, &plan).unwrap();
    let Prepared::Done(done) = again else { panic!("{again:?}") };
    assert_eq!(done, written);
    fs::remove_file(&written.files[0]).unwrap();
    assert!(prepare(root.path(), WriteMode::Error).is_ok(), "its file is gone");
}

#[test]
fn what_was_written_in_another_mode_is_told_from_the_output_of_another_job() {
    let root = tempfile::tempdir().unwrap();
    write_tasks(prepare(root.path(), WriteMode::Overwrite).unwrap(), &[ids(0..5)]);
    let error = prepare(root.path(), WriteMode::Error).unwrap_err().to_string();
    assert!(
        error.ends_with("the finished output of this job; read it, or write it again with mode overwrite"),
        "{error}"
    );
    let other = prepare_with(root.path(), Format::Csv, &ids(0..0).schema(), &WriteOptions::default());
    assert!(other.unwrap_err().to_string().contains("another job: the format was Parquet and is Csv"));
}

#[test]
fn files_of_others_are_not_overwritten() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("notes.txt"), "mine").unwrap();
    let error = prepare(root.path(), WriteMode::Overwrite).unwrap_err().to_string();
    assert!(error.contains("\"notes.txt\", which is not named like the parts"), "{error}");
    assert_eq!(listing(root.path()), ["notes.txt"]);
    let file = root.path().join("notes.txt");
    assert!(prepare(&file, WriteMode::Error).unwrap_err().to_string().contains("is a file"));
}

#[test]
fn a_commit_that_fails_midway_undoes_itself() {
    let root = tempfile::tempdir().unwrap();
    write_tasks(prepare(root.path(), WriteMode::Error).unwrap(), &[ids(0..2)]);
    let output = prepare(root.path(), WriteMode::Overwrite).unwrap();
    let mut recorder = record(&output);
    let mut parts = write_task(&output, 0, 1, &[ids(2..4)]);
    parts.extend(write_task(&output, 1, 1, &[ids(4..6)]));
    let second = listing(&output.folder.parts()).pop().unwrap();
    assert!(second.starts_with("part-00001.attempt-1-"), "{second}");
    recorder.record(results(parts)).unwrap();
    fs::remove_file(output.folder.parts().join(second)).unwrap();
    assert!(recorder.finish().is_err());
    assert_eq!(listing(root.path()), ["part-00000.parquet"]);
    assert_eq!(read(root.path()), ids(0..2));
}

#[cfg(unix)]
#[test]
fn an_output_that_cannot_be_made_names_the_path() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let error = prepare(&file.join("out"), WriteMode::Error).unwrap_err().to_string();
    assert!(error.contains("file/out"), "{error}");
}

#[test]
fn columns_that_a_format_cannot_hold_are_refused_before_anything_runs() {
    let root = tempfile::tempdir().unwrap();
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]);
    let batch = RecordBatch::try_from_iter([("l", Arc::new(list) as ArrayRef)]).unwrap();
    let dir = root.path().join("out");
    let error = prepare_with(&dir, Format::Csv, &batch.schema(), &WriteOptions::default()).unwrap_err();
    assert!(error.to_string().contains("column \"l\" is List(") && error.to_string().contains("CSV"), "{error}");
    assert!(!dir.exists());
    assert!(Format::Json.check_schema(&batch.schema()).is_ok());
}

#[test]
fn csv_and_json_are_written_as_text() {
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    let words: ArrayRef = Arc::new(StringArray::from(vec!["a,b", "c"]));
    let batch = RecordBatch::try_from_iter([("n", numbers), ("w", words)]).unwrap();
    let check = |format, expected: &str| {
        let root = tempfile::tempdir().unwrap();
        let output = prepare_with(root.path(), format, &batch.schema(), &WriteOptions::default()).unwrap();
        let written = write_tasks(output, std::slice::from_ref(&batch));
        assert_eq!(fs::read_to_string(&written.files[0]).unwrap(), expected);
    };
    check(Format::Csv, "n,w\n1,\"a,b\"\n,c\n");
    check(Format::Json, "{\"n\":1,\"w\":\"a,b\"}\n{\"n\":null,\"w\":\"c\"}\n");
}

#[test]
fn an_empty_csv_has_its_header() {
    let root = tempfile::tempdir().unwrap();
    let schema = ids(0..0).schema();
    let output = prepare_with(root.path(), Format::Csv, &schema, &WriteOptions::default()).unwrap();
    let written = write_tasks(output, &[]);
    assert_eq!(fs::read_to_string(&written.files[0]).unwrap(), "id\n");
}

#[test]
fn row_groups_are_closed_by_bytes() {
    let root = tempfile::tempdir().unwrap();
    let options = WriteOptions { row_group_bytes: Bytes(10_000), ..WriteOptions::default() };
    let output = prepare_with(root.path(), Format::Parquet, &ids(0..0).schema(), &options).unwrap();
    let batches: Vec<_> = (0..10).map(|i| ids(i * 5000..i * 5000 + 5000)).collect();
    let mut recorder = record(&output);
    recorder.record(results(write_task(&output, 0, 1, &batches))).unwrap();
    finish(recorder);
    let scan = ParquetScan::open(root.path(), ReadOptions::default()).unwrap();
    assert!(scan.lower(Bytes(1)).unwrap().1.len() >= 5);
    assert_eq!(read(root.path()), ids(0..50_000));
}

#[test]
fn files_that_are_only_named_alike_are_not_overwritten() {
    let root = tempfile::tempdir().unwrap();
    for name in ["part-000.parquet", "part-00000-of-2.parquet", "part-.parquet"] {
        fs::write(root.path().join(name), "").unwrap();
        let error = prepare(root.path(), WriteMode::Overwrite).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        fs::remove_file(root.path().join(name)).unwrap();
    }
}

#[test]
fn what_a_job_left_that_died_at_its_very_end_goes_when_its_command_is_run_again() {
    let root = tempfile::tempdir().unwrap();
    let written = write_tasks(prepare(root.path(), WriteMode::Error).unwrap(), &[ids(0..5)]);
    let parts = root.path().join("_mobula/0/parts");
    fs::create_dir(&parts).unwrap();
    fs::hard_link(&written.files[0], parts.join("part-00000.attempt-1.parquet")).unwrap();

    let options = WriteOptions::default();
    let plan = JobPlan::nothing(Format::Parquet, &options);
    let again = OutputDir::prepare(root.path(), Format::Parquet, &ids(0..0).schema(), &options, &plan).unwrap();
    assert!(matches!(again, Prepared::Done(_)), "{again:?}");
    assert!(!parts.exists());
    assert_eq!(read(root.path()), ids(0..5));
}

/// Publishes so many parts one by one, and then the process dies.
fn publish_one_by_one(dir: &Path, options: &WriteOptions, parts: std::ops::Range<u64>) -> Vec<u64> {
    let output = prepare_with(dir, Format::Parquet, &ids(0..0).schema(), options).unwrap();
    let mut recorder = record(&output);
    let size = || fs::metadata(output.folder.ledger()).unwrap().len();
    let grown = parts.map(|part| {
        let before = size();
        let rows = ids(part as i64..part as i64 + 1);
        recorder.record(results(write_task(&output, part, 1, &[rows]))).unwrap();
        size() - before
    });
    let grown = grown.collect();
    output.hand_over();
    grown
}

#[test]
fn a_part_that_is_published_as_it_is_written_costs_the_same_however_many_were_before() {
    let root = tempfile::tempdir().unwrap();
    let options = WriteOptions::default().publish(Publish::AsWritten);
    let grown = publish_one_by_one(root.path(), &options, 0..40);
    assert!(grown.iter().all(|more| *more < 2 * grown[0]), "{grown:?}");
    publish_one_by_one(root.path(), &options, 40..41);
    let output = prepare_with(root.path(), Format::Parquet, &ids(0..0).schema(), &options).unwrap();
    let written = finish(record(&output));
    output.hand_over();
    assert_eq!((written.files.len(), read(root.path())), (41, ids(0..41)));
    let (jobs, strangers) = verify::verify(root.path()).unwrap();
    assert!(strangers.is_empty() && jobs[0].wrong.is_empty(), "{jobs:?}");
}

#[test]
fn parts_of_others_that_come_between_keep_their_names() {
    let root = tempfile::tempdir().unwrap();
    let options = WriteOptions::default().mode(WriteMode::Append).publish(Publish::AsWritten);
    publish_one_by_one(root.path(), &options, 0..2);
    fs::copy(root.path().join("part-00000.parquet"), root.path().join("part-00002.parquet")).unwrap();
    publish_one_by_one(root.path(), &options, 2..4);
    let output = prepare_with(root.path(), Format::Parquet, &ids(0..0).schema(), &options).unwrap();
    let written = finish(record(&output));
    output.hand_over();
    let names = written.files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned());
    let expected = [0, 1, 3, 4].map(|number| format!("part-{number:05}.parquet"));
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let (jobs, strangers) = verify::verify(root.path()).unwrap();
    assert!(strangers == ["part-00002.parquet"] && jobs[0].wrong.is_empty(), "{strangers:?} {jobs:?}");
}

#[test]
fn a_job_that_ended_while_it_began_is_nothing_wrong() {
    let root = tempfile::tempdir().unwrap();
    write_tasks(prepare(root.path(), WriteMode::Error).unwrap(), &[ids(0..5)]);
    let stub = root.path().join(folder::HIDDEN).join("1");
    fs::create_dir(&stub).unwrap();
    for name in ["plan", "prepared"] {
        fs::write(stub.join(name), "").unwrap();
    }
    let (jobs, strangers) = verify::verify(root.path()).unwrap();
    assert!(strangers.is_empty() && jobs.iter().all(|job| job.wrong.is_empty()), "{jobs:?}");
    assert_eq!(jobs[1].to_string(), "job 1: begins right now, or ended while it did; it has finished nothing");
    write_tasks(prepare(root.path(), WriteMode::Append).unwrap(), &[ids(5..9)]);
    assert_eq!(read(root.path()).num_rows(), 9);
}

#[test]
fn a_job_in_place_of_one_whose_files_are_gone_is_nothing_wrong() {
    let root = tempfile::tempdir().unwrap();
    for rows in [0..5, 0..7] {
        for file in listing(root.path()) {
            fs::remove_file(root.path().join(file)).unwrap();
        }
        write_tasks(prepare(root.path(), WriteMode::Error).unwrap(), &[ids(rows)]);
    }
    let (jobs, _) = verify::verify(root.path()).unwrap();
    assert!(
        jobs[0].to_string().contains("replaced by job 1") && jobs.iter().all(|job| job.wrong.is_empty()),
        "{jobs:?}"
    );
}
