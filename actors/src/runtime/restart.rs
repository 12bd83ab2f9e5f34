//! The restart budget: how often something may be restarted before its supervisor gives up.

use std::collections::VecDeque;
use std::time::Duration;

/// At most so many restarts within a sliding window, as in Erlang's supervisors (restart intensity).
///
/// ```
/// use mobula_actors::runtime::RestartBudget;
/// use std::time::Duration;
/// let mut budget = RestartBudget::new(1, Duration::from_secs(60));
/// assert!(budget.allow(Duration::from_secs(0)));
/// assert!(!budget.allow(Duration::from_secs(59)));
/// assert!(budget.allow(Duration::from_secs(61)));
/// ```
#[derive(Debug, Clone)]
pub struct RestartBudget {
    restarts_max: u32,
    window: Duration,
    recent: VecDeque<Duration>,
}

impl RestartBudget {
    /// `restarts_max` restarts within `window`.
    pub fn new(restarts_max: u32, window: Duration) -> Self {
        Self { restarts_max, window, recent: VecDeque::new() }
    }

    /// No restart at all: the first death goes upwards.
    pub fn none() -> Self {
        Self::new(0, Duration::ZERO)
    }

    /// Whether one more restart is allowed at time `now`; counts it if so.
    pub fn allow(&mut self, now: Duration) -> bool {
        while self.recent.front().is_some_and(|&at| now.saturating_sub(at) > self.window) {
            self.recent.pop_front();
        }
        let allowed = self.recent.len() < self.restarts_max as usize;
        if allowed {
            self.recent.push_back(now);
        }
        allowed
    }

    /// What it was made of: restarts allowed, and the window.
    pub(crate) fn terms(&self) -> (u32, Duration) {
        (self.restarts_max, self.window)
    }

    /// Restarts within the window so far.
    pub fn used(&self) -> u32 {
        self.recent.len() as u32
    }
}
