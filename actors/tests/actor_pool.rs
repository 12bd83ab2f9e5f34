//! Actor pools in a session of one process and on a cluster: order, growth, workers that die, items that kill.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use mobula_actors::actor::{ActorError, ActorPool, Actors, PoolError};
use mobula_actors::node::Node;
use serde::{Deserialize, Serialize};
use support::cluster::{TestCluster, until};
use support::{Gate, small};

#[derive(Clone, Serialize, Deserialize)]
struct Worker;

#[mobula_actors::actor(crate = mobula_actors, name = "test/worker@1", messages(Do))]
impl Actor for Worker {
    type Context = Context<Self>;
}

#[derive(Debug, Clone, Copy, Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
enum Do {
    Square(u64),
    /// Wait for the gate of this number.
    Wait(usize),
    /// Die, always.
    Poison,
    /// Die until this flag is set, and set it.
    DieOnce(usize),
}

static GATES: [Gate; 2] = [const { Gate::new() }; 2];
static DIED: [AtomicBool; 8] = [const { AtomicBool::new(false) }; 8];

impl Handler<Do> for Worker {
    type Result = u64;
    fn handle(&mut self, item: Do, _: &mut Context<Self>) -> u64 {
        match item {
            Do::Square(n) => return n * n,
            Do::Wait(gate) => GATES[gate].wait(),
            Do::Poison => panic!("poison"),
            Do::DieOnce(flag) if !DIED[flag].swap(true, Ordering::Relaxed) => panic!("once"),
            Do::DieOnce(_) => {}
        }
        0
    }
}

/// In a session of one process and on a cluster it comes out the same, and no actor is left.
fn everywhere(check: impl Fn(&Actors)) {
    let node = Node::start(small()).expect("a node");
    check(&node.actors());
    until(|| node.actors().count() == 0);
    let cluster = TestCluster::start(true, small());
    let (_n1, driver) = (cluster.node("n1"), cluster.driver("driver"));
    check(&driver.actors());
    until(|| cluster.head.actors().count() == 0);
}

#[test]
fn results_come_in_order_or_as_they_come() {
    everywhere(|actors| {
        let pool: ActorPool<Worker, Do> = actors.spawn(Worker).pool(3).start().expect("it starts");
        let squares: Result<Vec<u64>, _> = pool.map((0..200).map(Do::Square)).collect();
        assert_eq!(squares.expect("all are done"), (0..200).map(|n| n * n).collect::<Vec<_>>());
        let mut squares: Vec<u64> = pool.map_unordered((0..200).map(Do::Square)).map(|n| n.expect("done")).collect();
        squares.sort_unstable();
        assert_eq!(squares, (0..200).map(|n| n * n).collect::<Vec<_>>());
        (1..=3).for_each(|n| pool.submit(Do::Square(n)).expect("there is room"));
        assert!(pool.has_next());
        assert_eq!((pool.get_next(), pool.get_next()), (Ok(1), Ok(4)));
        assert_eq!((pool.get_next_unordered(), pool.has_next()), (Ok(9), false));
        assert_eq!(pool.get_next(), Err(PoolError::Nothing));
        assert_eq!(pool.size(), 3);
    });
}

#[test]
fn a_slow_item_holds_up_no_other() {
    static USED: AtomicUsize = AtomicUsize::new(0);
    everywhere(|actors| {
        let gate = USED.fetch_add(1, Ordering::Relaxed);
        let pool: ActorPool<Worker, Do> = actors.spawn(Worker).pool(2).start().expect("it starts");
        pool.submit(Do::Wait(gate)).expect("there is room");
        (1..=50).for_each(|n| pool.submit(Do::Square(n)).expect("there is room"));
        let squares: Vec<u64> = (1..=50).map(|_| pool.get_next_unordered().expect("done")).collect();
        assert_eq!(squares, (1..=50).map(|n| n * n).collect::<Vec<_>>());
        let brief = Duration::from_millis(10);
        assert_eq!(pool.get_next_within(brief), Err(PoolError::Deadline(brief)));
        GATES[gate].open();
        assert_eq!(pool.get_next(), Ok(0));
    });
}

