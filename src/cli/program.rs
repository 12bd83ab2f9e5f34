//! The entry of programs of one's own: driver, head and node in one binary.

use std::ffi::OsString;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand};

use super::driver::Place;
use super::failure::Failure;
use super::foreground::watched;
use super::interrupt::Interrupts;
use super::names::{self, renamed};
use super::{ClusterCommand, Display, Progress, exit_code};
use crate::progress::log_to_stderr;
use crate::session::Session;

/// Makes a program the driver, the head and a node of a cluster: all processes of a cluster run one binary, and with this
/// one call that is the program whose functions are to run there.
///
/// Started without a command, the program calls `run` with a session: one of this process, or with `--cluster ADDR` one of
/// that cluster. The commands `cluster init`, `node`, `token`, `login`, `status`, `jobs`, `attach` and `cancel` are those
/// of the program `mobula`, with the same flags, texts and exit codes; [`main_with`] has flags of one's own beside them.
///
/// What `run` returns as an error is printed with its causes, and a hint where there is one. Logs (`tracing`) go to standard
/// error, unless the program has set up its own logging before. Ctrl-C, SIGTERM and SIGHUP cancel what the session runs, on
/// a cluster too, and end the program within about a second. Exit codes: 0 done; 1 it failed or was cancelled; 2 the flags
/// alone are wrong.
///
/// ```no_run
/// use mobula::prelude::*;
/// use std::process::ExitCode;
///
/// #[mobula::remote]
/// fn first_columns(batch: RecordBatch) -> OperatorResult<RecordBatch> {
///     Ok(batch.project(&[0, 1])?)
/// }
///
/// fn main() -> ExitCode {
///     mobula::main(|session: Session| -> mobula::Result<()> {
///         let digits = session.read_parquet("examples/data/digits/*.parquet")?;
///         digits.map_batches(first_columns::map())?.write_parquet("target/first_columns")?;
///         Ok(())
///     })
/// }
/// ```
pub fn main<E>(run: impl FnOnce(Session) -> Result<(), E>) -> ExitCode
where
    E: Into<Box<dyn std::error::Error>>,
{
    main_with(|session, _: NoFlags| run(session))
}

/// [`main`] for a program with flags of its own: `A` is a command line of [`clap`] as for a program without Mobula.
///
/// The flags `--cluster`, `--identity`, `--weight`, `--memory`, `--gpus`, `--commit-interval`, `--progress`, `-q` and `-v`
/// and the names of the commands are taken. With `--progress bars` or `plain` the progress of what the session runs is shown. The crate to derive `A` by
/// is [`crate::clap`].
///
/// ```no_run
/// use mobula::clap::{self, Parser};
/// use mobula::prelude::*;
/// use std::process::ExitCode;
///
/// /// Counts rows
/// #[derive(Parser)]
/// struct Flags {
///     /// What to count
///     #[arg(long)]
///     input: String,
/// }
///
/// fn main() -> ExitCode {
///     mobula::main_with(|session: Session, flags: Flags| -> mobula::Result<()> {
///         println!("{} rows", session.read_parquet(flags.input)?.count()?);
///         Ok(())
///     })
/// }
/// ```
///
/// # Panics
/// If `A` has a flag or a command of a name that is taken.
pub fn main_with<A, E>(run: impl FnOnce(Session, A) -> Result<(), E>) -> ExitCode
where
    A: Parser,
    E: Into<Box<dyn std::error::Error>>,
{
    crate::isolated_worker();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    names::set(arguments.first().map(OsString::as_os_str).unwrap_or_default());
    set_panic_hook();
    let mut command = command(A::command(), names::program());
    // Ends the process where the flags are wrong or ask for help.
    let matches = command.try_get_matches_from_mut(arguments).unwrap_or_else(|error| error.exit());
    let asked = Asked::of(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    exit_code(match asked {
        Asked::Command(cluster, display) => cluster.run(&display),
        Asked::Own(args, place, display) => drive(&place, &display, |session| run(session, args)),
    })
}

// No flags of its own. This is no text for users: help would begin with it.
#[derive(Debug, Parser)]
struct NoFlags {}

/// What the command line asks for.
enum Asked<A> {
    Command(ClusterCommand, Display),
    Own(A, Place, Display),
}

impl<A: Parser> Asked<A> {
    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let display = Display::from_arg_matches(matches)?;
        if matches.subcommand_name().is_some_and(ClusterCommand::has_subcommand) {
            return Ok(Self::Command(ClusterCommand::from_arg_matches(matches)?, display));
        }
        Ok(Self::Own(A::from_arg_matches(matches)?, Place::from_arg_matches(matches)?, display))
    }
}

