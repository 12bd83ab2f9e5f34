//! Read time of text formats: whole records are gathered into batches of about the bytes asked for.

use std::fs::File;
use std::io::Read;
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
use super::brief;
use super::records::{End, Ends, Records, is_blank};
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
        let mut lines = Lines::new(path, file, self.format.ends());
        let mut behind = from.0 + u64::from(self.format.has_header());
        while behind > 0 {
            let skipped = lines.take(usize::try_from(behind).unwrap_or(usize::MAX), SKIP_BYTES)?;
            if skipped.rows() == 0 {
                break;
            }
            behind -= skipped.rows() as u64;
        }
        Ok(TextReader {
            path: path.to_owned(),
            format: self.format.clone(),
            file_schema: Arc::clone(&self.file_schema),
            columns: self.columns.clone(),
            schema: Arc::clone(&self.schema),
            left: (self.limit.map_or(end, |limit| limit.min(end)) - from).0,
            lines,
            pace: Pace::new(batch, FIRST_ROW_BYTES, 1, false),
            text_bytes: usize::try_from(batch.bytes.0).unwrap_or(usize::MAX),
            read: from,
            on_error: self.on_error,
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
    skipped: Vec<String>,
}

impl<F: TextFormat> SplitReader for TextReader<F> {
    fn next_bytes(&self) -> Bytes {
        // The text is held beside the rows that are made of it.
        self.pace.next_bytes(self.left) + Bytes(self.lines.held() as u64)
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        match self.decode() {
            Ok(batch) => Ok(batch),
            Err(error) if self.on_error == OnError::Skip => {
                self.skipped.push(format!("the rest of the file is given up: {}", reason(&error)));
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
        let records = self.lines.take(self.pace.rows(self.left), self.text_bytes)?;
        if records.rows() == 0 {
            self.left = 0;
            return Ok(None);
        }
        let batch = self.decode_records(records.bytes(), records.rows()).map_err(|e| self.locate(&records, e))?;
        let rows = batch.num_rows() as u64;
        self.read += Rows(rows);
        self.left -= rows;
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

    /// Decodes the records one by one, to say which of them is to blame.
    fn locate(&self, records: &Taken, error: ArrowError) -> IoError {
        let first = (0..records.rows()).find_map(|row| {
            let error = self.decode_records(records.record(row), 1).err()?;
            Some((records.line(row), error))
        });
        let (line, error) = first.unwrap_or((records.line(0), error));
        IoError::Line { path: self.path.clone(), line, reason: brief(&without_line(&error.to_string())) }
    }
}

/// The decoder counts lines from the first it was given, which says nothing here.
fn without_line(message: &str) -> String {
    let mut text = message.to_owned();
    for before in [" for line ", " at line "] {
        if let Some((head, tail)) = text.split_once(before) {
            text = format!("{head}{}", tail.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
    }
    text
}

/// A file as whole records.
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    records: Records,
    ends: Ends,
    /// Bytes that were read and not taken; a record begins at the first.
    buffer: Vec<u8>,
    /// Bytes of it that were searched for an end.
    seen: usize,
    /// Line of its first byte, from 1.
    line: u64,
    at_start: bool,
    at_end: bool,
}

impl Lines {
    pub(super) fn new(path: &Path, file: File, ends: Ends) -> Self {
        let records = Records::new(ends);
        let (path, buffer) = (path.to_owned(), Vec::new());
        Self { path, file, records, ends, buffer, seen: 0, line: 1, at_start: true, at_end: false }
    }

    /// Bytes held for records to come.
    fn held(&self) -> usize {
        self.buffer.len()
    }

    /// The next `rows` records, fewer if they reach `bytes` bytes before; none at the end of the file.
    pub(super) fn take(&mut self, rows: usize, bytes: usize) -> IoResult<Taken> {
        let mut taken = Taken::default();
        let mut start = 0;
        while taken.starts.len() < rows && start < bytes {
            let Some(end) = self.find_end(start)? else { break };
            let record = self.buffer.get(start..end).unwrap_or_default();
            let line = self.line;
            self.line += record.iter().filter(|&&byte| byte == b'\n').count() as u64;
            if !is_blank(record, self.ends) {
                taken.starts.push((start, line));
            }
            start = end;
        }
        let rest = self.buffer.split_off(start);
        taken.bytes = std::mem::replace(&mut self.buffer, rest);
        self.seen = 0;
        if taken.bytes.last().is_some_and(|&last| last != b'\n') {
            // The last record of a file may have no end; decoders want one.
            taken.bytes.push(b'\n');
        }
        Ok(taken)
    }

    /// Where the record that begins at `start` ends, reading on as needed; `None` at the end of the file.
    fn find_end(&mut self, start: usize) -> IoResult<Option<usize>> {
        self.seen = self.seen.max(start);
        loop {
            match self.records.end(self.buffer.get(self.seen..).unwrap_or_default(), self.at_end) {
                End::At(end) => {
                    self.seen += end;
                    return Ok(Some(self.seen));
                }
                End::Beyond { seen } => self.seen += seen,
            }
            if self.at_end {
                return Ok((start < self.buffer.len()).then_some(self.buffer.len()));
            }
            if self.buffer.len() - start > RECORD_BYTES_MAX.0 as usize {
                let reason =
                    format!("a record of more than {RECORD_BYTES_MAX} begins here, perhaps a quote that is not closed");
                return Err(IoError::Line { path: self.path.clone(), line: self.line, reason });
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> IoResult<()> {
        let before = self.buffer.len();
        let limit = READ_BYTES.0;
        let read = (&mut self.file).take(limit).read_to_end(&mut self.buffer);
        let read = read.map_err(|e| IoError::read(&self.path, e))?;
        self.at_end = (read as u64) < limit;
        if std::mem::take(&mut self.at_start) && self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.buffer.drain(..BYTE_ORDER_MARK.len());
        }
        debug_assert!(self.at_end || self.buffer.len() > before, "a read without bytes is the end");
        Ok(())
    }
}

/// Whole records of a file.
#[derive(Debug, Default)]
pub(super) struct Taken {
    bytes: Vec<u8>,
    /// Where each begins, and its line in the file.
    starts: Vec<(usize, u64)>,
}

impl Taken {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn rows(&self) -> usize {
        self.starts.len()
    }

    /// The line that a record begins in.
    pub(super) fn line(&self, row: usize) -> u64 {
        self.starts.get(row).map_or(1, |start| start.1)
    }

    fn record(&self, row: usize) -> &[u8] {
        let start = self.starts.get(row).map_or(self.bytes.len(), |start| start.0);
        let end = self.starts.get(row + 1).map_or(self.bytes.len(), |start| start.0);
        self.bytes.get(start..end).unwrap_or_default()
    }
}

/// What a row is thought to take before one was decoded.
const FIRST_ROW_BYTES: u64 = 1024;

/// Read with one call to the system.
const READ_BYTES: Bytes = Bytes::kib(128);

/// Records that are skipped are held so far.
const SKIP_BYTES: usize = 1 << 20;

/// A larger record is taken for damage: without this a quote that is not closed would read the whole file.
const RECORD_BYTES_MAX: Bytes = Bytes::mib(256);

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
