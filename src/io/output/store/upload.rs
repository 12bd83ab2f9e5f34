//! An attempt on a store: an upload that nobody sees, in pieces.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mobula_actors::runtime::DiskFile;

use super::client::Client;
use crate::io::error::{IoError, IoResult};
use crate::io::sink::Uploaded;

/// Bytes of a piece. S3 takes none below 5 MiB but the last and 10,000 in all; some stores want them all alike. Larger ones
/// make fewer requests, and each writing worker holds one. A file of 78 GiB fits, far above what one task writes.
const PIECE_BYTES: usize = 8 << 20;
/// Pieces of an upload at most; S3's own limit.
const PIECES_MAX: usize = 10_000;

/// An upload that has begun.
pub(crate) struct Upload {
    client: Arc<Client>,
    key: String,
    id: String,
    shared: Arc<Mutex<Shared>>,
}

/// What its file tells it.
#[derive(Default)]
struct Shared {
    pieces: Vec<String>,
    /// Encoders lose all of an error but its text.
    failure: Option<IoError>,
}

impl Upload {
    /// Begins an upload.
    pub(crate) fn begin(client: &Arc<Client>, key: &str) -> IoResult<Self> {
        let id = client.begin(key)?;
        Ok(Self { client: Arc::clone(client), key: key.to_owned(), id, shared: Arc::default() })
    }

    /// What its bytes are written to. Its sync uploads the rest and does not complete it.
    pub(crate) fn file(&self) -> Box<dyn DiskFile> {
        let Self { client, key, id, shared } = self;
        let (client, shared) = (Arc::clone(client), Arc::clone(shared));
        Box::new(UploadFile { client, key: key.clone(), id: id.clone(), shared, piece: Vec::new() })
    }

    /// Where it will be seen.
    pub(crate) fn uri(&self) -> String {
        self.client.place().uri(&self.key)
    }

    /// What is needed to complete it.
    pub(crate) fn uploaded(&self) -> Uploaded {
        Uploaded { id: self.id.clone(), pieces: lock(&self.shared).pieces.clone() }
    }

    /// Why writing failed, once.
    pub(crate) fn take_failure(&self) -> Option<IoError> {
        lock(&self.shared).failure.take()
    }

    /// Gives it up. If that fails, whoever begins with the job again or ends it does.
    pub(crate) fn abort(&self) {
        if let Err(error) = self.client.abort(&self.key, &self.id) {
            tracing::debug!(%error, "an upload stays until the job goes on or ends");
        }
    }
}

/// The writing end of an upload.
struct UploadFile {
    client: Arc<Client>,
    key: String,
    id: String,
    shared: Arc<Mutex<Shared>>,
    piece: Vec<u8>,
}

impl UploadFile {
    fn send(&mut self) -> io::Result<()> {
        let number = lock(&self.shared).pieces.len();
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let sent = match number < PIECES_MAX {
            true => self.client.put_piece(&self.key, &self.id, number, piece),
            false => Err(IoError::Store {
                verb: "upload to",
                at: self.client.place().uri(&self.key),
                reason: format!("it has more than {PIECES_MAX} pieces of {PIECE_BYTES} bytes"),
                next: "write smaller files: give the session less memory",
            }),
        };
        let mut shared = lock(&self.shared);
        match sent {
            Ok(name) => shared.pieces.push(name),
            Err(error) => {
                let text = error.to_string();
                shared.failure = Some(error);
                return Err(io::Error::other(text));
            }
        }
        Ok(())
    }
}

impl Write for UploadFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.piece.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for UploadFile {
    fn sync(&mut self) -> io::Result<()> {
        // An upload without pieces cannot be completed.
        if self.piece.is_empty() && !lock(&self.shared).pieces.is_empty() {
            return Ok(());
        }
        self.send()
    }

    fn truncate(&mut self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn size(&mut self) -> io::Result<u64> {
        // All pieces but the last are full.
        Ok((lock(&self.shared).pieces.len() * PIECE_BYTES + self.piece.len()) as u64)
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
