//! A job loses power at each change of the disk, another one gives it up and loses power too: nothing is doubled, nothing
//! is left, and what was to be replaced is there until it is.

use super::sim_tests::{DROPPED, Job, OUT, World};
use super::*;

/// Of the changes at which the second job may lose power, one of so many is tried.
const STEP: usize = 29;

fn job(options: WriteOptions, splits: u32) -> Job {
    Job { format: Format::Json, options, splits, rows: 15, limit: None }
}

fn kept(splits: i64) -> Vec<i64> {
    (0..splits * 15).filter(|row| row % DROPPED != 0).collect()
}

fn files_seen(world: &World) -> Vec<PathBuf> {
    world.disk.files().into_iter().filter(|path| path.parent() == Some(Path::new(OUT))).collect()
}

fn rows_seen(world: &World) -> Vec<i64> {
    let mut rows: Vec<i64> = files_seen(world).iter().flat_map(|path| world.rows_of(path)).collect();
    rows.sort_unstable();
    rows
}

/// What verify finds wrong, and names that no job knows.
fn wrong(world: &World) -> Vec<String> {
    let (jobs, strangers) = verify::look(&world.disk, Path::new(OUT), true).unwrap();
    jobs.into_iter().flat_map(|job| job.wrong).chain(strangers).collect()
}

/// Jobs that have finished. One that lost power with its last step may have, whatever it said.
fn ended(world: &World) -> usize {
    let jobs = verify::look(&world.disk, Path::new(OUT), false).map(|(jobs, _)| jobs).unwrap_or_default();
    jobs.iter().filter(|job| job.finished).count()
}

impl World {
    /// Runs another command, which may lose power; tells whether it came to its end.
    fn command(&mut self, job: Job, power: Option<usize>) -> bool {
        let before = ended(self);
        self.job = job;
        self.finished.clear();
        if let Some(changes) = power {
            self.disk.power_off_after(changes as u64);
        }
        let said = self.run();
        self.heal();
        self.story.push(format!("{:?}: {said:?}", self.job.options));
        ended(self) > before
    }
}

/// What gives the first job up.
fn other(options: &WriteOptions) -> WriteOptions {
    options.clone().named("other").restart(true)
}

/// A job loses power at the first number, one that gives it up at the second. Tells whether they came to their end.
fn check_one(options: &WriteOptions, with_old: bool, lost: (usize, usize), expected: &[i64]) -> [bool; 2] {
    let old = || job(WriteOptions::default().named("old"), 1);
    let mut world = World::new(3, old());
    assert!(!with_old || world.command(old(), None));
    let files: Vec<_> = files_seen(&world).iter().map(|path| world.disk.read(path).unwrap()).collect();
    if world.command(job(options.clone(), 2), Some(lost.0)) {
        return [true, false];
    }
    let second = world.command(job(other(options), 2), Some(lost.1));
    if !second {
        let there: Vec<_> = world.disk.files().iter().map(|path| world.disk.read(path).unwrap()).collect();
        assert!(
            files.iter().all(|file| there.contains(file)),
            "old rows are gone, {lost:?}\n{}",
            world.story.join("\n")
        );
        // Whoever comes next finishes: the first job, unless it is refused because the second has begun.
        if lost.1 % 2 == 1 || !world.command(job(options.clone(), 2), None) {
            assert!(world.command(job(other(options), 2), None), "{lost:?}\n{}", world.story.join("\n"));
        }
    }
    let found = (rows_seen(&world), wrong(&world));
    assert_eq!(found, (expected.to_vec(), Vec::new()), "{lost:?}\n{}", world.story.join("\n"));
    [false, second]
}

fn check(options: &WriteOptions, with_old: bool, expected: &[i64]) {
    for first in 0.. {
        for second in (first % STEP..).step_by(STEP) {
            match check_one(options, with_old, (first, second), expected) {
                [true, _] => return,
                [false, true] => break,
                [false, false] => {}
            }
        }
    }
}

#[test]
fn power_may_be_lost_while_an_output_is_replaced() {
    let options = || WriteOptions::default().mode(WriteMode::Overwrite);
    for seed in 1..20 {
        for lost in 0.. {
            let mut world = World::new(seed, job(WriteOptions::default(), 1));
            assert!(world.command(job(WriteOptions::default(), 1), None));
            if world.command(job(options(), 2), Some(lost)) {
                break;
            }
            assert!(world.command(job(options(), 2), None), "{seed}, {lost}\n{}", world.story.join("\n"));
            let found = (rows_seen(&world), wrong(&world));
            assert_eq!(found, (kept(2), Vec::new()), "{seed}, {lost}\n{}", world.story.join("\n"));
        }
    }
}

fn sorted(mut rows: Vec<i64>) -> Vec<i64> {
    rows.sort_unstable();
    rows
}

#[test]
fn power_may_be_lost_while_a_job_that_appended_is_given_up() {
    let options = WriteOptions::default().mode(WriteMode::Append).publish(Publish::AsWritten);
    check(&options, true, &sorted([kept(1), kept(2)].concat()));
}

#[test]
fn power_may_be_lost_while_a_job_that_had_the_output_for_itself_is_given_up() {
    check(&WriteOptions::default().publish(Publish::AsWritten), false, &kept(2));
}

#[test]
fn power_may_be_lost_while_an_overwrite_is_given_up() {
    check(&WriteOptions::default().mode(WriteMode::Overwrite), true, &kept(2));
}
