//! Where rows come from: a source cut into splits, each read by one task.

use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::{OpenContext, OperatorResult};
use crate::units::{Bytes, Rows};

/// One unit of reading a source: a file, some row groups, a byte range. Fixed when the job is planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// What it is, for progress and errors: `data/part-3.parquet, row groups 0..4`.
    pub label: String,
    /// Rows in it, where known without reading.
    pub rows: Option<Rows>,
    /// Bytes it takes once decoded, as far as known (an estimate; 0 if unknown).
    pub bytes: Bytes,
    /// What the source needs to find it again; the engine does not look inside.
    pub payload: Vec<u8>,
}

/// How much a reader should decode at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBatch {
    /// A batch should take about this many bytes.
    pub bytes: Bytes,
    /// And never more rows than this.
    pub rows_max: usize,
}

/// Where rows come from. One value is shared by all read workers of a node.
pub trait Source: Send + Sync + 'static {
    /// Opens a split so that its first row is row `from` of the split: a task that is tried again goes on where the
    /// rows passed on end.
    ///
    /// # Errors
    /// Names the file and the cause.
    fn open(
        &self,
        split: &Split,
        from: Rows,
        batch: ReadBatch,
        ctx: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>>;
}

/// Reads one split, batch by batch, on the worker's thread.
pub trait SplitReader {
    /// An estimate of the bytes that the next batch takes; room for it is taken before it is read.
    fn next_bytes(&self) -> Bytes;

    /// The next batch, `None` at the end. Each row of the split is in exactly one batch, in order; a reader that
    /// drops rows (a filter pushed down) says by [`SplitReader::rows_read`] how far it is.
    ///
    /// # Errors
    /// Names the file and the cause.
    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>>;

    /// Rows of the split that are behind the reader: `from` of [`Source::open`] plus all rows returned or dropped.
    fn rows_read(&self) -> Rows;

    /// Parts of the split that were given up under a lenient error policy, with the reason; emptied by the call.
    fn take_skipped(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Names a source. Like an operator it is either registered by name, or local to this process.
#[derive(Clone)]
pub struct SourceSpec {
    /// What it is, for plans and errors: `read_parquet data/*.parquet`.
    pub label: String,
    /// The source itself.
    pub source: Arc<dyn Source>,
}

impl fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceSpec({})", self.label)
    }
}
