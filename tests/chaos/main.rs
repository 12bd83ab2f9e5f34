//! Processes are killed, disks lose power, and the output is what a loop gives all the same.
//!
//! `cargo test --test chaos` runs a short form of all scenarios, `cargo test --test chaos -- head` those whose names have
//! that word. `MOBULA_CHAOS_ROUNDS=20` is the long form, `MOBULA_CHAOS_SEED` repeats a run. The job, its head and its nodes
//! are this very program.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]
#![allow(clippy::print_stdout, reason = "seeds, rounds and what was skipped are printed")]

mod check;
mod cluster;
mod job;
mod local;
mod power;
#[path = "../cluster/processes.rs"]
#[allow(dead_code, reason = "not every test needs all")]
mod processes;
mod replay;
mod sweep;
mod traced;

use std::process::ExitCode;

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// What a scenario is given.
struct Chaos {
    rng: SmallRng,
    /// How often each thing is killed.
    rounds: usize,
}

impl Chaos {
    /// Whether each point of the commit path is tried, not a sample.
    fn is_long(&self) -> bool {
        self.rounds >= LONG
    }
}

/// What happens, by name.
type Scenario = (&'static str, fn(&mut Chaos));

const SCENARIOS: [Scenario; 9] = [
    ("process", local::process),
    ("batches", local::batches),
    ("replay", replay::replay),
    ("node", cluster::node),
    ("driver", cluster::driver),
    ("head", cluster::head),
    ("everything", cluster::everything),
    ("syscalls", sweep::syscalls),
    ("power", power::power),
];

/// Scenarios of the short form that run one after the other, beside those of other lanes.
const LANES: [&[&str]; 3] = [&["node", "everything"], &["head", "driver"], &["process", "batches", "replay"]];
/// Rounds of the short form, which is part of all tests.
const SHORT: usize = 1;
/// Rounds from which on everything is tried.
const LONG: usize = 20;

fn main() -> ExitCode {
    if std::env::var_os(processes::CHILD).is_some() {
        return job::main();
    }
    if !cfg!(target_os = "linux") {
        println!("skipped: chaos needs Linux");
        return ExitCode::SUCCESS;
    }
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("MOBULA_CHAOS_SEED").unwrap_or_else(|| rand::random::<u64>() % 1_000_000);
    let rounds = number("MOBULA_CHAOS_ROUNDS").map_or(SHORT, |rounds| rounds as usize);
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    println!("chaos: seed {seed}, {rounds} rounds");
    let chosen = SCENARIOS.into_iter().filter(|(name, _)| filter.as_ref().is_none_or(|filter| name.contains(filter)));
    let run = |(name, scenario): Scenario| {
        let start = processes::now();
        // Each begins with the seed, so that one that fails can be run alone.
        scenario(&mut Chaos { rng: SmallRng::seed_from_u64(seed), rounds });
        println!("chaos: {name} done in {:.1} s", start.elapsed().as_secs_f64());
    };
    if rounds > SHORT {
        chosen.for_each(run);
        return ExitCode::SUCCESS;
    }
    // The short form is a part of all tests, and whoever waits for them waits for it. Clusters mostly wait for time to pass;
    // each scenario has folders and ports of its own. Those that count calls come after, alone: which thread makes which call
    // is then the same more often.
    let chosen: Vec<Scenario> = chosen.collect();
    let of = |lane: &[&str]| chosen.iter().copied().filter(|(name, _)| lane.contains(name)).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for lane in LANES.map(of) {
            scope.spawn(move || lane.into_iter().for_each(run));
        }
    });
    chosen.iter().copied().filter(|(name, _)| !LANES.iter().any(|lane| lane.contains(name))).for_each(run);
    ExitCode::SUCCESS
}
