//! One part file while it is written, in any of the formats.

use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use mobula_actors::operator::TaskContext;
use mobula_actors::runtime::DiskFile;
use mobula_actors::units::{Bytes, Rows};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as PageCompression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::Part;
use super::attempt::{Attempt, Ground, Hidden};
use crate::io::error::{IoError, IoResult};
use crate::io::output::{Format, WriteOptions};

/// Compression of Parquet pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// None: largest and fastest.
    None,
    /// Snappy, which every reader knows.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard at a level from 1 (fast) to 22 (small); a level beyond is taken as the nearest.
    Zstd(u8),
}

/// A format with its settings, as it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Encoding {
    Parquet { compression: Compression, row_group_rows: u64, row_group_bytes: u64 },
    Csv { header: bool, delimiter: u8 },
    Json,
}

impl Encoding {
    pub(super) fn new(format: Format, options: &WriteOptions) -> Self {
        match format {
            Format::Parquet => Self::Parquet {
                compression: options.compression,
                row_group_rows: (options.row_group_rows as u64).max(1),
                row_group_bytes: options.row_group_bytes.0.max(1),
            },
            Format::Csv => Self::Csv { header: options.header, delimiter: options.delimiter },
            Format::Json => Self::Json,
        }
    }

    fn format(&self) -> Format {
        match self {
            Self::Parquet { .. } => Format::Parquet,
            Self::Csv { .. } => Format::Csv,
            Self::Json => Format::Json,
        }
    }
}

/// A part that is being written. Dropped before it is finished, it takes its attempt back.
pub(super) struct PartFile {
    attempt: Attempt,
    schema: SchemaRef,
    rows: Rows,
    writer: Option<Writer>,
    refusal: Refusal,
    finished: bool,
}

impl PartFile {
    /// Begins an attempt of a task.
    pub(super) fn create(
        ground: &Ground,
        hidden: &Hidden,
        task: &TaskContext,
        schema: SchemaRef,
        encoding: &Encoding,
    ) -> IoResult<Self> {
        Self::start(hidden.begin(ground, task, encoding.format())?, schema, encoding)
    }

    fn start((attempt, file): (Attempt, Box<dyn DiskFile>), schema: SchemaRef, encoding: &Encoding) -> IoResult<Self> {
        let refusal = Refusal::default();
        let file = Summed { file, bytes: 0, hash: Box::default() };
        let sink = Sink { file: BufWriter::with_capacity(BUFFER_BYTES, file), refusal: Arc::clone(&refusal) };
        let mut part = Self { attempt, schema, rows: Rows(0), writer: None, refusal, finished: false };
        let writer = Writer::new(sink, &part.schema, encoding).map_err(|e| part.error(e))?;
        part.writer = Some(writer);
        Ok(part)
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> IoResult<()> {
        let written = match &mut self.writer {
            Some(writer) => writer.write(batch),
            None => Err(io::Error::other("the part is finished").into()),
        };
        written.map_err(|e| self.error(e))?;
        self.rows += Rows(batch.num_rows() as u64);
        Ok(())
    }

    /// Ends the file and waits until it is on disk.
    pub(super) fn finish(&mut self, number: u64) -> IoResult<Part> {
        let file = match self.writer.take() {
            Some(writer) => writer.into_file(),
            None => Err(io::Error::other("the part is finished").into()),
        };
        let mut file = file.map_err(|e| self.error(e))?;
        file.file.sync().map_err(|e| self.error(e.into()))?;
        self.finished = true;
        let (bytes, checksum) = (Bytes(file.bytes), file.hash.digest());
        let upload = self.attempt.uploaded();
        Ok(Part { path: self.attempt.path(), number, rows: self.rows, bytes, checksum, upload })
    }

    fn error(&self, error: WriteError) -> IoError {
        if let Some(failure) = self.attempt.take_failure() {
            return failure;
        }
        let path = self.attempt.path();
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (error, refusal) {
            (WriteError::System(source), _) => IoError::write(&path, source),
            (WriteError::Encode(_), Some(kind)) => IoError::write(&path, kind.into()),
            (WriteError::Encode(reason), None) => IoError::Encode { path, reason },
        }
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.finished {
            self.writer = None;
            self.attempt.remove();
        }
    }
}

/// The file behind a buffer, which remembers what the system said: some encoders pass on only a text of it, and what
/// to do next depends on the kind.
struct Sink {
    file: BufWriter<Summed>,
    refusal: Refusal,
}

/// A file whose bytes are counted and summed up as they are written: nobody reads them again for that.
struct Summed {
    file: Box<dyn DiskFile>,
    bytes: u64,
    hash: Box<Xxh3>,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

type Refusal = Arc<Mutex<Option<io::ErrorKind>>>;

impl Sink {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.kind());
        }
        result
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.note(flushed)
    }
}

