//! What decoding a row group takes in memory, as far as its metadata says.

use parquet::arrow::ProjectionMask;
use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

/// Decoded bytes of some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Estimate {
    pub(super) bytes: u64,
    /// Whether the metadata says so; a dictionary of long values can take any multiple of what is stored.
    pub(super) certain: bool,
}

/// Decoded bytes of the chosen columns of a row group.
pub(super) fn row_group(group: &RowGroupMetaData, columns: &ProjectionMask) -> Estimate {
    let chosen = group.columns().iter().enumerate().filter(|(i, _)| columns.leaf_included(*i));
    let mut all = Estimate { bytes: 0, certain: true };
    for (_, chunk) in chosen {
        let one = column_chunk(chunk);
        all.bytes = all.bytes.saturating_add(one.bytes);
        all.certain &= one.certain;
    }
    all
}

fn column_chunk(chunk: &ColumnChunkMetaData) -> Estimate {
    let values = u64::try_from(chunk.num_values()).unwrap_or(0);
    let mut estimate = match width(chunk) {
        None => byte_array(chunk, values),
        Some(0) => Estimate { bytes: values / 8, certain: true },
        Some(width) => Estimate { bytes: values.saturating_mul(width), certain: true },
    };
    estimate.bytes = estimate.bytes.saturating_add(values.saturating_mul(levels(chunk)));
    estimate
}

/// Bytes of a value, 0 for less than one, if all take the same.
pub(super) fn width(chunk: &ColumnChunkMetaData) -> Option<u64> {
    match chunk.column_type() {
        Type::BOOLEAN => Some(0),
        Type::INT32 | Type::FLOAT => Some(4),
        Type::INT64 | Type::DOUBLE | Type::INT96 => Some(8),
        Type::FIXED_LEN_BYTE_ARRAY => Some(u64::try_from(chunk.column_descr().type_length()).unwrap_or(16)),
        Type::BYTE_ARRAY => None,
    }
}

/// Bytes that the decoder takes beside a value to know where lists begin and what is null.
pub(super) fn levels(chunk: &ColumnChunkMetaData) -> u64 {
    let column = chunk.column_descr();
    match column.max_rep_level() {
        // A bit at most.
        0 => 0,
        _ if column.max_def_level() > 0 => 4,
        _ => 2,
    }
}

fn byte_array(chunk: &ColumnChunkMetaData, values: u64) -> Estimate {
    let offsets = values.saturating_mul(4);
    if let Some(bytes) = chunk.unencoded_byte_array_data_bytes().and_then(|b| u64::try_from(b).ok()) {
        return Estimate { bytes: bytes.saturating_add(offsets), certain: true };
    }
    let stored = u64::try_from(chunk.uncompressed_size()).unwrap_or(0);
    // Delta encodings and dictionaries store a repeated prefix or value once.
    let plain = chunk.encodings().all(|e| {
        use parquet::basic::Encoding;
        #[allow(deprecated)]
        let levels = matches!(e, Encoding::RLE | Encoding::BIT_PACKED);
        levels || matches!(e, Encoding::PLAIN | Encoding::DELTA_LENGTH_BYTE_ARRAY)
    });
    Estimate { bytes: stored.saturating_add(offsets), certain: plain && chunk.dictionary_page_offset().is_none() }
}
