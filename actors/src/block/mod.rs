//! Blocks: Arrow batches of bounded size, and the references by which actors exchange them.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::units::{Bytes, Rows};

/// A block: a few Arrow batches of one schema, about a target size together. Cheap to clone: the buffers are shared.
#[derive(Debug, Clone)]
pub struct Block {
    batches: Arc<[RecordBatch]>,
    rows: Rows,
    bytes: Bytes,
}

impl Block {
    /// A block of these batches.
    pub fn new(batches: Vec<RecordBatch>) -> Self {
        let rows = Rows(batches.iter().map(|b| b.num_rows() as u64).sum());
        let bytes = batches.iter().map(batch_bytes).sum();
        Self { batches: batches.into(), rows, bytes }
    }

    /// Its batches, in order.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Its rows.
    pub fn rows(&self) -> Rows {
        self.rows
    }

    /// Bytes of the rows in it (a slice of a larger buffer counts with its own part only).
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }
}

/// Bytes of the rows in a batch; a slice of a larger buffer counts with its own part only.
pub fn batch_bytes(batch: &RecordBatch) -> Bytes {
    let bytes = batch.columns().iter().map(|column| {
        let data = column.to_data();
        // An array whose slice cannot be sized (a view type, say) counts with its whole buffers: never too little.
        data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size()) as u64
    });
    Bytes(bytes.sum())
}
