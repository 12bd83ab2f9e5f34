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

const SCENARIOS: [Scenario; 7] = [
    ("process", local::process),
    ("node", cluster::node),
    ("driver", cluster::driver),
    ("head", cluster::head),
    ("everything", cluster::everything),
    ("syscalls", sweep::syscalls),
    ("power", power::power),
];

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
    for (name, scenario) in SCENARIOS {
        if filter.as_ref().is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let start = processes::now();
        // Each begins with the seed, so that one that fails can be run alone.
        scenario(&mut Chaos { rng: SmallRng::seed_from_u64(seed), rounds });
        println!("chaos: {name} done in {:.1} s", start.elapsed().as_secs_f64());
    }
    ExitCode::SUCCESS
}
