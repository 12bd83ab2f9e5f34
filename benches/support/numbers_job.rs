//! A job with little data and much to compute for each row, also as a program of its own that can be killed: numbers from
//! files, through a function, into files.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use mobula::clap::{self, Parser};
use mobula::prelude::*;
use mobula_actors::block::Segment;
use mobula_actors::ledger::{LedgerFile, Record};
use mobula_actors::operator::BoxError;
use mobula_actors::runtime::SystemDisk;
use parquet::arrow::ArrowWriter;

/// Rows of a file, which is a split and a block: what is in flight is counted in these.
pub(crate) const ROWS_A_FILE: u64 = 2_000;
/// What is computed for a row: some microseconds.
const WORK: u32 = 1_500;
/// Set for a process that is to run the job.
const CHILD: &str = "MOBULA_DURABILITY_CHILD";

/// Numbers through a function, into files
#[derive(Debug, Parser)]
struct Flags {
    #[arg(long)]
    input: String,
    #[arg(long)]
    output: String,
    /// Where rows are counted as they come to the function; outlives the process
    #[arg(long)]
    counted: String,
}

/// Runs the job if this process was started for it.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    std::env::var_os(CHILD)?;
    Some(mobula::main_with(|session: Session, flags: Flags| -> mobula::Result<()> {
        results(&session, &flags.input, &flags.counted)?.write_parquet(&flags.output)?;
        Ok(())
    }))
}

/// The job in a process of its own.
pub(crate) fn command(input: &Path, output: &Path, counted: &Path) -> Result<Command, BoxError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(CHILD, "1").stdout(Stdio::null()).stderr(Stdio::null());
    command.arg("--input").arg(input).arg("--output").arg(output).arg("--counted").arg(counted);
    Ok(command)
}

/// What the job writes. `counted` may be empty.
pub(crate) fn results(session: &Session, input: &str, counted: &str) -> mobula::Result<Dataset> {
    session.read_parquet(input)?.map_batches(work::map(WORK, counted.to_owned()))
}

#[mobula::remote]
fn work(batch: RecordBatch, times: u32, counted: String) -> OperatorResult<RecordBatch> {
    if !counted.is_empty() {
        let mut file = OpenOptions::new().create(true).append(true).open(counted)?;
        file.write_all(&(batch.num_rows() as u64).to_le_bytes())?;
    }
    let ids = batch.column_by_name("id").ok_or("no ids")?.as_primitive::<Int64Type>();
    let value =
        |id: i64| (0..times).fold(id, |value, _| value.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17) ^ id);
    let values = Int64Array::from_iter_values(ids.values().iter().map(|id| value(*id)));
    let ids = Arc::new(ids.clone()) as ArrayRef;
    Ok(RecordBatch::try_from_iter([("id", ids), ("value", Arc::new(values) as ArrayRef)])?)
}

/// Rows that came to the function so far.
pub(crate) fn counted(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.chunks_exact(8).filter_map(|rows| rows.try_into().ok()).map(u64::from_le_bytes).sum()
}

/// Makes the input: so many files.
pub(crate) fn write_input(folder: &Path, files: usize) -> Result<(), BoxError> {
    for file in 0..files as i64 {
        let rows = ROWS_A_FILE as i64;
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(file * rows..(file + 1) * rows));
        let batch = RecordBatch::try_from_iter([("id", ids)])?;
        let to = File::create(folder.join(format!("in-{file:05}.parquet")))?;
        let mut writer = ArrowWriter::try_new(to, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
    }
    Ok(())
}

/// The ledger of the only job that wrote to a folder.
pub(crate) fn ledger(output: &Path) -> PathBuf {
    output.join("_mobula/0/ledger")
}

/// What each commit in a ledger stands for; nothing if there is no ledger.
pub(crate) fn commits(ledger: &Path) -> Result<Vec<Vec<Segment>>, BoxError> {
    let records = LedgerFile::read(&SystemDisk, ledger)?;
    let segments = |record| match record {
        Record::Committed { segments, .. } => Some(segments),
        _ => None,
    };
    Ok(records.into_iter().filter_map(segments).collect())
}

/// Rows that are committed. A split is a file here.
pub(crate) fn rows_committed(ledger: &Path) -> Result<u64, BoxError> {
    let rows = |segment: &Segment| segment.to.0.min(ROWS_A_FILE) - segment.from.0;
    Ok(commits(ledger)?.iter().flatten().map(rows).sum())
}
