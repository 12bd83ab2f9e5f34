//! A cluster of child processes on loopback: a head that only leads, and nodes, all of them this very program.
//!
//! For examples, which include this file by `#[path]` and call [`serve_if_asked`] first. On real machines each process
//! is started by `mobula node` or by a program of one's own that calls the same functions.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mobula::cluster::{self, Driver, Limits, NodeConfig, NodeOptions, Role};
use mobula::prelude::*;
use tempfile::TempDir;

/// What a process is asked to be, as its first argument.
const HEAD: &str = "be-head";
const NODE: &str = "be-node";
/// How long a token is valid that is used at once.
const TOKEN_TIME: Duration = Duration::from_secs(60);

/// If this process was started as a head or a node, is that and does not come back.
pub(crate) fn serve_if_asked() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [HEAD, dir] => {
            let options = NodeOptions { leads_only: true, ..NodeOptions::default() };
            let head = cluster::start_head(Path::new(dir), "127.0.0.1:0", options)?;
            say(&head.address().to_string())?;
            // The child ends with its parent.
            std::io::stdin().lines().for_each(drop);
            head.stop();
            std::process::exit(0)
        }
        [NODE, dir, head, token, label] => {
            let mut node = NodeConfig { cpus: Some(1), ..NodeConfig::default() };
            match label.split_once('=') {
                Some(("cpus", cpus)) => node.cpus = Some(cpus.parse()?),
                Some(("gpus", gpus)) => node.gpus = Some(gpus.parse()?),
                Some((name, value)) => drop(node.labels.insert(name.to_owned(), value.to_owned())),
                None => {}
            }
            let options = NodeOptions { node, ..NodeOptions::default() };
            let started = cluster::start_node(Path::new(dir), *head, Some(&token.parse()?), options)?;
            say(&started.address.to_string())?;
            std::io::stdin().lines().for_each(drop);
            started.member.drain();
            std::process::exit(0)
        }
        _ => Ok(()),
    }
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The running processes; they end when this is dropped.
pub(crate) struct Processes {
    /// Keys and identities.
    folder: TempDir,
    head: Process,
    nodes: Vec<Process>,
}

impl Processes {
    /// Starts a head and a node of one core for each label (`name=value`, `cpus=n` for more cores, `gpus=n`, or empty); all have
    /// joined when this comes back.
    pub(crate) fn start(labels: &[&str]) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let dir = folder.path().join("cluster");
        cluster::init(&dir)?;
        let head = Process::start(&[HEAD, &text(&dir)])?;
        let mut nodes = Vec::new();
        for (number, label) in labels.iter().enumerate() {
            let home = folder.path().join(format!("node-{}", number + 1));
            let token = cluster::token(&dir, Role::Node, TOKEN_TIME)?.to_string();
            nodes.push(Process::start(&[NODE, &text(&home), &head.address, &token, label])?);
        }
        Ok(Self { folder, head, nodes })
    }

    /// A driver without a session, for actors.
    #[allow(dead_code, reason = "not every example needs all")]
    pub(crate) fn driver(&self) -> Result<Driver, Box<dyn Error>> {
        let identity = cluster::local_driver(&self.folder.path().join("cluster"))?;
        Ok(Driver::connect(self.head.address.parse()?, identity, Limits::default())?)
    }

    /// A session of the cluster.
    #[allow(dead_code, reason = "not every example needs all")]
    pub(crate) fn connect(&self) -> mobula::Result<Session> {
        let dir = self.folder.path().join("cluster");
        Session::connect(&self.head.address, cluster::local_driver(&dir)?)
    }

    /// A folder that ends with the cluster.
    #[allow(dead_code, reason = "not every example needs all")]
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process ids of the nodes.
    #[allow(dead_code, reason = "not every example needs all")]
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.child.id()).collect()
    }

    /// Kills a node, as a loss of power would.
    #[allow(dead_code, reason = "not every example needs all")]
    pub(crate) fn kill(&mut self, node: usize) -> std::io::Result<()> {
        self.nodes.get_mut(node).map_or(Ok(()), |node| node.child.kill())
    }
}

struct Process {
    child: Child,
    /// Where it listens.
    address: String,
}

impl Process {
    /// Starts this program again with other arguments, and waits for the line that says where it listens.
    fn start(args: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let process = Self { child, address: line.trim().to_owned() };
        match process.address.is_empty() {
            true => Err("a process of the cluster did not start".into()),
            false => Ok(process),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
