//! Who uses the folder of a head or a node: one process at a time. Two with one identity would push each other out.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The file that is locked. It is empty, and stays.
const LOCK_FILE: &str = "in-use";

/// Held by a process as long as it uses the folder; the system lets go of it with the process.
pub(super) type FolderLock = Arc<File>;

/// Takes the folder for this process. Where the file system knows no locks, nobody is kept out.
///
/// # Errors
/// If another process has it, or the file cannot be made.
pub(super) fn lock(dir: &Path, what: &str) -> Result<FolderLock> {
    let path = dir.join(LOCK_FILE);
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|cause| Error::identity(format!("cannot write {}", path.display()), cause))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let reason = format!("another process uses it; a second {what} needs a folder of its own");
            Err(Error::identity(format!("{} cannot be used", dir.display()), reason))
        }
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Arc::new(file)),
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
        assert!(lock(dir.path(), "node").is_ok());
    }
}
