//! `mobula predict`: files through a model, back to files.

use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::dataset::{RunningWrite, WriteSummary};
use crate::io::{Command, IoError};
use crate::predict::OnNan;
use crate::predict::engine::{DeviceChoice, EngineChoice, OnnxRuntime};
use crate::prelude::*;
use crate::progress::{count_text, skipped_text, summary_table};
use clap::Args;
use mobula_actors::job::FailurePolicy;

use super::Screen;
use super::again::absolute;
use super::apart::input_around;
use super::args::{self, ColumnFlag, Engine, Format, OnError, Publish};
use super::columns::print;
use super::driver::{Place, SPEED};
use super::failure::Failure;
use super::interrupt::Interrupts;
use super::watch::wait_watched;

/// Run an ONNX model over files and write its predictions as files
///
/// Reads Parquet, CSV or JSON lines, hands the columns named like the model's inputs to the model in batches, on all
/// cores and within a memory budget, and writes each row with the model's outputs as new columns, in the order of the
/// input. Ctrl-C (or SIGTERM) stops it and leaves nothing half-written; the same command goes on with what it has finished,
/// also after a crash, and does nothing once all is done.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Predict {
    /// The model, an ONNX file; on a cluster it is read here and reaches each node once
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// What to read: files, folders or patterns in quotes; may be given several times
    #[arg(long, required = true, num_args = 1.., value_name = "PATH", value_parser = args::path)]
    input: Vec<String>,
    /// Folder for the results; it is made, and must be empty unless --append or --overwrite is given
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// Columns to read, separated by commas (default: all); `tensor=column` feeds that column to the model's input
    /// `tensor`, and `x=width,x=height` both side by side (default: inputs take the columns of their own names)
    #[arg(long, help_heading = COLUMNS, value_name = "LIST", value_delimiter = ',', value_parser = args::column)]
    columns: Vec<ColumnFlag>,
    /// Columns of the input to write beside the model's outputs, separated by commas (default: all that are read)
    #[arg(long, help_heading = COLUMNS, value_name = "LIST", value_delimiter = ',')]
    keep: Option<Vec<String>>,
    /// Outputs of the model to write, separated by commas (default: all)
    #[arg(long, help_heading = COLUMNS, value_name = "LIST", value_delimiter = ',')]
    outputs: Option<Vec<String>>,
    /// Format of the input (default: by the ending of its name, Parquet if it has none)
    #[arg(long, help_heading = FILES, value_enum, value_name = "FORMAT")]
    input_format: Option<Format>,
    /// Format of the results
    #[arg(long, help_heading = FILES, value_enum, default_value_t = Format::Parquet, value_name = "FORMAT")]
    format: Format,
    /// Add to the output folder if it is not empty
    #[arg(long, help_heading = FILES, conflicts_with = "overwrite")]
    append: bool,
    /// Replace what is in the output folder once the job has succeeded
    #[arg(long, help_heading = FILES)]
    overwrite: bool,
    /// Give up what an earlier run left unfinished, and start over (default: go on where it stopped); what has finished is
    /// written anew by --overwrite
    #[arg(long, help_heading = FILES)]
    restart: bool,
    /// When results become visible; of a stream, files by name are in no order
    #[arg(long, help_heading = FILES, value_enum, default_value_t = Publish::End, value_name = "WHEN")]
    publish: Publish,
    /// What to do with an input file that cannot be read; of a text file, with the rest from its first bad line on
    #[arg(long, help_heading = FILES, value_enum, default_value_t = OnError::Fail, value_name = "WHAT")]
    on_error: OnError,
    /// Rows of CSV or JSON to infer columns and types from (default: 1000)
    #[arg(long, help_heading = FILES, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    infer_rows: Option<u32>,
    /// Rows that may be given up if the model or a step fails on them: a number, or a share such as 0.1% (default: none);
    /// they are listed in a table beside the results
    #[arg(long, help_heading = FILES, value_name = "ROWS|SHARE", default_value = "0")]
    error_budget: ErrorBudget,
    /// Attempts of a task before it fails, or before a row is given up (default: 4)
    #[arg(long, help_heading = FILES, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: Option<u32>,
    /// Hand NaN to the model as it is (default: a NaN in a column that feeds the model stops the job)
    #[arg(long, help_heading = FILES)]
    allow_nan: bool,

    /// Rows in one call of the model (default: as many as fit a core's cache, fewer of wide rows)
    #[arg(long, help_heading = SPEED, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,
    /// Workers that run the model side by side: a number, or least and most such as 1..8 (default: up to all cores)
    #[arg(long, help_heading = SPEED, value_name = "N|MIN..MAX", value_parser = args::workers)]
    workers: Option<RangeInclusive<usize>>,

    /// Run the model in processes of its own: one that aborts or hangs costs an attempt, not the job
    #[arg(long, help_heading = SPEED)]
    isolated: bool,
    /// Memory of each of those processes; one that needs more gets half the rows, and only so many run as fit beside
    /// --memory (default: no limit of its own)
    #[arg(long, help_heading = SPEED, value_name = "SIZE", value_parser = args::size, requires = "isolated")]
    worker_memory: Option<Bytes>,
    /// How long a batch may take there before its process is killed (default: no limit)
    #[arg(long, help_heading = SPEED, value_name = "TIME", value_parser = args::time, requires = "isolated")]
    batch_timeout: Option<Duration>,
    /// Longest call of the model or another step for a task, such as 10m (or ten times what is usual, if that is more): one
    /// that takes longer is given up and tried elsewhere (default: 1h, or what the nodes are set to)
    #[arg(long, help_heading = SPEED, value_name = "TIME", value_parser = args::time)]
    task_timeout: Option<Duration>,

    #[command(flatten)]
    engine: EngineFlags,

    #[command(flatten)]
    place: Place,
    /// Start the job, print its number and leave it to the cluster; `mobula attach` watches it
    #[arg(long, help_heading = "Cluster", requires = "cluster")]
    detach: bool,
    /// The flags that it was read from, where those are not the process's own.
    #[arg(skip)]
    flags: Option<Vec<String>>,
}

