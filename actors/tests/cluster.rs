//! Jobs on several nodes of one process, against a plain `Vec`; nodes that are lost while jobs run.

#[path = "cluster/leases.rs"]
mod leases;
mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::record_batch::RecordBatch;
use mobula_actors::cluster::{ClusterWatch, LocalCluster};
use mobula_actors::job::{ErrorBudget, FailurePolicy, JobError, Logic, OperatorPlan, Topology};
use mobula_actors::operator::{
    BatchSize, BoxError, IntoOperator, Operator, OperatorResult, OperatorSpec, Output, Scope, TaskContext, local,
};
use mobula_actors::units::{Bytes, Rows};
use support::{Gate, each, map, numbers, plan, read, small, values, wide};

fn cluster(nodes: usize) -> LocalCluster {
    LocalCluster::start(vec![small(); nodes]).expect("nodes")
}

/// Runs operators to the end; `on_block` is told how many rows have come.
fn run(
    cluster: &LocalCluster,
    operators: Vec<OperatorPlan>,
    mut on_block: impl FnMut(usize),
) -> Result<Vec<i64>, JobError> {
    let mut job = cluster.submit(Topology { operators, ..Topology::default() })?;
    let mut all = Vec::new();
    loop {
        let (next, back) = cluster.block_on(async move { (job.next().await, job) });
        job = back;
        let Some(block) = next? else { break };
        all.extend(block.batches().iter().flat_map(values));
        on_block(all.len());
    }
    drop(job);
    nothing_is_left(cluster);
    Ok(all)
}

/// References of a job that has ended may lie in a message that is still to be dropped, but not for long.
#[allow(clippy::disallowed_methods)]
fn nothing_is_left(cluster: &LocalCluster) {
    let start = std::time::Instant::now();
    while cluster.blocks() > 0 {
        assert!(start.elapsed().as_secs() < 30, "{} blocks were left behind", cluster.blocks());
        std::thread::yield_now();
    }
}

fn pipeline(rows: i64, splits: i64) -> Vec<OperatorPlan> {
    vec![
        wide(read(rows, splits, vec![each(|n| n + 1)]), 6),
        wide(map("double", 0, each(|n| n * 2)), 6),
        wide(map("less", 1, each(|n| n - 1)), 3),
    ]
}

fn expected(rows: i64) -> Vec<i64> {
    (0..rows).map(|n| (n + 1) * 2 - 1).collect()
}

#[test]
fn a_job_on_three_nodes_gives_what_a_loop_gives_in_order() {
    let cluster = cluster(3);
    for (rows, splits) in [(0, 1), (1, 1), (50_000, 7), (20_000, 40)] {
        let all = run(&cluster, pipeline(rows, splits), |_| {}).expect("it runs");
        assert_eq!(all, expected(rows), "{rows} rows in {splits} splits");
    }
}

#[test]
fn rows_at_fault_on_other_nodes_are_given_up_and_all_others_come_in_order() {
    let cluster = cluster(3);
    let picky = || {
        local(|batch: RecordBatch| match values(&batch).iter().find(|n| [17, 47_110].contains(*n)) {
            Some(17) => panic!("17 is unlucky"),
            Some(n) => Err(BoxError::from(format!("{n} is unlucky"))),
            None => Ok(batch),
        })
    };
    let failures = FailurePolicy { budget: ErrorBudget::Rows(2), ..FailurePolicy::default() };
    // In the chain of the read, and in a pool behind it.
    for (chain, behind) in [(vec![picky().into_operator()], false), (Vec::new(), true)] {
        let mut operators = vec![wide(read(50_000, 7, chain), 6)];
        let last = if behind { picky().into_operator() } else { each(|n| n) };
        operators.push(wide(map("last", 0, last), 6));
        let mut job = cluster.submit(Topology { operators, failures, ..Topology::default() }).expect("it starts");
        let mut all = Vec::new();
        loop {
            let (next, back) = cluster.block_on(async move { (job.next().await, job) });
            job = back;
            let Some(block) = next.expect("within the budget") else { break };
            all.extend(block.batches().iter().flat_map(values));
        }
        let others: Vec<i64> = (0..50_000).filter(|n| ![17, 47_110].contains(n)).collect();
        assert!(all == others, "{} rows, behind {behind}", all.len());
        let summary = job.watch().summary();
        assert_eq!((summary.given_up, summary.dead_letters.len()), (2, 2));
        assert!(behind || summary.dead_letters.iter().all(|letter| letter.row().is_some()), "{summary:?}");
        drop(job);
        nothing_is_left(&cluster);
    }
}

