//! Engine against loop, in turns: what both found must be equal, and their medians are compared.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;
use std::time::Instant;

use mobula_actors::operator::BoxError;

/// What a run found: rows, and a checksum of its results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    pub(crate) checksum: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.checksum += other.checksum;
    }
}

/// Rounds of both sides, who goes first changing from round to round; one round before is not counted. Gives the lines
/// of the figures.
pub(crate) fn compare(
    name: &str,
    rounds: usize,
    mut engine: impl FnMut() -> Result<Tally, BoxError>,
    mut by_hand: impl FnMut() -> Result<Tally, BoxError>,
) -> Result<Vec<String>, BoxError> {
    let (mut of_engine, mut of_loop) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (one, other) = if round % 2 == 0 {
            let one = rate(&mut engine)?;
            (one, rate(&mut by_hand)?)
        } else {
            let other = rate(&mut by_hand)?;
            (rate(&mut engine)?, other)
        };
        if one.0 != other.0 {
            return Err(format!("{name}: the engine found {:?}, the loop {:?}", one.0, other.0).into());
        }
        println!(
            "{name} round {round}: engine {:.0} rows/s, loop {:.0} rows/s, ratio {:.3}",
            one.1,
            other.1,
            one.1 / other.1
        );
        if round > 0 {
            of_engine.push(one.1);
            of_loop.push(other.1);
        }
    }
    let (engine, by_hand) = (median(of_engine), median(of_loop));
    Ok(vec![
        format!("figure pipeline.{name}.engine {engine:.0} rows/s"),
        format!("figure pipeline.{name}.loop {by_hand:.0} rows/s"),
        format!("figure pipeline.{name}.ratio {:.3} ratio", engine / by_hand),
    ])
}

/// Runs one side: what it found, and rows by second.
fn rate(side: &mut impl FnMut() -> Result<Tally, BoxError>) -> Result<(Tally, f64), BoxError> {
    let from = Instant::now();
    let tally = side()?;
    Ok((tally, tally.rows as f64 / from.elapsed().as_secs_f64()))
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The loop that one writes by hand: threads take the next file from a counter until there is none.
pub(crate) fn each_file<W>(
    files: &[PathBuf],
    threads: usize,
    worker: impl Fn() -> Result<W, BoxError> + Sync,
) -> Result<Tally, BoxError>
where
    W: FnMut(&Path) -> Result<Tally, BoxError>,
{
    let next = AtomicUsize::new(0);
    let work = || -> Result<Tally, BoxError> {
        let mut worker = worker()?;
        let mut tally = Tally::default();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            tally.add(worker(file)?);
        }
        Ok(tally)
    };
    scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut tallies = threads.into_iter().map(|thread| thread.join().expect("a thread of the loop does not panic"));
        tallies.try_fold(Tally::default(), |mut all, tally| {
            all.add(tally?);
            Ok(all)
        })
    })
}

/// Parquet files in a folder under `target`, made once. A folder that is half made is made again.
pub(crate) fn made_once(
    folder: &str,
    make: impl FnOnce(&Path) -> Result<(), BoxError>,
) -> Result<(PathBuf, Vec<PathBuf>), BoxError> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-data");
    let (done, half) = (root.join(folder), root.join(format!("{folder}.half")));
    if !done.exists() {
        println!("making {} once", done.display());
        if half.exists() {
            std::fs::remove_dir_all(&half)?;
        }
        std::fs::create_dir_all(&half)?;
        make(&half)?;
        std::fs::rename(&half, &done)?;
    }
    let files = std::fs::read_dir(&done)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut files = files?;
    files.sort();
    Ok((done, files))
}
