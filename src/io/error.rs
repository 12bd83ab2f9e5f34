//! Why something could not be read or written, in words that name the file and the next step.

use std::io;
use std::path::{Path, PathBuf};

use mobula_actors::ledger::{LedgerError, Overlap};
use mobula_actors::operator::BoxError;

use super::schema::TYPE_DEPTH_MAX;

/// What the calls of this module return.
pub type IoResult<T> = Result<T, IoError>;

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// A glob or directory holds no file of the format.
    #[error("no files match {pattern:?} (current directory: {}); {hint}", current.display())]
    NoMatch {
        /// What was asked for.
        pattern: String,
        /// Where relative paths start.
        current: PathBuf,
        /// What to look at.
        hint: String,
    },
    /// No path was given at all.
    #[error("no path was given to read; name a file, a directory or a glob such as \"data/*.parquet\"")]
    NoPaths,
    /// A glob cannot be understood.
    #[error("{pattern:?} is not a glob; write [[] for a literal bracket")]
    Pattern {
        /// What was asked for.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: glob::PatternError,
    },
    /// A named file does not exist.
    #[error("{} does not exist (current directory: {})", path.display(), current.display())]
    NotFound {
        /// The file.
        path: PathBuf,
        /// Where relative paths start.
        current: PathBuf,
    },
    /// A pipe, device or the like, which cannot be read twice or from the middle.
    #[error("{} is not a regular file; write what it gives into a file and read that", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
    },
    /// A name that plans and reports cannot hold.
    #[error("the name of {} is not UTF-8; rename it", path.display())]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// The system refused to read a file or directory.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not what its format promises.
    #[error(
        "{}: {reason}; the file is truncated, damaged or of another format: write it again, leave it out, or read with on_error = skip",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What the decoder said.
        #[source]
        source: Option<BoxError>,
    },
    /// A line of a text file cannot be taken as a row of the schema.
    #[error("{}, line {line}: {reason}; correct the line, give a schema, or read with on_error = skip", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The header of a text file names other columns than the dataset has.
    #[error(
        "{}, line {line}: {reason}; read files with other columns as a dataset of their own and bring both to one schema",
        path.display()
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// The line of the header, from 1.
        line: u64,
        /// How it differs.
        reason: String,
    },
    /// Two files of one dataset do not have the same columns.
    #[error(
        "{} and {} differ: {difference}; read them as two datasets and bring them to one schema",
        first.display(), second.display()
    )]
    MixedSchemas {
        /// The file that set the schema.
        first: PathBuf,
        /// The first file that differs.
        second: PathBuf,
        /// The first column that differs, and how.
        difference: String,
    },
    /// No schema can be found, for instance because all files are empty.
    #[error("no schema: {reason}; give one in the options")]
    NoSchema {
        /// Why there is none.
        reason: String,
    },
    /// Batches given from memory do not have one schema.
    #[error("batch {batch} does not have the schema of batch 0: {difference}")]
    MixedBatches {
        /// Its position.
        batch: usize,
        /// The first column that differs, and how.
        difference: String,
    },
    /// A column is asked for that is not there.
    #[error("column {column:?} not found; there are: {}", choices.join(", "))]
    ColumnNotFound {
        /// What was asked for.
        column: String,
        /// The columns there are.
        choices: Vec<String>,
    },
    /// A column name is there twice, so that it does not say which column is meant.
    #[error("{what} has two columns named {column:?}; rename one of them")]
    DuplicateColumn {
        /// The file or place.
        what: String,
        /// The name.
        column: String,
    },
    /// A column is compressed by a codec that is not built in.
    #[error("{}: column {column:?} is in {codec}, which is not read; use zstd, snappy, gzip or lz4", path.display())]
    Codec {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its codec.
        codec: &'static str,
    },
    /// A column's type is nested deeper than it can be read and written.
    #[error("column {column:?} of {what} is nested deeper than {TYPE_DEPTH_MAX}; flatten it, or select other columns")]
    TooDeep {
        /// The file or place.
        what: String,
        /// The column.
        column: String,
    },
    /// A part that was finished is not what it was.
    #[error("{}, which an earlier run of this job has finished, {found}; start over with --restart", part.display())]
    PartChanged {
        /// The file.
        part: PathBuf,
        /// What it is now.
        found: String,
    },
    /// A file is not the one that was planned with.
    #[error("{} changed since the job was planned; run the job again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file was given up when the job was planned, under a lenient policy.
    #[error("{reason}")]
    GivenUp {
        /// Why.
        reason: String,
    },
    /// A range that ends before it starts, or holds more rows than can be counted.
    #[error("range {start}..{end} has no rows that can be counted; the end must not be before the start")]
    Range {
        /// First value.
        start: i64,
        /// One past the last.
        end: i64,
    },
    /// The output directory has files in it.
    #[error(
        "{} is not empty (it holds {file:?}); choose another directory, or write with mode append or overwrite",
        dir.display()
    )]
    OutputNotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One of the files in it.
        file: String,
    },
    /// The output directory holds the output of a job that did something else.
    #[error(
        "{} holds the output of another job: {difference}; choose another directory, or write with mode append or overwrite",
        dir.display()
    )]
    OutputOfAnother {
        /// The directory.
        dir: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The output directory holds what this job makes, written in another mode, or no longer as a whole.
    #[error("{} holds the finished output of this job{state}", dir.display())]
    OutputFinished {
        /// The directory.
        dir: PathBuf,
        /// Whether it is whole, and the next step.
        state: &'static str,
    },
    /// A job that did something else has not finished there.
    #[error(
        "a job that writes to {} has not finished, and this one differs: {difference}; run the same again to go on with it, or start over with --restart (WriteOptions::restart)",
        dir.display()
    )]
    OutputUnfinished {
        /// The directory.
        dir: PathBuf,
        /// What differs.
        difference: String,
    },
    /// Another process writes there.
    #[error("a job writes to {} right now; wait for its end (on a cluster: `mobula attach`), or choose another directory", dir.display())]
    OutputRuns {
        /// The directory.
        dir: PathBuf,
    },
    /// The very same job runs there.
    #[error("this job runs already and writes to {} right now; wait for its end (on a cluster `mobula jobs` lists it and `mobula attach` follows it)", dir.display())]
    OutputRunsAlready {
        /// The directory.
        dir: PathBuf,
    },
    /// Another job has the folder of this one.
    #[error("this job was given up before it began, and another one writes to {} in its place; run it again", dir.display())]
    OutputTaken {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process looks at what is there.
    #[error("another command is just beginning with {}, or has been stopped while it did; run this one again", dir.display())]
    OutputBegins {
        /// The directory.
        dir: PathBuf,
    },
    /// What a job made visible, or moved away, cannot be told from what is not its own.
    #[error("the job in {} is not given up: {reason}", folder.display())]
    OutputStays {
        /// The folder of the job.
        folder: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// There is nothing to verify.
    #[error("{} holds no output of a job: there is no folder {:?} in it", dir.display(), super::output::folder::HIDDEN)]
    NoLedger {
        /// The directory.
        dir: PathBuf,
    },
    /// There is nothing to replay.
    #[error("no dead letters are open in {}: {reason}", dir.display())]
    NoLetters {
        /// The output.
        dir: PathBuf,
        /// Why not.
        reason: String,
        /// Whether nothing is left to do.
        all_done: bool,
    },
    /// A dead letter does not know its row.
    #[error(
        "job {job} of {} gave up one row of {input} at operator {operator:?}, and nobody knows which: a step before it drops rows or makes more of them. Read all of them by LetterOptions::whole_ranges (--whole-ranges); those that did not fail are then in the output twice",
        dir.display()
    )]
    LetterRange {
        /// The output.
        dir: PathBuf,
        /// The job.
        job: u64,
        /// The rows.
        input: String,
        /// The operator that failed.
        operator: String,
    },
    /// The rows of dead letters cannot be read again.
    #[error(
        "dead letters cannot be read again: {reason}; the table of them (`mobula verify` counts them, OUT/_mobula/N/dead-letters) says which rows they are"
    )]
    LetterSource {
        /// Why not.
        reason: String,
    },
    /// A file that dead letters name is another one now.
    #[error("{} changed since rows of it were given up; put back the file that was read then, or run the whole job again", path.display())]
    LetterChanged {
        /// The file.
        path: PathBuf,
    },
    /// A replay completes what is there.
    #[error("a replay adds to {}, whose dead letters it reads: write with mode append, or to another directory", dir.display())]
    ReplayAppends {
        /// The output.
        dir: PathBuf,
    },
    /// A replay makes something else than the job that gave up the rows.
    #[error("what is replayed does not go with what is in {}: {difference}", dir.display())]
    ReplayDiffers {
        /// The output.
        dir: PathBuf,
        /// What differs.
        difference: String,
    },
    /// Old and new files would be seen together.
    #[error("an output that is overwritten becomes visible as a whole; publish at the end, or append")]
    PublishOverwrite,
    /// The ledger of an output cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Rows that are finished came again.
    #[error("{0}; this is a bug in Mobula, please report it. What is in the ledger is safe: run the same again")]
    Again(#[from] Overlap),
    /// Overwriting would delete files that were not written by this format.
    #[error(
        "{} holds {file:?}, which is not named like the parts that are written here (part-00000.{extension}), so it is not overwritten; choose another directory or remove the file",
        dir.display()
    )]
    OutputForeign {
        /// The directory.
        dir: PathBuf,
        /// One of the files in it.
        file: String,
        /// Of the format that should be written.
        extension: &'static str,
    },
    /// Overwriting would delete a file that the job reads.
    #[error(
        "{} is read by this job and lies in {}, which it would overwrite; choose another directory for the output",
        file.display(), dir.display()
    )]
    OutputIsInput {
        /// The directory.
        dir: PathBuf,
        /// The file that is read.
        file: PathBuf,
    },
    /// The output path is a file.
    #[error("{} is a file; the output is a directory of part files, name one that does not exist yet", path.display())]
    OutputIsFile {
        /// The path.
        path: PathBuf,
    },
    /// The system refused to write.
    #[error("cannot write {}: {hint}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The next step.
        hint: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A place on a store that no output can have.
    #[error("{} is no place for an output: {reason}; write it s3://BUCKET/PREFIX", path.display())]
    StorePlace {
        /// What was asked for.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// This program was built without object stores.
    #[error("{} is on an object store, for which this program was not built; build it with the feature s3, or write to a folder", path.display())]
    NoStores {
        /// What was asked for.
        path: PathBuf,
    },
    /// Letters on a store are a table that is not read from there.
    #[error("{} is on an object store, whose dead letters are not replayed from there: copy its table of dead letters here to see the rows, or write to a folder", path.display())]
    LettersOnStore {
        /// What was asked for.
        path: PathBuf,
    },
    /// Another process has the job.
    #[error(
        "another process went on with the job that writes to {place}, or gave it up, so this one stops: only one process runs a job; what it had finished is kept for the other"
    )]
    StoreFenced {
        /// The place.
        place: String,
    },
    /// Old and new objects would be seen together.
    #[error(
        "what is in {place} is not overwritten: a store cannot replace many objects at once, so readers would see old and new rows together; write to another prefix, or remove what is there first"
    )]
    StoreOverwrite {
        /// The place.
        place: String,
    },
    /// A job whose parts are visible is not given up.
    #[error(
        "the job that writes to {place} is not given up: readers see {file:?} of it already; the same without --restart finishes it, but one that holds code of a program only if it was begun with a name (WriteOptions::named). Else write to another prefix, or remove what is there and its folder _mobula"
    )]
    StoreVisible {
        /// The place.
        place: String,
        /// One of its parts.
        file: String,
    },
    /// An object store refused something, or could not be reached.
    #[error("cannot {verb} {at}: {reason}; {next}")]
    Store {
        /// What was to be done.
        verb: &'static str,
        /// The object.
        at: String,
        /// What the store says.
        reason: String,
        /// The next step.
        next: &'static str,
    },
    /// A batch cannot be encoded in the output format.
    #[error("cannot encode rows for {}: {reason}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A format has no way to hold a type.
    #[error("column {column:?} is {data_type}, which {format} cannot hold; {hint}")]
    ColumnType {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
        /// The format.
        format: &'static str,
        /// The next step.
        hint: &'static str,
    },
    /// A part of this crate handed over what it must not; this is a bug.
    #[error("internal: {0}; this is a bug in Mobula, please report it")]
    Internal(String),
}