#[test]
fn a_poison_item_fails_alone_and_one_that_lost_its_worker_is_done_again() {
    static USED: AtomicUsize = AtomicUsize::new(0);
    everywhere(|actors| {
        let flag = USED.fetch_add(1, Ordering::Relaxed);
        let pool: ActorPool<Worker, Do> = actors.spawn(Worker).pool(2).start().expect("it starts");
        let items = [Do::Square(2), Do::Poison, Do::DieOnce(flag), Do::Square(3), Do::Square(4)];
        let results: Vec<_> = pool.map(items).collect();
        let cause = ActorError::GaveUp { restarts: 0, cause: "panicked: poison".to_owned() };
        let failed = results.iter().position(Result::is_err);
        assert_eq!(failed, Some(1));
        assert_eq!(results[1], Err(PoolError::Failed { item: 1, attempts: 3, cause }));
        assert_eq!(results.iter().flatten().copied().collect::<Vec<_>>(), [4, 0, 9, 16]);
    });
}

#[test]
fn it_grows_with_its_backlog_and_shrinks_to_none() {
    everywhere(|actors| {
        let pool = actors.spawn(Worker).pool(0..=3).idle(Duration::from_millis(1));
        let pool: ActorPool<Worker, Do> = pool.start().expect("it starts");
        assert_eq!(pool.size(), 0);
        assert_eq!(pool.map((0..20).map(Do::Square)).filter(Result::is_ok).count(), 20);
        until(|| pool.size() == 0);
        pool.submit(Do::Square(5)).expect("there is room");
        assert_eq!(pool.get_next(), Ok(25));
    });
}

#[test]
fn submitters_wait_while_as_many_items_as_may_be_are_in_flight() {
    let node = Node::start(small()).expect("a node");
    static DONE: AtomicUsize = AtomicUsize::new(0);
    static HELD: Gate = Gate::new();
    #[derive(Serialize, Deserialize)]
    struct Slow;
    #[mobula_actors::actor(crate = mobula_actors, name = "test/slow@1", messages(Go))]
    impl Actor for Slow {
        type Context = Context<Self>;
    }
    #[derive(Clone, Message, Serialize, Deserialize)]
    #[rtype(result = "()")]
    struct Go;
    impl Handler<Go> for Slow {
        type Result = ();
        fn handle(&mut self, _: Go, _: &mut Context<Self>) {
            HELD.wait();
            DONE.fetch_add(1, Ordering::Relaxed);
        }
    }
    let pool: ActorPool<Slow, Go> = node.actors().spawn(Slow).pool(1).in_flight(2).start().expect("it starts");
    let submitted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..5 {
                pool.submit(Go).expect("there is room at last");
                submitted.fetch_add(1, Ordering::Relaxed);
            }
        });
        until(|| submitted.load(Ordering::Relaxed) == 2);
        HELD.wait_for(1);
        assert_eq!((submitted.load(Ordering::Relaxed), DONE.load(Ordering::Relaxed)), (2, 0));
        HELD.open();
    });
    (0..5).for_each(|_| pool.get_next().expect("done"));
}

#[test]
fn what_no_worker_can_be_started_for_says_what_is_missing() {
    let node = Node::start(small()).expect("a node");
    let pool: ActorPool<Worker, Do> = node.actors().spawn(Worker).gpus(7.0).pool(1).start().expect("it tries");
    pool.submit(Do::Square(1)).expect("there is room");
    let error = pool.get_next().expect_err("no such devices").to_string();
    assert!(error.contains("found no worker") && error.contains("no node can ever give gpu 7"), "{error}");
}

#[test]
fn actors_of_ones_own_join_and_leave() {
    let node = Node::start(small()).expect("a node");
    let actors = node.actors();
    let pool: ActorPool<Worker, Do> = actors.spawn(Worker).pool(0..=1).start().expect("it starts");
    pool.push(actors.spawn(Worker).start().expect("it stands"));
    assert_eq!(pool.map([Do::Square(6)]).collect::<Vec<_>>(), [Ok(36)]);
    let mine = pool.pop_idle().expect("it has nothing to do");
    assert_eq!((mine.ask(Do::Square(7)), pool.pop_idle().is_none()), (Ok(49), true));
}

#[test]
fn a_node_that_goes_costs_the_pool_nothing_but_time() {
    let cluster = TestCluster::start(true, small());
    let (n1, driver) = (cluster.node("n1"), cluster.driver("driver"));
    let pool: ActorPool<Worker, Do> = driver.actors().spawn(Worker).pool(4).start().expect("it starts");
    let mut results = pool.map((0..400).map(Do::Square));
    let first: Vec<_> = results.by_ref().take(50).collect();
    n1.drain();
    let all: Result<Vec<u64>, _> = first.into_iter().chain(results).collect();
    assert_eq!(all.expect("all are done"), (0..400).map(|n| n * n).collect::<Vec<_>>());
}
