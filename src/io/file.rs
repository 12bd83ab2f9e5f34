//! Opening input files: the one place of this module that touches the file system to read data.
//!
//! A file is opened, read and closed by one task, so a million of them never hold a million handles.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::error::{IoError, IoResult};

/// What tells a file from a later one of the same name: cheap to ask for, and different after nearly any rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileId {
    pub(crate) size: u64,
    pub(crate) modified_ns: u64,
}

/// Opens a file and says which one it is.
pub(crate) fn open(path: &Path) -> IoResult<(File, FileId)> {
    check_regular(path)?;
    let file = File::open(path).map_err(|e| IoError::read(path, e))?;
    let id = identify(&file).map_err(|e| IoError::read(path, e))?;
    Ok((file, id))
}

/// Refuses pipes and devices without opening them: a pipe without a writer would wait for ever, a device may never end.
pub(crate) fn check_regular(path: &Path) -> IoResult<()> {
    let metadata = std::fs::metadata(path).map_err(|e| IoError::read(path, e))?;
    if metadata.is_file() || metadata.is_dir() {
        return Ok(());
    }
    Err(IoError::NotRegular { path: path.to_owned() })
}

/// Opens a file that was planned with, and refuses another one of its name.
pub(crate) fn open_planned(path: &Path, planned: FileId) -> IoResult<File> {
    let (file, id) = open(path)?;
    if id == planned { Ok(file) } else { Err(IoError::Changed { path: path.to_owned() }) }
}

/// Which one an open file is now.
pub(crate) fn identify(file: &File) -> io::Result<FileId> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(FileId { size: metadata.len(), modified_ns: u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX) })
}

/// Fills `buffer` from `offset` on, leaving the file's own cursor alone where the system can.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` from `offset` on. A handle is read by one thread only, so moving its cursor does no harm.
#[cfg(not(unix))]
pub(crate) fn read_exact_at(mut file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(buffer)
}
