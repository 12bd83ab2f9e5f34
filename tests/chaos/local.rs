//! One process, killed at random moments again and again until its job is done.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::Rng;
use tempfile::TempDir;

use super::Chaos;
use super::check::{Progress, check, no_file_left, no_process_left, progress};
use super::job::{READ, Size, flags, make_input};
use super::processes::{self, Process, done};

/// Some seconds of work: there is time to be killed.
pub(crate) const WORTH_KILLING: Size =
    Size { files: 40, rows_a_file: 2_000, work: 1_500, batch: 0, workers: 0, interval: COMMIT_INTERVAL };
/// Small, so that files are many.
pub(crate) const COMMIT_INTERVAL: &str = "40ms";
/// How often a look is taken how far a job is.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// A job with its folders.
pub(crate) struct Bench {
    pub(crate) size: Size,
    pub(crate) folder: TempDir,
    outputs: usize,
}

impl Bench {
    pub(crate) fn new(size: Size) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        make_input(&folder.path().join("in"), &size);
        fs::create_dir(folder.path().join("tmp")).expect("a folder");
        Self { size, folder, outputs: 0 }
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// An output that is not there yet.
    pub(crate) fn fresh(&mut self) -> PathBuf {
        self.outputs += 1;
        self.folder.path().join(format!("out-{}", self.outputs))
    }

    /// The program's own flags.
    pub(crate) fn flags(&self, out: &Path) -> Vec<String> {
        flags(&self.size, &self.folder.path().join("in"), out)
    }

    /// The job in a process of its own.
    pub(crate) fn command(&self, out: &Path) -> Command {
        let flags = [self.flags(out), vec!["--commit-interval".to_owned(), self.size.interval.to_owned()]].concat();
        let mut command = processes::command(&program(), &self.folder.path().join("home"), &[]);
        command.args(flags).env("TMPDIR", self.temporary());
        command
    }

    /// The same with the same names in each run, for strace.
    pub(crate) fn traceable(&self, out: &Path) -> Command {
        let mut command = self.command(out);
        command.arg("--same-names");
        command
    }

    /// A run that said this did not do again what was finished before it.
    #[track_caller]
    pub(crate) fn did_only_the_rest(&self, said: &str, before: Progress) {
        let (read, left) = (rows_read(said), self.size.rows() as u64 - before.rows);
        assert!(read <= left, "{read} rows were read, and {left} of {} were left", self.size.rows());
    }

    pub(crate) fn check(&self, out: &Path) {
        check(out, &self.size);
        fs::remove_dir_all(out).expect("a folder");
        no_file_left(&self.temporary());
    }
}

/// What a run says that it read.
pub(crate) fn rows_read(said: &str) -> u64 {
    let line = said.lines().find_map(|line| line.strip_prefix(READ)).unwrap_or_else(|| panic!("it says {said:?}"));
    line.parse().expect("a number")
}

/// This very program.
pub(crate) fn program() -> PathBuf {
    std::env::current_exe().expect("this program has a path")
}

/// Lets a job go on until it has made some commits more, and a moment; gives whether it still runs then.
pub(crate) fn goes_on(job: &mut Process, out: &Path, size: &Size, chaos: &mut Chaos) -> bool {
    let commits = progress(out, size).commits + chaos.rng.random_range(0..COMMITS_MAX);
    while progress(out, size).commits < commits {
        if job.ends_within(LOOK) {
            return false;
        }
    }
    !job.ends_within(chaos.rng.random_range(Duration::ZERO..MOMENT))
}

/// Most commits between two kills.
const COMMITS_MAX: u64 = 8;
/// Long enough that all things happen within it: the start of a process, a commit, the end.
const MOMENT: Duration = Duration::from_millis(120);

/// One process, and rows as they come.
pub(crate) fn process(chaos: &mut Chaos) {
    killed(WORTH_KILLING, chaos);
}

/// Batches of exactly so many rows, which cross all borders of blocks and files, on workers of their own.
pub(crate) fn batches(chaos: &mut Chaos) {
    for batch in [100, 64] {
        killed(Size { batch, workers: 2, ..WORTH_KILLING }, chaos);
    }
}

/// Kills it so often in all, over as many jobs as that takes.
fn killed(size: Size, chaos: &mut Chaos) {
    let mut bench = Bench::new(size);
    let (mut kills, mut jobs) = (0, 0);
    while kills < chaos.rounds {
        let out = bench.fresh();
        let mut before = Progress::default();
        loop {
            let mut job = Process::spawn(bench.command(&out));
            if kills == chaos.rounds || !goes_on(&mut job, &out, &bench.size, chaos) {
                bench.did_only_the_rest(&done(&job.end()), before);
                break;
            }
            // Dropping it kills it.
            drop(job);
            kills += 1;
            before = progress(&out, &bench.size);
            println!("chaos: killed with {before:?} of {} rows", bench.size.rows());
        }
        jobs += 1;
        bench.check(&out);
    }
    no_process_left(bench.folder.path());
    println!("chaos: {jobs} jobs, killed {kills} times");
}
