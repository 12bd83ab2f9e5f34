//! The engine as a whole: topologies made by hand, run on a node, against what a plain loop gives.

mod support;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::record_batch::RecordBatch;
use mobula_actors::job::{JobError, Logic, Resources, Topology, Workers};
use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::operator::{
    BatchSize, BoxError, IntoOperator, OpenContext, Operator, OperatorResult, OperatorSpec, Output, ReadBatch, Scope,
    Source, SourceSpec, Split, SplitReader, local,
};
use mobula_actors::units::{Bytes, Rows};
use support::*;

#[test]
fn a_chain_of_pools_gives_what_a_loop_gives_in_order() {
    let operators = vec![
        read(100_000, 7, vec![each(|n| n + 1)]),
        map("double", 0, each(|n| n * 2)),
        map("square", 1, each(|n| n * n)),
    ];
    let (all, summary) = run(small(), operators).expect("it runs");
    assert_eq!(all, (0..100_000).map(|n: i64| ((n + 1) * 2).pow(2)).collect::<Vec<_>>());
    let rows: Vec<_> = summary.operators.iter().map(|o| (o.rows_in.0, o.rows_out.0)).collect();
    assert_eq!(rows, [(100_000, 100_000); 3]);
    assert!(summary.bound_by().is_some());
}

#[test]
fn nothing_to_read_is_an_empty_result() {
    assert_eq!(run(small(), vec![read(0, 1, vec![])]).expect("it runs").0, [0i64; 0]);
    let mut none = read(0, 1, vec![]);
    none.logic = match none.logic {
        Logic::Read { source, chain, .. } => Logic::Read { source, splits: Vec::new(), chain },
        other => other,
    };
    assert_eq!(run(small(), vec![none, map("double", 0, each(|n| n * 2))]).expect("it runs").0, [0i64; 0]);
}

#[test]
fn a_limit_stops_what_is_upstream() {
    let operators = vec![
        read(10_000_000, 100, vec![]),
        map("double", 0, each(|n| n * 2)),
        plan("limit", &[1], Logic::Limit(Rows(1000))),
    ];
    let (all, summary) = run(small(), operators).expect("it runs");
    assert_eq!(all, (0..1000).map(|n| n * 2).collect::<Vec<_>>());
    assert!(summary.operators[0].rows_in.0 < 1_000_000, "it read {} rows", summary.operators[0].rows_in.0);
    let none = run(small(), vec![read(1000, 2, vec![]), plan("limit", &[0], Logic::Limit(Rows(0)))]);
    assert_eq!(none.expect("it runs").0, [0i64; 0]);
}

#[test]
fn a_union_keeps_the_order_of_its_inputs() {
    let mut second = read(5_000, 3, vec![each(|n| -n)]);
    second.name = "read more".into();
    let operators = vec![read(50_000, 5, vec![]), second, plan("union", &[0, 1], Logic::Union)];
    let (all, _) = run(small(), operators).expect("it runs");
    assert_eq!(all, (0..50_000).chain((0..5_000).map(|n| -n)).collect::<Vec<_>>());
}

#[test]
fn unordered_gives_the_same_rows() {
    let mut operators = vec![read(50_000, 9, vec![]), map("double", 0, each(|n| n * 2))];
    operators.iter_mut().for_each(|plan| plan.ordered = false);
    let (mut all, _) = run(small(), operators).expect("it runs");
    all.sort_unstable();
    assert_eq!(all, (0..50_000).map(|n| n * 2).collect::<Vec<_>>());
}

#[test]
fn a_batch_size_is_exact_across_block_borders() {
    let sizes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let spec = local(move |batch: arrow::record_batch::RecordBatch| {
        seen.lock().expect("no panic").push(batch.num_rows());
        Ok::<_, BoxError>(batch)
    });
    let spec = spec.into_operator().with_batch(BatchSize::Rows(NonZeroUsize::new(700).expect("above zero")));
    let (all, _) = run(small(), vec![read(10_000, 3, vec![]), map("model", 0, spec)]).expect("it runs");
    assert_eq!(all, (0..10_000).collect::<Vec<_>>());
    let mut sizes = sizes.lock().expect("no panic").clone();
    sizes.sort_unstable();
    assert_eq!((sizes.len(), sizes[0]), (15, 10_000 % 700));
    assert!(sizes[1..].iter().all(|size| *size == 700));
}

