//! Plan time of text formats: a schema, and one split a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use mobula_actors::function::{encode, named_source};
use mobula_actors::operator::Split;
use mobula_actors::units::{Bytes, Rows};

use super::TextFormat;
use super::brief;
use super::line_error;
use super::lines::{Lines, RecordLimit, Taken};
use super::reader::{InferredFrom, Part, TextSource};
use super::records::Ends;
use crate::io::error::{IoError, IoResult};
use crate::io::file::{self, FileId};
use crate::io::given_up::reason;
use crate::io::paths::expand;
use crate::io::scan::{Input, Lowered, OnError, Pushed, Scan, paths_label};
use crate::io::wire::absolute;

/// What the options of the text formats have in common.
pub(crate) struct TextOptions {
    pub(crate) schema: Option<SchemaRef>,
    pub(crate) infer_rows: usize,
    pub(crate) on_error: OnError,
}

/// Text files of one schema.
#[derive(Debug)]
pub(crate) struct TextScan<F> {
    label: String,
    schema: SchemaRef,
    files: Vec<(PathBuf, Result<FileId, String>)>,
    format: F,
    on_error: OnError,
    inferred_from: Option<InferredFrom>,
}

impl<F: TextFormat> TextScan<F> {
    /// Finds the files, a schema, and checks the headers.
    pub(crate) fn open(paths: Vec<PathBuf>, extensions: &[&str], format: F, options: TextOptions) -> IoResult<Scan> {
        let found = expand(&paths, extensions)?;
        let (schema, inferred_from) = match &options.schema {
            Some(schema) => (Arc::clone(schema), None),
            None => infer(&found, &format, &options)?,
        };
        let mut files = Vec::with_capacity(found.len());
        for path in found {
            let state = match look(&path, &format, &schema) {
                Ok(id) => Ok(id),
                Err(error) if options.on_error == OnError::Skip && error.can_skip() => Err(reason(&error)),
                Err(error) => return Err(error),
            };
            files.push((path, state));
        }
        let (label, on_error) = (paths_label(F::VERB, &paths), options.on_error);
        Scan::new(Self { label, schema, files, format, on_error, inferred_from })
    }
}

