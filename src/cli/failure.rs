//! How a command fails: one line what, indented lines why, a line what to do; and the exit code.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::with_causes;
use crate::io::IoError;
use crate::predict::{BatchError, PredictError};
use crate::{Error, JobError};
use mobula_actors::logs::cleaned;

use super::names;

/// Why a command ended without its result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The flags alone are wrong.
    Usage(String),
    /// Something that the library refused, or a job that failed.
    Failed(Error),
    /// A job of somebody else that did not do what it should.
    Job {
        /// Its number.
        job: u64,
        /// How it ended.
        why: String,
    },
    /// There is nothing to cancel in a job that has ended.
    Ended {
        /// Its number.
        job: u64,
        /// How it ended.
        state: String,
    },
    /// The cluster knows no such job.
    NoJob(u64),
    /// An output is not what its ledger says.
    Unsound {
        /// The folder.
        dir: PathBuf,
        /// How many things are wrong.
        wrong: usize,
    },
    /// An output holds files that no job wrote, and nothing else is wrong with it.
    Strangers {
        /// The folder.
        dir: PathBuf,
    },
    /// Nobody knows what a job ran.
    NoCommand {
        /// The folder.
        dir: PathBuf,
        /// The number of the job.
        job: u64,
    },
    /// The system refused a thread or a signal handler.
    System(std::io::Error),
    /// An error of the user's own program.
    Own(Box<dyn std::error::Error>),
    /// What the library refused in the user's own program, which need not have the flags of `predict`.
    OwnFailed(Error),
    /// A signal came before it was done.
    Stopped,
    /// A signal has cancelled it.
    Cancelled,
    /// What was asked for cannot be printed.
    Print(std::io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Failure {
    /// The failure of the user's own program.
    pub(crate) fn of(error: Box<dyn std::error::Error>) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => Self::Failed(*error),
            Err(error) => Self::Own(error),
        }
    }

    /// Prints the failure on standard error.
    pub(crate) fn report(&self) -> ExitCode {
        // If standard error is closed, the exit code still tells.
        let _ = std::io::stderr().write_all(shown(&self.text()).as_bytes());
        match self {
            Self::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Usage(reason) => format!("error: {reason}\n\nFor more information, try '--help'.\n"),
            Self::Failed(error) => {
                let hint = hint(error).map_or_else(String::new, |hint| format!("hint: {hint}\n"));
                error_text(error) + &hint
            }
            Self::OwnFailed(error) => error_text(error),
            Self::Job { job, why } => format!("error: job {job} did not finish: {why}\n"),
            Self::Ended { job, state } => format!("error: job {job} is not running any more: {state}\n"),
            Self::NoJob(job) => format!("error: the cluster has no job {job}; `mobula jobs` lists those it has\n"),
            Self::Unsound { dir, wrong } => {
                format!(
                    "error: {} is not what its ledger says: what is wrong is listed above ({wrong}); write it again with --overwrite\n",
                    dir.display()
                )
            }
            Self::Strangers { dir } => {
                format!("error: {} holds files that no job wrote, listed above; move them elsewhere\n", dir.display())
            }
            Self::NoCommand { dir, job } => {
                let dir = dir.display();
                format!(
                    "error: job {job} of {dir} was begun by a program, not by `mobula predict`, and only that program has its steps\nhint: there, session.read_dead_letters({dir:?})? gives these rows; write them back with WriteMode::Append\n"
                )
            }
            Self::System(error) => format!("error: cannot start\n  because: {error}\n"),
            Self::Own(error) => with_causes(format!("error: {error}"), error.source()) + "\n",
            Self::Stopped => "stopped\n".to_owned(),
            Self::Cancelled => "cancelled\n".to_owned(),
            Self::Print(error) => format!("error: cannot write to standard output\n  because: {error}\n"),
        }
    }
}

/// The text as a terminal may see it: parts of it are what files and other processes say.
fn shown(text: &str) -> String {
    names::here(text).lines().map(|line| cleaned(line).into_owned() + "\n").collect()
}

