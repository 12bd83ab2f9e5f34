//! Does the engine keep to its memory budget? 8 GiB of blocks through an inflating map (x8) and a reducing map, with
//! rows of 1 kB to 1 MB before inflating, under a budget of 256 MiB.
//!
//! Measured is the peak of the whole process above what it took before the job: blocks, what operators have at hand,
//! and what the allocator keeps. Each variant runs in a process of its own, so that peaks do not mix. A number as
//! argument moves so many GiB instead of 8.
//!
//! With `--full` it asks another question: do 20 GiB of blocks with rows of 1 kB to 32 MB, a slow sink and tasks that take
//! long now and then get through a control group of the idle process and 1.1 times a budget of 1 GiB, with results that
//! go to disk on the way? It needs to be allowed to make such a group.
#![allow(clippy::disallowed_methods, reason = "a bench takes real time, and watches its process from a thread")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench says what it found")]

#[path = "support/limited.rs"]
mod limited;
#[path = "support/mixed_rows.rs"]
mod mixed_rows;
#[path = "support/noise_rows.rs"]
mod noise_rows;
#[path = "support/rss.rs"]
mod rss;
#[path = "support/spilling.rs"]
mod spilling;

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::AsArray;
use arrow::compute::sum;
use arrow::datatypes::UInt64Type;
use arrow::record_batch::RecordBatch;
use mobula_actors::job::{JobSummary, Logic, OperatorPlan, Resources, Topology, Workers};
use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::operator::{BoxError, IntoOperator, OperatorSpec, SourceSpec, local};
use mobula_actors::units::Bytes;

const BUDGET: Bytes = Bytes::mib(256);
/// Moved unless the argument says otherwise, in GiB behind the inflating map.
const GIB: f64 = 8.0;
/// The same with `--full`.
const FULL_GIB: f64 = 20.0;
const WORKERS: [usize; 4] = [1, 2, 8, 16];
/// Set for the process that runs one variant: its shape, its workers, its GiB.
const VARIANT: &str = "MOBULA_MEMORY_VARIANT";

/// How the two maps are run.
#[derive(Clone, Copy)]
enum Shape {
    /// Each by workers of its own, with blocks in between.
    Separate,
    /// Both in one call, on workers of their own.
    Fused,
    /// Both in the worker that reads, as the planner does it.
    InRead,
}

impl Shape {
    const ALL: [Self; 3] = [Self::Separate, Self::Fused, Self::InRead];

    fn name(self) -> &'static str {
        match self {
            Self::Separate => "separate",
            Self::Fused => "fused",
            Self::InRead => "in-read",
        }
    }
}

fn main() -> Result<(), BoxError> {
    if let Ok(variant) = std::env::var(VARIANT) {
        return run_variant(&variant);
    }
    if let Some(result) = spilling::run_if_asked() {
        return result;
    }
    if std::env::args().any(|arg| arg == "--full") {
        let gib = std::env::args().skip(1).find_map(|arg| arg.parse::<f64>().ok()).unwrap_or(FULL_GIB);
        return spilling::start(gib);
    }
    let gib = std::env::args().skip(1).find_map(|arg| arg.parse::<f64>().ok()).unwrap_or(GIB);
    let mut figures = Vec::new();
    for workers in WORKERS {
        let ratios = Shape::ALL.iter().map(|shape| in_own_process(*shape, workers, gib));
        let ratios = ratios.collect::<Result<Vec<f64>, _>>()?;
        figures.push((workers, ratios.into_iter().fold(0.0, f64::max)));
    }
    for (workers, ratio) in &figures {
        println!("figure memory.peak_over_budget.workers_{workers} {ratio:.3} ratio");
    }
    let worst = figures.iter().map(|(_, ratio)| *ratio).fold(0.0, f64::max);
    println!("figure memory.peak_over_budget {worst:.3} ratio");
    Ok(())
}

