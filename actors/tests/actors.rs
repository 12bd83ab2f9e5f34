//! Actors of the user's own, in a session of one process and on a head, nodes and drivers over QUIC on loopback: they
//! answer, wait, die and come back. How they end is in `actor_ends.rs`.

mod support;

use std::time::Duration;

use actix::prelude::*;
use futures::FutureExt;
use mobula_actors::actor::{ActorError, ActorHandle, Thread};
use mobula_actors::cluster::Driver;
use mobula_actors::job::Resources;
use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::runtime::RestartBudget;
use serde::{Deserialize, Serialize};
use support::cluster::{SOON, TestCluster, until};
use support::counter::{
    Add, AddMany, AddTo, Counter, GATES, LATER, Large, Log, Panic, PanicLater, Stop, Wait, WaitLater, counter,
    everywhere, messages,
};
use support::{Gate, small};

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

#[mobula_actors::actor(crate = mobula_actors, messages())]
impl Actor for Broken {
    type Context = Context<Self>;
}

fn budget(restarts: u32) -> RestartBudget {
    RestartBudget::new(restarts, Duration::from_secs(600))
}

#[test]
fn an_actor_keeps_its_state_and_comes_back_with_its_start_state_until_its_restarts_are_used_up() {
    everywhere(|actors, node| {
        for thread in [Thread::Shared, Thread::Own] {
            let start = Counter { count: 40, log: Vec::new() };
            let spawn = actors.spawn(start).on(node).restarts(budget(2)).thread(thread);
            let counter = spawn.start().expect("it stands").within(SOON);
            assert_eq!((counter.ask(Add(1)), counter.ask(Add(1))), (Ok(41), Ok(42)));
            assert_eq!(counter.incarnation(), Ok(0));
            let panicked =
                |text: &str, incarnation| ActorError::Panicked { cause: format!("panicked: {text}"), incarnation };
            assert_eq!(counter.ask(Panic()), Err(panicked("a bug in the counter", 1)));
            assert_eq!((counter.incarnation(), counter.ask(Add(1))), (Ok(1), Ok(41)));
            assert_eq!(counter.ask(PanicLater()), Err(panicked("a bug in a future", 2)));
            assert_eq!(counter.ask(Add(2)), Ok(42));
            let gave_up = ActorError::GaveUp { restarts: 2, cause: "panicked: a bug in the counter".to_owned() };
            assert_eq!(counter.ask(Panic()), Err(gave_up.clone()));
            assert_eq!((counter.ask(Add(1)), counter.incarnation()), (Err(gave_up.clone()), Err(gave_up)));
        }
    });
}

#[test]
fn a_snapshot_is_what_the_next_incarnation_begins_with() {
    everywhere(|actors, node| {
        let spawn = actors.spawn(Counter::default()).on(node).restarts(budget(3)).snapshot_every(2);
        let counter = spawn.start().expect("it stands");
        assert!([1, 2, 3].into_iter().all(|count| counter.ask(Add(1)) == Ok(count)));
        assert!(counter.ask(Panic()).is_err());
        assert_eq!(counter.ask(Add(0)), Ok(2), "that after the second message");
        let asked = actors.spawn(Counter::default()).on(node).start().expect("it stands");
        assert_eq!(asked.ask(Add(5)), Ok(5));
        asked.snapshot().expect("it is taken");
        assert_eq!(asked.ask(Add(5)), Ok(10));
        assert!(asked.ask(Panic()).is_err());
        assert_eq!(asked.ask(Add(0)), Ok(5));
    });
}

