//! What a command that writes finds beside its output, and what it does about it: pure.

use super::WriteMode;
use super::plan::JobPlan;

/// A job that wrote to the directory before, or still does.
#[derive(Debug)]
pub(super) struct Earlier {
    /// What it was to do; `None` if that cannot be read any more.
    pub(super) plan: Option<JobPlan>,
    pub(super) state: State,
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A process works on it.
    Runs,
    /// Nobody does. `work` says whether it has finished a part.
    Stopped { work: bool },
    /// It has not finished, and whether a process works on it cannot be told: a job on a store.
    #[cfg_attr(not(feature = "s3"), allow(dead_code, reason = "there are no stores"))]
    Open { work: bool },
    /// It has finished. `whole` says whether its files are there; else somebody removed them.
    Finished { whole: bool },
}

/// What to do. Numbers are positions in the list of earlier jobs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Begin a job, after these folders were removed.
    Begin { remove: Vec<usize> },
    /// Go on with this one.
    GoOn(usize),
    /// This one has done it all already.
    Done(usize),
    /// This one runs.
    Running(usize),
    /// This one did not finish, and does something else.
    Differs(usize, String),
}

/// What becomes of a command whose plan is `now`. `restart` gives up what others did not finish.
pub(super) fn decide(now: &JobPlan, restart: bool, earlier: &[Earlier]) -> Decision {
    let mut remove = Vec::new();
    for (at, job) in earlier.iter().enumerate() {
        let difference = job.plan.as_ref().map_or_else(
            || Some("its plan cannot be read by this version of Mobula".to_owned()),
            |plan| plan.difference(now),
        );
        match (job.state, difference) {
            // Jobs may append side by side, but not the same rows.
            (State::Runs, difference) if appends_beside(job, difference.is_some(), now) => {}
            (State::Runs, _) => return Decision::Running(at),
            (State::Stopped { .. } | State::Open { .. }, _) if restart => remove.push(at),
            (State::Stopped { work: false }, _) => remove.push(at),
            (State::Stopped { .. }, _) if nobody_goes_on(job, now) => remove.push(at),
            (State::Stopped { .. }, Some(difference)) => return Decision::Differs(at, difference),
            (State::Stopped { .. }, None) => return Decision::GoOn(at),
            // Perhaps it runs: then only the same command may take its place.
            (State::Open { .. }, None) if now.unknown().is_some() => remove.push(at),
            (State::Open { .. }, None) => return Decision::GoOn(at),
            // If nobody works on it, nothing is lost.
            (State::Open { work: false }, Some(_)) if appends_beside(job, true, now) => {}
            (State::Open { .. }, Some(difference)) => return Decision::Differs(at, difference),
            (State::Finished { .. }, _) => {}
        }
    }
    let done = |job: &Earlier| {
        let same = job.plan.as_ref().is_some_and(|plan| plan.difference(now).is_none());
        same && job.state == State::Finished { whole: true }
    };
    // Its names and sizes may be there again, with other rows.
    let replaced = |job: usize| earlier.iter().skip(job + 1).any(may_replace);
    let counts = !restart && now.mode == WriteMode::Error && now.unknown().is_none();
    match earlier.iter().rposition(done).filter(|job| counts && !replaced(*job)) {
        Some(at) => Decision::Done(at),
        None => Decision::Begin { remove },
    }
}

/// Whether a job stopped that no command can go on with, by what it holds, and that may be this one.
fn nobody_goes_on(job: &Earlier, now: &JobPlan) -> bool {
    let is_unknown = |plan: &JobPlan| plan.unknown().is_some();
    is_unknown(now) && job.plan.as_ref().is_some_and(is_unknown)
}

/// Whether a job that runs and this one may add to the same output at once: if both only add, and not the same rows. Of
/// code that cannot be compared the caller knows.
fn appends_beside(job: &Earlier, differs: bool, now: &JobPlan) -> bool {
    let same_rows = !differs && now.unknown().is_none();
    job.plan.as_ref().is_some_and(|plan| plan.appends_beside(now)) && !same_rows && !replays_too(job, now)
}

/// Whether a job has finished that has, for all that is known, replaced what was there before.
fn may_replace(job: &Earlier) -> bool {
    let overwrote = job.plan.as_ref().is_none_or(|plan| plan.mode == WriteMode::Overwrite);
    overwrote && matches!(job.state, State::Finished { .. })
}

