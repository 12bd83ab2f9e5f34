//! Remote actors of a head, nodes and drivers in one process, over QUIC on loopback: they answer, die and come back.

mod support;

use std::process::Command;
use std::time::Duration;

use mobula_actors::cluster::remote::{ASKS_MAX, NamedActor};
use mobula_actors::cluster::{ActorId, Driver, Identity, Limits, Member, RemoteActor, RemoteError, RemoteHandle, Role};
use mobula_actors::runtime::RestartBudget;
use serde::{Deserialize, Serialize};
use support::cluster::{SOON, TestCluster, until};
use support::{Gate, small};

/// Counts, on request badly.
#[derive(Serialize, Deserialize)]
struct Counter {
    count: u64,
}

#[derive(Serialize, Deserialize)]
enum Request {
    Add(u64),
    Panic,
    /// Wait for the gate of this number.
    Wait(usize),
    Large,
}

#[mobula_actors::remote_actor(crate = mobula_actors, name = "test/counter@1")]
impl RemoteActor for Counter {
    type Request = Request;
    type Reply = (u64, Vec<u8>);

    fn handle(&mut self, request: Request) -> (u64, Vec<u8>) {
        match request {
            Request::Add(more) => self.count += more,
            Request::Panic => panic!("a bug in the counter"),
            Request::Wait(gate) => GATES[gate].wait(),
            Request::Large => return (self.count, vec![0; 1 << 20]),
        }
        (self.count, Vec::new())
    }
}

/// Cannot be built from what it is encoded to.
#[derive(Deserialize)]
#[serde(try_from = "u8")]
struct Broken;

impl Serialize for Broken {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        7u8.serialize(to)
    }
}

impl TryFrom<u8> for Broken {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Err(format!("no model has the number {number}"))
    }
}

#[mobula_actors::remote_actor(crate = mobula_actors)]
impl RemoteActor for Broken {
    type Request = ();
    type Reply = ();

    fn handle(&mut self, (): ()) {}
}

/// Of a name that nobody has registered.
#[derive(Serialize, Deserialize)]
struct Ghost;

impl RemoteActor for Ghost {
    type Request = ();
    type Reply = ();

    fn handle(&mut self, (): ()) {}
}

impl NamedActor for Ghost {
    const NAME: &'static str = "test/ghost@1";
}

static GATES: [Gate; 3] = [const { Gate::new() }; 3];

fn with_node() -> (TestCluster, Member, Driver) {
    let cluster = TestCluster::start(true, small());
    let (node, driver) = (cluster.node("n1"), cluster.driver("driver"));
    (cluster, node, driver)
}

fn budget(restarts: u32) -> RestartBudget {
    RestartBudget::new(restarts, Duration::from_secs(600))
}

fn add(counter: &RemoteHandle<Counter>, more: u64) -> Result<u64, RemoteError> {
    Ok(counter.ask(Request::Add(more), SOON)?.0)
}

fn fails(counter: &RemoteHandle<Counter>, request: Request) -> RemoteError {
    counter.ask(request, SOON).expect_err("it fails")
}

#[test]
fn an_actor_keeps_its_state_and_comes_back_with_its_start_state_until_its_restarts_are_used_up() {
    let (_cluster, _node, driver) = with_node();
    for node in ["n1", "head"] {
        let counter = driver.spawn_actor(node, Counter { count: 40 }, budget(1)).expect("it stands");
        assert_eq!((add(&counter, 1), add(&counter, 1)), (Ok(41), Ok(42)));
        assert_eq!(counter.incarnation(), Ok(0));
        let cause = "panicked: a bug in the counter".to_owned();
        let panicked = RemoteError::Panicked { cause: cause.clone(), incarnation: 1 };
        assert_eq!(fails(&counter, Request::Panic), panicked);
        assert_eq!((counter.incarnation(), add(&counter, 1)), (Ok(1), Ok(41)));
        let gave_up = RemoteError::GaveUp { restarts: 1, cause };
        assert_eq!(fails(&counter, Request::Panic), gave_up);
        assert_eq!((add(&counter, 1), counter.incarnation()), (Err(gave_up.clone()), Err(gave_up)));
    }
}

#[test]
fn what_is_not_known_or_does_not_fit_is_refused_by_name() {
    let (_cluster, _node, driver) = with_node();
    let error = driver.spawn_actor("n7", Counter { count: 0 }, budget(0)).expect_err("no such node");
    assert_eq!(error.to_string(), "refused: no node \"n7\" is alive; there are: head, n1");
    let error = driver.spawn_actor("n1", Ghost, budget(0)).expect_err("no such actor").to_string();
    assert!(error.contains("no remote actor \"test/ghost@1\"") && error.contains("test/counter@1"), "{error}");
    let error = driver.spawn_actor("n1", Broken, budget(2)).expect_err("it cannot be built").to_string();
    assert!(error.contains("could not be built") && error.contains("no model has the number 7"), "{error}");
    let counter = driver.spawn_actor("n1", Counter { count: 0 }, budget(0)).expect("it stands");
    let error = fails(&counter, Request::Large).to_string();
    assert!(error.contains("the reply cannot travel"), "{error}");
    assert!(mobula_actors::function::names().iter().any(|name| name == "test/counter@1"));
}