#[test]
fn what_is_not_known_or_does_not_fit_is_refused_by_name() {
    let cluster = TestCluster::start(true, small());
    let (_n1, driver) = (cluster.node("n1"), cluster.driver("driver"));
    let actors = driver.actors();
    let text = |error: Option<ActorError>| error.expect("it is refused").to_string();
    let error = text(actors.spawn(Counter::default()).on("n7").start().err());
    assert_eq!(error, "the actor has no place: no node \"n7\" is alive; there are: head, n1");
    let error = text(actors.spawn(Counter::default()).here().start().err());
    assert!(error.contains("name a node"), "{error}");
    let error = text(actors.spawn(Counter::default()).gpus(9.0).start().err());
    assert!(error.contains("no node can ever give gpu 9"), "{error}");
    let error = text(actors.spawn(Counter::default()).label("name", "n8").start().err());
    assert!(error.contains("no node has the labels name=n8"), "{error}");
    let error = text(actors.spawn(Broken).on("n1").restarts(budget(2)).start().err());
    assert!(error.contains("could not be built") && error.contains("no model has the number 7"), "{error}");
    let counter = counter(&actors);
    let error = text(counter.ask(Large()).err());
    assert!(error.contains("the reply cannot travel"), "{error}");
    assert!(mobula_actors::function::names().iter().any(|name| name == "test/counter@1"));
    let labelled = actors.spawn(Counter::default()).label("name", "n1").start().expect("it stands");
    assert_eq!(labelled.ask(Add(1)), Ok(1));
}

#[test]
fn a_name_belongs_to_one_actor_at_a_time_and_is_found_from_anywhere() {
    everywhere(|actors, node| {
        let spawn = || actors.spawn(Counter::default()).on(node).name("the counter").start();
        let first = spawn().expect("the name is free");
        assert_eq!(spawn().err(), Some(ActorError::NameTaken("the counter".to_owned())));
        assert_eq!(first.ask(Add(3)), Ok(3));
        let found = actors.named::<Counter>("the counter").expect("it is there");
        assert_eq!((found.id(), found.ask(Add(1))), (first.id(), Ok(4)));
        assert_eq!(actors.named::<Broken>("the counter").err(), Some(ActorError::NotHere));
        first.ask(Stop()).expect("it answers before it stops");
        until(|| actors.named::<Counter>("the counter").is_err());
        let second = spawn().expect("the name is free again");
        second.stop().expect("somebody answers");
        let gone = actors.named::<Counter>("the counter").err();
        assert_eq!(gone, Some(ActorError::NoSuchName("the counter".to_owned())));
        assert_eq!(second.ask(Add(1)), Err(ActorError::NotHere));
    });
}

#[test]
fn handles_travel_in_messages_and_find_their_way_from_there() {
    let cluster = TestCluster::start(true, small());
    let (_n1, _n2, driver) = (cluster.node("n1"), cluster.node("n2"), cluster.driver("driver"));
    let actors = driver.actors();
    let nodes = ["head", "n1", "n2"];
    let all: Vec<_> =
        nodes.map(|node| actors.spawn(Counter::default()).on(node).start().expect("it stands")).into_iter().collect();
    let mut expected = 0;
    for from in &all {
        for to in &all {
            if from.id() != to.id() {
                assert!(from.ask(AddTo(to.clone(), 1)).expect("both live").is_ok());
                expected += 1;
            }
        }
    }
    let sum: u64 = all.iter().map(|counter| counter.ask(Add(0)).expect("it lives")).sum();
    assert_eq!(sum, expected);
    let bytes = mobula_transport::codec::encode(&all[0], 1 << 10).expect("it travels");
    let odd: ActorHandle<Counter> = mobula_transport::codec::decode(&bytes, 1 << 10).expect("a handle");
    assert_eq!(odd.ask(Add(0)), Err(ActorError::NoSession));
    assert!(odd.of(&actors).ask(Add(0)).is_ok());
}

#[test]
fn many_small_asks_from_node_to_node_all_come_back() {
    let cluster = TestCluster::start(true, small());
    let (_n1, _n2, driver) = (cluster.node("n1"), cluster.node("n2"), cluster.driver("driver"));
    let actors = driver.actors();
    let spawn = |node| actors.spawn(Counter::default()).on(node).thread(Thread::Own).start().expect("it stands");
    let (from, to) = (spawn("n1"), spawn("n2"));
    for n in 1..=2_000 {
        assert_eq!(to.within(Duration::from_secs(5)).ask(Add(1)), Ok(n), "by way of the head");
    }
    assert_eq!(from.ask(AddMany(to.within(Duration::from_secs(5)), 2_000)), Ok(Ok(4_000)));
}

