//! Schemas, rows and paths as they travel: Arrow's own stream encoding, and absolute paths.
//!
//! A node's working directory is another one than the driver's, so what is sent names files by absolute paths; labels
//! keep what the user wrote.

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;

use super::error::{IoError, IoResult};

/// A stream of batches.
pub(crate) fn encode_batches(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    writer.into_inner()
}

/// What [`encode_batches`] made.
pub(crate) fn decode_batches(bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    StreamReader::try_new(bytes, None)?.collect()
}

/// A schema: a stream without batches.
pub(crate) fn encode_schema(schema: &SchemaRef) -> Result<Vec<u8>, ArrowError> {
    encode_batches(schema, &[])
}

/// What [`encode_schema`] made.
pub(crate) fn decode_schema(bytes: &[u8]) -> Result<SchemaRef, ArrowError> {
    Ok(StreamReader::try_new(bytes, None)?.schema())
}

/// The path from the root on, by name only: it need not exist, and links stay as they are.
pub(crate) fn absolute(path: &Path) -> IoResult<PathBuf> {
    std::path::absolute(path).map_err(|e| IoError::read(path, e))
}

/// Serde of a schema in Arrow's own encoding, for `#[serde(with = "..")]`.
pub(crate) mod schema {
    use arrow::datatypes::SchemaRef;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    pub(crate) fn serialize<S: Serializer>(schema: &SchemaRef, to: S) -> Result<S::Ok, S::Error> {
        super::encode_schema(schema).map_err(ser::Error::custom)?.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SchemaRef, D::Error> {
        super::decode_schema(&Vec::<u8>::deserialize(from)?).map_err(de::Error::custom)
    }
}
