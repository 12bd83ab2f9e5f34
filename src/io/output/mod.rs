//! Output directories: parts are written hidden, recorded in a ledger, and become visible under names of their own.
//!
//! Tasks of the sink operator write attempts into the job's [folder](folder). An attempt becomes a part of the output when
//! the [recorder](recorder) has it in the ledger with the segments that it stands for. Parts are linked into the output
//! directory as `part-00000.parquet` and so on, never over a file that is there: all at the end ([`Publish::AtEnd`]), or
//! each at once. A job that stops for whatever reason goes on from its ledger when the same command is run again; what
//! [decides](decide) about that compares [plans](plan). Readers skip names that start with `_`.

mod decide;
mod find;
pub(crate) mod folder;
mod give_up;
mod letters;
mod letters_open;
mod manifest;
mod names;
mod plan;
mod progress;
mod publish;
mod recorder;
mod skips;
#[cfg(feature = "s3")]
pub(crate) mod store;
pub(crate) mod target;
pub(crate) mod verify;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use mobula_actors::ledger::RecorderSpec;
use mobula_actors::operator::OperatorSpec;
use mobula_actors::runtime::{Disk, SharedDisk, SystemDisk};
use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};

#[cfg(feature = "s3")]
use self::find::explain;
use self::find::{Found, find};
use self::folder::{Folder, HIDDEN, Lock};
pub(crate) use self::letters_open::{commands_of, open_letters};
pub use self::plan::Command;
pub(crate) use self::plan::JobPlan;
pub use self::skips::LeftOut;
use super::error::{IoError, IoResult};
use super::sink::{self, Compression, WriteParams};

/// A file format that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// The extension of its files: `parquet`, `csv`, `json`.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    /// Checks that the format can hold the columns, so that this is known before anything runs.
    ///
    /// # Errors
    /// Names the first column that it cannot hold, and what to do.
    pub fn check_schema(self, schema: &SchemaRef) -> IoResult<()> {
        sink::check_schema(self, schema)
    }
}

/// What to do with files that are in the output directory already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WriteMode {
    /// Refuse a directory that is not empty.
    #[default]
    Error,
    /// Keep them and number the new parts behind them.
    Append,
    /// Delete the parts that are there, once all new parts are complete. A directory that holds anything else is
    /// refused.
    Overwrite,
}

/// When parts become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Publish {
    /// All together, when the job has finished: readers see nothing before all is there.
    #[default]
    AtEnd,
    /// Each as soon as it is whole, in no order. Readers see a part of the output, each row of it once.
    AsWritten,
}

/// How files are written. Settings of other formats than the one written are not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    /// What to do with files that are there already.
    pub mode: WriteMode,
    /// When parts become visible. Default: all at the end.
    pub publish: Publish,
    /// Gives up what an earlier run of the job has finished, and starts over. Default: no, a job goes on where it stopped.
    pub restart: bool,
    /// A name that stands for what the engine cannot compare between two runs: closures, actors, rows in memory. With the
    /// same name they count as the same, so the job goes on where it stopped; without one such a job starts over.
    pub job: Option<String>,
    /// The command that writes, if one does: `mobula replay` takes its flags from there.
    #[doc(hidden)]
    pub command: Option<Command>,
    /// Compression of Parquet pages. Default: zstd at level 1, which costs little more than none.
    pub compression: Compression,
    /// Most rows of a Parquet row group. Default: 1,048,576.
    pub row_group_rows: usize,
    /// Encoded bytes at which a Parquet row group is closed. Default: 16 MiB; each writing worker holds so much.
    pub row_group_bytes: Bytes,
    /// Whether CSV files begin with the column names. Default: yes.
    pub header: bool,
    /// What stands between CSV columns. Default: a comma.
    pub delimiter: u8,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            mode: WriteMode::Error,
            publish: Publish::AtEnd,
            restart: false,
            job: None,
            command: None,
            compression: Compression::Zstd(1),
            row_group_rows: 1 << 20,
            row_group_bytes: Bytes::mib(16),
            header: true,
            delimiter: b',',
        }
    }
}

impl WriteOptions {
    /// The same in another mode.
    pub fn mode(mut self, mode: WriteMode) -> Self {
        self.mode = mode;
        self
    }

    /// The same, publishing at another time.
    pub fn publish(mut self, publish: Publish) -> Self {
        self.publish = publish;
        self
    }

    /// The same, starting over if an earlier run did not finish.
    pub fn restart(mut self, restart: bool) -> Self {
        self.restart = restart;
        self
    }

    /// The same with a name for what cannot be compared: see [`job`](Self::job).
    pub fn named(mut self, job: impl Into<String>) -> Self {
        self.job = Some(job.into());
        self
    }

