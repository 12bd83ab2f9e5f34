//! How long the same command takes after a kill until it has committed something new: the program `mobula` over thousands
//! of files, from the start of its process to the first record of a commit in the ledger.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mobula_actors::operator::BoxError;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::compare::median;
use crate::kills::{COMMIT_INTERVAL, Running};
use crate::numbers_job::{commits, ledger};

/// How often a look is taken at the size of the ledger.
const LOOK: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(120);
/// Commits before a kill, at most.
const COMMITS_MAX: usize = 5;
const SEED: u64 = 11;

/// What is seen of a ledger while a process runs.
struct Seen {
    /// Until the process had opened it: its plan is made by then.
    opened: f64,
    /// Until there were so many commits as were waited for.
    committed: f64,
}

/// Kills and starts again so often; gives the lines of the figures.
pub(crate) fn measure(input: &Path, times: usize, folder: &Path) -> Result<Vec<String>, BoxError> {
    let out = folder.join("out");
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut seen = Vec::new();
    while seen.len() < times {
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        let mut first = Running::start(command(input, &out)?)?;
        let begun = commit(&mut first, &out, random.random_range(1..=COMMITS_MAX))?;
        first.kill()?;
        drop(first);
        let before = commits(&ledger(&out))?.len();
        let mut second = Running::start(command(input, &out)?)?;
        let again = commit(&mut second, &out, before + 1)?;
        println!(
            "first run: ledger open after {:.3} s; run again with {before} commits: open after {:.3} s, new commit after {:.3} s",
            begun.opened, again.opened, again.committed
        );
        second.kill()?;
        seen.push(again);
    }
    let of = |part: fn(&Seen) -> f64| seen.iter().map(part).collect::<Vec<_>>();
    let files = fs::read_dir(input)?.count();
    let worst = of(|seen| seen.committed).into_iter().fold(0.0, f64::max);
    Ok(vec![
        format!("figure durability.restart.files {files} files"),
        format!("figure durability.restart.ledger_open {:.3} s", median(of(|seen| seen.opened))),
        format!("figure durability.restart.first_commit {:.3} s", median(of(|seen| seen.committed))),
        format!("figure durability.restart.first_commit_max {worst:.3} s"),
    ])
}

fn command(input: &Path, out: &Path) -> Result<Command, BoxError> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits_mlp.onnx");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mobula"));
    command.arg("predict").arg("--model").arg(model).arg("--input").arg(input).arg("--output").arg(out);
    command.args(["--keep", "id", "--commit-interval", &format!("{}ms", COMMIT_INTERVAL.as_millis())]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// Waits until the ledger has so many commits.
fn commit(process: &mut Running, out: &Path, wanted: usize) -> Result<Seen, BoxError> {
    let (from, ledger) = (Instant::now(), ledger(out));
    let size = || fs::metadata(&ledger).map_or(0, |about| about.len());
    let (mut last, mut opened) = (size(), None);
    loop {
        let now = size();
        if now != last {
            last = now;
            // The first thing that a process writes is that it begins.
            let opened = *opened.get_or_insert(from.elapsed().as_secs_f64());
            if commits(&ledger)?.len() >= wanted {
                return Ok(Seen { opened, committed: from.elapsed().as_secs_f64() });
            }
        }
        if process.has_ended()? {
            return Err("the job was done before it could be killed: more files are needed".into());
        }
        if from.elapsed() > PATIENCE {
            return Err(format!("no commit within {PATIENCE:?}").into());
        }
        sleep(LOOK);
    }
}

/// Makes the input: the files of digits, so many times.
pub(crate) fn write_input(folder: &Path, times: usize) -> Result<(), BoxError> {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits");
    for file in fs::read_dir(digits)? {
        let from = file?.path();
        let name = from.file_name().and_then(|name| name.to_str()).ok_or("a file without a name")?;
        for time in 0..times {
            fs::copy(&from, folder.join(format!("{time:04}-{name}")))?;
        }
    }
    Ok(())
}
