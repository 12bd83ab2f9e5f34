//! Who waits for whom in a job, asked while user code is held; and calls that do not come back, on one node.

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use mobula_actors::job::{JobError, OperatorPlan, Resources, Topology, Why, Workers};
use mobula_actors::node::{JobHandle, JobWatch, Node, NodeConfig};
use mobula_actors::operator::{
    BoxError, Computed, DeviceBatch, DeviceError, IntoOperator, MakeDeviceHalf, OnDevice, Operator, OperatorResult,
    OperatorSpec, Output, Prepared, local,
};
use mobula_actors::units::Bytes;
use serde::{Deserialize, Serialize};
use support::cluster::until;
use support::world::World;
use support::{Gate, Opens, each, map, read, small, values, wide};

/// Passes rows on; holds a batch with this number, the first time or each time, until the gate opens.
fn holds(gate: &Arc<Gate>, number: i64, times: usize) -> OperatorSpec {
    let (gate, left) = (Arc::clone(gate), Arc::new(AtomicUsize::new(times)));
    let function = move |batch: RecordBatch| {
        let held = values(&batch).contains(&number);
        if held && left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            gate.wait();
        }
        Ok::<_, BoxError>(batch)
    };
    local(function).into_operator()
}

fn start(node: &Node, operators: Vec<OperatorPlan>) -> JobHandle {
    node.submit(Topology { operators, ..Topology::default() }).expect("it starts")
}

/// Takes all that comes, on a thread of its own.
fn drain(mut job: JobHandle) -> std::thread::JoinHandle<Result<Vec<i64>, JobError>> {
    #[allow(clippy::disallowed_methods, reason = "a driver of the test")]
    std::thread::spawn(move || {
        let mut all = Vec::new();
        while let Some(block) = job.next_block()? {
            all.extend(block.batches().iter().flat_map(values));
        }
        Ok(all)
    })
}

/// Waits until the first cause begins like this, and those who wait because of it say what is asked for: a job that still
/// moves says this and that.
#[track_caller]
fn wait_for(watch: &JobWatch, root: &str, expected: impl Fn(&dyn Fn(&str, &str) -> bool) -> bool) -> Why {
    until(|| {
        let why = watch.why();
        let Some(cause) = why.causes.first() else { return false };
        let says = |a: &str, b: &str| cause.waiting.iter().any(|(_, says)| says.contains(a) && says.contains(b));
        cause.root[0].starts_with(root) && expected(&says)
    });
    watch.why()
}

fn gate() -> (Arc<Gate>, Opens) {
    let gate = Arc::new(Gate::new());
    (Arc::clone(&gate), Opens(gate))
}

/// One worker, so that what it holds is what all wait for.
fn narrow(plan: OperatorPlan) -> OperatorPlan {
    wide(plan, 1)
}

#[test]
fn a_function_that_blocks_is_named_with_all_who_wait_for_it() {
    let (gate, _opens) = gate();
    let node = Node::start(small()).expect("a node");
    let job = start(
        &node,
        vec![read(100_000, 50, vec![]), narrow(map("slow", 0, holds(&gate, 0, 1))), map("after", 1, each(|n| n))],
    );
    let watch = job.watch();
    let driver = drain(job);
    gate.wait_for(1);
    // The read runs on until the port before the held step is full.
    let why = wait_for(&watch, "worker 0 of \"slow\" has been in user code for ", |says| {
        says("task 0 of \"slow\"", "is under way")
            && says("the port of operator \"slow\" is full", "")
            && says("operator \"read\" waits to pass", "on for ")
            && says("of \"read\" wait", "for room for results")
            && says("operator \"after\" waits for input", "")
            && says("the driver waits for the next block", "")
    });
    let root = why.causes[0].root.join("; ");
    assert!(root.contains("task 0 (") && root.contains("rows 0 to "), "{why}");
    gate.open();
    assert_eq!(driver.join().expect("no panic").expect("it runs"), (0..100_000).collect::<Vec<_>>());
    assert!(watch.why().causes.is_empty(), "it has ended");
}

