//! The program `mobula`; its commands are in `src/cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mobula::cli::mobula()
}
