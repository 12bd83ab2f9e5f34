//! What this program is called: commands that texts advise are those of the program that is run.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

/// What all texts say.
const MOBULA: &str = "mobula";

static PROGRAM: OnceLock<String> = OnceLock::new();

/// The program was started by this path; the first call counts.
pub(super) fn set(path: &OsStr) {
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !name.is_empty() {
        // One that was called before has named it.
        let _ = PROGRAM.set(name);
    }
}

/// Its name.
pub(super) fn program() -> &'static str {
    PROGRAM.get().map_or(MOBULA, String::as_str)
}

/// A text with commands between back-ticks, as a user of this program has to type them.
pub(super) fn here(text: &str) -> Cow<'_, str> {
    let program = program();
    match program == MOBULA {
        true => Cow::Borrowed(text),
        false => Cow::Owned(text.replace("`mobula ", &format!("`{program} "))),
    }
}

/// A command whose help names `program`.
pub(super) fn renamed(command: clap::Command, program: &str) -> clap::Command {
    let named = |text: &clap::builder::StyledStr| text.to_string().replace("mobula ", &format!("{program} "));
    let mut command = command;
    if let Some(text) = command.get_about().map(named) {
        command = command.about(text);
    }
    if let Some(text) = command.get_long_about().map(named) {
        command = command.long_about(text);
    }
    if let Some(text) = command.get_after_help().map(named) {
        command = command.after_help(text);
    }
    let argument = |mut arg: clap::Arg| {
        if let Some(text) = arg.get_help().map(named) {
            arg = arg.help(text);
        }
        match arg.get_long_help().map(named) {
            Some(text) => arg.long_help(text),
            None => arg,
        }
    };
    command.mut_args(argument).mut_subcommands(|command| renamed(command, program))
}
