//! Whole jobs on a simulated network: the head cut off from a node for less and for more than the limits, two nodes cut
//! off from each other, and packets that are lost, late and doubled.
//!
//! What happens to packets follows from a seed. Time is real: the engine's threads cannot be paused, and nothing here
//! waits for a time, only for what `status` shows.

mod support;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use mobula_actors::cluster::{Driver, Limits, Member};
use mobula_actors::job::OperatorPlan;
use mobula_actors::operator::{IntoOperator, Operator, OperatorResult, Output};
use mobula_transport::SimNetwork;
use serde::{Deserialize, Serialize};
use support::cluster::{TestCluster, run, run_to_summary, simulated};
use support::{Gate, add, map, read, small, values, wide};

const ROWS: i64 = 60_000;
const SPLITS: i64 = 9;
/// Two nodes of two cores: so many workers are on both.
const WORKERS: usize = 4;

/// Two nodes that compute and a head that only leads, on a simulated network.
struct World {
    network: SimNetwork,
    cluster: TestCluster,
    _nodes: [Member; 2],
    driver: Driver,
}

impl World {
    fn new(seed: u64) -> Self {
        let network = SimNetwork::new(seed);
        // A node that cannot reach its head looks again soon: the tests wait for it.
        let limits = Limits { reconnect_max: Duration::from_millis(200), ..Limits::default() };
        let cluster = TestCluster::start_on(Some(network.clone()), limits, false, small());
        let nodes = [cluster.node("n1"), cluster.node("n2")];
        let driver = cluster.driver("driver");
        Self { network, cluster, _nodes: nodes, driver }
    }

    /// The number of the only life of a node.
    fn number(&self, node: &str) -> u64 {
        let lives = self.cluster.lives(node);
        let alive: Vec<_> = lives.iter().filter(|life| life.state == "alive").map(|life| life.number).collect();
        assert_eq!(alive.len(), 1, "{lives:?}");
        alive[0]
    }
}

fn head() -> SocketAddr {
    simulated("head")
}

fn node(name: &str) -> SocketAddr {
    simulated(name)
}

/// Holds every batch behind a row at a gate.
#[derive(Serialize, Deserialize)]
struct Hold {
    gate: usize,
    from: i64,
}

static GATES: [Gate; 2] = [const { Gate::new() }; 2];

#[mobula_actors::operator(crate = mobula_actors, name = "test/hold@1")]
impl Operator for Hold {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        if values(&batch).iter().any(|value| *value >= self.from) {
            GATES[self.gate].wait();
        }
        out.emit(batch);
        Ok(())
    }
}

fn pipeline(rows: i64) -> Vec<OperatorPlan> {
    vec![wide(read(rows, SPLITS, vec![]), WORKERS), wide(add("one", 0, 1), WORKERS), wide(add("two", 1, 2), WORKERS)]
}

fn held(gate: usize) -> Vec<OperatorPlan> {
    let hold = map("hold", 0, Hold { gate, from: ROWS / 4 }.into_operator());
    vec![wide(read(ROWS, SPLITS, vec![]), WORKERS), wide(hold, WORKERS), wide(add("three", 1, 3), WORKERS)]
}

/// All rows are there, once each and in order.
#[track_caller]
fn check(all: &[i64], rows: i64) {
    assert_eq!(all.len(), rows as usize);
    assert!(all.iter().copied().eq(3..rows + 3), "not the rows of an undisturbed run");
}

#[test]
fn a_node_that_is_cut_off_for_less_than_the_limits_costs_its_job_nothing_but_time() {
    let world = World::new(1);
    let before = world.number("n1");
    let (go, going) = mpsc::channel();
    let (all, summary) = std::thread::scope(|scope| {
        let world = &world;
        scope.spawn(move || {
            going.recv().expect("the job runs");
            world.network.partition(head(), node("n1"));
            world.cluster.wait_for("n1", "suspect");
            world.network.heal(head(), node("n1"));
        });
        let result = run_to_summary(&world.driver, pipeline(ROWS), move |rows| {
            if rows > 5_000 {
                // Once is enough.
                let _ = go.send(());
            }
        });
        result.expect("it runs")
    });
    check(&all, ROWS);
    world.cluster.wait_for("n1", "alive");
    assert_eq!(world.number("n1"), before, "the same life goes on");
    let tries: Vec<_> = summary.operators.iter().map(|operator| (operator.retries, operator.rows_in.0)).collect();
    assert_eq!(tries, [(0, ROWS as u64); 3], "nothing was done twice");
}

