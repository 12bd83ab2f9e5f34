//! Read time of text formats: whole records are gathered into batches of about the bytes asked for.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use mobula_actors::block::batch_bytes;
use mobula_actors::function::decode;
use mobula_actors::operator::{OpenContext, OperatorResult, ReadBatch, Source, Split, SplitReader};
use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};

use super::TextFormat;
use super::line_error;
use super::lines::{Lines, RecordLimit, Taken};
use super::scan::INFER_BYTES_MAX;
use crate::io::error::{IoError, IoResult};
use crate::io::file::{self, FileId};
use crate::io::given_up::{GivenUp, reason};
use crate::io::pace::Pace;
use crate::io::scan::OnError;
use crate::io::schema::fit;

/// The payload of a split: one file, or why it was given up when the job was planned.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    /// Absolute.
    pub(super) path: PathBuf,
    pub(super) id: Result<FileId, String>,
}

/// The rows that columns and types were inferred from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InferredFrom {
    /// Absolute.
    pub(super) path: PathBuf,
    pub(super) rows: usize,
    /// Whether so many were asked for: else the file has no more, or they are too large.
    pub(super) as_asked: bool,
}

impl fmt::Display for InferredFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, rows, as_asked } = self;
        let rows = if *rows == 1 { "row".to_owned() } else { format!("{rows} rows") };
        write!(f, "columns and types come from the first {rows} of {}", path.display())?;
        match as_asked {
            true => f.write_str(", --infer-rows looks at more"),
            false => write!(f, ", and of one file only {INFER_BYTES_MAX} at most are looked at"),
        }
    }
}

/// Reads text files.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "F: Serialize", deserialize = "F: Deserialize<'de>"))]
pub(super) struct TextSource<F> {
    pub(super) format: F,
    /// Of the records in the files.
    #[serde(with = "crate::io::wire::schema")]
    pub(super) file_schema: SchemaRef,
    /// Positions of the columns that are returned.
    pub(super) columns: Vec<usize>,
    /// Of the batches that are returned.
    #[serde(with = "crate::io::wire::schema")]
    pub(super) schema: SchemaRef,
    pub(super) limit: Option<Rows>,
    pub(super) on_error: OnError,
    /// What the columns were inferred from; `None`: they were given.
    pub(super) inferred_from: Option<InferredFrom>,
}

impl<F: TextFormat> Source for TextSource<F> {
    fn open(
        &self,
        split: &Split,
        rows: Range<Rows>,
        batch: ReadBatch,
        _ctx: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        let part: Part = decode(&split.payload)?;
        let id = match part.id {
            Ok(id) => id,
            Err(why) => return Ok(GivenUp::reader(why, rows.start)),
        };
        match self.open_file(&part.path, id, rows.clone(), batch) {
            Ok(reader) => Ok(Box::new(reader)),
            Err(error) if self.on_error == OnError::Skip => Ok(GivenUp::reader(reason(&error), rows.start)),
            Err(error) => Err(error.into()),
        }
    }
}

impl<F: TextFormat> TextSource<F> {
    fn open_file(&self, path: &Path, id: FileId, rows: Range<Rows>, batch: ReadBatch) -> IoResult<TextReader<F>> {
        let Range { start: from, end } = rows;
        let file = file::open_planned(path, id)?;
        let mut lines = Lines::new(path, (file, id), self.format.ends(), RecordLimit::reading(batch.bytes));
        let text_bytes = usize::try_from(batch.bytes.0).unwrap_or(usize::MAX);
        let mut behind = from.0 + u64::from(self.format.has_header());
        while behind > 0 {
            let skipped = lines.take(usize::try_from(behind).unwrap_or(usize::MAX), SKIP_BYTES)?;
            if skipped.rows() == 0 {
                break;
            }
            behind -= skipped.rows() as u64;
        }
        lines.look_ahead(text_bytes);
        Ok(TextReader {
            path: path.to_owned(),
            format: self.format.clone(),
            file_schema: Arc::clone(&self.file_schema),
            columns: self.columns.clone(),
            schema: Arc::clone(&self.schema),
            left: (self.limit.map_or(end, |limit| limit.min(end)) - from).0,
            lines,
            pace: Pace::new(batch, FIRST_ROW_BYTES, 1, false),
            text_bytes,
            read: from,
            on_error: self.on_error,
            inferred_from: self.inferred_from.clone(),
            bad: None,
            skipped: Vec::new(),
        })
    }
}

