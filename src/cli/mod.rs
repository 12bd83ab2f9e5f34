//! The command line: that of the program `mobula`, and that of programs of one's own; one file a command.
//!
//! It reads flags, builds a dataset or calls the user's function, and shows how it went; what is computed and how lives in
//! the rest of the library. Exit codes: 0 done; 1 it failed or was cancelled; 2 the flags alone are wrong. Start at
//! [`mobula`] for the one, at [`main`](fn@main) for the others.

mod again;
mod apart;
mod args;
mod attach;
mod cancel;
mod cluster;
mod columns;
mod driver;
mod failure;
mod foreground;
mod inspect;
mod interrupt;
mod jobs;
mod login;
mod names;
mod node;
mod predict;
mod program;
mod replay;
mod signals;
mod status;
mod tasks;
mod token;
mod verify;
mod watch;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::MultiProgress;

use crate::progress::{Style, log_node_to_stderr, log_to_stderr};
use failure::Failure;
pub use program::{main, main_with};

/// Streams data through models and functions on all cores, within a memory budget.
#[derive(Debug, Parser)]
#[command(name = "mobula", version, propagate_version = true, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    display: Display,
}

#[derive(Debug, Subcommand)]
enum Command {
    Predict(Box<predict::Predict>),
    Inspect(inspect::Inspect),
    Verify(verify::Verify),
    Replay(replay::Replay),
    #[command(flatten)]
    Cluster(ClusterCommand),
}

/// The commands by which processes are a cluster: those of every program.
#[derive(Debug, Subcommand)]
enum ClusterCommand {
    Cluster(cluster::Cluster),
    Node(Box<node::NodeCommand>),
    Token(token::TokenCommand),
    Login(login::Login),
    Status(status::Status),
    Jobs(jobs::Jobs),
    Tasks(tasks::Tasks),
    Attach(attach::Attach),
    Cancel(cancel::Cancel),
}

impl ClusterCommand {
    /// Sets up logs and runs the command.
    fn run(&self, display: &Display) -> Result<(), Failure> {
        let screen = display.screen();
        match self {
            Self::Node(node) => log_node_to_stderr(&screen.bars, display.log_level(), node.operator_logs()),
            _ => log_to_stderr(&screen.bars, display.log_level()),
        }
        match self {
            Self::Cluster(cluster) => cluster.run(),
            Self::Node(node) => node.run(),
            Self::Token(token) => token.run(),
            Self::Login(login) => login.run(),
            Self::Status(status) => status.run(),
            Self::Jobs(jobs) => jobs.run(),
            Self::Tasks(tasks) => tasks.run(),
            Self::Attach(attach) => attach.run(&screen),
            Self::Cancel(cancel) => cancel.run(),
        }
    }
}

/// What is shown while a command runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is shown")]
struct Display {
    /// How progress is shown on standard error
    #[arg(long, global = true, value_enum, default_value_t = Progress::Auto, value_name = "HOW")]
    progress: Progress,
    /// Only errors: no progress, no summary
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// More logs (-v: what happens, -vv: details); MOBULA_LOG=mobula=debug chooses exactly
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Progress {
    /// Bars on a terminal, lines elsewhere
    Auto,
    /// A bar for each operator
    Bars,
    /// A line every few seconds
    Plain,
    /// Nothing
    None,
}

/// Where a command shows its progress.
pub(crate) struct Screen {
    style: Style,
    bars: MultiProgress,
    quiet: bool,
}

impl Display {
    fn screen(&self) -> Screen {
        let style = match self.progress {
            _ if self.quiet => Style::Silent,
            Progress::None => Style::Silent,
            Progress::Auto if std::io::stderr().is_terminal() => Style::Bars,
            Progress::Bars => Style::Bars,
            Progress::Auto | Progress::Plain => Style::Plain,
        };
        Screen { style, bars: MultiProgress::new(), quiet: self.quiet }
    }

    fn log_level(&self) -> tracing::Level {
        match self.verbose {
            0 if self.quiet => tracing::Level::ERROR,
            0 => tracing::Level::WARN,
            1 => tracing::Level::INFO,
            _ => tracing::Level::DEBUG,
        }
    }
}

/// The program `mobula`.
#[doc(hidden)]
pub fn mobula() -> ExitCode {
    crate::isolated_worker();
    let cli = Cli::parse();
    std::panic::set_hook(Box::new(log_panic));
    let with_logs = || {
        let screen = cli.display.screen();
        log_to_stderr(&screen.bars, cli.display.log_level());
        screen
    };
    exit_code(match &cli.command {
        Command::Predict(predict) => predict.run(&with_logs()),
        Command::Inspect(inspect) => {
            with_logs();
            inspect.run()
        }
        Command::Verify(verify) => {
            with_logs();
            verify.run()
        }
        Command::Replay(replay) => replay.run(&with_logs()),
        Command::Cluster(command) => command.run(&cli.display),
    })
}

fn exit_code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// A worker that panics is replaced and its task tried again; what it said is a log, not the end of the program.
fn log_panic(panic: &PanicHookInfo<'_>) {
    match std::thread::current().name() {
        Some("main") => tracing::error!("a bug in mobula: {panic}"),
        _ => tracing::warn!("a worker {panic}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
