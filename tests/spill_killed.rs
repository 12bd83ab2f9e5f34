//! A cluster of real processes with little memory: while one task takes long, results go to the disks of the nodes. A node
//! that is killed leaves its files, the job is what a loop gives all the same, and the node's next start removes what was
//! left. The nodes are this program, so it has a `main` of its own.
#![cfg_attr(not(unix), allow(dead_code, unused_imports))]
#![allow(clippy::print_stdout, reason = "what the job gives is printed")]

#[path = "cluster/processes.rs"]
#[allow(dead_code, reason = "not every test needs all")]
mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use mobula::clap::{self, Parser};
use mobula::prelude::*;
use parquet::arrow::ArrowWriter;
use processes::{CHILD, Cluster, Process, done, until};

/// Each is a task.
const FILES: i64 = 40;
/// Of all files together, some times what the nodes may have in memory.
const ROWS_A_FILE: i64 = 40_000;
/// What the job prints if its rows came in order.
const IN_ORDER: &str = "all rows in order";

/// Passes numbers on; the first batch waits until a file is there
#[derive(Debug, Parser)]
struct Flags {
    #[arg(long)]
    input: String,
    #[arg(long)]
    gate: String,
}

#[mobula::remote]
#[allow(clippy::disallowed_methods, reason = "user code that takes long, in a process of its own")]
fn held(batch: RecordBatch, gate: String) -> OperatorResult<RecordBatch> {
    let numbers = batch.column(0).as_primitive::<Int64Type>();
    while numbers.values().first() == Some(&0) && !Path::new(&gate).exists() {
        std::thread::yield_now();
    }
    Ok(batch)
}

fn job() -> ExitCode {
    mobula::main_with(|session: Session, flags: Flags| -> mobula::Result<()> {
        let batches = session.read_parquet(&flags.input)?.map_batches(held::map(flags.gate))?.collect()?;
        let numbers = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().iter());
        if numbers.copied().eq(0..FILES * ROWS_A_FILE) {
            println!("{IN_ORDER}");
        }
        Ok(())
    })
}

#[cfg(unix)]
fn main() -> ExitCode {
    if std::env::var_os(CHILD).is_some() {
        return job();
    }
    a_killed_node_leaves_its_spilled_blocks_to_its_next_start();
    println!("a killed node left its spilled blocks to its next start, which removed them");
    ExitCode::SUCCESS
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    if std::env::var_os(CHILD).is_some() { job() } else { ExitCode::SUCCESS }
}

fn a_killed_node_leaves_its_spilled_blocks_to_its_next_start() {
    let program = std::env::current_exe().expect("this program");
    let cluster = Cluster::of(program, &["--no-compute", "--memory", "4MiB"]);
    let (first, second, gate) = (cluster.path("spill-1"), cluster.path("spill-2"), cluster.path("gate"));
    let flags = |dir: &Path| {
        let dir = dir.to_str().expect("text").to_owned();
        ["--memory", "4MiB", "--cpus", "2", "--spill-dir", &dir].map(str::to_owned)
    };
    let (of_first, of_second) = (flags(&first), flags(&second));
    let (of_first, of_second) = (of_first.each_ref().map(|f| &**f), of_second.each_ref().map(|f| &**f));
    let mut node = cluster.node("n1", &of_first);
    let other = cluster.node("n2", &of_second);
    let input = cluster.path("in");
    make_input(&input);
    let [input, gate_flag] = [&input, &gate].map(|path| path.to_str().expect("text"));
    let job = ["--input", input, "--gate", gate_flag, "--cluster", &cluster.address];
    let job = Process::spawn(cluster.command(&job));
    until_spilled(&first);
    until_spilled(&second);

    node.kill();
    let left = spilled(&first);
    assert!(!left.is_empty(), "what was killed removes nothing");
    cluster.until_node("n1", "dead");
    let (node, _) = Process::start(cluster.join("n1", &of_first));
    // It has joined, so it has looked before.
    let there: Vec<_> = left.iter().filter(|file| file.exists()).collect();
    assert!(there.is_empty(), "{there:?} were left by a process that is gone");

    fs::write(&gate, "").expect("written");
    let printed = done(&job.end());
    assert!(printed.contains(IN_ORDER), "{printed}");
    until_nothing(&second, spilled);
    for node in [node, other] {
        node.signal("-TERM");
        done(&node.end());
    }
    for dir in [&first, &second] {
        until_nothing(dir, below);
    }
}

fn make_input(dir: &Path) {
    fs::create_dir(dir).expect("a folder");
    for file in 0..FILES {
        let numbers = Int64Array::from_iter_values(file * ROWS_A_FILE..(file + 1) * ROWS_A_FILE);
        let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef)]).expect("a batch");
        let file = fs::File::create(dir.join(format!("in-{file:03}.parquet"))).expect("a file");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a file");
        writer.write(&batch).expect("written");
        writer.close().expect("written");
    }
}

/// What is in a folder.
fn below(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// The files of spilled blocks that a node has in its folder.
fn spilled(dir: &Path) -> Vec<PathBuf> {
    let files = below(dir).into_iter().flat_map(|dir| below(&dir));
    files.filter(|file| file.extension().is_some_and(|ending| ending == "block")).collect()
}

#[track_caller]
fn until_spilled(dir: &Path) {
    until("blocks are spilled", || match spilled(dir).len() {
        0..3 => Err(format!("{:?}", below(dir))),
        _ => Ok(()),
    });
}

#[track_caller]
fn until_nothing(dir: &Path, of: impl Fn(&Path) -> Vec<PathBuf>) {
    until("nothing is left on disk", || match of(dir) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}