#[test]
fn a_read_cuts_its_batches_for_a_step_that_says_how_many_rows_it_takes() {
    for rows in [1, 7, 700, 20_000] {
        let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let seen = Arc::clone(&most);
        let spec = local(move |batch: arrow::record_batch::RecordBatch| {
            seen.fetch_max(batch.num_rows(), std::sync::atomic::Ordering::Relaxed);
            Ok::<_, BoxError>(batch)
        });
        let spec = spec.into_operator().with_batch(BatchSize::Rows(NonZeroUsize::new(rows).expect("above zero")));
        let chain = vec![each(|n| n + 1), spec, flaky_at(4321, 1, false)];
        let (all, _) = run(small(), vec![read(10_000, 3, chain)]).expect("it runs");
        assert_eq!(all, (1..=10_000).collect::<Vec<_>>());
        let most = most.load(std::sync::atomic::Ordering::Relaxed);
        assert!(most <= rows && most >= rows.min(64), "{most} of {rows}");
    }
}

#[test]
fn a_batch_larger_than_the_port_still_comes_together() {
    let whole = local(|batch: arrow::record_batch::RecordBatch| Ok::<_, BoxError>(numbers([batch.num_rows() as i64])));
    let spec = whole.into_operator().with_batch(BatchSize::Rows(NonZeroUsize::new(90_000).expect("above zero")));
    let (all, _) = run(small(), vec![read(100_000, 3, vec![]), map("whole", 0, spec)]).expect("it runs");
    assert_eq!(all, [90_000, 10_000]);
}

/// Fails the first `failures` calls that see the number `bad`.
struct Flaky {
    bad: i64,
    failures: Arc<AtomicU32>,
    panics: bool,
}

impl Operator for Flaky {
    fn process(&mut self, batch: arrow::record_batch::RecordBatch, out: &mut Output) -> OperatorResult {
        let hit = values(&batch).contains(&self.bad);
        if hit && self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            assert!(!self.panics, "bad number {}", self.bad);
            return Err(format!("bad number {}", self.bad).into());
        }
        out.emit(batch);
        Ok(())
    }
}

fn flaky(failures: u32, panics: bool) -> OperatorSpec {
    flaky_at(5_000, failures, panics)
}

fn flaky_at(bad: i64, failures: u32, panics: bool) -> OperatorSpec {
    let left = Arc::new(AtomicU32::new(failures));
    OperatorSpec::local("flaky", move || Ok(Box::new(Flaky { bad, failures: Arc::clone(&left), panics })))
}

#[test]
fn an_error_or_a_panic_is_tried_again_and_no_row_is_lost_or_doubled() {
    for panics in [false, true] {
        for fused in [false, true] {
            let operators = match fused {
                true => vec![read(20_000, 2, vec![flaky(3, panics)])],
                false => vec![read(20_000, 2, vec![]), map("flaky", 0, flaky(3, panics))],
            };
            let (all, summary) = run(small(), operators).expect("three failures, four attempts");
            assert_eq!(all, (0..20_000).collect::<Vec<_>>());
            assert_eq!(summary.operators.iter().map(|o| o.retries).sum::<u64>(), 3);
        }
    }
}

#[test]
fn a_task_that_keeps_failing_fails_the_job_with_its_place_and_cause() {
    for panics in [false, true] {
        let operators =
            vec![read(20_000, 2, vec![]), map("flaky", 0, flaky(u32::MAX, panics)), map("id", 1, each(|n| n))];
        let error = run(small(), operators).expect_err("it always fails");
        let JobError::Task { operator, attempt, attempts, cause, .. } = &error else { panic!("{error}") };
        assert_eq!((&**operator, *attempt, *attempts), ("flaky", 4, 4));
        assert!(cause.to_string().contains("bad number 5000"), "{error}");
    }
}

struct NoModel;

impl Operator for NoModel {
    fn open(&mut self, _: &OpenContext) -> OperatorResult {
        Err("model not found".into())
    }
    fn process(&mut self, _: arrow::record_batch::RecordBatch, _: &mut Output) -> OperatorResult {
        Ok(())
    }
}

#[test]
fn an_operator_that_cannot_open_uses_up_its_restarts_and_fails_the_job() {
    let spec = OperatorSpec::local("no model", || Ok(Box::new(NoModel)));
    let config = NodeConfig { restarts: 2, ..small() };
    let error = run(config, vec![read(100, 1, vec![]), map("predict", 0, spec)]).expect_err("no model");
    let JobError::Worker { operator, restarts, cause, .. } = &error else { panic!("{error}") };
    assert_eq!((&**operator, *restarts, cause.to_string().as_str()), ("predict", 2, "no model: model not found"));
}

