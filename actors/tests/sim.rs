//! The whole cluster on one thread.

mod support;

#[path = "sim/process.rs"]
mod process;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/schedule.rs"]
mod schedule;
#[path = "sim/world.rs"]
mod world;

fn seeds() -> std::ops::Range<u64> {
    let from = std::env::var("MOBULA_SIM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("MOBULA_SIM_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    from..from + count
}

#[test]
fn seeds_are_green() {
    let mut bad = Vec::new();
    for seed in seeds() {
        let begin = std::time::Instant::now();
        let outcome = run::run(seed);
        let wrong = outcome.wrong.is_some();
        println!(
            "seed {seed} trace {:016x} {:?} real {:?} {:?}",
            outcome.trace,
            outcome.lasted,
            begin.elapsed(),
            outcome.wrong
        );
        if wrong || std::env::var_os("MOBULA_SIM_SEED").is_some() {
            println!("{}", outcome.story.join("\n"));
        }
        if wrong {
            bad.push(seed);
        }
    }
    assert!(bad.is_empty(), "{bad:?}");
}