/// Whether both replay dead letters of one job.
fn replays_too(job: &Earlier, now: &JobPlan) -> bool {
    let replays = job.plan.as_ref().map(|plan| plan.replays.as_slice()).unwrap_or_default();
    replays.iter().any(|job| now.replays.contains(job))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::output::{Format, WriteOptions};

    fn plan(mode: WriteMode, format: Format) -> JobPlan {
        JobPlan::nothing(format, &WriteOptions::default().mode(mode))
    }

    fn check(mode: WriteMode, restart: bool, earlier: &[(Format, State)], expected: Decision) {
        let earlier: Vec<_> =
            earlier.iter().map(|(format, state)| Earlier { plan: Some(plan(mode, *format)), state: *state }).collect();
        assert_eq!(decide(&plan(mode, Format::Parquet), restart, &earlier), expected, "{earlier:?}");
    }

    const WORK: State = State::Stopped { work: true };
    const NONE: State = State::Stopped { work: false };
    const WHOLE: State = State::Finished { whole: true };

    #[test]
    fn the_same_command_goes_on_and_is_done_in_the_end() {
        use Format::Parquet;
        use WriteMode::{Append, Error, Overwrite};
        let begin = || Decision::Begin { remove: Vec::new() };
        for mode in [Error, Append, Overwrite] {
            check(mode, false, &[], begin());
            check(mode, false, &[(Parquet, WORK)], Decision::GoOn(0));
            check(mode, false, &[(Parquet, NONE)], Decision::Begin { remove: vec![0] });
            check(mode, false, &[(Parquet, State::Runs)], Decision::Running(0));
            check(mode, true, &[(Parquet, WHOLE), (Parquet, WORK)], Decision::Begin { remove: vec![1] });
        }
        check(Error, false, &[(Parquet, WHOLE)], Decision::Done(0));
        check(Error, false, &[(Parquet, State::Finished { whole: false })], begin());
        // Those add to or replace what a finished job wrote.
        check(Append, false, &[(Parquet, WHOLE)], begin());
        check(Overwrite, false, &[(Parquet, WHOLE)], begin());
    }

    #[test]
    fn jobs_that_append_run_side_by_side_unless_they_write_the_same_rows() {
        let runs = |plan: Option<JobPlan>| vec![Earlier { plan, state: State::Runs }];
        let of = |mode, format| Some(plan(mode, format));
        let beside = |plan, now: &JobPlan| decide(now, false, &runs(plan)) == Decision::Begin { remove: Vec::new() };
        let now = plan(WriteMode::Append, Format::Parquet);
        assert!(beside(of(WriteMode::Append, Format::Csv), &now));
        assert!(!beside(of(WriteMode::Append, Format::Parquet), &now), "the same rows");
        assert!(!beside(of(WriteMode::Overwrite, Format::Csv), &now), "it takes all that is there for old");
        assert!(!beside(of(WriteMode::Error, Format::Csv), &now), "it has the output for itself");
        assert!(!beside(None, &now), "nobody knows what it does");
        let mut closure = now.clone();
        closure.make_unknown();
        assert!(beside(Some(closure.clone()), &closure), "nobody can say that they are the same");
        let (mut one, mut other) = (now.clone(), now);
        (one.replays, other.replays) = (vec![3], vec![3, 4]);
        assert!(!beside(Some(one), &other), "both replay job 3");
    }

    #[test]
    fn code_that_cannot_be_compared_begins_again_and_gives_up_only_its_like() {
        let mut closure = plan(WriteMode::Error, Format::Parquet);
        let stopped = |plan: &JobPlan| [Earlier { plan: Some(plan.clone()), state: WORK }];
        let known = closure.clone();
        closure.make_unknown();
        assert_eq!(decide(&closure, false, &stopped(&closure)), Decision::Begin { remove: vec![0] });
        assert!(matches!(decide(&closure, false, &stopped(&known)), Decision::Differs(0, _)));
        assert!(matches!(decide(&known, false, &stopped(&closure)), Decision::Differs(0, _)));
    }

    #[test]
    fn what_was_replaced_since_is_not_done() {
        let finished = |mode, format| Earlier { plan: Some(plan(mode, format)), state: WHOLE };
        let now = plan(WriteMode::Error, Format::Parquet);
        let first = || finished(WriteMode::Error, Format::Parquet);
        let begin = Decision::Begin { remove: Vec::new() };
        assert_eq!(decide(&now, false, &[first(), finished(WriteMode::Append, Format::Csv)]), Decision::Done(0));
        assert_eq!(decide(&now, false, &[first(), finished(WriteMode::Overwrite, Format::Parquet)]), begin);
        assert_eq!(decide(&now, false, &[finished(WriteMode::Overwrite, Format::Csv), first()]), Decision::Done(1));
        assert_eq!(decide(&now, false, &[first(), Earlier { plan: None, state: WHOLE }]), begin);
    }

    #[test]
    fn another_command_is_told_what_differs() {
        let differs = |at| Decision::Differs(at, "the format was Csv and is Parquet".to_owned());
        check(WriteMode::Error, false, &[(Format::Csv, WORK)], differs(0));
        check(WriteMode::Append, false, &[(Format::Csv, State::Runs), (Format::Csv, WORK)], differs(1));
        check(WriteMode::Append, false, &[(Format::Csv, State::Runs)], Decision::Begin { remove: Vec::new() });
        check(WriteMode::Error, false, &[(Format::Csv, State::Runs)], Decision::Running(0));
        check(WriteMode::Error, false, &[(Format::Csv, NONE)], Decision::Begin { remove: vec![0] });
    }

    #[test]
    fn where_nobody_knows_whether_a_job_runs_only_the_same_command_or_a_restart_takes_its_place() {
        use WriteMode::{Append, Error};
        let differs = || Decision::Differs(0, "the format was Csv and is Parquet".to_owned());
        let begin = |remove| Decision::Begin { remove };
        for work in [false, true] {
            let open = State::Open { work };
            for mode in [Error, Append] {
                check(mode, false, &[(Format::Parquet, open)], Decision::GoOn(0));
                check(mode, true, &[(Format::Csv, open)], begin(vec![0]));
            }
            check(Error, false, &[(Format::Csv, open)], differs());
            check(Append, false, &[(Format::Csv, open)], if work { differs() } else { begin(Vec::new()) });
        }
    }
}
