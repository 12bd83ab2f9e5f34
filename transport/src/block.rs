//! Fetches: a typed request, a typed head, and one block's bytes on a stream of their own, checksummed.
//!
//! The block's length comes with the head. Who fetches looks at it, takes room for it within its own limits, and only then
//! reads; meanwhile the stream's window holds the sender.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use xxhash_rust::xxh3::Xxh3;

use crate::call::{ReplyError, answer, reply_error};
use crate::closed::ClosedReason;
use crate::codec::{self, CodecError};
use crate::connection::Connection;
use crate::frame::{self, FrameError, Reader, Writer};
use crate::inbound::{ANSWERED, FETCH, REFUSED};
use crate::limits::Limits;

/// Bytes that are hashed and written in one go: large enough to be cheap, small enough not to hold the runtime's thread.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of the xxh3-64 after each block: it finds what went wrong in memory; the wire has TLS.
const CHECKSUM_BYTES: usize = 8;
/// Packets taken from the transport in one go.
const CHUNKS: usize = 32;

/// Why a block did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No byte came for this long.
    #[error("nothing came for {0:?}")]
    Deadline(Duration),
    /// The connection was lost.
    #[error("the connection is lost: {0}")]
    Closed(ClosedReason),
    /// The peer refused, with its reason.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The peer let the fetch go, before or amid the block.
    #[error("the peer let the fetch go")]
    Unanswered,
    /// The request or the block is larger than the limit.
    #[error("{bytes} bytes are over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// What is allowed here.
        limit: u64,
    },
    /// There is no memory for the block.
    #[error("there is no memory for a block of {0} bytes")]
    Memory(u64),
    /// The bytes are not those that were sent.
    #[error("the block's checksum does not fit its bytes; fetch it again")]
    Checksum,
    /// The request cannot be encoded, or the head is not of the type that was asked for.
    #[error("cannot encode the request or decode the head")]
    Decode(#[source] CodecError),
    /// The peer broke the protocol; the connection is closed.
    #[error("the peer broke the protocol: {0}")]
    Violation(String),
}

impl From<CodecError> for FetchError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::TooLarge { bytes, limit } => FetchError::TooLarge { bytes: bytes as u64, limit: limit as u64 },
            other => FetchError::Decode(other),
        }
    }
}

impl From<FrameError> for FetchError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Closed(reason) => FetchError::Closed(reason),
            FrameError::Dropped => FetchError::Unanswered,
            FrameError::Violation(what) => FetchError::Violation(what),
            FrameError::Encode(e) => e.into(),
        }
    }
}

impl Connection {
    /// Asks for a block: its head, and the receiver of its bytes. The deadline is for the head, and again for each silence
    /// amid the bytes. Dropping the future or the receiver cancels the fetch.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch<Q: Serialize, H: DeserializeOwned>(
        &self,
        request: &Q,
        deadline: Duration,
    ) -> Result<(H, BlockReceiver), FetchError> {
        let limits = self.limits();
        let request = frame::encode(&[FETCH], request, limits.call_frame_bytes)?;
        let head = async {
            let (mut writer, mut reader) = self.open().await?;
            writer.write(request).await?;
            writer.finish().await?;
            let [status] = reader.bytes().await?;
            let head = reader.only_frame(limits.call_frame_bytes).await?;
            Ok::<_, FrameError>((status, head, reader))
        };
        let head = timeout(deadline, head).await.map_err(|_| FetchError::Deadline(deadline))?;
        let (status, head, mut reader) = head?;
        match status {
            ANSWERED => {
                let length = timeout(deadline, reader.bytes()).await.map_err(|_| FetchError::Deadline(deadline))??;
                let length = check_length(u64::from_le_bytes(length), limits.block_bytes)?;
                let head = codec::decode(&head, limits.call_frame_bytes)?;
                Ok((head, BlockReceiver { reader, length, deadline }))
            }
            REFUSED => Err(FetchError::Refused(codec::decode(&head, limits.call_frame_bytes)?)),
            other => Err(reader.violation(format!("there is no answer of kind {other}")).into()),
        }
    }
}

fn check_length(bytes: u64, limit: u64) -> Result<u64, FetchError> {
    match bytes <= limit {
        true => Ok(bytes),
        false => Err(FetchError::TooLarge { bytes, limit }),
    }
}

/// A block that waits to be read. Dropped, it stops the sender.
#[derive(Debug)]
pub struct BlockReceiver {
    reader: Reader,
    length: u64,
    deadline: Duration,
}

