//! Verbs that write files: `write_parquet`, `write_csv`, `write_json`.
//!
//! Parts are written hidden and recorded; they become visible together when the job has finished. A job that fails, is
//! cancelled or dies leaves nothing visible, and the same write goes on with what it has finished.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mobula_actors::job::{JobSummary, Topology};
use mobula_actors::ledger::RecorderSpec;
use mobula_actors::units::Bytes;

use super::Dataset;
use super::run::{Run, RunWatch};
use crate::error::{Error, Result};
use crate::io::{
    Format, InputFile, JobPlan, Output, Ready, WriteMode, WriteOptions, WriteParams, Written, check_inputs,
};
use crate::plan::logical::{Kind, Logical, WriteStep};
use crate::plan::{lower, rules};
use crate::session::Session;

/// Most bytes of blocks that go into one file. Large enough that a folder of results stays short and Parquet row
/// groups are full; small enough that all cores write.
const FILE_BYTES_MAX: Bytes = Bytes::mib(128);

/// A file's blocks are kept until it is written, for another attempt, so all files that are written at once together
/// take no more than this part of the memory budget.
const FILES_SHARE: u64 = 8;

/// What a write did.
#[derive(Debug, Clone)]
pub struct WriteSummary {
    /// Rows written.
    pub rows: u64,
    /// The files, in the order of the rows.
    pub files: Vec<PathBuf>,
    /// Size of the files.
    pub bytes: Bytes,
    /// Inputs given up under a lenient error policy, with the reason (at most 100 are listed), also by earlier runs of the
    /// same job.
    pub skipped: Vec<String>,
    /// How many inputs were given up.
    pub skipped_count: u64,
    /// Rows that were given up within the error budget: see [`Dataset::error_budget`].
    pub given_up: u64,
    /// A Parquet table of them beside the output (`OUT/_mobula/N/dead-letters`), if there are any: for each the input file
    /// and the row, the operator, the error and the attempts.
    pub dead_letters: Option<PathBuf>,
    /// Whether an earlier run of the same job had done it all, so that nothing was read.
    pub done_before: bool,
    /// From start to commit.
    pub elapsed: Duration,
    /// What each operator did.
    pub job: JobSummary,
}

impl Dataset {
    /// Writes Parquet files into a directory, which is made or must be empty, or to an object store (`s3://bucket/prefix`;
    /// credentials and endpoint as `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`). Where only running tells the columns, the
    /// first row is computed once more for that.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let dir = tempfile::tempdir()?;
    /// let out = dir.path().join("ids");
    /// let session = Session::local()?;
    /// assert_eq!(session.range(0..10)?.write_parquet(&out)?.rows, 10);
    /// assert_eq!(session.read_parquet(&out)?.count()?, 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the directory holds something already or cannot be written; why the job failed.
    pub fn write_parquet(&self, dir: impl AsRef<Path>) -> Result<WriteSummary> {
        self.write_parquet_with(dir, WriteOptions::default())
    }

    /// [`write_parquet`](Dataset::write_parquet) that may append or overwrite.
    ///
    /// # Errors
    /// As [`write_parquet`](Dataset::write_parquet).
    pub fn write_parquet_with(&self, dir: impl AsRef<Path>, options: WriteOptions) -> Result<WriteSummary> {
        self.start_write(dir, Format::Parquet, options)?.wait()
    }

    /// Writes CSV files into a directory, which is made or must be empty.
    ///
    /// # Errors
    /// If a column is nested; as [`write_parquet`](Dataset::write_parquet).
    pub fn write_csv(&self, dir: impl AsRef<Path>) -> Result<WriteSummary> {
        self.write_csv_with(dir, WriteOptions::default())
    }

    /// [`write_csv`](Dataset::write_csv) with options.
    ///
    /// # Errors
    /// As [`write_csv`](Dataset::write_csv).
    pub fn write_csv_with(&self, dir: impl AsRef<Path>, options: WriteOptions) -> Result<WriteSummary> {
        self.start_write(dir, Format::Csv, options)?.wait()
    }

    /// Writes files with one JSON object a line into a directory, which is made or must be empty.
    ///
    /// # Errors
    /// As [`write_parquet`](Dataset::write_parquet).
    pub fn write_json(&self, dir: impl AsRef<Path>) -> Result<WriteSummary> {
        self.write_json_with(dir, WriteOptions::default())
    }

