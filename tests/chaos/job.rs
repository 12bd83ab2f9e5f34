//! The job that is disturbed, its input, and what comes of it: a filter, a function that costs time in batches that cross
//! files, and a write with a small commit interval.

use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use mobula::clap::{self, Parser};
use mobula::prelude::*;
use mobula_actors::runtime::env::{Env, SystemEnv};
use parquet::arrow::ArrowWriter;

/// How large a job is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) files: i64,
    pub(crate) rows_a_file: i64,
    /// How much the function computes for each row.
    pub(crate) work: u32,
    /// Rows of an exact batch, across files; 0: as they come.
    pub(crate) batch: usize,
    /// Workers of the function; 0: it shares those of the read.
    pub(crate) workers: usize,
    /// How long rows gather before they are recorded.
    pub(crate) interval: &'static str,
}

impl Size {
    pub(crate) fn rows(&self) -> i64 {
        self.files * self.rows_a_file
    }
}

/// Numbers through a filter and a function, into files
#[derive(Debug, Parser)]
struct Flags {
    #[arg(long)]
    input: String,
    #[arg(long)]
    output: String,
    #[arg(long)]
    work: u32,
    #[arg(long)]
    batch: usize,
    #[arg(long)]
    workers: usize,
    /// The function fails on ids that this divides; 0: on none
    #[arg(long, default_value_t = 0)]
    fails_on: i64,
    /// Reads the dead letters beside the output
    #[arg(long)]
    replay: bool,
    /// Attempts have the same names in each run, as a run under strace needs to know them before
    #[arg(long)]
    same_names: bool,
}

/// The world without chance.
struct NoChance(SystemEnv);

impl Env for NoChance {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn random(&self) -> u64 {
        7
    }
}

/// The flags that run the job.
pub(crate) fn flags(size: &Size, input: &Path, output: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let flags = [("--input", text(input)), ("--output", text(output))];
    let numbers = [("--work", size.work as usize), ("--batch", size.batch), ("--workers", size.workers)];
    let numbers = numbers.map(|(flag, number)| (flag, number.to_string()));
    flags.into_iter().chain(numbers).flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

/// This program as driver, head or node.
pub(crate) fn main() -> ExitCode {
    mobula::main_with(|session: Session, flags: Flags| -> mobula::Result<()> {
        let session = match flags.same_names {
            true => Session::builder().commit_interval(TRACED).build_with(Arc::new(NoChance(SystemEnv::new())))?,
            false => session,
        };
        let batch_size = (flags.batch > 0).then_some(flags.batch);
        let workers = (flags.workers > 0).then_some(1..=flags.workers);
        let options = MapOptions { batch_size, workers, ..MapOptions::default() };
        let (read, mode) = match flags.replay {
            true => (session.read_dead_letters(&flags.output)?, WriteMode::Append),
            // Behind a filter and in a pool of its own a row that fails is not known exactly.
            false if flags.fails_on > 0 => (session.read_parquet(&flags.input)?, WriteMode::Error),
            false => (session.read_parquet(&flags.input)?.filter(col("id").rem(lit(3)).ne(lit(0)))?, WriteMode::Error),
        };
        let worked = read.map_batches_with(work::map(flags.work, flags.fails_on), options)?;
        let worked = match flags.fails_on {
            0 => worked,
            // Half of all rows fail.
            _ => worked.attempts(1, Duration::ZERO)?.error_budget(u64::MAX)?,
        };
        let written = worked.write_parquet_with(&flags.output, WriteOptions::default().mode(mode))?;
        let read = written.job.operators.first().map_or(0, |read| read.rows_in.0);
        println!("{READ}{read}");
        println!("{ROWS}{}", written.rows);
        Ok(())
    })
}

/// How long rows gather in a run under strace.
const TRACED: Duration = Duration::from_millis(1);

/// What stands before the number of rows that a run read.
pub(crate) const READ: &str = "rows read: ";
/// What stands before the number of rows that are in the output.
pub(crate) const ROWS: &str = "rows written: ";

#[mobula::remote]
fn work(batch: RecordBatch, times: u32, fails_on: i64) -> OperatorResult<RecordBatch> {
    let ids = batch.column_by_name("id").ok_or("no ids")?.as_primitive::<Int64Type>();
    if fails_on > 0 && ids.values().iter().any(|id| id % fails_on == 0) {
        return Err("a row that it cannot do".into());
    }
    let values = Int64Array::from_iter_values(ids.values().iter().map(|id| value(*id, times)));
    let ids = Arc::new(ids.clone()) as ArrayRef;
    Ok(RecordBatch::try_from_iter([("id", ids), ("value", Arc::new(values) as ArrayRef)])?)
}

/// What the function makes of an id.
fn value(id: i64, times: u32) -> i64 {
    (0..times).fold(id, |value, _| value.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17) ^ id)
}

/// The rows of the output without the filter, by a loop.
pub(crate) fn expected_of_all(size: &Size) -> Vec<(i64, i64)> {
    (0..size.rows()).map(|id| (id, value(id, size.work))).collect()
}

/// The rows of the output, by a loop.
pub(crate) fn expected(size: &Size) -> Vec<(i64, i64)> {
    (0..size.rows()).filter(|id| id % 3 != 0).map(|id| (id, value(id, size.work))).collect()
}

/// Makes the input.
pub(crate) fn make_input(dir: &Path, size: &Size) {
    fs::create_dir_all(dir).expect("a folder");
    for file in 0..size.files {
        let ids = Int64Array::from_iter_values(file * size.rows_a_file..(file + 1) * size.rows_a_file);
        let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef)]).expect("a batch");
        let path = dir.join(format!("in-{file:03}.parquet"));
        let mut writer =
            ArrowWriter::try_new(File::create(path).expect("a file"), batch.schema(), None).expect("a file");
        writer.write(&batch).expect("written");
        writer.close().expect("written");
    }
}