/// What runs the model, and on which device.
#[derive(Debug, Args)]
struct EngineFlags {
    /// What runs the model
    #[arg(long, help_heading = ENGINE, value_enum, default_value_t = Engine::Rten, value_name = "ENGINE")]
    engine: Engine,
    /// Where it runs: cpu, cuda:N or tensorrt:N; without N, each worker leases a GPU (--engine onnxruntime)
    #[arg(long, help_heading = ENGINE, default_value = "cpu", value_name = "DEVICE")]
    device: DeviceChoice,
    /// The library libonnxruntime.so (default: $ORT_DYLIB_PATH, or what the system finds; on a node of a cluster its own
    /// ORT_DYLIB_PATH comes first)
    #[arg(long, help_heading = ENGINE, value_name = "PATH")]
    onnxruntime_lib: Option<PathBuf>,
}

impl EngineFlags {
    /// Whether they go together.
    fn check(&self) -> Result<(), Failure> {
        let rten = self.engine == Engine::Rten;
        match self.device {
            DeviceChoice::Cpu if rten && self.onnxruntime_lib.is_some() => Err("--onnxruntime-lib".to_owned()),
            device if rten && device != DeviceChoice::Cpu => Err(format!("--device {device}")),
            _ => Ok(()),
        }
        .map_err(|flag| Failure::Usage(format!("{flag} is for another engine: add --engine onnxruntime")))
    }

    fn choice(&self) -> EngineChoice {
        let options = OnnxRuntime::default().device(self.device);
        match (self.engine, &self.onnxruntime_lib) {
            (Engine::Rten, _) => EngineChoice::Rten,
            (Engine::Onnxruntime, Some(path)) => options.library(path).into(),
            (Engine::Onnxruntime, None) => options.into(),
        }
    }
}

const ENGINE: &str = "Engine";
const COLUMNS: &str = "Columns";
const FILES: &str = "Files";

const EXAMPLES: &str = "\
Examples:
  Classify images of digits, keep only their ids beside the labels:
    mobula predict --model examples/data/digits_mlp.onnx --input 'examples/data/digits/*.parquet' \\
                   --output target/digits --keep id

  A model whose input `features` is called `embedding` in the files; at most 4 workers, 2 GiB:
    mobula predict --model ranker.onnx --input day1/ day2/ --output scores \\
                   --columns id,features=embedding --workers 1..4 --memory 2GiB

  On the first GPU, by ONNX Runtime (`pip install onnxruntime-gpu` brings its library):
    mobula predict --model ranker.onnx --input day1/ --output scores --engine onnxruntime \\
                   --device cuda:0 --onnxruntime-lib /opt/ort/libonnxruntime.so

Exit codes: 0 done, 1 the job failed or was cancelled, 2 the flags are wrong";

