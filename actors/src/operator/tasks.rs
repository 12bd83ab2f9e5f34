//! The pure thinking about tasks in flight: attempts, and the order in which results leave.
//!
//! Ordered: the results of the oldest task leave as they come, those of younger tasks are held until all older tasks
//! are done. Unordered: all leave as they come. Every report names its attempt, and what is not of the current attempt
//! is stale and dropped, so a result is never counted twice.

use std::collections::{BTreeMap, VecDeque};

use super::bisect::{Bisect, Next};
use crate::block::Segment;
use crate::units::Rows;

/// Tasks that were started and whose results have not all left. `I` is a task's input, `R` a result.
#[derive(Debug)]
pub(crate) struct Tasks<I, R> {
    ordered: bool,
    attempts_max: u32,
    /// Whether rows at fault are looked for, to be given up.
    isolates: bool,
    next_seq: u64,
    entries: BTreeMap<u64, Entry<I, R>>,
}

#[derive(Debug)]
struct Entry<I, R> {
    input: Option<I>,
    attempt: u32,
    progress: Rows,
    results: VecDeque<R>,
    /// Attempts that failed, those in search of a row at fault aside.
    failures: u32,
    /// Where the current attempt ends: [`Segment::END`] if it is to do all that is left.
    until: Rows,
    /// The row behind the last, as far as known.
    end: Rows,
    bisect: Bisect,
}

/// Which rows an attempt that failed may blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// None: it failed outside of calls.
    NoRow,
    /// Those that it has not passed on, up to here.
    Upto(Rows),
    /// Any that it has not passed on: nobody knows how far it was.
    Any,
}

/// Where nobody knows how many rows a split has, a worker that died with it is taken to have died with so many: as many
/// as a reader gives at once.
const UNKNOWN_ROWS: Rows = Rows(64 * 1024);

/// What to do about a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not the current attempt: nothing.
    Stale,
    /// Try again as this attempt; the same rows have failed so often.
    Retry(u32, u32),
    /// All attempts are used up; this was the last one.
    GiveUp(u32),
    /// Fewer rows are at fault than failed: try a part of them, as this attempt.
    Fewer(u32),
    /// This row is at fault, which has failed so often: it is to be [skipped](Tasks::skip).
    Skip(Rows, u32),
}

/// What has come of a report that is not stale.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// The attempt goes on.
    GoesOn,
    /// The task is done.
    Done,
    /// The rows that this attempt was to do are done; the next ones are to be done as this attempt.
    Next(u32),
}

impl<I, R> Tasks<I, R> {
    pub(crate) fn new(ordered: bool, attempts_max: u32) -> Self {
        Self { ordered, attempts_max, isolates: false, next_seq: 0, entries: BTreeMap::new() }
    }

    /// The same, which looks for the rows at fault when a task fails.
    pub(crate) fn isolating(self, isolates: bool) -> Self {
        Self { isolates, ..self }
    }

    /// Starts a task whose first rows, up to `from`, are finished; `end` is the row behind its last, or
    /// [`Segment::END`] if nobody knows. Returns its number.
    pub(crate) fn start(&mut self, input: I, from: Rows, end: Rows) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        let entry = Entry {
            input: Some(input),
            attempt: 1,
            progress: from,
            results: VecDeque::new(),
            failures: 0,
            until: Segment::END,
            end,
            bisect: Bisect::default(),
        };
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
    ) -> Result<Reported, Vec<R>> {
        let Some(entry) = self.current(seq, attempt) else { return Err(results) };
        entry.results.extend(results);
        entry.progress = progress;
        let reported = match done {
            false => Reported::GoesOn,
            true if entry.until == Segment::END => {
                entry.input = None;
                Reported::Done
            }
            true => {
                entry.progress = entry.until;
                Reported::Next(entry.begin_next())
            }
        };
        self.forget_left();
        Ok(reported)
    }

    /// An attempt failed.
    pub(crate) fn on_failed(&mut self, seq: u64, attempt: u32, blame: Blame) -> Verdict {
        let (attempts, isolates) = (self.attempts_max, self.isolates);
        let Some(entry) = self.current(seq, attempt) else { return Verdict::Stale };
        let reached = match blame {
            Blame::Upto(reached) if isolates => reached,
            Blame::Any if isolates => entry.blamed(),
            _ => {
                entry.failures += 1;
                return match entry.failures {
                    failures if failures >= attempts => Verdict::GiveUp(failures),
                    failures => Verdict::Retry(entry.begin_next(), failures),
                };
            }
        };
        match entry.bisect.on_failed(entry.progress, reached, attempts) {
            Next::Again(tries) => Verdict::Retry(entry.begin_next(), tries),
            Next::Fewer => Verdict::Fewer(entry.begin_next()),
            Next::GiveUp(tries) => Verdict::Skip(entry.progress, tries),
        }
    }

    /// The next row of a task is given up; `result` stands for it. The attempt that goes on behind it, if the task was not
    /// stopped meanwhile.
    pub(crate) fn skip(&mut self, seq: u64, result: R) -> Option<u32> {
        let entry = self.entries.get_mut(&seq).filter(|entry| entry.input.is_some())?;
        entry.results.push_back(result);
        entry.progress += Rows(1);
        Some(entry.begin_next())
    }

    fn current(&mut self, seq: u64, attempt: u32) -> Option<&mut Entry<I, R>> {
        self.entries.get_mut(&seq).filter(|entry| entry.attempt == attempt && entry.input.is_some())
    }

    /// What there is to do of a task that is not done, and its current attempt.
    pub(crate) fn get(&self, seq: u64) -> Option<Todo<'_, I>> {
        let entry = self.entries.get(&seq)?;
        let Entry { attempt, progress, until, failures, .. } = *entry;
        Some(Todo { input: entry.input.as_ref()?, attempt, from: progress, until, failures })
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

