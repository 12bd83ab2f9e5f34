//! Spilling on a cluster: one task takes long, and the results behind it go to the disks of the nodes that made them and
//! come back in order, whichever node needs them.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use mobula_actors::cluster::LocalCluster;
use mobula_actors::job::{JobError, OperatorPlan, Topology};
use mobula_actors::node::{NodeConfig, SpillStats};
use mobula_actors::operator::{IntoOperator, Operator, OperatorResult, Output};
use mobula_actors::units::Bytes;
use serde::{Deserialize, Serialize};
use support::cluster::TestCluster;
use support::disk::{damage_all, is_empty, spilled_files, wait_until};
use support::*;

const ROWS: i64 = 600_000;

/// A node of little memory that spills to this folder without waiting long.
fn config(dir: &Path) -> NodeConfig {
    NodeConfig {
        memory_budget: Some(Bytes::mib(2)),
        spill_dir: Some(dir.to_owned()),
        spill_after: Duration::ZERO,
        ..small()
    }
}

/// Reads rows whose first task waits at the gate.
fn read_with_a_slow_first_task(gate: &Arc<Gate>) -> OperatorPlan {
    let gate = Arc::clone(gate);
    let wait = move |n| {
        if n == 0 {
            gate.wait();
        }
        n
    };
    wide(read(ROWS, 40, vec![each(wait)]), 4)
}

/// Runs a job on the cluster; `meanwhile` runs beside it.
fn run(
    cluster: &LocalCluster,
    operators: Vec<OperatorPlan>,
    meanwhile: impl FnOnce() + Send,
) -> Result<Vec<i64>, JobError> {
    let mut job = cluster.submit(Topology { operators, ..Topology::default() })?;
    std::thread::scope(|scope| {
        scope.spawn(meanwhile);
        let mut all = Vec::new();
        loop {
            let (next, back) = cluster.block_on(async move { (job.next().await, job) });
            job = back;
            let Some(block) = next? else { return Ok(all) };
            all.extend(block.batches().iter().flat_map(values));
        }
    })
}

fn spilled(cluster: &LocalCluster, index: usize) -> SpillStats {
    cluster.node(index).expect("it is there").spilled()
}

/// Puts pipes that nobody writes to in the place of files: who reads them waits without end, as on a disk that hangs.
#[cfg(unix)]
fn hang(files: &[std::path::PathBuf]) {
    for file in files {
        // Its block may be wanted no more.
        if std::fs::remove_file(file).is_ok() {
            let made = std::process::Command::new("mkfifo").arg(file).status();
            assert!(made.is_ok_and(|made| made.success()), "a pipe is made");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_job_goes_on_without_results_that_do_not_come_back_from_the_disk_of_their_node() {
    let dir = tempfile::tempdir().expect("a folder");
    let limit = NodeConfig { task_progress_limit: Duration::from_secs(4), ..config(dir.path()) };
    let cluster = LocalCluster::start(vec![limit; 2]).expect("nodes");
    let gate = Arc::new(Gate::new());
    let all = run(&cluster, vec![read_with_a_slow_first_task(&gate)], || {
        gate.wait_for(1);
        wait_until("both nodes have spilled", || (0..2).all(|node| spilled(&cluster, node).spilled.0 >= 10));
        hang(&spilled_files(dir.path()));
        gate.open();
    });
    assert_eq!(all.expect("it goes on"), (0..ROWS).collect::<Vec<_>>());
}

#[test]
fn results_behind_a_slow_task_go_to_the_disks_of_their_nodes_and_come_back_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = LocalCluster::start(vec![config(dir.path()); 2]).expect("nodes");
    let gate = Arc::new(Gate::new());
    let operators = vec![read_with_a_slow_first_task(&gate), wide(map("negate", 0, each(|n| -n)), 4)];
    let all = run(&cluster, operators, || {
        gate.wait_for(1);
        wait_until("both nodes have spilled", || (0..2).all(|node| spilled(&cluster, node).spilled.0 >= 10));
        assert!(!spilled_files(dir.path()).is_empty());
        gate.open();
    });
    assert_eq!(all.expect("it runs"), (0..ROWS).map(|n| -n).collect::<Vec<_>>());
    for node in 0..2 {
        let stats = spilled(&cluster, node);
        assert!(stats.restored.0 > 0 && stats.restored.0 <= stats.spilled.0 && stats.refused == 0, "{stats:?}");
    }
    wait_until("nothing is left of the job", || cluster.blocks() == 0 && spilled_files(dir.path()).is_empty());
    drop(cluster);
    wait_until("the directories are gone with their nodes", || is_empty(dir.path()));
}

#[test]
fn a_node_that_spills_nothing_leaves_it_to_the_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let without = NodeConfig { spill_max: Some(Bytes(0)), ..config(dir.path()) };
    let cluster = LocalCluster::start(vec![without, config(dir.path())]).expect("nodes");
    let gate = Arc::new(Gate::new());
    let all = run(&cluster, vec![read_with_a_slow_first_task(&gate)], || {
        gate.wait_for(1);
        wait_until("the other node has spilled", || spilled(&cluster, 1).spilled.0 >= 10);
        gate.open();
    });
    assert_eq!(all.expect("it runs"), (0..ROWS).collect::<Vec<_>>());
    assert_eq!(spilled(&cluster, 0).spilled.0, 0);
}

#[test]
fn a_job_whose_tasks_are_even_spills_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let even = NodeConfig { spill_after: Duration::from_secs(60), ..config(dir.path()) };
    let cluster = LocalCluster::start(vec![even; 2]).expect("nodes");
    let all = run(&cluster, vec![wide(read(ROWS, 40, vec![]), 4), map("same", 0, each(|n| n))], || {});
    assert_eq!(all.expect("it runs"), (0..ROWS).collect::<Vec<_>>());
    assert!(is_empty(dir.path()), "nothing is made before it is needed");
}