impl Predict {
    /// Runs the job to its end and prints its summary.
    pub(crate) fn run(&self, screen: &Screen) -> Result<(), Failure> {
        let input_format = match self.input_format {
            Some(format) => format,
            None => Format::of_paths(&self.input).map_err(Failure::Usage)?,
        };
        if let Some(input) = input_around(&self.input, input_format, &self.output, self.format) {
            return Err(Failure::Usage(format!(
                "{input} takes in what is written to {}, so a second run would read what the first has written; choose an \
                 output apart from the input",
                self.output.display()
            )));
        }
        self.run_on(|session| self.read(session, input_format), self.restart, screen)
    }

    /// The same, which was read from these flags.
    pub(crate) fn read_from(self, flags: Vec<String>) -> Self {
        Self { flags: Some(flags), ..self }
    }

    /// Runs it on dead letters beside its output.
    pub(crate) fn replay(&self, letters: &LetterOptions, restart: bool, screen: &Screen) -> Result<(), Failure> {
        let read = |session: &Session| session.read_dead_letters_with(&self.output, letters.clone());
        self.run_on(|session| self.selected(read(session)?), restart, screen)
    }

    fn run_on(
        &self,
        read: impl FnOnce(&Session) -> crate::Result<Dataset>,
        restart: bool,
        screen: &Screen,
    ) -> Result<(), Failure> {
        let interrupts = Interrupts::listen(Some(&self.output));
        self.engine.check()?;
        if self.overwrite && self.publish == Publish::Stream {
            return Err(Failure::Usage(IoError::PublishOverwrite.to_string()));
        }
        let mut session = self.place.session()?;
        if let Some(limit) = self.task_timeout {
            session = session.with_task_progress_limit(limit);
        }
        let results = self.results(read(&session)?, screen.quiet)?;
        let policy = FailurePolicy { attempts: self.attempts, budget: self.error_budget, ..results.failures() };
        let results = results.failing(policy);
        // Ctrl-C still ends the process at once, however long a model takes on its way.
        results.put_objects()?;
        interrupts.job_starts();
        let run = self.start_write(&results, restart)?;
        if self.detach {
            return print(&run.detach()?.map_or_else(|| "done before\n".to_owned(), |job| format!("job {job}\n")));
        }
        let written = wait_watched(run, interrupts, &self.output, screen).inspect_err(|_| {
            if let Some(kept) = crate::io::kept(&self.output) {
                let _ = writeln!(std::io::stderr(), "note: {kept}");
            }
        })?;
        if screen.quiet || !std::io::stdout().is_terminal() {
            // Not only in the summary: what is missing from the results is to be seen.
            let _ = std::io::stderr().write_all(skipped_text(&written.job).as_bytes());
        }
        let _ = std::io::stderr().write_all(left_out_before(&written).as_bytes());
        if written.given_up > 0 && !screen.quiet {
            let replay = format!("`mobula replay --dead-letter {}`", self.output.display());
            let _ = writeln!(
                std::io::stderr(),
                "note: once what failed is mended, {replay} adds the rows that were given up"
            );
        }
        if !screen.quiet {
            self.print(&written);
        }
        Ok(())
    }

    fn read(&self, session: &Session, format: Format) -> crate::Result<Dataset> {
        let on_error = match self.on_error {
            OnError::Fail => crate::io::OnError::Fail,
            OnError::Skip => crate::io::OnError::Skip,
        };
        let infer_rows = self.infer_rows.map(|rows| rows as usize);
        let all = match format {
            Format::Parquet => session.read_parquet_with(&self.input, ReadOptions::default().on_error(on_error))?,
            Format::Csv => {
                let mut options = CsvOptions { on_error, ..CsvOptions::default() };
                options.infer_rows = infer_rows.unwrap_or(options.infer_rows);
                session.read_csv_with(&self.input, options)?
            }
            Format::Json => {
                let mut options = JsonOptions { on_error, ..JsonOptions::default() };
                options.infer_rows = infer_rows.unwrap_or(options.infer_rows);
                session.read_json_with(&self.input, options)?
            }
        };
        self.selected(all)
    }

    /// The columns that are to be read.
    fn selected(&self, all: Dataset) -> crate::Result<Dataset> {
        // A column may feed several inputs; it is read once.
        let mut columns: Vec<&str> = Vec::new();
        for flag in &self.columns {
            if !columns.contains(&flag.column.as_str()) {
                columns.push(&flag.column);
            }
        }
        if columns.is_empty() { Ok(all) } else { all.select(columns) }
    }