/// What there is to do of a task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Todo<'a, I> {
    pub(crate) input: &'a I,
    pub(crate) attempt: u32,
    /// The first row that is not passed on.
    pub(crate) from: Rows,
    /// Where the attempt ends, if the task does not end before.
    pub(crate) until: Rows,
    pub(crate) failures: u32,
}

impl<I, R> Entry<I, R> {
    /// Goes on with what is left; the number of the attempt.
    fn begin_next(&mut self) -> u32 {
        self.bisect.on_passed(self.progress);
        self.until = self.bisect.until().unwrap_or(Segment::END);
        self.attempt += 1;
        self.attempt
    }

    /// The row behind the last that a worker which died may have had at hand.
    fn blamed(&self) -> Rows {
        let end = self.end.min(self.until);
        if end == Segment::END { self.progress + UNKNOWN_ROWS } else { end }
    }

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
        tasks.start((), Rows(0), Segment::END);
        tasks.start((), Rows(0), Segment::END);
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
        tasks.start((), Rows(0), Segment::END);
        emit(&mut tasks, 0, 1, false);
        assert_eq!(tasks.on_failed(0, 1, Blame::Any), Verdict::Retry(2, 1));
        let todo = Todo { input: &(), attempt: 2, from: Rows(1), until: Segment::END, failures: 1 };
        assert_eq!(tasks.get(0), Some(todo));
        assert_eq!(tasks.on_emitted(0, 1, vec![2], Rows(2), true), Err(vec![2]));
        assert_eq!(tasks.on_failed(0, 1, Blame::Any), Verdict::Stale);
        assert_eq!(tasks.on_failed(0, 2, Blame::Any), Verdict::GiveUp(2));
    }

    #[test]
    fn the_row_at_fault_is_skipped_and_the_rest_goes_on() {
        let mut tasks = Tasks::new(true, 2).isolating(true);
        tasks.start((), Rows(0), Rows(9));
        // Rows 0..4 fail twice, and row 1 is at fault.
        assert_eq!(tasks.on_failed(0, 1, Blame::Upto(Rows(4))), Verdict::Retry(2, 1));
        assert_eq!(tasks.on_failed(0, 2, Blame::Upto(Rows(4))), Verdict::Fewer(3));
        assert_eq!(tasks.get(0).map(|todo| (todo.from, todo.until)), Some((Rows(0), Rows(2))));
        assert_eq!(tasks.on_failed(0, 3, Blame::Upto(Rows(2))), Verdict::Fewer(4));
        assert_eq!(tasks.on_emitted(0, 4, vec![0], Rows(1), true), Ok(Reported::Next(5)));
        assert_eq!(tasks.get(0).map(|todo| (todo.from, todo.until)), Some((Rows(1), Rows(2))));
        assert_eq!(tasks.on_failed(0, 5, Blame::Upto(Rows(2))), Verdict::Skip(Rows(1), 4));
        assert_eq!(tasks.skip(0, 100), Some(6));
        assert_eq!(tasks.on_emitted(0, 6, vec![2, 3], Rows(4), true), Ok(Reported::Next(7)));
        assert_eq!(tasks.get(0).map(|todo| (todo.from, todo.until)), Some((Rows(4), Segment::END)));
        assert_eq!(tasks.on_emitted(0, 7, vec![8], Rows(9), true), Ok(Reported::Done));
        let left: Vec<u32> = std::iter::from_fn(|| tasks.pop()).collect();
        assert_eq!((left, tasks.is_empty()), (vec![0, 100, 2, 3, 8], true));
    }

    #[test]
    fn rows_that_fail_for_the_first_time_have_failed_once_however_many_failed_before() {
        let mut tasks = Tasks::<(), u32>::new(true, 1).isolating(true);
        tasks.start((), Rows(0), Rows(4));
        assert_eq!(tasks.on_failed(0, 1, Blame::Upto(Rows(1))), Verdict::Skip(Rows(0), 1));
        assert_eq!(tasks.skip(0, 100), Some(2));
        tasks.attempts_max = 4;
        assert_eq!(tasks.on_failed(0, 2, Blame::Upto(Rows(4))), Verdict::Retry(3, 1));
    }

    #[test]
    fn a_worker_that_died_may_have_been_anywhere_in_its_rows() {
        let mut tasks = Tasks::<(), u32>::new(true, 1).isolating(true);
        tasks.start((), Rows(10), Segment::END);
        assert_eq!(tasks.on_failed(0, 1, Blame::Any), Verdict::Fewer(2));
        assert_eq!(tasks.get(0).map(|todo| todo.until), Some(Rows(10 + 32 * 1024)));
        tasks.start((), Rows(0), Rows(1));
        assert_eq!(tasks.on_failed(1, 1, Blame::Any), Verdict::Skip(Rows(0), 1));
        assert_eq!(tasks.on_failed(0, 2, Blame::NoRow), Verdict::GiveUp(1));
    }

    proptest! {
        /// Whatever the order in which tasks report, ordered results leave in the order of their tasks, once each.
        #[test]
        fn order_is_kept(reports in prop::collection::vec((0u64..20, 1u32..4), 0..100)) {
            let mut tasks = Tasks::<(), (u64, u32)>::new(true, 4);
            for _ in 0..20 {
                tasks.start((), Rows(0), Segment::END);
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
