//! The same write with the ledger, without it, and without any sync: in turns, in one run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mobula::prelude::*;
use mobula_actors::operator::BoxError;

use crate::compare::median;
use crate::counting_disk::{Counting, Syncs};
use crate::numbers_job::ledger;
use crate::unrecorded;

/// How a write is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// As users have it.
    Ledger,
    /// Parts are written and synced alike; no plan, no records, no sync of anything else.
    Without,
    /// The same, and parts are not synced either.
    Unsynced,
}

const SIDES: [Side; 3] = [Side::Ledger, Side::Without, Side::Unsynced];

/// A write: its name in figures, its rows, and the dataset that is written.
pub(crate) struct Write<'a> {
    pub(crate) name: &'a str,
    pub(crate) rows: u64,
    pub(crate) commit_interval: Option<Duration>,
    pub(crate) dataset: &'a dyn Fn(&Session) -> Result<Dataset, BoxError>,
}

/// Sessions that a write is run in, and where it writes.
struct Place {
    synced: (Session, Arc<Counting>),
    unsynced: Session,
    out: PathBuf,
}

/// What the ledger of a run takes.
#[derive(Default)]
struct Kept {
    bytes: u64,
    parts: usize,
}

/// Rounds of all sides, another one first each time; one round before is not counted. Gives the lines of the figures.
pub(crate) fn compare(write: &Write<'_>, rounds: usize, out: &Path) -> Result<Vec<String>, BoxError> {
    let session = |env: &Arc<Counting>| {
        let builder = Session::builder();
        let builder = write.commit_interval.into_iter().fold(builder, |builder, time| builder.commit_interval(time));
        builder.build_with(env.clone())
    };
    let (synced, unsynced) = (Arc::new(Counting::new(true)), Arc::new(Counting::new(false)));
    let place = Place { synced: (session(&synced)?, synced), unsynced: session(&unsynced)?, out: out.to_owned() };
    let (mut took, mut kept) = ([const { Vec::new() }; SIDES.len()], Kept::default());
    for round in 0..=rounds {
        for turn in 0..SIDES.len() {
            let at = (round + turn) % SIDES.len();
            let run = place.run(SIDES[at], write, &mut kept)?;
            if round > 0 {
                took[at].push(run);
            }
        }
    }
    Ok(figures(write, &took, &kept))
}

/// What a run takes, in seconds.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    /// Of processors, all threads together.
    cpu: f64,
}

fn figures(write: &Write<'_>, took: &[Vec<Took>; SIDES.len()], kept: &Kept) -> Vec<String> {
    let name = write.name;
    // Of a round with itself: rounds differ more than sides do.
    let ratio = |of: fn(&Took) -> f64, to: usize| {
        median(took[0].iter().zip(&took[to]).map(|(ledger, other)| of(other) / of(ledger)).collect())
    };
    let rate = |side: usize| write.rows as f64 / median(took[side].iter().map(|took| took.wall).collect());
    let million = kept.bytes as f64 * 1e6 / write.rows as f64;
    vec![
        format!("figure durability.{name}.ledger {:.0} rows/s", rate(0)),
        format!("figure durability.{name}.without {:.0} rows/s", rate(1)),
        format!("figure durability.{name}.ratio {:.3} ratio", ratio(|took| took.wall, 1)),
        format!("figure durability.{name}.ratio_cpu {:.3} ratio", ratio(|took| took.cpu, 1)),
        format!("figure durability.{name}.ratio_unsynced {:.3} ratio", ratio(|took| took.wall, 2)),
        format!("figure durability.{name}.parts {} parts", kept.parts),
        format!("figure durability.{name}.ledger_bytes {million:.0} B/million_rows"),
        format!("figure durability.{name}.part_bytes {:.0} B/part", kept.bytes as f64 / kept.parts.max(1) as f64),
    ]
}

impl Place {
    fn run(&self, side: Side, write: &Write<'_>, kept: &mut Kept) -> Result<Took, BoxError> {
        self.settle()?;
        let session = if side == Side::Unsynced { &self.unsynced } else { &self.synced.0 };
        let dataset = (write.dataset)(session)?;
        self.synced.1.take();
        let (from, cpu) = (Instant::now(), cpu_seconds());
        match side {
            Side::Ledger => drop(dataset.write_parquet(&self.out)?),
            Side::Without | Side::Unsynced => {
                let parts = self.out.join("_parts");
                fs::create_dir_all(&parts)?;
                dataset.write_parts(&parts, unrecorded::spec(&self.out)?)?;
            }
        }
        let took = Took { wall: from.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu };
        let (syncs, parts) = (self.synced.1.take(), parts(&self.out)?);
        say(side, write, took, (syncs, parts.len()));
        let rows = session.read_parquet(&self.out)?.count()?;
        if rows != write.rows {
            return Err(format!("{rows} rows were written instead of {}", write.rows).into());
        }
        if side == Side::Ledger {
            *kept = Kept { bytes: fs::metadata(ledger(&self.out))?.len(), parts: parts.len() };
        }
        Ok(took)
    }

    /// Removes what was written and waits until the disk has nothing to do for an earlier run.
    fn settle(&self) -> Result<(), BoxError> {
        if self.out.exists() {
            fs::remove_dir_all(&self.out)?;
        }
        rustix::fs::sync();
        Ok(())
    }
}

fn say(side: Side, write: &Write<'_>, Took { wall, cpu }: Took, (syncs, parts): (Syncs, usize)) {
    let Syncs { files, dirs, time } = syncs;
    println!(
        "{} {side:?}: {wall:.3} s, {cpu:.2} s of processors, {parts} parts, syncs of {files} files and {dirs} folders in {time:.1?}",
        write.name,
    );
}

/// Time of processors that this process has taken, to a hundredth of a second; zero where the system does not say.
fn cpu_seconds() -> f64 {
    let about = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name: user and system time are the 12th and 13th.
    let fields = about.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// What readers see in a folder.
fn parts(out: &Path) -> Result<Vec<PathBuf>, BoxError> {
    let files = fs::read_dir(out)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    Ok(files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect())
}