    /// [`write_json`](Dataset::write_json) with options.
    ///
    /// # Errors
    /// As [`write_json`](Dataset::write_json).
    pub fn write_json_with(&self, dir: impl AsRef<Path>, options: WriteOptions) -> Result<WriteSummary> {
        self.start_write(dir, Format::Json, options)?.wait()
    }

    /// Starts a write and comes back at once, for programs that show progress or can be cancelled.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let dir = tempfile::tempdir()?;
    /// let running = Session::local()?.range(0..10)?.start_write(dir.path(), Format::Csv, WriteOptions::default())?;
    /// let watch = running.watch(); // to another thread: watch.summary(), watch.cancel()
    /// assert_eq!(running.wait()?.rows, 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the directory holds what the mode does not allow or cannot be written; if a file that is read lies in a
    /// directory that is to be overwritten; if the job cannot start.
    pub fn start_write(&self, dir: impl AsRef<Path>, format: Format, options: WriteOptions) -> Result<RunningWrite> {
        if options.mode == WriteMode::Overwrite {
            check_inputs(dir.as_ref(), files_read(&self.plan))?;
        }
        let (site, schema) = (self.session.site(), self.schema()?);
        let optimized = rules::optimize(&self.plan);
        // A job that goes on has to cut its input as it did before.
        let block_bytes = Output::earlier_block_bytes(dir.as_ref())?.unwrap_or(site.block_bytes);
        let topology = lower::lower(&optimized, lower::Site { block_bytes, ..site })?;
        let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        let mut plan = JobPlan::of(&topology, input_files(&optimized), columns, (format, &options), block_bytes);
        plan.replays = replays(&optimized, dir.as_ref());
        let output = match Output::prepare(dir.as_ref(), format, &schema, &options, &plan)? {
            Ready::Job(output) => output,
            Ready::Done(written) => return Ok(RunningWrite { state: Write::Done(written) }),
        };
        let step = WriteStep { spec: output.operator()?, task_bytes: file_bytes(&self.session) };
        let recorder = Some(output.recorder()?);
        let topology = Topology { recorder, ..lower::with_sink(topology, &step, site) };
        let run = self.run_topology(topology, None)?;
        output.hand_over();
        Ok(RunningWrite { state: Write::Runs(Box::new(StoppedOnDrop(run))) })
    }
}

impl Dataset {
    /// Writes the parts of a [`write_parquet`](Dataset::write_parquet) into `parts`, which is there, and leaves it to a
    /// recorder of the caller's what becomes of them: no plan, no ledger. It is what a bench compares the ledger with.
    #[doc(hidden)]
    pub fn write_parts(&self, parts: &Path, recorder: RecorderSpec) -> Result<JobSummary> {
        let (site, schema) = (self.session.site(), self.schema()?);
        let params = WriteParams::new(parts, Format::Parquet, &schema, &WriteOptions::default())?;
        let spec = params.operator(Format::Parquet, parts)?;
        let step = WriteStep { spec, task_bytes: file_bytes(&self.session) };
        let topology = lower::with_sink(lower::lower(&rules::optimize(&self.plan), site)?, &step, site);
        let mut run = self.run_topology(Topology { recorder: Some(recorder), ..topology }, None)?;
        while run.next_block()?.is_some() {}
        Ok(run.summary())
    }
}

/// The files of all scans of a plan, as they were looked at.
fn input_files(plan: &Logical) -> Vec<InputFile> {
    match &plan.kind {
        Kind::Scan(scan) => scan.input_files(),
        _ => plan.inputs().into_iter().flat_map(|input| input_files(input)).collect(),
    }
}

/// The jobs beside `dir` whose dead letters a plan reads.
fn replays(plan: &Logical, dir: &Path) -> Vec<u64> {
    let same = |one: &Path| matches!((one.canonicalize(), dir.canonicalize()), (Ok(one), Ok(dir)) if one == dir);
    match &plan.kind {
        Kind::Scan(scan) => match scan.replays() {
            Some(replays) if same(&replays.dir) => replays.jobs.clone(),
            _ => Vec::new(),
        },
        _ => plan.inputs().into_iter().flat_map(|input| self::replays(input, dir)).collect(),
    }
}

/// The files of all scans of a plan.
fn files_read(plan: &Logical) -> Vec<&Path> {
    match &plan.kind {
        Kind::Scan(scan) => scan.files(),
        _ => plan.inputs().into_iter().flat_map(|input| files_read(input)).collect(),
    }
}

