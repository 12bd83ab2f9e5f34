//! A head, nodes and a driver in one process, over QUIC on loopback: the same jobs as on one node, and nodes that go.
#![allow(clippy::disallowed_methods, reason = "tests wait for what happens with a deadline in real time")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use mobula_actors::cluster::{
    Authority, Driver, HeadConfig, HeadServer, Identity, Limits, Member, MemberConfig, NodeId, Role, join,
};
use mobula_actors::job::{JobError, Logic, OperatorPlan, Resources, Topology, Workers};
use mobula_actors::node::NodeConfig;
use mobula_actors::operator::{
    IntoOperator, IntoSource, Object, ObjectName, OpenContext, Operator, OperatorResult, Output, ReadBatch, Source,
    Split, SplitReader, local,
};
use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};

/// Reads the numbers that a split names.
#[derive(Serialize, Deserialize)]
struct Numbers;

struct NumbersReader {
    start: i64,
    next: i64,
    end: i64,
    rows: i64,
}

#[mobula_actors::source(crate = mobula_actors, name = "test/numbers@1")]
impl Source for Numbers {
    fn open(
        &self,
        split: &Split,
        from: Rows,
        batch: ReadBatch,
        _: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        let (start, end): (i64, i64) = mobula_actors::function::decode(&split.payload)?;
        let rows = (batch.bytes.0 / 8).clamp(1, batch.rows_max as u64) as i64;
        Ok(Box::new(NumbersReader { start, next: start + from.0 as i64, end, rows }))
    }
}

impl SplitReader for NumbersReader {
    fn next_bytes(&self) -> Bytes {
        Bytes(8 * self.rows.min(self.end - self.next) as u64)
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        let to = (self.next + self.rows).min(self.end);
        let batch = (self.next < to).then(|| numbers(self.next..to));
        self.next = to;
        Ok(batch)
    }

    fn rows_read(&self) -> Rows {
        Rows((self.next - self.start) as u64)
    }
}

/// Adds a number; fails at one.
#[derive(Serialize, Deserialize)]
struct Add {
    n: i64,
    fails_at: Option<i64>,
}

#[mobula_actors::operator(crate = mobula_actors, name = "test/add@1")]
impl Operator for Add {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let before = values(&batch);
        if let Some(bad) = self.fails_at.filter(|bad| before.contains(bad)) {
            return Err(format!("row {bad} is bad").into());
        }
        out.emit(numbers(before.into_iter().map(|value| value + self.n)));
        Ok(())
    }
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

fn numbers(range: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter([("n", column)]).expect("one column")
}

fn values(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn plan(name: &str, inputs: &[usize], logic: Logic) -> OperatorPlan {
    let workers = Workers { min: 0, max: 4 };
    OperatorPlan {
        name: name.into(),
        inputs: inputs.to_vec(),
        logic,
        workers,
        resources: Resources::default(),
        ordered: true,
    }
}

fn add(name: &str, input: usize, n: i64, fails_at: Option<i64>) -> OperatorPlan {
    plan(name, &[input], Logic::Map { chain: vec![Add { n, fails_at }.into_operator()], task_bytes: None })
}

fn read(rows: i64, splits: i64) -> OperatorPlan {
    let split = |n: i64| {
        let range = (n * rows / splits, (n + 1) * rows / splits);
        Split {
            label: format!("numbers {range:?}"),
            rows: Some(Rows((range.1 - range.0) as u64)),
            bytes: Bytes(0),
            payload: mobula_actors::function::encode(&range).expect("two numbers"),
        }
    };
    plan(
        "read",
        &[],
        Logic::Read { source: Numbers.into_source(), splits: (0..splits).map(split).collect(), chain: vec![] },
    )
}

fn small() -> NodeConfig {
    NodeConfig {
        cpus: Some(2),
        memory_budget: Some(Bytes::mib(16)),
        block_bytes: Some(Bytes(16 * 1024)),
        batch_bytes: Bytes(4096),
        retry_backoff: Duration::from_millis(1),
        ..NodeConfig::default()
    }
}

const LOOPBACK: &str = "127.0.0.1:0";

struct TestCluster {
    authority: Arc<Authority>,
    head: HeadServer,
    _dir: tempfile::TempDir,
}

impl TestCluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Arc::new(Authority::create(dir.path()).expect("an authority"));
        let config = HeadConfig {
            identity: authority.issue(Role::Head, NodeId::new("head").expect("a name")).expect("an identity"),
            authority: Arc::clone(&authority),
            listen: LOOPBACK.parse().expect("an address"),
            node: small(),
            computes: false,
            limits: Limits::default(),
        };
        Self { authority, head: HeadServer::start(config).expect("a head"), _dir: dir }
    }

    fn identity(&self, role: Role, name: &str) -> Identity {
        self.authority.issue(role, NodeId::new(name).expect("a name")).expect("an identity")
    }

    /// A node with its name as a label.
    fn node(&self, name: &str) -> Member {
        let labels = [("name".to_owned(), name.to_owned())].into();
        let config = MemberConfig {
            identity: self.identity(Role::Node, name),
            head: self.head.address(),
            listen: free_address(),
            node: NodeConfig { labels, ..small() },
            limits: Limits::default(),
        };
        Member::start(config).expect("a node")
    }

    fn driver(&self) -> Driver {
        Driver::connect(self.head.address(), self.identity(Role::Driver, "driver"), Limits::default())
            .expect("a driver")
    }

    /// Waits until so many nodes are alive.
    fn wait_for(&self, alive: usize) {
        let start = Instant::now();
        loop {
            let status = self.head.status();
            if status.nodes.iter().filter(|node| node.state == "alive").count() == alive {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "not {alive} nodes: {status:?}");
            std::thread::yield_now();
        }
    }
}

