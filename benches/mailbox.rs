//! What does a message through a port cost? Messages per second and the round trip, with sender and receiver on the
//! same thread and on two threads.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler};
use mobula_actors::operator::BoxError;
use mobula_actors::runtime::{ActorSystem, Carried, Port, PortLimits, RestartBudget};
use mobula_actors::units::Bytes;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Messages in the port at most: what an edge of a job holds, roughly.
const IN_FLIGHT: usize = 256;
const MESSAGES: u64 = 400_000;
const ROUND_TRIPS: usize = 20_000;
const ROUNDS: usize = 7;

/// Counts what it gets; answers what wants an answer.
#[derive(Default)]
struct Counter(u64);

enum Note {
    Count,
    Answer(SyncSender<u64>),
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Carried<Note>> for Counter {
    type Result = ();

    fn handle(&mut self, Carried { body, room }: Carried<Note>, _: &mut Context<Self>) {
        self.0 += 1;
        drop(room);
        if let Note::Answer(asker) = body {
            // The asker waits for it and cannot be gone.
            let _ = asker.send(self.0);
        }
    }
}

// A bench reads the clock; the engine takes it from its `Env`.
#[allow(clippy::disallowed_methods)]
fn timed(work: impl FnOnce() -> Result<(), BoxError>) -> Result<Duration, BoxError> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn limits() -> PortLimits {
    PortLimits { bytes: Bytes::mib(64), messages: IN_FLIGHT }
}

async fn flood(port: &Port<Note>) -> Result<(), BoxError> {
    for _ in 0..MESSAGES {
        port.send(Note::Count, Bytes(1)).await.map_err(|_| "the receiver is gone")?;
    }
    ask(port).await
}

/// Sends a note that wants an answer; it comes behind all others.
async fn ask(port: &Port<Note>) -> Result<(), BoxError> {
    let (tx, rx) = sync_channel(1);
    port.send(Note::Answer(tx), Bytes(1)).await.map_err(|_| "the receiver is gone")?;
    while rx.try_recv().is_err() {
        // On one thread the receiver runs while the sender yields; on two the sender spins for the shortest time.
        give_way().await;
    }
    Ok(())
}

/// Gives the thread to others once.
async fn give_way() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<(), BoxError> {
    let rate = |time: Duration| MESSAGES as f64 / time.as_secs_f64();
    let same = actix_rt::System::new();
    let port = same.block_on(async { Port::new(Counter::default().start().recipient(), limits()) });
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(rate(timed(|| same.block_on(flood(&port)))?));
    }
    println!("figure mailbox.same.rate {:.0} messages/s", median(rates));

    let system = ActorSystem::start()?;
    let counter = system.spawn("counter", RestartBudget::none(), |_| Counter::default())?;
    let port = Port::new(counter.address()?.recipient(), limits());
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(rate(timed(|| futures::executor::block_on(flood(&port)))?));
    }
    println!("figure mailbox.cross.rate {:.0} messages/s", median(rates));

    let mut trips = Vec::new();
    for _ in 0..ROUNDS {
        let time = timed(|| (0..ROUND_TRIPS).try_for_each(|_| round_trip(&port)))?;
        trips.push(time.as_secs_f64() * 1e6 / ROUND_TRIPS as f64);
    }
    println!("figure mailbox.cross.round_trip {:.2} us", median(trips));
    Ok(())
}

/// A message to the other thread and its answer, both threads asleep in between.
fn round_trip(port: &Port<Note>) -> Result<(), BoxError> {
    let (tx, rx) = sync_channel(1);
    futures::executor::block_on(port.send(Note::Answer(tx), Bytes(1))).map_err(|_| "the receiver is gone")?;
    rx.recv()?;
    Ok(())
}