    /// What matters to the format, in words.
    fn of_format(&self, format: Format) -> String {
        match format {
            Format::Parquet => format!("{:?}, row groups of {} rows", self.compression, self.row_group_rows),
            Format::Csv => format!("header {}, delimiter {:?}", self.header, char::from(self.delimiter)),
            Format::Json => String::new(),
        }
    }

    /// The same with another compression of Parquet pages.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The files, in the order of the rows.
    pub files: Vec<PathBuf>,
    /// Rows in them.
    pub rows: Rows,
    /// Their size.
    pub bytes: Bytes,
    /// Rows of the input that were given up.
    pub given_up: u64,
    /// A Parquet table of those, if there are any.
    pub dead_letters: Option<PathBuf>,
    /// Parts of the input that could not be read and were left out.
    pub left_out: LeftOut,
}

/// An output directory while a job writes to it. Dropped before the job is handed over, it takes all back that is not
/// finished.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OutputDir {
    /// Absolute: who makes the parts visible may have another working directory.
    dir: PathBuf,
    /// Whether the directory was made for this job.
    made: bool,
    /// Absolute too.
    folder: Folder,
    mode: WriteMode,
    format: Format,
    params: WriteParams,
    /// XXH3 of the plan in the folder: another job may have its place by the time this one runs.
    plan: u64,
    /// As the user named it: what plans and summaries show.
    #[serde(skip)]
    shown: PathBuf,
    /// Somebody else makes the parts visible or takes them back.
    #[serde(skip)]
    handed_over: bool,
    /// Where all that is. On another machine it is the disk there.
    #[serde(skip)]
    disk: OnDisk,
    /// Nobody else begins with it meanwhile. Empty where it arrived as the parameters of a recorder.
    #[serde(skip)]
    prepared: Vec<Lock>,
}

/// The disk that an output is on: the system's, but in a simulation.
#[derive(Clone)]
struct OnDisk(SharedDisk);

impl Default for OnDisk {
    fn default() -> Self {
        Self(Arc::new(SystemDisk))
    }
}

impl std::fmt::Debug for OnDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnDisk")
    }
}

/// What a write finds.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// A job that begins or goes on.
    Job(Box<OutputDir>),
    /// The same job has finished.
    Done(Written),
}

impl OutputDir {
    /// What splits of the last job that wrote to the directory and did not finish were cut to: one that goes on must cut
    /// them alike.
    pub(crate) fn earlier_block_bytes(dir: &Path) -> IoResult<Option<Bytes>> {
        for (_, folder) in Folder::all(&SystemDisk, dir)?.iter().rev() {
            if let Some(plan) = folder.plan(&SystemDisk)? {
                return Ok(Some(plan.block_bytes));
            }
        }
        Ok(None)
    }

    /// Makes the directory, or checks the one that is there, and finds or makes the folder of the job in it.
    ///
    /// # Errors
    /// If the path is a file, the directory holds what the mode does not allow or another job that did not finish, cannot
    /// be written, or the format cannot hold the schema.
    pub(crate) fn prepare(
        dir: &Path,
        format: Format,
        schema: &SchemaRef,
        options: &WriteOptions,
        plan: &JobPlan,
    ) -> IoResult<Prepared> {
        Self::prepare_on(OnDisk::default(), dir, (format, schema), options, plan)
    }

    fn prepare_on(
        OnDisk(disk): OnDisk,
        dir: &Path,
        (format, schema): (Format, &SchemaRef),
        options: &WriteOptions,
        plan: &JobPlan,
    ) -> IoResult<Prepared> {
        format.check_schema(schema)?;
        if options.mode == WriteMode::Overwrite && options.publish == Publish::AsWritten {
            return Err(IoError::PublishOverwrite);
        }
        if disk.list(dir).is_err_and(|e| e.kind() == ErrorKind::NotADirectory) && disk.len(dir).is_ok() {
            return Err(IoError::OutputIsFile { path: dir.to_owned() });
        }
        let made = !disk.exists(dir);
        let (shown, dir) = (dir.to_owned(), std::path::absolute(dir).map_err(|e| IoError::write(dir, e))?);
        disk.create_dir_all(&dir).map_err(|e| IoError::write(&shown, e))?;
        let undo = Unmade { disk: &*disk, dir: &dir, made };
        let mut locks = letters_open::take(&*disk, &dir, &shown, plan)?;
        let (folder, lock) = match find(&*disk, (&dir, &shown), options, plan)? {
            Found::Folder(folder, lock) => (folder, lock),
            Found::Done(written) => return Ok(Prepared::Done(written)),
        };
        let params = WriteParams::new(&folder.parts(), format, schema, options)?;
        let begun = folder.plan(&*disk)?.ok_or_else(|| IoError::Internal("a job without a plan".into()))?;
        undo.keep();
        locks.push(lock);
        Ok(Prepared::Job(Box::new(Self {
            dir,
            made,
            folder,
            mode: options.mode,
            format,
            params,
            plan: begun.hash(),
            shown,
            handed_over: false,
            disk: OnDisk(disk.clone()),
            prepared: locks,
        })))
    }

