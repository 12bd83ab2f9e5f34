//! Tasks on a cluster of nodes in one process, over QUIC on loopback: by reference, through losses of nodes, freed at the end.
#![allow(clippy::disallowed_methods, reason = "tests wait for what happens with a deadline in real time")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes as Data;
use mobula_actors::cluster::HeadServer;
use mobula_actors::node::NodeConfig;
use mobula_actors::operator::BoxError;
use mobula_actors::remote;
use mobula_actors::task::{self, ObjectId, ObjectRef, Results, TaskCounts, TaskError, Tasks};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use support::cluster::{TestCluster, until};
use support::small;

fn node() -> NodeConfig {
    NodeConfig { cpus: Some(2), object_bytes_max: mobula_actors::units::Bytes::mib(64), ..small() }
}

/// Nothing is held by the driver or known to the head, once all that was let go is gone.
#[track_caller]
fn assert_empty(tasks: &Tasks, head: &HeadServer) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let (driver, known) = (tasks.counts(), head.task_counts());
        if driver == TaskCounts::default() && known == TaskCounts::default() {
            return;
        }
        assert!(Instant::now() < end, "driver {driver:?}, head {known:?}");
        std::thread::yield_now();
    }
}

#[remote(crate = mobula_actors, name = "cluster/add")]
fn add(a: u64, b: u64) -> Result<u64, BoxError> {
    Ok(a.wrapping_add(b))
}

#[remote(crate = mobula_actors, name = "cluster/sum")]
fn sum(data: &Data, from: u64) -> Result<u64, BoxError> {
    Ok(data.iter().map(|byte| u64::from(*byte)).sum::<u64>() + from)
}

#[remote(crate = mobula_actors, name = "cluster/fill")]
fn fill(byte: u64, bytes: u64) -> Result<Data, BoxError> {
    Ok(vec![byte as u8; bytes as usize].into())
}

#[remote(crate = mobula_actors, name = "cluster/nested")]
fn nested(depth: u64) -> Result<u64, BoxError> {
    if depth == 0 {
        return Ok(0);
    }
    let tasks = task::tasks()?;
    Ok(1 + *tasks.get(&tasks.submit(nested::task(depth - 1))?)?)
}

#[remote(crate = mobula_actors, name = "cluster/inner")]
fn inner(references: Vec<ObjectRef<u64>>) -> Result<(u64, ObjectRef<u64>), BoxError> {
    let tasks = task::tasks()?;
    let sum = tasks.get_all(&references)?.iter().map(|value| **value).sum();
    Ok((sum, tasks.submit(add::task(sum, 1))?))
}

#[remote(crate = mobula_actors, name = "cluster/fails")]
fn fails() -> Result<u64, BoxError> {
    Err("no such row".into())
}

#[test]
fn values_large_and_small_come_and_go_by_reference() {
    for computes in [true, false] {
        let cluster = TestCluster::start(computes, node());
        let _nodes = [cluster.node("n1"), cluster.node("n2")];
        let driver = cluster.driver("driver");
        let tasks = driver.tasks().expect("tasks");
        let large = tasks.put(Data::from(vec![1; 3 << 20])).expect("put");
        let sums: Vec<_> = (0..50).map(|n| tasks.submit(sum::task(&large, n)).expect("submitted")).collect();
        for (n, sum) in (0..).zip(&sums) {
            assert_eq!(*tasks.get(sum).expect("a sum"), (3 << 20) + n);
        }
        // Made on one node, needed on others and by the driver.
        let made = tasks.submit(fill::task(2, 1 << 20)).expect("submitted");
        let of_made: Vec<_> = (0..20).map(|n| tasks.submit(sum::task(&made, n)).expect("submitted")).collect();
        assert!(tasks.get_all(&of_made).expect("sums").iter().zip(0..).all(|(sum, n)| **sum == (2 << 20) + n));
        assert_eq!(tasks.get(&made).expect("it comes").len(), 1 << 20);
        let error = tasks.get(&tasks.submit(fails::task().attempts(2)).expect("submitted")).expect_err("fails");
        assert_eq!(error.to_string(), "task cluster/fails failed in attempt 2 of 2: no such row");
        drop((large, sums, made, of_made));
        assert_empty(&tasks, &cluster.head);
    }
}

