//! Giving up a job that did not finish: what readers see of it goes, what it had moved away comes back, and only then its
//! ledger and its parts go. The ledger stays until all of that is durable, so each step can be done again after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use mobula_actors::ledger::{LedgerError, Record};
use mobula_actors::runtime::Disk;

use super::folder::Folder;
use super::names::visible_names;
use super::recorder::{Note, PartRecord, read_back};
use super::verify::sum;
use crate::io::error::{IoError, IoResult};

/// What a job that did not finish changed of what readers see.
#[derive(Debug, Default)]
pub(super) struct Traces {
    own: Vec<Own>,
    /// Files that it moved away.
    replaced: Vec<String>,
}

/// A part that readers see.
#[derive(Debug)]
struct Own {
    name: String,
    /// What it was called among the hidden parts, if it was moved from there rather than linked.
    moved: Option<String>,
}

/// Why a ledger does not say what a job has finished: it is damaged, or of another version.
pub(super) fn is_unreadable(error: &IoError) -> bool {
    matches!(error, IoError::Ledger(LedgerError::Damaged { .. } | LedgerError::Foreign { .. }))
}

/// Looks for what the job changed. The caller holds the folder.
///
/// # Errors
/// If that cannot be told for sure.
pub(super) fn traces(disk: &dyn Disk, dir: &Path, folder: &Folder) -> IoResult<Traces> {
    if disk.exists(&folder.manifest_path()) {
        let reason = "it has finished, and its manifest cannot be read by this version; use the version that wrote it";
        return Err(stays(folder, reason.to_owned()));
    }
    let own = match noted(disk, folder) {
        Ok(noted) => noted.own(disk, dir, folder)?,
        Err(error) if is_unreadable(&error) => own_by_links(disk, dir, folder)?,
        Err(error) => return Err(error),
    };
    let traces = Traces { own, replaced: list(disk, &folder.replaced())? };
    traces.check_places(disk, dir, folder)?;
    Ok(traces)
}

impl Traces {
    /// Makes of the names that readers see, and where their files are, those that they will see without the job.
    pub(super) fn leave(&self, folder: &Folder, seen: &mut BTreeMap<String, PathBuf>) {
        for own in &self.own {
            seen.remove(&own.name);
        }
        let replaced = self.replaced.iter().map(|name| (name.clone(), folder.replaced().join(name)));
        seen.extend(replaced);
    }

    /// That nobody else has a name that comes back.
    fn check_places(&self, disk: &dyn Disk, dir: &Path, folder: &Folder) -> IoResult<()> {
        let own: BTreeSet<&String> = self.own.iter().map(|own| &own.name).collect();
        for name in self.replaced.iter().filter(|name| !own.contains(name)) {
            let (from, to) = (folder.replaced().join(name), dir.join(name));
            if disk.exists(&to) && !disk.is_same(&from, &to).map_err(|e| IoError::read(&to, e))? {
                let reason =
                    format!("it had moved {name:?} away, and another file has that name now; move it elsewhere");
                return Err(stays(folder, reason));
            }
        }
        Ok(())
    }

    /// Does it, and removes the folder.
    pub(super) fn give_up(&self, disk: &dyn Disk, dir: &Path, folder: &Folder) -> IoResult<()> {
        for Own { name, moved } in &self.own {
            let seen = dir.join(name);
            let gone = match moved {
                Some(part) => disk.rename(&seen, &folder.parts().join(part)),
                None => disk.remove_file(&seen),
            };
            gone.map_err(|e| IoError::write(&seen, e))?;
        }
        for name in &self.replaced {
            let (from, to) = (folder.replaced().join(name), dir.join(name));
            // Both names, if power was lost while it was moved.
            let back = if disk.exists(&to) { disk.remove_file(&from) } else { disk.rename(&from, &to) };
            back.map_err(|e| IoError::write(&to, e))?;
        }
        // Also what an earlier try did, which nobody made durable.
        for dir in [dir, &folder.parts(), &folder.replaced()] {
            match disk.sync_dir(dir) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                synced => synced.map_err(|e| IoError::write(dir, e))?,
            }
        }
        folder.forget(disk)?;
        folder.remove(disk);
        Ok(())
    }
}

/// What a ledger says of names.
#[derive(Default)]
struct Noted {
    parts: BTreeMap<String, PartRecord>,
    /// All names that parts were to get, also those that they did not keep.
    names: Vec<(String, String)>,
}