#[test]
fn exact_batches_a_limit_and_a_union_work_across_nodes() {
    let cluster = cluster(2);
    let batched = local(|batch: RecordBatch| {
        assert!(batch.num_rows() == 700 || batch.num_rows() == 10_000 % 700);
        Ok::<_, BoxError>(batch)
    });
    let batched = batched.into_operator().with_batch(BatchSize::Rows(NonZeroUsize::new(700).expect("above zero")));
    let all = run(&cluster, vec![wide(read(10_000, 3, vec![]), 4), wide(map("exact", 0, batched), 4)], |_| {});
    assert_eq!(all.expect("it runs"), (0..10_000).collect::<Vec<_>>());
    let first =
        vec![read(1_000_000, 50, vec![]), plan("limit", &[0], Logic::Limit(Rows(1234))), map("m", 1, each(|n| n))];
    assert_eq!(run(&cluster, first, |_| {}).expect("it runs"), (0..1234).collect::<Vec<_>>());
    let mut both = vec![read(5000, 3, vec![]), read(3000, 2, vec![each(|n| -n)]), plan("both", &[0, 1], Logic::Union)];
    both[1].name = "other".into();
    let all = run(&cluster, both, |_| {}).expect("it runs");
    assert_eq!(all, (0..5000).chain((0..3000).map(|n| -n)).collect::<Vec<_>>());
}

fn flaky(failures: usize, panics: bool) -> OperatorSpec {
    let left = Arc::new(AtomicUsize::new(failures));
    let function = move |batch: RecordBatch| {
        let bad = values(&batch).contains(&4321);
        if bad && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            assert!(!panics, "a panic for row 4321");
            return Err(BoxError::from("an error for row 4321"));
        }
        Ok(batch)
    };
    local(function).into_operator()
}

#[test]
fn errors_and_panics_elsewhere_are_tried_again_and_reach_the_driver_with_their_place() {
    let cluster = cluster(2);
    for panics in [false, true] {
        let all = run(&cluster, vec![read(10_000, 4, vec![]), map("flaky", 0, flaky(2, panics))], |_| {});
        assert_eq!(all.expect("it runs"), (0..10_000).collect::<Vec<_>>());
    }
    let error = run(&cluster, vec![read(10_000, 4, vec![]), map("flaky", 0, flaky(usize::MAX, false))], |_| {});
    let text = error.expect_err("it fails").to_string();
    assert!(text.contains("operator \"flaky\"") && text.contains("an error for row 4321"), "{text}");
}

#[test]
fn a_node_that_is_lost_takes_no_row_with_it_and_none_comes_twice() {
    for lose_at in [1, 500, 7_000, 20_000] {
        let cluster = cluster(3);
        let mut lost = false;
        let all = run(&cluster, pipeline(40_000, 11), |rows| {
            if rows >= lose_at && !std::mem::replace(&mut lost, true) {
                cluster.lose(1);
            }
        });
        assert_eq!(all.expect("it runs"), expected(40_000), "lost at row {lose_at}");
    }
}

#[test]
fn blocks_that_wait_for_one_large_task_are_made_again_when_their_node_is_lost() {
    let cluster = cluster(2);
    let mut whole = wide(map("whole", 0, each(|n| n)), 2);
    whole.logic = Logic::Map { chain: vec![each(|n| n * 2)], task_bytes: Some(Bytes::mib(64)) };
    let (done, over) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let cluster = &cluster;
        scope.spawn(move || {
            // As soon as enough blocks wait; a job that is faster than this loses nothing.
            while cluster.blocks() < 20 && over.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                std::thread::yield_now();
            }
            cluster.lose(0);
        });
        let all = run(cluster, vec![wide(read(100_000, 8, vec![]), 4), whole], |_| {});
        drop(done);
        assert_eq!(all.expect("it runs"), (0..100_000).map(|n| n * 2).collect::<Vec<_>>());
    });
}

/// A sink that names its task, as a number below zero, before the rows of it.
struct Part {
    task: u64,
    rows: Vec<i64>,
    finished: Arc<AtomicUsize>,
}

impl Operator for Part {
    fn begin(&mut self, task: &TaskContext) -> OperatorResult {
        (self.task, self.rows) = (task.task, Vec::new());
        Ok(())
    }

