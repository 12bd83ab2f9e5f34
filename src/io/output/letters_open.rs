//! Which dead letters beside an output are open: those of jobs that have finished, whose rows no later job has replayed.
//! The decision is pure.

use std::path::Path;

use mobula_actors::runtime::{Disk, SystemDisk};

use super::folder::{Folder, Lock};
use super::plan::JobPlan;
use super::target::is_on_store;
use super::{HIDDEN, WriteMode};
use crate::io::error::{IoError, IoResult};
use crate::io::replay::OpenLetters;
use crate::io::replay::kept::Kept;

/// What counts of a job beside an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LetterJob {
    pub(super) job: u64,
    /// Rows that it gave up, if it has finished.
    pub(super) given_up: Option<u64>,
    pub(super) mode: WriteMode,
    /// Jobs whose letters it replays.
    pub(super) replays: Vec<u64>,
}

/// The job that replayed the letters of this one, if one has finished with them.
pub(super) fn replayed_by(job: u64, jobs: &[LetterJob]) -> Option<u64> {
    let by = jobs.iter().find(|other| other.given_up.is_some() && other.replays.contains(&job));
    by.map(|other| other.job)
}

/// The last job that has finished in place of this one, if one has: by overwriting it, or since what it wrote was gone.
pub(super) fn replaced_by(job: u64, jobs: &[LetterJob]) -> Option<u64> {
    let overwrote = |other: &&LetterJob| other.given_up.is_some() && other.mode != WriteMode::Append;
    jobs.iter().filter(overwrote).map(|other| other.job).max().filter(|last| *last > job)
}

/// The jobs whose letters are open. What an overwrite has replaced is gone with its letters.
pub(super) fn open(jobs: &[LetterJob]) -> Vec<u64> {
    let is_open = |job: &&LetterJob| {
        replaced_by(job.job, jobs).is_none()
            && job.given_up.is_some_and(|rows| rows > 0)
            && replayed_by(job.job, jobs).is_none()
    };
    jobs.iter().filter(is_open).map(|job| job.job).collect()
}

/// All jobs beside an output, by what counts here.
pub(super) fn jobs(disk: &dyn Disk, dir: &Path) -> IoResult<Vec<LetterJob>> {
    let job = |(job, folder): (u64, Folder)| {
        let Some(plan) = folder.plan(disk)? else { return Ok(None) };
        let given_up = folder.manifest(disk)?.map(|manifest| manifest.given_up);
        Ok(Some(LetterJob { job, given_up, mode: plan.mode, replays: plan.replays }))
    };
    Folder::all(disk, dir)?.into_iter().filter_map(|found| job(found).transpose()).collect()
}

/// The open letters beside an output, of all its jobs or of one.
///
/// # Errors
/// If there are none, saying why; if they cannot be read.
pub(crate) fn open_letters(dir: &Path, only: Option<u64>) -> IoResult<OpenLetters> {
    let disk = &SystemDisk;
    if is_on_store(dir) {
        return Err(IoError::LettersOnStore { path: dir.to_owned() });
    }
    let jobs = jobs(disk, dir)?;
    let none = |reason, all_done| IoError::NoLetters { dir: dir.to_owned(), reason, all_done };
    if jobs.is_empty() {
        return Err(IoError::NoLedger { dir: dir.to_owned() });
    }
    let open: Vec<u64> = open(&jobs).into_iter().filter(|job| only.is_none_or(|only| only == *job)).collect();
    if open.is_empty() {
        let asked = || jobs.iter().filter(|job| only.is_none_or(|only| only == job.job));
        let all_done = asked().count() > 0 && asked().all(|job| job.given_up.is_some());
        return Err(none(why_none(&jobs, only), all_done));
    }
    let absolute = std::path::absolute(dir).map_err(|e| IoError::read(dir, e))?;
    let kept = |job: u64| {
        let path = dir.join(HIDDEN).join(job.to_string());
        let kept = Folder::at(path).replay(disk)?.and_then(|bytes| Kept::from_bytes(&bytes));
        Ok((
            job,
            kept.ok_or_else(|| none(format!("how job {job} read its input was not kept by this version"), false))?,
        ))
    };
    Ok(OpenLetters { dir: absolute, jobs: open.into_iter().map(kept).collect::<IoResult<_>>()? })
}

