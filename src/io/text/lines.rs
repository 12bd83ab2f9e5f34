//! A text file as whole records, within limits, and all of one state of the file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use mobula_actors::units::Bytes;

use super::records::{End, Ends, Records, is_blank};
use crate::io::error::{IoError, IoResult};
use crate::io::file::{self, FileId};

/// What a record may take, and what to do if it is to take more.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordLimit {
    bytes: Bytes,
    advice: &'static str,
}

impl RecordLimit {
    /// Of a header.
    pub(super) const HEADER: Self = Self { bytes: Bytes::mib(1), advice: "" };

    /// Of rows to infer a schema from, each value of which takes many times its text.
    pub(super) const INFERENCE: Self = Self { bytes: Bytes::mib(32), advice: "" };

    /// Of rows that are to be gathered into batches of so many bytes.
    pub(super) fn reading(batch: Bytes) -> Self {
        let bytes = Bytes(batch.0.saturating_mul(RECORD_BATCHES)).max(RECORD_BYTES_LEAST);
        if bytes >= RECORD_BYTES_MOST {
            return Self { bytes: RECORD_BYTES_MOST, advice: "" };
        }
        Self {
            bytes,
            advice: "; longer ones take more memory (--memory), or in a program a larger SessionBuilder::batch_bytes",
        }
    }
}

/// A file as whole records.
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    /// Of the file as it was opened, which all records are of.
    id: FileId,
    /// Bytes of the file that were read.
    read: u64,
    records: Records,
    ends: Ends,
    limit: RecordLimit,
    /// Bytes that were read and not taken; a record begins at the first.
    buffer: Vec<u8>,
    /// Bytes of it that were searched for an end.
    seen: usize,
    /// Whether the record at its start is known to be longer than a batch should be.
    is_long: bool,
    /// Line of its first byte, from 1.
    line: u64,
    at_start: bool,
    at_end: bool,
}

impl Lines {
    /// `id` is that of the file when it was opened.
    pub(super) fn new(path: &Path, (file, id): (File, FileId), ends: Ends, limit: RecordLimit) -> Self {
        Self {
            path: path.to_owned(),
            file,
            id,
            read: 0,
            records: Records::new(ends),
            ends,
            limit,
            buffer: Vec::new(),
            seen: 0,
            is_long: false,
            line: 1,
            at_start: true,
            at_end: false,
        }
    }

    /// Bytes that are held for records to come, and those that a long one may need.
    pub(super) fn next_bytes(&self) -> Bytes {
        let held = Bytes(self.buffer.len() as u64);
        if self.is_long { held.max(self.limit.bytes) } else { held }
    }

    /// The line of the first byte that was not taken, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The next `rows` records, fewer if they reach `bytes` bytes before or the next one is that long by itself or cannot
    /// be read; none at the end of the file.
    pub(super) fn take(&mut self, rows: usize, bytes: usize) -> IoResult<Taken> {
        self.take_some((1, rows), bytes)
    }

