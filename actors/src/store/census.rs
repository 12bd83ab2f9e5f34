//! Counts the bytes of buffers exactly: a buffer shared by several arrays, slices or blocks counts once.

use std::collections::HashMap;

use arrow::array::ArrayData;
use arrow::record_batch::RecordBatch;

/// The buffers that live blocks stand on, by address.
#[derive(Debug, Default)]
pub(crate) struct Census {
    buffers: HashMap<usize, Held>,
    bytes: u64,
    peak: u64,
}

#[derive(Debug)]
struct Held {
    references: usize,
    bytes: u64,
}

impl Census {
    /// Counts the buffers of these batches in.
    pub(crate) fn add(&mut self, batches: &[RecordBatch]) {
        for_each_buffer(batches, &mut |address, bytes| {
            let held = self.buffers.entry(address).or_insert(Held { references: 0, bytes });
            held.references += 1;
            if held.references == 1 {
                self.bytes += bytes;
            }
        });
        self.peak = self.peak.max(self.bytes);
    }

    /// Counts them out again.
    pub(crate) fn remove(&mut self, batches: &[RecordBatch]) {
        for_each_buffer(batches, &mut |address, _| {
            let Some(held) = self.buffers.get_mut(&address) else { return };
            held.references -= 1;
            if held.references == 0 {
                self.bytes -= held.bytes;
                self.buffers.remove(&address);
            }
        });
    }

    /// Bytes of all buffers counted in.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The most there ever were.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }
}

fn for_each_buffer(batches: &[RecordBatch], visit: &mut dyn FnMut(usize, u64)) {
    for column in batches.iter().flat_map(RecordBatch::columns) {
        visit_data(&column.to_data(), visit);
    }
}

/// The allocation behind a buffer is named by where it begins, whatever part of it a slice shows.
fn visit_data(data: &ArrayData, visit: &mut dyn FnMut(usize, u64)) {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    for buffer in data.buffers().iter().chain(nulls) {
        if buffer.capacity() > 0 {
            visit(buffer.data_ptr().as_ptr() as usize, buffer.capacity() as u64);
        }
    }
    for child in data.child_data() {
        visit_data(child, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use std::sync::Arc;

    fn batch(rows: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("a", column)]).expect("one column")
    }

    #[test]
    fn a_buffer_shared_by_slices_counts_once_until_the_last_is_gone() {
        let whole = batch(1024);
        let mut census = Census::default();
        let parts = [whole.slice(0, 10), whole.slice(500, 24)];
        census.add(&parts[..1]);
        let once = census.bytes();
        assert!(once >= 8 * 1024, "the slice keeps the whole buffer alive: {once}");
        census.add(&parts[1..]);
        assert_eq!(census.bytes(), once);
        census.remove(&parts[..1]);
        assert_eq!(census.bytes(), once);
        census.remove(&parts[1..]);
        assert_eq!((census.bytes(), census.peak()), (0, once));
    }
}
