//! The pure thinking about the rows of a batch for a device: as many as make the most rows a second, and no more than
//! its memory holds.
//!
//! It begins small and doubles while the rows a second grow. Where two sizes in a row bring nothing, it stays at the best
//! it saw: one alone may have been measured at a bad moment. Where the device ran out of memory, at half of what was too much. Sizes are multiples of a step, for models that run so many
//! rows at once.

use std::time::Duration;

use crate::operator::DeviceBatch;
use crate::units::Bytes;

/// Runs of a size before it is judged. The first of them may pay for new memory or for choosing kernels.
const RUNS_A_SIZE: usize = 3;
/// Short runs are judged after more of them, until they took so long together: the machine disturbs them more.
const TIME_A_SIZE: Duration = Duration::from_millis(3);
/// But no more runs than these.
const RUNS_A_SIZE_MAX: usize = 30;
/// A size is better if it makes so many times the rows a second: less is noise.
const BETTER: f64 = 1.05;
/// Sizes in a row that may fail to be better before the climb ends.
const WORSE_MAX: u32 = 1;

/// The batch size of one device.
#[derive(Debug, Clone)]
pub(crate) struct Climber {
    step: usize,
    bytes_max: Bytes,
    rows: usize,
    /// What is known to be too much, halved.
    rows_max: usize,
    /// Whether larger sizes are still to be tried.
    climbing: bool,
    /// Runs of the size at hand, their time together, and the shortest of them.
    runs: usize,
    together: Duration,
    shortest: Duration,
    /// Rows and rows a second of the best size so far.
    best: Option<(usize, f64)>,
    /// Sizes in a row that were not better.
    worse: u32,
}

impl Climber {
    pub(crate) fn new(batch: &DeviceBatch) -> Self {
        let step = batch.step.get();
        let mut climber = Self {
            step,
            bytes_max: batch.bytes_max,
            rows: step,
            rows_max: usize::MAX,
            climbing: batch.climbs,
            runs: 0,
            together: Duration::ZERO,
            shortest: Duration::MAX,
            best: None,
            worse: 0,
        };
        climber.rows = climber.in_steps(batch.rows.get());
        climber
    }

    /// Rows for the next batch, of rows that take about so many bytes each.
    pub(crate) fn rows(&mut self, row_bytes: Bytes) -> usize {
        let fit = self.bytes_max.0 / row_bytes.0.max(1);
        let most = self.in_steps(usize::try_from(fit).unwrap_or(usize::MAX));
        if self.rows > most {
            // No larger one will ever be tried, so this is the last to be judged.
            self.climbing = false;
        }
        self.rows.min(most)
    }

    /// A run of so many rows took so long.
    pub(crate) fn on_run(&mut self, rows: usize, time: Duration) {
        // The last batch of a task is smaller, and what was prepared before a change has the size from before.
        if !self.climbing || rows != self.rows {
            return;
        }
        self.runs += 1;
        self.together += time;
        self.shortest = self.shortest.min(time);
        let enough = self.runs >= RUNS_A_SIZE && self.together >= TIME_A_SIZE;
        if enough || self.runs >= RUNS_A_SIZE_MAX {
            self.judge();
        }
    }

    fn judge(&mut self) {
        let rate = self.rows as f64 / self.shortest.as_secs_f64().max(1e-9);
        let larger = self.rows.saturating_mul(2);
        if self.best.is_none_or(|(_, before)| rate >= before * BETTER) {
            self.best = Some((self.rows, rate));
            self.worse = 0;
        } else {
            self.worse += 1;
        }
        if self.worse > WORSE_MAX || larger > self.rows_max {
            self.stay(self.best.map_or(self.rows, |(rows, _)| rows));
        } else {
            self.rows = larger;
        }
        (self.runs, self.together, self.shortest) = (0, Duration::ZERO, Duration::MAX);
    }

    fn stay(&mut self, rows: usize) {
        self.climbing = false;
        self.rows = rows;
    }