#[test]
fn a_block_that_was_damaged_on_the_disk_of_its_node_fails_the_job_naming_its_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = LocalCluster::start(vec![config(dir.path())]).expect("nodes");
    let gate = Arc::new(Gate::new());
    let mut damaged = Vec::new();
    let all = run(&cluster, vec![read_with_a_slow_first_task(&gate), wide(map("same", 0, each(|n| n)), 4)], || {
        gate.wait_for(1);
        wait_until("blocks are spilled", || spilled(&cluster, 0).spilled.0 >= 20);
        damaged = damage_all(dir.path());
        gate.open();
    });
    let error = all.expect_err("it is damaged").to_string();
    let named = damaged.iter().any(|path| error.contains(&path.display().to_string()));
    assert!(named && error.contains("checksum"), "{error}");
}

#[test]
fn the_end_of_a_node_or_a_job_leaves_nothing_on_its_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = LocalCluster::start(vec![config(dir.path()); 2]).expect("nodes");
    let gate = Arc::new(Gate::new());
    let all = run(&cluster, vec![read_with_a_slow_first_task(&gate)], || {
        gate.wait_for(1);
        wait_until("both nodes have spilled", || (0..2).all(|node| spilled(&cluster, node).spilled.0 >= 10));
        cluster.lose(1);
        gate.open();
    });
    // The job has begun again on the node that is left.
    assert_eq!(all.expect("it runs"), (0..ROWS).collect::<Vec<_>>());
    wait_until("nothing is left of the job", || cluster.blocks() == 0 && spilled(&cluster, 0).on_disk == Bytes(0));
    drop(cluster);
    wait_until("the directories are gone with their nodes", || is_empty(dir.path()));
}

/// Waits at the gate of this program with row 0.
#[derive(Serialize, Deserialize)]
struct WaitAtGate;

static GATE: Gate = Gate::new();

#[mobula_actors::operator(crate = mobula_actors, name = "test/wait_at_gate@1")]
impl Operator for WaitAtGate {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        if values(&batch).contains(&0) {
            GATE.wait();
        }
        out.emit(batch);
        Ok(())
    }
}

#[test]
fn over_a_wire_the_head_says_what_is_needed_last_and_its_nodes_spill_it() {
    let dir = tempfile::tempdir().expect("a folder");
    // Each block costs messages.
    let larger = NodeConfig { block_bytes: Some(Bytes::kib(16)), batch_bytes: Bytes::kib(4), ..config(dir.path()) };
    let cluster = TestCluster::start(false, larger);
    let _nodes = [cluster.node("n1"), cluster.node("n2")];
    let driver = cluster.driver("driver");
    let operators = vec![wide(read(ROWS, 40, vec![WaitAtGate.into_operator()]), 4), add("one", 0, 1)];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            GATE.wait_for(1);
            wait_until("blocks are spilled", || spilled_files(dir.path()).len() >= 20);
            GATE.open();
        });
        let all = support::cluster::run(&driver, operators, |_| {}).expect("it runs");
        assert_eq!(all, (1..=ROWS).collect::<Vec<_>>());
    });
    wait_until("their files are gone", || spilled_files(dir.path()).is_empty());
}
