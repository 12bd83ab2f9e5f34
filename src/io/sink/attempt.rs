//! Attempts: where a part is written before it is one, hidden from readers: a file, or an upload that is not completed.

use std::io;
use std::path::{Path, PathBuf};
#[cfg(feature = "s3")]
use std::sync::Arc;

use mobula_actors::operator::{OperatorResult, Shared, TaskContext};
use mobula_actors::runtime::{DiskFile, SharedDisk};
#[cfg(feature = "s3")]
use mobula_actors::runtime::{Env, SystemEnv};
use serde::{Deserialize, Serialize};

use crate::io::error::{IoError, IoResult};
use crate::io::output::Format;
#[cfg(feature = "s3")]
use crate::io::output::store::{client::Client, keys, upload::Upload};

/// Where the attempts of a job are, as it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Hidden {
    /// In this folder. Absolute: a node that writes has a working directory of its own.
    Folder(PathBuf),
    /// In a store, by the number of the job.
    #[cfg(feature = "s3")]
    Store { place: keys::Place, job: u64 },
}

/// What attempts are written through.
#[derive(Clone)]
pub(crate) enum Ground {
    Disk {
        disk: SharedDisk,
        /// A random number of whoever writes. Those of folders, runs and tasks come again: without it a worker that was
        /// left behind would take back the file of another job.
        writer: u64,
    },
    #[cfg(feature = "s3")]
    Store(Arc<Client>),
}

impl Hidden {
    /// What a worker of a node writes through.
    pub(super) fn ground(&self, shared: &Shared) -> OperatorResult<Ground> {
        Ok(match self {
            Self::Folder(_) => Ground::Disk { disk: SharedDisk::clone(shared.disk()), writer: shared.random() },
            // All workers of a node share the connections.
            #[cfg(feature = "s3")]
            Self::Store { place, .. } => {
                Ground::Store(shared.get_or_make(&format!("object store {place}"), || Client::new(place))?)
            }
        })
    }

    /// Begins a new attempt of a task, never one that is there.
    pub(super) fn begin(
        &self,
        ground: &Ground,
        task: &TaskContext,
        format: Format,
    ) -> IoResult<(Attempt, Box<dyn DiskFile>)> {
        match (self, ground) {
            (Self::Folder(dir), Ground::Disk { disk, writer }) => {
                let stem = format!("part-{:05}.attempt-{}-{writer:016x}", task.task, task.attempt);
                create_new(disk, dir, &stem, format.extension())
            }
            #[cfg(feature = "s3")]
            (Self::Store { place, job }, Ground::Store(client)) => {
                let name = keys::part_name(*job, task.task, SystemEnv::new().random(), format);
                let upload = Upload::begin(client, &place.key(&name))?;
                let file = upload.file();
                Ok((Attempt::Upload(upload), file))
            }
            #[cfg(feature = "s3")]
            _ => Err(IoError::Internal("attempts that are elsewhere than they are written".into())),
        }
    }
}

/// An attempt that has begun.
pub(super) enum Attempt {
    File {
        disk: SharedDisk,
        path: PathBuf,
    },
    #[cfg(feature = "s3")]
    Upload(Upload),
}

impl Attempt {
    /// What errors and results call it.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::File { path, .. } => path.clone(),
            #[cfg(feature = "s3")]
            Self::Upload(upload) => upload.uri().into(),
        }
    }

    /// What is needed to make an upload visible.
    pub(super) fn uploaded(&self) -> Option<Uploaded> {
        match self {
            Self::File { .. } => None,
            #[cfg(feature = "s3")]
            Self::Upload(upload) => Some(upload.uploaded()),
        }
    }

    /// Why writing failed, where that is known better than by the encoder.
    pub(super) fn take_failure(&self) -> Option<IoError> {
        match self {
            Self::File { .. } => None,
            #[cfg(feature = "s3")]
            Self::Upload(upload) => upload.take_failure(),
        }
    }

    /// Takes it back. If that fails it stays hidden, and goes with its job.
    pub(super) fn remove(&self) {
        match self {
            Self::File { disk, path } => drop(disk.remove_file(path)),
            #[cfg(feature = "s3")]
            Self::Upload(upload) => upload.abort(),
        }
    }
}

/// An upload whose bytes are all there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Uploaded {
    /// What the store calls it.
    pub(crate) id: String,
    /// What the store calls its pieces, in their order.
    pub(crate) pieces: Vec<String>,
}

fn create_new(disk: &SharedDisk, dir: &Path, stem: &str, extension: &str) -> IoResult<(Attempt, Box<dyn DiskFile>)> {
    // It may have left a file of the same attempt.
    for again in 0..AGAIN_MAX {
        let again = if again == 0 { String::new() } else { format!("-{again}") };
        let path = dir.join(format!("{stem}{again}.{extension}"));
        match disk.create_new(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(IoError::write(&path, e)),
            Ok(file) => return Ok((Attempt::File { disk: SharedDisk::clone(disk), path }, file)),
        }
    }
    Err(IoError::write(&dir.join(stem), io::ErrorKind::AlreadyExists.into()))
}

/// More than any restart budget allows.
const AGAIN_MAX: u32 = 1000;