    /// The same with at least so many of `rows`, however long they are.
    pub(super) fn take_some(&mut self, (least, rows): (usize, usize), bytes: usize) -> IoResult<Taken> {
        let mut taken = Taken::default();
        let mut start = 0;
        while taken.starts.len() < rows && (start < bytes || taken.starts.len() < least) {
            // Room for a long record is taken before it is read to its end, unless it has to be given.
            let within = if taken.starts.len() < least { usize::MAX } else { bytes };
            let found = match self.find_end(start, within) {
                // It goes wrong again when it is the first. Only of a file that changed, what came before is wrong, too.
                Err(error) if taken.starts.len() >= least && !matches!(error, IoError::Changed { .. }) => break,
                found => found?,
            };
            let Found::At(end) = found else { break };
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
        self.seen = self.seen.saturating_sub(start);
        if taken.bytes.last().is_some_and(|&last| last != b'\n') {
            // The last record of a file may have no end; decoders want one.
            taken.bytes.push(b'\n');
        }
        self.look_ahead(bytes);
        Ok(taken)
    }

    /// Finds out whether the next record is longer than that.
    pub(super) fn look_ahead(&mut self, bytes: usize) {
        // What went wrong goes wrong again when the record is taken.
        let found = self.find_end(0, bytes);
        self.is_long = matches!(found, Ok(Found::Long));
        if let Ok(Found::At(_)) = found {
            // It is looked for once more when it is taken.
            (self.seen, self.records) = (0, Records::new(self.ends));
        }
    }

    /// Where the record that begins at `start` ends, reading on as needed until `within` bytes of it are held.
    fn find_end(&mut self, start: usize, within: usize) -> IoResult<Found> {
        self.seen = self.seen.max(start);
        loop {
            match self.records.end(self.buffer.get(self.seen..).unwrap_or_default(), self.at_end) {
                End::At(end) => {
                    self.seen += end;
                    return Ok(Found::At(self.seen));
                }
                End::Beyond { seen } => self.seen += seen,
            }
            let held = self.buffer.len().saturating_sub(start);
            if self.at_end {
                if self.records.is_quoted() {
                    let reason =
                        "a quote that begins in this record is not closed before the file ends, which may be cut";
                    return Err(IoError::Line { path: self.path.clone(), line: self.line, reason: reason.into() });
                }
                return Ok(if held > 0 { Found::At(self.buffer.len()) } else { Found::Nothing });
            }
            if held as u64 > self.limit.bytes.0 {
                return Err(self.too_long());
            }
            if held > within {
                return Ok(Found::Long);
            }
            self.fill()?;
        }
    }

    fn too_long(&self) -> IoError {
        let RecordLimit { bytes, advice } = self.limit;
        let reason = format!("a record of more than {bytes} begins here, perhaps a quote that is not closed{advice}");
        IoError::Line { path: self.path.clone(), line: self.line, reason }
    }

    fn fill(&mut self) -> IoResult<()> {
        let before = self.buffer.len();
        // One byte more than there should be, to see the end.
        let limit = READ_BYTES.0.min((self.id.size + 1).saturating_sub(self.read));
        let read = (&mut self.file).take(limit).read_to_end(&mut self.buffer);
        let got = (self.buffer.len() - before) as u64;
        self.read += got;
        read.map_err(|e| IoError::read(&self.path, e))?;
        if self.read > self.id.size {
            return Err(self.changed());
        }
        if got < limit {
            if self.read != self.id.size {
                return Err(self.changed());
            }
            self.check_unchanged()?;
            self.at_end = true;
        }
        if std::mem::take(&mut self.at_start) && self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.buffer.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    /// Refuses a file that is another one than when it was opened: what was read may be a mixture.
    pub(super) fn check_unchanged(&self) -> IoResult<()> {
        let id = file::identify(&self.file).map_err(|e| IoError::read(&self.path, e))?;
        if id == self.id { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> IoError {
        IoError::Changed { path: self.path.clone() }
    }
}

/// The end of a record.
enum Found {
    At(usize),
    /// None within as many bytes as asked for.
    Long,
    /// There is no record: the file ends.
    Nothing,
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

    /// The text of the first `rows` records.
    pub(super) fn first(&self, rows: usize) -> &[u8] {
        let end = self.starts.get(rows).map_or(self.bytes.len(), |start| start.0);
        self.bytes.get(..end).unwrap_or_default()
    }

    pub(super) fn record(&self, row: usize) -> &[u8] {
        let start = self.starts.get(row).map_or(self.bytes.len(), |start| start.0);
        let end = self.starts.get(row + 1).map_or(self.bytes.len(), |start| start.0);
        self.bytes.get(start..end).unwrap_or_default()
    }
}

/// Read with one call to the system.
const READ_BYTES: Bytes = Bytes::kib(128);

/// A larger record is taken for damage: without this a quote that is not closed would read the whole file.
const RECORD_BYTES_MOST: Bytes = Bytes::mib(256);

/// And one of so many batches, which is a share of the memory budget where that is small.
const RECORD_BATCHES: u64 = 64;

/// But never less than this, which other programs write without a thought.
const RECORD_BYTES_LEAST: Bytes = Bytes::mib(1);

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
