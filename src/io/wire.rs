//! Schemas, rows and paths as they travel: Arrow's own stream encoding, and absolute paths.
//!
//! A node's working directory is another one than the driver's, so what is sent names files by absolute paths; labels
//! keep what the user wrote.

use std::path::{Path, PathBuf};

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
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

/// What [`encode_batches`] made. Nothing is allocated by what the bytes claim: arrays are slices of one copy of them.
pub(crate) fn decode_batches(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    let (mut decoder, mut rest) = (StreamDecoder::new(), Buffer::from(bytes));
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut rest)? {
        batches.push(batch);
    }
    decoder.finish()?;
    let schema = decoder.schema().ok_or_else(|| ArrowError::IpcError("a stream without a schema".to_owned()))?;
    Ok((schema, batches))
}

/// A schema: a stream without batches.
pub(crate) fn encode_schema(schema: &SchemaRef) -> Result<Vec<u8>, ArrowError> {
    encode_batches(schema, &[])
}

/// What [`encode_schema`] made.
pub(crate) fn decode_schema(bytes: &[u8]) -> Result<SchemaRef, ArrowError> {
    Ok(decode_batches(bytes)?.0)
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

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::sync::Arc;

    use super::*;
    use crate::io::testing::ids;
    use arrow::array::{ArrayRef, DictionaryArray, ListArray, StringArray};
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    fn batch() -> RecordBatch {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("ccc")]));
        let words: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::from_iter(["x", "y", "x"]));
        let lists = [Some(vec![Some(1), None]), None, Some(vec![])];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
        RecordBatch::try_from_iter_with_nullable([("t", texts, true), ("w", words, true), ("l", lists, true)]).unwrap()
    }

    #[test]
    fn batches_and_their_slices_come_back() {
        let all = [batch(), batch().slice(1, 2), batch().slice(0, 1)];
        let bytes = encode_batches(&all[0].schema(), &all).unwrap();
        assert_eq!(decode_batches(&bytes).unwrap(), (all[0].schema(), all.to_vec()));
        let schema = ids(0..0).schema();
        assert_eq!(decode_schema(&encode_schema(&schema).unwrap()).unwrap(), schema);
    }

    #[test]
    fn a_stream_that_was_cut_is_an_error() {
        let bytes = encode_batches(&batch().schema(), &[batch()]).unwrap();
        for end in [0, 3, bytes.len() / 2, bytes.len() - 9] {
            assert!(decode_batches(&bytes[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        /// Damage is an error, or a panic that the engine catches like one of user code; never more memory than bytes.
        #[test]
        fn damaged_bytes_never_take_the_process_down(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = encode_batches(&batch().schema(), &[batch()]).unwrap();
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = catch_unwind(|| decode_batches(&bytes).map(|(_, batches)| format!("{batches:?}")));
        }
    }
}
