//! Sink operators: one task writes one part, hidden, and emits one row that names it.
//!
//! They differ only in how a batch is encoded, which is in [`writer`]. See `output` for how parts become visible.

mod attempt;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use linkme::distributed_slice;
use mobula_actors::function::registry::OPERATORS;
use mobula_actors::function::{OperatorEntry, decode, encode};
use mobula_actors::operator::{OpenContext, Operator, OperatorResult, OperatorSpec, Output, Scope, TaskContext};
use mobula_actors::runtime::SharedDisk;
use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};

use super::error::{IoError, IoResult};
use super::output::{Format, WriteOptions};
use super::schema::fit;
use super::wire::{self, absolute};
pub(crate) use attempt::{Ground, Hidden, Uploaded};
pub use writer::Compression;
use writer::{Encoding, PartFile};

/// What a sink operator is built from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WriteParams {
    hidden: Hidden,
    #[serde(with = "wire::schema")]
    schema: SchemaRef,
    encoding: Encoding,
}

impl WriteParams {
    pub(crate) fn new(hidden: &Path, format: Format, schema: &SchemaRef, options: &WriteOptions) -> IoResult<Self> {
        Ok(Self::hidden_in(Hidden::Folder(absolute(hidden)?), format, schema, options))
    }

    /// The same for attempts anywhere.
    pub(crate) fn hidden_in(hidden: Hidden, format: Format, schema: &SchemaRef, options: &WriteOptions) -> Self {
        Self { hidden, schema: Arc::clone(schema), encoding: Encoding::new(format, options) }
    }

    /// The operator that writes to `dir`.
    pub(crate) fn operator(&self, format: Format, dir: &Path) -> IoResult<OperatorSpec> {
        let (name, verb) = match format {
            Format::Parquet => (WRITE_PARQUET, "write_parquet"),
            Format::Csv => (WRITE_CSV, "write_csv"),
            Format::Json => (WRITE_JSON, "write_json"),
        };
        let params = encode(self).map_err(|e| IoError::Internal(format!("parameters of {verb}: {e}")))?;
        let label = format!("{verb} {}", dir.display());
        Ok(OperatorSpec::named(name, params).labelled(label).with_scope(Scope::Task))
    }

    /// Writes a part without rows, in a folder that is locked: no other of the same name is there at any time.
    pub(crate) fn write_empty(&self, disk: &SharedDisk) -> IoResult<Part> {
        self.write_empty_through(&Ground::Disk { disk: SharedDisk::clone(disk), writer: 0 }, 0)
    }

    /// The same as another task than the first.
    pub(crate) fn write_empty_through(&self, ground: &Ground, task: u64) -> IoResult<Part> {
        let mut file = self.create(ground, &TaskContext { task, attempt: 0 })?;
        file.finish(task)
    }

    fn create(&self, ground: &Ground, task: &TaskContext) -> IoResult<PartFile> {
        PartFile::create(ground, &self.hidden, task, Arc::clone(&self.schema), &self.encoding)
    }
}

/// A finished part, as its task reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) number: u64,
    pub(crate) rows: Rows,
    pub(crate) bytes: Bytes,
    /// XXH3 of its bytes.
    pub(crate) checksum: u64,
    /// What makes it visible, if it is an upload.
    pub(crate) upload: Option<Uploaded>,
}

impl Part {
    fn to_batch(&self) -> OperatorResult<RecordBatch> {
        let path = self.path.to_str().ok_or("the output path is not UTF-8; choose another directory")?;
        let number = |n: u64| Arc::new(UInt64Array::from(vec![n])) as ArrayRef;
        let upload = self.upload.as_ref().map(encode).transpose()?;
        Ok(RecordBatch::try_from_iter([
            ("path", Arc::new(StringArray::from(vec![path])) as ArrayRef),
            ("part", number(self.number)),
            ("rows", number(self.rows.0)),
            ("bytes", number(self.bytes.0)),
            ("xxh3", number(self.checksum)),
            ("upload", Arc::new(BinaryArray::from_opt_vec(vec![upload.as_deref()])) as ArrayRef),
        ])?)
    }
}

/// The parts that the batches of a sink operator name.
pub(crate) fn parts(results: &[RecordBatch]) -> IoResult<Vec<Part>> {
    let mut parts = Vec::new();
    for batch in results {
        let found = parts_of(batch);
        parts.extend(found.ok_or_else(|| IoError::Internal("a sink's result has other columns than a part".into()))?);
    }
    Ok(parts)
}

