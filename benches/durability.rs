//! What does it cost that no row is lost, and what does a crash cost?
//!
//! - `default`, `small_parts`: the same write with the ledger and without, in turns. Without: the same operators, blocks
//!   that carry segments, and parts written, summed up and synced alike; but no plan beside the output, no records, no sync
//!   of the ledger or a folder, no manifest, and parts are moved to their names rather than linked. `default` copies trips
//!   with one more column into files of the default size, at the default commit interval; `small_parts` commits each 50 ms.
//!   `ratio_unsynced` is against a write that syncs nothing at all, so what a program without promises costs; `ratio_cpu` is
//!   of the time of processors, which other programs disturb less.
//! - `rework`: rows computed again after `kill -9` of the process, at seeded times, beyond those that are committed; against
//!   what may be in flight: the blocks of a read's window, and the rows that gather in one commit interval.
//! - `restart`: from the start of a process of `mobula predict` over 3,000 files, after a kill, to its first new commit.
//! - `spill`, `restore`: against one file on the same disk; see `support/spill_rates.rs`.
//!
//! `--rounds N` makes more or fewer rounds, `--only ledger|rework|restart|spill` one of them, `--full` larger ones. What is
//! written goes to `target/bench-data/durability`: put `target` on the disk in question.
#![allow(clippy::disallowed_methods, reason = "a bench takes real time, and waits for processes")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench says what it found")]

#[allow(dead_code, reason = "made for several benches")]
#[path = "support/compare.rs"]
mod compare;
#[path = "support/counting_disk.rs"]
mod counting_disk;
#[path = "support/kills.rs"]
mod kills;
#[path = "support/ledger_sides.rs"]
mod ledger_sides;
#[allow(dead_code, reason = "made for several benches")]
#[path = "support/noise_rows.rs"]
mod noise_rows;
#[path = "support/numbers_job.rs"]
mod numbers_job;
#[path = "support/restarts.rs"]
mod restarts;
#[path = "../examples/support/taxi.rs"]
mod shards;
#[path = "support/spill_rates.rs"]
mod spill_rates;
#[path = "support/unrecorded.rs"]
mod unrecorded;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mobula::prelude::*;
use mobula_actors::operator::BoxError;

use compare::made_once;
use ledger_sides::Write;
use numbers_job::ROWS_A_FILE;

/// How much is done.
struct Size {
    rounds: usize,
    shards: u32,
    rows_a_shard: usize,
    /// Of the job with small parts.
    files: usize,
    kills: usize,
    spilled: Bytes,
}

/// A minute or two.
const SHORT: Size =
    Size { rounds: 5, shards: 4, rows_a_shard: 1_000_000, files: 600, kills: 10, spilled: Bytes::mib(256) };
const FULL: Size =
    Size { rounds: 9, shards: 12, rows_a_shard: 1_000_000, files: 3_000, kills: 100, spilled: Bytes::mib(2 << 10) };
/// Each of the 12 files of digits: 3,000 files.
const DIGITS_TIMES: usize = 250;

fn main() -> ExitCode {
    if let Some(code) = numbers_job::run_if_asked() {
        return code;
    }
    match run() {
        Ok(figures) => {
            figures.iter().for_each(|figure| println!("{figure}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Vec<String>, BoxError> {
    let size = if std::env::args().any(|arg| arg == "--full") { FULL } else { SHORT };
    let rounds = match value("--rounds") {
        Some(text) => text.parse().map_err(|_| format!("--rounds wants a number, not {text:?}"))?,
        None => size.rounds,
    };
    let only = value("--only");
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let folder = Folder::make()?;
    let mut figures = Vec::new();
    let (numbers, _) = made_once(&format!("numbers-{}", size.files), |to| numbers_job::write_input(to, size.files))?;
    if wanted("ledger") {
        figures.extend(ledger(&size, rounds, &numbers, &folder.0)?);
    }
    if wanted("rework") {
        figures.extend(kills::measure(&numbers, size.files, size.kills, &folder.0)?);
    }
    if wanted("restart") {
        let (digits, _) = made_once("digits-3000-files", |to| restarts::write_input(to, DIGITS_TIMES))?;
        figures.extend(restarts::measure(&digits, rounds, &folder.0)?);
    }
    if wanted("spill") {
        figures.extend(spill_rates::measure(size.spilled, rounds.div_ceil(2), &folder.0)?);
    }
    Ok(figures)
}

fn ledger(size: &Size, rounds: usize, numbers: &Path, folder: &Path) -> Result<Vec<String>, BoxError> {
    let out = folder.join("out");
    let (shards, rows) = (size.shards, size.rows_a_shard);
    let (trips, _) = made_once(&format!("taxi-{shards}-{rows}"), |to| {
        shards::write_shards(to, shards, rows, 2009).map(drop).map_err(|error| error.to_string().into())
    })?;
    let copied = |session: &Session| {
        let even = (col("Passenger_Count") % 2).eq(0);
        Ok(session.read_parquet(&trips)?.with_column("even", even)?)
    };
    let input = numbers.to_str().ok_or("the folder's path is not UTF-8")?;
    let computed = |session: &Session| Ok(numbers_job::results(session, input, "")?);
    let writes = [
        Write { name: "default", rows: u64::from(shards) * rows as u64, commit_interval: None, dataset: &copied },
        Write {
            name: "small_parts",
            rows: size.files as u64 * ROWS_A_FILE,
            commit_interval: Some(kills::COMMIT_INTERVAL),
            dataset: &computed,
        },
    ];
    let figures =
        writes.iter().map(|write| ledger_sides::compare(write, rounds, &out)).collect::<Result<Vec<_>, _>>()?;
    Ok(figures.concat())
}

/// Where all is written; gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, BoxError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-data/durability");
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way, and goes with the next run.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The word behind `name` on the command line.
fn value(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}
