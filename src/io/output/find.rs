//! Finding the folder that a job works in: the one where it goes on, or a new one. One process at a time looks, removes
//! and begins, so that what was decided still holds when it is done.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use mobula_actors::runtime::Disk;
use mobula_actors::runtime::disk::DiskLock;

use super::decide::{Decision, Earlier, State, decide};
use super::folder::{Folder, HIDDEN, Lock};
use super::manifest::ManifestFile;
use super::plan::JobPlan;
use super::{WriteOptions, Written, give_up, names};
use crate::io::error::{IoError, IoResult};

pub(super) enum Found {
    Folder(Folder, Lock),
    Done(Written),
}

/// The folder that the job works in.
pub(super) fn find(
    disk: &dyn Disk,
    (dir, shown): (&Path, &Path),
    options: &WriteOptions,
    plan: &JobPlan,
) -> IoResult<Found> {
    let _begins = Begins::take(disk, dir, shown)?;
    let (folders, looked) = look_at_all(disk, dir, options.restart)?;
    // Held until all is done: nobody runs meanwhile what is looked at here.
    let (earlier, mut held): (Vec<Earlier>, Vec<Option<Lock>>) = looked.into_iter().unzip();
    let at = |at: usize| folders.get(at).ok_or_else(|| IoError::Internal("a folder that is not listed".into()));
    let remove = match decide(plan, options.restart, &earlier) {
        Decision::Begin { remove } => remove,
        Decision::GoOn(folder) => {
            let lock = held.get_mut(folder).and_then(Option::take);
            let lock = lock.ok_or_else(|| IoError::Internal("a job that goes on is not held".into()))?;
            return Ok(Found::Folder(at(folder)?.clone(), lock.beginning()));
        }
        Decision::Done(folder) => {
            let manifest = at(folder)?.manifest(disk)?.ok_or_else(|| IoError::Internal("no manifest".into()))?;
            return Ok(Found::Done(manifest.written(shown, at(folder)?)));
        }
        Decision::Running(folder) => return Err(runs(shown, earlier.get(folder), plan)),
        Decision::Differs(_, difference) => {
            return Err(IoError::OutputUnfinished { dir: shown.to_owned(), difference });
        }
    };
    let remove = remove.into_iter().map(at).collect::<IoResult<Vec<_>>>()?;
    give_up_all(disk, dir, &remove, options, plan).map_err(|error| explain(error, plan, &earlier))?;
    let (folder, lock) = Folder::make(disk, dir, plan)?;
    Ok(Found::Folder(folder, lock))
}

/// Gives up jobs that did not finish, once it is known that the mode allows what is there without them.
fn give_up_all(
    disk: &dyn Disk,
    dir: &Path,
    folders: &[&Folder],
    options: &WriteOptions,
    plan: &JobPlan,
) -> IoResult<()> {
    let mut seen: BTreeMap<String, PathBuf> =
        names::visible_names(disk, dir)?.into_iter().map(|name| (name.clone(), dir.join(name))).collect();
    let mut traces = Vec::new();
    for folder in folders {
        let found = give_up::traces(disk, dir, folder)?;
        found.leave(folder, &mut seen);
        traces.push(found);
    }
    names::check_seen(disk, dir, seen, options.mode, plan.format)?;
    for (folder, traces) in folders.iter().zip(traces) {
        if folder.has_finished(disk).unwrap_or(true) {
            tracing::warn!(dir = %dir.display(), "what an earlier run had finished is given up");
        }
        traces.give_up(disk, dir, folder)?;
    }
    Ok(())
}

/// Says that a job runs: the same, or another one.
fn runs(shown: &Path, job: Option<&Earlier>, plan: &JobPlan) -> IoError {
    let same = job.and_then(|job| job.plan.as_ref()).is_some_and(|job| job.difference(plan).is_none());
    let dir = shown.to_owned();
    if same { IoError::OutputRunsAlready { dir } } else { IoError::OutputRuns { dir } }
}

/// Of a finished output.
const WHOLE: &str = "; read it, or write it again with mode overwrite";
const IN_PARTS: &str =
    ", but files of it are missing or cut (`mobula verify` lists them); write it again with mode overwrite";

