//! `mobula login`: makes this machine a driver of a cluster.

use std::path::PathBuf;

use crate::cluster::{self, Token};
use clap::Args;

use super::columns::print;
use super::failure::Failure;

/// Get this machine an identity to run jobs on a cluster
///
/// The head's own machine has one already.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Where the cluster's head listens
    #[arg(long, value_name = "ADDR")]
    cluster: String,
    /// A token of `mobula token --role driver`
    #[arg(long, value_name = "TOKEN")]
    token: Token,
    /// What this driver is called in the cluster: a-z, 0-9 and -
    #[arg(long, value_name = "NAME", default_value = "driver")]
    name: String,
    /// Folder for the identity (default: $MOBULA_IDENTITY, or one for the address below ~/.mobula)
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
}

impl Login {
    /// Joins and keeps the identity.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let dir = match &self.identity {
            Some(dir) => dir.clone(),
            None => cluster::driver_folder(cluster::address(&self.cluster)?)?,
        };
        let identity = cluster::login(&self.cluster, &self.token, &self.name, &dir)?;
        let (name, cluster, dir) = (identity.node(), identity.cluster(), dir.display());
        print(&format!("driver {name} of cluster {cluster}, kept in {dir}\n"))
    }
}
