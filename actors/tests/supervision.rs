//! Supervision: what dies comes back within its budget, and fails upwards beyond it.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Context, Handler, Message};
use arrow::record_batch::RecordBatch;
use mobula_actors::job::{JobError, Topology};
use mobula_actors::node::Node;
use mobula_actors::operator::actor::{ActorOperator, Process};
use mobula_actors::operator::{BoxError, IntoOperator, OperatorResult, local};
use mobula_actors::runtime::{ActorSystem, AskError, Carried, Port, PortLimits, RestartBudget};
use mobula_actors::units::Bytes;
use support::*;

const LONG: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Counter {
    incarnation: u64,
    count: u32,
}

#[derive(Message)]
#[rtype(result = "(u64, u32)")]
struct Add(u32);

#[derive(Message)]
#[rtype(result = "()")]
struct Crash;

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Add> for Counter {
    type Result = actix::MessageResult<Add>;

    fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> Self::Result {
        self.count += n;
        actix::MessageResult((self.incarnation, self.count))
    }
}

impl Handler<Crash> for Counter {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Context<Self>) {
        panic!("told to crash");
    }
}

fn counter(system: &ActorSystem, restarts: u32) -> mobula_actors::runtime::Supervised<Counter> {
    let budget = RestartBudget::new(restarts, LONG);
    system.spawn("counter", budget, |incarnation| Counter { incarnation, count: 0 }).expect("a thread")
}

#[test]
fn an_actor_that_panics_comes_back_fresh() {
    let system = ActorSystem::start().expect("threads");
    let counter = counter(&system, 3);
    assert_eq!(counter.ask(Add(2), LONG).expect("alive"), (0, 2));
    assert_eq!(counter.ask(Add(2), LONG).expect("alive"), (0, 4));
    assert!(matches!(counter.ask(Crash, LONG), Err(AskError::Died(_))));
    assert_eq!(counter.ask(Add(1), LONG).expect("back"), (1, 1));
}

#[test]
fn an_actor_that_keeps_dying_ends_for_good_and_its_callers_learn_why() {
    let system = ActorSystem::start().expect("threads");
    let counter = counter(&system, 2);
    for _ in 0..3 {
        assert!(matches!(counter.ask(Crash, LONG), Err(AskError::Died(_))));
    }
    let error = counter.ask(Add(1), LONG).expect_err("its budget is spent");
    assert_eq!(error.to_string(), "actor \"counter\" has ended: it panicked");
}

#[test]
fn a_stopped_actor_is_not_restarted() {
    let system = ActorSystem::start().expect("threads");
    let counter = counter(&system, 3);
    counter.ask(Add(1), LONG).expect("alive");
    counter.stop();
    let ended = loop {
        match counter.ask(Add(1), LONG) {
            Ok(_) | Err(AskError::Died(_)) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, AskError::Ended { .. }), "{ended}");
}

/// Keeps what it gets until it is told to let go.
#[derive(Default)]
struct Hoarder(Vec<Carried<u32>>);

#[derive(Message)]
#[rtype(result = "usize")]
struct LetGo;

impl Actor for Hoarder {
    type Context = Context<Self>;
}

impl Handler<Carried<u32>> for Hoarder {
    type Result = ();

    fn handle(&mut self, carried: Carried<u32>, _: &mut Context<Self>) {
        self.0.push(carried);
    }
}

impl Handler<LetGo> for Hoarder {
    type Result = usize;

    fn handle(&mut self, _: LetGo, _: &mut Context<Self>) -> usize {
        self.0.drain(..).count()
    }
}

#[test]
fn a_port_admits_what_it_has_room_for_whoever_sends() {
    let system = ActorSystem::start().expect("threads");
    let hoarder = system.spawn("hoarder", RestartBudget::none(), |_| Hoarder::default()).expect("a thread");
    let limits = PortLimits { bytes: Bytes(100), messages: 3 };
    let port = Port::new(hoarder.address().expect("alive").recipient(), limits);
    let admitted = (0..10).filter(|n| {
        let room = port.clone().try_reserve(Bytes(20));
        room.is_some_and(|room| port.clone().push(*n, room).is_ok())
    });
    assert_eq!(admitted.count(), 3);
    assert_eq!(hoarder.ask(LetGo, LONG).expect("alive"), 3);
    // One larger than the whole port goes alone.
    let room = port.try_reserve(Bytes(1000)).expect("the port is empty");
    assert!(port.try_reserve(Bytes(1)).is_none());
    drop(room);
    assert!(port.try_reserve(Bytes(1)).is_some());
}

/// An actor as operator that panics once, and counts for whoever asks.
struct Doubler {
    seen: Arc<AtomicU32>,
    panics: Arc<AtomicU32>,
}

impl Actor for Doubler {
    type Context = Context<Self>;
}

impl Handler<Process> for Doubler {
    type Result = OperatorResult<Vec<RecordBatch>>;

    fn handle(&mut self, Process { batch }: Process, _: &mut Context<Self>) -> Self::Result {
        let rows = self.seen.fetch_add(batch.num_rows() as u32, Ordering::Relaxed);
        let late = rows >= 3000;
        let panics =
            late && self.panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        assert!(!panics, "told to panic");
        Ok(vec![numbers(values(&batch).into_iter().map(|n| n * 2))])
    }
}

#[test]
fn an_actor_as_operator_that_panics_is_replaced_and_no_row_is_lost_or_doubled() {
    let (seen, panics) = (Arc::<AtomicU32>::default(), Arc::new(AtomicU32::new(2)));
    let doubler = ActorOperator::new(move |_| Doubler { seen: Arc::clone(&seen), panics: Arc::clone(&panics) });
    let operators = vec![read(20_000, 3, vec![]), map("doubler", 0, doubler.clone().into_operator())];
    let (all, summary) = run(small(), operators).expect("it comes back");
    assert_eq!(all, (0..20_000).map(|n| n * 2).collect::<Vec<_>>());
    assert_eq!(summary.operators[1].retries, 2);
}

#[test]
fn a_job_is_cancelled_in_time_although_user_code_does_not_return() {
    let (entered, in_call) = mpsc::channel();
    let (leave, wait) = mpsc::channel::<()>();
    let (entered, wait) = (Mutex::new(entered), Arc::new(Mutex::new(wait)));
    let (entered, hung) = (Arc::new(entered), Arc::clone(&wait));
    let hang = local(move |batch: RecordBatch| {
        entered.lock().expect("no panic").send(()).expect("the test waits");
        // Until the test lets go of it.
        let _ = hung.lock().expect("no panic").recv();
        Ok::<_, BoxError>(batch)
    });
    let node = Node::start(small()).expect("a node");
    let topology = Topology {
        operators: vec![read(1000, 1, vec![]), map("hang", 0, hang.into_operator())],
        ..Topology::default()
    };
    let mut job = node.submit(topology).expect("it starts");
    in_call.recv().expect("a worker is in the call");
    job.watch().cancel();
    assert!(matches!(job.next_block(), Err(JobError::Cancelled)));
    // The thread is left behind, and the node goes on with others.
    assert_eq!(run_on(&node, vec![read(1000, 1, vec![]), map("id", 0, each(|n| n))]).expect("it runs").0.len(), 1000);
    drop(leave);
}
