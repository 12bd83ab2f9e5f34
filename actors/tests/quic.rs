//! A head, nodes and a driver in one process, over QUIC on loopback: the same jobs as on one node, and nodes that go.
#![allow(clippy::disallowed_methods, reason = "tests wait for what happens with a deadline in real time")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use arrow::record_batch::RecordBatch;
use mobula_actors::cluster::{Authority, Driver, Limits, NodeId, Role, join};
use mobula_actors::job::{Logic, OperatorPlan, Resources, Topology};
use mobula_actors::node::NodeConfig;
use mobula_actors::operator::{
    IntoOperator, IntoSource, Object, ObjectName, OpenContext, Operator, OperatorResult, Output, ReadBatch, Source,
    Split, SplitReader, local,
};
use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};
use support::cluster::{SOON, TestCluster, run, until};
use support::{Add, Gate, add, map, numbers, read, small, values, wide};

/// A small node whose blocks are a little larger: each costs messages.
fn node() -> NodeConfig {
    NodeConfig { block_bytes: Some(Bytes(16 * 1024)), batch_bytes: Bytes(4096), ..small() }
}

fn pipeline(rows: i64) -> Vec<OperatorPlan> {
    vec![wide(read(rows, 9, vec![]), 4), wide(add("one", 0, 1), 4), wide(add("two", 1, 2), 4)]
}

fn expected(rows: i64) -> Vec<i64> {
    (3..rows + 3).collect()
}

#[test]
fn a_job_runs_on_two_nodes_and_a_plan_that_cannot_travel_is_refused() {
    let cluster = TestCluster::start(false, node());
    let _nodes = [cluster.node("n1"), cluster.node("n2")];
    let driver = cluster.driver("driver");
    assert_eq!(driver.status().expect("a status").cpus, 4);
    for rows in [0, 1, 100_000] {
        assert_eq!(run(&driver, pipeline(rows), |_| {}).expect("it runs"), expected(rows));
    }
    let bad = map("bad", 0, Add { n: 1, fails_at: Some(7) }.into_operator());
    let error = run(&driver, vec![read(10, 1, vec![]), bad], |_| {}).expect_err("it fails").to_string();
    assert!(error.contains("operator \"bad\"") && error.contains("row 7 is bad"), "{error}");
    let closure = local(|batch: RecordBatch| Ok::<_, std::io::Error>(batch)).into_operator();
    let here = map("here", 0, closure);
    let error = run(&driver, vec![read(10, 1, vec![]), here], |_| {}).expect_err("it cannot travel");
    assert!(error.to_string().contains("local(..)"), "{error}");
    assert_eq!(driver.jobs().expect("a list").len(), 4);
}

#[test]
fn what_a_wait_that_was_given_up_would_have_brought_comes_with_the_next() {
    let cluster = TestCluster::start(false, node());
    let (_node, driver) = (cluster.node("n1"), cluster.driver("driver"));
    let plan = Topology { operators: pipeline(50_000), ..Topology::default() };
    let mut job = driver.submit("test", &plan).expect("it starts");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (mut all, mut given_up) = (Vec::new(), 0);
    runtime.block_on(async {
        for patience in [Duration::from_millis(1), SOON].into_iter().cycle() {
            match tokio::time::timeout(patience, job.next()).await {
                Ok(next) => match next.expect("it runs") {
                    Some(block) => all.extend(block.batches().iter().flat_map(values)),
                    None => break,
                },
                Err(_) => given_up += 1,
            }
        }
    });
    assert!(all == expected(50_000), "{} rows; {given_up} waits were given up", all.len());
}

#[test]
fn who_attaches_to_a_job_goes_on_behind_the_results_that_were_taken() {
    let cluster = TestCluster::start(false, node());
    let (_node, driver) = (cluster.node("n1"), cluster.driver("driver"));
    let plan = Topology { operators: pipeline(50_000), ..Topology::default() };
    let mut job = driver.submit("test", &plan).expect("it starts");
    let mut all = Vec::new();
    for _ in 0..5 {
        let block = job.next_block().expect("it runs").expect("a block");
        all.extend(block.batches().iter().flat_map(values));
    }
    let id = job.id();
    drop(job);
    let mut again = driver.attach(id).expect("it is there");
    while let Some(block) = again.next_block().expect("it goes on") {
        all.extend(block.batches().iter().flat_map(values));
    }
    assert!(all == expected(50_000), "{} rows", all.len());
}

/// Holds its batch at the gate.
#[derive(Serialize, Deserialize)]
struct Held;

static GATE: Gate = Gate::new();

#[mobula_actors::operator(crate = mobula_actors, name = "test/held-in-a-call@1")]
impl Operator for Held {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        GATE.wait();
        out.emit(batch);
        Ok(())
    }
}

