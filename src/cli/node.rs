//! `mobula node`: makes this process the head or a node of a cluster, until it is told to leave.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{self, NodeConfig, NodeOptions, Token};
use crate::prelude::*;
use clap::{ArgGroup, Args};
use tracing::level_filters::LevelFilter;

use super::args::{self, LogLevel};
use super::columns::print;
use super::failure::Failure;
use super::signals::{Heard, Signals};

/// Make this process the head or a node of a cluster
///
/// It runs until Ctrl-C or SIGTERM. A node then finishes its tasks, hands the rest back and leaves within 10 seconds; no
/// job fails by that. A head cancels its jobs and ends within 5 seconds. A second Ctrl-C ends either at once.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true), after_help = EXAMPLES)]
pub(crate) struct NodeCommand {
    /// Be the head: let nodes and drivers in, place work, and compute too
    #[arg(long, group = "what", requires = "listen")]
    head: bool,
    /// Join the cluster whose head listens here
    #[arg(long, group = "what", value_name = "ADDR")]
    join: Option<String>,
    /// Folder of the cluster (head), or of this node's identity, which is made when it joins
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// A token of `mobula token`, to join for the first time
    #[arg(long, value_name = "TOKEN", conflicts_with = "head")]
    token: Option<Token>,
    /// What this node is called in the cluster: a-z, 0-9 and - (default: as its folder)
    #[arg(long, value_name = "NAME", conflicts_with = "head")]
    name: Option<String>,
    /// Where to listen (node: default a free port of the address from which it reaches the head)
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,

    /// Cores that workers compute on (default: all that this process may use)
    #[arg(long, help_heading = RESOURCES, value_name = "N", value_parser = args::cpus)]
    cpus: Option<usize>,
    /// Memory for blocks, such as 512M or 2GiB (default: half of the machine's; least: 1MiB)
    #[arg(long, help_heading = RESOURCES, value_name = "SIZE", value_parser = args::memory)]
    memory: Option<Bytes>,
    /// Disk for results that wait for an older task's when memory runs short (default: 4 times --memory, and at most half
    /// of what is free there; 0 uses none)
    #[arg(long, help_heading = RESOURCES, value_name = "SIZE", value_parser = args::size_or_zero)]
    spill_max: Option<Bytes>,
    /// Folder for them, on a disk (default: $TMPDIR, or /var/tmp); in it the node makes a directory of its own
    #[arg(long, help_heading = RESOURCES, value_name = "DIR")]
    spill_dir: Option<PathBuf>,
    /// GPUs that may be used (default: those found)
    #[arg(long, help_heading = RESOURCES, value_name = "N")]
    gpus: Option<usize>,
    /// How long rows of a job gather before they are written to a file and recorded: what a crash costs at most (default:
    /// 30s)
    #[arg(long, help_heading = RESOURCES, value_name = "TIME", value_parser = args::interval, requires = "head", conflicts_with = "join")]
    commit_interval: Option<Duration>,
    /// A name and value by which operators may choose this node; may be given several times
    #[arg(long = "label", help_heading = RESOURCES, value_name = "KEY=VALUE", value_parser = args::label)]
    labels: Vec<(String, String)>,
    /// Least level of logs of operators that go to the driver of their job
    #[arg(long, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    operator_logs: LogLevel,
    /// Memory of loaded models that wait for the next job (default: a quarter of --memory; 0 keeps none)
    #[arg(long, help_heading = RESOURCES, value_name = "SIZE", value_parser = args::size_or_zero)]
    warm_max: Option<Bytes>,
    /// Largest model or other object that drivers may send the head for a job (default: 2GiB)
    #[arg(long, help_heading = RESOURCES, value_name = "SIZE", value_parser = args::size, requires = "head", conflicts_with = "join")]
    object_max: Option<Bytes>,
    /// All of those that the head holds (default: a quarter of --memory)
    #[arg(long, help_heading = RESOURCES, value_name = "SIZE", value_parser = args::size, requires = "head", conflicts_with = "join")]
    objects_max: Option<Bytes>,
    /// Longest call of a step for a task, such as 10m, of jobs that do not set one (or ten times what is usual, if that is
    /// more): one that takes longer is given up and tried elsewhere (default: 1h)
    #[arg(long, help_heading = RESOURCES, value_name = "TIME", value_parser = args::time)]
    task_timeout: Option<Duration>,
    /// A job of which nothing moves for so long says who waits for whom, in the log of the head and to its driver (default:
    /// 60s)
    #[arg(long, help_heading = RESOURCES, value_name = "TIME", value_parser = args::time, requires = "head", conflicts_with = "join")]
    stall_warning: Option<Duration>,
    /// Only lead: no operator runs on the head itself
    #[arg(long, help_heading = RESOURCES, requires = "head", conflicts_with = "join")]
    no_compute: bool,
}

