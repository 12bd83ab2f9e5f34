//! [`Scan`]: what will be read of an input, as a value that planner rules narrow and the planner then lowers.
//!
//! A format implements [`Input`]; what is pushed into it (columns, predicate, limit) is kept here, once for all formats.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use mobula_actors::operator::{SourceSpec, Split};
use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};

use super::error::{IoError, IoResult};
use super::file::FileId;
use super::replay::Replays;
use super::schema::{duplicate, too_deep};
use crate::expr::Expr;

/// What happens when a file, or a part of one, cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnError {
    /// The job fails and names the file.
    #[default]
    Fail,
    /// The file, or the rest of the split at hand, is given up; the job's summary lists and counts what was. Of a text
    /// file all rows before the first bad line are read, and none behind it. A file that can be read but has other
    /// columns is an error all the same.
    Skip,
}

/// What a format can read: files that were looked at, a range, batches in memory.
pub(crate) trait Input: fmt::Debug + Send + Sync {
    /// `read_parquet data/*.parquet`.
    fn label(&self) -> String;

    /// The columns there are.
    fn schema(&self) -> &SchemaRef;

    /// The rows there are, where known without reading.
    fn rows(&self) -> Option<Rows>;

    /// Whether a predicate can save reading.
    fn prunes(&self) -> bool {
        false
    }

    /// The files it reads, those that were given up too.
    fn files(&self) -> Vec<&Path> {
        Vec::new()
    }

    /// Those files as they were when they were looked at.
    fn identities(&self) -> Vec<(&Path, Option<FileId>)> {
        Vec::new()
    }

    /// The dead letters that it reads.
    fn replays(&self) -> Option<&Replays> {
        None
    }

    /// Cuts it into splits of about `target` decoded bytes.
    fn lower(&self, pushed: &Pushed, target: Bytes) -> IoResult<Lowered>;
}

/// A file of the input, and what tells it from a later one of its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputFile {
    /// Absolute, if it can be.
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) modified_ns: u64,
}

impl InputFile {
    fn new(path: &Path, id: Option<FileId>) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        let (size, modified_ns) = id.map_or((0, 0), |id| (id.size, id.modified_ns));
        Self { path, size, modified_ns }
    }

    /// How it differs from what stands in its place now, in words.
    pub(crate) fn differs(&self, now: &Self) -> Option<String> {
        let path = &self.path;
        if *path != now.path {
            return Some(format!("the input file {} stands where {path} was", now.path));
        }
        if self.size != now.size {
            return Some(format!("the input file {path} changed: it had {} bytes and has {}", self.size, now.size));
        }
        (self != now).then(|| format!("the input file {path} changed: it was written again since"))
    }
}

/// A source and its splits, in order.
pub(crate) type Lowered = (SourceSpec, Vec<Split>);

/// What a plan needs of an input.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pushed {
    /// Positions of the columns to read, in output order; `None`: all.
    pub(crate) columns: Option<Vec<usize>>,
    /// Rows for which this is not true need not be returned.
    pub(crate) predicate: Option<Expr>,
    /// Rows after so many need not be returned.
    pub(crate) limit: Option<Rows>,
}

impl Pushed {
    /// The schema of what is read.
    pub(crate) fn schema(&self, full: &SchemaRef) -> SchemaRef {
        let Some(columns) = &self.columns else { return Arc::clone(full) };
        let fields: Vec<_> = columns.iter().filter_map(|&i| full.fields().get(i).cloned()).collect();
        Arc::new(Schema::new(fields))
    }

    /// Positions of the columns to read, in output order.
    pub(crate) fn columns(&self, full: &Schema) -> Vec<usize> {
        self.columns.clone().unwrap_or_else(|| (0..full.fields().len()).collect())
    }
}

/// What will be read of an input: a lazy value, cheap to clone.
///
/// Rules narrow it (`with_..`), [`Scan::lower`] cuts it into splits. Nothing but metadata is read before a job runs.
#[derive(Debug, Clone)]
pub struct Scan {
    input: Arc<dyn Input>,
    pushed: Pushed,
}

impl Scan {
    pub(crate) fn new(input: impl Input + 'static) -> IoResult<Self> {
        if let Some(column) = duplicate(input.schema()) {
            return Err(IoError::DuplicateColumn { what: input.label(), column });
        }
        Ok(Self { input: Arc::new(input), pushed: Pushed::default() })
    }

    /// The columns that are read.
    pub fn schema(&self) -> SchemaRef {
        self.pushed.schema(self.input.schema())
    }

    /// The number of rows it returns, where that is known without reading (from Parquet footers, for instance).
    pub fn row_count(&self) -> Option<u64> {
        let rows = self.input.rows().filter(|_| self.pushed.predicate.is_none())?;
        Some(self.pushed.limit.map_or(rows, |limit| limit.min(rows)).0)
    }