#[test]
fn a_node_is_back_before_a_call_of_its_earlier_life_has_returned() {
    let mut cluster = TestCluster::start(false, node());
    let (_node, driver) = (cluster.node("n1"), cluster.driver("driver"));
    let operators = vec![read(10, 1, vec![]), map("held", 0, Held.into_operator())];
    let _job = driver.submit("test", &Topology { operators, ..Topology::default() }).expect("it starts");
    GATE.wait_for(1);
    cluster.restart_head();
    cluster.wait_for("n1", "alive");
    assert_eq!(run(&cluster.driver("another"), pipeline(1_000), |_| {}).expect("it runs"), expected(1_000));
    GATE.open();
}

#[test]
fn a_node_that_leaves_in_order_fails_nothing() {
    let cluster = TestCluster::start(false, node());
    let nodes = [cluster.node("n1"), cluster.node("n2")];
    let driver = cluster.driver("driver");
    let (go, going) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let node = &nodes[0];
        let leaving = scope.spawn(move || {
            going.recv().expect("the job runs");
            let start = Instant::now();
            node.drain();
            start.elapsed()
        });
        let all = run(&driver, pipeline(300_000), |rows| {
            if rows > 20_000 {
                // Once is enough.
                let _ = go.send(());
            }
        });
        assert_eq!(all.expect("it runs"), expected(300_000));
        assert!(leaving.join().expect("it left") < Duration::from_secs(10));
    });
    cluster.wait_for("n1", "left");
}

/// A cluster of one node, on whose streams and in whose calls there is little room.
fn narrow(stream_frame_bytes: usize, call_frame_bytes: usize) -> TestCluster {
    let limits = Limits { stream_frame_bytes, call_frame_bytes, ..Limits::default() };
    TestCluster::start_on(None, limits, false, node())
}

/// Reads numbers; the third split has a name of so many bytes.
fn read_a_long_name(bytes: usize) -> OperatorPlan {
    let mut plan = read(1_000, 4, vec![]);
    if let Logic::Read { splits, .. } = &mut plan.logic {
        splits[2].label = "x".repeat(bytes);
    }
    plan
}

#[test]
fn a_task_that_is_too_large_for_the_wire_fails_the_job_by_name() {
    let cluster = narrow(4 << 10, 1 << 20);
    let _node = cluster.node("n1");
    let driver = cluster.driver("driver");
    let error = run(&driver, vec![read_a_long_name(5_000)], |_| {}).expect_err("it does not fit").to_string();
    assert!(error.starts_with("operator \"read\", task 2 (xxx"), "{error}");
    assert!(error.contains("attempt 4 of 4: the task takes 4.9 KiB between the head and a node"), "{error}");
    assert!(error.contains("a frame may have 4.0 KiB") && error.contains("to files"), "{error}");
    // The stream and the node are as good as before.
    assert_eq!(run(&driver, pipeline(1_000), |_| {}).expect("it runs"), expected(1_000));
}

/// Reads a row of each split and gives a part of it up, with many words.
#[derive(Serialize, Deserialize, Default)]
struct Wordy {
    read: u64,
}

#[mobula_actors::source(crate = mobula_actors, name = "test/wordy@1")]
impl Source for Wordy {
    fn open(
        &self,
        _: &Split,
        rows: std::ops::Range<Rows>,
        _: ReadBatch,
        _: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        Ok(Box::new(Wordy { read: rows.start.0 }))
    }
}

impl SplitReader for Wordy {
    fn next_bytes(&self) -> Bytes {
        Bytes(8)
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        let is_new = std::mem::replace(&mut self.read, 1) == 0;
        Ok(is_new.then(|| numbers(0..1)))
    }

    fn rows_read(&self) -> Rows {
        Rows(self.read)
    }

    fn take_skipped(&mut self) -> Vec<String> {
        vec!["word ".repeat(2_000)]
    }
}

#[test]
fn a_report_that_is_too_large_for_the_wire_fails_the_job_by_name() {
    let cluster = narrow(4 << 10, 1 << 20);
    let (node, driver) = (cluster.node("n1"), cluster.driver("driver"));
    let mut plan = wide(read(40, 40, vec![]), 4);
    if let Logic::Read { source, .. } = &mut plan.logic {
        *source = Wordy::default().into_source();
    }
    let error = run(&driver, vec![plan], |_| {}).expect_err("it does not fit").to_string();
    assert!(error.contains("on node n1: a report of the pool takes 9.8 KiB between the head and a node"), "{error}");
    // What was reported behind that keeps no block here.
    let start = Instant::now();
    node.drain();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_plan_that_is_too_large_for_a_call_is_refused_with_its_size() {
    let cluster = narrow(1 << 20, 64 << 10);
    let driver = cluster.driver("driver");
    let error = run(&driver, vec![read_a_long_name(70_000)], |_| {}).expect_err("it does not fit").to_string();
    assert!(error.starts_with("the head does not take a plan of 68.") && error.contains("64.0 KiB"), "{error}");
}

/// Adds the first byte of an object.
#[derive(Serialize, Deserialize)]
struct AddFirst {
    table: ObjectName,
    #[serde(skip)]
    n: i64,
}

#[mobula_actors::operator(crate = mobula_actors, name = "test/add_first@1")]
impl Operator for AddFirst {
    fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
        let table = ctx.shared.object(&self.table)?;
        self.n = table.first().copied().map_or(0, i64::from);
        Ok(())
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        out.emit(numbers(values(&batch).into_iter().map(|value| value + self.n)));
        Ok(())
    }
}

