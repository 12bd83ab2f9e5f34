//! A thread that waits for stored values, a core, or room in a stream.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Thread, current, park, park_timeout};
use std::time::Duration;

use crate::runtime::env::Env;

/// Looks at its count so often before it sleeps: some ten microseconds, about what a sleep and a wake-up cost. Where the
/// answer takes longer, that much is wasted once; where it comes at once, the round trip is ten times shorter.
const SPINS: u32 = 300;

/// Waits until so many things have happened. One thread waits; any may tell it.
pub(crate) struct Waiter {
    left: AtomicUsize,
    thread: Thread,
}

impl Waiter {
    /// The calling thread waits for `events`.
    pub(crate) fn new(events: usize) -> Self {
        Self { left: AtomicUsize::new(events), thread: current() }
    }

    /// One of them has happened.
    pub(crate) fn tell(&self) {
        let left = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        if left == Ok(1) {
            self.thread.unpark();
        }
    }

    /// All of them have.
    pub(crate) fn is_over(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// Waits for a moment, in which what is nearly there comes; whether it is over.
    pub(crate) fn spin(&self) -> bool {
        for _ in 0..SPINS {
            if self.is_over() {
                return true;
            }
            spin_loop();
        }
        false
    }

    /// Waits; with a time limit, no longer than that. Whether it is over.
    pub(crate) fn wait(&self, env: &dyn Env, limit: Option<Duration>) -> bool {
        let Some(limit) = limit else {
            while !self.is_over() {
                park();
            }
            return true;
        };
        let end = env.now().saturating_add(limit);
        while !self.is_over() {
            let left = end.saturating_sub(env.now());
            if left.is_zero() {
                return self.is_over();
            }
            park_timeout(left);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::runtime::env::SystemEnv;

    #[test]
    fn it_waits_for_all_events_and_no_longer_than_it_may() {
        let env = SystemEnv::new();
        let waiter = Arc::new(Waiter::new(3));
        assert!(!waiter.wait(&env, Some(Duration::from_millis(1))));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| waiter.tell());
            }
            assert!(waiter.wait(&env, None));
        });
        waiter.tell();
        assert!(waiter.is_over() && waiter.spin());
    }
}
