//! What does it cost to ask an actor, in this process and in another one?
//!
//! - `core.actors.local.rate`, `.p50`, `.p99`: asks of an actor of this process, by second with 128 under way from one
//!   thread, and the time of one alone.
//! - `core.actors.cross.rate`, `.p50`, `.p99`: the same from an actor of one node process to an actor of another.
//! - `core.actors.driver.p50`: one ask alone from a driver, by way of the head.
//! - `core.actors.pool.rate`, `core.actors.pool_cross.rate`: items by second that a pool of four hands out and takes back,
//!   whose workers do next to nothing.
//! - `core.actors.start_1000`: time to start a thousand small actors, each asked once.
//!
//! All processes are this program. `--asks N` asks more or fewer times.
#![allow(clippy::disallowed_methods, reason = "a bench takes real time")]
#![allow(clippy::print_stdout, reason = "a bench says what it found")]

#[path = "../examples/support/processes.rs"]
mod processes;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mobula::actix::{Actor, Context, Handler, Message};
use mobula::actor::{ActorError, ActorHandle, ActorPool, Thread};
use mobula::prelude::*;
use mobula_actors::operator::BoxError;
use serde::{Deserialize, Serialize};

use processes::Processes;

const ASKS: usize = 200_000;
const UNDER_WAY: usize = 128;
const ALONE: usize = 5_000;
const SMALL_ACTORS: usize = 1_000;

/// Answers with the same number.
#[derive(Serialize, Deserialize)]
struct Echo;

#[mobula::actor(name = "bench/echo@1", messages(Same))]
impl Actor for Echo {
    type Context = Context<Self>;
}

#[derive(Clone, Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Same(u64);

impl Handler<Same> for Echo {
    type Result = u64;

    fn handle(&mut self, Same(n): Same, _: &mut Context<Self>) -> u64 {
        n
    }
}

/// Measures from where it lives.
#[derive(Serialize, Deserialize)]
struct Asker(ActorHandle<Echo>);

#[mobula::actor(name = "bench/asker@1", messages(Measure))]
impl Actor for Asker {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Result<Figures, ActorError>")]
struct Measure {
    asks: usize,
}

impl Handler<Measure> for Asker {
    type Result = Result<Figures, ActorError>;

    fn handle(&mut self, Measure { asks }: Measure, _: &mut Context<Self>) -> Self::Result {
        measure(&self.0, asks)
    }
}

#[derive(Serialize, Deserialize)]
struct Figures {
    rate: f64,
    p50: Duration,
    p99: Duration,
}

fn measure(echo: &ActorHandle<Echo>, asks: usize) -> Result<Figures, ActorError> {
    let mut times = Vec::with_capacity(ALONE);
    for n in 0..ALONE {
        let from = Instant::now();
        echo.ask(Same(n as u64))?;
        times.push(from.elapsed());
    }
    times.sort_unstable();
    let from = Instant::now();
    let mut under_way = VecDeque::with_capacity(UNDER_WAY);
    for n in 0..asks {
        if under_way.len() == UNDER_WAY
            && let Some(oldest) = under_way.pop_front()
        {
            mobula::actor::Reply::wait(oldest)?;
        }
        under_way.push_back(echo.ask_later(Same(n as u64))?);
    }
    under_way.into_iter().try_for_each(|reply| reply.wait().map(drop))?;
    let rate = asks as f64 / from.elapsed().as_secs_f64();
    Ok(Figures { rate, p50: times[ALONE / 2], p99: times[ALONE / 100 * 99] })
}

fn pool(session: &Session, items: usize) -> Result<f64, BoxError> {
    let pool: ActorPool<Echo, Same> = session.spawn(Echo).thread(Thread::Own).pool(4).in_flight(64).start()?;
    // All four are up.
    pool.map_unordered((0..1_000).map(Same)).collect::<Result<Vec<_>, _>>()?;
    let from = Instant::now();
    let sum: u64 = pool.map_unordered((0..items as u64).map(Same)).sum::<Result<u64, _>>()?;
    let rate = items as f64 / from.elapsed().as_secs_f64();
    let expected = (items as u64) * (items as u64 - 1) / 2;
    if sum == expected { Ok(rate) } else { Err(format!("the sum is {sum} and not {expected}").into()) }
}

fn start_many(session: &Session) -> Result<Duration, BoxError> {
    let from = Instant::now();
    let mut all = Vec::with_capacity(SMALL_ACTORS);
    for n in 0..SMALL_ACTORS {
        let echo = session.spawn(Echo).start()?;
        echo.ask(Same(n as u64))?;
        all.push(echo);
    }
    Ok(from.elapsed())
}

fn print(name: &str, figures: &Figures) {
    println!("figure core.actors.{name}.rate {:.0} asks/s", figures.rate);
    println!("figure core.actors.{name}.p50 {:.1} us", micros(figures.p50));
    println!("figure core.actors.{name}.p99 {:.1} us", micros(figures.p99));
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn main() -> Result<(), BoxError> {
    processes::serve_if_asked().map_err(|error| error.to_string())?;
    let asks = match std::env::args().skip_while(|arg| arg != "--asks").nth(1) {
        Some(text) => text.parse()?,
        None => ASKS,
    };
    let local = Session::local()?;
    let echo = local.spawn(Echo).thread(Thread::Own).start()?;
    print("local", &measure(&echo, asks)?);
    println!("figure core.actors.pool.rate {:.0} items/s", pool(&local, asks / 4)?);
    println!("figure core.actors.start_1000 {:.1} ms", start_many(&local)?.as_secs_f64() * 1e3);

    let processes = Processes::start(&["", ""]).map_err(|error| error.to_string())?;
    let session = processes.connect()?;
    let echo = session.spawn(Echo).on("node-2").thread(Thread::Own).start()?;
    let asker = session.spawn(Asker(echo.clone())).on("node-1").thread(Thread::Own).start()?;
    print("cross", &asker.within(Duration::from_secs(600)).ask(Measure { asks })??);
    println!("figure core.actors.driver.p50 {:.1} us", micros(measure(&echo, UNDER_WAY)?.p50));
    println!("figure core.actors.pool_cross.rate {:.0} items/s", pool(&session, asks / 16)?);
    println!("figure core.actors.start_1000_cross {:.1} ms", start_many(&session)?.as_secs_f64() * 1e3);
    Ok(())
}
