//! Which rows of a task are at fault: pure. Rows that fail together are halved until one is left, and that one is given up.
//!
//! The rows of a call that failed are tried once more as they are; what fails again is halved, and each half is tried by
//! itself, the first one first. So a row among `n` is tried `2 + log2(n)` times at most before it is given up, and what is
//! given up has failed alone. Rows around it are passed on as soon as their range passes.

use crate::units::Rows;

/// Ranges of a task's rows that are known to have failed, from the outermost to the one that is tried now. All begin where
/// the task's progress is.
#[derive(Debug, Default)]
pub(crate) struct Bisect {
    bounds: Vec<Bound>,
}

/// Rows up to here have failed so often.
#[derive(Debug, Clone, Copy)]
struct Bound {
    until: Rows,
    tries: u32,
}

/// What to do about rows that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try them again as they are; they have failed so often.
    Again(u32),
    /// Try fewer of them.
    Fewer,
    /// It is this one, which has failed so often.
    GiveUp(u32),
}

/// Rows that fail together are halved when they have failed so often: once may be chance.
const WHOLE_TRIES: u32 = 2;

impl Bisect {
    /// The row behind the last that is to be tried now, if not all are.
    pub(crate) fn until(&self) -> Option<Rows> {
        self.bounds.last().map(|bound| bound.until)
    }

    /// Rows up to here are passed on or given up.
    pub(crate) fn on_passed(&mut self, progress: Rows) {
        while self.bounds.pop_if(|bound| bound.until <= progress).is_some() {}
    }

    /// Rows from `from` to `reached` failed; each row may have so many attempts, however few fail together.
    pub(crate) fn on_failed(&mut self, from: Rows, reached: Rows, attempts: u32) -> Next {
        self.on_passed(from);
        let reached = reached.max(from + Rows(1));
        let tries = match self.bounds.last_mut() {
            Some(bound) if bound.until <= reached => {
                bound.tries += 1;
                bound.tries
            }
            outer => {
                let tries = outer.map_or(0, |outer| outer.tries) + 1;
                self.bounds.push(Bound { until: reached, tries });
                tries
            }
        };
        let rows = self.until().unwrap_or(reached) - from;
        match rows.0 {
            ..=1 if tries >= attempts => Next::GiveUp(tries),
            ..=1 => Next::Again(tries),
            _ if tries < WHOLE_TRIES.min(attempts) => Next::Again(tries),
            rows => {
                self.bounds.push(Bound { until: from + Rows(rows / 2), tries });
                Next::Fewer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Runs rows `0..rows` in slices of `slice`, as a worker does; gives the rows that were given up, those that passed,
    /// and how often each was called.
    fn run(rows: u64, slice: u64, poison: &BTreeSet<u64>, attempts: u32) -> (Vec<u64>, Vec<u64>, Vec<u32>) {
        let (mut bisect, mut at) = (Bisect::default(), 0);
        let (mut given_up, mut passed, mut calls) = (Vec::new(), Vec::new(), vec![0; rows as usize]);
        while at < rows {
            let until = bisect.until().map_or(rows, |until| until.0);
            let to = (at + slice).min(until);
            (at..to).for_each(|row| calls[row as usize] += 1);
            if !(at..to).any(|row| poison.contains(&row)) {
                passed.extend(at..to);
                at = to;
                bisect.on_passed(Rows(at));
            } else if let Next::GiveUp(_) = bisect.on_failed(Rows(at), Rows(to), attempts) {
                given_up.push(at);
                at += 1;
                bisect.on_passed(Rows(at));
            }
        }
        (given_up, passed, calls)
    }

    #[test]
    fn one_row_of_ten_thousand_is_found() {
        let (given_up, passed, calls) = run(10_000, 10_000, &[17].into(), 4);
        assert_eq!((given_up, passed.len()), (vec![17], 9_999));
        assert_eq!(calls.iter().max(), Some(&16), "2 + log2(10,000)");
    }

    #[test]
    fn a_row_alone_has_all_its_attempts() {
        assert_eq!(run(1, 1, &[0].into(), 4), (vec![0], vec![], vec![4]));
        assert_eq!(run(1, 1, &[0].into(), 1), (vec![0], vec![], vec![1]));
    }

    #[test]
    fn rows_that_fail_by_chance_are_not_halved() {
        let mut bisect = Bisect::default();
        assert_eq!(bisect.on_failed(Rows(5), Rows(100), 4), Next::Again(1));
        assert_eq!(bisect.until(), Some(Rows(100)));
        bisect.on_passed(Rows(100));
        assert_eq!(bisect.until(), None);
    }

    proptest! {
        /// Whatever rows are at fault: just they are given up, all others pass once, in order, and none is called more often
        /// than `2 + log2(n)` times, or as often as each may be.
        #[test]
        fn just_the_rows_at_fault_are_given_up(
            rows in 1u64..700,
            slice in 1u64..800,
            poison in prop::collection::btree_set(0u64..700, 0..12),
            attempts in 1u32..6,
        ) {
            let (given_up, passed, calls) = run(rows, slice, &poison, attempts);
            let (bad, good): (Vec<u64>, Vec<u64>) = (0..rows).partition(|row| poison.contains(row));
            prop_assert_eq!(given_up, bad);
            prop_assert_eq!(passed, good);
            let most = 2 + slice.min(rows).next_power_of_two().ilog2();
            prop_assert!(calls.iter().all(|calls| *calls <= most.max(attempts)), "{:?} > {}", calls.iter().max(), most);
        }
    }
}
