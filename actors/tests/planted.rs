//! What the simulation is worth: each bug that is planted on purpose is found by some seed, and none is without them.
//! Needs the feature `plant`.

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

use mobula_actors::plant::{Bug, plant};

/// A bug that so many seeds do not find is not found.
const SEEDS: u64 = 60;

fn finds() -> Option<(u64, String)> {
    // Each on a thread of its own, as always.
    let run = |seed| std::thread::scope(|scope| scope.spawn(|| run::run(seed)).join()).expect("it runs");
    (1..=SEEDS).find_map(|seed| run(seed).wrong.map(|wrong| (seed, wrong)))
}

#[test]
fn each_planted_bug_is_found() {
    for bug in [Bug::RequeueUnfenced, Bug::LeakPermit] {
        plant(Some(bug));
        let found = finds();
        plant(None);
        plant(None);
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{bug:?} is not found by {SEEDS} seeds"));
        println!("{bug:?} is found by seed {seed}: {wrong}");
        let clean = std::thread::scope(|scope| scope.spawn(|| run::run(seed)).join()).expect("it runs");
        assert_eq!(clean.wrong, None, "without the bug seed {seed} is green");
    }
}
