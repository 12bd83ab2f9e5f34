//! Which cluster a command talks to, and as whom: the flags `--cluster` and `--identity`.

use std::path::PathBuf;

use clap::Args;
use mobula::cluster::{self, Driver, Identity, Limits};
use mobula::prelude::*;

/// The cluster of a command that needs one.
#[derive(Debug, Args)]
pub(crate) struct OfCluster {
    /// Where the cluster's head listens
    #[arg(long, value_name = "ADDR")]
    cluster: String,
    #[command(flatten)]
    identity: AsWhom,
}

/// The cluster of a command that may run there or here.
#[derive(Debug, Args)]
pub(crate) struct MaybeCluster {
    /// Run on the cluster whose head listens here, not in this process
    #[arg(long, help_heading = "Cluster", value_name = "ADDR")]
    cluster: Option<String>,
    #[command(flatten)]
    identity: AsWhom,
}

#[derive(Debug, Args)]
struct AsWhom {
    /// Folder of the driver's identity (default: $MOBULA_IDENTITY, or what `mobula login` made)
    #[arg(long, help_heading = "Cluster", value_name = "DIR", requires = "cluster")]
    identity: Option<PathBuf>,
}

impl OfCluster {
    /// Connects to the head.
    pub(crate) fn driver(&self) -> mobula::Result<Driver> {
        let identity = self.identity.load(&self.cluster)?;
        Ok(Driver::connect(cluster::address(&self.cluster)?, identity, Limits::default())?)
    }
}

impl MaybeCluster {
    /// A session of the cluster, if there is to be one.
    pub(crate) fn session(&self) -> mobula::Result<Option<Session>> {
        let connect = |head: &String| Session::connect(head, self.identity.load(head)?);
        self.cluster.as_ref().map(connect).transpose()
    }
}

impl AsWhom {
    fn load(&self, head: &str) -> mobula::Result<Identity> {
        match &self.identity {
            Some(dir) => cluster::identity(dir),
            None => cluster::driver_identity(head),
        }
    }
}
