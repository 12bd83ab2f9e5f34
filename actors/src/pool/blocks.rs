//! Building blocks out of results: small results are gathered, large ones are cut.

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;

use super::slices::rows_for;
use crate::block::{Block, batch_bytes};
use crate::units::Bytes;

/// Batches smaller than this part of a block are copied together when their block is built: a block of a thousand
/// crumbs costs its readers more than one copy.
const CRUMB_PART: u64 = 64;

/// Gathers result batches until they make a block.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    target: Bytes,
    batches: Vec<RecordBatch>,
    bytes: Bytes,
}

impl BlockBuilder {
    pub(crate) fn new(target: Bytes) -> Self {
        Self { target, batches: Vec::new(), bytes: Bytes(0) }
    }

    /// Adds a batch behind the others, cut into pieces of at most a block.
    pub(crate) fn push(&mut self, batch: RecordBatch) {
        let bytes = batch_bytes(&batch);
        self.bytes += bytes;
        let rows = rows_for(self.target, batch.num_rows(), bytes);
        let mut from = 0;
        while from < batch.num_rows() {
            let part = rows.min(batch.num_rows() - from);
            self.batches.push(batch.slice(from, part));
            from += part;
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.target
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Bytes gathered so far.
    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// The gathered batches as blocks, each about the target size; the builder is empty again.
    pub(crate) fn build(&mut self) -> Vec<Block> {
        self.bytes = Bytes(0);
        let mut blocks = Vec::new();
        let mut open: Vec<RecordBatch> = Vec::new();
        let mut bytes = Bytes(0);
        for batch in self.batches.drain(..) {
            let more = batch_bytes(&batch);
            // A block ends where the next batch would overshoot by half, or where the schema changes.
            let overshoots = !open.is_empty() && (bytes + more).0 > self.target.0 + self.target.0 / 2;
            if overshoots || open.last().is_some_and(|last| last.schema_ref() != batch.schema_ref()) {
                blocks.push(block_of(std::mem::take(&mut open), self.target));
                bytes = Bytes(0);
            }
            bytes += more;
            open.push(batch);
        }
        if !open.is_empty() {
            blocks.push(block_of(open, self.target));
        }
        blocks
    }
}

fn block_of(batches: Vec<RecordBatch>, target: Bytes) -> Block {
    let crumb = Bytes(target.0 / CRUMB_PART);
    let mut joined: Vec<RecordBatch> = Vec::with_capacity(batches.len());
    let mut crumbs: Vec<RecordBatch> = Vec::new();
    for batch in batches {
        if batch_bytes(&batch) < crumb {
            crumbs.push(batch);
        } else {
            join_crumbs(&mut crumbs, &mut joined);
            joined.push(batch);
        }
    }
    join_crumbs(&mut crumbs, &mut joined);
    Block::new(joined)
}

fn join_crumbs(crumbs: &mut Vec<RecordBatch>, joined: &mut Vec<RecordBatch>) {
    if crumbs.len() > 1
        && let Some(first) = crumbs.first()
        // Batches that cannot be joined (columns too long for their offsets, say) are kept as they are.
        && let Ok(one) = concat_batches(first.schema_ref(), crumbs.iter())
    {
        crumbs.clear();
        joined.push(one);
    }
    joined.append(crumbs);
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn batch(from: i64, rows: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + rows as i64));
        RecordBatch::try_from_iter([("a", column)]).expect("one column")
    }

    fn values(block: &Block) -> Vec<i64> {
        let columns = block.batches().iter().map(|b| b.column(0).as_any().downcast_ref::<Int64Array>().expect("int64"));
        columns.flat_map(|column| column.values().to_vec()).collect()
    }

    proptest! {
        #[test]
        fn blocks_keep_all_rows_in_order_and_stay_near_the_target(sizes in prop::collection::vec(1usize..5000, 1..30)) {
            let target = Bytes(8 * 1000);
            let mut builder = BlockBuilder::new(target);
            let (mut at, mut built) = (0i64, Vec::new());
            for size in sizes {
                builder.push(batch(at, size));
                at += size as i64;
                if builder.is_full() {
                    built.extend(builder.build());
                }
            }
            built.extend(builder.build());
            prop_assert!(built.iter().all(|block| block.bytes().0 <= 2 * target.0));
            let all: Vec<i64> = built.iter().flat_map(values).collect();
            prop_assert_eq!(all, (0..at).collect::<Vec<_>>());
        }
    }

    #[test]
    fn crumbs_are_copied_together() {
        let mut builder = BlockBuilder::new(Bytes::mib(1));
        (0..100).for_each(|n| builder.push(batch(n, 1)));
        let blocks = builder.build();
        assert_eq!((blocks.len(), blocks[0].batches().len()), (1, 1));
    }
}