#[test]
fn references_travel_inside_values_and_tasks_submit_tasks() {
    let cluster = TestCluster::start(false, node());
    let _nodes = [cluster.node("n1"), cluster.node("n2")];
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
    let ones: Vec<_> = (0..10u64).map(|n| tasks.put(n).expect("put")).collect();
    let both = tasks.submit(inner::task(ones)).expect("submitted");
    let (sum, next) = &*tasks.get(&both).expect("it ends");
    drop(both);
    assert_eq!((*sum, *tasks.get(next).expect("it ends")), (45, 46));
    let stored = tasks.put(vec![next.clone(), next.clone()]).expect("put");
    let again = tasks.submit(inner::task(&stored)).expect("submitted");
    let again_value = tasks.get(&again).expect("it ends");
    assert_eq!((again_value.0, *tasks.get(&again_value.1).expect("93")), (92, 93));
    drop((stored, again, again_value));
}

#[test]
fn nothing_is_left_when_references_inside_values_are_dropped() {
    let cluster = TestCluster::start(true, node());
    let _node = cluster.node("n1");
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
    for _ in 0..20 {
        let ones: Vec<_> = (0..10u64).map(|n| tasks.put(n).expect("put")).collect();
        let both = tasks.submit(inner::task(ones)).expect("submitted");
        let value = tasks.get(&both).expect("it ends");
        assert_eq!(*tasks.get(&value.1).expect("46"), 46);
    }
    assert_empty(&tasks, &cluster.head);
}

#[test]
fn tasks_wait_for_tasks_a_hundred_deep_on_two_cores() {
    let cluster = TestCluster::start(false, NodeConfig { cpus: Some(1), ..node() });
    let _nodes = [cluster.node("n1"), cluster.node("n2")];
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
    let runs: Vec<_> = (0..3).map(|_| tasks.submit(nested::task(100)).expect("submitted")).collect();
    assert!(tasks.get_all(&runs).expect("they end").iter().all(|depth| **depth == 100));
    drop(runs);
    assert_empty(&tasks, &cluster.head);
}

#[remote(crate = mobula_actors, name = "cluster/count_to")]
fn count_to(end: u64, out: &mut Results<Vec<u64>>) -> Result<(), BoxError> {
    // Every seventh is large.
    (0..end).try_for_each(|n| out.give(vec![n; if n % 7 == 0 { 20_000 } else { 1 }]))
}

#[test]
fn a_stream_comes_in_order_from_another_node_and_ends_with_its_consumer() {
    let cluster = TestCluster::start(false, node());
    let _node = cluster.node("n1");
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
    let stream = tasks.submit(count_to::task(500)).expect("submitted");
    let items: Vec<u64> = stream.map(|item| tasks.get(&item.expect("an item")).expect("here")[0]).collect();
    assert_eq!(items, (0..500).collect::<Vec<_>>());
    let mut endless = tasks.submit(count_to::task(u64::MAX)).expect("submitted");
    for n in 0..100 {
        assert_eq!(tasks.get(&endless.next().expect("more").expect("an item")).expect("here")[0], n);
    }
    drop(endless);
    assert_empty(&tasks, &cluster.head);
}

/// Of what it is given, and slow enough to be there when a node goes.
#[remote(crate = mobula_actors, name = "cluster/mix")]
fn mix(own: u64, a: u64, b: u64) -> Result<u64, BoxError> {
    Ok(own.wrapping_mul(31).wrapping_add(a).rotate_left(7) ^ b)
}