#[test]
fn senders_wait_while_the_mailbox_is_full_and_order_is_kept() {
    static USED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    everywhere(|actors, node| {
        // A gate opens once.
        let gate = USED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let spawn = actors.spawn(Counter::default()).on(node).mailbox(4).thread(Thread::Own);
        let counter = spawn.start().expect("it stands");
        let blocked = counter.ask_later(Wait(gate)).expect("there is room");
        GATES[gate].wait_for(1);
        let brief = counter.within(Duration::from_millis(50));
        assert_eq!(brief.ask(Add(1000)), Err(ActorError::Deadline(Duration::from_millis(50))));
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                for number in 1..=600 {
                    counter.tell(Add(number)).expect("it lives");
                }
            });
            // The window and the mailbox hold less than it sends.
            assert!(!sender.is_finished());
            GATES[gate].open();
        });
        assert!(blocked.wait().is_ok());
        let log = counter.ask(Log()).expect("it lives");
        let expected: Vec<u64> = (1..=600).collect();
        assert_eq!(log.into_iter().filter(|number| *number != 1000).collect::<Vec<_>>(), expected);
    });
}

#[test]
fn handlers_that_wait_run_beside_each_other() {
    let node = Node::start(small()).expect("a node");
    let counter = counter(&node.actors());
    let waiting: Vec<_> = (0..50).map(|_| counter.ask_later(WaitLater(0)).expect("there is room")).collect();
    until(|| counter.ask(Add(0)) == Ok(50));
    LATER[0].store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(waiting.into_iter().all(|reply| reply.wait() == Ok(50)));
}

#[test]
fn messages_behind_one_that_kills_go_to_the_next_incarnation_in_their_order() {
    static USED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    static HELD: [Gate; 3] = [const { Gate::new() }; 3];
    #[derive(Serialize, Deserialize)]
    struct Held(Vec<u64>);
    #[mobula_actors::actor(crate = mobula_actors, name = "test/held@1", messages(Hold, Kill, Note))]
    impl Actor for Held {
        type Context = Context<Self>;
    }
    messages! {
        Hold(usize) -> "()";
        Kill() -> "()";
        Note(u64) -> "Vec<u64>";
    }
    impl Handler<Hold> for Held {
        type Result = ();
        fn handle(&mut self, Hold(gate): Hold, _: &mut Context<Self>) {
            HELD[gate].wait();
        }
    }
    impl Handler<Kill> for Held {
        type Result = ();
        fn handle(&mut self, Kill(): Kill, _: &mut Context<Self>) {
            panic!("killed")
        }
    }
    impl Handler<Note> for Held {
        type Result = Vec<u64>;
        fn handle(&mut self, Note(number): Note, _: &mut Context<Self>) -> Vec<u64> {
            self.0.push(number);
            self.0.clone()
        }
    }
    everywhere(|actors, node| {
        let gate = USED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let held = actors.spawn(Held(Vec::new())).on(node).thread(Thread::Own).start().expect("it stands");
        let first = held.ask_later(Hold(gate)).expect("room");
        HELD[gate].wait_for(1);
        let killer = held.ask_later(Kill()).expect("room");
        let behind: Vec<_> = (0..20).map(|number| held.ask_later(Note(number)).expect("room")).collect();
        HELD[gate].open();
        assert_eq!(first.wait(), Ok(()));
        assert!(matches!(killer.wait(), Err(ActorError::Panicked { incarnation: 1, .. })));
        let last = behind.into_iter().map(|reply| reply.wait().expect("the next one answers")).last();
        assert_eq!(last, Some((0..20).collect()));
    });
}

#[test]
fn devices_are_given_to_one_actor_at_a_time_and_it_is_told_which() {
    #[derive(Serialize, Deserialize)]
    struct OnDevice;
    #[mobula_actors::actor(crate = mobula_actors, name = "test/on-device@1", messages(Which))]
    impl Actor for OnDevice {
        type Context = Context<Self>;
    }
    messages! {
        Which() -> "Vec<u32>";
    }
    impl Handler<Which> for OnDevice {
        type Result = MessageResult<Which>;
        fn handle(&mut self, Which(): Which, _: &mut Context<Self>) -> Self::Result {
            MessageResult(mobula_actors::actor::gpus())
        }
    }
    let node = Node::start(NodeConfig { gpus: Some(2), ..small() }).expect("a node");
    let actors = node.actors();
    let spawn = || actors.spawn(OnDevice).resources(Resources { gpus: 1.0, ..Resources::cpu(0.0) });
    let (first, second) = (spawn().start().expect("a device"), spawn().start().expect("a device"));
    let which = |actor: &ActorHandle<OnDevice>| actor.ask(Which()).expect("it lives");
    let mut devices = [which(&first), which(&second)];
    devices.sort();
    assert_eq!(devices, [[0], [1]]);
    let busy = spawn().within(Duration::from_millis(50)).start().expect_err("both are in use").to_string();
    assert!(busy.contains("stayed in use"), "{busy}");
    std::thread::scope(|scope| {
        let third = scope.spawn(|| spawn().start());
        first.stop().expect("it is told");
        assert!(third.join().expect("no panic").is_ok());
    });
}