fn parts_of(batch: &RecordBatch) -> Option<Vec<Part>> {
    let paths = batch.column_by_name("path")?.as_string_opt::<i32>()?;
    let numbers = |name| Some(batch.column_by_name(name)?.as_primitive_opt::<UInt64Type>()?.values().to_vec());
    let (part, rows, bytes) = (numbers("part")?, numbers("rows")?, numbers("bytes")?);
    let uploads = batch.column_by_name("upload")?.as_binary_opt::<i32>()?;
    let rest = part.into_iter().zip(rows).zip(bytes).zip(numbers("xxh3")?).zip(uploads);
    let make = |(path, ((((number, rows), bytes), checksum), upload)): (Option<&str>, (_, Option<&[u8]>))| {
        let upload = upload.map(decode).transpose().ok()?;
        Some(Part { path: PathBuf::from(path?), number, rows: Rows(rows), bytes: Bytes(bytes), checksum, upload })
    };
    paths.iter().zip(rest).map(make).collect()
}

/// The sink operator of all formats.
struct WritePart {
    params: WriteParams,
    /// Known once it is open.
    ground: Option<Ground>,
    task: Option<TaskContext>,
    file: Option<PartFile>,
}

impl Operator for WritePart {
    fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
        self.ground = Some(self.params.hidden.ground(&ctx.shared)?);
        Ok(())
    }

    fn begin(&mut self, task: &TaskContext) -> OperatorResult {
        // A file of an earlier task that did not finish is removed when it is dropped.
        self.file = None;
        self.task = Some(*task);
        Ok(())
    }

    fn process(&mut self, batch: RecordBatch, _out: &mut Output) -> OperatorResult {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let task = self.task.as_ref().ok_or("a batch came before its task began")?;
                let ground = self.ground.as_ref().ok_or("a batch came before the operator was open")?;
                self.file.insert(self.params.create(ground, task)?)
            }
        };
        file.write(&fit(&batch, file.schema())?)?;
        Ok(())
    }

    fn finish(&mut self, out: &mut Output) -> OperatorResult {
        if let (Some(mut file), Some(task)) = (self.file.take(), self.task.take()) {
            out.emit(file.finish(task.task)?.to_batch()?);
        }
        Ok(())
    }
}

fn build(params: &[u8]) -> OperatorResult<Box<dyn Operator>> {
    Ok(Box::new(WritePart { params: decode(params)?, ground: None, task: None, file: None }))
}

const WRITE_PARQUET: &str = "mobula/write_parquet@1";
const WRITE_CSV: &str = "mobula/write_csv@1";
const WRITE_JSON: &str = "mobula/write_json@1";

const PLACE: &str = concat!(file!(), ":", line!());

#[distributed_slice(OPERATORS)]
static PARQUET: OperatorEntry = OperatorEntry { name: WRITE_PARQUET, place: PLACE, build };
#[distributed_slice(OPERATORS)]
static CSV: OperatorEntry = OperatorEntry { name: WRITE_CSV, place: PLACE, build };
#[distributed_slice(OPERATORS)]
static JSON: OperatorEntry = OperatorEntry { name: WRITE_JSON, place: PLACE, build };

/// Whether a format can hold the columns of a schema.
pub(crate) fn check_schema(format: Format, schema: &SchemaRef) -> IoResult<()> {
    let (name, hint) = match format {
        Format::Parquet => ("Parquet", "cast it, or leave it out"),
        Format::Csv => ("CSV", "write Parquet or JSON, take the values out into columns of their own, or leave it out"),
        Format::Json => ("JSON", "cast it to a string, write Parquet, or leave it out"),
    };
    match schema.fields().iter().find(|field| !holds(format, field.data_type())) {
        None => Ok(()),
        Some(field) => Err(IoError::ColumnType {
            column: field.name().clone(),
            data_type: field.data_type().to_string(),
            format: name,
            hint,
        }),
    }
}

fn holds(format: Format, data_type: &DataType) -> bool {
    use DataType::*;
    match (format, data_type) {
        (Format::Parquet, Union(..) | ListView(_) | LargeListView(_) | RunEndEncoded(..)) => false,
        (Format::Parquet, Interval(arrow::datatypes::IntervalUnit::MonthDayNano)) => false,
        (Format::Parquet, Struct(fields)) if fields.is_empty() => false,
        (Format::Csv, Struct(_) | List(_) | LargeList(_) | FixedSizeList(..) | Map(..) | Union(..)) => false,
        (Format::Csv, ListView(_) | LargeListView(_) | RunEndEncoded(..)) => false,
        (Format::Csv, Binary | LargeBinary | BinaryView | FixedSizeBinary(_)) => false,
        (Format::Json, Union(..) | ListView(_) | LargeListView(_) | RunEndEncoded(..)) => false,
        (_, List(f) | LargeList(f) | FixedSizeList(f, _)) => holds(format, f.data_type()),
        (_, Map(f, _)) => holds(format, f.data_type()),
        (_, Struct(fields)) => fields.iter().all(|f| holds(format, f.data_type())),
        (_, Dictionary(_, values)) => holds(format, values),
        _ => true,
    }
}
