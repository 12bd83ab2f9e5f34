//! The disk as the engine sees it: what must survive a crash goes through here, so that a test can bring a disk that
//! loses what was not synced.
//!
//! A name is durable once its directory is synced, bytes once their file is; the two are separate, as on POSIX systems.

use std::any::Any;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A file system. All paths are as the system takes them.
pub trait Disk: Send + Sync + 'static {
    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// What the system says, here and below.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes a file to write, never one that is there.
    ///
    /// # Errors
    /// `AlreadyExists` if it is there.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to write behind its end; made if it is not there.
    ///
    /// # Errors
    /// What the system says.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to read from its beginning.
    ///
    /// # Errors
    /// What the system says.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;

    /// The size of a file, in bytes.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Gives a file a second name, never one that is taken.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken; another error where the file system has no links.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Moves a file or directory; a file that has the name is replaced.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Whether two names lead to one file.
    ///
    /// # Errors
    /// `NotFound` if one is not there.
    fn is_same(&self, one: &Path, other: &Path) -> io::Result<bool>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the system says.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable. Does nothing where directories cannot be opened.
    ///
    /// # Errors
    /// What the system says. A failed sync is not repeated: what was not durable then may be lost for good.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a directory that only this user may look into; the one above it is there.
    ///
    /// # Errors
    /// `AlreadyExists` if it is there.
    fn create_private_dir(&self, dir: &Path) -> io::Result<()> {
        if self.exists(dir) { Err(io::ErrorKind::AlreadyExists.into()) } else { self.create_dir_all(dir) }
    }

    /// Locks a file, made if it is not there, against other processes; `None` if one has it. The lock ends with the
    /// process, or when it is dropped. A disk without locks says that nobody else uses it.
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        self.open_append(path).map(|file| Some(Box::new(Mutex::new(file)) as DiskLock))
    }

    /// The same of a file that is locked for moments only: waits a while (10 s) for whoever has it.
    ///
    /// # Errors
    /// What the system says.
    fn lock_soon(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        self.lock(path)
    }

    /// Bytes that may still be written to the file system of a directory. A disk that does not know says that there is no
    /// limit.
    ///
    /// # Errors
    /// What the system says.
    fn free(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    /// Writes the first bytes of a file again, as they are, so that the next sync brings them to the disk also where an
    /// earlier one failed. Does nothing on a disk that forgets nothing after such a failure.
    ///
    /// # Errors
    /// What the system says.
    fn write_again(&self, _path: &Path, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    /// Whether the name is that of a file itself, not of a directory, nor of a link where the disk has those.
    fn is_file(&self, path: &Path) -> bool {
        self.len(path).is_ok() && self.list(path).is_err()
    }

    /// Whether something has the name.
    fn exists(&self, path: &Path) -> bool {
        self.len(path).is_ok() || self.list(path).is_ok()
    }
}

/// A file that is being written.
pub trait DiskFile: Write + Send {
    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the system says. A failed sync is not repeated: what was not durable then may be lost for good.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to so many bytes; what is written next comes behind them.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;

    /// The bytes that the file has now, whoever wrote them.
    ///
    /// # Errors
    /// What the system says.
    fn size(&mut self) -> io::Result<u64>;
}

/// A lock on a file, held as long as it lives.
pub type DiskLock = Box<dyn Any + Send + Sync>;

/// A shared [`Disk`].
pub type SharedDisk = Arc<dyn Disk>;

/// The real file system.
///
/// ```
/// use mobula_actors::runtime::disk::{Disk, SystemDisk};
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("a");
/// let mut file = SystemDisk.create_new(&path)?;
/// file.write_all(b"kept")?;
/// file.sync()?;
/// SystemDisk.sync_dir(dir.path())?;
/// assert_eq!(SystemDisk.len(&path)?, 4);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().append(true).create(true).open(path)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(path)?))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let mut names = fs::read_dir(dir)?.map(name).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[cfg(unix)]
    fn is_same(&self, one: &Path, other: &Path) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
        Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
    }

    #[cfg(not(unix))]
    fn is_same(&self, one: &Path, other: &Path) -> io::Result<bool> {
        Ok(fs::canonicalize(one)? == fs::canonicalize(other)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir) {
            Ok(handle) => handle.sync_all(),
            // Not all systems let a directory be opened.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(_) => Ok(()),
        }
    }

    #[cfg(unix)]
    fn create_private_dir(&self, dir: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().mode(0o700).create(dir)
    }

    #[cfg(not(unix))]
    fn create_private_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        for _ in 0..REMOVED_MAX {
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                // A file system without locks keeps nobody out.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            // Whoever had it before may have removed it: a lock on a file without a name keeps nobody out.
            if is_at(&file, path)? {
                return Ok(Some(Box::new(file)));
            }
        }
        Ok(None)
    }

    // There is nobody to wake who waits for a lock; one that waits in the system cannot be told to give up.
    #[allow(clippy::disallowed_methods)]
    fn lock_soon(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        for _ in 0..SOON_TRIES {
            if let Some(lock) = self.lock(path)? {
                return Ok(Some(lock));
            }
            std::thread::sleep(SOON_PAUSE);
        }
        Ok(None)
    }

    #[cfg(unix)]
    fn free(&self, dir: &Path) -> io::Result<u64> {
        let about = rustix::fs::statvfs(dir)?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
    }

    fn write_again(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let (mut at, mut buffer) = (0, vec![0; AGAIN_BYTES]);
        while at < bytes {
            let most = buffer.len().min((bytes - at) as usize);
            let part = buffer.get_mut(..most).unwrap_or_default();
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(part)?;
            file.seek(SeekFrom::Start(at))?;
            file.write_all(part)?;
            at += most as u64;
        }
        Ok(())
    }

    fn is_file(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|about| about.is_file())
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
}

/// Whether the path leads to this very file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let there = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        there => there?,
    };
    let open = file.metadata()?;
    Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
}

/// A file that is open is not removed there.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Written again at once.
const AGAIN_BYTES: usize = 1 << 16;
/// A file that is locked is found removed so often in a row, at most; then it counts as locked by others.
const REMOVED_MAX: u32 = 100;
/// How often a lock is tried for that others have for moments, and the pause between: 10 s together.
const SOON_TRIES: u32 = 1000;
const SOON_PAUSE: Duration = Duration::from_millis(10);

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_on_a_file_that_was_removed_is_not_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = SystemDisk.lock(&path).unwrap();
        assert!(first.is_some() && SystemDisk.lock(&path).unwrap().is_none());
        // Somebody opened it, and then it was removed.
        let opened = OpenOptions::new().append(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        drop(first);
        opened.lock().unwrap();
        assert!(!is_at(&opened, &path).unwrap(), "it is gone");
        let second = SystemDisk.lock(&path).unwrap();
        assert!(second.is_some() && !is_at(&opened, &path).unwrap(), "another has its name");
        assert!(SystemDisk.lock(&path).unwrap().is_none());
    }
}
