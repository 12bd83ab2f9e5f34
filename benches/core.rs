//! What do tasks and stored values cost: tasks per second, the round trip of one, put and get, a million in the queue?
//!
//! First in this process, then on a head and two nodes of one core each. All processes are this program.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::print_stderr, clippy::disallowed_methods, reason = "a bench takes real time and watches itself")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes as Data;
use mobula::prelude::*;
use mobula_actors::operator::BoxError;
use processes::Processes;

#[path = "../examples/support/processes.rs"]
mod processes;
#[path = "support/rss.rs"]
#[allow(dead_code)]
mod rss;

const ROUNDS: usize = 5;

#[mobula::remote]
fn nothing() -> Result<()> {
    Ok(())
}

#[mobula::remote]
fn length(data: &Data) -> Result<u64> {
    Ok(data.len() as u64)
}

fn timed<R>(work: impl FnOnce() -> Result<R>) -> Result<(Duration, R)> {
    let start = Instant::now();
    let result = work()?;
    Ok((start.elapsed(), result))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

/// Submits so many tasks that do nothing and waits for all.
fn run_nothing(session: &Session, tasks: usize) -> Result<()> {
    let results = (0..tasks).map(|_| session.submit(nothing::task())).collect::<Result<Vec<_>>>()?;
    session.get_all(&results).map(drop)
}

/// No-op tasks per second with so many submitters.
fn rate(session: &Session, submitters: usize, tasks: usize) -> Result<f64> {
    let each = tasks / submitters;
    let (time, ()) = timed(|| {
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..submitters).map(|_| scope.spawn(|| run_nothing(session, each))).collect();
            all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Ok(())))
        })
    })?;
    Ok((each * submitters) as f64 / time.as_secs_f64())
}

fn rates(name: &str, session: &Session, tasks: usize) -> Result<()> {
    run_nothing(session, 10_000)?;
    for submitters in [1, 8] {
        let rates = (0..ROUNDS).map(|_| rate(session, submitters, tasks)).collect::<Result<Vec<_>>>()?;
        println!("figure core.tasks.{name}.rate.{submitters} {:.0} tasks/s", median(rates));
    }
    Ok(())
}

fn round_trips(name: &str, session: &Session, trips: usize) -> Result<()> {
    let one = |_| Ok(timed(|| session.get(&session.submit(nothing::task())?))?.0.as_secs_f64() * 1e6);
    let mut times = (0..trips).map(one).collect::<Result<Vec<_>>>()?;
    println!("figure core.tasks.{name}.round_trip.p50 {:.1} us", percentile(&mut times, 50));
    println!("figure core.tasks.{name}.round_trip.p99 {:.1} us", percentile(&mut times, 99));
    Ok(())
}

fn values(name: &str, session: &Session) -> Result<()> {
    let large = Data::from(vec![7u8; 100 << 20]);
    let put = |data: &Data| session.get(&session.put(data.clone())?);
    let rates = (0..ROUNDS).map(|_| Ok(1.0 / timed(|| put(&large))?.0.as_secs_f64())).collect::<Result<Vec<_>>>()?;
    println!("figure core.values.{name}.100MB {:.1} values/s", median(rates));
    let small = Data::from(vec![7u8; 1000]);
    let many = 20_000;
    let rates = (0..ROUNDS).map(|_| {
        let (time, ()) = timed(|| (0..many).try_for_each(|_| put(&small).map(drop)))?;
        Ok(f64::from(many) / time.as_secs_f64())
    });
    println!("figure core.values.{name}.1kB {:.0} values/s", median(rates.collect::<Result<Vec<_>>>()?));
    let shared = session.put(large)?;
    let tasks = 10_000;
    let rates = (0..ROUNDS).map(|_| {
        let (time, lengths) = timed(|| {
            let results = (0..tasks).map(|_| session.submit(length::task(&shared))).collect::<Result<Vec<_>>>()?;
            session.get_all(&results)
        })?;
        assert!(lengths.iter().all(|length| **length == 100 << 20));
        Ok(f64::from(tasks) / time.as_secs_f64())
    });
    println!("figure core.tasks.{name}.one_100MB_argument {:.0} tasks/s", median(rates.collect::<Result<Vec<_>>>()?));
    Ok(())
}

/// A million tasks in the queue: how long until all have ended, and the memory of each while they wait.
fn million(session: &Session) -> Result<()> {
    const TASKS: usize = 1_000_000;
    let holds = (0..session.cpus()).map(|_| session.submit(hold::task())).collect::<Result<Vec<_>>>()?;
    let before = rss::now();
    let (time, ()) = timed(|| {
        let results = (0..TASKS).map(|_| session.submit(nothing::task())).collect::<Result<Vec<_>>>()?;
        let queued = rss::now().saturating_sub(before);
        println!("figure core.tasks.queued.bytes {:.0} B/task", queued as f64 / TASKS as f64);
        GO.store(true, Ordering::Relaxed);
        session.get_all(&results).map(drop)
    })?;
    println!("figure core.tasks.queued.1M {:.2} s", time.as_secs_f64());
    session.get_all(&holds).map(drop)
}

static GO: AtomicBool = AtomicBool::new(false);

/// Keeps a core until it may go.
#[mobula::remote]
fn hold() -> Result<()> {
    while !GO.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    Ok(())
}

fn main() -> Result<(), BoxError> {
    processes::serve_if_asked().map_err(|error| error.to_string())?;
    let session = Session::local()?;
    rates("local", &session, 300_000)?;
    round_trips("local", &session, 20_000)?;
    values("local", &session)?;
    million(&session)?;
    drop(session);
    // A head, two nodes and this driver, each a process.
    let cluster = Processes::start(&["cpus=1", "cpus=1"]).map_err(|error| error.to_string())?;
    let session = cluster.connect()?;
    rates("cluster", &session, 100_000)?;
    round_trips("cluster", &session, 5_000)?;
    values("cluster", &session)?;
    Ok(())
}
