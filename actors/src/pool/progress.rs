//! The pure thinking about calls of user code that do not come back: how long one may take, by how long they usually do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A call may take at least this many times what 95 of 100 calls of its operator have taken, whatever limit was chosen:
/// work that is slow as a whole is not stuck.
const TIMES_P95: u32 = 10;

/// Opening an operator may take so long at least: models load from slow disks, and some engines compile them for minutes.
const OPENING_MIN: Duration = Duration::from_secs(10 * 60);

/// How long the calls of an operator have taken: a count for each power of two of nanoseconds.
#[derive(Debug)]
pub(crate) struct Calls([AtomicU64; 64]);

impl Default for Calls {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 64])
    }
}

impl Calls {
    /// One took so long.
    pub(crate) fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.0.get(nanos.checked_ilog2().unwrap_or(0) as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What 95 of 100 calls took at most, rounded up to a power of two; zero before there was one.
    pub(crate) fn p95(&self) -> Duration {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        // So many may have taken longer.
        let mut beyond = all / 20;
        for (power, count) in counts.iter().enumerate().rev() {
            match beyond.checked_sub(*count) {
                Some(left) => beyond = left,
                None => return Duration::from_nanos(1u64.checked_shl(power as u32 + 1).unwrap_or(u64::MAX)),
            }
        }
        Duration::ZERO
    }
}

/// How long a call may take, where `limit` was chosen.
pub(crate) fn call_limit(limit: Duration, calls: &Calls) -> Duration {
    limit.max(calls.p95().saturating_mul(TIMES_P95))
}

/// How long opening may take.
pub(crate) fn opening_limit(limit: Duration) -> Duration {
    limit.max(OPENING_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn before_there_was_a_call_the_chosen_limit_holds() {
        let limit = Duration::from_secs(60);
        assert_eq!(call_limit(limit, &Calls::default()), limit);
        assert_eq!(opening_limit(limit), OPENING_MIN);
        assert_eq!(call_limit(Duration::MAX, &Calls::default()), Duration::MAX);
    }

    #[test]
    fn work_that_is_slow_as_a_whole_gets_more_time() {
        let calls = Calls::default();
        (0..100).for_each(|_| calls.add(Duration::from_secs(30)));
        assert!(call_limit(Duration::from_secs(60), &calls) >= Duration::from_secs(300));
    }

    proptest! {
        /// It is never below the exact value, and at most twice the longest.
        #[test]
        fn the_estimate_is_not_too_low(mut nanos in prop::collection::vec(1..1u64 << 50, 1..200)) {
            let calls = Calls::default();
            nanos.iter().for_each(|nanos| calls.add(Duration::from_nanos(*nanos)));
            nanos.sort_unstable();
            let exact = nanos[nanos.len() - 1 - nanos.len() / 20];
            let estimate = calls.p95().as_nanos() as u64;
            prop_assert!(estimate >= exact && estimate <= 2 * nanos[nanos.len() - 1], "{} {}", estimate, exact);
        }
    }
}