/// Says why the files that are there are not those of this job.
pub(super) fn explain(error: IoError, plan: &JobPlan, earlier: &[Earlier]) -> IoError {
    let last = earlier.iter().rev().find(|job| matches!(job.state, State::Finished { .. }));
    let last_plan = last.and_then(|job| job.plan.as_ref());
    if let (IoError::OutputNotEmpty { dir, .. }, true) = (&error, last_plan.is_some_and(|last| last.does_same(plan))) {
        let is_whole = last.is_some_and(|job| job.state == State::Finished { whole: true });
        let state = if is_whole { WHOLE } else { IN_PARTS };
        return IoError::OutputFinished { dir: dir.clone(), state };
    }
    match (error, last_plan.and_then(|last| last.difference(plan))) {
        (IoError::OutputNotEmpty { dir, .. }, Some(difference)) => IoError::OutputOfAnother { dir, difference },
        (error, _) => error,
    }
}

/// The folders that are there, and how far each job came.
fn look_at_all(disk: &dyn Disk, dir: &Path, restart: bool) -> IoResult<(Vec<Folder>, Vec<(Earlier, Option<Lock>)>)> {
    let mut tries = 0;
    loop {
        let folders: Vec<Folder> = Folder::all(disk, dir)?.into_iter().map(|(_, folder)| folder).collect();
        tries += 1;
        match folders.iter().map(|folder| look(disk, dir, folder, restart)).collect::<IoResult<Vec<_>>>() {
            // A job that has finished nothing takes its folder back when it stops.
            Err(_) if tries < REMOVED_MAX && folders.iter().any(|folder| !disk.exists(folder.path())) => {}
            looked => return Ok((folders, looked?)),
        }
    }
}

/// How far an earlier job came, and the lock on it if nobody works on it. With `restart`, a ledger that cannot be read is
/// work as well: it may be given up.
fn look(disk: &dyn Disk, dir: &Path, folder: &Folder, restart: bool) -> IoResult<(Earlier, Option<Lock>)> {
    let plan = folder.plan(disk)?;
    if let Some(manifest) = folder.manifest(disk)? {
        // Who finished it may have died before this.
        folder.clear(disk);
        let is_there = |file: &ManifestFile| disk.len(&dir.join(&file.name)).is_ok_and(|len| len == file.bytes);
        let state = State::Finished { whole: manifest.files.iter().all(is_there) };
        return Ok((Earlier { plan, state }, None));
    }
    let Some(held) = folder.hold(disk)? else { return Ok((Earlier { plan, state: State::Runs }, None)) };
    // It may have ended since.
    if disk.exists(&folder.manifest_path()) && folder.manifest(disk)?.is_some() {
        return look(disk, dir, folder, restart);
    }
    let work = match folder.has_finished(disk) {
        Err(error) if restart && give_up::is_unreadable(&error) => true,
        work => work?,
    };
    Ok((Earlier { plan, state: State::Stopped { work } }, Some(held)))
}

/// Held by whoever looks at the jobs beside an output: others wait.
struct Begins<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    /// `None` where nothing can be written: then nothing can be removed or begun either.
    lock: Option<DiskLock>,
}

impl<'a> Begins<'a> {
    fn take(disk: &'a dyn Disk, dir: &Path, shown: &Path) -> IoResult<Self> {
        let hidden = dir.join(HIDDEN);
        let path = hidden.join(BEGINS);
        for _ in 0..REMOVED_MAX {
            match disk.create_dir_all(&hidden).and_then(|()| disk.lock_soon(&path)) {
                Ok(Some(lock)) => return Ok(Self { disk, path, lock: Some(lock) }),
                Ok(None) => break,
                // Somebody removes the hidden folder, which was empty.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                    return Ok(Self { disk, path, lock: None });
                }
                Err(error) => return Err(IoError::write(&path, error)),
            }
        }
        Err(IoError::OutputBegins { dir: shown.to_owned() })
    }
}

impl Drop for Begins<'_> {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        // Under the lock: who waits for it sees that the file is gone, and makes another.
        let _ = self.disk.remove_file(&self.path);
        if let Some(hidden) = self.path.parent() {
            // Only if it is empty.
            let _ = self.disk.remove_dir(hidden);
        }
    }
}

/// Locked while somebody looks and begins. No number, so no job.
const BEGINS: &str = "begins";
/// Whoever takes back a job that came to nothing removes the hidden folder: so often in a row, at most.
const REMOVED_MAX: u32 = 100;
