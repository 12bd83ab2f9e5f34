//! Which block goes to disk, and when: pure.
//!
//! Candidates are the results of tasks behind the oldest one of an ordered operator. They cannot leave before that one is
//! done, however fast everything behind the operator is, so they are the blocks that are needed last, and the youngest of
//! them last of all. Nothing else is spilled: blocks that wait for a slow step behind the operator hold their senders back,
//! and writing them would cost a disk and gain no time.
//!
//! On a cluster they lie on several nodes, each with a disk of its own: the youngest goes first among those whose node has a
//! disk that takes it.
//!
//! Nothing is spilled early either. Workers that lack room first get what memory is free, and the disk only when the same
//! task has been waited for long enough: a job whose tasks are even never gets there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::block::NodeId;
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
    /// By the node that they are on, then by task and arrival.
    results: BTreeMap<NodeId, BTreeMap<(u64, u64), (Bytes, V)>>,
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
pub(crate) enum Relief<V> {
    /// Nothing: only what happens elsewhere can help.
    None,
    /// Nothing before this time.
    At(Duration),
    /// Let the operator take more memory.
    Stretch,
    /// Spill this, which is off the shelf now.
    Spill(Shelved<V>),
}

/// A result and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shelved<V> {
    pub(crate) task: u64,
    /// The node that it is on.
    pub(crate) home: NodeId,
    pub(crate) bytes: Bytes,
    pub(crate) result: V,
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
            for results in self.results.values_mut() {
                *results = results.split_off(&(oldest.saturating_add(1), 0));
            }
        }
        true
    }

    /// Puts a result of a task on it.
    pub(crate) fn put(&mut self, Shelved { task, home, bytes, result }: Shelved<V>) {
        self.results.entry(home).or_default().insert((task, self.next), (bytes, result));
        self.next += 1;
    }

    /// Forgets results that have left in other ways, once in a while.
    pub(crate) fn forget(&mut self, has_left: impl Fn(&V) -> bool) {
        if self.len() >= self.forget_at {
            self.results.values_mut().for_each(|results| results.retain(|_, (_, result)| !has_left(result)));
            self.forget_at = 2 * self.len() + FORGET_MIN;
        }
    }

    fn len(&self) -> usize {
        self.results.values().map(BTreeMap::len).sum()
    }

    /// What may be done now. `ready_at` says from when on the disk of a node takes so many bytes, if it ever does.
    pub(crate) fn relief(&mut self, now: Duration, ready_at: impl Fn(NodeId, Bytes) -> Option<Duration>) -> Relief<V> {
        let Some(Hold { oldest, since, stretched }) = self.hold else { return Relief::None };
        if !stretched {
            let at = since + STRETCH_AFTER.min(self.spill_after);
            return if at > now { Relief::At(at) } else { Relief::Stretch };
        }
        let spill_at = since + self.spill_after;
        let youngest = self.results.iter().filter_map(|(&home, results)| {
            let (&(task, _), (bytes, _)) = results.last_key_value().filter(|((task, _), _)| *task > oldest)?;
            Some((task, home, ready_at(home, *bytes)?.max(spill_at)))
        });
        let youngest: Vec<_> = youngest.collect();
        if let Some(&(_, home, _)) = youngest.iter().filter(|(.., at)| *at <= now).max()
            && let Some(shelved) = self.take(home)
        {
            return Relief::Spill(shelved);
        }
        youngest.iter().map(|(.., at)| *at).min().map_or(Relief::None, Relief::At)
    }

    /// The youngest result of a node.
    fn take(&mut self, home: NodeId) -> Option<Shelved<V>> {
        let ((task, _), (bytes, result)) = self.results.get_mut(&home)?.pop_last()?;
        Some(Shelved { task, home, bytes, result })
    }

    /// The operator takes more memory from now on, while the same task is waited for.
    pub(crate) fn stretched(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.stretched = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(1);
    const HERE: NodeId = NodeId(0);

    fn ready(_: NodeId, _: Bytes) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn put<V>(shelf: &mut Shelf<V>, task: u64, home: NodeId, result: V) {
        shelf.put(Shelved { task, home, bytes: Bytes(1), result });
    }

    fn shelf() -> Shelf<&'static str> {
        let mut shelf = Shelf::new(LONG);
        put(&mut shelf, 3, HERE, "three");
        put(&mut shelf, 5, HERE, "five");
        put(&mut shelf, 5, HERE, "five again");
        put(&mut shelf, 4, HERE, "four");
        shelf
    }

    /// What is spilled after a long time, one after the other.
    fn spilled<V>(shelf: &mut Shelf<V>, ready_at: impl Fn(NodeId, Bytes) -> Option<Duration>) -> Vec<Shelved<V>> {
        let next = || match shelf.relief(2 * LONG, &ready_at) {
            Relief::Spill(shelved) => Some(shelved),
            _ => None,
        };
        std::iter::from_fn(next).collect()
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
        assert_eq!(shelf.relief(LONG, |_, _| None), Relief::None, "there is no disk");
        assert_eq!(shelf.relief(LONG, |_, _| Some(2 * LONG)), Relief::At(2 * LONG), "it is full for now");
        assert!(matches!(shelf.relief(LONG, ready), Relief::Spill(_)));
        assert!(!shelf.hold(Some(3), LONG), "it is waited for all the time");
        assert!(matches!(shelf.relief(LONG, ready), Relief::Spill(_)));
        assert!(shelf.hold(Some(4), LONG));
        assert_eq!(shelf.relief(LONG, ready), Relief::At(LONG + STRETCH_AFTER), "another one is waited for now");
    }

    #[test]
    fn results_that_left_are_forgotten() {
        let mut shelf = Shelf::new(LONG);
        for task in 0..10 * FORGET_MIN as u64 {
            put(&mut shelf, task, NodeId(task % 3), task);
            shelf.forget(|result| *result + 10 < task);
        }
        assert!(shelf.len() <= 2 * FORGET_MIN, "{}", shelf.len());
    }

    #[test]
    fn the_youngest_goes_first_and_never_one_of_the_oldest() {
        let mut shelf = shelf();
        shelf.hold(Some(3), Duration::ZERO);
        shelf.stretched();
        let taken: Vec<_> = spilled(&mut shelf, ready).into_iter().map(|shelved| shelved.result).collect();
        assert_eq!(taken, ["five again", "five", "four"]);
        assert_eq!(shelf.relief(LONG, ready), Relief::None);
    }

    #[test]
    fn a_node_whose_disk_takes_nothing_is_passed_over() {
        let mut shelf = shelf();
        put(&mut shelf, 9, NodeId(1), "nine, of a node without a disk");
        put(&mut shelf, 8, NodeId(2), "eight, of a node whose disk is full");
        shelf.hold(Some(3), Duration::ZERO);
        shelf.stretched();
        let ready_at = |home: NodeId, _| [Some(LONG), None, Some(5 * LONG)][home.0 as usize];
        let taken: Vec<_> = spilled(&mut shelf, ready_at).into_iter().map(|shelved| shelved.result).collect();
        assert_eq!(taken, ["five again", "five", "four"]);
        assert_eq!(shelf.relief(2 * LONG, ready_at), Relief::At(5 * LONG), "it may have room then");
    }

    proptest! {
        /// What is taken is behind the task that is waited for, and nothing that is left is younger, whatever nodes it is on.
        #[test]
        fn results_are_taken_from_the_end(
            tasks in prop::collection::vec((0u64..20, 0u64..3), 0..60),
            oldest in 0u64..20,
        ) {
            let mut shelf = Shelf::new(LONG);
            tasks.iter().for_each(|(task, home)| put(&mut shelf, *task, NodeId(*home), ()));
            shelf.hold(Some(oldest), Duration::ZERO);
            shelf.stretched();
            let taken: Vec<_> = spilled(&mut shelf, ready).into_iter().map(|taken| (taken.task, taken.home.0)).collect();
            let mut expected: Vec<_> = tasks.into_iter().filter(|(task, _)| *task > oldest).collect();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(taken, expected);
        }
    }
}