    /// So many rows were too much. Says how many of them to try first, the rest after them; `None` if fewer cannot be
    /// tried.
    pub(crate) fn on_out_of_memory(&mut self, rows: usize) -> Option<usize> {
        if rows <= self.step {
            return None;
        }
        let half = self.in_steps(rows / 2);
        self.rows_max = self.rows_max.min(half);
        self.stay(self.rows.min(self.rows_max));
        Some(half)
    }

    /// Down to a multiple of the step, at least one.
    fn in_steps(&self, rows: usize) -> usize {
        (rows / self.step).max(1) * self.step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroUsize;

    fn batch(rows: usize, step: usize, climbs: bool) -> DeviceBatch {
        let rows_of = |rows| NonZeroUsize::new(rows).expect("above zero");
        DeviceBatch { rows: rows_of(rows), step: rows_of(step), bytes_max: Bytes::mib(32), climbs }
    }

    /// Runs batches on a device where a run of `rows` takes what `time` says and more than `limit` rows do not fit.
    fn settle(climber: &mut Climber, limit: usize, time: impl Fn(usize) -> Duration) -> usize {
        for _ in 0..1_000 {
            let rows = climber.rows(Bytes(4));
            if rows > limit {
                climber.on_out_of_memory(rows).expect("fewer may do");
            } else {
                climber.on_run(rows, time(rows));
            }
        }
        climber.rows(Bytes(4))
    }

    #[test]
    fn it_climbs_while_rows_a_second_grow_and_stays_at_the_best() {
        // 1 ms for each run and, above 1,000 rows, time in proportion.
        let time = |rows: usize| Duration::from_micros(1000 + rows.saturating_sub(1000) as u64 * 4);
        let mut climber = Climber::new(&batch(32, 1, true));
        assert_eq!(settle(&mut climber, usize::MAX, time), 1024);
        let slower = |rows: usize| Duration::from_micros((rows * rows) as u64);
        assert_eq!(settle(&mut Climber::new(&batch(32, 1, true)), usize::MAX, slower), 32);
    }

    #[test]
    fn out_of_memory_halves_and_ends_the_climb() {
        let flat = |_| Duration::from_millis(1);
        assert_eq!(settle(&mut Climber::new(&batch(32, 1, true)), 700, flat), 512);
        assert_eq!(
            settle(&mut Climber::new(&batch(1000, 1, false)), 300, flat),
            250,
            "a size that was given halves too"
        );
        let mut one = Climber::new(&batch(1, 1, false));
        assert_eq!(one.on_out_of_memory(1), None);
    }

    #[test]
    fn bytes_bound_the_rows() {
        let mut climber = Climber::new(&batch(4096, 1, true));
        assert_eq!(climber.rows(Bytes::mib(1)), 32);
        assert_eq!(climber.rows(Bytes::mib(100)), 1, "a row is never cut");
    }

    proptest! {
        /// Whatever happens: a multiple of the step, at least one step, never more than half of what was too much, and no
        /// more bytes than allowed unless one step takes them.
        #[test]
        fn sizes_keep_within_all_bounds(
            first in 1..5000usize,
            step in 1..100usize,
            climbs: bool,
            limit in 1..100_000usize,
            row_bytes in 1..10_000_000u64,
            times in prop::collection::vec(1..1_000_000u64, 1..100),
        ) {
            let mut climber = Climber::new(&batch(first, step, climbs));
            let mut too_much = usize::MAX;
            for time in times {
                let rows = climber.rows(Bytes(row_bytes));
                prop_assert!(rows >= step && rows.is_multiple_of(step));
                prop_assert!(rows == step || rows as u64 * row_bytes <= Bytes::mib(32).0);
                prop_assert!(rows < too_much || rows == step);
                if rows > limit {
                    too_much = too_much.min(rows);
                    match climber.on_out_of_memory(rows) {
                        Some(half) => prop_assert!(half < rows && half >= step && half.is_multiple_of(step)),
                        None => prop_assert_eq!(rows, step),
                    }
                } else {
                    climber.on_run(rows, Duration::from_micros(time));
                }
            }
        }
    }
}
