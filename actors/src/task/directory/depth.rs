//! How many tasks wait in a node's own queue: as many as it ends in a short time, so that no core waits for the wire, and
//! none where tasks take long, so that they stay free to go elsewhere.

use std::time::Duration;

use super::limits::DirectoryLimits;

/// Looks that are nearer to each other than this say nothing of the pace.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// The rule for one node.
#[derive(Debug)]
pub(super) struct Depth {
    tasks: usize,
    tasks_max: usize,
    cover: Duration,
    ended: u64,
    looked: Option<Duration>,
}

impl Depth {
    pub(super) fn new(limits: &DirectoryLimits) -> Self {
        Self { tasks: 0, tasks_max: limits.ahead, cover: limits.cover, ended: 0, looked: None }
    }

    /// A task has ended there.
    pub(super) fn ended(&mut self) {
        self.ended += 1;
    }

    /// Looks at the pace since the last look. It takes a higher depth at once, and goes down by half at a time.
    pub(super) fn look(&mut self, now: Duration) {
        let Some(looked) = self.looked else {
            self.looked = Some(now);
            self.ended = 0;
            return;
        };
        let since = now.saturating_sub(looked);
        if since < LOOK_MIN {
            return;
        }
        let covered = self.ended as f64 * self.cover.as_secs_f64() / since.as_secs_f64();
        self.tasks = (covered as usize).max(self.tasks / 2).min(self.tasks_max);
        self.ended = 0;
        self.looked = Some(now);
    }

    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(paces: &[u64]) -> usize {
        let mut depth = Depth::new(&DirectoryLimits::default());
        depth.look(Duration::ZERO);
        for (looks, pace) in (1..).zip(paces) {
            (0..*pace).for_each(|_| depth.ended());
            depth.look(Duration::from_millis(10) * looks);
        }
        depth.tasks()
    }

    #[test]
    fn it_grows_with_the_pace_and_falls_by_half() {
        assert_eq!(after(&[]), 0);
        assert_eq!(after(&[1]), 0, "10 ms each");
        assert_eq!(after(&[500]), 100, "50 thousand a second");
        assert_eq!(after(&[500, 5]), 50);
        assert_eq!(after(&[1_000_000]), 256);
        assert_eq!(after(&[500, 0, 0, 0, 0, 0, 0, 0]), 0);
    }

    #[test]
    fn looks_that_are_too_near_do_not_count() {
        let mut depth = Depth::new(&DirectoryLimits::default());
        depth.look(Duration::ZERO);
        (0..100).for_each(|_| depth.ended());
        depth.look(Duration::from_millis(1));
        assert_eq!(depth.tasks(), 0);
        depth.look(Duration::from_millis(10));
        assert_eq!(depth.tasks(), 20);
    }
}