/// The user's command line with ours beside it.
fn command(own: clap::Command, program: &str) -> clap::Command {
    let ours = Display::augment_args(Place::augment_args(clap::Command::new("")));
    let ours =
        ours.mut_arg("progress", |arg| arg.help("How progress is shown on standard error; auto: by `attach` only"));
    let ours = renamed(ClusterCommand::augment_subcommands(ours), program);
    for taken in ours.get_arguments() {
        let same = |arg: &&clap::Arg| {
            arg.get_id() == taken.get_id()
                || arg.get_long().is_some_and(|long| taken.get_long() == Some(long))
                || arg.get_short().is_some_and(|short| taken.get_short() == Some(short))
        };
        let name = taken.get_id();
        assert!(!own.get_arguments().any(|arg| same(&arg)), "the flag --{name} is one of `mobula::main_with`'s own");
    }
    for taken in ours.get_subcommands() {
        let name = taken.get_name();
        assert!(own.find_subcommand(name).is_none(), "the command {name} is one of `mobula::main_with`'s own");
    }
    own.args(ours.get_arguments().cloned())
        .subcommands(ours.get_subcommands().cloned())
        .subcommand_negates_reqs(true)
        .max_term_width(100)
}

/// Runs the user's function.
fn drive<E>(place: &Place, display: &Display, run: impl FnOnce(Session) -> Result<(), E>) -> Result<(), Failure>
where
    E: Into<Box<dyn std::error::Error>>,
{
    let mut screen = display.screen();
    if matches!(display.progress, Progress::Auto) {
        // The program may print itself; bars would be torn by that.
        screen.style = crate::progress::Style::Silent;
    }
    log_to_stderr(&screen.bars, display.log_level());
    let interrupts = Interrupts::listen(None);
    let session = place.session()?;
    interrupts.job_starts();
    let runs = session.runs().clone();
    let result = watched(runs, interrupts.clone(), &screen, || run(session));
    result.map_err(|error| match Failure::of(error.into()) {
        Failure::Failed(error) if error.is_cancelled() && interrupts.came() => Failure::Cancelled,
        Failure::Failed(error) => Failure::OwnFailed(error),
        failure => failure,
    })
}

/// A worker that panics is replaced and its task tried again; what it said is a log. Other threads are the program's.
fn set_panic_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| match std::thread::current().name() {
        Some(name) if WORKERS.iter().any(|start| name.starts_with(start)) => tracing::warn!("a worker {panic}"),
        _ => default(panic),
    }));
}

/// How the names of threads begin that are Mobula's.
const WORKERS: [&str; 2] = ["actix-rt", "mobula"];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Counts rows
    #[derive(Debug, Parser)]
    #[command(version = "7")]
    struct Flags {
        /// What to read
        #[arg(long)]
        input: String,
        #[arg(short)]
        times: Option<u32>,
    }

    fn asked(args: &[&str]) -> Result<Asked<Flags>, clap::Error> {
        let matches = command(Flags::command(), "own").try_get_matches_from([&["own"], args].concat())?;
        Asked::of(&matches)
    }

    fn refused(args: &[&str]) -> String {
        match asked(args) {
            Ok(_) => panic!("{args:?} is accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn own_flags_and_ours_stand_side_by_side() {
        command(Flags::command(), "own").debug_assert();
        let Ok(Asked::Own(flags, ..)) = asked(&["--input", "a", "--cluster", "h:1", "-t", "3", "-vv"]) else {
            panic!("it is a driver")
        };
        assert_eq!((flags.input.as_str(), flags.times), ("a", Some(3)));
        assert!(refused(&["--input", "a", "--identity", "x"]).contains("--cluster"));
        assert!(refused(&["-t", "3"]).contains("--input"));
        assert!(refused(&["--version"]).contains('7'));
    }

    #[test]
    fn commands_need_none_of_the_own_flags_and_are_those_of_mobula() {
        for args in [
            &["node", "--head", "--dir", "C", "--listen", "127.0.0.1:0"] as &[_],
            &["node", "--join", "h:1", "--dir", "N", "--label", "disk=ssd", "-v"],
            &["cluster", "init", "--dir", "C"],
            &["token", "--dir", "C", "--role", "driver"],
            &["status", "--cluster", "h:1"],
            &["jobs", "--cluster", "h:1", "--identity", "I"],
            &["attach", "1", "--cluster", "h:1", "--progress", "none"],
            &["cancel", "1", "--cluster", "h:1"],
        ] {
            assert!(matches!(asked(args), Ok(Asked::Command(..))), "{args:?}");
        }
        assert!(refused(&["predict"]).contains("predict"));
        assert!(refused(&["node", "--dir", "x"]).contains("--head"));
    }

    #[test]
    #[should_panic(expected = "the flag --cluster")]
    fn a_flag_that_is_taken_is_refused_by_name() {
        #[derive(Debug, Parser)]
        struct Taken {
            #[arg(long)]
            cluster: bool,
        }
        command(Taken::command(), "own");
    }

    #[test]
    fn help_names_this_program() {
        let mut command = command(Flags::command(), "own");
        let help = command.render_long_help().to_string();
        assert!(help.contains("Counts rows") && help.contains("--input") && help.contains("Cluster:"), "{help}");
        assert!(help.contains("what `own login`"), "{help}");
        let help = command.find_subcommand_mut("node").expect("a command").render_long_help().to_string();
        assert!(help.contains("own node --join 127.0.0.1:4433") && !help.contains("mobula "), "{help}");
    }
}
