//! Blocks: Arrow batches of bounded size, and the references by which actors exchange them.

mod origins;
mod reference;
mod segments;
mod size;

pub use origins::Origins;
pub(crate) use reference::Home;
pub use reference::{BlockId, BlockName, BlockRef, Incarnation, NodeId};
pub use segments::{Segment, Segments, Share};
pub use size::batch_bytes;

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

    /// Its last rows, as a block that shares its buffers.
    pub fn last_rows(&self, rows: Rows) -> Self {
        let mut before = (self.rows - rows).0 as usize;
        let mut batches = Vec::new();
        for batch in self.batches.iter() {
            let skipped = before.min(batch.num_rows());
            before -= skipped;
            if skipped < batch.num_rows() {
                batches.push(batch.slice(skipped, batch.num_rows() - skipped));
            }
        }
        Self::new(batches)
    }

    /// Its first rows, as a block that shares its buffers.
    pub fn first_rows(&self, rows: Rows) -> Self {
        let mut left = rows.0 as usize;
        let mut batches = Vec::new();
        for batch in self.batches.iter() {
            if left == 0 {
                break;
            }
            let part = left.min(batch.num_rows());
            left -= part;
            batches.push(batch.slice(0, part));
        }
        Self::new(batches)
    }
}
