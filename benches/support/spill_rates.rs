//! How fast blocks go to disk and come back, against one file that is written and read from end to end on the same disk.
//!
//! One task of a read waits at a gate while the others make rows that do not compress; these are spilled. Before the gate
//! opens, what was spilled is synced, which counts as time of spilling, and the system forgets the pages: so both ways are
//! of the disk, not of memory. The same is done to the one file.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mobula_actors::job::{Logic, OperatorPlan, Resources, Topology, Workers};
use mobula_actors::node::{JobHandle, Node, NodeConfig};
use mobula_actors::operator::{
    BoxError, OpenContext, OperatorResult, ReadBatch, Source, SourceSpec, Split, SplitReader,
};
use mobula_actors::units::{Bytes, Rows};

use crate::compare::median;
use crate::noise_rows::{self, NoiseRows};

const BUDGET: Bytes = Bytes::mib(256);
/// One waits at the gate, the other spills.
const WORKERS: usize = 2;
/// Nothing more is spilled if nothing was for so long.
const STILL: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(120);
/// Read and written at once in the one file.
const PIECE: usize = 1 << 20;

/// Rates in MiB/s.
struct Round {
    spill: f64,
    restore: f64,
    write: f64,
    read: f64,
}

/// Rounds of spilling and of the disk by itself; gives the lines of the figures.
pub(crate) fn measure(bytes: Bytes, rounds: usize, folder: &Path) -> Result<Vec<String>, BoxError> {
    let mut all = Vec::new();
    for round in 0..rounds {
        // Another one first each time.
        let disk = |first| (round % 2 == first).then(|| disk_rates(&folder.join("probe"), bytes)).transpose();
        let before = disk(0)?;
        let (spill, restore) = spill_rates(bytes, folder)?;
        let (write, read) = before.or(disk(1)?).ok_or("no rates of the disk")?;
        println!("spill {spill:.0}, restore {restore:.0}, disk writes {write:.0}, reads {read:.0} MiB/s");
        all.push(Round { spill, restore, write, read });
    }
    let of = |part: fn(&Round) -> f64| median(all.iter().map(part).collect());
    Ok(vec![
        format!("figure durability.spill {:.0} MiB/s", of(|round| round.spill)),
        format!("figure durability.spill.disk {:.0} MiB/s", of(|round| round.write)),
        format!("figure durability.spill.ratio {:.3} ratio", of(|round| round.spill / round.write)),
        format!("figure durability.restore {:.0} MiB/s", of(|round| round.restore)),
        format!("figure durability.restore.disk {:.0} MiB/s", of(|round| round.read)),
        format!("figure durability.restore.ratio {:.3} ratio", of(|round| round.restore / round.read)),
    ])
}

/// What a job spills and restores.
fn spill_rates(bytes: Bytes, folder: &Path) -> Result<(f64, f64), BoxError> {
    let config = NodeConfig {
        cpus: Some(WORKERS),
        memory_budget: Some(BUDGET),
        spill_max: Some(bytes),
        spill_dir: Some(folder.to_owned()),
        spill_after: Duration::ZERO,
        ..NodeConfig::default()
    };
    let node = Node::start(config)?;
    let gate = Arc::new(Gate::default());
    // Opened however this ends.
    let opens = OpensOnDrop(Arc::clone(&gate));
    let splits = noise_rows::splits(bytes.0 + 4 * BUDGET.0);
    // Those make a pause of their own.
    let splits: Vec<Split> =
        splits.into_iter().enumerate().filter(|(n, _)| n % 32 != 0).map(|(_, split)| split).collect();
    let first = splits.first().map(|split| split.payload.clone()).unwrap_or_default();
    let mut job = node.submit(topology(Gated { gate, first }, splits))?;
    wait_until_still(&node)?;
    let from = Instant::now();
    sync_and_forget(folder)?;
    let (synced, stats) = (from.elapsed(), node.spilled());
    drop(opens);
    drain(&mut job)?;
    let after = node.spilled();
    if stats.spilled.0 == 0 || after.restored.0 < stats.spilled.0 {
        return Err(format!("{:?} went to disk, {:?} came back", stats.spilled, after.restored).into());
    }
    // What is spilled once the gate is open is little; its time is part of both.
    let (spill, restore) = (stats.spill_time + synced, after.restore_time);
    Ok((rate(stats.spilled.1, spill), rate(after.restored.1, restore)))
}

fn rate(bytes: Bytes, time: Duration) -> f64 {
    bytes.0 as f64 / (1 << 20) as f64 / time.as_secs_f64().max(1e-9)
}

fn wait_until_still(node: &Node) -> Result<(), BoxError> {
    let from = Instant::now();
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let spilled = node.spilled().spilled.0;
        if spilled != last {
            (last, since) = (spilled, Instant::now());
        } else if spilled > 0 && since.elapsed() > STILL {
            return Ok(());
        } else if from.elapsed() > PATIENCE {
            return Err(format!("{spilled} blocks were spilled within {PATIENCE:?}").into());
        }
        sleep(Duration::from_millis(10));
    }
}

fn drain(job: &mut JobHandle) -> Result<(), BoxError> {
    while job.next_block()?.is_some() {}
    Ok(())
}

/// Of all files under a folder.
fn sync_and_forget(folder: &Path) -> Result<(), BoxError> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_and_forget(&path)?;
        } else {
            let file = File::open(&path)?;
            file.sync_data()?;
            forget(&file)?;
        }
    }
    Ok(())
}

/// Has the system forget the pages of a file, which are on disk.
#[cfg(target_os = "linux")]
fn forget(file: &File) -> std::io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &File) -> std::io::Result<()> {
    Ok(())
}

/// One file written, synced, forgotten and read, in MiB/s.
fn disk_rates(path: &PathBuf, bytes: Bytes) -> Result<(f64, f64), BoxError> {
    let mut piece = noise_rows::noise().get(..PIECE).ok_or("less noise than a piece")?.to_vec();
    let from = Instant::now();
    let mut file = File::create(path)?;
    for _ in 0..bytes.0 / PIECE as u64 {
        file.write_all(&piece)?;
    }
    file.sync_data()?;
    let write = rate(bytes, from.elapsed());
    forget(&file)?;
    let from = Instant::now();
    let mut file = File::open(path)?;
    while file.read(&mut piece)? > 0 {}
    let read = rate(bytes, from.elapsed());
    fs::remove_file(path)?;
    Ok((write, read))
}

fn topology(source: Gated, splits: Vec<Split>) -> Topology {
    let read = OperatorPlan {
        name: "read".into(),
        inputs: Vec::new(),
        logic: Logic::Read { source: SourceSpec::local("noise rows", Arc::new(source)), splits, chain: Vec::new() },
        workers: Workers { min: 1, max: WORKERS },
        resources: Resources::default(),
        ordered: true,
    };
    Topology { operators: vec![read], ..Topology::default() }
}

/// Rows whose first split does not open before the gate does.
struct Gated {
    gate: Arc<Gate>,
    first: Vec<u8>,
}

impl Source for Gated {
    fn open(
        &self,
        split: &Split,
        left: Range<Rows>,
        batch: ReadBatch,
        context: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        if split.payload == self.first {
            self.gate.wait();
        }
        NoiseRows.open(split, left, batch, context)
    }
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn wait(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(open, |open| !*open));
    }
}

struct OpensOnDrop(Arc<Gate>);

impl Drop for OpensOnDrop {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.opened.notify_all();
    }
}
