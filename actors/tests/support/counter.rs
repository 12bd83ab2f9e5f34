//! An actor that counts, on request badly, and where it is tried.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix::prelude::*;
use mobula_actors::actor::{ActorError, ActorHandle, Actors, Snapshot};
use mobula_actors::node::Node;
use serde::{Deserialize, Serialize};

use super::cluster::{TestCluster, until};
use super::{Gate, small};

/// Counts, on request badly.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) count: u64,
    pub(crate) log: Vec<u64>,
}

#[mobula_actors::actor(
    crate = mobula_actors, name = "test/counter@1", snapshot,
    messages(Add, Panic, PanicLater, Wait, WaitLater, Large, Log, AddTo, AddMany, Stop)
)]
impl Actor for Counter {
    type Context = Context<Self>;
}

impl Snapshot for Counter {
    fn snapshot(&self) -> Self {
        Self { count: self.count, log: Vec::new() }
    }
}

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident($($field:ty),*) -> $result:literal;)*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, actix::Message, serde::Serialize, serde::Deserialize)]
            #[rtype(result = $result)]
            pub(crate) struct $name($(pub(crate) $field),*);
        )*
    };
}
#[allow(unused_imports, reason = "each test uses its part")]
pub(crate) use messages;

messages! {
    Add(u64) -> "u64";
    Panic() -> "u64";
    PanicLater() -> "u64";
    /// Block for the gate of this number.
    Wait(usize) -> "u64";
    /// Wait for the gate of this number, without blocking.
    WaitLater(usize) -> "u64";
    Large() -> "Vec<u8>";
    Log() -> "Vec<u64>";
    /// Add to another counter.
    AddTo(ActorHandle<Counter>, u64) -> "Result<u64, ActorError>";
    /// Add this many times one to another counter, and wait for each.
    AddMany(ActorHandle<Counter>, u64) -> "Result<u64, ActorError>";
    Stop() -> "()";
}

impl Handler<Add> for Counter {
    type Result = u64;
    fn handle(&mut self, Add(more): Add, _: &mut Context<Self>) -> u64 {
        self.count += more;
        self.log.push(more);
        self.count
    }
}

impl Handler<Panic> for Counter {
    type Result = u64;
    fn handle(&mut self, Panic(): Panic, _: &mut Context<Self>) -> u64 {
        panic!("a bug in the counter")
    }
}

impl Handler<PanicLater> for Counter {
    type Result = ResponseActFuture<Self, u64>;
    fn handle(&mut self, PanicLater(): PanicLater, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async {}.into_actor(self).map(|(), _, _| panic!("a bug in a future")))
    }
}

impl Handler<Wait> for Counter {
    type Result = u64;
    fn handle(&mut self, Wait(gate): Wait, _: &mut Context<Self>) -> u64 {
        GATES[gate].wait();
        self.count
    }
}

impl Handler<WaitLater> for Counter {
    type Result = ResponseActFuture<Self, u64>;
    fn handle(&mut self, WaitLater(number): WaitLater, _: &mut Context<Self>) -> Self::Result {
        self.count += 1;
        let opened = async move {
            while !LATER[number].load(std::sync::atomic::Ordering::Relaxed) {
                actix::clock::sleep(Duration::from_millis(1)).await;
            }
        };
        Box::pin(opened.into_actor(self).map(|(), this, _| this.count))
    }
}

impl Handler<Large> for Counter {
    type Result = Vec<u8>;
    fn handle(&mut self, Large(): Large, _: &mut Context<Self>) -> Vec<u8> {
        vec![0; 8 << 20]
    }
}

impl Handler<Log> for Counter {
    type Result = Vec<u64>;
    fn handle(&mut self, Log(): Log, _: &mut Context<Self>) -> Vec<u64> {
        self.log.clone()
    }
}

impl Handler<AddTo> for Counter {
    type Result = ResponseFuture<Result<u64, ActorError>>;
    fn handle(&mut self, AddTo(other, more): AddTo, _: &mut Context<Self>) -> Self::Result {
        Box::pin(other.ask_async(Add(more)))
    }
}

impl Handler<AddMany> for Counter {
    type Result = Result<u64, ActorError>;
    fn handle(&mut self, AddMany(other, times): AddMany, _: &mut Context<Self>) -> Self::Result {
        (0..times).try_fold(0, |_, _| other.ask(Add(1)))
    }
}

impl Handler<Stop> for Counter {
    type Result = ();
    fn handle(&mut self, Stop(): Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

pub(crate) static GATES: [Gate; 4] = [const { Gate::new() }; 4];
pub(crate) static LATER: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

pub(crate) fn counter(actors: &Actors) -> ActorHandle<Counter> {
    actors.spawn(Counter::default()).start().expect("it stands")
}

/// A session of one process, and a cluster with a node: what is done must come out the same.
pub(crate) fn everywhere(check: impl Fn(&Actors, &str)) {
    let node = Node::start(small()).expect("a node");
    check(&node.actors(), "local");
    let cluster = TestCluster::start(true, small());
    let (_n1, driver) = (cluster.node("n1"), cluster.driver("driver"));
    for name in ["n1", "head"] {
        check(&driver.actors(), name);
    }
    until(|| cluster.head.actors().count() == 0);
}
