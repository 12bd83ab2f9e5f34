//! Tasks in one process: graphs, nesting, streams, cancelling, attempts, and that everything is freed.
#![allow(clippy::disallowed_methods, reason = "tests wait for what happens with a deadline in real time")]

#[path = "support/tasks.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::operator::BoxError;
use mobula_actors::remote;
use mobula_actors::task::{self, Batch, ObjectRef, TaskError};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use support::{assert_empty, node};

#[remote(crate = mobula_actors, name = "test/add")]
fn add(a: u64, b: u64) -> Result<u64, BoxError> {
    Ok(a.wrapping_add(b))
}

#[remote(crate = mobula_actors, name = "test/fails")]
fn fails(text: &str) -> Result<u64, BoxError> {
    Err(text.into())
}

#[remote(crate = mobula_actors, name = "test/panics")]
fn panics() -> Result<u64, BoxError> {
    panic!("on attempt {}", task::attempt())
}

#[test]
fn values_and_results_come_back_by_reference() {
    let (_node, tasks) = node(2);
    let three = tasks.put(3u64).expect("put");
    let sum = tasks.submit(add::task(&three, 4)).expect("submitted");
    let more = tasks.submit(add::task(&sum, sum.clone())).expect("submitted");
    assert_eq!((*tasks.get(&sum).expect("7"), *tasks.get(&more).expect("14")), (7, 14));
    drop((three, sum, more));
    assert_empty(&tasks);
}

#[test]
fn errors_and_panics_name_the_task_and_reach_those_that_need_its_result() {
    let (_node, tasks) = node(2);
    let failed = tasks.submit(fails::task("no such row".to_owned()).attempts(2)).expect("submitted");
    let needs = tasks.submit(add::task(&failed, 1)).expect("submitted");
    let needs_more = tasks.submit(add::task(1, &needs)).expect("submitted");
    let error = tasks.get(&failed).expect_err("it fails").to_string();
    assert_eq!(error, "task test/fails failed in attempt 2 of 2: no such row");
    let error = tasks.get(&needs_more).expect_err("it has no argument").to_string();
    let expected = format!(
        "task test/add did not run, because its argument {} is missing: task test/fails failed in attempt 2 of 2: no such row",
        failed.id()
    );
    assert_eq!(error, expected);
    let panicked = tasks.submit(panics::task()).expect("submitted");
    let error = tasks.get(&panicked).expect_err("it panics").to_string();
    assert_eq!(error, "task test/panics failed in attempt 4 of 4: it panicked: on attempt 4");
    drop((failed, needs, needs_more, panicked));
    assert_empty(&tasks);
}

#[remote(crate = mobula_actors, name = "test/nested")]
fn nested(depth: u64) -> Result<u64, BoxError> {
    if depth == 0 {
        return Ok(0);
    }
    let tasks = task::tasks()?;
    let below = tasks.submit(nested::task(depth - 1))?;
    Ok(1 + *tasks.get(&below)?)
}

#[test]
fn tasks_wait_for_tasks_a_hundred_deep_on_two_cores() {
    let (_node, tasks) = node(2);
    let runs: Vec<_> = (0..3).map(|_| tasks.submit(nested::task(100)).expect("submitted")).collect();
    for run in &runs {
        assert_eq!(*tasks.get(run).expect("it ends"), 100);
    }
    drop(runs);
    assert_empty(&tasks);
}

#[test]
fn waiting_deeper_than_there_may_be_workers_is_an_error_and_no_hang() {
    let (_node, tasks) = node(2);
    let deep = tasks.submit(nested::task(task::TASK_WORKERS_MAX as u64 + 10).attempts(1)).expect("submitted");
    let error = tasks.get(&deep).expect_err("too deep").to_string();
    assert!(error.contains("1000 tasks wait for other tasks in this process"), "{error}");
}

/// Adds its arguments; the worker dies of some attempts.
#[remote(crate = mobula_actors, name = "test/mortal_sum")]
fn mortal_sum(own: u64, a: u64, b: u64, seed: u64) -> Result<u64, BoxError> {
    let dies = SmallRng::seed_from_u64(seed ^ own << 8 ^ u64::from(task::attempt())).random_range(0..50) == 0;
    if dies && task::attempt() < 4 {
        task::crash_worker();
    }
    Ok(own.wrapping_mul(31).wrapping_add(a).rotate_left(7) ^ b)
}