#[test]
fn a_graph_of_10_000_tasks_gives_what_a_loop_gives_while_nodes_come_and_go() {
    let seed = rand::random();
    println!("seed {seed}");
    let cluster = TestCluster::start(false, node());
    let _stays = cluster.node("stays");
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut expected, mut results): (Vec<u64>, Vec<ObjectRef<u64>>) = (vec![1], vec![tasks.put(1).expect("put")]);
    // Each time a process joins as this node, the life of the one before is over, with what it had.
    let mut lives = vec![cluster.node("goes")];
    for own in 1..10_000u64 {
        let mut pick = || rng.random_range(results.len().saturating_sub(200)..results.len());
        let (a, b) = (pick(), pick());
        expected.push(own.wrapping_mul(31).wrapping_add(expected[a]).rotate_left(7) ^ expected[b]);
        results.push(tasks.submit(mix::task(own, &results[a], &results[b])).expect("submitted"));
        if own % 2_500 == 0 {
            lives.push(cluster.node("goes"));
        }
    }
    let values: Vec<u64> = tasks.get_all(&results).expect("all end").into_iter().map(|value| *value).collect();
    assert_eq!(values, expected);
    drop(results);
    assert_empty(&tasks, &cluster.head);
}

static MADE: AtomicU64 = AtomicU64::new(0);

#[remote(crate = mobula_actors, name = "cluster/make")]
fn make(bytes: u64) -> Result<Data, BoxError> {
    MADE.fetch_add(1, Ordering::SeqCst);
    Ok(vec![3; bytes as usize].into())
}

#[remote(crate = mobula_actors, name = "cluster/put_there")]
fn put_there(bytes: u64) -> Result<ObjectRef<Data>, BoxError> {
    Ok(task::tasks()?.put(Data::from(vec![4; bytes as usize]))?)
}

#[test]
fn a_result_that_is_lost_with_its_node_is_made_again_and_what_was_put_there_is_named() {
    let cluster = TestCluster::start(false, node());
    let _goes = cluster.node("goes");
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
    let made = tasks.submit(make::task(1 << 20)).expect("submitted");
    let put = tasks.submit(put_there::task(1 << 20)).expect("submitted");
    let put = tasks.get(&put).expect("it ends").as_ref().clone();
    tasks.wait(vec![made.clone()], 1, None).expect("it is ready");
    assert_eq!(MADE.load(Ordering::SeqCst), 1);
    // Another process as this node ends the first one's life at once.
    let _comes = cluster.node("goes");
    let sum = tasks.submit(sum::task(&made, 0)).expect("submitted");
    assert_eq!(*tasks.get(&sum).expect("made again"), 3 << 20);
    assert_eq!(MADE.load(Ordering::SeqCst), 2);
    let error = tasks.get(&put).expect_err("it is lost");
    assert!(matches!(error, TaskError::Lost { .. }), "{error}");
    assert!(error.to_string().contains("node goes"), "{error}");
}

#[test]
fn what_no_node_has_is_refused_and_a_cancelled_task_says_so() {
    let cluster = TestCluster::start(false, node());
    let _node = cluster.node("n1");
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
    let never = tasks.submit(add::task(1, 1).gpus(1.0)).expect("submitted");
    let error = tasks.get(&never).expect_err("no device").to_string();
    assert!(error.starts_with("task cluster/add can never run: ") && error.contains("gpu"), "{error}");
    let labelled = tasks.submit(add::task(1, 1).label("name", "n1")).expect("submitted");
    assert_eq!(*tasks.get(&labelled).expect("there"), 2);
    let stuck = tasks.submit(until_cancelled::task()).expect("submitted");
    let needs = tasks.submit(add::task(&stuck, 1)).expect("submitted");
    until(|| cluster.head.why_waits(needs.id()) == Some(format!("it waits for its arguments: {}", stuck.id())));
    until(|| cluster.head.why_waits(stuck.id()).is_some_and(|why| why.starts_with("it runs on node number ")));
    let open = driver.open_tasks().expect("the head answers").tasks;
    let told = |id: ObjectId| open.iter().find(|task| task.task == id.to_string()).expect("it is listed");
    assert_eq!((told(stuck.id()).state.as_str(), open.len()), ("runs on node n1", 2));
    assert_eq!(told(needs.id()).function, "cluster/add");
    assert_eq!(told(needs.id()).state, format!("waits for its arguments: {}", stuck.id()));
    tasks.cancel(&stuck);
    assert!(matches!(tasks.get(&stuck), Err(TaskError::Cancelled { .. })));
    assert!(matches!(tasks.get(&needs), Err(TaskError::Argument { .. })));
    drop((never, labelled, stuck, needs));
    assert_empty(&tasks, &cluster.head);
}

