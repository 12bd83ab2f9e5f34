//! Rows on which user code fails: given up one by one, counted and listed, and all other rows are in the output.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};
use mobula_actors::job::ErrorBudget;
use mobula_actors::operator::{BoxError, IntoOperator, local};
use mobula_actors::units::Bytes;

use super::{Dataset, MapOptions};
use crate::error::Error;
use crate::expr::{col, lit};
use crate::io::WriteOptions;
use crate::session::Session;

const ROWS: i64 = 10_000;
const POISON: [i64; 2] = [17, 4_711];

#[derive(Debug, Clone, Copy)]
enum How {
    Errors,
    Panics,
}

/// How often a row of [`POISON`] was in a call.
type Calls = Arc<[AtomicU32; 2]>;

/// Fails on each batch that has one of these rows.
fn picky(how: How, calls: &Calls) -> impl IntoOperator + use<> {
    let calls = Arc::clone(calls);
    local(move |batch: RecordBatch| {
        let ids = batch.column(0).as_primitive::<Int64Type>().values();
        let found: Vec<usize> = (0..POISON.len()).filter(|n| ids.contains(&POISON[*n])).collect();
        for n in &found {
            calls[*n].fetch_add(1, Ordering::Relaxed);
        }
        match (found.first(), how) {
            (None, _) => Ok::<_, BoxError>(batch),
            (Some(n), How::Errors) => Err(format!("{} is unlucky", POISON[*n]).into()),
            (Some(n), How::Panics) => panic!("{} is unlucky", POISON[*n]),
        }
    })
}

fn session() -> Session {
    Session::builder().cpus(2).memory_budget(Bytes::mib(64)).build().unwrap()
}

/// Small steps between attempts, for tests.
fn patient(dataset: &Dataset) -> Dataset {
    dataset.attempts(4, Duration::from_millis(1)).unwrap()
}

fn input(session: &Session, dir: &Path) -> Dataset {
    let files = dir.join("in");
    session.range(0..ROWS).unwrap().write_parquet(&files).unwrap();
    session.read_parquet(&files).unwrap()
}

fn ids(session: &Session, dir: &Path) -> BTreeSet<i64> {
    let batches = session.read_parquet(dir).unwrap().collect().unwrap();
    let ids: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "a row is there twice");
    ids.into_iter().collect()
}

/// Writes rows through a step that fails on two of them, and checks what is there.
fn check(how: How, exact: bool, shape: impl Fn(Dataset, &Calls) -> Dataset) {
    let (dir, session, calls) = (tempfile::tempdir().unwrap(), session(), Calls::default());
    let rows = patient(&shape(input(&session, dir.path()), &calls)).error_budget(2).unwrap();
    let out = dir.path().join("out");
    let written = rows.write_parquet(&out).unwrap_or_else(|error| panic!("{how:?}: {error}"));
    let expected: BTreeSet<i64> = (0..ROWS).filter(|id| !POISON.contains(id)).collect();
    assert_eq!((written.rows, written.given_up), (9_998, 2), "{how:?}");
    assert!(ids(&session, &out) == expected, "{how:?}: other rows than expected");
    let table = session.read_parquet(written.dead_letters.unwrap()).unwrap().collect().unwrap();
    let table = &table[0];
    let (inputs, errors) = (table["input"].as_string::<i32>(), table["error"].as_string::<i32>());
    let (row, from, to) = (&table["row"], &table["rows_from"], &table["rows_to"]);
    for id in &POISON {
        // Two workers may give them up in either order.
        let unlucky = format!("{id} is unlucky");
        let n = (0..table.num_rows()).find(|n| errors.value(*n).contains(&unlucky)).expect("a letter of each");
        assert!(inputs.value(n).contains("part-00000.parquet"), "{}", inputs.value(n));
        let numbers = [row, from, to].map(|column| column.as_primitive::<UInt64Type>());
        let id = *id as u64;
        assert!(numbers[1].value(n) <= id && (numbers[2].is_null(n) || id < numbers[2].value(n)), "{numbers:?}");
        assert!(!exact || numbers[0].value(n) == id, "{numbers:?}");
    }
    // Two attempts as it is, one for each halving; a row alone has all its attempts.
    let most = 2 + (ROWS as u64).next_power_of_two().ilog2();
    assert!(calls.iter().all(|calls| (4..=most).contains(&calls.load(Ordering::Relaxed))), "{how:?}: {calls:?}");
    let (jobs, strangers) = crate::io::verify(&out).unwrap();
    assert!(strangers.is_empty() && jobs.iter().all(|job| job.finished && job.wrong.is_empty()), "{jobs:?}");
    assert_eq!(jobs.iter().map(|job| job.given_up).sum::<usize>(), 2);
}

#[test]
fn in_the_chain_of_a_read() {
    check(How::Errors, true, |rows, calls| rows.map_batches(picky(How::Errors, calls)).unwrap());
    check(How::Panics, true, |rows, calls| rows.map_batches(picky(How::Panics, calls)).unwrap());
}

