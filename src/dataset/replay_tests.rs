//! Dead letters read again: exactly those rows, once, by steps that were mended.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};
use mobula_actors::operator::{BoxError, IntoOperator, local};
use tempfile::TempDir;

use super::{Dataset, MapOptions, WriteSummary};
use crate::io::{CsvOptions, LetterOptions, WriteMode, WriteOptions};
use crate::session::Session;

const ROWS: i64 = 3_000;

/// An input of three files, and where the output goes.
struct Bench {
    session: Session,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { session: Session::builder().cpus(2).build().unwrap(), folder: tempfile::tempdir().unwrap() };
        for third in 0..3 {
            let ids = bench.session.range(third * ROWS / 3..(third + 1) * ROWS / 3).unwrap();
            ids.write_parquet(bench.path(&format!("in/{third}"))).unwrap();
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.path("out")
    }

    fn input(&self) -> Dataset {
        let files = ["in/0", "in/1", "in/2"].map(|name| self.path(name));
        self.session.read_parquet(files.as_slice()).unwrap()
    }

    /// Writes the input through a step that fails on these.
    fn write(&self, unlucky: &[i64]) -> WriteSummary {
        run(&self.input(), unlucky, unlucky.len() as u64).write_parquet(self.out()).unwrap()
    }

    /// Replays through a step that fails on these.
    fn replay(&self, unlucky: &[i64]) -> crate::Result<WriteSummary> {
        let letters = run(&self.session.read_dead_letters(self.out())?, unlucky, unlucky.len() as u64);
        letters.write_parquet_with(self.out(), WriteOptions::default().mode(WriteMode::Append))
    }

    /// The rows that are there, each once.
    fn ids(&self) -> BTreeSet<i64> {
        ids(&self.session.read_parquet(self.out()).unwrap())
    }

    /// What `mobula verify` says of each job.
    fn verified(&self) -> Vec<String> {
        let (jobs, strangers) = crate::io::verify(&self.out()).unwrap();
        assert!(strangers.is_empty() && jobs.iter().all(|job| job.wrong.is_empty()), "{jobs:?}");
        jobs.iter().map(ToString::to_string).collect()
    }

    fn why_none(&self) -> String {
        self.session.read_dead_letters(self.out()).unwrap_err().to_string()
    }
}

fn ids(rows: &Dataset) -> BTreeSet<i64> {
    let batches = rows.collect().unwrap();
    let ids = batches.iter().flat_map(|batch| batch["id"].as_primitive::<Int64Type>().values().to_vec());
    let ids: Vec<i64> = ids.collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "a row is there twice");
    ids.into_iter().collect()
}

fn picky(unlucky: &[i64]) -> impl IntoOperator + use<> {
    let unlucky = unlucky.to_vec();
    local(move |batch: RecordBatch| {
        let ids = batch["id"].as_primitive::<Int64Type>().values();
        match unlucky.iter().find(|id| ids.contains(id)) {
            Some(id) => Err::<_, BoxError>(format!("{id} is unlucky").into()),
            None => Ok(batch),
        }
    })
}

fn run(rows: &Dataset, unlucky: &[i64], budget: u64) -> Dataset {
    let pool = MapOptions { workers: Some(1..=2), ..MapOptions::default() };
    let rows = rows.map_batches_with(picky(unlucky), pool).unwrap();
    rows.attempts(2, Duration::ZERO).unwrap().error_budget(budget).unwrap()
}

#[test]
fn a_replay_completes_the_output_and_is_done_once() {
    let bench = Bench::new();
    let unlucky = [0, 17, 18, 1_500, 2_999];
    assert_eq!(bench.write(&unlucky).given_up, 5);
    assert_eq!(ids(&bench.session.read_dead_letters(bench.out()).unwrap()), unlucky.into_iter().collect());
    assert_eq!(bench.ids().len(), 2_995);
    let written = bench.replay(&[]).unwrap();
    assert_eq!((written.rows, written.given_up), (5, 0));
    assert_eq!(bench.ids(), (0..ROWS).collect());
    let jobs = bench.verified();
    assert!(jobs[0].contains("5 given up and replayed by job 1"), "{jobs:?}");
    assert!(jobs[1].contains("5 rows in ") && jobs[1].contains("replays what job 0 gave up (finished)"), "{jobs:?}");
    assert!(bench.why_none().contains("those of job 0 were replayed by job 1"), "{}", bench.why_none());
}

#[test]
fn what_fails_again_has_letters_of_its_own() {
    let bench = Bench::new();
    bench.write(&[17, 18, 2_000]);
    let error = run(&bench.session.read_dead_letters(bench.out()).unwrap(), &[18], 0);
    let append = WriteOptions::default().mode(WriteMode::Append);
    let error = error.write_parquet_with(bench.out(), append).unwrap_err().to_string();
    assert!(error.contains("18 is unlucky"), "{error}");
    assert_eq!(bench.replay(&[18]).unwrap().given_up, 1);
    assert_eq!(ids(&bench.session.read_dead_letters(bench.out()).unwrap()), BTreeSet::from([18]));
    let table = bench.session.read_parquet(bench.path("out/_mobula/1/dead-letters")).unwrap().collect().unwrap();
    assert!(table[0]["input"].as_string::<i32>().value(0).ends_with(".parquet"), "{table:?}");
    assert_eq!(table[0]["row"].as_primitive::<UInt64Type>().value(0), 18, "of the file, as in the first table");
    assert_eq!(bench.replay(&[]).unwrap().rows, 1);
    assert_eq!(bench.ids(), (0..ROWS).collect());
    assert!(bench.verified()[1].contains("1 given up and replayed by job 2"), "{:?}", bench.verified());
}