#[test]
fn the_step_of_a_fused_operator_is_named() {
    let (gate, _opens) = gate();
    let node = Node::start(small()).expect("a node");
    let held = OperatorSpec { label: "the third".to_owned(), ..holds(&gate, 7, 1) };
    let job = start(&node, vec![read(1_000, 2, vec![each(|n| n), each(|n| n), held])]);
    let watch = job.watch();
    let driver = drain(job);
    gate.wait_for(1);
    let text = watch.why().to_string();
    assert!(text.contains("step \"the third\", task 0 (numbers 0..500)"), "{text}");
    gate.open();
    driver.join().expect("no panic").expect("it runs");
}

#[test]
fn a_driver_that_takes_nothing_is_what_all_wait_for() {
    let node = Node::start(small()).expect("a node");
    let mut job = start(&node, vec![read(200_000, 40, vec![]), map("double", 0, each(|n| 2 * n))]);
    job.next_block().expect("it runs").expect("a block");
    let watch = job.watch();
    wait_for(&watch, "nobody has asked for the next block of results", |says| {
        says("the port of the driver is full", "")
            && says("operator \"double\" waits to pass", "")
            && says("the port of operator \"double\" is full", "")
            && says("of \"read\" wait", "for room for results")
    });
    job.watch().cancel();
}

#[test]
fn a_lease_that_another_job_holds_is_named() {
    let (gate, _opens) = gate();
    let node = Node::start(NodeConfig { gpus: Some(1), ..small() }).expect("a node");
    let on_gpu = |name: &str, spec| OperatorPlan {
        resources: Resources { gpus: 1.0, ..Resources::default() },
        workers: Workers { min: 1, max: 1 },
        ..map(name, 0, spec)
    };
    let first = start(&node, vec![read(10, 1, vec![]), on_gpu("holds", holds(&gate, 3, 1))]);
    let first = drain(first);
    gate.wait_for(1);
    let second = start(&node, vec![read(10, 1, vec![]), on_gpu("waits", each(|n| n))]);
    let watch = second.watch();
    let second = drain(second);
    until(|| watch.why().to_string().contains("task 0 of \"waits\""));
    let text = watch.why().to_string();
    assert!(text.starts_with("a lease of cpu 1, gpu 1 here is not free: job 0 of this session holds 1\n"), "{text}");
    assert!(text.contains("<- operator \"waits\" waits for 1 more worker here"), "{text}");
    gate.open();
    assert_eq!(first.join().expect("no panic").expect("it runs").len(), 10);
    assert_eq!(second.join().expect("no panic").expect("it runs").len(), 10);
}

/// A node on which calls may take this long.
fn impatient(limit: Duration) -> NodeConfig {
    NodeConfig { task_progress_limit: limit, ..small() }
}

const LIMIT: Duration = Duration::from_millis(400);

#[test]
fn a_task_whose_call_does_not_come_back_is_tried_elsewhere_and_the_job_ends_right() {
    let (gate, _opens) = gate();
    let node = Node::start(impatient(LIMIT)).expect("a node");
    let job = start(&node, vec![read(20_000, 8, vec![]), map("stuck", 0, holds(&gate, 4_321, 1))]);
    let watch = job.watch();
    let all = drain(job).join().expect("no panic").expect("it runs");
    assert_eq!(all, (0..20_000).collect::<Vec<_>>());
    assert!(watch.summary().operators[1].retries >= 1);
    assert!(node.blocks().0 > 0, "the call that is left behind holds its input");
    gate.open();
    until(|| node.blocks().0 == 0);
}

#[test]
fn a_read_that_does_not_come_back_is_tried_again_where_its_results_end() {
    let (gate, _opens) = gate();
    let node = Node::start(impatient(LIMIT)).expect("a node");
    let job = start(&node, vec![narrow(read(20_000, 2, vec![holds(&gate, 15_000, 2)]))]);
    assert_eq!(drain(job).join().expect("no panic").expect("it runs"), (0..20_000).collect::<Vec<_>>());
}

#[test]
fn a_task_that_never_comes_back_fails_the_job_and_says_where() {
    let (gate, _opens) = gate();
    let config = NodeConfig { attempts: 2, ..impatient(LIMIT) };
    let node = Node::start(config).expect("a node");
    let job = start(&node, vec![read(1_000, 2, vec![]), map("stuck", 0, holds(&gate, 77, usize::MAX))]);
    let error = drain(job).join().expect("no panic").expect_err("it fails").to_string();
    assert!(error.contains("operator \"stuck\", task 0 ("), "{error}");
    // The call before was for the first eight.
    assert!(error.contains("attempt 2 of 2: no progress for ") && error.contains("rows 8 to 128"), "{error}");
}

