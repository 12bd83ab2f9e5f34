//! Predictors on devices, with a fake one: every row once and in order whatever the device does, and each device its own
//! worker.

#[allow(dead_code, reason = "not every test needs all")]
#[path = "cluster/small.rs"]
mod small;

use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, Int64Type};
use mobula::predict::FakeDevice;
use mobula::prelude::*;
use mobula::{DeviceStats, JobSummary};
use proptest::prelude::*;
use small::Small;

fn a_gpu() -> Resources {
    Resources { gpus: 1.0, ..Resources::cpu(1.0) }
}

fn session(gpus: usize) -> Session {
    let builder = Session::builder().cpus(2).gpus(gpus).memory_budget(Bytes::mib(64));
    builder.retry_backoff(Duration::from_millis(1)).build().expect("a session")
}

/// Runs `rows` numbers through the model; they come out in order, each with its sum, which is itself.
fn check(session: &Session, rows: i64, model: Onnx) -> Result<JobSummary> {
    let sums = session.range(0..rows)?.predict(model.resources(a_gpu()))?;
    let mut next = 0;
    for batch in sums.collect()? {
        let ids = batch.column(0).as_primitive::<Int64Type>().values();
        let sums = batch.column(1).as_primitive::<Float32Type>().values();
        for (id, sum) in ids.iter().zip(sums) {
            assert_eq!((*id, *sum), (next, next as f32));
            next += 1;
        }
    }
    assert_eq!(next, rows);
    Ok(sums.stats().expect("it ran"))
}

fn devices(summary: &JobSummary) -> Vec<DeviceStats> {
    summary.operators.iter().flat_map(|operator| operator.devices.clone()).collect()
}

#[test]
fn batches_grow_while_that_makes_more_rows_a_second() {
    let device = FakeDevice::new().batch_time(Duration::from_millis(1));
    let summary = check(&session(1), 500_000, device.model()).expect("it works");
    let [device] = &devices(&summary)[..] else { panic!("one device") };
    assert_eq!((device.gpus.as_slice(), device.rows, device.out_of_memory), (&[0][..], Rows(500_000), 0));
    // Usually far fewer, but how far it climbs depends on how the machine is disturbed.
    assert!(device.runs < 10_000, "500,000 rows in batches of 32 would be 15,625 runs: {device:?}");
}

#[test]
fn no_row_is_lost_when_a_device_runs_out_of_memory() {
    let device = FakeDevice::new().memory_rows(20);
    let summary = check(&session(2), 20_000, device.model()).expect("it works");
    let all = devices(&summary);
    assert!(all.iter().any(|device| device.out_of_memory > 0), "{all:?}");
    assert!(all.iter().all(|device| device.batch_rows <= 20), "{all:?}");
    assert_eq!(all.iter().map(|device| device.rows).sum::<Rows>(), Rows(20_000));
    // Also where the user chose a size that is too large, and by bytes.
    check(&session(1), 20_000, device.model().batch_size(5_000)).expect("it halves");
    check(&session(1), 50_000, FakeDevice::new().memory(Bytes::kib(1)).model()).expect("it halves");
}

#[test]
fn a_device_too_small_for_a_row_fails_the_job_and_says_why() {
    let error = check(&session(1), 10, FakeDevice::new().memory_rows(0).model()).expect_err("nothing fits");
    let text = mobula_text(&error);
    assert!(text.contains("out of memory") && text.contains("a batch of 1 rows is the smallest"), "{text}");
}

#[test]
fn a_lost_device_ends_its_worker_and_its_rows_are_tried_again() {
    // Six batches of 500 before it breaks, then a fresh model; three restarts are within the budget of five.
    let device = FakeDevice::new().lost_at_run(7);
    let summary = check(&session(1), 10_000, device.model().batch_size(500)).expect("it goes on");
    assert!(summary.operators.iter().any(|operator| operator.retries >= 3), "{summary:?}");
    let error = check(&session(1), 10_000, FakeDevice::new().lost_at_run(1).model()).expect_err("never works");
    assert!(mobula_text(&error).contains("the device is lost"), "{}", mobula_text(&error));
}