#[test]
fn asks_have_a_deadline_and_a_limit_and_who_gave_up_is_not_served() {
    let (_cluster, _node, driver) = with_node();
    let counter = driver.spawn_actor("n1", Counter { count: 0 }, budget(0)).expect("it stands");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| counter.ask(Request::Wait(0), SOON));
        GATES[0].wait_for(1);
        let brief = Duration::from_millis(10);
        let late = counter.ask(Request::Add(1000), brief).expect_err("the actor waits");
        assert_eq!(late, RemoteError::Deadline(brief));
        let others: Vec<_> = (0..2 * ASKS_MAX).map(|_| scope.spawn(|| add(&counter, 1))).collect();
        until(|| others.iter().filter(|other| other.is_finished()).count() > ASKS_MAX);
        GATES[0].open();
        let results: Vec<_> = others.into_iter().map(|other| other.join().expect("no panic")).collect();
        let busy = results.iter().filter(|result| **result == Err(RemoteError::Busy { asks_max: ASKS_MAX })).count();
        let served = 2 * ASKS_MAX - busy;
        // The first has a place, and the late one too if it came as far as the node.
        assert!((ASKS_MAX - 2..ASKS_MAX).contains(&served), "{results:?}");
        assert_eq!(results.iter().flatten().max(), Some(&(served as u64)), "the late one is not among them");
        assert!(first.join().expect("no panic").is_ok());
    });
}

#[test]
fn requests_behind_one_that_kills_go_to_the_next_incarnation() {
    let (_cluster, _node, driver) = with_node();
    let counter = driver.spawn_actor("n1", Counter { count: 0 }, budget(1)).expect("it stands");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| counter.ask(Request::Wait(1), SOON));
        GATES[1].wait_for(1);
        let killer = scope.spawn(|| fails(&counter, Request::Panic));
        let behind: Vec<_> = (0..8).map(|_| scope.spawn(|| add(&counter, 1))).collect();
        GATES[1].open();
        assert!(matches!(killer.join().expect("no panic"), RemoteError::Panicked { incarnation: 1, .. }));
        assert!(behind.into_iter().all(|ask| ask.join().expect("no panic").is_ok()));
        assert!(first.join().expect("no panic").is_ok());
    });
}

#[test]
fn a_node_that_goes_takes_its_actors_with_it() {
    let (cluster, node, driver) = with_node();
    let counter = driver.spawn_actor("n1", Counter { count: 0 }, budget(1)).expect("it stands");
    std::thread::scope(|scope| {
        let under_way = scope.spawn(|| fails(&counter, Request::Wait(2)));
        GATES[2].wait_for(1);
        node.drain();
        assert_eq!(under_way.join().expect("no panic"), RemoteError::NodeLost);
    });
    GATES[2].open();
    let again = cluster.node("n1");
    assert_eq!(add(&counter, 1), Err(RemoteError::NodeLost));
    let id = counter.id();
    counter.stop().expect("nothing is left to stop");
    assert_eq!(driver.find_actor::<Counter>(id).err(), Some(RemoteError::NodeLost));
    let fresh = driver.spawn_actor("n1", Counter { count: 1 }, budget(1)).expect("it stands");
    assert_eq!(add(&fresh, 1), Ok(2));
    drop(again);
}

#[test]
fn actors_end_with_their_handle_or_driver_unless_they_were_detached() {
    let (cluster, _node, driver) = with_node();
    let other = cluster.driver("other");
    let spawn = |driver: &Driver| driver.spawn_actor("n1", Counter { count: 5 }, budget(1)).expect("it stands");
    let gone = |id| until(|| matches!(other.find_actor::<Counter>(id), Err(RemoteError::NotHere)));
    let dropped = spawn(&driver);
    let id = dropped.id();
    assert_eq!(add(&other.find_actor(id).expect("it is there"), 1), Ok(6));
    assert_eq!(other.find_actor::<Broken>(id).err(), Some(RemoteError::NotHere));
    assert_eq!(add(&dropped, 1), Ok(7));
    drop(dropped);
    gone(id);
    let mut detached = spawn(&driver);
    detached.detach().expect("the head knows");
    let (kept, lost) = (detached.id(), spawn(&driver));
    let id = lost.id();
    drop((detached, lost, driver));
    gone(id);
    let found = other.find_actor::<Counter>(kept).expect("it outlives its driver");
    assert_eq!(add(&found, 1), Ok(6));
    found.stop().expect("anyone may stop it");
    gone(kept);
}

/// The test starts itself as the driver.
#[test]
fn a_driver_that_is_killed_takes_its_actors_with_it() {
    const HEAD: &str = "MOBULA_TEST_HEAD";
    const IDENTITY: &str = "MOBULA_TEST_IDENTITY";
    if let (Ok(head), Ok(identity)) = (std::env::var(HEAD), std::env::var(IDENTITY)) {
        let identity = Identity::load(identity.as_ref()).expect("an identity");
        let driver = Driver::connect(head.parse().expect("an address"), identity, Limits::default());
        let driver = driver.expect("a driver");
        let counter = driver.spawn_actor("n1", Counter { count: 1 }, budget(1)).expect("it stands");
        println!("\nspawned {}", counter.id());
        std::process::abort();
    }
    let (cluster, _node, other) = with_node();
    let dir = tempfile::tempdir().expect("a folder");
    cluster.identity(Role::Driver, "killed").save(dir.path()).expect("it can be kept");
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_driver_that_is_killed_takes_its_actors_with_it", "--nocapture"])
        .env(HEAD, cluster.head.address().to_string())
        .env(IDENTITY, dir.path())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let id = text.lines().find_map(|line| line.strip_prefix("spawned ")).expect("it says what it spawned");
    let id: ActorId = id.parse().expect("a number");
    assert_eq!(add(&other.find_actor(id).expect("it is not noticed yet"), 1), Ok(2));
    until(|| other.find_actor::<Counter>(id).err() == Some(RemoteError::NotHere));
}