/// A node tells others where it listens before it does.
fn free_address() -> SocketAddr {
    std::net::UdpSocket::bind(LOOPBACK).and_then(|socket| socket.local_addr()).expect("a free port")
}

fn run(driver: &Driver, operators: Vec<OperatorPlan>, mut on_block: impl FnMut(usize)) -> Result<Vec<i64>, JobError> {
    let mut job = driver.submit("test", &Topology { operators, finish: None })?;
    let mut all = Vec::new();
    while let Some(block) = job.next_block()? {
        all.extend(block.batches().iter().flat_map(values));
        on_block(all.len());
    }
    Ok(all)
}

fn pipeline(rows: i64) -> Vec<OperatorPlan> {
    vec![read(rows, 9), add("one", 0, 1, None), add("two", 1, 2, None)]
}

fn expected(rows: i64) -> Vec<i64> {
    (3..rows + 3).collect()
}

#[test]
fn a_job_runs_on_two_nodes_and_a_plan_that_cannot_travel_is_refused() {
    let cluster = TestCluster::start();
    let _nodes = [cluster.node("n1"), cluster.node("n2")];
    cluster.wait_for(2);
    let driver = cluster.driver();
    assert_eq!(driver.status().expect("a status").cpus, 4);
    for rows in [0, 1, 100_000] {
        assert_eq!(run(&driver, pipeline(rows), |_| {}).expect("it runs"), expected(rows));
    }
    let error = run(&driver, vec![read(10, 1), add("bad", 0, 1, Some(7))], |_| {}).expect_err("it fails").to_string();
    assert!(error.contains("operator \"bad\"") && error.contains("row 7 is bad"), "{error}");
    let closure = local(|batch: RecordBatch| Ok::<_, std::io::Error>(batch)).into_operator();
    let here = plan("here", &[0], Logic::Map { chain: vec![closure], task_bytes: None });
    let error = run(&driver, vec![read(10, 1), here], |_| {}).expect_err("it cannot travel");
    assert!(error.to_string().contains("local(..)"), "{error}");
    assert_eq!(driver.jobs().expect("a list").len(), 4);
}

#[test]
fn a_node_that_leaves_in_order_fails_nothing() {
    let cluster = TestCluster::start();
    let nodes = [cluster.node("n1"), cluster.node("n2")];
    cluster.wait_for(2);
    let driver = cluster.driver();
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
    assert!(cluster.head.status().nodes.iter().any(|node| node.name == "n1" && node.state == "left"));
}

/// Reads numbers and adds the first byte of `table` to each, on the node of this name.
fn priced(table: &Object, node: &str) -> Vec<OperatorPlan> {
    let spec = AddFirst { table: table.name(), n: 0 }.into_operator().with_object(table.clone());
    let priced = plan("priced", &[0], Logic::Map { chain: vec![spec], task_bytes: None });
    vec![read(20_000, 9), OperatorPlan { resources: Resources::default().label("name", node), ..priced }]
}

#[test]
fn an_object_reaches_each_node_once_and_is_let_go_with_its_driver() {
    let cluster = TestCluster::start();
    let _nodes = [cluster.node("n1"), cluster.node("n2")];
    cluster.wait_for(2);
    let (first, second) = (cluster.driver(), cluster.driver());
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
    let start = Instant::now();
    while cluster.head.objects().objects > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "the head holds on to an object");
        std::thread::yield_now();
    }
}

#[test]
fn an_object_beyond_the_limit_is_refused_unless_its_operator_can_do_without() {
    let cluster = TestCluster::start();
    let _node = cluster.node("n1");
    cluster.wait_for(1);
    let driver = cluster.driver();
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
    let cluster = TestCluster::start();
    let token = |valid| cluster.authority.token(Role::Node, valid, SystemTime::now()).expect("a token");
    let name = |name: &str| NodeId::new(name).expect("a name");
    let (good, limits) = (token(Duration::from_secs(60)), Limits::default());
    let identity = join(cluster.head.address(), &good, name("n1"), &limits).expect("it joins");
    assert_eq!((identity.role(), identity.node().as_str()), (Role::Node, "n1"));
    let used = join(cluster.head.address(), &good, name("n2"), &limits).expect_err("used").to_string();
    assert!(used.contains("used"), "{used}");
    let late = join(cluster.head.address(), &token(Duration::ZERO), name("n2"), &limits).expect_err("late").to_string();
    assert!(late.contains("expired"), "{late}");
    let other = tempfile::tempdir().expect("a folder");
    let stranger = Authority::create(&other.path().join("other")).expect("an authority");
    let foreign = stranger.issue(Role::Driver, name("driver")).expect("an identity");
    assert!(Driver::connect(cluster.head.address(), foreign, limits).is_err());
    assert!(Path::new(other.path()).exists());
}
