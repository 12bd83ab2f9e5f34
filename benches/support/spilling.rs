//! The run of `memory --full`: 20 GiB of blocks in a control group of the idle process and 1.1 times the budget.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use mobula_actors::job::{Logic, OperatorPlan, Resources, Topology, Workers};
use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::operator::{BoxError, IntoOperator, SourceSpec, local};
use mobula_actors::units::Bytes;

use super::limited::Limited;
use super::{noise_rows, rss};

const BUDGET: Bytes = Bytes::mib(1 << 10);
/// What the sink takes; the source makes far more.
const SINK_MIB_S: f64 = 300.0;
const WORKERS: usize = 2;
/// Read and written to see what the disk does by itself.
const DISK_BYTES: u64 = 2 << 30;
/// Set for the process in the group: GiB to move; 0 only says what the idle process takes.
const RUN: &str = "MOBULA_MEMORY_FULL";

/// Runs in the group if this process was started for it.
pub(crate) fn run_if_asked() -> Option<Result<(), BoxError>> {
    Some(run(std::env::var(RUN).ok()?.parse().ok()?))
}

/// Starts the run in a group of its own.
pub(crate) fn start(gib: f64) -> Result<(), BoxError> {
    let program = std::env::current_exe()?;
    let idle = Command::new(&program).env(RUN, "0").output()?;
    let idle: u64 = String::from_utf8_lossy(&idle.stdout).trim().parse()?;
    let limit = idle + BUDGET.0 / 10 * 11;
    let group = Limited::new(limit).map_err(|error| format!("no control group can be made here: {error}"))?;
    println!("idle {}, limit {}", Bytes(idle), Bytes(limit));
    let status = group.wrap(&program).env(RUN, gib.to_string()).status()?;
    let kills = group.oom_kills().ok_or("the group does not tell of kills")?;
    println!("peak of the group {}, with pages of files", Bytes(group.peak().unwrap_or_default()));
    println!("figure memory.full.oom_kills {kills} kills");
    if status.success() { Ok(()) } else { Err(format!("the run ended with {status}").into()) }
}

fn run(gib: f64) -> Result<(), BoxError> {
    // A folder beside the program: on a disk, unlike what some systems have under /tmp.
    let dir = std::env::current_exe()?.with_file_name("memory-full-spill");
    let config = NodeConfig {
        cpus: Some(WORKERS),
        memory_budget: Some(BUDGET),
        spill_dir: Some(dir.clone()),
        ..NodeConfig::default()
    };
    let node = Node::start(config)?;
    let splits = noise_rows::splits((gib * (1u64 << 30) as f64) as u64);
    let expected = noise_rows::expected(splits.len());
    let idle = rss::now();
    if gib == 0.0 {
        println!("{idle}");
        return Ok(());
    }
    let watch = rss::Watch::start();
    let from = Instant::now();
    let mut job = node.submit(topology(splits))?;
    let mut found = (0, 0);
    while let Some(block) = job.next_block()? {
        for batch in block.batches() {
            found = (found.0 + super::total(batch, 0), found.1 + super::total(batch, 1));
        }
        watch.progress();
    }
    let seconds = from.elapsed().as_secs_f64();
    let above = watch.finish().saturating_sub(idle);
    if found != expected {
        return Err(format!("lengths and sums are {found:?} instead of {expected:?}").into());
    }
    println!("{} in {seconds:.0} s, blocks {}", Bytes(found.0), job.summary().blocks_bytes_peak);
    tell(&node, above, &dir)
}

fn tell(node: &Node, above: u64, dir: &Path) -> Result<(), BoxError> {
    let stats = node.spilled();
    let mib_s = |bytes: Bytes, seconds: f64| bytes.0 as f64 / (1 << 20) as f64 / seconds.max(1e-9);
    let status = fs::read_to_string("/proc/self/status")?;
    let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().trim();
    println!(
        "VmHWM {high}; spilled {:?}, restored {:?}, at most {} on disk",
        stats.spilled, stats.restored, stats.on_disk_peak
    );
    let (write, read) = disk_rates(&dir.with_extension("probe"))?;
    let (spill, restore) = (
        mib_s(stats.spilled.1, stats.spill_time.as_secs_f64()),
        mib_s(stats.restored.1, stats.restore_time.as_secs_f64()),
    );
    println!("figure memory.full.peak_over_budget {:.3} ratio", above as f64 / BUDGET.0 as f64);
    println!("figure memory.full.spill {spill:.0} MiB/s");
    println!("figure memory.full.restore {restore:.0} MiB/s");
    println!("figure memory.full.disk_write {write:.0} MiB/s");
    println!("figure memory.full.disk_read {read:.0} MiB/s");
    Ok(())
}

/// What a plain loop writes and reads in one file there, in MiB/s, under the same limit of memory.
fn disk_rates(path: &PathBuf) -> Result<(f64, f64), BoxError> {
    let mut piece = noise_rows::noise().to_vec();
    let rate = |from: Instant| (DISK_BYTES >> 20) as f64 / from.elapsed().as_secs_f64();
    let from = Instant::now();
    let mut file = File::create(path)?;
    for _ in 0..DISK_BYTES / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    let write = rate(from);
    let from = Instant::now();
    let mut file = File::open(path)?;
    while file.read(&mut piece)? > 0 {}
    let read = rate(from);
    fs::remove_file(path)?;
    Ok((write, read))
}

fn topology(splits: Vec<mobula_actors::operator::Split>) -> Topology {
    let source = SourceSpec::local("noise rows", Arc::new(noise_rows::NoiseRows));
    let sink = local(noise_rows::slow_sink(SINK_MIB_S / WORKERS as f64)).into_operator().labelled("slow sink");
    let plan = |(index, logic): (usize, Logic)| OperatorPlan {
        name: format!("operator {index}").into(),
        inputs: index.checked_sub(1).into_iter().collect(),
        logic,
        workers: Workers { min: 1, max: WORKERS },
        resources: Resources::default(),
        ordered: true,
    };
    let logics =
        [Logic::Read { source, splits, chain: Vec::new() }, Logic::Map { chain: vec![sink], task_bytes: None }];
    Topology { operators: logics.into_iter().enumerate().map(plan).collect(), ..Topology::default() }
}
