//! Whole clusters on one thread, on paused time, by seeds: head, nodes and driver are killed, cut off, slowed down and
//! started again, and the rows must be those of an undisturbed run.
//!
//! `MOBULA_SIM_SEEDS` says how many seeds (20 by default; CI runs 1,000), `MOBULA_SIM_SEED` which one to run alone, with
//! its story. Seeds that failed once are kept in `tests/sim/seeds.txt` and run first. See docs/internals/simulation.md.

mod support;

#[path = "sim/jobs.rs"]
mod jobs;
#[path = "sim/process.rs"]
mod process;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/schedule.rs"]
mod schedule;
#[path = "sim/world.rs"]
mod world;
#[path = "sim/writes.rs"]
mod writes;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use run::{Outcome, run};

/// Seeds without an order for more: well below a minute.
const SEEDS: u64 = 20;
/// Where failed seeds are kept: one on a line, with a word on what was wrong.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/seeds.txt");

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Those kept, and then as many as are asked for.
fn seeds() -> Vec<u64> {
    if let Some(alone) = number("MOBULA_SIM_SEED") {
        return vec![alone];
    }
    let kept = std::fs::read_to_string(KEPT).unwrap_or_default();
    let kept = kept.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_whitespace().next());
    let mut all: Vec<u64> = kept.map(|seed| seed.parse().expect("a seed on each line")).collect();
    let count = number("MOBULA_SIM_SEEDS").unwrap_or(SEEDS);
    let more: Vec<_> = (1..=count).filter(|seed| !all.contains(seed)).collect();
    all.extend(more);
    all
}

/// Keeps a seed for the next time.
#[allow(clippy::print_stdout, reason = "whoever looks at a failed seed needs to know that it is not kept")]
fn keep(seed: u64, wrong: &str) {
    let wrong = wrong.lines().next().unwrap_or_default();
    let line = std::fs::OpenOptions::new().append(true).create(true).open(KEPT);
    if let Err(error) = line.and_then(|mut file| writeln!(file, "{seed} {wrong}")) {
        println!("cannot keep seed {seed} in {KEPT}: {error}");
    }
}

/// Runs seeds on all cores, each by itself on a thread of its own.
fn run_all(seeds: &[u64]) -> Vec<(u64, Outcome)> {
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = std::thread::scope(|scope| scope.spawn(|| run(*seed)).join());
            let outcome = outcome.unwrap_or_else(|_| Outcome::broken("the simulation itself panicked"));
            outcomes.lock().expect("not poisoned").push((*seed, outcome));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    outcomes.into_inner().expect("not poisoned")
}

#[test]
fn rows_are_exact_whatever_is_killed_cut_off_or_slowed_down() {
    let seeds = seeds();
    let outcomes = run_all(&seeds);
    let mut failed = BTreeSet::new();
    for (seed, outcome) in &outcomes {
        if number("MOBULA_SIM_SEED").is_some() {
            println!("seed {seed}, trace {:016x}\n{}", outcome.trace, outcome.story.join("\n"));
        }
        let Some(wrong) = &outcome.wrong else { continue };
        println!("seed {seed} fails: {wrong}");
        println!("  alone: MOBULA_SIM_SEED={seed} cargo test -p mobula-actors --test sim -- --nocapture");
        keep(*seed, wrong);
        failed.insert(*seed);
    }
    let jobs: u32 = outcomes.iter().map(|(_, outcome)| outcome.jobs).sum();
    let faults: usize = outcomes.iter().map(|(_, outcome)| outcome.faults).sum();
    println!("{} seeds, {jobs} jobs, {faults} faults", outcomes.len());
    assert!(failed.is_empty(), "seeds {failed:?} fail");
    assert!(seeds.len() < 20 || faults > seeds.len(), "hardly anything went wrong, so nothing was shown");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let seeds: Vec<u64> = (1..=4).chain(1..=4).collect();
    let outcomes = run_all(&seeds);
    for seed in 1..=4 {
        let both: Vec<_> = outcomes.iter().filter(|(of, _)| *of == seed).map(|(_, outcome)| outcome).collect();
        assert_eq!(both[0], both[1], "seed {seed}");
    }
}
