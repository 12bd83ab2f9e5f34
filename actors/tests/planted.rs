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
const SEEDS: u64 = 150;

/// The first seed that finds what is planted; two at a time, each on a thread of its own.
fn finds() -> Option<(u64, String)> {
    let run = |seed| run::run(seed).wrong.map(|wrong| (seed, wrong));
    (1..=SEEDS / 2).find_map(|pair| {
        std::thread::scope(|scope| {
            let both = [2 * pair - 1, 2 * pair].map(|seed| scope.spawn(move || run(seed)));
            both.into_iter().find_map(|one| one.join().expect("it runs"))
        })
    })
}

#[test]
fn each_planted_bug_is_found() {
    let mut missed = Vec::new();
    let bugs = [Bug::SkipFsync, Bug::SkipIncarnation, Bug::AcknowledgeFirst, Bug::RequeueUnfenced, Bug::LeakPermit];
    for bug in bugs {
        plant(Some(bug));
        let found = finds();
        plant(None);
        let Some((seed, wrong)) = found else {
            missed.push(bug);
            continue;
        };
        println!("{bug:?} is found by seed {seed}: {wrong}");
        let clean = std::thread::scope(|scope| scope.spawn(|| run::run(seed)).join()).expect("it runs");
        assert_eq!(clean.wrong, None, "without the bug seed {seed} is green");
    }
    assert!(missed.is_empty(), "{missed:?} are not found by {SEEDS} seeds");
}