/// The error, and its causes as far as they say something new.
fn error_text(error: &Error) -> String {
    format!("error: {error:?}\n")
}

/// The flag that helps, where there is one; all else the error's own text says.
fn hint(error: &Error) -> Option<String> {
    match error {
        Error::Io(error) => io_hint(error),
        Error::Predict(error) => model_hint(error),
        Error::Job(JobError::ErrorBudget { .. }) => {
            Some("what was finished is kept: the same command with a larger --error-budget goes on".to_owned())
        }
        Error::Job(JobError::Task { cause, .. }) => match cause.downcast_ref::<BatchError>() {
            Some(error) => row_hint(error),
            None => io_hint(cause.downcast_ref::<IoError>()?),
        },
        _ => None,
    }
}

fn io_hint(error: &IoError) -> Option<String> {
    let hint = match error {
        IoError::OutputNotEmpty { .. } | IoError::OutputOfAnother { .. } => {
            "--append adds to it, --overwrite replaces it"
        }
        IoError::OutputFinished { .. } => "--overwrite writes it again",
        IoError::Corrupt { .. } | IoError::Line { .. } => "--on-error skip goes on without it and lists it",
        IoError::NoMatch { .. } => "give --input a file, a folder, or a pattern in quotes: 'data/*.parquet'",
        IoError::ColumnType { .. } => "--keep and --outputs choose the columns to write, --format another format",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn row_hint(error: &BatchError) -> Option<String> {
    match error {
        BatchError::Nan { .. } => Some(format!("--allow-nan hands NaN to the model as it is; {BUDGET}")),
        BatchError::Null { .. } | BatchError::Length { .. } | BatchError::Range { .. } => Some(BUDGET.to_owned()),
        _ => None,
    }
}

/// Also tells which row of which file it is: without a budget nobody looks for it.
const BUDGET: &str = "--error-budget N gives up N such rows at most, and lists each with its file and row";

fn model_hint(error: &PredictError) -> Option<String> {
    match error {
        PredictError::Unmatched { tensor, .. }
        | PredictError::NoColumn { tensor, .. }
        | PredictError::Mismatch { tensor, .. } => {
            Some(format!("--columns {tensor}=COLUMN,.. feeds a column of the files to input {tensor:?}"))
        }
        PredictError::NoTensor { .. } => Some("`mobula inspect MODEL` lists its inputs and outputs".to_owned()),
        PredictError::Collision { .. } => {
            Some("--columns reads only the columns it lists, --outputs writes only the outputs it lists".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_empty() -> Error {
        Error::Io(IoError::OutputNotEmpty { dir: "out".into(), file: "part-0.parquet".into() })
    }

    #[test]
    fn an_error_names_the_flag_that_helps() {
        let text = Failure::from(not_empty()).text();
        assert!(text.starts_with("error: out is not empty"), "{text}");
        assert!(text.ends_with("hint: --append adds to it, --overwrite replaces it\n"), "{text}");
        let own = Failure::OwnFailed(not_empty()).text();
        assert!(own.starts_with("error: out is not empty") && !own.contains("hint"), "{own}");
    }

    #[test]
    fn what_a_file_is_called_does_not_reach_the_terminal_raw() {
        let text = Failure::Job { job: 1, why: "no file \u{1b}[2Ja\nb".to_owned() }.text();
        assert_eq!(shown(&text), "error: job 1 did not finish: no file \\u{1b}[2Ja\nb\n");
    }

    #[test]
    fn causes_are_indented_below_the_error() {
        let source = std::io::Error::new(std::io::ErrorKind::PermissionDenied, "permission denied (os error 13)");
        let error = Error::Io(IoError::Read { path: "a.parquet".into(), source });
        let text = Failure::from(error).text();
        assert_eq!(text, "error: cannot read a.parquet\n  because: permission denied (os error 13)\n");
    }
}