fn file_bytes(session: &Session) -> Bytes {
    let share = session.memory_budget().0 / FILES_SHARE / session.cpus().max(1) as u64;
    Bytes(share).min(FILE_BYTES_MAX).max(session.block_bytes())
}

/// A write that runs. Dropping it cancels the job; what it has finished stays hidden, and the same write goes on with it.
#[derive(Debug)]
pub struct RunningWrite {
    state: Write,
}

#[derive(Debug)]
enum Write {
    Runs(Box<StoppedOnDrop>),
    /// An earlier run had done it all.
    Done(Written),
}

impl RunningWrite {
    /// Pictures and cancels the write from any thread.
    pub fn watch(&self) -> RunWatch {
        match &self.state {
            Write::Runs(run) => run.0.watch(),
            Write::Done(_) => RunWatch::over(),
        }
    }

    /// Lets the write go on without this process, and gives its number on the cluster: the head makes the files visible.
    /// `mobula attach` watches it from anywhere. `None` if an earlier run had done it all.
    ///
    /// # Errors
    /// If it runs in this process; then it is cancelled.
    pub fn detach(self) -> Result<Option<u64>> {
        let here = || Error::invalid("detach", "this write runs in this process; connect a session to a cluster first");
        match self.state {
            Write::Runs(mut run) => run.0.detach().ok_or_else(here).map(Some),
            Write::Done(_) => Ok(None),
        }
    }

    /// Waits until the files are visible.
    ///
    /// # Errors
    /// Why the job failed or that it was cancelled; then nothing is visible, and what it has finished is kept for the next
    /// run of the same write. If the files cannot be made visible.
    pub fn wait(self) -> Result<WriteSummary> {
        let mut run = match self.state {
            Write::Runs(run) => run,
            Write::Done(written) => return Ok(summary(written, JobSummary::default(), true)),
        };
        run.0.makes_files();
        // Its results are for the recorder.
        while run.0.next_block()?.is_some() {}
        let job = run.0.summary();
        Ok(summary(run.0.finished()?, job, false))
    }
}

fn summary(written: Written, job: JobSummary, done_before: bool) -> WriteSummary {
    WriteSummary {
        rows: written.rows.0,
        files: written.files,
        bytes: written.bytes,
        skipped: written.left_out.reasons,
        skipped_count: written.left_out.count,
        given_up: written.given_up,
        dead_letters: written.dead_letters,
        done_before,
        elapsed: job.elapsed,
        job,
    }
}

/// A run whose drop waits until its workers have stopped.
#[derive(Debug)]
struct StoppedOnDrop(Run);

impl Drop for StoppedOnDrop {
    fn drop(&mut self) {
        if self.0.is_over() {
            return;
        }
        self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{OnError, ReadOptions};

    fn refusal(out: &Path, input: &Path) -> String {
        let session = Session::local().unwrap();
        let options = ReadOptions::default().on_error(OnError::Skip);
        let read = session.read_parquet_with(input, options).unwrap();
        let both = session.range(0..1).unwrap().union(&read.limit(0).unwrap()).unwrap();
        let overwrite = WriteOptions::default().mode(WriteMode::Overwrite);
        both.write_parquet_with(out, overwrite).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_that_holds_an_input_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("io");
        let session = Session::local().unwrap();
        session.range(0..5).unwrap().write_parquet(&dir).unwrap();
        let input = dir.join("part-00000.parquet");
        let error = refusal(&dir, &input);
        assert!(error.contains("part-00000.parquet") && error.contains("choose another directory"), "{error}");
        assert_eq!(session.read_parquet(&dir).unwrap().count().unwrap(), 5);
        let elsewhere = root.path().join("other");
        let overwrite = WriteOptions::default().mode(WriteMode::Overwrite);
        for _ in 0..2 {
            session.read_parquet(&input).unwrap().write_parquet_with(&elsewhere, overwrite.clone()).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_linked_folder_that_holds_an_input_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let (dir, link) = (root.path().join("io"), root.path().join("link"));
        Session::local().unwrap().range(0..5).unwrap().write_parquet(&dir).unwrap();
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        for (out, input) in [(&link, &dir), (&dir, &link)] {
            let error = refusal(out, &input.join("part-00000.parquet"));
            assert!(error.contains("choose another directory"), "{error}");
        }
    }
}
