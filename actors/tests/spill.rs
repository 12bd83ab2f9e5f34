//! Spilling as a job sees it: one task takes long, and the results behind it go to disk and come back in order.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mobula_actors::job::{JobError, OperatorPlan};
use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::units::Bytes;
use support::disk::{damage_all, is_empty, spilled_files, wait_until};
use support::world::World;
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
    read(ROWS, 40, vec![each(wait)])
}

/// Runs the job on a thread of its own.
fn start(node: &Node, operators: Vec<OperatorPlan>) -> JoinHandle<Result<Vec<i64>, JobError>> {
    let node = node.clone();
    // A driver that waits for a test needs a thread; it ends with its job.
    #[allow(clippy::disallowed_methods)]
    std::thread::spawn(move || run_on(&node, operators).map(|(all, _)| all))
}

#[test]
fn results_behind_a_slow_task_go_to_disk_and_come_back_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(config(dir.path())).expect("a node");
    let gate = Arc::new(Gate::new());
    let job = start(&node, vec![read_with_a_slow_first_task(&gate), map("negate", 0, each(|n| -n))]);
    gate.wait_for(1);
    wait_until("blocks are spilled", || node.spilled().spilled.0 >= 20);
    assert!(!spilled_files(dir.path()).is_empty());
    gate.open();
    let all = job.join().expect("no panic").expect("it runs");
    assert_eq!(all, (0..ROWS).map(|n| -n).collect::<Vec<_>>());
    let stats = node.spilled();
    // A block that is wanted while it is being written was written in vain.
    assert!(stats.restored.0 > 0 && stats.restored.0 <= stats.spilled.0 && stats.refused == 0, "{stats:?}");
    assert!(stats.on_disk_peak > Bytes(0));
    wait_until("their files are gone", || node.spilled().on_disk == Bytes(0) && spilled_files(dir.path()).is_empty());
    drop(node);
    wait_until("the directory is gone with the node", || is_empty(dir.path()));
}

#[test]
fn a_job_whose_results_fit_or_only_wait_for_a_slow_step_spills_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(NodeConfig { spill_after: Duration::from_secs(1), ..config(dir.path()) }).expect("a node");
    let gate = Arc::new(Gate::new());
    // The second step waits, so everything before it is held back, and nothing by order.
    let job = start(&node, vec![read(ROWS, 40, vec![]), read_slowly(0, &gate)]);
    gate.wait_for(1);
    gate.open();
    assert_eq!(job.join().expect("no panic").expect("it runs"), (0..ROWS).collect::<Vec<_>>());
    assert_eq!(node.spilled().spilled.0, 0);
    assert!(is_empty(dir.path()), "nothing is made before it is needed");
}

fn read_slowly(input: usize, gate: &Arc<Gate>) -> OperatorPlan {
    let gate = Arc::clone(gate);
    map(
        "wait",
        input,
        each(move |n| {
            if n == 0 {
                gate.wait();
            }
            n
        }),
    )
}

#[test]
fn uneven_tasks_give_what_a_loop_gives_with_results_on_disk_or_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(config(dir.path())).expect("a node");
    // Some thousands of rows in a row take long, others nothing, so that any task may be the one that is waited for.
    let uneven = |n: i64| {
        let slow = (n / 7000).wrapping_mul(0x9e37_79b9) % 5 == 0;
        let spun = (0..if slow { 2000 } else { 0 }).fold(n, |sum: i64, m| std::hint::black_box(sum.wrapping_add(m)));
        n + (spun - spun)
    };
    for (splits, workers) in [(40, 2), (11, 4), (90, 8)] {
        let (first, second) = (
            wide(read(ROWS / 4, splits, vec![each(uneven)]), workers),
            wide(map("one more", 0, each(|n| n + 1)), workers),
        );
        let (all, _) = run_on(&node, vec![first, second]).expect("it runs");
        assert_eq!(all, (1..=ROWS / 4).collect::<Vec<_>>());
    }
    let stats = node.spilled();
    assert!(stats.restored.0 <= stats.spilled.0, "{stats:?}");
    wait_until("their files are gone", || spilled_files(dir.path()).is_empty());
}

#[test]
fn without_spilling_workers_wait_and_the_result_is_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(NodeConfig { spill_max: Some(Bytes(0)), ..config(dir.path()) }).expect("a node");
    let gate = Arc::new(Gate::new());
    let job = start(&node, vec![read_with_a_slow_first_task(&gate)]);
    gate.wait_for(1);
    gate.open();
    assert_eq!(job.join().expect("no panic").expect("it runs"), (0..ROWS).collect::<Vec<_>>());
    assert!(node.spilled().spilled.0 == 0 && is_empty(dir.path()));
}

#[test]
fn a_block_that_was_damaged_on_disk_fails_the_job_naming_its_file() {
    let dir = tempfile::tempdir().expect("a folder");
    for consumers in [0, 1] {
        let node = Node::start(config(dir.path())).expect("a node");
        let gate = Arc::new(Gate::new());
        let mut operators = vec![read_with_a_slow_first_task(&gate)];
        operators.extend((0..consumers).map(|input| map("same", input, each(|n| n))));
        let job = start(&node, operators);
        gate.wait_for(1);
        wait_until("blocks are spilled", || node.spilled().spilled.0 >= 20);
        let damaged = damage_all(dir.path());
        gate.open();
        let error = job.join().expect("no panic").expect_err("it is damaged").to_string();
        let named = damaged.iter().any(|path| error.contains(&path.display().to_string()));
        assert!(named && error.contains("checksum"), "{error}");
    }
}

