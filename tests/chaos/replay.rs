//! Rows that were given up are replayed by a process that is killed at random moments again and again.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rand::Rng;

use super::Chaos;
use super::check::{hidden, names, no_file_left, no_process_left, rows, verified};
use super::job::{Size, expected_of_all};
use super::local::{Bench, COMMIT_INTERVAL};
use super::processes::{Process, done, output};

/// Few rows, most of which are at fault: each is a split of its own in the replay.
const SIZE: Size = Size { files: 4, rows_a_file: 100, work: 20_000, batch: 64, workers: 2, interval: COMMIT_INTERVAL };
/// The function fails on ids that this divides.
const FAILS_ON: i64 = 2;
/// A replay of this size takes longer than this.
const MOMENT: Duration = Duration::from_millis(300);

fn command(bench: &Bench, out: &Path, more: &[&str]) -> Command {
    let mut command = bench.command(out);
    command.args(more);
    command
}

/// Kills a replay so often in all, over as many jobs as that takes.
pub(crate) fn replay(chaos: &mut Chaos) {
    let mut bench = Bench::new(SIZE);
    let (mut kills, mut jobs) = (0, 0);
    while kills < chaos.rounds {
        let out = bench.fresh();
        done(&output(command(&bench, &out, &["--fails-on", &FAILS_ON.to_string()])));
        loop {
            let mut job = Process::spawn(command(&bench, &out, &["--replay"]));
            if kills == chaos.rounds || job.ends_within(chaos.rng.random_range(Duration::ZERO..MOMENT)) {
                done(&job.end());
                break;
            }
            // Dropping it kills it.
            drop(job);
            kills += 1;
        }
        jobs += 1;
        check(&bench, &out);
    }
    no_process_left(bench.folder.path());
    println!("chaos: {jobs} replays, killed {kills} times");
}

/// All rows are there once, and what was given up is replayed.
fn check(bench: &Bench, out: &Path) {
    let visible: BTreeSet<String> = names(out).into_iter().filter(|name| !name.starts_with('_')).collect();
    rows(out, &visible, &expected_of_all(&bench.size)).expect("all rows");
    let said = verified(out).expect("sound");
    assert!(said.contains(" given up and replayed by job 1") && !said.contains("`mobula replay"), "{said}");
    let known = ["ledger", "lock", "manifest.json", "plan", "prepared"];
    assert_eq!(names(&hidden(out)), known, "{}", hidden(out).display());
    let again = output(command(bench, out, &["--replay"]));
    assert!(String::from_utf8_lossy(&again.stderr).contains("those of job 0 were replayed by job 1"), "{again:?}");
    fs::remove_dir_all(out).expect("a folder");
    no_file_left(&bench.temporary());
}
