//! `mobula replay --dead-letter`: the rows that a job gave up, once more.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, FromArgMatches};

use super::Screen;
use super::again::{absolute, changed, without};
use super::columns::print;
use super::failure::Failure;
use super::predict::Predict;
use crate::Error;
use crate::io::{IoError, LetterOptions, commands_of};

/// Run a job again on exactly the rows that it gave up, and add the results to its output
///
/// Reads the rows that the dead letters beside an output name, from the files that the job read, which must not have changed;
/// runs what `mobula predict` ran on them, with the same flags but those that are given here; and adds what comes of them to
/// the output, as a job of its own. Then their letters are closed: each row is replayed once. Rows that fail again get letters
/// of the replay. Stopped or killed, the same command goes on; `mobula verify` says what was given up and replayed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Replay {
    /// The folder that `--output` of the job named
    #[arg(long, value_name = "DIR")]
    dead_letter: PathBuf,
    /// Only what this job gave up, by its number in `mobula verify` (default: all jobs)
    #[arg(long, value_name = "N")]
    job: Option<u64>,
    /// Where a letter names only a range of rows, replay all of them: those that did not fail are then there twice
    #[arg(long)]
    whole_ranges: bool,
    /// Give up what an earlier replay has finished, and start over (default: go on where it stopped)
    #[arg(long)]
    restart: bool,

    /// Another model, such as one that was mended (default: the file that the job ran)
    #[arg(long, help_heading = CHANGES, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Rows that may be given up once more: a number, or a share such as 10% (default: none)
    #[arg(long, help_heading = CHANGES, value_name = "ROWS|SHARE")]
    error_budget: Option<String>,
    /// Any other flags of `mobula predict`, behind `--`
    #[arg(last = true, help_heading = CHANGES, value_name = "FLAGS")]
    changes: Vec<String>,
}

const CHANGES: &str = "Otherwise than the job";

const EXAMPLES: &str = "\
Examples:
  Once the model is mended:
    mobula replay --dead-letter target/digits --model digits_2.onnx

  The same model, but NaN is fine with it:
    mobula replay --dead-letter target/digits -- --allow-nan

Rows of programs of one's own are replayed there: `session.read_dead_letters(DIR)?` gives them.

Exit codes: 0 done, or all was replayed before; 1 the job failed or was cancelled; 2 the flags are wrong";

impl Replay {
    /// Runs the job to its end and prints its summary.
    pub(crate) fn run(&self, screen: &Screen) -> Result<(), Failure> {
        let predict = match commands_of(&self.dead_letter, self.job) {
            Ok(commands) => self.predict(&commands)?,
            Err(IoError::NoLetters { dir, reason, all_done: true }) => {
                // Wrong flags are wrong also where they are not needed.
                let job = ["--model", "-", "--input", "-"].map(str::to_owned);
                parse(changed(&job, &self.changes()), &dir)?;
                return print(&format!("nothing to replay in {}: {reason}\n", dir.display()));
            }
            Err(error) => return Err(Error::from(error).into()),
        };
        let letters = LetterOptions { job: self.job, whole_ranges: self.whole_ranges };
        predict.replay(&letters, self.restart, screen)
    }

    /// What the jobs ran, with the changes.
    fn predict(&self, commands: &[(u64, Option<Vec<String>>)]) -> Result<Predict, Failure> {
        let dir = &self.dead_letter;
        let mut found: Option<(u64, Vec<String>)> = None;
        for (job, command) in commands {
            let Some(args) = command else { return Err(Failure::NoCommand { dir: dir.clone(), job: *job }) };
            let args = changed(args, &self.changes());
            match &found {
                Some((first, found)) if !is_same(found, &args) => return Err(two_commands(*first, *job)),
                Some(_) => {}
                None => found = Some((*job, args)),
            }
        }
        let (_, args) = found.unwrap_or_default();
        parse(args, dir)
    }

    fn changes(&self) -> Vec<String> {
        let model = self.model.iter().map(|path| ("--model", path.to_string_lossy().into_owned()));
        let budget = self.error_budget.iter().map(|budget| ("--error-budget", budget.clone()));
        let flags = model.chain(budget).flat_map(|(flag, value)| [flag.to_owned(), value]);
        flags.chain(self.changes.iter().cloned()).collect()
    }
}

/// Whether both do the same to whatever they read.
fn is_same(one: &[String], other: &[String]) -> bool {
    let steps = |args: &[String]| without(args, |flag| ["--input", "--input-format"].contains(&flag));
    steps(one) == steps(other)
}

fn two_commands(first: u64, second: u64) -> Failure {
    Failure::Usage(format!("jobs {first} and {second} ran different commands; replay one after the other by --job"))
}

/// Reads flags of `mobula predict`.
fn parse(args: Vec<String>, output: &Path) -> Result<Predict, Failure> {
    let output = ["--output".to_owned(), output.to_string_lossy().into_owned(), "--append".to_owned()];
    let args = absolute(args, &std::env::current_dir().unwrap_or_default());
    let command = Predict::augment_args(clap::Command::new("predict").no_binary_name(true));
    let parsed = command.try_get_matches_from(args.iter().cloned().chain(output));
    let predict = parsed.and_then(|matches| Predict::from_arg_matches(&matches)).map_err(|error| {
        let reason = error.render().to_string();
        let reason = reason.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        match error.kind() {
            ErrorKind::DisplayHelp => Failure::Usage("`mobula predict --help` explains its flags".to_owned()),
            _ => Failure::Usage(reason),
        }
    })?;
    Ok(predict.read_from(args))
}