#[test]
fn what_a_node_left_that_was_killed_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let left = dir.path().join("mobula-spill-0123456789abcdef");
    std::fs::create_dir(&left).expect("made");
    std::fs::write(left.join("in-use"), "").expect("written");
    std::fs::write(left.join("1.block"), "rows").expect("written");
    let node = Node::start(config(dir.path())).expect("a node");
    assert!(is_empty(dir.path()));
    drop(node);
}

#[test]
fn a_disk_that_hangs_keeps_nobody_who_gets_room_elsewhere() {
    let (dir, world) = (tempfile::tempdir().expect("a folder"), World::new());
    let (gate, hangs) = (Arc::new(Gate::new()), Arc::new(Gate::new()));
    let _opens = [Opens(Arc::clone(&gate)), Opens(Arc::clone(&hangs))];
    *world.disk.writes.lock().expect("not poisoned") = Some(Arc::clone(&hangs));
    let node = Node::start_with(config(dir.path()), world).expect("a node");
    let read = wide(read_with_a_slow_first_task(&gate), 4);
    let job = start(&node, vec![read, map("negate", 0, each(|n| -n))]);
    gate.wait_for(1);
    // Each of the other workers waits for room, and has had a block written.
    hangs.wait_for(3);
    gate.open();
    let all = job.join().expect("no panic").expect("it runs");
    assert_eq!(all, (0..ROWS).map(|n| -n).collect::<Vec<_>>());
    assert_eq!(node.spilled().spilled.0, 0, "the disk still hangs");
}

/// Why a job fails whose spilled results are to be read back, by these operators or its driver, from a disk that hangs.
fn failure_of_reads_that_hang(operators: Vec<OperatorPlan>) -> String {
    let (dir, world) = (tempfile::tempdir().expect("a folder"), World::new());
    let (gate, hangs) = (Arc::new(Gate::new()), Arc::new(Gate::new()));
    let _opens = [Opens(Arc::clone(&gate)), Opens(Arc::clone(&hangs))];
    let limit = NodeConfig { attempts: 2, task_progress_limit: Duration::from_secs(16), ..config(dir.path()) };
    let node = Node::start_with(limit, world.clone()).expect("a node");
    let read = vec![read_with_a_slow_first_task(&gate)];
    let job = start(&node, read.into_iter().chain(operators).collect());
    gate.wait_for(1);
    wait_until("blocks are spilled", || node.spilled().spilled.0 >= 20);
    *world.disk.reads.lock().expect("not poisoned") = Some(Arc::clone(&hangs));
    gate.open();
    hangs.wait_for(1);
    world.rush(20);
    job.join().expect("no panic").expect_err("the disk hangs").to_string()
}

#[test]
fn rows_that_do_not_come_back_from_a_disk_that_hangs_fail_the_job_by_name() {
    let error = failure_of_reads_that_hang(vec![map("negate", 0, each(|n| -n))]);
    assert!(
        error.starts_with("operator \"negate\", task ") && error.contains("attempt 2 of 2: no progress for "),
        "{error}"
    );
    assert!(error.contains("(reading back from disk: task "), "{error}");
}

#[test]
fn results_that_a_driver_does_not_get_back_from_a_disk_that_hangs_fail_the_job_by_name() {
    let error = failure_of_reads_that_hang(Vec::new());
    assert!(
        error.starts_with("a block of the results cannot be had: it was not read back from disk within ")
            && error.contains("spill_dir"),
        "{error}"
    );
}

/// A file system of 1 MiB, as long as this lives.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path()).output();
        mount.is_ok_and(|mount| mount.status.success()).then_some(Self { dir })
    }

    fn resize(&self, size: &str) {
        let option = format!("remount,size={size}");
        let remount = Command::new("mount").args(["-o", &option]).arg(self.dir.path()).status();
        assert!(remount.is_ok_and(|remount| remount.success()), "it can be resized");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is left is seen by whoever looks at the machine's mounts.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

#[test]
fn a_full_disk_stops_nothing_and_is_used_again_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: this process may not mount a small file system");
        return;
    };
    let filler = disk.dir.path().join("others");
    let node = Node::start(config(disk.dir.path())).expect("a node");
    let gate = Arc::new(Gate::new());
    let job = start(&node, vec![read_with_a_slow_first_task(&gate)]);
    gate.wait_for(1);
    wait_until("a block is spilled", || node.spilled().spilled.0 >= 1);
    // Others take all there is; it ends with the error that it does.
    let _ = std::fs::write(&filler, vec![0; 2 << 20]);
    wait_until("the disk refuses a block", || node.spilled().refused >= 2);
    let spilled = node.spilled().spilled.0;
    std::fs::remove_file(&filler).expect("removed");
    disk.resize("64m");
    wait_until("there is room again", || node.spilled().spilled.0 > spilled);
    gate.open();
    assert_eq!(job.join().expect("no panic").expect("it runs"), (0..ROWS).collect::<Vec<_>>());
}