impl<F: TextFormat> Input for TextScan<F> {
    fn label(&self) -> String {
        self.label.clone()
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn rows(&self) -> Option<Rows> {
        None
    }

    fn files(&self) -> Vec<&Path> {
        self.files.iter().map(|(path, _)| path.as_path()).collect()
    }

    fn identities(&self) -> Vec<(&Path, Option<FileId>)> {
        self.files.iter().map(|(path, state)| (path.as_path(), state.as_ref().ok().copied())).collect()
    }

    fn lower(&self, pushed: &Pushed, _target: Bytes) -> IoResult<Lowered> {
        let splits = self.files.iter().map(|(path, state)| split(path, state)).collect::<IoResult<_>>()?;
        let source = TextSource {
            format: self.format.clone(),
            file_schema: Arc::clone(&self.schema),
            columns: pushed.columns(&self.schema),
            schema: pushed.schema(&self.schema),
            limit: pushed.limit,
            on_error: self.on_error,
            inferred_from: self.inferred_from.clone(),
        };
        Ok((named_source(F::SOURCE, F::VERB, source), splits))
    }
}

fn split(path: &Path, state: &Result<FileId, String>) -> IoResult<Split> {
    let part = Part { path: absolute(path)?, id: state.clone() };
    let payload = encode(&part).map_err(|e| IoError::Internal(format!("split {}: {e}", path.display())))?;
    let (label, bytes) = match state {
        // Numbers take more decoded than as text, strings about the same.
        Ok(id) => (path.display().to_string(), Bytes(id.size.saturating_mul(2))),
        Err(_) => (format!("{}, given up", path.display()), Bytes(0)),
    };
    Ok(Split { label, rows: None, bytes, payload, file: None })
}

/// The schema of the first file that has any rows, else (if that is to be skipped) of those before the first bad line,
/// else of the first file that has a header.
fn infer<F: TextFormat>(
    files: &[PathBuf],
    format: &F,
    options: &TextOptions,
) -> IoResult<(SchemaRef, Option<InferredFrom>)> {
    let (mut before_bad, mut header_only) = (None, None);
    let rows = options.infer_rows.max(1);
    for path in files {
        match infer_file(path, format, rows) {
            Ok(Some((schema, 0))) => header_only = header_only.or(Some(schema)),
            Ok(Some((schema, found))) => {
                let from = InferredFrom { path: absolute(path)?, rows: found, as_asked: found >= rows };
                return Ok((schema, Some(from)));
            }
            Ok(None) => {}
            Err(error) if options.on_error == OnError::Skip => {
                before_bad = before_bad.or_else(|| infer_before(path, format, rows, &error));
            }
            Err(error) => return Err(error),
        }
    }
    let reason = || match files {
        [one] => format!("{} has no rows to infer one from", one.display()),
        all => format!("none of the {} files has rows to infer one from", all.len()),
    };
    let schema = before_bad.or(header_only).ok_or_else(|| IoError::NoSchema { reason: reason() })?;
    Ok((schema, None))
}

/// The schema of a file, and of how many rows; `None` if it has nothing at all.
fn infer_file<F: TextFormat>(path: &Path, format: &F, rows: usize) -> IoResult<Option<(SchemaRef, usize)>> {
    let header = usize::from(format.has_header());
    let found = first_records(path, format, rows.saturating_add(header))?;
    if found.rows() == 0 {
        return Ok(None);
    }
    check_width(path, format.ends(), &found)?;
    let schema = format.infer(found.bytes()).map_err(|error| locate(path, format, &found, error))?;
    Ok(Some((schema, found.rows() - header.min(found.rows()))))
}

/// The schema of the rows before the line for which none could be inferred.
fn infer_before<F: TextFormat>(path: &Path, format: &F, rows: usize, error: &IoError) -> Option<SchemaRef> {
    let IoError::Line { line, .. } = error else { return None };
    let header = usize::from(format.has_header());
    let found = first_records(path, format, rows.saturating_add(header)).ok()?;
    let good = (0..found.rows()).take_while(|&row| found.line(row) < *line).count();
    if good > header { format.infer(found.first(good)).ok() } else { None }
}

fn first_records<F: TextFormat>(path: &Path, format: &F, records: usize) -> IoResult<Taken> {
    let mut lines = Lines::new(path, file::open(path)?, format.ends(), RecordLimit::INFERENCE);
    // A header says nothing of types: a row comes with it, however long.
    lines.take_some((1 + usize::from(format.has_header()), records), INFER_BYTES_MAX.0 as usize)
}

/// Says which record is to blame that no schema goes with all of them: the last of as few as fail.
fn locate<F: TextFormat>(path: &Path, format: &F, records: &Taken, error: ArrowError) -> IoError {
    let (mut good, mut bad, mut error) = (0, records.rows(), error);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        match format.infer(records.first(middle)) {
            Ok(_) => good = middle,
            Err(earlier) => (bad, error) = (middle, earlier),
        }
    }
    line_error(path, records.line(good), &error)
}

/// Opens a file for its identity, and checks its header.
fn look<F: TextFormat>(path: &Path, format: &F, schema: &Schema) -> IoResult<FileId> {
    let (file, id) = file::open(path)?;
    if format.has_header() {
        let header = Lines::new(path, (file, id), format.ends(), RecordLimit::HEADER).take(1, 1)?;
        if header.rows() > 0 {
            check_width(path, format.ends(), &header)?;
            // What is no header at all is damage, which can be skipped; another header is not.
            format.infer(header.bytes()).map_err(|e| IoError::corrupt(path, brief(&e.to_string())))?;
            let schema = Arc::new(schema.clone());
            format.check_header(header.bytes(), &schema).map_err(|reason| IoError::Header {
                path: path.to_owned(),
                line: header.line(0),
                reason: brief(&reason),
            })?;
        }
    }
    Ok(id)
}

/// Refuses a first record of more columns than anybody means: each takes a name and more, however short its text.
fn check_width(path: &Path, ends: Ends, records: &Taken) -> IoResult<()> {
    let Ends::Quoted { delimiter } = ends else { return Ok(()) };
    let columns = 1 + records.record(0).iter().filter(|&&byte| byte == delimiter).count();
    if columns <= COLUMNS_MAX {
        return Ok(());
    }
    let reason = format!("{columns} columns, and no more than {COLUMNS_MAX} are read");
    Err(IoError::Line { path: path.to_owned(), line: records.line(0), reason })
}

/// Widest tables in use have some ten thousand.
const COLUMNS_MAX: usize = 100_000;

/// Rows of a usual size reach the row limit long before; rows of a megabyte must not fill the memory.
pub(super) const INFER_BYTES_MAX: Bytes = Bytes::mib(8);
