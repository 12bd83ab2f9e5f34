//! How long to wait before a lost connection is tried again. Pure: chance comes from outside.

use std::time::Duration;

use crate::Limits;

/// Doubling pauses between a minimum and a maximum, with a share of each left to chance.
///
/// ```
/// use mobula_transport::{Backoff, Limits};
/// let mut backoff = Backoff::new(&Limits::default());
/// let (first, second) = (backoff.next(u64::MAX), backoff.next(u64::MAX));
/// assert!(first < second);
/// backoff.reset();
/// assert_eq!(backoff.next(u64::MAX), first);
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    jitter_percent: u32,
    pause: Duration,
}

impl Backoff {
    /// Starts at the limits' shortest pause.
    pub fn new(limits: &Limits) -> Self {
        let (min, max) = (limits.reconnect_min, limits.reconnect_max.max(limits.reconnect_min));
        Self { min, max, jitter_percent: limits.reconnect_jitter_percent.min(100), pause: min }
    }

    /// The next pause, given any random number: at most the present step, and less than it by up to the jitter.
    pub fn next(&mut self, random: u64) -> Duration {
        let step = self.pause;
        self.pause = self.pause.saturating_mul(2).min(self.max);
        let spread = step.mul_f64(f64::from(self.jitter_percent) / 100.0);
        (step - spread) + spread.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// Starts over: the connection came about.
    pub fn reset(&mut self) {
        self.pause = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_stay_between_half_the_minimum_and_the_maximum(randoms: Vec<u64>) {
            let limits = Limits::default();
            let mut backoff = Backoff::new(&limits);
            for random in randoms {
                let pause = backoff.next(random);
                prop_assert!(pause >= limits.reconnect_min / 2 && pause <= limits.reconnect_max);
            }
        }
    }

    #[test]
    fn pauses_grow_up_to_the_maximum() {
        let limits = Limits::default();
        let mut backoff = Backoff::new(&limits);
        let last = (0..20).map(|_| backoff.next(u64::MAX)).last();
        assert_eq!(last, Some(limits.reconnect_max));
    }
}
