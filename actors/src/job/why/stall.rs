//! The pure thinking about a job that stands still: when to say so.

use std::time::Duration;

/// Looks at how much of a job has moved, and says when nothing has for a named time.
#[derive(Debug)]
pub(crate) struct Stall {
    limit: Duration,
    moved: u64,
    /// When something was last seen to have moved.
    since: Duration,
    /// Warnings since then.
    said: u32,
}

/// The time that counts is looked at so often: a warning is late by so much of it at most.
const LOOKS: u32 = 8;
/// Looks are no further apart than this, however long the time, and no nearer than the other.
const LOOK_MAX: Duration = Duration::from_secs(10);
const LOOK_MIN: Duration = Duration::from_millis(5);

impl Stall {
    /// A job that began `now`.
    pub(crate) fn new(limit: Duration, now: Duration) -> Self {
        Self { limit, moved: 0, since: now, said: 0 }
    }

    /// How often to look; `None` for a limit that is never reached.
    pub(crate) fn look_every(limit: Duration) -> Option<Duration> {
        (limit < Duration::MAX).then(|| (limit / LOOKS).clamp(LOOK_MIN, LOOK_MAX))
    }

    /// So much has moved by now. The time that nothing has, if it is to be said: once for each time of the limit.
    pub(crate) fn on_look(&mut self, now: Duration, moved: u64) -> Option<Duration> {
        if moved != self.moved {
            *self = Self { limit: self.limit, moved, since: now, said: 0 };
            return None;
        }
        let still = now.saturating_sub(self.since);
        let due = self.limit.saturating_mul(self.said.saturating_add(1));
        (still >= due).then(|| {
            self.said += 1;
            still
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_for_each_time_that_nothing_moved() {
        let at = Duration::from_secs;
        let mut stall = Stall::new(at(60), at(100));
        let said: Vec<u64> = (100..300).filter(|now| stall.on_look(at(*now), 0).is_some()).collect();
        assert_eq!(said, [160, 220, 280]);
        assert_eq!(stall.on_look(at(300), 1), None);
        assert_eq!(stall.on_look(at(359), 1), None);
        assert_eq!(stall.on_look(at(361), 1), Some(at(61)));
    }

    #[test]
    fn a_limit_of_no_end_needs_no_looks() {
        assert_eq!(Stall::look_every(Duration::MAX), None);
        assert_eq!(Stall::look_every(Duration::from_secs(60)), Some(Duration::from_millis(7_500)));
        assert_eq!(Stall::look_every(Duration::from_secs(3600)), Some(Duration::from_secs(10)));
    }
}
