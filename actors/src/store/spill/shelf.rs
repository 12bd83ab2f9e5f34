//! Which block goes to disk, and when: pure.
//!
//! Candidates are the results of tasks behind the oldest one of an ordered operator. They cannot leave before that one is
//! done, however fast everything behind the operator is, so they are the blocks that are needed last, and the youngest of
//! them last of all. Nothing else is spilled: blocks that wait for a slow step behind the operator hold their senders back,
//! and writing them would cost a disk and gain no time.
//!
//! Nothing is spilled early either. Workers that lack room first get what memory is free, and the disk only when the same
//! task has been waited for long enough: a job whose tasks are even never gets there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::units::Bytes;

/// A task that is waited for so long lets the workers behind it have memory beyond their operator's usual share. Shorter
/// stalls end by themselves.
pub(crate) const STRETCH_AFTER: Duration = Duration::from_millis(100);

/// Results that have left are looked for when there are at least so many, each time twice as many as were left.
const FORGET_MIN: usize = 256;

/// The results that an operator holds back. `V` is what it takes to spill one.
#[derive(Debug)]
pub(crate) struct Shelf<V> {
    spill_after: Duration,
    hold: Option<Hold>,
    /// By task and arrival.
    results: BTreeMap<(u64, u64), (Bytes, V)>,
    next: u64,
    forget_at: usize,
}

/// All younger results wait for this task, and nothing else.
#[derive(Debug, Clone, Copy)]
struct Hold {
    oldest: u64,
    since: Duration,
    stretched: bool,
}

/// What may be done for a worker that waits for room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Relief {
    /// Nothing: only what happens elsewhere can help.
    None,
    /// Nothing before this time.
    At(Duration),
    /// Let the operator take more memory.
    Stretch,
    /// Spill the result that [`Shelf::take`] gives.
    Spill,
}

impl<V> Shelf<V> {
    pub(crate) fn new(spill_after: Duration) -> Self {
        Self { spill_after, hold: None, results: BTreeMap::new(), next: 0, forget_at: FORGET_MIN }
    }

    /// All results behind this task are held back by it alone, or none are. True if that changed.
    pub(crate) fn hold(&mut self, oldest: Option<u64>, now: Duration) -> bool {
        if self.hold.map(|hold| hold.oldest) == oldest {
            return false;
        }
        self.hold = oldest.map(|oldest| Hold { oldest, since: now, stretched: false });
        if let Some(oldest) = oldest {
            self.results = self.results.split_off(&(oldest.saturating_add(1), 0));
        }
        true
    }

    /// Puts a result of a task on it.
    pub(crate) fn put(&mut self, task: u64, bytes: Bytes, result: V) {
        self.results.insert((task, self.next), (bytes, result));
        self.next += 1;
    }

    /// Forgets results that have left in other ways, once in a while.
    pub(crate) fn forget(&mut self, has_left: impl Fn(&V) -> bool) {
        if self.results.len() >= self.forget_at {
            self.results.retain(|_, (_, result)| !has_left(result));
            self.forget_at = 2 * self.results.len() + FORGET_MIN;
        }
    }

    /// What may be done now. `ready_at` says from when on the disk takes so many bytes, if it ever does.
    pub(crate) fn relief(&self, now: Duration, ready_at: impl Fn(Bytes) -> Option<Duration>) -> Relief {
        let Some(Hold { oldest, since, stretched }) = self.hold else { return Relief::None };
        if !stretched {
            let at = since + STRETCH_AFTER.min(self.spill_after);
            return if at > now { Relief::At(at) } else { Relief::Stretch };
        }
        let Some((&(task, _), (bytes, _))) = self.results.last_key_value() else { return Relief::None };
        if task <= oldest {
            return Relief::None;
        }
        match ready_at(*bytes).map(|ready| ready.max(since + self.spill_after)) {
            None => Relief::None,
            Some(at) if at > now => Relief::At(at),
            Some(_) => Relief::Spill,
        }
    }

    /// The operator takes more memory from now on, while the same task is waited for.
    pub(crate) fn stretched(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.stretched = true;
        }
    }

    /// The result that is needed last.
    pub(crate) fn take(&mut self) -> Option<(u64, Bytes, V)> {
        let oldest = self.hold?.oldest;
        let last = self.results.last_entry().filter(|last| last.key().0 > oldest)?;
        let task = last.key().0;
        let (bytes, result) = last.remove();
        Some((task, bytes, result))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    fn ready(_: Bytes) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn shelf() -> Shelf<&'static str> {
        let mut shelf = Shelf::new(LONG);
        shelf.put(3, Bytes(1), "three");
        shelf.put(5, Bytes(1), "five");
        shelf.put(5, Bytes(1), "five again");
        shelf.put(4, Bytes(1), "four");
        shelf
    }

    #[test]
    fn memory_comes_before_the_disk_and_both_only_after_a_while() {
        let mut shelf = shelf();
        assert_eq!(shelf.relief(LONG, ready), Relief::None, "nobody says that the results are held back");
        assert!(shelf.hold(Some(3), Duration::ZERO));
        assert_eq!(shelf.relief(Duration::ZERO, ready), Relief::At(STRETCH_AFTER));
        assert_eq!(shelf.relief(STRETCH_AFTER, ready), Relief::Stretch);
        shelf.stretched();
        assert_eq!(shelf.relief(STRETCH_AFTER, ready), Relief::At(LONG));
        assert_eq!(shelf.relief(LONG, ready), Relief::Spill);
        assert_eq!(shelf.relief(LONG, |_| None), Relief::None, "there is no disk");
        assert_eq!(shelf.relief(LONG, |_| Some(2 * LONG)), Relief::At(2 * LONG), "it is full for now");
        assert!(!shelf.hold(Some(3), LONG), "it is waited for all the time");
        assert_eq!(shelf.relief(LONG, ready), Relief::Spill);
        assert!(shelf.hold(Some(4), LONG));
        assert_eq!(shelf.relief(LONG, ready), Relief::At(LONG + STRETCH_AFTER), "another one is waited for now");
    }

    #[test]
    fn results_that_left_are_forgotten() {
        let mut shelf = Shelf::new(LONG);
        for task in 0..10 * FORGET_MIN as u64 {
            shelf.put(task, Bytes(1), task);
            shelf.forget(|result| *result + 10 < task);
        }
        assert!(shelf.results.len() <= 2 * FORGET_MIN, "{}", shelf.results.len());
    }

    #[test]
    fn the_youngest_goes_first_and_never_one_of_the_oldest() {
        let mut shelf = shelf();
        shelf.hold(Some(3), Duration::ZERO);
        shelf.stretched();
        let taken: Vec<_> = std::iter::from_fn(|| shelf.take()).map(|(_, _, result)| result).collect();
        assert_eq!(taken, ["five again", "five", "four"]);
        assert_eq!(shelf.relief(LONG, ready), Relief::None);
    }

    proptest! {
        /// What is taken is behind the task that is waited for, and nothing that is left is younger.
        #[test]
        fn results_are_taken_from_the_end(tasks in prop::collection::vec(0u64..20, 0..60), oldest in 0u64..20) {
            let mut shelf = Shelf::new(LONG);
            tasks.iter().for_each(|task| shelf.put(*task, Bytes(1), ()));
            shelf.hold(Some(oldest), Duration::ZERO);
            let taken: Vec<u64> = std::iter::from_fn(|| shelf.take()).map(|(task, ..)| task).collect();
            let mut expected: Vec<u64> = tasks.into_iter().filter(|task| *task > oldest).collect();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(taken, expected);
        }
    }
}