const RESOURCES: &str = "Resources";

const EXAMPLES: &str = "\
Examples:
  A cluster of one machine, each command in a terminal of its own:
    mobula cluster init --dir C
    mobula node --head --dir C --listen 127.0.0.1:4433
    mobula node --join 127.0.0.1:4433 --token $(mobula token --dir C) --dir n1

  Exit codes: 0 it left or was stopped, 1 it could not join, 2 the flags are wrong";

impl NodeCommand {
    /// Runs until told to leave.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut signals = Signals::new().map_err(Failure::System)?;
        match &self.join {
            None => self.lead(&mut signals),
            Some(head) => self.join(head, &mut signals),
        }
    }

    /// Which logs of operators go to the drivers of their jobs.
    pub(crate) fn operator_logs(&self) -> LevelFilter {
        self.operator_logs.filter()
    }

    fn lead(&self, signals: &mut Signals) -> Result<(), Failure> {
        let (dir, listen) = (self.dir.clone(), self.listen.clone().unwrap_or_default());
        let options = self.options(None);
        let head = during(signals, move || cluster::start_head(&dir, &*listen, options))??;
        if let Err(error) = cluster::keep_local(&self.dir, head.address()) {
            tracing::warn!(%error, "this machine is no driver of its cluster; `mobula login` makes it one");
        }
        print(&format!("head of cluster {}, listening on {}\n", head.status().cluster, head.address()))?;
        signals.wait();
        tracing::info!("stopping; a second signal ends the head at once");
        during(signals, move || head.stop())?;
        print("head stopped\n")
    }

    fn join(&self, to: &str, signals: &mut Signals) -> Result<(), Failure> {
        let listen = self.listen.as_deref().map(cluster::address).transpose()?;
        let (dir, head, token, options) = (self.dir.clone(), to.to_owned(), self.token.clone(), self.options(listen));
        let start = move || cluster::start_node(&dir, &*head, token.as_ref(), options);
        let node = during(signals, start)??;
        let name = node.identity.node();
        print(&format!("node {name} joined {to}, listening on {}\n", node.address))?;
        signals.wait();
        tracing::info!("leaving; a second signal ends the node at once");
        let member = node.member;
        during(signals, move || member.drain())?;
        print(&format!("node {name} left\n"))
    }

    fn options(&self, listen: Option<SocketAddr>) -> NodeOptions {
        let default = NodeConfig::default();
        let node = NodeConfig {
            warm_bytes: self.warm_max,
            spill_max: self.spill_max,
            spill_dir: self.spill_dir.clone(),
            task_progress_limit: self.task_timeout.unwrap_or(default.task_progress_limit),
            stall_warning: self.stall_warning.unwrap_or(default.stall_warning),
            object_bytes_max: self.object_max.unwrap_or(default.object_bytes_max),
            objects_bytes_max: self.objects_max,
            cpus: self.cpus,
            gpus: self.gpus,
            memory_budget: self.memory,
            commit_interval: self.commit_interval.unwrap_or(default.commit_interval),
            labels: self.labels.iter().cloned().collect(),
            ..default
        };
        NodeOptions { name: self.name.clone(), listen, node, leads_only: self.no_compute }
    }
}

/// Does work that a signal breaks off.
fn during<T: Send + 'static>(signals: &mut Signals, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    match signals.during(work).map_err(Failure::System)? {
        Heard::Done(result) => Ok(result),
        Heard::Signal => Err(Failure::Stopped),
    }
}