impl BlockReceiver {
    /// The block's bytes, at most the limit. Nothing has been allocated for them.
    #[allow(clippy::len_without_is_empty, reason = "an empty block is a block")]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Reads the block into a buffer, whose content is dropped and whose memory is used: a recycled one saves the most.
    ///
    /// # Errors
    /// If the block ends early, does not fit its checksum, or finds no memory.
    pub async fn read(mut self, mut into: Vec<u8>) -> Result<Vec<u8>, FetchError> {
        into.clear();
        let length = usize::try_from(self.length).map_err(|_| FetchError::Memory(self.length))?;
        into.try_reserve_exact(length).map_err(|_| FetchError::Memory(self.length))?;
        let mut hash = Xxh3::new();
        let mut trailer = Vec::with_capacity(CHECKSUM_BYTES);
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        while let Some(count) = self.chunks(&mut chunks).await? {
            for chunk in chunks.iter_mut().take(count).map(std::mem::take) {
                let (block, rest) = chunk.split_at(chunk.len().min(length - into.len()));
                hash.update(block);
                into.extend_from_slice(block);
                if trailer.len() + rest.len() > CHECKSUM_BYTES {
                    return Err(self.reader.violation("a block went on after its checksum".to_owned()).into());
                }
                trailer.extend_from_slice(rest);
            }
        }
        match <[u8; CHECKSUM_BYTES]>::try_from(trailer) {
            Ok(sum) if u64::from_le_bytes(sum) == hash.digest() => Ok(into),
            Ok(_) => Err(FetchError::Checksum),
            Err(_) => Err(self.reader.violation("a block ended early".to_owned()).into()),
        }
    }

    /// The next few pieces of the stream, as the transport has them; `None` at its end.
    async fn chunks(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, FetchError> {
        let deadline = self.deadline;
        let read = timeout(deadline, self.reader.stream().read_chunks(chunks)).await;
        match read.map_err(|_| FetchError::Deadline(deadline))? {
            Ok(count) => Ok(count),
            Err(e) => Err(self.reader.read_error(e).into()),
        }
    }
}

/// A fetch that waits for its block. Dropped without one, the peer gets [`FetchError::Unanswered`].
#[derive(Debug)]
pub struct IncomingFetch {
    body: Vec<u8>,
    writer: Writer,
    limits: Arc<Limits>,
    _units: OwnedSemaphorePermit,
}

impl IncomingFetch {
    pub(crate) fn new(body: Vec<u8>, writer: Writer, limits: Arc<Limits>, units: OwnedSemaphorePermit) -> Self {
        Self { body, writer, limits, _units: units }
    }

    /// The request. It may be asked for more than once.
    ///
    /// # Errors
    /// If it is not of this type; [`refuse`](Self::refuse) then.
    pub fn decode<Q: DeserializeOwned>(&self) -> Result<Q, CodecError> {
        codec::decode(&self.body, self.limits.call_frame_bytes)
    }

    /// Sends the head, and the block as the parts one after the other, uncopied; resolves when the transport has taken all.
    ///
    /// # Errors
    /// If the peer gave up or is gone, or the head is over the limit.
    pub async fn send<H: Serialize>(mut self, head: &H, parts: Vec<Bytes>) -> Result<(), ReplyError> {
        self.open(head, parts.iter().map(|part| part.len() as u64).sum()).await?;
        let mut hash = Xxh3::new();
        for mut part in parts {
            while !part.is_empty() {
                let piece = part.split_to(part.len().min(PIECE_BYTES));
                hash.update(&piece);
                self.write(piece).await?;
            }
        }
        self.write(Bytes::copy_from_slice(&hash.digest().to_le_bytes())).await?;
        self.writer.finish().await.map_err(reply_error)
    }

    /// Sends the head, and as the block what another peer sends for it, piece by piece: no more of it is here at a time than
    /// the windows of both connections hold. The checksum is that of who has the block, for who reads it to check.
    ///
    /// # Errors
    /// If the block does not come whole, or who asked gave up or is gone; who asked gets [`FetchError::Unanswered`] then.
    pub async fn forward<H: Serialize>(mut self, head: &H, mut block: BlockReceiver) -> Result<(), FetchError> {
        self.open(head, block.length).await.map_err(|_| FetchError::Unanswered)?;
        let mut left = block.length.saturating_add(CHECKSUM_BYTES as u64);
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        while let Some(count) = block.chunks(&mut chunks).await? {
            for chunk in chunks.iter_mut().take(count).map(std::mem::take) {
                let rest = left.checked_sub(chunk.len() as u64);
                let went_on = || block.reader.violation("a block went on after its checksum".to_owned());
                left = rest.ok_or_else(went_on)?;
                self.write(chunk).await.map_err(|_| FetchError::Unanswered)?;
            }
        }
        if left > 0 {
            return Err(block.reader.violation("a block ended early".to_owned()).into());
        }
        self.writer.finish().await.map_err(FetchError::from)
    }

    /// Writes what comes before the block's bytes.
    async fn open<H: Serialize>(&mut self, head: &H, length: u64) -> Result<(), ReplyError> {
        let mut opening = match frame::encode(&[ANSWERED], head, self.limits.call_frame_bytes) {
            Ok(bytes) => Vec::from(bytes),
            // Says so to who asked, and fails as the encoding did.
            Err(_) => return answer(&mut self.writer, ANSWERED, head, self.limits.call_frame_bytes).await,
        };
        opening.extend_from_slice(&length.to_le_bytes());
        self.write(opening.into()).await
    }

    /// Refuses, with a reason that the peer gets.
    ///
    /// # Errors
    /// If the peer gave up or is gone.
    pub async fn refuse(mut self, reason: &str) -> Result<(), ReplyError> {
        answer(&mut self.writer, REFUSED, &reason, self.limits.call_frame_bytes).await
    }

    /// Resolves when the peer gives up or is gone.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        self.writer.stopped()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), ReplyError> {
        self.writer.write(bytes).await.map_err(reply_error)
    }
}