/// The commands that began jobs whose letters are open: their numbers, and the flags, if one did.
///
/// # Errors
/// As [`open_letters`].
pub(crate) fn commands_of(dir: &Path, only: Option<u64>) -> IoResult<Vec<(u64, Option<Vec<String>>)>> {
    let command = |(job, _): (u64, Kept)| {
        let plan = Folder::at(dir.join(HIDDEN).join(job.to_string())).plan(&SystemDisk)?;
        Ok((job, plan.and_then(|plan| plan.command).map(|command| command.args)))
    };
    open_letters(dir, only)?.jobs.into_iter().map(command).collect()
}

/// Why no letter is open.
fn why_none(jobs: &[LetterJob], only: Option<u64>) -> String {
    let mut asked = jobs.iter().filter(|job| only.is_none_or(|only| only == job.job)).peekable();
    if let (None, Some(only)) = (asked.peek(), only) {
        return format!("there is no job {only}");
    }
    let asked: Vec<&LetterJob> = asked.collect();
    if let Some((job, by)) = asked.iter().find_map(|job| Some((job.job, replayed_by(job.job, jobs)?))) {
        return format!("those of job {job} were replayed by job {by}");
    }
    match asked.iter().find(|job| job.given_up.is_none()) {
        Some(job) => format!("job {} has not finished; the command that began it goes on with it", job.job),
        None => "no row was given up, or what was written with them has been replaced".to_owned(),
    }
}

/// Keeps others from replaying the same letters, and checks that what replays them goes with what is there.
///
/// # Errors
/// If somebody does already, or has done so; if the output is of other columns or another format.
pub(super) fn take(disk: &dyn Disk, dir: &Path, shown: &Path, plan: &JobPlan) -> IoResult<Vec<Lock>> {
    let mut locks = Vec::new();
    for job in &plan.replays {
        let folder = Folder::at(dir.join(HIDDEN).join(job.to_string()));
        let held = folder.hold(disk)?.ok_or_else(|| IoError::OutputRuns { dir: shown.to_owned() })?;
        locks.push(held.beginning());
        let before = folder.plan(disk)?;
        if let Some(difference) = before.as_ref().and_then(|before| before.output_differs(plan)) {
            return Err(IoError::ReplayDiffers { dir: shown.to_owned(), difference });
        }
    }
    if locks.is_empty() {
        return Ok(locks);
    }
    if plan.mode != WriteMode::Append {
        return Err(IoError::ReplayAppends { dir: shown.to_owned() });
    }
    // Under the locks: another process may have been faster.
    let jobs = jobs(disk, dir)?;
    let open = open(&jobs);
    match plan.replays.iter().find(|job| !open.contains(job)) {
        Some(job) => {
            let reason = why_none(&jobs, Some(*job));
            Err(IoError::NoLetters { dir: shown.to_owned(), reason, all_done: true })
        }
        None => Ok(locks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(job: u64, given_up: Option<u64>, mode: WriteMode, replays: &[u64]) -> LetterJob {
        LetterJob { job, given_up, mode, replays: replays.to_vec() }
    }

    fn check(jobs: &[LetterJob], expected: &[u64], why: &str) {
        assert_eq!(open(jobs), expected, "{jobs:?}");
        let reason = if expected.is_empty() { why_none(jobs, None) } else { String::new() };
        assert!(reason.contains(why), "{reason}");
    }

    #[test]
    fn letters_are_open_until_a_job_has_finished_with_them() {
        use WriteMode::{Append, Error, Overwrite};
        let first = || job(0, Some(2), Error, &[]);
        check(&[first()], &[0], "");
        check(&[job(0, Some(0), Error, &[])], &[], "no row was given up");
        check(&[job(0, None, Error, &[])], &[], "job 0 has not finished");
        // Jobs that append have letters of their own.
        check(&[first(), job(1, Some(1), Append, &[])], &[0, 1], "");
        check(&[first(), job(1, None, Append, &[0])], &[0], "");
        check(&[first(), job(1, Some(0), Append, &[0])], &[], "those of job 0 were replayed by job 1");
        check(&[first(), job(1, Some(1), Append, &[0])], &[1], "");
        check(&[first(), job(1, Some(1), Append, &[0]), job(2, Some(0), Append, &[1])], &[], "were replayed");
        check(&[first(), job(1, Some(0), Overwrite, &[])], &[], "has been replaced");
        check(&[first(), job(1, None, Overwrite, &[])], &[0], "");
    }
}