/// The encoder of a format.
enum Writer {
    Parquet { writer: Box<ArrowWriter<Sink>>, row_group_bytes: usize },
    Csv(Box<arrow::csv::Writer<Sink>>),
    Json(Box<arrow::json::LineDelimitedWriter<Sink>>),
}

impl Writer {
    fn new(sink: Sink, schema: &SchemaRef, encoding: &Encoding) -> Result<Self, WriteError> {
        match encoding {
            Encoding::Parquet { compression, row_group_rows, row_group_bytes } => {
                let properties = WriterProperties::builder()
                    .set_compression(page_compression(*compression)?)
                    .set_max_row_group_row_count(Some(usize::try_from(*row_group_rows).unwrap_or(usize::MAX)))
                    .build();
                let writer = Box::new(ArrowWriter::try_new(sink, schema.clone(), Some(properties))?);
                let row_group_bytes = usize::try_from(*row_group_bytes).unwrap_or(usize::MAX);
                Ok(Self::Parquet { writer, row_group_bytes })
            }
            Encoding::Csv { header, delimiter } => {
                let builder = arrow::csv::WriterBuilder::new().with_header(*header).with_delimiter(*delimiter);
                let mut writer = builder.build(sink);
                // An empty batch makes the writer write the header, also where no rows follow.
                writer.write(&RecordBatch::new_empty(schema.clone()))?;
                Ok(Self::Csv(Box::new(writer)))
            }
            Encoding::Json => Ok(Self::Json(Box::new(json_writer(sink)))),
        }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        match self {
            Self::Parquet { writer, row_group_bytes } => {
                writer.write(batch)?;
                // What is held counts, not what will be stored: it is this that a budget must bear.
                if writer.memory_size() >= *row_group_bytes {
                    writer.flush()?;
                }
                Ok(())
            }
            Self::Csv(writer) => Ok(writer.write(batch)?),
            Self::Json(writer) => Ok(writer.write(batch)?),
        }
    }

    fn into_file(self) -> Result<Summed, WriteError> {
        let sink = match self {
            Self::Parquet { writer, .. } => writer.into_inner()?,
            Self::Csv(writer) => writer.into_inner(),
            Self::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
        };
        sink.file.into_inner().map_err(|e| WriteError::System(e.into_error()))
    }
}

fn json_writer(sink: Sink) -> arrow::json::LineDelimitedWriter<Sink> {
    // Nulls are written, so that the columns can be found again in a file whose first rows have none.
    arrow::json::WriterBuilder::new().with_explicit_nulls(true).build(sink)
}

fn page_compression(compression: Compression) -> Result<PageCompression, WriteError> {
    Ok(match compression {
        Compression::None => PageCompression::UNCOMPRESSED,
        Compression::Snappy => PageCompression::SNAPPY,
        Compression::Lz4 => PageCompression::LZ4_RAW,
        Compression::Zstd(level) => PageCompression::ZSTD(ZstdLevel::try_new(i32::from(level.clamp(1, 22)))?),
    })
}

/// What a write can fail with: what the system says decides about the next step, so it is dug out.
enum WriteError {
    System(io::Error),
    Encode(String),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<ArrowError> for WriteError {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, source) => Self::System(source),
            ArrowError::ExternalError(source) => from_boxed(source),
            other => Self::Encode(other.to_string()),
        }
    }
}

impl From<ParquetError> for WriteError {
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::External(source) => from_boxed(source),
            other => Self::Encode(other.to_string()),
        }
    }
}

fn from_boxed(source: Box<dyn std::error::Error + Send + Sync>) -> WriteError {
    match source.downcast::<io::Error>() {
        Ok(source) => WriteError::System(*source),
        Err(other) => WriteError::Encode(other.to_string()),
    }
}

/// One call to the system for many pages or lines.
const BUFFER_BYTES: usize = 256 << 10;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::io::testing::ids;
    use mobula_actors::runtime::{SharedDisk, SystemDisk};

    #[test]
    fn a_full_disk_is_named_with_the_next_step_by_each_format() {
        for format in [Format::Parquet, Format::Csv, Format::Json] {
            let encoding = Encoding::new(format, &WriteOptions::default());
            let write = || {
                let file = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
                let disk: SharedDisk = Arc::new(SystemDisk);
                let attempt = Attempt::File { disk, path: "out/part-0".into() };
                let mut part = PartFile::start((attempt, Box::new(file)), ids(0..0).schema(), &encoding)?;
                part.write(&ids(0..200_000))?;
                part.finish(0)
            };
            let error = write().unwrap_err().to_string();
            assert!(
                error.contains("cannot write out/part-0: the disk is full; free some space"),
                "{format:?}: {error}"
            );
        }
    }
}
