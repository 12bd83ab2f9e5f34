//! What a kill costs: a process that runs a job is killed at seeded times, and started again until the job is done.
//!
//! The function of the job counts rows as they come to it, in a file that outlives its process; the ledger says how many of
//! them are committed when it is dead. The difference is computed again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mobula_actors::operator::BoxError;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::compare::median;
use crate::numbers_job::{ROWS_A_FILE, command, counted, ledger, rows_committed};

pub(crate) const COMMIT_INTERVAL: Duration = Duration::from_millis(50);
/// From the first row on: long enough to be killed at any point between two commits.
const MOMENT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));
/// How often a look is taken.
const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);
const SEED: u64 = 7;
/// Tasks of a read whose results have not left, for each worker (`TASKS_IN_WINDOW_A_WORKER` in `operator/shell.rs`); a
/// task is a file here, and a file a block.
const BLOCKS_A_WORKER: u64 = 16;

/// Where the job reads and writes.
struct Place {
    input: PathBuf,
    out: PathBuf,
    counted: PathBuf,
}

/// What one kill cost.
struct Killed {
    /// Rows that the process computed, and of those the ones that are in the ledger.
    computed: u64,
    committed: u64,
    /// From its first row to its end.
    seconds: f64,
}

impl Killed {
    fn again(&self) -> u64 {
        self.computed - self.committed
    }
}

/// Kills so often, over as many jobs as that takes; gives the lines of the figures.
pub(crate) fn measure(input: &Path, files: usize, kills: usize, folder: &Path) -> Result<Vec<String>, BoxError> {
    let place = Place { input: input.to_owned(), out: folder.join("out"), counted: folder.join("counted") };
    let rows = files as u64 * ROWS_A_FILE;
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut killed = Vec::new();
    while killed.len() < kills {
        place.clear()?;
        let (mut computed, mut lost) = (0, 0);
        loop {
            let after = (killed.len() < kills).then(|| random.random_range(MOMENT.0..MOMENT.1));
            let before = place.committed()?;
            match place.run(after, before)? {
                Some(kill) => {
                    println!("killed after {:.3} s: {} rows, {} again", kill.seconds, kill.computed, kill.again());
                    computed += kill.computed;
                    lost += kill.again();
                    killed.push(kill);
                }
                // Nobody killed it: it did the rest, and nothing else.
                None => break computed += counted(&place.counted),
            }
        }
        if computed != rows + lost || place.committed()? != rows {
            return Err(format!("{computed} rows were computed: {lost} again, of {rows}").into());
        }
    }
    Ok(figures(&killed))
}

fn figures(killed: &[Killed]) -> Vec<String> {
    let again = || killed.iter().map(|kill| kill.again() as f64);
    let rate = killed.iter().map(|kill| kill.computed as f64).sum::<f64>()
        / killed.iter().map(|kill| kill.seconds).sum::<f64>();
    let most = again().fold(0.0, f64::max);
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get()) as u64;
    let in_flight = workers * BLOCKS_A_WORKER * ROWS_A_FILE;
    let bound = rate * COMMIT_INTERVAL.as_secs_f64() + in_flight as f64;
    vec![
        format!("figure durability.rework.kills {} kills", killed.len()),
        format!("figure durability.rework.rate {rate:.0} rows/s"),
        format!("figure durability.rework.p50 {:.0} rows", median(again().collect())),
        format!("figure durability.rework.max {most:.0} rows"),
        format!("figure durability.rework.max_time {:.3} s", most / rate),
        format!("figure durability.rework.bound {bound:.0} rows"),
        format!("figure durability.rework.over_bound {:.3} ratio", most / bound),
    ]
}

impl Place {
    fn clear(&self) -> Result<(), BoxError> {
        if self.out.exists() {
            fs::remove_dir_all(&self.out)?;
        }
        Ok(())
    }

    /// Rows of the input that the ledger says are finished.
    fn committed(&self) -> Result<u64, BoxError> {
        rows_committed(&ledger(&self.out))
    }

    /// Runs the job, and kills it so long after its first row; `None` if it came to its end before.
    fn run(&self, kill_after: Option<Duration>, before: u64) -> Result<Option<Killed>, BoxError> {
        if self.counted.exists() {
            fs::remove_file(&self.counted)?;
        }
        let mut command = command(&self.input, &self.out, &self.counted)?;
        command.arg("--commit-interval").arg(format!("{}ms", COMMIT_INTERVAL.as_millis()));
        let mut child = Running::start(command)?;
        let Some(after) = kill_after else { return child.end().map(|()| None) };
        let Some(begun) = self.first_row(&mut child)? else { return Ok(None) };
        while begun.elapsed() < after {
            if child.has_ended()? {
                return Ok(None);
            }
            sleep(LOOK.min(after.saturating_sub(begun.elapsed())));
        }
        child.kill()?;
        let seconds = begun.elapsed().as_secs_f64();
        let (computed, committed) = (counted(&self.counted), self.committed()? - before);
        // Between the look and the kill it may have come to its end.
        let done = self.out.join("_mobula/0/manifest.json").exists();
        Ok((!done).then_some(Killed { computed, committed, seconds }))
    }

    fn first_row(&self, child: &mut Running) -> Result<Option<Instant>, BoxError> {
        let from = Instant::now();
        while !self.counted.exists() {
            if child.has_ended()? {
                return Ok(None);
            }
            if from.elapsed() > PATIENCE {
                return Err(format!("no row within {PATIENCE:?}").into());
            }
            sleep(LOOK);
        }
        Ok(Some(Instant::now()))
    }
}

/// A process that is killed when this is dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(mut command: Command) -> Result<Self, BoxError> {
        Ok(Self(command.spawn()?))
    }

    /// Whether it has come to its end, which has to be a good one.
    pub(crate) fn has_ended(&mut self) -> Result<bool, BoxError> {
        match self.0.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(format!("the job's process ended with {status}").into()),
        }
    }

    /// Waits for its end, which has to be a good one.
    pub(crate) fn end(&mut self) -> Result<(), BoxError> {
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the job's process ended with {status}").into()) }
    }

    /// Kills it as nothing can be caught, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<(), BoxError> {
        // One that has ended meanwhile cannot be killed.
        let _ = self.0.kill();
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