/// Cuts n1 off from the head once both nodes are held in a task of the job, until it is dead; lets the tasks go on before
/// or after the network is healed. What the first life of n1 still makes must not count.
fn cut_off_until_dead(gate: usize, healed_first: bool) {
    let world = World::new(2);
    let before = world.number("n1");
    let all = std::thread::scope(|scope| {
        scope.spawn(|| {
            GATES[gate].wait_for(WORKERS - 1);
            world.network.partition(head(), node("n1"));
            world.cluster.wait_for("n1", "dead");
            if healed_first {
                world.network.heal(head(), node("n1"));
                world.cluster.wait_for("n1", "alive");
            }
            GATES[gate].open();
        });
        run(&world.driver, held(gate), |_| {}).expect("it runs")
    });
    check(&all, ROWS);
    world.network.heal(head(), node("n1"));
    world.cluster.wait_for("n1", "alive");
    assert!(world.number("n1") > before, "another life");
    let again = run(&world.driver, pipeline(ROWS), |_| {}).expect("it runs");
    check(&again, ROWS);
}

#[test]
fn a_node_that_is_cut_off_for_longer_is_dead_to_its_job_and_comes_back_as_another_life_after_it() {
    cut_off_until_dead(0, false);
}

#[test]
fn what_a_dead_life_still_makes_does_not_count_although_the_node_is_back() {
    cut_off_until_dead(1, true);
}

#[test]
fn nodes_that_cannot_reach_each_other_get_blocks_another_way() {
    let world = World::new(3);
    world.network.partition(node("n1"), node("n2"));
    for _ in 0..2 {
        let all = run(&world.driver, pipeline(ROWS), |_| {}).expect("it runs");
        check(&all, ROWS);
    }
}

#[test]
fn nodes_that_lose_each_other_amid_a_job_get_blocks_another_way() {
    let world = World::new(4);
    let all = run(&world.driver, pipeline(ROWS), |rows| {
        if rows > 5_000 {
            world.network.partition(node("n1"), node("n2"));
        }
    });
    let all = all.expect("it runs");
    check(&all, ROWS);
    world.network.heal(node("n1"), node("n2"));
    let again = run(&world.driver, pipeline(ROWS), |_| {}).expect("it runs");
    check(&again, ROWS);
}

#[test]
fn a_node_that_is_cut_off_from_all_is_done_without_while_others_wait_for_its_blocks() {
    let world = World::new(5);
    let all = run(&world.driver, pipeline(ROWS), |rows| {
        if rows > 5_000 {
            world.network.partition(node("n1"), node("n2"));
            world.network.partition(node("n1"), head());
        }
    });
    check(&all.expect("it runs"), ROWS);
    // It was dead before the job could end, or the job had all it needed of it.
    world.cluster.wait_for("n1", "dead");
    world.network.heal(node("n1"), head());
    world.cluster.wait_for("n1", "alive");
}

#[test]
fn rows_are_exact_on_a_network_that_loses_doubles_and_delays_packets() {
    for seed in [1, 2, rand::random()] {
        println!("seed {seed}");
        let world = World::new(seed);
        world.network.loss(20);
        world.network.duplicate(20);
        world.network.delay(Duration::from_millis(1)..Duration::from_millis(5));
        let all = run(&world.driver, pipeline(ROWS / 4), |_| {}).expect("it runs");
        check(&all, ROWS / 4);
    }
}

#[test]
fn nodes_that_say_the_same_address_get_each_others_blocks_and_never_their_own_instead() {
    // As in containers on two hosts, each with the same private network.
    for said in ["n1", "n2"] {
        let network = SimNetwork::new(6);
        let cluster = TestCluster::start_on(Some(network), Limits::default(), false, small());
        let _nodes = ["n1", "n2"].map(|name| cluster.node_that_says(name, node(said)));
        let driver = cluster.driver("driver");
        let all = run(&driver, pipeline(ROWS), |_| {}).expect("it runs");
        check(&all, ROWS);
    }
}