    /// The rows with the columns to keep and the outputs to write.
    fn results(&self, input: Dataset, quiet: bool) -> crate::Result<Dataset> {
        let predicted = input.predict(self.model(quiet))?;
        let Some(keep) = &self.keep else { return Ok(predicted) };
        let read = names(&input)?;
        let outputs = names(&predicted)?.into_iter().filter(|name| !read.contains(name));
        predicted.select(keep.iter().cloned().chain(outputs))
    }

    fn model(&self, quiet: bool) -> Onnx {
        let mut model = Onnx::file(&self.model).engine(self.engine.choice());
        if self.allow_nan {
            model = model.on_nan(OnNan::Allow);
        }
        if !quiet {
            model = model.on_guess(print_guess);
        }
        if let Some(rows) = self.batch_size {
            model = model.batch_size(rows as usize);
        }
        if let Some(outputs) = &self.outputs {
            model = model.outputs(outputs);
        }
        if let Some(workers) = &self.workers {
            model = model.workers(workers.clone());
        }
        if self.isolated {
            model = model.isolated(Isolation { memory: self.worker_memory, time: self.batch_timeout });
        }
        for flag in &self.columns {
            if let Some(tensor) = &flag.tensor {
                let of_it = self.columns.iter().filter(|other| other.tensor.as_ref() == Some(tensor));
                model = model.input(tensor, of_it.map(|other| other.column.clone()).collect::<Vec<_>>());
            }
        }
        model
    }

    fn start_write(&self, results: &Dataset, restart: bool) -> crate::Result<RunningWrite> {
        let mode = match (self.append, self.overwrite) {
            (true, _) => WriteMode::Append,
            (_, true) => WriteMode::Overwrite,
            _ => WriteMode::Error,
        };
        let publish = match self.publish {
            Publish::End => crate::io::Publish::AtEnd,
            Publish::Stream => crate::io::Publish::AsWritten,
        };
        let command = Some(Command { args: self.flags.clone().unwrap_or_else(own_flags) });
        let options = WriteOptions { command, ..WriteOptions::default().mode(mode).restart(restart).publish(publish) };
        let format = match self.format {
            Format::Parquet => crate::io::Format::Parquet,
            Format::Csv => crate::io::Format::Csv,
            Format::Json => crate::io::Format::Json,
        };
        results.start_write(&self.output, format, options)
    }

    fn print(&self, written: &WriteSummary) {
        let rows = count_text(written.rows);
        let files = match written.files.len() {
            1 => "1 file".to_owned(),
            files => format!("{files} files"),
        };
        if written.done_before {
            let text = format!(
                "{rows} rows in {files} ({}) were written to {} before: nothing to do\n",
                written.bytes,
                self.output.display()
            );
            let _ = std::io::stdout().write_all(text.as_bytes());
            return;
        }
        let table = summary_table(&written.job);
        let text = format!("{rows} rows in {files} ({}) written to {}\n{table}", written.bytes, self.output.display());
        // A reader that has closed the pipe does not want the summary.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// What earlier runs of this job left out, with what this one did. The results miss it, so it is told each time.
fn left_out_before(written: &WriteSummary) -> String {
    let now: u64 = written.job.operators.iter().map(|operator| operator.skipped_count).sum();
    if written.skipped_count <= now {
        return String::new();
    }
    let parts =
        if written.skipped_count == 1 { "1 part".to_owned() } else { format!("{} parts", written.skipped_count) };
    let mut text = format!("note: {parts} of the input could not be read, and the results miss it:\n");
    let listed = written.skipped.iter().take(REASONS_MAX);
    text.extend(listed.map(|reason| format!("  {reason}\n")));
    let more = written.skipped_count.saturating_sub(written.skipped.len().min(REASONS_MAX) as u64);
    if more > 0 {
        text.push_str(&format!("  and {} more\n", count_text(more)));
    }
    text + "  --overwrite reads all of it anew\n"
}

/// Reasons that are listed.
const REASONS_MAX: usize = 10;

/// The flags of this command, for `mobula replay`. What is not text cannot be given to it again.
fn own_flags() -> Vec<String> {
    let mut args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if let Some(name) = args.iter().position(|arg| arg == "predict") {
        args.remove(name);
    }
    absolute(args, &std::env::current_dir().unwrap_or_default())
}

fn print_guess(input: &str, column: &str) {
    let taken = format!("model input {input:?} is taken from column {column:?}");
    let _ = writeln!(std::io::stderr(), "note: {taken}; --columns {input}=NAME chooses another");
}

fn names(dataset: &Dataset) -> crate::Result<Vec<String>> {
    Ok(dataset.schema()?.fields().iter().map(|field| field.name().clone()).collect())
}
