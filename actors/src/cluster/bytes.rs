//! Blocks as bytes and back: Arrow's IPC stream format.
//!
//! What is received is decoded in place: the arrays of the block are parts of the one buffer that came, which was
//! allocated after its length was checked. Decoding checks all offsets and texts, once, here at the boundary.

use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;

use crate::block::Block;
use crate::operator::BoxError;
use crate::runtime::watch::guarded;

/// The block as one stream of IPC messages. Its batches have one schema.
///
/// # Errors
/// If Arrow cannot encode a type.
pub(crate) fn encode(block: &Block) -> Result<Vec<u8>, ArrowError> {
    let mut bytes = Vec::with_capacity(block.bytes().0 as usize + ENVELOPE_BYTES);
    if let Some(first) = block.batches().first() {
        let mut writer = StreamWriter::try_new(&mut bytes, first.schema_ref())?;
        block.batches().iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
    }
    Ok(bytes)
}

/// About what the schema and the headers of messages take; only a first guess at the capacity.
const ENVELOPE_BYTES: usize = 16 << 10;

/// The block that [`encode`] made, without a copy of its values. Arrow panics on some damaged streams; that is an error
/// like any other here, for the bytes are another process's.
///
/// # Errors
/// If the bytes are no such stream.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<Block, BoxError> {
    Ok(guarded(|| decode_stream(bytes))??)
}

fn decode_stream(bytes: Vec<u8>) -> Result<Block, ArrowError> {
    let mut rest = Buffer::from_vec(bytes);
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        match decoder.decode(&mut rest)? {
            Some(batch) => batches.push(batch),
            None => break,
        }
    }
    decoder.finish()?;
    Ok(Block::new(batches))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::record_batch::RecordBatch;
    use proptest::prelude::*;

    use super::*;

    fn block(rows: std::ops::Range<i64>, batches: usize) -> Block {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone()));
        let words: ArrayRef = Arc::new(StringArray::from_iter(rows.map(|n| (n % 3 > 0).then(|| n.to_string()))));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("word", words)]).expect("two columns");
        Block::new(vec![batch; batches])
    }

    #[test]
    fn a_block_comes_back_as_it_was_and_its_values_are_not_copied() {
        for (rows, batches) in [(0..0, 1), (0..1000, 1), (5..77, 3)] {
            let before = block(rows, batches);
            let bytes = encode(&before).expect("it encodes");
            let range = bytes.as_ptr_range();
            let after = decode(bytes).expect("it decodes");
            assert_eq!(after.batches(), before.batches());
            for column in after.batches().iter().flat_map(|batch| batch.columns()).filter(|column| !column.is_empty()) {
                let data = column.to_data();
                let buffer = data.buffers().last().expect("values").as_ptr();
                assert!(range.contains(&buffer), "values lie in what came");
            }
        }
        assert_eq!(decode(Vec::new()).expect("nothing").batches().len(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_block_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes);
        }

        #[test]
        fn a_damaged_stream_is_a_block_or_an_error(at in 0usize..2000, value in any::<u8>()) {
            let mut bytes = encode(&block(0..50, 2)).expect("it encodes");
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = decode(bytes);
        }
    }
}