#[test]
fn too_many_threads_left_behind_fail_the_job() {
    let (gate, _opens) = gate();
    let config = NodeConfig { attempts: 100, left_behind_max: 2, ..impatient(LIMIT) };
    let node = Node::start(config).expect("a node");
    let job = start(&node, vec![read(1_000, 1, vec![]), narrow(map("stuck", 0, holds(&gate, 0, usize::MAX)))]);
    let error = drain(job).join().expect("no panic").expect_err("it fails");
    assert!(matches!(&error, JobError::LeftBehind { most: 2, .. }), "{error}");
    assert!(error.to_string().contains("left_behind_max"), "{error}");
    // The node is as good as before for others.
    gate.open();
    let (all, _) = support::run_on(&node, vec![read(1_000, 4, vec![each(|n| n + 1)])]).expect("it runs");
    assert_eq!(all, (1..1_001).collect::<Vec<_>>());
}

#[test]
fn the_limit_of_a_job_goes_before_that_of_the_node() {
    let (gate, _opens) = gate();
    let node = Node::start(small()).expect("a node");
    let operators = vec![read(1_000, 2, vec![]), map("stuck", 0, holds(&gate, 77, 1))];
    let topology = Topology { operators, task_progress_limit: Some(LIMIT), ..Topology::default() };
    let job = node.submit(topology).expect("it starts");
    assert_eq!(drain(job).join().expect("no panic").expect("it runs").len(), 1_000);
}

static CLOSE: Gate = Gate::new();

/// Passes rows on, and is held when it is closed.
#[derive(Serialize, Deserialize)]
struct HeldInClose;

#[mobula_actors::operator(crate = mobula_actors, name = "test/held_in_close@1")]
impl Operator for HeldInClose {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        out.emit(batch);
        Ok(())
    }

    fn close(&mut self) -> OperatorResult {
        CLOSE.wait();
        Ok(())
    }
}

#[test]
fn a_close_that_does_not_return_does_not_keep_a_job_whose_rows_are_all_done() {
    struct OpensClose;
    impl Drop for OpensClose {
        fn drop(&mut self) {
            CLOSE.open();
        }
    }
    let (world, _opens) = (World::new(), OpensClose);
    // None may be left behind for a row, and still the job ends well.
    let config = NodeConfig { left_behind_max: 0, ..impatient(LIMIT) };
    let node = Node::start_with(config, world.clone()).expect("a node");
    let job = start(&node, vec![read(1_000, 2, vec![]), narrow(map("held", 0, HeldInClose.into_operator()))]);
    let watch = job.watch();
    let driver = drain(job);
    CLOSE.wait_for(1);
    until(|| watch.why().to_string().starts_with("worker 0 of \"held\" has been closing its operator for "));
    // Longer than opening may take at least.
    world.forward(Duration::from_secs(15 * 60));
    assert_eq!(driver.join().expect("no panic").expect("it runs"), (0..1_000).collect::<Vec<_>>());
}

static DEVICE: Gate = Gate::new();
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Passes rows on by way of a device whose third call is held.
#[derive(Serialize, Deserialize)]
struct ByDevice;

fn batches_of_64() -> DeviceBatch {
    let rows = NonZeroUsize::new(64).expect("above zero");
    DeviceBatch { rows, step: NonZeroUsize::MIN, bytes_max: Bytes::mib(1), climbs: false }
}

impl OnDevice for ByDevice {
    fn batch(&self) -> DeviceBatch {
        batches_of_64()
    }

    fn half(&mut self) -> OperatorResult<MakeDeviceHalf> {
        Ok(Box::new(|| {
            Ok(Box::new(|rows: Prepared| {
                if CALLS.fetch_add(1, SeqCst) == 2 {
                    DEVICE.wait();
                }
                Ok(rows)
            }))
        }))
    }

    fn prepare(&mut self, batch: &RecordBatch) -> OperatorResult<Prepared> {
        Ok(Box::new(batch.num_rows()))
    }

    fn finish(&mut self, batch: RecordBatch, _: Computed) -> OperatorResult<RecordBatch> {
        Ok(batch)
    }
}