#[test]
fn each_device_has_a_worker_of_its_own() {
    let device = FakeDevice::new().batch_time(Duration::from_millis(5));
    let summary = check(&session(2), 50_000, device.model().batch_size(500).workers(2..=2)).expect("it works");
    let mut ordinals: Vec<_> = devices(&summary).into_iter().flat_map(|device| device.gpus).collect();
    ordinals.sort();
    assert_eq!(ordinals, [0, 1]);
}

#[test]
fn an_engine_without_gpus_and_more_gpus_than_there_are_are_refused() {
    let digits = session(1).read_parquet("examples/data/digits/*.parquet").expect("files");
    let model = Onnx::file("examples/data/digits_mlp.onnx").resources(a_gpu());
    let refused = digits.predict(model).expect_err("rten runs on cpus");
    assert!(mobula_text(&refused).contains("models run on the cpu with the engine rten"), "{refused}");
    let wanted = Resources { gpus: 2.0, ..Resources::cpu(1.0) };
    let sums = session(1).range(0..10).expect("rows").predict(FakeDevice::new().model().resources(wanted));
    let error = sums.expect("a plan").collect().expect_err("one device");
    assert!(mobula_text(&error).contains("it asks for 2 gpus, this node has 1"), "{}", mobula_text(&error));
}

#[test]
fn a_row_that_does_not_fit_the_model_fails_its_task_and_names_it() {
    let rows = session(1).range(0..1_000).expect("rows");
    let with_nan =
        rows.with_column("x", when(col("id").eq(777)).then(lit(f64::NAN)).otherwise(lit(1.0))).expect("a column");
    let model = FakeDevice::new().model().input("x", "x").resources(a_gpu());
    let error = with_nan.predict(model).expect("a plan").collect().expect_err("NaN");
    assert!(mobula_text(&error).contains("column \"x\" is NaN in row"), "{}", mobula_text(&error));
}

#[test]
fn a_fake_device_travels_and_its_waits_come_back() {
    let cluster = Small::start_with(2, 1);
    let device = FakeDevice::new().batch_time(Duration::from_micros(100)).memory_rows(20);
    let summary = check(&cluster.session, 20_000, device.model()).expect("it works there too");
    let [device] = &devices(&summary)[..] else { panic!("one device: {summary:?}") };
    assert_eq!((device.node.as_deref(), device.rows), (Some("n1"), Rows(20_000)));
    assert!(device.busy > Duration::ZERO && device.out_of_memory > 0, "{device:?}");
}

#[test]
fn tasks_larger_than_what_a_node_copies_at_once_do_not_stand_still() {
    let cluster = Small::start_with(2, 1);
    let summary = check(&cluster.session, 3_000_000, FakeDevice::new().model()).expect("it works");
    let device = devices(&summary).pop().expect("one");
    assert_eq!(device.rows, Rows(3_000_000), "{device:?}");
}

fn mobula_text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever memory the device has, whenever it breaks, however blocks and batches are cut.
    #[test]
    fn every_row_comes_out_once_and_in_order(
        rows in 0..30_000i64,
        gpus in 1..3usize,
        block_kib in 4..400u64,
        batch in prop::option::of(1..3_000usize),
        memory_rows in prop::option::of(50..2_000usize),
        lost in any::<bool>(),
    ) {
        let builder = Session::builder().cpus(2).gpus(gpus).memory_budget(Bytes::mib(24)).block_bytes(Bytes::kib(block_kib));
        let builder = builder.restarts(10_000, Duration::from_secs(1)).retry_backoff(Duration::ZERO).attempts(10_000);
        let session = builder.build().expect("a session");
        let mut device = FakeDevice::new();
        if let Some(rows) = memory_rows {
            device = device.memory_rows(rows);
        }
        if lost {
            device = device.lost_at_run(40);
        }
        let model = device.model();
        let model = match batch {
            Some(batch) => model.batch_size(batch.max(rows as usize / 500).max(1)),
            None => model,
        };
        check(&session, rows, model).expect("it works");
    }
}