/// Runs this program again for one variant; its peak over the budget.
fn in_own_process(shape: Shape, workers: usize, gib: f64) -> Result<f64, BoxError> {
    let variant = format!("{} {workers} {gib}", shape.name());
    let output = Command::new(std::env::current_exe()?).env(VARIANT, &variant).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let (said, ratio) = text.trim_end().rsplit_once('\n').unwrap_or_default();
    println!("{said}");
    match ratio.parse() {
        Ok(ratio) if output.status.success() => Ok(ratio),
        _ => Err(format!("variant {variant:?} failed: {}", output.status).into()),
    }
}

fn run_variant(variant: &str) -> Result<(), BoxError> {
    let mut words = variant.split(' ');
    let shape = words.next().and_then(|word| Shape::ALL.into_iter().find(|shape| shape.name() == word));
    let (shape, workers) = (shape.ok_or("no shape")?, words.next().ok_or("no workers")?.parse::<usize>()?);
    let bytes = words.next().ok_or("no size")?.parse::<f64>()? * (1u64 << 30) as f64;

    let config = NodeConfig { cpus: Some(workers), memory_budget: Some(BUDGET), ..NodeConfig::default() };
    let node = Node::start(config)?;
    let topology = topology(shape, workers, bytes as u64 / mixed_rows::FACTOR as u64);
    let expected = expected(&topology);
    let idle = rss::now();
    let watch = rss::Watch::start();
    let from = Instant::now();
    let (found, summary) = run(&node, topology, &watch)?;
    let seconds = from.elapsed().as_secs_f64();
    let above = watch.finish().saturating_sub(idle);
    if found != expected {
        return Err(format!("lengths and sums are {found:?} instead of {expected:?}").into());
    }
    let ratio = above as f64 / BUDGET.0 as f64;
    let mib_s = found.0 as f64 / seconds / (1 << 20) as f64;
    println!(
        "{} maps, {workers} workers: peak {} above idle ({ratio:.3} of the budget), blocks {}, {} in {seconds:.1} s, {mib_s:.0} MiB/s",
        shape.name(),
        Bytes(above),
        summary.blocks_bytes_peak,
        Bytes(found.0),
    );
    println!("{ratio}");
    Ok(())
}

/// Runs the job: the lengths of all rows that went through, and the sums of their bytes.
fn run(node: &Node, topology: Topology, watch: &rss::Watch) -> Result<((u64, u64), JobSummary), BoxError> {
    let mut job = node.submit(topology)?;
    let mut found = (0, 0);
    while let Some(block) = job.next_block()? {
        for batch in block.batches() {
            found = (found.0 + total(batch, 0), found.1 + total(batch, 1));
        }
        watch.progress();
    }
    Ok((found, job.summary()))
}

fn total(batch: &RecordBatch, column: usize) -> u64 {
    sum(batch.column(column).as_primitive::<UInt64Type>()).unwrap_or_default()
}

fn expected(topology: &Topology) -> (u64, u64) {
    match topology.operators.first().map(|plan| &plan.logic) {
        Some(Logic::Read { splits, .. }) => mixed_rows::expected(splits.len()),
        _ => (0, 0),
    }
}

fn topology(shape: Shape, workers: usize, bytes: u64) -> Topology {
    let source = SourceSpec::local("mixed rows", Arc::new(mixed_rows::MixedRows));
    let read = |chain| Logic::Read { source, splits: mixed_rows::splits(bytes), chain };
    let inflate = local(mixed_rows::inflate).into_operator().labelled("inflate");
    let reduce = local(mixed_rows::reduce).into_operator().labelled("reduce");
    let map = |chain: Vec<OperatorSpec>| Logic::Map { chain, task_bytes: None };
    let logics = match shape {
        Shape::Separate => vec![read(Vec::new()), map(vec![inflate]), map(vec![reduce])],
        Shape::Fused => vec![read(Vec::new()), map(vec![inflate, reduce])],
        Shape::InRead => vec![read(vec![inflate, reduce])],
    };
    let plan = |(index, logic): (usize, Logic)| OperatorPlan {
        name: format!("operator {index}").into(),
        inputs: index.checked_sub(1).into_iter().collect(),
        logic,
        workers: Workers { min: 1, max: workers },
        resources: Resources::default(),
        ordered: true,
    };
    Topology { operators: logics.into_iter().enumerate().map(plan).collect(), ..Topology::default() }
}