#[remote(crate = mobula_actors, name = "cluster/until_cancelled")]
fn until_cancelled() -> Result<u64, BoxError> {
    while !task::is_cancelled() {
        std::thread::yield_now();
    }
    Ok(1)
}

#[test]
fn what_a_driver_held_is_let_go_with_it() {
    let cluster = TestCluster::start(true, node());
    let driver = cluster.driver("first");
    let tasks = driver.tasks().expect("tasks");
    let held: Vec<_> = (0..20u64).map(|n| tasks.submit(add::task(n, 1)).expect("submitted")).collect();
    let large = tasks.put(Data::from(vec![1; 1 << 20])).expect("put");
    let stuck = tasks.submit(until_cancelled::task()).expect("submitted");
    tasks.wait(held.clone(), 20, None).expect("ready");
    drop(driver);
    assert!(matches!(tasks.get(&stuck), Err(TaskError::Ended(_))));
    drop((held, large, stuck));
    assert_empty(&tasks, &cluster.head);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Teller;

#[mobula_actors::actor(crate = mobula_actors, name = "cluster/teller@1", messages(Ask))]
impl actix::Actor for Teller {
    type Context = actix::Context<Self>;
}

/// Submits a task and gives its result.
#[derive(serde::Serialize, serde::Deserialize, actix::Message)]
#[rtype(result = "u64")]
struct Ask(u64);

impl actix::Handler<Ask> for Teller {
    type Result = u64;

    fn handle(&mut self, Ask(n): Ask, _: &mut actix::Context<Self>) -> u64 {
        let tasks = task::tasks().expect("an actor is in a session");
        let sum = tasks.submit(add::task(n, 1)).expect("submitted");
        *tasks.get(&sum).expect("it ends")
    }
}

#[remote(crate = mobula_actors, name = "cluster/ask_it")]
fn ask_it(teller: mobula_actors::actor::ActorHandle<Teller>, n: u64) -> Result<u64, BoxError> {
    Ok(teller.ask(Ask(n))?)
}

#[test]
fn tasks_ask_actors_and_actors_submit_tasks() {
    let cluster = TestCluster::start(false, node());
    let _nodes = [cluster.node("n1"), cluster.node("n2")];
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
    let teller =
        driver.actors().spawn(Teller).on("n1").thread(mobula_actors::actor::Thread::Own).start().expect("stands");
    let asked: Vec<_> = (0..20).map(|n| tasks.submit(ask_it::task(teller.clone(), n)).expect("submitted")).collect();
    let sums: Vec<u64> = tasks.get_all(&asked).expect("they end").iter().map(|sum| **sum).collect();
    assert_eq!(sums, (1..=20).collect::<Vec<_>>());
}

#[remote(crate = mobula_actors, name = "cluster/falters")]
fn falters(end: u64, out: &mut Results<Vec<u64>>) -> Result<(), BoxError> {
    for n in 0..end {
        if n == 50 && task::attempt() == 1 {
            return Err("once more".into());
        }
        out.give(vec![n; if n % 3 == 0 { 20_000 } else { 1 }])?;
    }
    Ok(())
}

#[remote(crate = mobula_actors, name = "cluster/takes")]
fn takes(end: u64, most: u64) -> Result<Vec<u64>, BoxError> {
    let tasks = task::tasks()?;
    let items = tasks.submit(falters::task(end))?.take(most as usize);
    items.map(|item| Ok(tasks.get(&item?)?[0])).collect()
}

#[test]
fn a_stream_between_tasks_of_one_node_gives_each_item_once_though_it_is_tried_again() {
    let cluster = TestCluster::start(false, node());
    let _node = cluster.node("n1");
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
    let taken: Vec<_> =
        [300, 70, 3].map(|most| tasks.submit(takes::task(300, most).attempts(1)).expect("submitted")).into();
    for (most, taken) in [300, 70, 3].into_iter().zip(&taken) {
        assert_eq!(*tasks.get_within(taken, Duration::from_secs(60)).expect("items"), (0..most).collect::<Vec<_>>());
    }
    drop(taken);
    assert_empty(&tasks, &cluster.head);
}

#[remote(crate = mobula_actors, name = "cluster/length")]
fn length(data: &Data) -> Result<u64, BoxError> {
    Ok(data.len() as u64)
}

#[test]
fn values_at_the_limits_come_through_or_are_refused_by_name() {
    let limits = NodeConfig {
        object_bytes_max: mobula_actors::units::Bytes::mib(2),
        objects_bytes_max: Some(mobula_actors::units::Bytes::mib(5)),
        ..node()
    };
    let cluster = TestCluster::start(false, limits);
    let _node = cluster.node("n1");
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
    for bytes in [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 2 << 20] {
        let put = tasks.put(Data::from(vec![5; bytes])).expect("put");
        let by_reference = tasks.submit(length::task(&put)).expect("submitted");
        let by_value = tasks.submit(length::task(Data::from(vec![5; bytes]))).expect("submitted");
        assert_eq!(*tasks.get(&by_reference).expect("length"), bytes as u64);
        assert_eq!(*tasks.get(&by_value).expect("length"), bytes as u64);
        let made = tasks.submit(fill::task(1, bytes as u64)).expect("submitted");
        assert_eq!(tasks.get(&made).expect("made").len(), bytes);
        drop((put, by_reference, by_value, made));
        assert_empty(&tasks, &cluster.head);
    }
    let over = (2 << 20) + 1;
    let error = tasks.put(Data::from(vec![5; over])).expect_err("too large").to_string();
    assert!(error.contains("--object-max"), "{error}");
    let error = tasks.submit(length::task(Data::from(vec![5; over]))).expect_err("too large").to_string();
    assert!(error.contains("--object-max"), "{error}");
    let made = tasks.submit(fill::task(1, over as u64)).expect("submitted");
    let error = tasks.get(&made).expect_err("too large").to_string();
    assert!(error.contains("bytes") && error.contains("limit"), "{error}");
    // All together are over the limit of the head.
    let fit = [1, 2].map(|byte| tasks.put(Data::from(vec![byte; 2 << 20])).expect("put"));
    let error = tasks.put(Data::from(vec![5; 2 << 20])).expect_err("no room").to_string();
    assert!(error.contains("--objects-max"), "{error}");
    drop((made, fit));
    assert_empty(&tasks, &cluster.head);
}

#[remote(crate = mobula_actors, name = "cluster/waits_for_it")]
fn waits_for_it() -> Result<u64, BoxError> {
    let tasks = task::tasks()?;
    Ok(*tasks.get(&tasks.submit(until_cancelled::task())?)?)
}

#[test]
fn a_task_that_is_cancelled_while_it_waits_gives_its_worker_back_and_its_own_tasks_up() {
    let cluster = TestCluster::start(false, NodeConfig { cpus: Some(1), ..node() });
    let _node = cluster.node("n1");
    let driver = cluster.driver("driver");
    let tasks = driver.tasks().expect("tasks");
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
