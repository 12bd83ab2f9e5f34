//! How many rows the next batch should have so that it takes about the bytes asked for: pure arithmetic.

use mobula_actors::operator::ReadBatch;
use mobula_actors::units::Bytes;

/// Learns what a row takes from batch to batch.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    batch: ReadBatch,
    /// Bytes of a row: first from metadata, then as measured.
    row_bytes: f64,
    rows: usize,
    certain: bool,
    /// How often the rows of a batch may still be raised; lowering is always allowed.
    raises_left: u32,
}

impl Pace {
    /// `bytes` is what `rows` rows are said to take; not `certain` if that may be far too little.
    pub(crate) fn new(batch: ReadBatch, bytes: u64, rows: u64, certain: bool) -> Self {
        let row_bytes = if rows == 0 { 0.0 } else { bytes as f64 / rows as f64 };
        let mut pace = Self { batch, row_bytes, rows: 1, certain, raises_left: RAISES_MAX };
        pace.rows = if certain { pace.fitting() } else { pace.fitting().min(PROBE_ROWS) };
        pace
    }

    /// Rows of the next batch, if `left` are left.
    pub(crate) fn rows(&self, left: u64) -> usize {
        self.rows.min(usize::try_from(left).unwrap_or(usize::MAX)).max(1)
    }

    /// About what the next batch takes.
    pub(crate) fn next_bytes(&self, left: u64) -> Bytes {
        if left == 0 {
            return Bytes(0);
        }
        Bytes((self.row_bytes * self.rows(left) as f64).ceil() as u64)
    }

    /// Takes note of a batch. True if later batches should have another number of rows.
    pub(crate) fn measured(&mut self, rows: u64, bytes: Bytes) -> bool {
        if rows == 0 {
            return false;
        }
        self.row_bytes = bytes.0 as f64 / rows as f64;
        self.certain = true;
        let fitting = self.fitting();
        // A factor of two either way is no reason to build a decoder again.
        let too_many = fitting.saturating_mul(2) <= self.rows;
        let too_few = fitting / 2 >= self.rows && self.raises_left > 0;
        if too_few {
            self.raises_left -= 1;
        }
        if too_many || too_few {
            self.rows = fitting;
        }
        too_many || too_few
    }

    fn fitting(&self) -> usize {
        let rows = if self.row_bytes > 0.0 { self.batch.bytes.0 as f64 / self.row_bytes } else { f64::MAX };
        // The cast saturates.
        (rows as usize).clamp(1, self.batch.rows_max.max(1))
    }
}

/// Rows of a first batch whose size nothing tells: with values of 64 kB it takes 4 MiB.
pub(crate) const PROBE_ROWS: usize = 64;

/// Rebuilding a decoder decodes a page again; a dataset whose rows shrink for ever need not do that for ever.
const RAISES_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: ReadBatch = ReadBatch { bytes: Bytes(1000), rows_max: 100 };

    #[test]
    fn rows_follow_from_bytes_a_row() {
        assert_eq!(Pace::new(BATCH, 1000, 10, true).rows(1000), 10);
        assert_eq!(Pace::new(BATCH, 1000, 1000, true).rows(1000), 100);
        assert_eq!(Pace::new(BATCH, 1_000_000, 10, true).rows(1000), 1);
        assert_eq!(Pace::new(BATCH, 1000, 10, true).rows(3), 3);
    }

    #[test]
    fn an_uncertain_size_is_probed_and_then_corrected() {
        let mut pace = Pace::new(BATCH, 1000, 1000, false);
        assert_eq!(pace.rows(1000), 64);
        assert!(pace.measured(64, Bytes(64 * 500)));
        assert_eq!((pace.rows(1000), pace.next_bytes(1000)), (2, Bytes(1000)));
        assert!(!pace.measured(2, Bytes(2 * 400)));
        assert!(pace.measured(2, Bytes(2 * 10)));
        assert_eq!(pace.rows(1000), 100);
    }
}
