//! The pure thinking about tasks in flight: attempts, and the order in which results leave.
//!
//! Ordered: the results of the oldest task leave as they come, those of younger tasks are held until all older tasks
//! are done. Unordered: all leave as they come. Every report names its attempt, and what is not of the current attempt
//! is stale and dropped, so a result is never counted twice.

use std::collections::{BTreeMap, VecDeque};

use crate::units::Rows;

/// Tasks that were started and whose results have not all left. `I` is a task's input, `R` a result.
#[derive(Debug)]
pub(crate) struct Tasks<I, R> {
    ordered: bool,
    attempts_max: u32,
    next_seq: u64,
    entries: BTreeMap<u64, Entry<I, R>>,
}

#[derive(Debug)]
struct Entry<I, R> {
    input: Option<I>,
    attempt: u32,
    progress: Rows,
    results: VecDeque<R>,
}

/// What to do about a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not the current attempt: nothing.
    Stale,
    /// Try again as this attempt.
    Retry(u32),
    /// All attempts are used up; this was the last one.
    GiveUp(u32),
}

impl<I, R> Tasks<I, R> {
    pub(crate) fn new(ordered: bool, attempts_max: u32) -> Self {
        Self { ordered, attempts_max, next_seq: 0, entries: BTreeMap::new() }
    }

    /// Starts a task whose first rows, up to `from`, are finished; returns its number.
    pub(crate) fn start(&mut self, input: I, from: Rows) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        let entry = Entry { input: Some(input), attempt: 1, progress: from, results: VecDeque::new() };
        self.entries.insert(seq, entry);
        seq
    }

    /// Results of an attempt came in. What is stale is handed back, to be dropped.
    pub(crate) fn on_emitted(
        &mut self,
        seq: u64,
        attempt: u32,
        results: Vec<R>,
        progress: Rows,
        done: bool,
    ) -> Result<(), Vec<R>> {
        match self.entries.get_mut(&seq).filter(|entry| entry.attempt == attempt && entry.input.is_some()) {
            Some(entry) => {
                entry.results.extend(results);
                entry.progress = progress;
                if done {
                    entry.input = None;
                }
                self.forget_left();
                Ok(())
            }
            None => Err(results),
        }
    }

    /// An attempt failed.
    pub(crate) fn on_failed(&mut self, seq: u64, attempt: u32) -> Verdict {
        let Some(entry) = self.entries.get_mut(&seq).filter(|entry| entry.attempt == attempt && entry.input.is_some())
        else {
            return Verdict::Stale;
        };
        if attempt >= self.attempts_max {
            return Verdict::GiveUp(attempt);
        }
        entry.attempt += 1;
        Verdict::Retry(entry.attempt)
    }

    /// The input of a task that is not done, its current attempt, and how far it is.
    pub(crate) fn get(&self, seq: u64) -> Option<(&I, u32, Rows)> {
        let entry = self.entries.get(&seq)?;
        Some((entry.input.as_ref()?, entry.attempt, entry.progress))
    }

    /// The next result that may leave.
    pub(crate) fn pop(&mut self) -> Option<R> {
        let result = if self.ordered {
            self.entries.values_mut().next()?.results.pop_front()
        } else {
            self.entries.values_mut().find_map(|entry| entry.results.pop_front())
        };
        self.forget_left();
        result
    }

    /// The oldest task, if it is not done and none of its results wait to leave: it may always go on, whatever room
    /// younger tasks hold.
    pub(crate) fn oldest_to_wait_for(&self) -> Option<u64> {
        let (seq, entry) = self.entries.first_key_value()?;
        (entry.input.is_some() && entry.results.is_empty()).then_some(*seq)
    }

    /// The oldest task that is not done: its number, its current attempt and its input.
    pub(crate) fn oldest_running(&self) -> Option<(u64, u32, &I)> {
        self.entries.iter().find_map(|(seq, entry)| Some((*seq, entry.attempt, entry.input.as_ref()?)))
    }

    /// Tasks in flight.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tasks that are not done.
    pub(crate) fn running(&self) -> usize {
        self.entries.values().filter(|entry| entry.input.is_some()).count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Forgets tasks that are done and whose results have left.
    fn forget_left(&mut self) {
        if self.ordered {
            while self.entries.first_key_value().is_some_and(|(_, entry)| entry.has_left()) {
                self.entries.pop_first();
            }
        } else {
            self.entries.retain(|_, entry| !entry.has_left());
        }
    }
}

impl<I, R> Entry<I, R> {
    fn has_left(&self) -> bool {
        self.input.is_none() && self.results.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emit(tasks: &mut Tasks<(), u32>, seq: u64, result: u32, done: bool) {
        tasks.on_emitted(seq, 1, vec![result], Rows(1), done).expect("current attempt");
    }

    #[test]
    fn results_of_younger_tasks_wait_for_the_oldest() {
        let mut tasks = Tasks::new(true, 4);
        tasks.start((), Rows(0));
        tasks.start((), Rows(0));
        emit(&mut tasks, 1, 20, true);
        assert_eq!(tasks.pop(), None);
        assert_eq!(tasks.oldest_to_wait_for(), Some(0));
        emit(&mut tasks, 0, 10, false);
        assert_eq!((tasks.pop(), tasks.pop()), (Some(10), None));
        emit(&mut tasks, 0, 11, true);
        assert_eq!((tasks.pop(), tasks.pop(), tasks.pop()), (Some(11), Some(20), None));
        assert!(tasks.is_empty());
    }

    #[test]
    fn a_failed_task_goes_on_where_its_results_end_and_its_old_attempt_is_stale() {
        let mut tasks = Tasks::new(true, 2);
        tasks.start((), Rows(0));
        emit(&mut tasks, 0, 1, false);
        assert_eq!(tasks.on_failed(0, 1), Verdict::Retry(2));
        assert_eq!(tasks.get(0), Some((&(), 2, Rows(1))));
        assert_eq!(tasks.on_emitted(0, 1, vec![2], Rows(2), true), Err(vec![2]));
        assert_eq!(tasks.on_failed(0, 1), Verdict::Stale);
        assert_eq!(tasks.on_failed(0, 2), Verdict::GiveUp(2));
    }

    proptest! {
        /// Whatever the order in which tasks report, ordered results leave in the order of their tasks, once each.
        #[test]
        fn order_is_kept(reports in prop::collection::vec((0u64..20, 1u32..4), 0..100)) {
            let mut tasks = Tasks::<(), (u64, u32)>::new(true, 4);
            for _ in 0..20 {
                tasks.start((), Rows(0));
            }
            let mut emitted = [0u32; 20];
            let mut left = Vec::new();
            for (seq, results) in reports.into_iter().chain((0..20).map(|seq| (seq, 0))) {
                let last = results == 0;
                let batch: Vec<_> = (0..results).map(|n| (seq, emitted[seq as usize] + n)).collect();
                emitted[seq as usize] += results;
                tasks.on_emitted(seq, 1, batch, Rows(0), last).expect("current attempt");
                left.extend(std::iter::from_fn(|| tasks.pop()));
            }
            let all: Vec<_> = (0..20u64).flat_map(|seq| (0..emitted[seq as usize]).map(move |n| (seq, n))).collect();
            prop_assert_eq!(left, all);
            prop_assert!(tasks.is_empty());
        }
    }
}