#[test]
fn a_graph_of_10_000_tasks_gives_what_a_loop_gives_while_workers_die() {
    let seed = rand::random();
    println!("seed {seed}");
    let config = NodeConfig { cpus: Some(2), restarts: 10_000, ..NodeConfig::default() };
    let node = Node::start(config).expect("a node");
    let tasks = node.tasks().expect("tasks");
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut expected, mut results): (Vec<u64>, Vec<ObjectRef<u64>>) = (Vec::new(), Vec::new());
    for own in 0..10_000u64 {
        let mut pick = |expected: &[u64], results: &[ObjectRef<u64>]| match expected.len() {
            0 => (1, tasks.put(1).expect("put")),
            n => {
                let i = rng.random_range(n.saturating_sub(200)..n);
                (expected[i], results[i].clone())
            }
        };
        let ((a, ra), (b, rb)) = (pick(&expected, &results), pick(&expected, &results));
        expected.push(own.wrapping_mul(31).wrapping_add(a).rotate_left(7) ^ b);
        results.push(tasks.submit(mortal_sum::task(own, ra, rb, seed)).expect("submitted"));
    }
    let values: Vec<u64> = tasks.get_all(&results).expect("all end").into_iter().map(|value| *value).collect();
    assert_eq!(values, expected);
    drop(results);
    assert_empty(&tasks);
}

#[remote(crate = mobula_actors, name = "test/inner")]
fn inner(references: Vec<ObjectRef<u64>>) -> Result<(u64, ObjectRef<u64>), BoxError> {
    let tasks = task::tasks()?;
    let sum = tasks.get_all(&references)?.iter().map(|value| **value).sum();
    Ok((sum, tasks.submit(add::task(sum, 1))?))
}

#[test]
fn references_travel_inside_arguments_and_results() {
    let (_node, tasks) = node(2);
    let ones = (0..10).map(|n| tasks.put(n).expect("put")).collect::<Vec<ObjectRef<u64>>>();
    let both = tasks.submit(inner::task(ones)).expect("submitted");
    let (sum, next) = &*tasks.get(&both).expect("it ends");
    assert_eq!((*sum, *tasks.get(next).expect("it ends")), (45, 46));
    drop(both);
}

static RAN: AtomicUsize = AtomicUsize::new(0);

#[remote(crate = mobula_actors, name = "test/until_cancelled")]
fn until_cancelled() -> Result<u64, BoxError> {
    RAN.fetch_add(1, Ordering::SeqCst);
    while !task::is_cancelled() {
        std::thread::yield_now();
    }
    Ok(1)
}

#[test]
fn a_cancelled_task_stops_or_never_runs_and_says_so() {
    let (_node, tasks) = node(1);
    let running = tasks.submit(until_cancelled::task()).expect("submitted");
    while RAN.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let queued = tasks.submit(until_cancelled::task()).expect("submitted");
    let needs = tasks.submit(add::task(&queued, 1)).expect("submitted");
    tasks.cancel(&queued);
    tasks.cancel(&running);
    for reference in [&running, &queued] {
        let error = tasks.get(reference).expect_err("cancelled");
        assert_eq!(error, TaskError::Cancelled { task: "test/until_cancelled".into() });
    }
    assert!(matches!(tasks.get(&needs), Err(TaskError::Argument { .. })));
    assert_eq!(RAN.load(Ordering::SeqCst), 1);
}

