//! How many rows a call gets, and how much room its results may need: learnt from the calls before.
//!
//! A map that inflates rows eightfold gets an eighth of the rows. The estimate starts careful and follows the largest
//! recent ratio, because too much room only slows a worker down while too little breaks the budget.

use crate::units::Bytes;

/// What the workers of one operator have learnt about it.
#[derive(Debug, Clone)]
pub(crate) struct Estimate {
    /// Peak bytes inside a call (its input, what lies between fused operators, its results) by byte of input.
    peak_ratio: f64,
    /// Bytes of results by byte of input.
    out_ratio: f64,
    /// Calls seen.
    calls: u64,
}

/// Before anything is known, a call gets this part of a batch: its room may then be wrong by this factor and no harm.
const FIRST_PART: u64 = 16;
/// How fast an old maximum is forgotten, by call.
const FORGET: f64 = 0.98;
/// Room is taken for a little more than the estimate, so that ordinary variation is no debt.
const MARGIN: f64 = 1.1;

impl Default for Estimate {
    fn default() -> Self {
        Self { peak_ratio: 1.0, out_ratio: 1.0, calls: 0 }
    }
}

impl Estimate {
    /// Bytes of input that a call should get, so that it works in cache and its results fit one block.
    pub(crate) fn slice_bytes(&self, batch: Bytes, block: Bytes) -> Bytes {
        if self.calls == 0 {
            return Bytes((batch.0 / FIRST_PART).max(1));
        }
        let fits_block = block.0 as f64 / self.peak_ratio.max(1.0);
        Bytes((batch.0 as f64).min(fits_block).max(1.0) as u64)
    }

    /// Bytes of room for a call with this input, beside the input itself: its results, or what it needs on the way to
    /// them if that is more.
    pub(crate) fn room_bytes(&self, input: Bytes) -> Bytes {
        let ratio = self.out_ratio.max(self.peak_ratio - 1.0);
        Bytes((input.0 as f64 * ratio * MARGIN) as u64)
    }

    /// Learns from a call: its input, the most bytes alive inside it, its results.
    pub(crate) fn learn(&mut self, input: Bytes, peak: Bytes, out: Bytes) {
        let input = input.0.max(1) as f64;
        let keep = if self.calls == 0 { 0.0 } else { FORGET };
        self.peak_ratio = (peak.0 as f64 / input).max(self.peak_ratio * keep);
        self.out_ratio = (out.0 as f64 / input).max(self.out_ratio * keep);
        self.calls += 1;
    }
}

/// Rows for a call: about `slice` bytes of `rows` rows that take `bytes` together, at least one.
pub(crate) fn rows_for(slice: Bytes, rows: usize, bytes: Bytes) -> usize {
    if bytes <= slice || rows <= 1 {
        return rows;
    }
    let part = slice.0 as f64 / bytes.0 as f64;
    ((rows as f64 * part) as usize).clamp(1, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inflating_operator_gets_fewer_rows() {
        let (batch, block) = (Bytes::mib(1), Bytes::mib(8));
        let mut estimate = Estimate::default();
        assert_eq!(estimate.slice_bytes(batch, block), Bytes::kib(64));
        estimate.learn(Bytes::kib(64), Bytes::kib(128), Bytes::kib(64));
        assert_eq!(estimate.slice_bytes(batch, block), batch);
        estimate.learn(batch, Bytes::mib(80), Bytes::mib(79));
        assert!(estimate.room_bytes(batch) >= Bytes::mib(79));
        assert_eq!(estimate.slice_bytes(batch, block), Bytes(8 * 1024 * 1024 / 80));
    }

    #[test]
    fn a_call_gets_at_least_one_row() {
        assert_eq!(rows_for(Bytes(1), 10, Bytes::mib(10)), 1);
        assert_eq!(rows_for(Bytes::mib(1), 10, Bytes::mib(5)), 2);
        assert_eq!(rows_for(Bytes::mib(1), 10, Bytes(0)), 10);
    }
}