#[test]
fn a_replay_that_stopped_goes_on_with_the_same_rows() {
    let bench = Bench::new();
    bench.write(&[17, 1_018]);
    let named = || WriteOptions::default().mode(WriteMode::Append).named("replay");
    let letters = run(&bench.session.read_dead_letters(bench.out()).unwrap(), &[17, 1_018], 1);
    letters.write_parquet_with(bench.out(), named()).unwrap_err();
    // One was given up, which is in the ledger, or both are to be done again.
    let letters = run(&bench.session.read_dead_letters(bench.out()).unwrap(), &[], 1);
    let written = letters.write_parquet_with(bench.out(), named()).unwrap();
    assert_eq!(written.rows + written.given_up, 2);
    bench.verified();
    while bench.ids().len() < ROWS as usize {
        bench.replay(&[]).unwrap();
    }
}

#[test]
fn only_columns_that_are_needed_are_read_and_other_columns_are_there() {
    let bench = Bench::new();
    let csv = bench.path("all.csv");
    let text: String = (0..100).map(|id| format!("{id},name {id},{}\n", id * 2)).collect();
    fs::write(&csv, format!("id,name,twice\n{text}")).unwrap();
    let all = bench.session.read_csv_with(csv, CsvOptions::default()).unwrap();
    run(&all.select(["id"]).unwrap(), &[7, 50], 2).write_csv(bench.out()).unwrap();
    let letters = bench.session.read_dead_letters(bench.out()).unwrap();
    assert_eq!(ids(&letters), BTreeSet::from([7, 50]));
    let names = letters.select(["name", "id"]).unwrap().collect().unwrap();
    let names: Vec<String> =
        names.iter().flat_map(|batch| batch["name"].as_string::<i32>().iter().flatten().map(str::to_owned)).collect();
    assert_eq!(names, ["name 7", "name 50"]);
    let append = WriteOptions::default().mode(WriteMode::Append);
    let error = letters.write_csv_with(bench.out(), append.clone()).unwrap_err().to_string();
    assert!(error.contains("the columns of the output was [\"id Int64\"] and is"), "{error}");
    let error =
        letters.select(["id"]).unwrap().write_parquet_with(bench.out(), append.clone()).unwrap_err().to_string();
    assert!(error.contains("the format was Csv and is Parquet"), "{error}");
    letters.select(["id"]).unwrap().write_csv_with(bench.out(), append).unwrap();
}

#[test]
fn files_that_changed_since_are_named() {
    let bench = Bench::new();
    bench.write(&[17, 1_018]);
    let second = bench.path("in/1/part-00000.parquet");
    fs::write(&second, fs::read(bench.path("in/2/part-00000.parquet")).unwrap()).unwrap();
    assert!(bench.why_none().contains("in/1/part-00000.parquet changed since"), "{}", bench.why_none());
    fs::remove_file(&second).unwrap();
    assert!(bench.why_none().contains("in/1/part-00000.parquet"), "{}", bench.why_none());
    // A file without letters may be gone.
    fs::write(&second, "").unwrap();
}

#[test]
fn a_letter_of_a_range_is_replayed_as_a_whole_only_if_that_is_wanted() {
    let bench = Bench::new();
    let pool = || MapOptions { workers: Some(1..=2), ..MapOptions::default() };
    let any = local(|batch: RecordBatch| Ok::<_, BoxError>(batch));
    let rows = run(&bench.input().map_batches_with(any, pool()).unwrap(), &[17], 1);
    rows.write_parquet(bench.out()).unwrap();
    let error = bench.why_none();
    assert!(error.contains("in/0/part-00000.parquet") && error.contains("--whole-ranges"), "{error}");
    let options = LetterOptions { whole_ranges: true, ..LetterOptions::default() };
    let found = ids(&bench.session.read_dead_letters_with(bench.out(), options).unwrap());
    assert!(found.contains(&17) && found.len() > 1, "{found:?}");
}

#[test]
fn an_output_is_completed_and_not_replaced_and_two_do_not_complete_it_at_once() {
    let bench = Bench::new();
    bench.write(&[17]);
    let letters = bench.session.read_dead_letters(bench.out()).unwrap();
    let overwrite = WriteOptions::default().mode(WriteMode::Overwrite);
    let error = letters.write_parquet_with(bench.out(), overwrite).unwrap_err().to_string();
    assert!(error.contains("a replay adds to "), "{error}");
    // Another directory is no completion.
    assert_eq!(letters.write_parquet(bench.path("elsewhere")).unwrap().rows, 1);
    let again = bench.session.read_dead_letters(bench.out()).unwrap();
    let append = || WriteOptions::default().mode(WriteMode::Append);
    assert_eq!(letters.write_parquet_with(bench.out(), append()).unwrap().rows, 1);
    let error = again.write_parquet_with(bench.out(), append()).unwrap_err().to_string();
    assert!(error.contains("were replayed by job 1"), "{error}");
    assert_eq!(bench.ids(), (0..ROWS).collect());
}

#[test]
fn rows_that_were_in_no_file_are_not_there_any_more() {
    let bench = Bench::new();
    run(&bench.session.range(0..100).unwrap(), &[17], 1).write_parquet(bench.out()).unwrap();
    assert!(bench.why_none().contains("range 0..100 reads no files"), "{}", bench.why_none());
    let none = bench.session.read_dead_letters(Path::new("/nowhere")).unwrap_err().to_string();
    assert!(none.contains("holds no output of a job"), "{none}");
}