    /// The operator that writes the parts. Each of its tasks writes one part and emits one row that names it.
    ///
    /// # Errors
    /// If the schema is too large to send.
    pub(crate) fn operator(&self) -> IoResult<OperatorSpec> {
        self.params.operator(self.format, &self.shown)
    }

    /// Who keeps the ledger and makes the parts visible, where the job lives. Call [`hand_over`](Self::hand_over) once
    /// the job is there.
    ///
    /// # Errors
    /// If the schema is too large to send.
    pub(crate) fn recorder(&self) -> IoResult<RecorderSpec> {
        recorder::spec(self)
    }

    /// The parts are somebody else's from now on.
    pub(crate) fn hand_over(mut self) {
        self.handed_over = true;
    }

    /// Takes back what was made for a job that has finished nothing. Who calls it holds the folder.
    fn take_back(&self) {
        let OnDisk(disk) = &self.disk;
        // There is nobody to tell: what could not be removed is hidden, and goes with a later job.
        self.folder.remove(&**disk);
        if self.made {
            // Only if it is empty, so this never takes data away.
            let _ = disk.remove_dir(&self.dir);
        }
    }
}

impl Drop for OutputDir {
    fn drop(&mut self) {
        let OnDisk(disk) = &self.disk;
        if self.handed_over {
            return;
        }
        // The job may run although nobody answered, or another one may have the folder by now.
        let held = match self.prepared.is_empty() {
            true => self.folder.hold(&**disk),
            false => self.folder.lock(&**disk),
        };
        let Ok(Some(_held)) = held else { return };
        if !self.folder.has_finished(&**disk).unwrap_or(true) {
            self.take_back();
        }
    }
}

/// What a job that did not finish has finished all the same, in words; `None` if there is nothing.
pub(crate) fn kept(dir: &Path) -> Option<String> {
    if target::is_on_store(dir) {
        // Not asked: who pressed Ctrl-C does not wait for a network.
        return Some(format!("what was finished is kept in {}: the same command goes on with it", dir.display()));
    }
    let (jobs, _) = verify::summaries(dir).ok()?;
    let job = jobs.into_iter().rev().find(|job| !job.finished && job.parts > 0)?;
    let (rows, parts) = (verify::counted(job.rows, "row"), verify::counted(job.parts as u64, "part"));
    let goes_on = if job.starts_over { verify::STARTS_OVER } else { "the same command goes on with them" };
    Some(format!("{rows} in {parts} are kept in {}: {goes_on}", dir.display()))
}

/// A directory that was made and may not be needed.
struct Unmade<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    made: bool,
}

impl Unmade<'_> {
    fn keep(mut self) {
        self.made = false;
    }
}

impl Drop for Unmade<'_> {
    fn drop(&mut self) {
        if self.made {
            let _ = self.disk.remove_dir(self.dir);
        }
    }
}

/// Refuses to overwrite a directory that holds one of the files `read`, however the two are spelled. A directory that
/// does not exist yet holds none.
///
/// # Errors
/// Names the first such file.
pub(crate) fn check_inputs<'a>(dir: &Path, read: impl IntoIterator<Item = &'a Path>) -> IoResult<()> {
    let Ok(real_dir) = fs::canonicalize(dir) else { return Ok(()) };
    let is_inside = |path: &Path| fs::canonicalize(path).is_ok_and(|real| real.starts_with(&real_dir));
    // A link in the directory counts as well as a file that a link elsewhere leads to.
    let is_lost = |file: &Path| {
        is_inside(file)
            || file.parent().is_some_and(|parent| match parent.as_os_str().is_empty() {
                true => is_inside(Path::new(".")),
                false => is_inside(parent),
            })
    };
    match read.into_iter().find(|file| is_lost(file)) {
        Some(file) => Err(IoError::OutputIsInput { dir: dir.to_owned(), file: file.to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod around_tests;
#[cfg(test)]
mod attempt_tests;
#[cfg(test)]
mod give_up_sim_tests;
#[cfg(test)]
mod give_up_tests;
#[cfg(test)]
mod letters_tests;
#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod tests;