#[test]
fn waiting_gives_those_that_are_ready_and_keeps_to_its_time() {
    let (_node, tasks) = node(2);
    let stuck = tasks.submit(until_cancelled::task()).expect("submitted");
    let done: Vec<_> = (0..5).map(|n| tasks.submit(add::task(n, 0)).expect("submitted")).collect();
    let all = done.iter().cloned().chain([stuck.clone()]).collect::<Vec<_>>();
    let (ready, pending) = tasks.wait(all.clone(), 5, None).expect("waited");
    assert_eq!((ready.len(), pending.len(), pending[0].id()), (5, 1, stuck.id()));
    let (ready, pending) = tasks.wait(all, 6, Some(Duration::from_millis(20))).expect("waited");
    assert_eq!((ready.len(), pending.len()), (5, 1));
    let late = tasks.get_within(&stuck, Duration::from_millis(5)).expect_err("late").to_string();
    assert_eq!(late, format!("{} was not ready within 5ms", stuck.id()));
    tasks.cancel(&stuck);
}

#[remote(crate = mobula_actors, name = "test/device")]
fn device(hold: u64) -> Result<(Vec<u32>, u64), BoxError> {
    Ok((task::gpus(), hold))
}

#[test]
fn devices_are_leased_and_what_can_never_be_is_refused_with_what_is_missing() {
    let extras = BTreeMap::from([("license".to_owned(), 1.0)]);
    let config = NodeConfig { cpus: Some(2), gpus: Some(2), extras, ..NodeConfig::default() };
    let node = Node::start(config).expect("a node");
    let tasks = node.tasks().expect("tasks");
    let each: Vec<_> =
        (0..20).map(|n| tasks.submit(device::task(n).gpus(1.0).extra("license", 0.5)).expect("submitted")).collect();
    for (n, reference) in (0..).zip(&each) {
        let (gpus, hold) = &*tasks.get(reference).expect("it runs");
        assert_eq!((gpus.len(), *hold), (1, n));
    }
    let refused = tasks.submit(device::task(1).gpus(3.0)).expect_err("two devices").to_string();
    assert_eq!(refused, "task test/device can never run: it asks for 3 gpus, this node has 2");
    let refused = tasks.submit(device::task(1).cpus(3.0)).expect_err("two cores").to_string();
    assert_eq!(refused, "task test/device can never run: it asks for 3 cpus, this node has 2");
    assert!(tasks.submit(device::task(1).cpus(f64::NAN)).is_err());
}

#[remote(crate = mobula_actors, name = "test/double")]
fn double(
    batch: arrow::record_batch::RecordBatch,
) -> Result<arrow::record_batch::RecordBatch, arrow::error::ArrowError> {
    arrow::record_batch::RecordBatch::try_new(batch.schema(), batch.columns().to_vec())
}

#[test]
fn a_function_from_batch_to_batch_is_an_operator_and_a_task() {
    let (_node, tasks) = node(2);
    let column: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(vec![1, 2]));
    let batch = Batch(arrow::record_batch::RecordBatch::try_from_iter([("n", column)]).expect("a column"));
    let stored = tasks.put(batch.clone()).expect("put");
    let result: ObjectRef<Batch> = tasks.submit(double::task(&stored)).expect("submitted");
    assert_eq!(*tasks.get(&result).expect("it ends"), batch);
    let _operator = double::map();
}

#[test]
fn when_the_session_ends_whoever_waits_is_told() {
    let (node, tasks) = node(1);
    let stuck = tasks.submit(until_cancelled::task()).expect("submitted");
    let waits = std::thread::spawn({
        let (tasks, stuck) = (tasks.clone(), stuck.clone());
        move || tasks.get(&stuck).map(|value| *value)
    });
    drop(node);
    let error = waits.join().expect("no panic").expect_err("over").to_string();
    assert_eq!(error, "the session is over: it was dropped");
    assert!(matches!(tasks.put(1u64), Err(TaskError::Ended(_))));
}

#[test]
fn whoever_waits_for_a_cancelled_task_is_told_before_its_turn_comes() {
    let (_node, tasks) = node(1);
    let go_on = tasks.submit(until_cancelled::task()).expect("submitted");
    let queued: Vec<_> = (0..50_000).map(|n| tasks.submit(add::task(n, 1)).expect("submitted")).collect();
    for reference in &queued {
        tasks.cancel(reference);
    }
    for reference in &queued {
        assert!(matches!(tasks.get(reference), Err(TaskError::Cancelled { .. })));
    }
    tasks.cancel(&go_on);
    drop((go_on, queued));
    assert_empty(&tasks);
}

