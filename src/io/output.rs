//! Output directories: parts are written hidden and become visible together.
//!
//! Tasks of the sink operator write `OUT/_mobula-<tag>/part-00012.attempt-1.parquet`. [`OutputDir::commit`] links the
//! parts that the job's results name into `OUT` as `part-00000.parquet` and so on, never over a file that is there.
//! A job that fails, is cancelled or is dropped leaves nothing visible. Readers skip names that start with `_`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use mobula_actors::function::{Finish, FinisherEntry, decode, encode};
use mobula_actors::operator::OperatorSpec;
use mobula_actors::units::{Bytes, Rows};

use serde::{Deserialize, Serialize};

use super::error::{IoError, IoResult};
use super::paths::is_hidden_name;
use super::sink::{self, Compression, Part, WriteParams};

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

/// How files are written. Settings of other formats than the one written are not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    /// What to do with files that are there already.
    pub mode: WriteMode,
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
}

/// An output directory while a job writes to it. Dropped without [`OutputDir::commit`], it takes all back.
///
/// ```
/// use mobula::io::{Format, OutputDir, WriteOptions, range};
/// let root = tempfile::tempdir()?;
/// let dir = root.path().join("out");
/// let schema = range(0..0)?.schema();
/// let output = OutputDir::prepare(&dir, Format::Parquet, &schema, &WriteOptions::default())?;
/// // A job would run `output.operator()?` here; without results there is one part without rows.
/// let written = output.commit(&[])?;
/// assert_eq!(written.files, [dir.join("part-00000.parquet")]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
pub struct OutputDir {
    /// Absolute: who makes the parts visible may have another working directory.
    dir: PathBuf,
    /// Whether the directory was made for this job.
    made: bool,
    /// Absolute too.
    hidden: PathBuf,
    mode: WriteMode,
    format: Format,
    params: WriteParams,
    /// As the user named it: what plans and summaries show.
    #[serde(skip)]
    shown: PathBuf,
    /// Somebody else makes the parts visible or takes them back.
    #[serde(skip)]
    handed_over: bool,
}

impl OutputDir {
    /// Makes the directory, or checks the one that is there, and makes room for hidden parts in it.
    ///
    /// # Errors
    /// If the path is a file, the directory holds what the mode does not allow, or cannot be written, or the format
    /// cannot hold the schema.
    pub fn prepare(dir: &Path, format: Format, schema: &SchemaRef, options: &WriteOptions) -> IoResult<Self> {
        format.check_schema(schema)?;
        if fs::metadata(dir).is_ok_and(|m| !m.is_dir()) {
            return Err(IoError::OutputIsFile { path: dir.to_owned() });
        }
        let made = !dir.exists();
        fs::create_dir_all(dir).map_err(|e| IoError::write(dir, e))?;
        check_content(dir, options.mode, format)?;
        let hidden = make_hidden(dir).map_err(|e| IoError::write(dir, e))?;
        clean_dead(dir, &hidden);
        let params = WriteParams::new(&hidden, format, schema, options).inspect_err(|_| {
            let _ = fs::remove_dir(&hidden);
        })?;
        let absolute = |path: &Path| std::path::absolute(path).map_err(|e| IoError::write(path, e));
        let shown = dir.to_owned();
        let (dir, hidden) = (absolute(dir)?, absolute(&hidden)?);
        Ok(Self { dir, made, hidden, mode: options.mode, format, params, shown, handed_over: false })
    }

    /// The operator that writes the parts. Each of its tasks writes one part and emits one row that names it.
    ///
    /// # Errors
    /// If the schema is too large to send.
    pub fn operator(&self) -> IoResult<OperatorSpec> {
        self.params.operator(self.format, &self.shown)
    }