impl IoError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            return Self::NotFound { path: path.to_owned(), current: current_dir() };
        }
        Self::Read { path: path.to_owned(), source }
    }

    /// Whether a file cannot be read at all, rather than being read well and found to have other columns: only the
    /// first is skipped on demand, or one odd file at the start would have all the others skipped.
    pub(crate) fn can_skip(&self) -> bool {
        !matches!(self, Self::MixedSchemas { .. } | Self::Header { .. })
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::StorageFull => "the disk is full; free some space or choose another disk",
            io::ErrorKind::QuotaExceeded => "the disk quota is used up; free some space or choose another disk",
            io::ErrorKind::FileTooLarge => "files may not be that large here; raise the limit (`ulimit -f`)",
            io::ErrorKind::PermissionDenied => "permission denied; choose a directory that you may write",
            io::ErrorKind::AlreadyExists => "a file, or a link to nothing, has the name of the directory; remove it",
            io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only; choose another directory",
            _ => "check that the directory exists and the disk is well",
        };
        Self::Write { path: path.to_owned(), hint, source }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.into(), source: None }
    }

    /// An error of a decoder or encoder. The reason is in the message as well: those errors carry no more than a text.
    pub(crate) fn undecodable(path: &Path, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        Self::Corrupt { path: path.to_owned(), reason: source.to_string(), source: Some(source) }
    }
}

pub(crate) fn current_dir() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."))
}
