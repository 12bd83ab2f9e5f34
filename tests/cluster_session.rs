//! The verbs of a dataset on a cluster give what they give in one process; what cannot travel is refused by its name.
//!
//! Head and node live in this test's process and talk over loopback.

#[path = "cluster/small.rs"]
mod small;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use mobula::cluster::{self, CancelOutcome};
use mobula::prelude::*;
use small::Small;

#[mobula::remote]
fn double(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    let ids = batch.column(0).as_primitive::<Int64Type>();
    let doubled: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.values().iter().map(|id| id * 2)));
    Ok(RecordBatch::try_from_iter([("id", doubled)])?)
}

/// Fails on these ids.
#[mobula::remote]
fn picky(batch: RecordBatch, unlucky: Vec<i64>) -> OperatorResult<RecordBatch> {
    let ids = batch.column(0).as_primitive::<Int64Type>().values();
    match unlucky.iter().find(|id| ids.contains(id)) {
        Some(id) => Err(format!("{id} is unlucky").into()),
        None => Ok(batch),
    }
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[test]
fn every_consuming_verb_gives_on_a_cluster_what_it_gives_here() {
    let cluster = Small::start(2);
    let here = Session::local().expect("a session");
    let ask = |session: &Session| -> mobula::Result<_> {
        let rows = session.range(0..10_000)?.filter((col("id") % 3).eq(0))?.map_batches(double::map())?;
        let folder = tempfile::tempdir().expect("a folder");
        let written = rows.write_parquet(folder.path().join("out"))?.rows;
        let read_back = session.read_parquet(folder.path().join("out"))?.collect()?;
        let sizes: Vec<usize> = rows
            .iter_batches(1_000)?
            .map(|batch| batch.map(|batch| batch.num_rows()))
            .collect::<mobula::Result<_>>()?;
        let mut sum = 0;
        rows.for_each(|batch| {
            sum += numbers(&[batch]).iter().sum::<i64>();
            Ok::<_, mobula::Error>(())
        })?;
        let kept = rows.materialize()?.count()?;
        let all = (rows.count()?, numbers(&rows.take(5)?), numbers(&rows.collect()?), rows.show_string(2)?);
        Ok((all, written, numbers(&read_back), sizes, sum, kept))
    };
    assert_eq!(ask(&cluster.session).expect("on the cluster"), ask(&here).expect("here"));
    let stats = cluster.session.stats().expect("something ran");
    assert!(stats.operators.iter().any(|operator| operator.rows_out > Rows(0)), "{stats:?}");
}

#[test]
fn rows_that_a_cluster_gave_up_are_replayed_on_it_once() {
    let cluster = Small::start(2);
    let folder = tempfile::tempdir().expect("a folder");
    let (input, out) = (folder.path().join("in"), folder.path().join("out"));
    cluster.session.range(0..3_000).expect("rows").write_parquet(&input).expect("written");
    let run = |rows: &Dataset, unlucky: Vec<i64>| {
        let budget = unlucky.len() as u64;
        let rows = rows.map_batches(picky::map(unlucky))?.attempts(2, Duration::ZERO)?.error_budget(budget)?;
        rows.write_parquet_with(&out, WriteOptions::default().mode(WriteMode::Append))
    };
    let first = run(&cluster.session.read_parquet(&input).expect("a plan"), vec![0, 17, 18, 2_999]).expect("a job");
    assert_eq!((first.rows, first.given_up), (2_996, 4));
    let letters = || cluster.session.read_dead_letters(&out);
    let again = run(&letters().expect("letters"), vec![17]).expect("a replay");
    assert_eq!((again.rows, again.given_up), (3, 1));
    assert_eq!(numbers(&letters().expect("a letter").collect().expect("rows")), [17]);
    assert_eq!(run(&letters().expect("a letter"), vec![]).expect("a replay").rows, 1);
    let closed = letters().expect_err("all are closed").to_string();
    assert!(closed.contains("were replayed by job 1"), "{closed}");
    let mut all = numbers(&cluster.session.read_parquet(&out).and_then(|rows| rows.collect()).expect("rows"));
    all.sort_unstable();
    assert_eq!(all, (0..3_000).collect::<Vec<_>>());
}

#[test]
fn a_model_in_memory_reaches_a_node_once_for_all_jobs_and_is_loaded_there() {
    let cluster = Small::start(2);
    let model = std::fs::read("examples/data/digits_mlp.onnx").expect("a model");
    let digits = cluster.session.read_parquet("examples/data/digits/*.parquet").expect("a plan");
    for _ in 0..2 {
        let labelled = digits.predict(Onnx::bytes(model.clone()).workers(1..=2)).expect("it fits");
        assert_eq!(labelled.count().expect("it runs"), 1797);
    }
    let stats = cluster.head.objects();
    assert_eq!((stats.objects, stats.received, stats.sent), (1, 1, 1));
}

#[test]
fn a_session_of_a_cluster_has_the_resources_of_its_nodes() {
    let cluster = Small::start(2);
    assert_eq!((cluster.session.cpus(), cluster.session.memory_budget()), (2, Bytes::mib(64)));
}

#[test]
fn a_closure_is_refused_on_a_cluster_by_the_call_that_made_it() {
    let cluster = Small::start(2);
    let folder = tempfile::tempdir().expect("a folder");
    let closure = local(|batch: RecordBatch| Ok::<_, Error>(batch));
    let rows = cluster.session.range(0..10).expect("rows").map_batches(closure).expect("a plan");
    let out = folder.path().join("out");
    for error in [rows.collect().expect_err("a closure"), rows.write_parquet(&out).expect_err("a closure")] {
        let error = error.to_string();
        assert!(error.contains("local(..)") && error.contains("#[mobula::remote]"), "{error}");
    }
    assert!(!out.exists(), "nothing is left of a write that did not begin");
}

#[test]
fn a_write_that_is_cancelled_leaves_no_file_and_the_session_goes_on() {
    let cluster = Small::start(2);
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let many = cluster.session.range(0..1_000_000_000).expect("rows").filter((col("id") % 7).eq(0)).expect("a plan");
    let running = many.start_write(&out, Format::Csv, WriteOptions::default()).expect("a job");
    running.watch().cancel();
    assert!(running.wait().expect_err("cancelled").is_cancelled());
    assert!(!out.exists());
    drop(many.iter_batches(10).expect("a job"));
    assert_eq!(
        cluster.session.range(0..10).expect("rows").filter(col("id").lt(3)).expect("a plan").count().expect("rows"),
        3
    );
}

#[test]
fn a_job_whose_results_nobody_takes_is_cancelled_from_elsewhere_and_its_driver_is_told() {
    let cluster = Small::start(2);
    let rows = cluster.session.range(0..1_000_000_000).expect("rows").filter(col("id").gt(0)).expect("a plan");
    let mut batches = rows.iter_batches(1_000).expect("a job");
    batches.next().expect("a batch").expect("it runs");
    let other = cluster.driver();
    assert_eq!(other.cancel(1).expect("an answer"), Some(CancelOutcome::Cancelled));
    assert_eq!(cluster.head.status().jobs, 0);
    let error = batches.find_map(Result::err).expect("it does not end well");
    assert!(error.is_cancelled(), "{error}");
    let again = other.cancel(1).expect("an answer");
    assert_eq!(again, Some(CancelOutcome::Ended("the job was cancelled".to_owned())));
    assert_eq!(other.cancel(2).expect("an answer"), None);
}

#[test]
fn a_head_that_is_gone_is_told_as_such() {
    let cluster = Small::start(2);
    cluster.head.stop();
    let error =
        cluster.session.range(0..10).and_then(|rows| rows.filter(col("id").lt(3))?.count()).expect_err("no head");
    assert!(error.to_string().contains("head"), "{error}");
}

#[test]
fn an_address_that_is_none_says_what_one_looks_like() {
    let error = cluster::driver_identity("nowhere").expect_err("no port").to_string();
    assert!(error.contains("HOST:PORT"), "{error}");
}
