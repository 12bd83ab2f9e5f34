//! Who waits for whom in jobs of a cluster, over QUIC on loopback; and calls on nodes that do not come back.

mod support;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use mobula_actors::cluster::{Driver, DriverWatch};
use mobula_actors::job::{JobError, OperatorPlan, Resources, Topology, Why, Workers};
use mobula_actors::node::NodeConfig;
use mobula_actors::operator::{IntoOperator, Operator, OperatorResult, Output};
use serde::{Deserialize, Serialize};
use support::cluster::{TestCluster, until};
use support::{Gate, add, map, read, small, values, wide};

/// The gates of the tests here, and how often each still holds somebody.
static GATES: [(Gate, AtomicUsize); 3] = [const { (Gate::new(), AtomicUsize::new(1)) }; 3];

/// Holds the batch with a number at a gate.
#[derive(Serialize, Deserialize)]
struct Held {
    gate: usize,
    number: i64,
}

#[mobula_actors::operator(crate = mobula_actors, name = "test/held@1")]
impl Operator for Held {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let (gate, left) = &GATES[self.gate];
        let held = values(&batch).contains(&self.number);
        if held && left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            gate.wait();
        }
        out.emit(batch);
        Ok(())
    }
}

/// Opens its gate whatever becomes of the test.
struct Opens(usize);

impl Drop for Opens {
    fn drop(&mut self) {
        GATES[self.0].0.open();
    }
}

fn held(gate: usize, number: i64) -> OperatorPlan {
    wide(map("held", 0, Held { gate, number }.into_operator()), 1)
}

fn start(
    driver: &Driver,
    operators: Vec<OperatorPlan>,
) -> (DriverWatch, std::thread::JoinHandle<Result<Vec<i64>, JobError>>) {
    let mut job = driver.submit("test", &Topology { operators, ..Topology::default() }).expect("it starts");
    let watch = job.watch();
    #[allow(clippy::disallowed_methods, reason = "a driver of the test")]
    let taking = std::thread::spawn(move || {
        let mut all = Vec::new();
        while let Some(block) = job.next_block()? {
            all.extend(block.batches().iter().flat_map(values));
        }
        Ok(all)
    });
    (watch, taking)
}

/// Waits until the first cause begins like this and a line behind it says all of these words.
#[track_caller]
fn wait_for(watch: &DriverWatch, root: &str, lines: &[[&str; 2]]) -> Why {
    until(|| {
        let why = watch.why().expect("the head answers");
        let Some(cause) = why.causes.first() else { return false };
        let says =
            |words: &[&str; 2]| cause.waiting.iter().any(|(_, says)| words.iter().all(|word| says.contains(word)));
        cause.root[0].starts_with(root) && lines.iter().all(says)
    });
    watch.why().expect("the head answers")
}

#[test]
fn a_function_that_blocks_on_a_node_is_named_with_the_node() {
    let _opens = Opens(0);
    let cluster = TestCluster::start(false, small());
    let _node = cluster.node("n1");
    let driver = cluster.driver("driver");
    let (watch, taking) = start(&driver, vec![read(40_000, 20, vec![]), held(0, 0), add("after", 1, 1)]);
    GATES[0].0.wait_for(1);
    let expected = [
        ["task 0 of \"held\"", "is under way"],
        ["the port of operator \"held\" is full", ""],
        ["operator \"read\" waits to pass", " on for "],
        ["of \"read\" on node n1 wait", "for room for results"],
        ["operator \"after\" waits for input", ""],
        ["the driver waits for the next block", ""],
    ];
    let why = wait_for(&watch, "worker 0 of \"held\" on node n1 has been in user code for ", &expected);
    assert!(why.causes[0].root[0].contains("task 0 ("), "{why}");
    // Whoever asks gets it, by number.
    let job = driver.jobs().expect("the head answers")[0].job;
    let other = cluster.driver("other").why(job).expect("the head answers").expect("the job is known");
    assert!(other.to_string().contains("on node n1 has been in user code"), "{other}");
    assert_eq!(driver.why(job + 1).expect("the head answers"), None);
    GATES[0].0.open();
    assert_eq!(taking.join().expect("no panic").expect("it runs").len(), 40_000);
    assert!(driver.why(job).expect("the head answers").expect("it is listed").causes.is_empty());
}

#[test]
fn a_lease_that_another_job_holds_on_a_node_is_named() {
    let _opens = Opens(1);
    let cluster = TestCluster::start(false, NodeConfig { gpus: Some(1), ..small() });
    let _node = cluster.node("n1");
    let driver = cluster.driver("driver");
    let on_gpu = |plan: OperatorPlan| OperatorPlan {
        resources: Resources { gpus: 1.0, ..Resources::default() },
        workers: Workers { min: 1, max: 1 },
        ..plan
    };
    let (_, first) = start(&driver, vec![read(10, 1, vec![]), on_gpu(held(1, 3))]);
    GATES[1].0.wait_for(1);
    let (watch, second) = start(&driver, vec![read(10, 1, vec![]), on_gpu(add("waits", 0, 1))]);
    let expected = [["operator \"waits\" waits for 1 more worker on node n1", ""], ["task 0 of \"waits\"", ""]];
    let why = wait_for(&watch, "a lease of cpu 1, gpu 1 on node n1 is not free: job 1 holds 1", &expected);
    assert!(why.to_string().contains("waits for a worker"), "{why}");
    GATES[1].0.open();
    assert_eq!(first.join().expect("no panic").expect("it runs").len(), 10);
    assert_eq!(second.join().expect("no panic").expect("it runs").len(), 10);
}

#[test]
fn a_call_that_does_not_come_back_on_a_node_is_tried_elsewhere_and_the_job_ends_right() {
    let _opens = Opens(2);
    let config = NodeConfig { task_progress_limit: Duration::from_millis(400), ..small() };
    let cluster = TestCluster::start(false, config);
    let _nodes = [cluster.node("n1"), cluster.node("n2")];
    let driver = cluster.driver("driver");
    let (watch, taking) = start(&driver, vec![read(40_000, 8, vec![]), wide(held(2, 4_321), 4), add("after", 1, 1)]);
    assert_eq!(taking.join().expect("no panic").expect("it runs"), (1..40_001).collect::<Vec<_>>());
    assert!(watch.look().expect("the head answers").operators[1].retries >= 1);
}