    fn process(&mut self, batch: RecordBatch, _: &mut Output) -> OperatorResult {
        self.rows.extend(values(&batch));
        Ok(())
    }

    fn finish(&mut self, out: &mut Output) -> OperatorResult {
        out.emit(numbers(std::iter::once(-1 - self.task as i64).chain(std::mem::take(&mut self.rows))));
        self.finished.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn parts_that_were_finished_before_a_loss_stay_and_those_after_it_have_other_numbers() {
    let cluster = cluster(2);
    let finished = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&finished);
    let sink = OperatorSpec::local("part", move || {
        Ok(Box::new(Part { task: 0, rows: Vec::new(), finished: Arc::clone(&counted) }))
    });
    let sink = sink.with_scope(Scope::Task);
    let write = plan("write", &[0], Logic::Map { chain: vec![sink], task_bytes: Some(Bytes::kib(64)) });
    let topology =
        Topology { operators: vec![wide(read(400_000, 20, vec![]), 4), wide(write, 2)], ..Topology::default() };
    let mut job = cluster.submit(topology).expect("it starts");
    let watch = job.watch();
    let parts = std::thread::scope(|scope| {
        let (cluster, finished) = (&cluster, &finished);
        scope.spawn(move || {
            while finished.load(Ordering::Relaxed) < 12 {
                std::thread::yield_now();
            }
            cluster.lose(0);
        });
        let mut parts = Vec::new();
        loop {
            let (next, back) = cluster.block_on(async move { (job.next().await, job) });
            job = back;
            let Some(block) = next.expect("it runs") else { break };
            parts.extend(block.batches().iter().flat_map(values));
        }
        parts
    });
    // Rows that were read for nothing do not count.
    assert_eq!(watch.summary().operators[0].rows_in, Rows(400_000));
    let (tasks, rows): (Vec<i64>, Vec<i64>) = parts.iter().partition(|value| **value < 0);
    assert!(tasks.is_sorted_by(|a, b| a > b), "a number stands for one part: {tasks:?}");
    assert!(tasks.iter().any(|task| *task < -(1 << 40)), "the job was run again: {tasks:?}");
    assert!(rows == (0..400_000).collect::<Vec<_>>(), "{} rows", rows.len());
    // 50 parts; a job that began again from its first row would have made more than these.
    assert!(finished.load(Ordering::Relaxed) < 50 + 30, "{}", finished.load(Ordering::Relaxed));
}

#[test]
fn several_jobs_at_once_each_give_what_they_give_alone() {
    let cluster = cluster(2);
    std::thread::scope(|scope| {
        let cluster = &cluster;
        let jobs: Vec<_> =
            (1..6).map(|job| scope.spawn(move || (job, run(cluster, pipeline(job * 5_000, 7), |_| {})))).collect();
        for job in jobs {
            let (job, all) = job.join().expect("no panic");
            assert_eq!(all.expect("it runs"), expected(job * 5_000));
        }
    });
    // The last references may still be on their way out.
    while cluster.blocks() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn two_nodes_of_three_may_be_lost_one_after_another() {
    let cluster = cluster(3);
    let mut losses = [(3_000, 0), (12_000, 2)].into_iter().peekable();
    let all = run(&cluster, pipeline(40_000, 11), |rows| {
        if let Some((_, node)) = losses.next_if(|(at, _)| rows >= *at) {
            cluster.lose(node);
        }
    });
    assert_eq!(all.expect("it runs"), expected(40_000));
}

#[test]
fn a_job_that_is_cancelled_while_it_begins_again_ends() {
    for after in 0..20 {
        let cluster = cluster(2);
        let topology = Topology { operators: pipeline(400_000, 11), ..Topology::default() };
        let mut job = cluster.submit(topology).expect("it starts");
        let watch = job.watch();
        cluster.lose(after % 2);
        let (cancelled, ended) = std::thread::scope(|scope| {
            let canceller = scope.spawn(|| {
                // As far into the restart as chance has it.
                (0..after * 20).for_each(|_| std::thread::yield_now());
                watch.cancel();
            });
            let ended = cluster.block_on(async move {
                loop {
                    match job.next().await {
                        Ok(Some(_)) => {}
                        Ok(None) => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
            });
            (canceller.join(), ended)
        });
        cancelled.expect("no panic");
        assert!(matches!(ended, Err(JobError::Cancelled)), "{after}: {ended:?}");
    }
}

/// Waits for what comes of the next result while the nodes of these numbers answer no fetch, and `then` is done.
fn next_of_silent(cluster: &LocalCluster, nodes: &[usize], then: impl FnOnce()) -> Result<usize, JobError> {
    let topology = Topology { operators: pipeline(40_000, 11), ..Topology::default() };
    let mut job = cluster.submit(topology).expect("it starts");
    let watch = job.watch();
    nodes.iter().for_each(|node| cluster.silence(*node, true));
    std::thread::scope(|scope| {
        let all = scope.spawn(|| {
            cluster.block_on(async move {
                let mut rows = 0;
                while let Some(block) = job.next().await? {
                    rows += block.rows().0 as usize;
                }
                Ok(rows)
            })
        });
        until_it_waits_for_a_fetch(&watch);
        then();
        if nodes.len() > 1 {
            watch.cancel();
        }
        all.join().expect("no panic")
    })
}

/// Until nothing comes any more: results are there, and none is taken.
#[allow(clippy::disallowed_methods)]
fn until_it_waits_for_a_fetch(watch: &ClusterWatch) {
    let (mut seen, mut still) = (watch.summary().operators, std::time::Instant::now());
    while still.elapsed().as_millis() < 300 {
        std::thread::yield_now();
        let now = watch.summary().operators;
        if now.iter().map(|operator| operator.rows_out).ne(seen.iter().map(|operator| operator.rows_out)) {
            (seen, still) = (now, std::time::Instant::now());
        }
    }
}

#[test]
fn a_result_that_does_not_come_holds_up_neither_the_end_of_its_job_nor_word_that_its_node_is_dead() {
    let ended = next_of_silent(&cluster(2), &[0, 1], || {});
    assert!(matches!(ended, Err(JobError::Cancelled)), "{ended:?}");
    let two = cluster(2);
    assert_eq!(next_of_silent(&two, &[0], || two.lose(0)).ok(), Some(40_000));
}

#[test]
fn rows_behind_a_limit_come_once_although_the_job_begins_again() {
    let cluster = cluster(2);
    let operators = vec![
        wide(read(100_000, 20, vec![]), 4),
        plan("limit", &[0], Logic::Limit(Rows(30_000))),
        map("m", 1, each(|n| n)),
    ];
    let mut lost = false;
    let all = run(&cluster, operators, |rows| {
        if rows >= 5_000 && !std::mem::replace(&mut lost, true) {
            cluster.lose(0);
        }
    });
    assert_eq!(all.expect("it runs"), (0..30_000).collect::<Vec<_>>());
}

#[test]
fn a_job_whose_last_node_is_lost_says_so() {
    let cluster = cluster(1);
    let error = run(&cluster, pipeline(400_000, 40), |_| cluster.lose(0)).expect_err("nobody is left");
    assert!(matches!(error, JobError::NodeLost { .. }), "{error}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a job that is held up while its nodes are cut off")]
fn what_is_out_on_a_node_that_hears_nothing_any_more_is_done_again() {
    let (cluster, gate) = (cluster(2), Arc::new(Gate::new()));
    let held = {
        let gate = Arc::clone(&gate);
        each(move |n| {
            if n % 2_500 == 0 {
                gate.wait();
            }
            n
        })
    };
    let all = std::thread::scope(|scope| {
        scope.spawn(|| {
            gate.wait_for(4);
            cluster.cut(0);
            gate.open();
        });
        run(&cluster, vec![wide(read(20_000, 8, vec![held]), 4)], |_| {})
    });
    assert_eq!(all.expect("it runs"), (0..20_000).collect::<Vec<_>>());
}

#[test]
fn rows_larger_than_all_room_pass_one_at_a_time_between_nodes() {
    let cluster = cluster(2);
    let inflate = local(|batch: RecordBatch| {
        let rows: Vec<i64> = values(&batch).iter().flat_map(|n| std::iter::repeat_n(*n, 2000)).collect();
        Ok::<_, BoxError>(numbers(rows))
    });
    let operators = vec![
        wide(read(2_000, 5, vec![]), 4),
        wide(map("inflate", 0, inflate.into_operator()), 4),
        map("m", 1, each(|n| n)),
    ];
    let all = run(&cluster, operators, |_| {}).expect("it runs");
    assert_eq!(all.len(), 4_000_000);
    assert!(all.is_sorted());
}
