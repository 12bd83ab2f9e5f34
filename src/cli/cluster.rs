//! `mobula cluster init`: a cluster's authority and its head's identity.

use std::path::PathBuf;

use crate::cluster;
use clap::{Args, Subcommand};

use super::columns::print;
use super::failure::Failure;
use super::names;

/// Make a cluster
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Make a cluster's authority and the identity of its head
    ///
    /// The folder holds the key that lets nodes and drivers in: it stays on the head's machine, readable for its owner
    /// only. A folder that holds a cluster already is left as it is.
    Init {
        /// Folder for the cluster; it is made
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

impl Cluster {
    /// Makes it, and says what to do next.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let ClusterCommand::Init { dir } = &self.command;
        let id = cluster::init(dir)?;
        let (dir, mobula) = (dir.display(), names::program());
        print(&format!(
            "cluster {id} made in {dir}\n\
             next:\n  \
             {mobula} node --head --dir {dir} --listen 127.0.0.1:4433   # the head; other machines need its own address here\n  \
             {mobula} token --dir {dir}                                 # lets one node join\n  \
             {mobula} node --join 127.0.0.1:4433 --token T --dir n1\n"
        ))
    }
}
