//! `mobula token`: lets one node or driver join.

use std::path::PathBuf;
use std::time::Duration;

use crate::cluster;
use clap::{Args, ValueEnum};

use super::args;
use super::columns::print;
use super::failure::Failure;

/// Make a token by which one node or driver joins the cluster, once
///
/// The token alone is printed on standard output. It is a secret until it is used.
#[derive(Debug, Args)]
pub(crate) struct TokenCommand {
    /// Folder of the cluster, which `mobula cluster init` made
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What joins with it
    #[arg(long, value_enum, default_value_t = Role::Node, value_name = "ROLE")]
    role: Role,
    /// How long it can be used, such as 90s, 15m or 2h
    #[arg(long, default_value = "15m", value_name = "TIME", value_parser = args::time)]
    valid: Duration,
}

/// What joins with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// A process that computes: `mobula node --join`
    Node,
    /// A machine that starts jobs: `mobula login`
    Driver,
}

impl TokenCommand {
    /// Makes and prints it.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let role = match self.role {
            Role::Node => cluster::Role::Node,
            Role::Driver => cluster::Role::Driver,
        };
        print(&format!("{}\n", cluster::token(&self.dir, role, self.valid)?))
    }
}
