//! How actors end: with their node, their handle or their driver, unless they are detached.

mod support;

use std::process::Command;

use mobula_actors::actor::{ActorError, ActorId};
use mobula_actors::cluster::{Driver, Identity, Limits, Role};
use support::cluster::{TestCluster, until};
use support::counter::{Add, AddTo, Counter, WaitLater, counter};
use support::small;

#[test]
fn a_node_that_goes_takes_its_actors_with_it() {
    let cluster = TestCluster::start(true, small());
    let (node, driver) = (cluster.node("n1"), cluster.driver("driver"));
    let actors = driver.actors();
    let counter = actors.spawn(Counter::default()).on("n1").name("lost").start().expect("it stands");
    let gone = actors.spawn(Counter::default()).on("head").start().expect("it stands");
    std::thread::scope(|scope| {
        let under_way = scope.spawn(|| counter.ask(WaitLater(1)));
        until(|| counter.ask(Add(0)) == Ok(1));
        node.drain();
        assert_eq!(under_way.join().expect("no panic"), Err(ActorError::NodeLost));
    });
    let again = cluster.node("n1");
    assert_eq!(counter.ask(Add(1)), Err(ActorError::NodeLost));
    assert_eq!(gone.ask(AddTo(counter.clone(), 1)), Ok(Err(ActorError::NodeLost)));
    counter.stop().expect("nothing is left to stop");
    assert_eq!(actors.find::<Counter>(counter.id()).err(), Some(ActorError::NodeLost));
    let fresh = actors.spawn(Counter::default()).on("n1").name("lost").start().expect("the name is free");
    assert_eq!(fresh.ask(Add(2)), Ok(2));
    drop(again);
}

#[test]
fn actors_end_with_their_handle_or_driver_unless_they_are_detached() {
    let cluster = TestCluster::start(true, small());
    let (_n1, driver, other) = (cluster.node("n1"), cluster.driver("driver"), cluster.driver("other"));
    let (mine, others) = (driver.actors(), other.actors());
    let gone = |id| until(|| matches!(others.find::<Counter>(id), Err(ActorError::NotHere)));
    let dropped = mine.spawn(Counter { count: 5, log: Vec::new() }).on("n1").start().expect("it stands");
    let id = dropped.id();
    assert_eq!(others.find::<Counter>(id).expect("it is there").ask(Add(1)), Ok(6));
    let clone = dropped.clone();
    drop(dropped);
    assert_eq!(clone.ask(Add(1)), Ok(7));
    drop(clone);
    gone(id);
    let detached = mine.spawn(Counter::default()).on("n1").name("kept").detached().start().expect("it stands");
    let lost = counter(&mine);
    assert_eq!(detached.ask(Add(1)), Ok(1));
    let id = lost.id();
    drop((detached, driver));
    gone(id);
    drop(lost);
    let found = others.named::<Counter>("kept").expect("it outlives its driver");
    assert_eq!(found.ask(Add(1)), Ok(2));
    found.stop().expect("anyone may stop it");
    gone(found.id());
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
        let counter = driver.actors().spawn(Counter::default()).on("n1").start().expect("it stands");
        driver.actors().spawn(Counter::default()).on("n1").name("stays").detached().start().expect("it stands");
        println!("\nspawned {}", counter.id());
        std::process::abort();
    }
    let cluster = TestCluster::start(true, small());
    let (_n1, other) = (cluster.node("n1"), cluster.driver("other"));
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
    let actors = other.actors();
    until(|| actors.find::<Counter>(id).err() == Some(ActorError::NotHere));
    let stays = actors.named::<Counter>("stays").expect("it was detached");
    assert_eq!(stays.ask(Add(1)), Ok(1));
    stays.stop().expect("anyone may stop it");
}