/// Reads numbers and adds the first byte of `table` to each, on the node of this name.
fn priced(table: &Object, node: &str) -> Vec<OperatorPlan> {
    let spec = AddFirst { table: table.name(), n: 0 }.into_operator().with_object(table.clone());
    let priced = wide(map("priced", 0, spec), 4);
    let resources = Resources::default().label("name", node);
    vec![read(20_000, 9, vec![]), OperatorPlan { resources, ..priced }]
}

#[test]
fn an_object_reaches_each_node_once_and_is_let_go_with_its_driver() {
    let cluster = TestCluster::start(false, small());
    let _nodes = [cluster.node("n1"), cluster.node("n2")];
    let (first, second) = (cluster.driver("driver"), cluster.driver("driver"));
    let table = Object::new("the table", vec![3; 3 << 20]);
    first.put(vec![table.clone()]).expect("room");
    let stats = cluster.head.objects();
    assert_eq!((stats.objects, stats.received, stats.sent), (1, 1, 0));
    std::thread::scope(|scope| {
        for (driver, node) in [(&first, "n1"), (&first, "n2"), (&first, "n1"), (&second, "n2")] {
            let operators = priced(&table, node);
            scope.spawn(move || assert_eq!(run(driver, operators, |_| {}).expect("it runs"), expected(20_000)));
        }
    });
    assert_eq!(run(&first, priced(&table, "n2"), |_| {}).expect("it runs"), expected(20_000));
    let stats = cluster.head.objects();
    assert_eq!((stats.objects, stats.bytes, stats.received, stats.sent), (1, Bytes::mib(3), 1, 2));
    drop((first, second));
    until(|| cluster.head.objects().objects == 0);
}

#[test]
fn an_object_beyond_the_limit_is_refused_unless_its_operator_can_do_without() {
    let cluster = TestCluster::start(false, small());
    let _node = cluster.node("n1");
    let driver = cluster.driver("driver");
    // A quarter of the head's budget of 16 MiB is for objects.
    let large = Object::new("a large table", vec![1; 5 << 20]);
    let ahead = driver.put(vec![large.clone()]).expect_err("refused").to_string();
    let error = run(&driver, priced(&large, "n1"), |_| {}).expect_err("refused").to_string();
    assert_eq!(ahead, error);
    assert!(error.contains("a large table") && error.contains("limit of 4.0 MiB for all objects"), "{error}");
    let error = run(&driver, priced(&large.optional(), "n1"), |_| {}).expect_err("it was needed").to_string();
    assert!(error.contains("on node n1") && error.contains("did not come: "), "{error}");
    assert!(error.contains("the head has no object"), "{error}");
}

#[test]
fn a_token_lets_one_node_in_once() {
    let cluster = TestCluster::start(false, node());
    let token = |valid| cluster.authority.token(Role::Node, valid, SystemTime::now()).expect("a token");
    let name = |name: &str| NodeId::new(name).expect("a name");
    let (good, limits) = (token(Duration::from_secs(60)), Limits::default());
    let identity = join(Role::Node, cluster.head.address(), &good, name("n1"), &limits).expect("it joins");
    assert_eq!((identity.role(), identity.node().as_str()), (Role::Node, "n1"));
    let used = join(Role::Node, cluster.head.address(), &good, name("n2"), &limits).expect_err("used").to_string();
    assert!(used.contains("used"), "{used}");
    let late = join(Role::Node, cluster.head.address(), &token(Duration::ZERO), name("n2"), &limits)
        .expect_err("late")
        .to_string();
    assert!(late.contains("expired"), "{late}");
    let other = tempfile::tempdir().expect("a folder");
    let stranger = Authority::create(&other.path().join("other")).expect("an authority");
    let foreign = stranger.issue(Role::Driver, name("driver")).expect("an identity");
    assert!(Driver::connect(cluster.head.address(), foreign, limits).is_err());
    assert!(Path::new(other.path()).exists());
}