#[test]
fn what_the_node_can_never_give_fails_at_once_and_says_why() {
    let mut gpu = map("predict", 0, each(|n| n));
    gpu.resources = Resources { gpus: 1.0, ..Resources::cpu(1.0) };
    let config = NodeConfig { gpus: Some(0), ..small() };
    let error = run(config, vec![read(100, 1, vec![]), gpu]).expect_err("no gpu");
    assert_eq!(error.to_string(), "operator \"predict\" cannot run here: it asks for 1 gpus, this node has 0");
}

#[test]
fn each_worker_gets_a_gpu_of_its_own() {
    struct Gpu(Vec<u32>);
    impl Operator for Gpu {
        fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
            self.0.clone_from(&ctx.gpus);
            Ok(())
        }
        fn process(&mut self, _: arrow::record_batch::RecordBatch, out: &mut Output) -> OperatorResult {
            out.emit(numbers(self.0.iter().map(|ordinal| i64::from(*ordinal))));
            Ok(())
        }
    }
    let mut gpu = map("predict", 0, OperatorSpec::local("gpu", || Ok(Box::new(Gpu(Vec::new())))));
    gpu.resources = Resources { gpus: 1.0, ..Resources::cpu(0.0) };
    gpu.workers = Workers { min: 2, max: 2 };
    let config = NodeConfig { gpus: Some(2), ..small() };
    let (mut all, summary) = run(config, vec![read(200_000, 4, vec![]), gpu]).expect("it runs");
    assert_eq!(summary.operators[1].workers_peak, 2);
    all.sort_unstable();
    all.dedup();
    assert!(all.iter().all(|ordinal| [0, 1].contains(ordinal)));
}