fn noted(disk: &dyn Disk, folder: &Folder) -> IoResult<Noted> {
    let mut noted = Noted::default();
    for record in folder.records(disk)? {
        match record {
            Record::Committed { parts, .. } => {
                for part in parts {
                    let part: PartRecord = read_back(&part)?;
                    noted.parts.insert(part.file.clone(), part);
                }
            }
            Record::Noted(note) => match read_back::<Note>(&note)? {
                Note::Names(names) | Note::MoreNames(_, names) => noted.names.extend(names.parts),
            },
            Record::Begun { .. } | Record::GaveUp { .. } | Record::Skipped(_) => {}
        }
    }
    Ok(noted)
}

impl Noted {
    fn own(&self, disk: &dyn Disk, dir: &Path, folder: &Folder) -> IoResult<Vec<Own>> {
        let mut own = BTreeMap::new();
        for (part, name) in &self.names {
            let (hidden, seen) = (folder.parts().join(part), dir.join(name));
            let moved = match disk.is_same(&hidden, &seen) {
                Ok(true) => None,
                Ok(false) => continue,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let is_part = self.is_part(disk, part, &seen).map_err(|e| IoError::read(&seen, e))?;
                    if disk.exists(&hidden) || !is_part {
                        continue;
                    }
                    Some(part.clone())
                }
                Err(error) => return Err(IoError::read(&seen, error)),
            };
            own.insert(name, moved);
        }
        Ok(own.into_iter().map(|(name, moved)| Own { name: name.clone(), moved }).collect())
    }

    /// Whether a file is the part, by what is in it: where a file system has no links, there is no other way to tell.
    fn is_part(&self, disk: &dyn Disk, part: &str, seen: &Path) -> io::Result<bool> {
        let Some(part) = self.parts.get(part) else { return Ok(false) };
        match disk.len(seen) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            len => Ok(len? == part.bytes && sum(disk, seen)? == (part.bytes, part.checksum)),
        }
    }
}

/// The files that readers see and that are among the hidden parts too, if nothing is left that could be a part as well:
/// without its ledger the job has no other way to tell.
fn own_by_links(disk: &dyn Disk, dir: &Path, folder: &Folder) -> IoResult<Vec<Own>> {
    let length = |path: &Path| disk.len(path).map_err(|e| IoError::read(path, e));
    let mut by_length = BTreeMap::<u64, Vec<PathBuf>>::new();
    for part in list(disk, &folder.parts())? {
        let part = folder.parts().join(part);
        by_length.entry(length(&part)?).or_default().push(part);
    }
    let others = known(disk, dir, folder)?;
    let mut own = Vec::new();
    for name in visible_names(disk, dir)? {
        let seen = dir.join(&name);
        let parts = by_length.get(&disk.len(&seen).unwrap_or(u64::MAX)).map(Vec::as_slice).unwrap_or_default();
        let mut is_own = false;
        for part in parts {
            is_own |= disk.is_same(part, &seen).map_err(|e| IoError::read(&seen, e))?;
        }
        if is_own {
            own.push(Own { name, moved: None });
        } else if !others.contains(&name) {
            let reason = format!(
                "its ledger is damaged, so nobody can tell whether {name:?} is its own; write to another directory, or remove what is its own, and this folder"
            );
            return Err(stays(folder, reason));
        }
    }
    Ok(own)
}

/// Names of other jobs.
fn known(disk: &dyn Disk, dir: &Path, but: &Folder) -> IoResult<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    for (_, folder) in Folder::all(disk, dir)?.into_iter().filter(|(_, folder)| folder.path() != but.path()) {
        match folder.manifest(disk)? {
            Some(manifest) => known.extend(manifest.files.into_iter().map(|file| file.name)),
            None => match noted(disk, &folder) {
                Ok(noted) => known.extend(noted.names.into_iter().map(|(_, name)| name)),
                Err(error) if is_unreadable(&error) => {}
                Err(error) => return Err(error),
            },
        }
    }
    Ok(known)
}

fn list(disk: &dyn Disk, dir: &Path) -> IoResult<Vec<String>> {
    match disk.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|e| IoError::read(dir, e)),
    }
}

fn stays(folder: &Folder, reason: String) -> IoError {
    IoError::OutputStays { folder: folder.path().to_owned(), reason }
}