    /// Makes the parts visible, in the order of their tasks. `results` are the batches that the operator emitted.
    /// A job without rows makes one file without rows, so that it can be read back.
    ///
    /// # Errors
    /// If the system refuses, or somebody else wrote to the directory meanwhile and the mode does not allow that.
    /// Then nothing of this job is visible, and what was there is.
    pub fn commit(self, results: &[RecordBatch]) -> IoResult<Written> {
        let mut parts: BTreeMap<u64, Part> = BTreeMap::new();
        for part in sink::parts(results)? {
            parts.entry(part.number).or_insert(part);
        }
        if parts.is_empty() {
            parts.insert(0, self.params.write_empty()?);
        }
        check_content(&self.dir, self.mode, self.format)?;
        let mut change = Change { output: &self, published: Vec::new(), moved: Vec::new(), done: false };
        if self.mode == WriteMode::Overwrite {
            change.move_old_away()?;
        }
        let mut number = self.first_number()?;
        for part in parts.values() {
            number = change.publish(&part.path, number)? + 1;
        }
        sync_dir(&self.dir)?;
        change.done = true;
        let files = std::mem::take(&mut change.published);
        Ok(Written {
            files,
            rows: parts.values().map(|part| part.rows).sum(),
            bytes: parts.values().map(|part| part.bytes).sum(),
        })
    }

    /// The number of the first part. Who does not append has the directory for himself and begins at 0, whatever is
    /// there by now: another job that wrote since the last look is then met at a name that is taken, not passed by.
    fn first_number(&self) -> IoResult<u64> {
        match self.mode {
            WriteMode::Append => next_number(&self.dir, self.format),
            WriteMode::Error | WriteMode::Overwrite => Ok(0),
        }
    }

    /// What makes the parts visible, or takes them back, where the job lives: the head of a cluster. Call
    /// [`hand_over`](Self::hand_over) once the job is there.
    ///
    /// # Errors
    /// If the schema is too large to send.
    pub(crate) fn finish(&self) -> IoResult<Finish> {
        let params = encode(self).map_err(|e| IoError::Internal(e.to_string()))?;
        Ok(Finish { name: FINISHER.to_owned(), params })
    }

    /// The parts are somebody else's from now on.
    pub(crate) fn hand_over(mut self) {
        self.handed_over = true;
    }

    /// Takes all back: the hidden parts, and the directory if it was made for this job. Dropping does the same.
    pub fn discard(self) {}
}

impl Drop for OutputDir {
    fn drop(&mut self) {
        if self.handed_over {
            return;
        }
        // There is nobody to tell: what could not be removed is hidden, and cleaned by a later job.
        remove_hidden(&self.hidden);
        if self.made {
            // Only if it is empty, so this never takes data away.
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// The name under which a head finds what makes the parts visible.
const FINISHER: &str = "mobula/write@1";

#[mobula_actors::__private::linkme::distributed_slice(mobula_actors::__private::FINISHERS)]
#[linkme(crate = mobula_actors::__private::linkme)]
static FINISH_WRITE: FinisherEntry = FinisherEntry {
    name: FINISHER,
    finish: |params, results| encode(&decode::<OutputDir>(params)?.commit(results)?),
    // Dropped, which takes all back.
    discard: |params| drop(decode::<OutputDir>(params)),
};

/// A commit under way; dropped before it is done, it undoes itself.
struct Change<'a> {
    output: &'a OutputDir,
    published: Vec<PathBuf>,
    /// Where old parts were, and where they are now.
    moved: Vec<(PathBuf, PathBuf)>,
    done: bool,
}

impl Change<'_> {
    /// Old parts are moved, not deleted, as long as the new ones are not all in place.
    fn move_old_away(&mut self) -> IoResult<()> {
        let away = self.output.hidden.join("replaced");
        fs::create_dir(&away).map_err(|e| IoError::write(&away, e))?;
        for name in visible_names(&self.output.dir)? {
            let (from, to) = (self.output.dir.join(&name), away.join(&name));
            fs::rename(&from, &to).map_err(|e| IoError::write(&from, e))?;
            self.moved.push((from, to));
        }
        Ok(())
    }

    /// Makes a part visible under the first free number from `number` on, which is returned.
    fn publish(&mut self, part: &Path, mut number: u64) -> IoResult<u64> {
        loop {
            let name = format!("part-{number:05}.{}", self.output.format.extension());
            let path = self.output.dir.join(name);
            match link(part, &path) {
                Ok(()) => {
                    self.published.push(path);
                    return Ok(number);
                }
                // Another job appends at the same time: its parts are left alone.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.output.mode == WriteMode::Append => {
                    number += 1;
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    return Err(IoError::OutputNotEmpty { dir: self.output.dir.clone(), file });
                }
                Err(e) => return Err(IoError::write(&path, e)),
            }
        }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        for path in &self.published {
            let _ = fs::remove_file(path);
        }
        for (from, to) in &self.moved {
            let _ = fs::rename(to, from);
        }
    }
}

