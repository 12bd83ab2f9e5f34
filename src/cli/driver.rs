//! Where a command runs or which cluster it talks to, and as whom: the flags `--cluster`, `--identity`, `--memory`,
//! `--spill-max`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args;
use super::failure::Failure;
use crate::cluster::{self, Driver, Identity, Limits};
use crate::prelude::*;

/// The cluster of a command that needs one.
#[derive(Debug, Args)]
pub(crate) struct OfCluster {
    /// Where the cluster's head listens
    #[arg(long, value_name = "ADDR")]
    cluster: String,
    #[command(flatten)]
    identity: AsWhom,
}

/// Where a command runs that may run here or on a cluster.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Memory for data on its way, such as 512M or 2GiB (default: half of the machine's; least: 1MiB)
    #[arg(long, help_heading = SPEED, value_name = "SIZE", value_parser = args::memory, conflicts_with = "cluster")]
    memory: Option<Bytes>,
    /// Disk for results that wait for an older task's when memory runs short (default: 4 times --memory, and at most half
    /// of what is free there; 0 uses none)
    #[arg(long, help_heading = SPEED, value_name = "SIZE", value_parser = args::size_or_zero, conflicts_with = "cluster")]
    spill_max: Option<Bytes>,
    /// Folder for them, on a disk (default: $TMPDIR, or /var/tmp)
    #[arg(long, help_heading = SPEED, value_name = "DIR", conflicts_with = "cluster")]
    spill_dir: Option<PathBuf>,
    /// GPUs of this machine that may be used (default: those found)
    #[arg(long, help_heading = SPEED, value_name = "N", conflicts_with = "cluster")]
    gpus: Option<usize>,
    /// How long rows gather before they are written to a file and recorded: what a crash costs at
    /// most beside what is in flight (default: 30s); short times make many files. On a cluster its head says it
    #[arg(long, help_heading = SPEED, value_name = "TIME", value_parser = args::interval)]
    commit_interval: Option<Duration>,
    /// Run on the cluster whose head listens here, not in this process
    #[arg(long, help_heading = "Cluster", value_name = "ADDR")]
    cluster: Option<String>,
    #[command(flatten)]
    identity: AsWhom,
    /// Share of the cores beside other jobs of the cluster: 3 gets three times what 1 gets
    #[arg(long, help_heading = "Cluster", requires = "cluster", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    weight: u32,
}

#[derive(Debug, Args)]
struct AsWhom {
    /// Folder of the driver's identity (default: $MOBULA_IDENTITY, or what `mobula login` made)
    #[arg(long, help_heading = "Cluster", value_name = "DIR", requires = "cluster")]
    identity: Option<PathBuf>,
}

impl OfCluster {
    /// Connects to the head.
    pub(crate) fn driver(&self) -> crate::Result<Driver> {
        let identity = self.identity.load(&self.cluster)?;
        Ok(Driver::connect(cluster::address(&self.cluster)?, identity, Limits::default())?)
    }
}

/// The heading of flags of this process's limits.
pub(crate) const SPEED: &str = "Speed and memory";

impl Place {
    /// A session there.
    pub(crate) fn session(&self) -> Result<Session, Failure> {
        if let Some(head) = &self.cluster {
            if self.commit_interval.is_some() {
                let reason =
                    "--commit-interval is said to the head of a cluster: `mobula node --head --commit-interval ..`";
                return Err(Failure::Usage(reason.to_owned()));
            }
            return Ok(Session::connect(head, self.identity.load(head)?)?.with_weight(self.weight)?);
        }
        let mut builder = Session::builder();
        if let Some(memory) = self.memory {
            builder = builder.memory_budget(memory);
        }
        if let Some(most) = self.spill_max {
            builder = builder.spill_max(most);
        }
        if let Some(dir) = &self.spill_dir {
            builder = builder.spill_dir(dir);
        }
        if let Some(gpus) = self.gpus {
            builder = builder.gpus(gpus);
        }
        if let Some(interval) = self.commit_interval {
            builder = builder.commit_interval(interval);
        }
        Ok(builder.build()?)
    }
}

impl AsWhom {
    fn load(&self, head: &str) -> crate::Result<Identity> {
        match &self.identity {
            Some(dir) => cluster::identity(dir),
            None => cluster::driver_identity(head),
        }
    }
}