#[test]
fn a_task_that_waits_for_a_device_is_counted_and_can_be_cancelled() {
    let node = Node::start(NodeConfig { cpus: Some(2), gpus: Some(1), ..NodeConfig::default() }).expect("a node");
    let tasks = node.tasks().expect("tasks");
    let has_it = tasks.submit(until_cancelled::task().gpus(1.0)).expect("submitted");
    while tasks.counts().running == 0 {
        std::thread::yield_now();
    }
    let waits = tasks.submit(device::task(1).gpus(1.0)).expect("submitted");
    let next = tasks.submit(device::task(2).gpus(1.0)).expect("submitted");
    assert_eq!((tasks.counts().queued, tasks.counts().running), (2, 1));
    tasks.cancel(&waits);
    assert!(matches!(tasks.get(&waits), Err(TaskError::Cancelled { .. })));
    tasks.cancel(&has_it);
    assert_eq!(tasks.get(&next).expect("it runs").1, 2);
    drop((has_it, waits, next));
    assert_empty(&tasks);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Link(Option<ObjectRef<Link>>);

#[test]
fn a_long_chain_of_values_inside_each_other_is_freed() {
    let (_node, tasks) = node(1);
    let mut first = tasks.put(Link(None)).expect("put");
    for _ in 0..200_000 {
        first = tasks.put(Link(Some(first))).expect("put");
    }
    drop(first);
    assert_empty(&tasks);
}

#[test]
fn what_holds_references_is_refused_after_the_end_and_dropped() {
    let (node, tasks) = node(1);
    let (one, two) = (tasks.put(1u64).expect("put"), tasks.put(2u64).expect("put"));
    drop(node);
    assert!(matches!(tasks.put(vec![one]), Err(TaskError::Ended(_))));
    assert!(matches!(tasks.submit(inner::task(vec![two])), Err(TaskError::Ended(_))));
}

#[test]
fn waiting_again_and_again_leaves_nothing_behind() {
    let (_node, tasks) = node(2);
    let (done, stuck) = (tasks.put(1u64).expect("put"), tasks.submit(until_cancelled::task()).expect("submitted"));
    for _ in 0..1000 {
        let (ready, pending) = tasks.wait(vec![stuck.clone(), done.clone(), done.clone()], 2, None).expect("waited");
        assert_eq!((ready.len(), pending.len()), (2, 1));
        let (ready, _) = tasks.wait(vec![stuck.clone(), stuck.clone()], 0, None).expect("waited");
        assert!(ready.is_empty());
        let none: Vec<ObjectRef<u64>> = Vec::new();
        assert_eq!(tasks.wait(none, 3, None).expect("waited").0.len(), 0);
    }
    tasks.cancel(&stuck);
    let (ready, _) = tasks.wait(vec![stuck.clone(), stuck.clone()], 2, None).expect("waited");
    assert_eq!(ready.len(), 2);
}

#[remote(crate = mobula_actors, name = "test/waits_for")]
fn waits_for(never: ObjectRef<u64>) -> Result<bool, BoxError> {
    let late = task::tasks()?.get_within(&never, Duration::from_millis(20));
    Ok(matches!(late, Err(TaskError::Late { .. })))
}

#[remote(crate = mobula_actors, name = "test/gives_back")]
fn gives_back(it: ObjectRef<u64>) -> Result<ObjectRef<u64>, BoxError> {
    Ok(it)
}

#[remote(crate = mobula_actors, name = "test/gives_nested")]
fn gives_nested(depth: u64) -> Result<Vec<ObjectRef<u64>>, BoxError> {
    let tasks = task::tasks()?;
    if depth == 0 {
        return Ok(vec![tasks.submit(add::task(40, 2))?]);
    }
    Ok(tasks.get(&tasks.submit(gives_nested::task(depth - 1))?)?.to_vec())
}

#[test]
fn tasks_wait_no_longer_than_they_say_and_hand_on_what_they_were_given() {
    let (_node, tasks) = node(1);
    let never = tasks.submit(until_cancelled::task().cpus(0.0)).expect("submitted");
    let waits = tasks.submit(waits_for::task(never.clone())).expect("submitted");
    assert!(*tasks.get(&waits).expect("it ends"));
    let same = tasks.submit(gives_back::task(never.clone())).expect("submitted");
    let same_value = tasks.get(&same).expect("it ends");
    assert_eq!(same_value.id(), never.id());
    let deep = tasks.submit(gives_nested::task(5)).expect("submitted");
    let deep_value = tasks.get(&deep).expect("it ends");
    drop(deep);
    assert_eq!(*tasks.get(&deep_value[0]).expect("42"), 42);
    tasks.cancel(&never);
    drop((never, waits, same, same_value, deep_value));
    assert_empty(&tasks);
}

#[remote(crate = mobula_actors, name = "test/returns_when_cancelled")]
fn returns_when_cancelled() -> Result<ObjectRef<u64>, BoxError> {
    let own = task::tasks()?.put(1u64)?;
    while !task::is_cancelled() {
        std::thread::yield_now();
    }
    Ok(own)
}

#[test]
fn references_in_the_result_of_a_cancelled_task_are_dropped() {
    let (_node, tasks) = node(1);
    let cancelled = tasks.submit(returns_when_cancelled::task()).expect("submitted");
    while tasks.counts().running == 0 {
        std::thread::yield_now();
    }
    tasks.cancel(&cancelled);
    assert!(matches!(tasks.get(&cancelled), Err(TaskError::Cancelled { .. })));
    drop(cancelled);
    assert_empty(&tasks);
}

#[remote(crate = mobula_actors, name = "test/waits_for_it")]
fn waits_for_it() -> Result<u64, BoxError> {
    let tasks = task::tasks()?;
    Ok(*tasks.get(&tasks.submit(until_cancelled::task())?)?)
}

#[test]
fn a_task_that_is_cancelled_while_it_waits_gives_its_worker_back_and_its_own_tasks_up() {
    let (_node, tasks) = node(1);
    let parents: Vec<_> = (0..3).map(|_| tasks.submit(waits_for_it::task()).expect("submitted")).collect();
    // All wait for tasks that only end when nobody wants them.
    let (_, pending) = tasks.wait(parents.clone(), 1, Some(Duration::from_millis(50))).expect("waited");
    assert_eq!(pending.len(), 3);
    for parent in &parents {
        tasks.cancel(parent);
        assert!(matches!(tasks.get(parent), Err(TaskError::Cancelled { .. })));
    }
    let other = tasks.submit(add::task(1, 1)).expect("submitted");
    assert_eq!(*tasks.get_within(&other, Duration::from_secs(30)).expect("the core is free"), 2);
}

/// Submits tasks that need each other, waits to be cancelled and lets them go.
#[remote(crate = mobula_actors, name = "test/leaves_a_chain")]
fn leaves_a_chain(tasks_long: u64) -> Result<u64, BoxError> {
    let tasks = task::tasks()?;
    let mut last = tasks.submit(until_cancelled::task().cpus(0.0))?;
    for n in 0..tasks_long {
        last = tasks.submit(add::task(&last, n))?;
    }
    while !task::is_cancelled() {
        std::thread::yield_now();
    }
    drop(last);
    Ok(1)
}

#[test]
fn a_long_chain_of_tasks_goes_with_the_task_that_submitted_it() {
    let (_node, tasks) = node(2);
    let parent = tasks.submit(leaves_a_chain::task(50_000)).expect("submitted");
    while tasks.counts().waiting < 50_000 {
        std::thread::yield_now();
    }
    tasks.cancel(&parent);
    drop(parent);
    assert_empty(&tasks);
}

#[test]
fn threads_that_read_one_large_value_share_it() {
    let (_node, tasks) = node(2);
    let large = tasks.put(vec![7u64; 1 << 20]).expect("put");
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (tasks, large) = (tasks.clone(), large.clone());
            std::thread::spawn(move || tasks.get(&large).expect("it is here"))
        })
        .collect();
    let read: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("no panic")).collect();
    assert!(read.iter().all(|value| std::sync::Arc::ptr_eq(value, &read[0]) && value.len() == 1 << 20));
    drop((large, read));
    assert_empty(&tasks);
}