#[test]
fn behind_an_exact_batch_size() {
    let options = MapOptions { batch_size: Some(1_000), ..MapOptions::default() };
    check(How::Errors, true, |rows, calls| rows.map_batches_with(picky(How::Errors, calls), options.clone()).unwrap());
}

#[test]
fn in_a_pool_of_its_own() {
    let options = MapOptions { workers: Some(1..=2), ..MapOptions::default() };
    for how in [How::Errors, How::Panics] {
        check(how, true, |rows, calls| rows.map_batches_with(picky(how, calls), options.clone()).unwrap());
    }
}

#[test]
fn behind_pools_that_keep_rows_and_cut_them_into_batches() {
    let mapped = |batch_size| MapOptions { batch_size: Some(batch_size), keeps_rows: true, ..MapOptions::default() };
    let same = || local(|batch: RecordBatch| Ok::<_, BoxError>(batch));
    check(How::Errors, true, |rows, calls| {
        let twice = rows.map_batches_with(same(), mapped(77)).unwrap().map_batches_with(same(), mapped(100)).unwrap();
        twice.map_batches_with(picky(How::Errors, calls), mapped(64)).unwrap()
    });
}

#[test]
fn behind_a_pool_that_may_drop_rows_only_a_range_is_known() {
    let pool = || MapOptions { workers: Some(1..=2), ..MapOptions::default() };
    let same = || local(|batch: RecordBatch| Ok::<_, BoxError>(batch));
    check(How::Errors, false, |rows, calls| {
        rows.map_batches_with(same(), pool()).unwrap().map_batches_with(picky(How::Errors, calls), pool()).unwrap()
    });
}

#[test]
fn behind_a_filter() {
    check(How::Errors, false, |rows, calls| {
        let filtered = rows.filter((col("id") + lit(1)).gt_eq(lit(1))).unwrap();
        filtered.map_batches(picky(How::Errors, calls)).unwrap()
    });
}

fn failure(error: &Error) -> String {
    error.to_string()
}

#[test]
fn one_row_too_many_fails_with_the_numbers() {
    let (dir, session, calls) = (tempfile::tempdir().unwrap(), session(), Calls::default());
    let rows = patient(&input(&session, dir.path())).map_batches(picky(How::Errors, &calls)).unwrap();
    let error = failure(&rows.error_budget(1).unwrap().count().unwrap_err());
    assert!(error.contains("2 rows were given up and the error budget is 1 row; the last was "), "{error}");
    assert!(error.contains("row 4711, at operator") && error.ends_with("4711 is unlucky"), "{error}");
    // A share is the same where the files say how many rows there are: 1 of 10,000.
    let share = rows.error_budget(ErrorBudget::Percent(0.01)).unwrap();
    assert!(failure(&share.count().unwrap_err()).contains("the error budget is 0.01% of the rows"));
    let share = rows.error_budget(ErrorBudget::Percent(0.02)).unwrap();
    assert_eq!(share.count().unwrap(), 9_998);
}

#[test]
fn without_a_budget_the_first_row_fails_the_run_after_its_attempts() {
    let (dir, session, calls) = (tempfile::tempdir().unwrap(), session(), Calls::default());
    let rows = patient(&input(&session, dir.path())).map_batches(picky(How::Errors, &calls)).unwrap();
    let error = rows.attempts(3, Duration::ZERO).unwrap().count().unwrap_err();
    assert!(failure(&error).contains("attempt 3 of 3"), "{error}");
    assert_eq!(calls[0].load(Ordering::Relaxed), 3);
}

#[test]
fn a_job_that_failed_goes_on_with_a_larger_budget_and_loses_no_letter() {
    let (dir, session, calls) = (tempfile::tempdir().unwrap(), session(), Calls::default());
    let rows = patient(&input(&session, dir.path())).map_batches(picky(How::Errors, &calls)).unwrap();
    let (out, options) = (dir.path().join("out"), WriteOptions::default().named("nightly"));
    rows.error_budget(1).unwrap().write_parquet_with(&out, options.clone()).unwrap_err();
    let written = rows.error_budget(2).unwrap().write_parquet_with(&out, options.clone()).unwrap();
    assert_eq!((written.rows, written.given_up), (9_998, 2));
    let again = rows.error_budget(2).unwrap().write_parquet_with(&out, options).unwrap();
    assert!(again.done_before && again.given_up == 2 && again.dead_letters == written.dead_letters);
}

#[test]
fn a_lone_hiccup_gives_up_nothing() {
    let (session, failed) = (session(), Arc::new(Mutex::new(false)));
    let once = local(move |batch: RecordBatch| {
        if batch.num_rows() > 0 && !std::mem::replace(&mut *failed.lock().unwrap_or_else(PoisonError::into_inner), true)
        {
            return Err::<_, BoxError>("a hiccup".into());
        }
        Ok(batch)
    });
    let rows = patient(&session.range(0..1_000).unwrap().map_batches(once).unwrap()).error_budget(5).unwrap();
    assert_eq!(rows.count().unwrap(), 1_000);
    assert_eq!(rows.stats().unwrap().given_up, 0);
}