/// Gives a file a second name, never one that is taken. Where the file system has no links the file is renamed, after
/// a look whether the name is free: another writer between the two is then not noticed.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Err(e),
        Err(_) if to.try_exists()? => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
        Ok(()) => Ok(()),
    }
}

/// Names become durable with their directory. Not all systems let a directory be opened.
fn sync_dir(dir: &Path) -> IoResult<()> {
    match File::open(dir) {
        Ok(handle) => handle.sync_all().map_err(|e| IoError::write(dir, e)),
        Err(_) => Ok(()),
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

fn check_content(dir: &Path, mode: WriteMode, format: Format) -> IoResult<()> {
    let names = visible_names(dir)?;
    match mode {
        WriteMode::Append => Ok(()),
        WriteMode::Error => match names.into_iter().next() {
            Some(file) => Err(IoError::OutputNotEmpty { dir: dir.to_owned(), file }),
            None => Ok(()),
        },
        WriteMode::Overwrite => match names.into_iter().find(|name| !is_own(dir, name, format)) {
            Some(file) => Err(IoError::OutputForeign { dir: dir.to_owned(), file, extension: format.extension() }),
            None => Ok(()),
        },
    }
}

fn is_own(dir: &Path, name: &str, format: Format) -> bool {
    let number = name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(&format!(".{}", format.extension())));
    let own_name = number.is_some_and(|number| number.len() >= 5 && number.bytes().all(|b| b.is_ascii_digit()));
    own_name && fs::symlink_metadata(dir.join(name)).is_ok_and(|m| m.is_file())
}

/// Names in a directory that are data, sorted.
fn visible_names(dir: &Path) -> IoResult<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| IoError::write(dir, e))? {
        let name = entry.map_err(|e| IoError::write(dir, e))?.file_name().to_string_lossy().into_owned();
        if !is_hidden_name(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// One more than the highest number of a part that is there.
fn next_number(dir: &Path, format: Format) -> IoResult<u64> {
    let suffix = format!(".{}", format.extension());
    let number = |name: &String| name.strip_prefix("part-")?.strip_suffix(&suffix)?.parse::<u64>().ok();
    Ok(visible_names(dir)?.iter().filter_map(number).max().map_or(0, |last| last.saturating_add(1)))
}

/// Makes a directory for hidden parts that no other job has, even one of a process that had the same number.
fn make_hidden(dir: &Path) -> io::Result<PathBuf> {
    static JOBS: AtomicU64 = AtomicU64::new(0);
    loop {
        let tag = format!("{:x}-{:x}", std::process::id(), JOBS.fetch_add(1, Ordering::Relaxed));
        let hidden = dir.join(format!("{HIDDEN_PREFIX}{tag}"));
        match fs::create_dir(&hidden) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| hidden),
        }
    }
}

/// Removes hidden directories of jobs that are long dead. Whether their process lives cannot be asked on every system
/// (it may be on another machine that shares the disk), so age decides: nothing in it has changed for a day, by the
/// clock of the disk, which has just dated `fresh`.
fn clean_dead(dir: &Path, fresh: &Path) {
    let (Some(now), Ok(entries)) = (last_change(fresh), fs::read_dir(dir)) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(HIDDEN_PREFIX);
        let age = last_change(&path).and_then(|then| now.duration_since(then).ok());
        if ours && age.is_some_and(|age| age > DEAD_AFTER) && fs::remove_dir_all(&path).is_ok() {
            tracing::info!(path = %path.display(), "removed the unfinished output of a job that ended long ago");
        }
    }
}

/// Removes a directory of hidden parts. A worker that was told to stop and is inside a call may begin a file meanwhile.
fn remove_hidden(hidden: &Path) {
    for _ in 0..REMOVALS_MAX {
        match fs::remove_dir_all(hidden) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            _ => return,
        }
    }
}

/// Each worker begins one file at most after it was told to stop, and rarely just then.
const REMOVALS_MAX: usize = 10;

/// When anything in a directory changed last.
fn last_change(dir: &Path) -> Option<SystemTime> {
    let inside = fs::read_dir(dir).ok()?.flatten().filter_map(|entry| entry.metadata().ok());
    inside.chain(fs::metadata(dir).ok()).filter_map(|metadata| metadata.modified().ok()).max()
}

const HIDDEN_PREFIX: &str = "_mobula-";

/// Longer than any one part takes to write.
const DEAD_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