    /// The files it was made of, in the order of their rows; none for rows that are in no file.
    pub fn files(&self) -> Vec<&Path> {
        self.input.files()
    }

    /// Those files, with what tells them from later ones.
    pub(crate) fn input_files(&self) -> Vec<InputFile> {
        self.input.identities().into_iter().map(|(path, id)| InputFile::new(path, id)).collect()
    }

    /// The dead letters that it reads, if it does.
    pub(crate) fn replays(&self) -> Option<&Replays> {
        self.input.replays()
    }

    /// The predicate pushed into it so far.
    pub fn predicate(&self) -> Option<&Expr> {
        self.pushed.predicate.as_ref()
    }

    /// The limit pushed into it so far.
    pub fn limit(&self) -> Option<u64> {
        self.pushed.limit.map(|limit| limit.0)
    }

    /// Whether the format can use a predicate, so that a rule knows if offering one is worth while.
    pub fn prunes(&self) -> bool {
        self.input.prunes()
    }

    /// Reads these columns only, in this order. Names are those of [`Scan::schema`].
    ///
    /// # Errors
    /// If a column is not there, naming those that are, or is named twice.
    pub fn with_projection<S: AsRef<str>>(&self, columns: &[S]) -> IoResult<Self> {
        let schema = self.schema();
        let now = self.pushed.columns(self.input.schema());
        let mut positions = Vec::with_capacity(columns.len());
        for column in columns.iter().map(AsRef::as_ref) {
            let position = schema.index_of(column).ok().and_then(|i| now.get(i).copied());
            let position = position.ok_or_else(|| column_not_found(column, &schema))?;
            if positions.contains(&position) {
                return Err(IoError::DuplicateColumn { what: "the projection".into(), column: column.into() });
            }
            positions.push(position);
        }
        Ok(Self { pushed: Pushed { columns: Some(positions), ..self.pushed.clone() }, input: Arc::clone(&self.input) })
    }

    /// Need not return rows for which `predicate` is not true. It may still return some, so the filter stays above the
    /// scan: all conjuncts are only used to skip row groups and pages. Further predicates are added with `and`.
    ///
    /// A scan that has a limit, or cannot prune, stays as it is: the first rows of an input are not the first rows that
    /// match.
    pub fn with_predicate(&self, predicate: &Expr) -> Self {
        let mut scan = self.clone();
        if self.prunes() && self.pushed.limit.is_none() {
            scan.pushed.predicate = Some(match &self.pushed.predicate {
                Some(earlier) => earlier.clone().and(predicate.clone()),
                None => predicate.clone(),
            });
        }
        scan
    }

    /// Need not return more than the first `rows` rows. It may still return more (a text file's rows are not counted
    /// before it is read), so the limit stays above the scan. A scan that has a predicate stays as it is.
    pub fn with_limit(&self, rows: u64) -> Self {
        let mut scan = self.clone();
        if self.pushed.predicate.is_none() {
            let rows = Rows(rows);
            scan.pushed.limit = Some(self.pushed.limit.map_or(rows, |limit| limit.min(rows)));
        }
        scan
    }

    /// The source, and its splits of about `target` decoded bytes each, in the order of the rows.
    ///
    /// # Errors
    /// If a file changed or vanished since the scan was made, or a column cannot be read.
    pub fn lower(&self, target: Bytes) -> IoResult<(SourceSpec, Vec<Split>)> {
        if let Some(column) = too_deep(&self.schema()) {
            return Err(IoError::TooDeep { what: self.input.label(), column });
        }
        let (source, splits) = self.input.lower(&self.pushed, target)?;
        Ok((source.labelled(self.input.label()), splits))
    }

    /// One line for plans: what is read, with all that was pushed into it.
    pub fn describe(&self) -> String {
        let mut text = self.input.label();
        if self.pushed.columns.is_some() {
            let names: Vec<_> = self.schema().fields().iter().map(|f| f.name().clone()).collect();
            text += &format!(", columns [{}]", names.join(", "));
        }
        if let Some(predicate) = &self.pushed.predicate {
            text += &format!(", pruned by {predicate}");
        }
        if let Some(limit) = self.pushed.limit {
            text += &format!(", first {limit} rows");
        }
        text
    }
}

/// What a path list looks like in a label: the first, and how many more.
pub(crate) fn paths_label(verb: &str, paths: &[PathBuf]) -> String {
    match paths {
        [] => verb.to_owned(),
        [path] => format!("{verb} {}", path.display()),
        [path, rest @ ..] => format!("{verb} {} and {} more", path.display(), rest.len()),
    }
}

fn column_not_found(column: &str, schema: &Schema) -> IoError {
    let choices = schema.fields().iter().map(|f| f.name().clone()).collect();
    IoError::ColumnNotFound { column: column.to_owned(), choices }
}
