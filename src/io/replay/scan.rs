//! Open dead letters as a scan.

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use mobula_actors::operator::Split;
use mobula_actors::units::{Bytes, Rows};

use super::again::{Again, again, recipe};
use super::kept::{Kept, KeptRows};
use super::picked::{picked, split};
use super::ranges::joined;
use crate::io::error::{IoError, IoResult};
use crate::io::file::FileId;
use crate::io::parquet;
use crate::io::scan::{Input, Lowered, Pushed, Scan};

/// Which dead letters are read, and what of those that do not know their row.
///
/// ```
/// use mobula::prelude::*;
/// let options = LetterOptions { job: Some(0), ..LetterOptions::default() };
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterOptions {
    /// Only those of this job of the output, by its number. Default: of all.
    pub job: Option<u64>,
    /// Reads all rows that may be meant where a letter names only a range of them: behind a step that drops rows or makes
    /// more of them nobody knows which one failed. The others of them are in the output already. Default: no, it is an error.
    pub whole_ranges: bool,
}

/// Dead letters that nobody has replayed yet.
#[derive(Debug)]
pub(crate) struct OpenLetters {
    /// The output that they lie beside.
    pub(crate) dir: PathBuf,
    /// By the number of the job.
    pub(crate) jobs: Vec<(u64, Kept)>,
}

/// What a scan of dead letters stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replays {
    /// The output that they lie beside.
    pub(crate) dir: PathBuf,
    /// The jobs that gave up the rows.
    pub(crate) jobs: Vec<u64>,
}

/// The rows of dead letters.
#[derive(Debug)]
struct LetterScan {
    replays: Replays,
    splits: Vec<Split>,
    again: Again,
}

/// The rows of these letters, in the order of the jobs and of their input.
///
/// # Errors
/// If a letter knows only a range of rows and that is not wanted, rows were never in a file, files have changed since, or
/// they differ in their columns.
pub(crate) fn scan(open: OpenLetters, options: &LetterOptions) -> IoResult<Scan> {
    let OpenLetters { dir, jobs } = open;
    let (mut read, mut whole, mut picked) = (None::<Read>, Vec::new(), Vec::new());
    for (job, kept) in &jobs {
        if let Some(rows) = kept.rows.iter().find(|rows| rows.one_of.is_some() && !options.whole_ranges) {
            return Err(range(&dir, *job, kept, rows));
        }
        for (at, (source, of)) in kept.splits.iter().enumerate() {
            let found = Read::of(kept, *source)?;
            match &read {
                Some(read) if !read.is_like(&found) => return Err(two_reads(read, &found)),
                Some(_) => {}
                None => read = Some(found),
            }
            let ranges = kept.rows.iter().filter(|rows| rows.split as usize == at).map(|rows| rows.from..rows.to);
            for rows in joined(ranges.collect()) {
                picked.push(split(of, rows.start, rows.end)?);
            }
            whole.push(of.clone());
        }
    }
    let none = || IoError::Internal("letters without rows".into());
    let read = read.ok_or_else(none)?;
    let again = again(&read.name, &read.params, &whole)?.ok_or_else(|| not_in_files(&read.label))?;
    let replays = Replays { dir, jobs: jobs.iter().map(|(job, _)| *job).collect() };
    Scan::new(LetterScan { replays, splits: picked, again })
}

/// How a source reads.
struct Read {
    label: String,
    name: String,
    params: Vec<u8>,
}

impl Read {
    fn of(kept: &Kept, source: u32) -> IoResult<Self> {
        let source =
            kept.sources.get(source as usize).ok_or_else(|| IoError::Internal("a split of no source".into()))?;
        let (name, params) = source.recipe.clone().ok_or_else(|| not_in_files(&source.label))?;
        Ok(Self { label: source.label.clone(), name, params })
    }

    /// Whether one scan reads the rows of both. What Parquet files hold they say themselves.
    fn is_like(&self, other: &Self) -> bool {
        self.name == other.name && (self.name == parquet::SOURCE || self.params == other.params)
    }
}

fn not_in_files(label: &str) -> IoError {
    IoError::LetterSource { reason: format!("{label} reads no files, so its rows are not there any more") }
}

fn two_reads(first: &Read, second: &Read) -> IoError {
    let (first, second) = (&first.label, &second.label);
    IoError::LetterSource { reason: format!("they come from {first} and from {second}, which read in different ways") }
}

fn range(dir: &Path, job: u64, kept: &Kept, rows: &KeptRows) -> IoError {
    let label = kept.splits.get(rows.split as usize).map(|(_, split)| split.label.clone()).unwrap_or_default();
    let rows_of =
        if rows.to == u64::MAX { format!("from {} on", rows.from) } else { format!("{}..{}", rows.from, rows.to) };
    let operator = rows.one_of.clone().unwrap_or_default();
    IoError::LetterRange { dir: dir.to_owned(), job, input: format!("{label}, rows {rows_of}"), operator }
}

impl Input for LetterScan {
    fn label(&self) -> String {
        format!("read_dead_letters {}", self.replays.dir.display())
    }

    fn schema(&self) -> &SchemaRef {
        &self.again.schema
    }

    fn rows(&self) -> Option<Rows> {
        self.splits.iter().map(|split| split.rows).sum()
    }

    fn files(&self) -> Vec<&Path> {
        self.again.files.iter().map(|(path, _)| path.as_path()).collect()
    }

    fn identities(&self) -> Vec<(&Path, Option<FileId>)> {
        self.again.files.iter().map(|(path, id)| (path.as_path(), Some(*id))).collect()
    }

    fn replays(&self) -> Option<&Replays> {
        Some(&self.replays)
    }

    fn lower(&self, pushed: &Pushed, _target: Bytes) -> IoResult<Lowered> {
        Ok((picked(recipe((self.again.source)(pushed))?), self.splits.clone()))
    }
}