#[test]
fn an_actor_does_not_wait_for_one_on_its_own_thread() {
    #[derive(Serialize, Deserialize)]
    struct Blocks(ActorHandle<Counter>);
    #[mobula_actors::actor(crate = mobula_actors, name = "test/blocks@1", messages(Go))]
    impl Actor for Blocks {
        type Context = Context<Self>;
    }
    messages! {
        Go() -> "Result<u64, ActorError>";
    }
    impl Handler<Go> for Blocks {
        type Result = Result<u64, ActorError>;
        fn handle(&mut self, Go(): Go, _: &mut Context<Self>) -> Self::Result {
            self.0.ask(Add(1))
        }
    }
    let node = Node::start(NodeConfig { cpus: Some(1), ..small() }).expect("a node");
    let actors = node.actors();
    let counter = counter(&actors);
    let same = actors.spawn(Blocks(counter.clone())).start().expect("it stands");
    let error = same.ask(Go()).expect("it answers").expect_err("one thread is shared").to_string();
    assert!(error.contains("ask without blocking"), "{error}");
    let own = actors.spawn(Blocks(counter.clone())).thread(Thread::Own).start().expect("it stands");
    assert!(matches!(own.ask(Go()), Ok(Ok(_))));
}

#[test]
fn a_thousand_small_actors_live_on_a_few_threads() {
    let node = Node::start(small()).expect("a node");
    let actors = node.actors();
    let all: Vec<_> = (0..1_000).map(|_| counter(&actors)).collect();
    let replies: Vec<_> = all.iter().map(|counter| counter.ask_later(Add(1)).expect("room")).collect();
    assert!(replies.into_iter().all(|reply| reply.wait() == Ok(1)));
    assert_eq!(actors.count(), 1_000);
    drop(all);
    until(|| actors.count() == 0);
}

/// A head that computes, whose one device an actor holds.
fn in_use() -> (TestCluster, Driver, ActorHandle<Counter>) {
    let cluster = TestCluster::start(true, NodeConfig { gpus: Some(1), ..small() });
    let driver = cluster.driver("driver");
    let holder = driver.actors().spawn(Counter::default()).gpus(1.0).start().expect("a device");
    (cluster, driver, holder)
}

#[test]
fn a_caller_with_any_number_of_actors_that_wait_for_a_device_is_still_heard() {
    let (_cluster, driver, holder) = in_use();
    let actors = driver.actors();
    let mut waiting: Vec<_> =
        (0..300).map(|_| Box::pin(actors.spawn(Counter::default()).gpus(1.0).start_async())).collect();
    assert!(waiting.iter_mut().all(|spawn| spawn.now_or_never().is_none()));
    driver.status().expect("heard");
    assert_eq!(actors.named::<Counter>("nobody").err(), Some(ActorError::NoSuchName("nobody".to_owned())));
    holder.stop().expect("heard");
    let first = futures::executor::block_on(futures::future::select_all(waiting)).0.expect("one has the device");
    assert_eq!(first.ask(Add(1)), Ok(1));
}

#[test]
fn an_actor_that_waits_for_a_device_gets_that_of_a_node_that_joins() {
    let (cluster, driver, _holder) = in_use();
    let actors = driver.actors();
    let mut waiting = Box::pin(actors.spawn(Counter::default()).gpus(1.0).start_async());
    assert!((&mut waiting).now_or_never().is_none());
    // The head answers this behind the other.
    driver.status().expect("heard");
    let _n1 = cluster.node("n1");
    let counter = futures::executor::block_on(waiting).expect("there is a device");
    assert_eq!(counter.ask(Add(1)), Ok(1));
}