#[mobula_actors::operator(crate = mobula_actors, name = "test/by_device@1")]
impl Operator for ByDevice {
    fn on_device(&mut self) -> Option<&mut dyn OnDevice> {
        Some(self)
    }

    fn process(&mut self, _: RecordBatch, _: &mut Output) -> OperatorResult {
        Err("it has a device".into())
    }
}

#[test]
fn a_device_that_does_not_come_back_is_named_and_its_rows_are_tried_by_a_fresh_worker() {
    struct Opens;
    impl Drop for Opens {
        fn drop(&mut self) {
            DEVICE.open();
        }
    }
    let _opens = Opens;
    let node = Node::start(NodeConfig { gpus: Some(1), ..impatient(5 * LIMIT) }).expect("a node");
    let on_gpu = OperatorPlan {
        resources: Resources { gpus: 1.0, ..Resources::default() },
        workers: Workers { min: 1, max: 1 },
        ..map("device", 0, ByDevice.into_operator())
    };
    let job = start(&node, vec![read(5_000, 4, vec![]), on_gpu]);
    let watch = job.watch();
    let driver = drain(job);
    DEVICE.wait_for(1);
    assert!(watch.why().to_string().contains("worker 0 of \"device\" has had 64 rows on its device for "));
    assert_eq!(driver.join().expect("no panic").expect("it runs"), (0..5_000).collect::<Vec<_>>());
    assert!(watch.summary().operators[1].retries >= 1);
}

static DROP: Gate = Gate::new();
static MADE: AtomicUsize = AtomicUsize::new(0);

/// What a device holds. The first one fails, and is held when it is dropped.
struct OnIt {
    first: bool,
}

impl OnIt {
    fn run(&self, rows: Prepared) -> Result<Computed, DeviceError> {
        if self.first { Err(DeviceError::Lost("it fell off the bus".into())) } else { Ok(rows) }
    }
}

impl Drop for OnIt {
    fn drop(&mut self) {
        if self.first {
            DROP.wait();
        }
    }
}

/// Passes rows on by way of a device that is lost with the first of them, and does not let go.
#[derive(Serialize, Deserialize)]
struct LostDevice;

impl OnDevice for LostDevice {
    fn batch(&self) -> DeviceBatch {
        batches_of_64()
    }

    fn half(&mut self) -> OperatorResult<MakeDeviceHalf> {
        Ok(Box::new(|| {
            let on_it = OnIt { first: MADE.fetch_add(1, SeqCst) == 0 };
            Ok(Box::new(move |rows: Prepared| on_it.run(rows)))
        }))
    }

    fn prepare(&mut self, batch: &RecordBatch) -> OperatorResult<Prepared> {
        Ok(Box::new(batch.num_rows()))
    }

    fn finish(&mut self, batch: RecordBatch, _: Computed) -> OperatorResult<RecordBatch> {
        Ok(batch)
    }
}

#[mobula_actors::operator(crate = mobula_actors, name = "test/lost_device@1")]
impl Operator for LostDevice {
    fn on_device(&mut self) -> Option<&mut dyn OnDevice> {
        Some(self)
    }

    fn process(&mut self, _: RecordBatch, _: &mut Output) -> OperatorResult {
        Err("it has a device".into())
    }
}

#[test]
fn a_device_that_fails_and_does_not_let_go_keeps_no_task() {
    struct OpensDrop;
    impl Drop for OpensDrop {
        fn drop(&mut self) {
            DROP.open();
        }
    }
    let (world, _opens) = (World::new(), OpensDrop);
    let node = Node::start_with(NodeConfig { gpus: Some(1), ..impatient(LIMIT) }, world.clone()).expect("a node");
    let on_gpu = OperatorPlan {
        resources: Resources { gpus: 1.0, ..Resources::default() },
        workers: Workers { min: 1, max: 1 },
        ..map("device", 0, LostDevice.into_operator())
    };
    let job = start(&node, vec![read(5_000, 4, vec![]), on_gpu]);
    let (watch, driver) = (job.watch(), drain(job));
    DROP.wait_for(1);
    until(|| watch.why().to_string().contains("worker 0 of \"device\" has been closing its operator for "));
    world.forward(Duration::from_secs(15 * 60));
    assert_eq!(driver.join().expect("no panic").expect("it runs"), (0..5_000).collect::<Vec<_>>());
}
