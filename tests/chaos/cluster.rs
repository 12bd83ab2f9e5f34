//! A head, two nodes and a driver, all processes of their own: some of them are killed at random moments.

use std::path::{Path, PathBuf};
use std::process::Command;

use rand::Rng;

use super::Chaos;
use super::check::{Progress, no_process_left, progress};
use super::local::{Bench, COMMIT_INTERVAL, WORTH_KILLING, goes_on, program};
use super::processes::{Cluster, Process, done, output, until};

/// The flags of a node.
const NODE: [&str; 2] = ["--cpus", "1"];
/// The flags of the head, which says when files end.
const HEAD: [&str; 3] = ["--no-compute", "--commit-interval", COMMIT_INTERVAL];
const NODES: [&str; 2] = ["n1", "n2"];

/// A cluster and the job that runs on it.
struct Site {
    cluster: Cluster,
    nodes: Vec<Process>,
    bench: Bench,
}

impl Site {
    fn new() -> Self {
        let cluster = Cluster::of(program(), &HEAD);
        let nodes = NODES.iter().map(|name| cluster.node(name, &NODE)).collect();
        Self { cluster, nodes, bench: Bench::new(WORTH_KILLING) }
    }

    /// The command that runs the job.
    fn command(&self, out: &Path) -> Command {
        let mut command = self.cluster.command(&["--cluster", &self.cluster.address]);
        command.args(self.bench.flags(out)).env("TMPDIR", self.bench.temporary());
        command
    }

    /// Starts the job, until it has come some way; gives whether it still runs then.
    fn begin(&mut self, chaos: &mut Chaos) -> (Process, PathBuf, bool) {
        let out = self.bench.fresh();
        let mut driver = Process::spawn(self.command(&out));
        let runs = goes_on(&mut driver, &out, &self.bench.size, chaos);
        (driver, out, runs)
    }

    /// Runs the command again and again until it is done: meanwhile the job may run without its driver.
    fn rerun(&self, out: &Path) -> String {
        let mut said = String::new();
        until("the job is done", || {
            let again = output(self.command(out));
            said = String::from_utf8_lossy(&again.stdout).into_owned();
            let error = String::from_utf8_lossy(&again.stderr).into_owned();
            assert!(again.status.success() || error.contains("this job runs already"), "{error}");
            if again.status.success() { Ok(()) } else { Err(error) }
        });
        said
    }

    /// The head is started again where it was; its nodes find it by themselves.
    fn start_head(&mut self) {
        let dir = self.cluster.path("C");
        let dir = dir.to_str().expect("text");
        let args = ["node", "--head", "--dir", dir, "--listen", &self.cluster.address];
        let (head, line) = Process::start(self.cluster.command(&[&args[..], &HEAD].concat()));
        assert!(line.contains("listening on"), "{line}");
        self.cluster.head = head;
    }

    /// A node is started again; it needs no token.
    fn start_node(&mut self, number: usize) {
        let (node, line) = Process::start(self.cluster.join(NODES[number], &NODE));
        assert!(line.contains("joined"), "{line}");
        self.nodes[number] = node;
    }

    fn until_all_are_there(&self) {
        NODES.iter().for_each(|name| self.cluster.until_node(name, "alive"));
    }

    fn committed(&self, out: &Path) -> Progress {
        let progress = progress(out, &self.bench.size);
        println!("chaos: killed with {progress:?} of {} rows", self.bench.size.rows());
        progress
    }

    /// All is ended as a user would, and nothing is left.
    fn end(self) {
        let Self { cluster, nodes, bench } = self;
        for node in nodes {
            node.signal("-TERM");
            done(&node.end());
        }
        let Cluster { head, folder, .. } = cluster;
        head.signal("-TERM");
        done(&head.end());
        no_process_left(folder.path());
        no_process_left(bench.folder.path());
    }
}

/// Repeats until so many things were killed while a job ran.
fn rounds(chaos: &mut Chaos, mut round: impl FnMut(&mut Site, &mut Chaos) -> bool) {
    let mut site = Site::new();
    let (mut kills, mut jobs) = (0, 0);
    while kills < chaos.rounds {
        kills += usize::from(round(&mut site, chaos));
        jobs += 1;
    }
    site.end();
    println!("chaos: {jobs} jobs, {kills} kills");
}

/// What a driver is told when its job was begun again on other nodes, with what is left.
const GOES_ON: &str = "which goes on from what is finished";

/// A node dies: the job ends by itself on the other, and what was committed is not read again.
pub(crate) fn node(chaos: &mut Chaos) {
    rounds(chaos, |site, chaos| {
        let (driver, out, runs) = site.begin(chaos);
        let victim = chaos.rng.random_range(0..NODES.len());
        site.nodes[victim].kill();
        site.committed(&out);
        let ended = driver.end();
        let said = done(&ended);
        if String::from_utf8_lossy(&ended.stderr).contains(GOES_ON) {
            // It says how many rows were finished before and how many were read after, together.
            site.bench.did_only_the_rest(&said, Progress::default());
        }
        site.bench.check(&out);
        site.start_node(victim);
        site.until_all_are_there();
        runs
    });
}

/// The driver dies: the job goes on without it, and the same command says so.
pub(crate) fn driver(chaos: &mut Chaos) {
    rounds(chaos, |site, chaos| {
        let (driver, out, runs) = site.begin(chaos);
        drop(driver);
        let before = site.committed(&out);
        let said = site.rerun(&out);
        site.bench.did_only_the_rest(&said, before);
        site.bench.check(&out);
        runs
    });
}

/// The head dies and comes back; the same command goes on.
pub(crate) fn head(chaos: &mut Chaos) {
    rounds(chaos, |site, chaos| {
        let (driver, out, runs) = site.begin(chaos);
        site.cluster.head.kill();
        let ended = driver.end();
        let before = site.committed(&out);
        site.start_head();
        site.until_all_are_there();
        let said = site.rerun(&out);
        site.bench.did_only_the_rest(&said, before);
        site.bench.check(&out);
        runs && !ended.status.success()
    });
}

/// All die at once.
pub(crate) fn everything(chaos: &mut Chaos) {
    rounds(chaos, |site, chaos| {
        let (mut driver, out, runs) = site.begin(chaos);
        site.nodes.iter().chain([&site.cluster.head, &driver]).for_each(|process| process.signal("-KILL"));
        site.nodes.iter_mut().chain([&mut site.cluster.head, &mut driver]).for_each(Process::kill);
        let before = site.committed(&out);
        site.start_head();
        (0..NODES.len()).for_each(|number| site.start_node(number));
        site.until_all_are_there();
        let said = site.rerun(&out);
        site.bench.did_only_the_rest(&said, before);
        site.bench.check(&out);
        runs
    });
}