struct TextReader<F> {
    path: PathBuf,
    format: F,
    file_schema: SchemaRef,
    columns: Vec<usize>,
    schema: SchemaRef,
    /// Rows that are still wanted.
    left: u64,
    lines: Lines,
    pace: Pace,
    /// Text that is gathered at most: decoded it seldom takes less.
    text_bytes: usize,
    read: Rows,
    on_error: OnError,
    inferred_from: Option<InferredFrom>,
    /// Why the record cannot be decoded that comes next: those before it were delivered.
    bad: Option<IoError>,
    skipped: Vec<String>,
}

impl<F: TextFormat> SplitReader for TextReader<F> {
    fn next_bytes(&self) -> Bytes {
        // The text is held beside the rows that are made of it.
        self.pace.next_bytes(self.left) + self.lines.next_bytes()
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        let next = self.lines.line();
        match self.decode() {
            Ok(batch) => Ok(batch),
            Err(error) if self.on_error == OnError::Skip => {
                let line = if let IoError::Line { line, .. } = error { line } else { next };
                let why = reason(&error);
                self.skipped.push(format!("the rest of the file is given up from line {line} on: {why}"));
                self.left = 0;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn rows_read(&self) -> Rows {
        self.read
    }

    fn take_skipped(&mut self) -> Vec<String> {
        std::mem::take(&mut self.skipped)
    }
}

impl<F: TextFormat> TextReader<F> {
    fn decode(&mut self) -> IoResult<Option<RecordBatch>> {
        if let Some(error) = self.bad.take() {
            return Err(error);
        }
        let records = self.lines.take(self.pace.rows(self.left), self.text_bytes);
        let records = records.map_err(|error| self.lines.check_unchanged().err().unwrap_or(error))?;
        if records.rows() == 0 {
            self.left = 0;
            return Ok(None);
        }
        let batch = match self.decode_records(records.bytes(), records.rows()) {
            Ok(batch) => batch,
            Err(error) => self.decode_good(&records, error)?,
        };
        let rows = batch.num_rows() as u64;
        self.read += Rows(rows);
        self.left -= rows;
        if self.left == 0 {
            // The rest of the file is not read, whose end is where this is looked at otherwise.
            self.lines.check_unchanged()?;
        }
        self.pace.measured(rows, batch_bytes(&batch));
        Ok(Some(batch))
    }

    fn decode_records(&self, bytes: &[u8], rows: usize) -> Result<RecordBatch, ArrowError> {
        let batch = self.format.decode(bytes, rows, &self.file_schema, &self.columns)?;
        if batch.num_rows() != rows {
            return Err(ArrowError::ParseError(format!("{} rows found where {rows} are", batch.num_rows())));
        }
        fit(&batch, &self.schema)
    }

    /// The rows before the first record that cannot be decoded, if they are wanted and there are any. Where records are
    /// cut into batches must not show in which of them are delivered.
    fn decode_good(&mut self, records: &Taken, error: ArrowError) -> IoResult<RecordBatch> {
        self.lines.check_unchanged()?;
        let (good, error) = self.locate(records, error);
        if good == 0 || self.on_error == OnError::Fail {
            return Err(self.refused(records, good, &error));
        }
        let batch = self.decode_records(records.first(good), good);
        let batch = batch.map_err(|error| line_error(&self.path, records.line(0), &error))?;
        self.bad = Some(self.refused(records, good, &error));
        Ok(batch)
    }

    /// The error of a record, which says what may be at fault in place of it.
    fn refused(&self, records: &Taken, row: usize, error: &ArrowError) -> IoError {
        let refused = line_error(&self.path, records.line(row), error);
        let at = self.read + Rows(row as u64);
        let inferred =
            self.inferred_from.as_ref().filter(|from| from.path != self.path || at >= Rows(from.rows as u64));
        match (refused, inferred) {
            (IoError::Line { path, line, reason }, Some(from)) if self.format.is_sound(records.record(row), error) => {
                IoError::Line { path, line, reason: format!("{reason} ({from})") }
            }
            (refused, _) => refused,
        }
    }

    /// Decodes the records one by one, to say which of them is to blame: the first, if none is by itself.
    fn locate(&self, records: &Taken, error: ArrowError) -> (usize, ArrowError) {
        let bad = (0..records.rows()).find_map(|row| {
            let error = self.decode_records(records.record(row), 1).err()?;
            Some((row, error))
        });
        bad.unwrap_or((0, error))
    }
}

/// What a row is thought to take before one was decoded.
const FIRST_ROW_BYTES: u64 = 1024;

/// Records that are skipped are held so far.
const SKIP_BYTES: usize = 1 << 20;