#[test]
fn a_cancelled_job_ends_and_leaves_nothing() {
    let node = Node::start(small()).expect("a node");
    let topology = mobula_actors::job::Topology {
        operators: vec![read(i64::MAX / 2, 4, vec![]), map("id", 0, each(|n| n))],
        ..Default::default()
    };
    let mut job = node.submit(topology).expect("it starts");
    assert!(job.next_block().expect("it runs").is_some());
    job.watch().cancel();
    let ended = loop {
        match job.next_block() {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(ended, Err(JobError::Cancelled)));
    drop(job);
    let (all, _) = run_on(&node, vec![read(1000, 2, vec![])]).expect("the node goes on");
    assert_eq!(all.len(), 1000);
}

#[test]
fn a_slow_driver_stops_the_source() {
    let node = Node::start(small()).expect("a node");
    let topology = mobula_actors::job::Topology {
        operators: vec![read(100_000_000, 4, vec![]), map("id", 0, each(|n| n))],
        ..Default::default()
    };
    let mut job = node.submit(topology).expect("it starts");
    for _ in 0..10 {
        job.next_block().expect("it runs");
    }
    // Whatever the source did meanwhile is bounded by the room of the edges, not by how long we looked away.
    let room = node.memory_budget().0 / 8;
    assert!(job.summary().operators[0].rows_in.0 < 10 * 512 + room);
}

#[test]
fn a_row_larger_than_the_whole_budget_passes_alone() {
    use arrow::array::{ArrayRef, AsArray, BinaryArray};
    let huge = local(|batch: arrow::record_batch::RecordBatch| {
        let rows = values(&batch);
        let column: ArrayRef = Arc::new(BinaryArray::from_iter_values(rows.iter().map(|_| vec![7u8; 3 << 20])));
        arrow::record_batch::RecordBatch::try_from_iter([("bytes", column)])
    });
    let back = local(|batch: arrow::record_batch::RecordBatch| {
        let lengths = batch.column(0).as_binary::<i32>().iter().map(|row| row.map_or(0, |row| row.len() as i64));
        Ok::<_, BoxError>(numbers(lengths.collect::<Vec<_>>()))
    });
    let config = NodeConfig { memory_budget: Some(mobula_actors::units::Bytes::mib(2)), ..small() };
    let operators =
        vec![read(40, 4, vec![]), map("inflate", 0, huge.into_operator()), map("back", 1, back.into_operator())];
    let (all, _) = run(config, operators).expect("it runs");
    assert_eq!(all, vec![3 << 20; 40]);
}

/// Reads `0..rows` but drops every number that is not a multiple of 7, inside its batches and at its end.
struct Sevens;

struct SevensReader {
    next: i64,
    end: i64,
}

impl Source for Sevens {
    fn open(
        &self,
        split: &Split,
        rows: Range<Rows>,
        _: ReadBatch,
        _: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        let end = split.rows.unwrap_or_default().min(rows.end).0 as i64;
        Ok(Box::new(SevensReader { next: rows.start.0 as i64, end }))
    }
}

impl SplitReader for SevensReader {
    fn next_bytes(&self) -> Bytes {
        Bytes(512)
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let to = (self.next + 450).min(self.end);
        let batch = numbers((self.next..to).filter(|n| n % 7 == 0));
        self.next = to;
        Ok(Some(batch))
    }

    fn rows_read(&self) -> Rows {
        Rows(self.next as u64)
    }
}

#[test]
fn a_source_that_is_not_there_is_an_error_that_names_the_operator() {
    let mut reading = read(10, 1, vec![]);
    let source = SourceSpec::named("nowhere@1", Vec::new());
    reading.logic = Logic::Read { source, splits: Vec::new(), chain: Vec::new() };
    let error = run(small(), vec![reading]).expect_err("refused");
    assert!(matches!(&error, JobError::Source { operator, .. } if &**operator == "read"), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("operator \"read\" cannot read: no source \"nowhere@1\" in this binary"), "{text}");
}

#[test]
fn rows_that_a_reader_drops_do_not_shift_where_a_failed_task_goes_on() {
    let source = SourceSpec::local("sevens", Arc::new(Sevens));
    let split = Split {
        label: "sevens".to_owned(),
        rows: Some(Rows(20_000)),
        bytes: Bytes(0),
        payload: Vec::new(),
        file: None,
    };
    // Slices shorter than a batch of the reader: 5,208 is in the middle of one.
    let chain = vec![flaky_at(5_208, 3, false)];
    let mut reading = read(0, 1, vec![]);
    reading.logic = Logic::Read { source, splits: vec![split], chain };
    let config = NodeConfig { batch_bytes: Bytes(64), ..small() };
    let (all, summary) = run(config, vec![reading]).expect("it comes through");
    assert_eq!(all, (0..20_000).filter(|n| n % 7 == 0).collect::<Vec<_>>());
    assert_eq!(summary.operators[0].retries, 3);
}

#[test]
fn operators_whose_leases_never_fit_together_are_refused_at_once() {
    let gpu = |name: &str, input| {
        let mut plan = map(name, input, each(|n| n));
        plan.resources = Resources { gpus: 1.0, ..Resources::cpu(1.0) };
        plan
    };
    let operators = || vec![read(1000, 1, vec![]), gpu("first", 0), gpu("second", 1)];
    let error = run(NodeConfig { gpus: Some(1), ..small() }, operators()).expect_err("one gpu for two");
    assert!(error.to_string().contains("with all operators of the job at once, it asks for 2 gpus"), "{error}");
    assert_eq!(run(NodeConfig { gpus: Some(2), ..small() }, operators()).expect("two for two").0.len(), 1000);
}

#[test]
fn jobs_that_need_two_devices_each_do_not_wait_for_each_other_with_one_each() {
    let gpu = |name: &str, input| {
        let mut plan = wide(map(name, input, each(|n| n)), 2);
        plan.resources = Resources { gpus: 1.0, ..Resources::cpu(1.0) };
        plan
    };
    let node = Node::start(NodeConfig { gpus: Some(3), ..small() }).expect("a node");
    let jobs: Vec<_> = (1..30)
        .map(|job| {
            let (node, (done, ended)) = (node.clone(), std::sync::mpsc::channel());
            let operators = vec![wide(read(job * 100, 3, vec![]), 2), gpu("first", 0), gpu("second", 1)];
            #[allow(clippy::disallowed_methods, reason = "one that waits for ever is left behind")]
            std::thread::spawn(move || done.send(run_on(&node, operators).map(|(all, _)| all.len())));
            (job, ended)
        })
        .collect();
    for (job, ended) in jobs {
        let rows = ended.recv_timeout(std::time::Duration::from_secs(60)).expect("it ends");
        assert_eq!(rows.expect("it runs"), job as usize * 100);
    }
}

#[test]
fn tasks_behind_one_that_takes_long_go_to_workers_that_are_idle_though_tasks_are_short() {
    let (gate, rows_seen) = (Arc::new(Gate::new()), Arc::new(AtomicU32::new(0)));
    let (held, (saw, seen), count) = (Arc::clone(&gate), std::sync::mpsc::channel(), Arc::clone(&rows_seen));
    // It passes nothing on: tasks are as short as they can be.
    let quick = local(move |batch: RecordBatch| {
        let rows = values(&batch);
        if rows.contains(&50_000) {
            held.wait();
        }
        count.fetch_add(rows.len() as u32, Ordering::Relaxed);
        // Whoever counts may have given up.
        let _ = saw.send(rows.contains(&99_999));
        Ok::<_, BoxError>(batch.slice(0, 0))
    });
    // The last rows come when all before them are done, but for those that are held or not a block yet.
    #[allow(clippy::disallowed_methods, reason = "it leaves the cores to what it waits for")]
    let late = local(move |batch: RecordBatch| {
        let mut waits = values(&batch).contains(&99_900);
        while waits {
            waits = rows_seen.load(Ordering::Relaxed) < 99_600;
            // And until the workers are idle.
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        Ok::<_, BoxError>(batch)
    });
    let node = Node::start(NodeConfig { batch_bytes: Bytes(512), block_bytes: Some(Bytes(512)), ..small() });
    let reading = wide(read(100_000, 1, vec![late.into_operator()]), 1);
    let mut quick = wide(map("quick", 0, quick.into_operator()), 4);
    quick.ordered = false;
    let operators = vec![reading, quick];
    let job = node.expect("a node").submit(Topology { operators, ..Topology::default() }).expect("it starts");
    while !seen.recv_timeout(std::time::Duration::from_secs(60)).expect("the others go on") {}
    gate.open();
    drop(job);
}

#[test]
fn absurd_numbers_of_workers_and_rows_are_brought_within_reason() {
    let rows = NonZeroUsize::new(usize::MAX).expect("above zero");
    let mut whole = map("whole", 0, each(|n| n).with_batch(BatchSize::Rows(rows)));
    whole.workers = Workers { min: 0, max: usize::MAX };
    assert_eq!(run(small(), vec![read(5_000, 3, vec![]), whole]).expect("it runs").0.len(), 5_000);
}

#[test]
fn a_step_that_speaks_only_at_the_end_of_its_task_needs_no_room_before() {
    struct AtTheEnd(Vec<RecordBatch>);
    impl Operator for AtTheEnd {
        fn process(&mut self, batch: RecordBatch, _: &mut Output) -> OperatorResult {
            self.0.push(batch);
            Ok(())
        }
        fn finish(&mut self, out: &mut Output) -> OperatorResult {
            self.0.drain(..).for_each(|batch| out.emit(batch));
            Ok(())
        }
    }
    let spec = OperatorSpec::local("at the end", || Ok(Box::new(AtTheEnd(Vec::new())))).with_scope(Scope::Task);
    let mut hoard = map("hoard", 0, spec);
    hoard.logic = match hoard.logic {
        Logic::Map { chain, .. } => Logic::Map { chain, task_bytes: Some(Bytes::kib(256)) },
        other => other,
    };
    let (all, _) = run(small(), vec![read(200_000, 3, vec![]), hoard]).expect("it runs");
    assert_eq!(all, (0..200_000).collect::<Vec<_>>());
}

#[test]
fn batches_of_wide_rows_keep_to_the_budget_where_their_number_is_only_a_wish() {
    let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let spec = local(move |batch: RecordBatch| {
        seen.fetch_max(batch.num_rows(), Ordering::Relaxed);
        Ok::<_, BoxError>(batch)
    });
    // By their number alone a batch would take 2 MB.
    let rows = NonZeroUsize::new(250_000).expect("above zero");
    let model = map("model", 0, spec.into_operator().with_batch(BatchSize::UpTo(rows)));
    let config = NodeConfig { memory_budget: Some(Bytes::mib(1)), ..small() };
    let (all, summary) = run(config, vec![read(500_000, 3, vec![]), model]).expect("it runs");
    assert_eq!(all, (0..500_000).collect::<Vec<_>>());
    let (peak, most) = (summary.blocks_bytes_peak, most.load(Ordering::Relaxed));
    assert!(peak <= Bytes::mib(1), "blocks took {peak}");
    assert!((256..=1024).contains(&most), "a block has 512 rows, a batch {most}");
}

#[test]
fn an_exact_batch_that_the_memory_cannot_hold_ends_the_job_with_a_reason() {
    let exact = |rows: usize| {
        let rows = BatchSize::Rows(NonZeroUsize::new(rows).expect("above zero"));
        let config = NodeConfig { memory_budget: Some(Bytes::mib(1)), ..small() };
        run(config, vec![read(500_000, 3, vec![]), map("model", 0, each(|n| n).with_batch(rows))])
    };
    // Of 1 MiB a quarter is for what is not counted; as blocks and as a batch it would take 4 MB.
    let error = exact(250_000).expect_err("too large").to_string();
    let says = ["\"model\" cannot run here", "rows of a batch of 250000", "384.0 KiB is the most", "smaller batches"];
    assert!(says.iter().all(|said| error.contains(said)), "{error}");
    let (all, _) = exact(30_000).expect("it fits");
    assert_eq!(all, (0..500_000).collect::<Vec<_>>());
}
