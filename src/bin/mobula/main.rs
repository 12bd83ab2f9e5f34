//! The command line `mobula`: one file a command.
//!
//! It reads flags, builds a dataset, runs it and shows how it went; what is computed and how lives in the library.
//! Exit codes: 0 done; 1 the job failed or was cancelled; 2 the flags alone are wrong. Start at [`Cli`].

mod args;
mod attach;
mod cancel;
mod cluster;
mod columns;
mod driver;
mod failure;
mod inspect;
mod interrupt;
mod jobs;
mod login;
mod node;
mod predict;
mod signals;
mod status;
mod token;
mod watch;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::MultiProgress;
use mobula::progress::{Style, log_node_to_stderr, log_to_stderr};

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
    Cluster(cluster::Cluster),
    Node(Box<node::NodeCommand>),
    Token(token::TokenCommand),
    Login(login::Login),
    Status(status::Status),
    Jobs(jobs::Jobs),
    Attach(attach::Attach),
    Cancel(cancel::Cancel),
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let screen = cli.display.screen();
    match &cli.command {
        Command::Node(node) => log_node_to_stderr(&screen.bars, cli.display.log_level(), node.operator_logs()),
        _ => log_to_stderr(&screen.bars, cli.display.log_level()),
    }
    std::panic::set_hook(Box::new(log_panic));
    let result = match &cli.command {
        Command::Predict(predict) => predict.run(&screen),
        Command::Inspect(inspect) => inspect.run(),
        Command::Cluster(cluster) => cluster.run(),
        Command::Node(node) => node.run(),
        Command::Token(token) => token.run(),
        Command::Login(login) => login.run(),
        Command::Status(status) => status.run(),
        Command::Jobs(jobs) => jobs.run(),
        Command::Attach(attach) => attach.run(&screen),
        Command::Cancel(cancel) => cancel.run(),
    };
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
