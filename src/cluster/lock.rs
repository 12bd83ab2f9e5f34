//! Who uses the folder of a head or a node: one process at a time. Two with one identity would push each other out.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The file that is locked. It is empty, and stays.
const LOCK_FILE: &str = "in-use";

/// Held by a process as long as it uses the folder; the system lets go of it with the process.
pub(super) type FolderLock = Arc<Option<File>>;

/// Takes the folder for this process. Where it cannot be written (an identity that was mounted read-only) or the file
/// system knows no locks, nobody is kept out.
///
/// # Errors
/// If another process has it.
pub(super) fn lock(dir: &Path, what: &str) -> Result<FolderLock> {
    let path = dir.join(LOCK_FILE);
    let file = match File::options().create(true).append(true).open(&path) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "no other process is kept from this folder");
            return Ok(Arc::new(None));
        }
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let reason = format!("another process uses it; a second {what} needs a folder of its own");
            Err(Error::identity(format!("{} cannot be used", dir.display()), reason))
        }
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Arc::new(Some(file))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_used_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path(), "node").unwrap();
        let error = lock(dir.path(), "node").unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert_eq!(cause, "another process uses it; a second node needs a folder of its own");
        drop(first);
        assert!(lock(dir.path(), "node").is_ok_and(|lock| lock.is_some()));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_used_without_a_lock() {
        let dir = tempfile::tempdir().unwrap();
        // Also for the superuser of tests: a folder in the file's place.
        std::fs::create_dir(dir.path().join(LOCK_FILE)).unwrap();
        assert!(lock(dir.path(), "node").is_ok_and(|lock| lock.is_none()));
    }
}
