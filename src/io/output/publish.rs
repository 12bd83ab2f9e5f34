//! Making parts visible: names first, durable in the ledger, then links that can be made again after any crash.

use std::io;
use std::path::{Path, PathBuf};

use mobula_actors::runtime::Disk;
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::names::{next_number, number_of, part_name, visible_names};
use super::{OutputDir, WriteMode};
use crate::io::error::{IoError, IoResult};

/// Which part gets which name, and which old files go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Names {
    /// Files in the job's folder of parts, and their names in the output directory.
    pub(super) parts: Vec<(String, String)>,
    /// Files of an earlier job that are replaced.
    pub(super) replaces: Vec<String>,
}

impl Names {
    /// Names for parts in this order. Who does not append has the directory for himself and begins at 0, whatever is there
    /// by now: another job that wrote since the last look is then met at a name that is taken, not passed by.
    pub(super) fn choose(disk: &dyn Disk, output: &OutputDir, parts: &[String], given: &Self) -> IoResult<Self> {
        let first = match output.mode {
            // Names that were given are not all there: a loss of power takes some back.
            WriteMode::Append => {
                let given = given.parts.iter().filter_map(|(_, name)| number_of(name, output.format)).max();
                next_number(disk, &output.dir, output.format)?.max(given.map_or(0, |last| last.saturating_add(1)))
            }
            WriteMode::Error | WriteMode::Overwrite => 0,
        };
        let replaces = match output.mode {
            WriteMode::Overwrite => visible_names(disk, &output.dir)?,
            WriteMode::Error | WriteMode::Append => Vec::new(),
        };
        let named = (first..).zip(parts).map(|(number, part)| (part.clone(), part_name(number, output.format)));
        Ok(Self { parts: named.collect(), replaces })
    }
}

/// The change of an output directory; dropped before it is done, it undoes what this process did of it.
pub(super) struct Change<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    folder: &'a Folder,
    linked: Vec<PathBuf>,
    /// Where files were that were moved, and where they are now.
    moved: Vec<(PathBuf, PathBuf)>,
    done: bool,
}

/// What came of giving a part its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Linked {
    Yes,
    /// Somebody else's file has the name.
    Taken,
}

impl<'a> Change<'a> {
    pub(super) fn new(disk: &'a dyn Disk, dir: &'a Path, folder: &'a Folder) -> Self {
        Self { disk, dir, folder, linked: Vec::new(), moved: Vec::new(), done: false }
    }

    /// Old files are moved, not deleted, as long as the new ones are not all in place. What is ours already stays: a crash
    /// may have come between.
    pub(super) fn move_away(&mut self, names: &Names) -> IoResult<()> {
        let away = self.folder.replaced();
        if names.replaces.is_empty() {
            return Ok(());
        }
        self.disk.create_dir_all(&away).map_err(|e| IoError::write(&away, e))?;
        // Files that are moved into it have no other name.
        let folder = self.folder.path();
        self.disk.sync_dir(folder).map_err(|e| IoError::write(folder, e))?;
        for name in &names.replaces {
            let (from, to) = (self.dir.join(name), away.join(name));
            let moved = match (self.disk.exists(&from), self.disk.exists(&to)) {
                (true, false) => self.disk.rename(&from, &to),
                // Power was lost while it was moved: it has both names.
                (true, true) if self.disk.is_same(&from, &to).unwrap_or(false) => self.disk.remove_file(&from),
                _ => continue,
            };
            moved.map_err(|e| IoError::write(&from, e))?;
            self.moved.push((from, to));
        }
        Ok(())
    }

    /// Gives a part its name, unless it has it already.
    pub(super) fn link(&mut self, part: &str, name: &str) -> IoResult<Linked> {
        let (from, to) = (self.folder.parts().join(part), self.dir.join(name));
        match link(self.disk, &from, &to) {
            Ok(Way::Linked) => {
                self.linked.push(to);
                Ok(Linked::Yes)
            }
            Ok(Way::Moved) => {
                // Undone, it must not be removed: there is no other name.
                self.moved.push((from, to));
                Ok(Linked::Yes)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let ours = self.disk.is_same(&from, &to).unwrap_or(false);
                Ok(if ours { Linked::Yes } else { Linked::Taken })
            }
            // Moved rather than linked, before a crash.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.disk.exists(&to) => Ok(Linked::Yes),
            Err(error) => Err(IoError::write(&to, error)),
        }
    }

    /// Makes the names durable. From here on they stay.
    pub(super) fn keep(&mut self) -> IoResult<()> {
        self.disk.sync_dir(self.dir).map_err(|e| IoError::write(self.dir, e))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        for path in &self.linked {
            let _ = self.disk.remove_file(path);
        }
        for (from, to) in &self.moved {
            let _ = self.disk.rename(to, from);
        }
    }
}

/// How a file got its name.
enum Way {
    Linked,
    Moved,
}

/// Gives a file a second name, never one that is taken. Where the file system has no links the file is renamed, after a
/// look whether the name is free: another writer between the two is then not noticed.
fn link(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<Way> {
    match disk.link(from, to) {
        Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Err(e),
        Err(_) if disk.exists(to) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => disk.rename(from, to).map(|()| Way::Moved),
        Ok(()) => Ok(Way::Linked),
    }
}
