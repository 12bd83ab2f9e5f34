//! The directory that the spilled blocks of one node are in: its own, gone with it, and removed by the next node to start
//! if its process died.
//!
//! A locked file in it says that its node lives. The system lets go of the lock with the process, however that ends, and
//! the lock is seen from other containers too, which a process id is not.

use std::io;
use std::path::{Path, PathBuf};

use crate::runtime::disk::{Disk, DiskLock, SharedDisk};
use crate::runtime::env::Env;

/// What the directories of all nodes begin with.
const PREFIX: &str = "mobula-spill-";
/// The file that is locked.
const LOCK: &str = "in-use";
/// Another node may clean up a directory between the moments when it is made and when it is locked.
const TRIES: usize = 8;

/// The directory of a node, as long as this lives.
pub(super) struct Directory {
    disk: SharedDisk,
    path: PathBuf,
    _lock: DiskLock,
}

impl Directory {
    /// Makes a directory of a new name in `parent`, and `parent` if it is not there.
    pub(super) fn make(disk: &SharedDisk, parent: &Path, env: &dyn Env) -> io::Result<Self> {
        disk.create_dir_all(parent)?;
        for _ in 0..TRIES {
            let path = parent.join(format!("{PREFIX}{:016x}", env.random()));
            if let Some(lock) = take(&**disk, &path)? {
                return Ok(Self { disk: disk.clone(), path, _lock: lock });
            }
        }
        Err(io::Error::other("another process removes each directory that is made"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = remove(&*self.disk, &self.path) {
            let dir = self.path.display();
            tracing::warn!(%error, %dir, "the directory of spilled blocks was not removed; the next start does it");
        }
    }
}

/// Makes and locks a directory; `None` if somebody cleaned it up meanwhile.
fn take(disk: &dyn Disk, path: &Path) -> io::Result<Option<DiskLock>> {
    match disk.create_private_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        made => made?,
    }
    let file = path.join(LOCK);
    match disk.lock(&file) {
        // A lock on a file that was removed meanwhile keeps nobody out.
        Ok(Some(lock)) if disk.exists(&file) => Ok(Some(lock)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what nodes left in `parent` whose processes are gone; how many directories that were. What belongs to other
/// users is left alone.
pub(super) fn clean(disk: &dyn Disk, parent: &Path) -> usize {
    let names = disk.list(parent).unwrap_or_default();
    let left = names.iter().filter(|name| name.starts_with(PREFIX)).filter(|name| {
        let path = parent.join(name);
        let file = path.join(LOCK);
        // Without the file it is being made just now, or it is empty.
        let lock = disk.exists(&file).then(|| disk.lock(&file).ok().flatten()).flatten();
        lock.is_some_and(|_lock| remove(disk, &path).is_ok())
    });
    left.count()
}

/// The locked file goes last: until then the directory can be told from one that is being made.
fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    for name in disk.list(path)?.iter().filter(|name| *name != LOCK) {
        disk.remove_file(&path.join(name))?;
    }
    disk.remove_file(&path.join(LOCK))?;
    disk.remove_dir(path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::runtime::disk::SystemDisk;
    use crate::runtime::env::ManualEnv;

    fn names(parent: &Path) -> Vec<String> {
        SystemDisk.list(parent).expect("it is there")
    }

    #[test]
    fn a_directory_is_its_nodes_own_and_gone_with_it() {
        let parent = tempfile::tempdir().expect("a folder");
        let disk: SharedDisk = Arc::new(SystemDisk);
        let env = ManualEnv::seeded(1);
        let here = parent.path().join("made");
        let one = Directory::make(&disk, &here, &env).expect("made");
        let other = Directory::make(&disk, &here, &env).expect("made");
        std::fs::write(one.path().join("7.block"), "rows").expect("written");
        assert_eq!((names(&here).len(), clean(&*disk, &here)), (2, 0), "both are in use");
        drop(one);
        drop(other);
        assert!(names(&here).is_empty());
    }

    #[test]
    fn what_a_dead_node_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().expect("a folder");
        let dead = parent.path().join(format!("{PREFIX}dead"));
        std::fs::create_dir(&dead).expect("made");
        std::fs::write(dead.join(LOCK), "").expect("written");
        std::fs::write(dead.join("0.block"), "rows").expect("written");
        std::fs::create_dir(parent.path().join(format!("{PREFIX}young"))).expect("made");
        std::fs::write(parent.path().join("others"), "").expect("written");
        assert_eq!(clean(&SystemDisk, parent.path()), 1);
        assert_eq!(names(parent.path()), [format!("{PREFIX}young"), "others".to_owned()]);
    }
}
