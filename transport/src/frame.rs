//! Frames: a length (four bytes, little-endian) and that many bytes. The reader and writer below all streams.
//!
//! A length is checked against a limit before a byte of its body is read, and the buffer grows with what has really come.
//! Reading and writing may be dropped half-way and taken up again: what was read or is still to be written is kept.

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use serde::Serialize;

use crate::closed::{ClosedReason, STREAM_DROPPED};
use crate::codec::{self, CodecError};
use crate::link::Link;

/// Bytes before each frame's body.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Why a frame did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection is no more.
    #[error("the connection is lost: {0}")]
    Closed(ClosedReason),
    /// The peer gave the stream up.
    #[error("the peer gave the stream up")]
    Dropped,
    /// The frame claims more than the limit, or ended early. The connection is closed for it.
    #[error("the peer broke the protocol: {0}")]
    Violation(String),
    /// The value to send is larger than the limit, or cannot be encoded.
    #[error("cannot send the frame")]
    Encode(#[source] CodecError),
}

/// A frame with its length, after the bytes of `opening`.
pub(crate) fn encode<T: Serialize>(opening: &[u8], value: &T, limit: usize) -> Result<Bytes, CodecError> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(opening);
    bytes.extend_from_slice(&[0; LENGTH_BYTES]);
    let body = bytes.len();
    codec::encode_onto(&mut bytes, value, limit)?;
    let length = u32::try_from(bytes.len() - body).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(place) = bytes.get_mut(opening.len()..body) {
        place.copy_from_slice(&length);
    }
    Ok(bytes.into())
}

/// The length that a frame claims, if it is within the limit.
pub(crate) fn length(bytes: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, String> {
    let length = u32::from_le_bytes(bytes) as usize;
    match length <= limit {
        true => Ok(length),
        false => Err(format!("a frame of {length} bytes is over the limit of {limit}")),
    }
}

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct Reader {
    link: Link,
    stream: RecvStream,
    /// What has come of the present length or body.
    buffer: Vec<u8>,
    /// The present frame's length, once it is known.
    length: Option<usize>,
}

impl Reader {
    pub(crate) fn new(link: Link, stream: RecvStream) -> Self {
        Self { link, stream, buffer: Vec::new(), length: None }
    }

    /// The next frame's body; `None` at the end of the stream.
    pub(crate) async fn frame(&mut self, limit: usize) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(length) = self.frame_length(limit).await? else { return Ok(None) };
        self.frame_body(length).await.map(Some)
    }

    /// The next frame's length, within the limit; its body is still unread. Asked again, it says the same.
    pub(crate) async fn frame_length(&mut self, limit: usize) -> Result<Option<usize>, FrameError> {
        if self.length.is_none() {
            if !self.fill(LENGTH_BYTES).await? {
                return Ok(None);
            }
            let bytes = self.buffer.first_chunk().copied().unwrap_or_default();
            self.buffer.clear();
            self.length = Some(length(bytes, limit).map_err(|what| self.violation(what))?);
        }
        Ok(self.length)
    }

    /// The body of the frame whose length was read.
    pub(crate) async fn frame_body(&mut self, length: usize) -> Result<Vec<u8>, FrameError> {
        if !self.fill(length).await? {
            return Err(self.violation("a stream ended inside a frame".to_owned()));
        }
        self.length = None;
        Ok(std::mem::take(&mut self.buffer))
    }

    /// The end of the stream, which has to come now.
    pub(crate) async fn end(&mut self) -> Result<(), FrameError> {
        match self.stream.read_chunk(1, true).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(self.violation("a stream went on after its end".to_owned())),
            Err(e) => Err(self.read_error(e)),
        }
    }

    /// One frame that has to be there.
    pub(crate) async fn only_frame(&mut self, limit: usize) -> Result<Vec<u8>, FrameError> {
        match self.frame(limit).await? {
            Some(body) => Ok(body),
            None => Err(self.violation("a stream ended before its frame".to_owned())),
        }
    }

    /// Exactly `N` bytes that are no frame.
    pub(crate) async fn bytes<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        match self.fill(N).await? {
            true => {
                let bytes = self.buffer.first_chunk().copied().unwrap_or([0; N]);
                self.buffer.clear();
                Ok(bytes)
            }
            false => Err(self.violation("a stream ended before it began".to_owned())),
        }
    }

    /// Reads until the buffer holds this many bytes; false if the stream ended before the first of them.
    async fn fill(&mut self, bytes: usize) -> Result<bool, FrameError> {
        while self.buffer.len() < bytes {
            let missing = bytes - self.buffer.len();
            match self.stream.read_chunk(missing, true).await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                Ok(None) if self.buffer.is_empty() => return Ok(false),
                Ok(None) => return Err(self.violation("a stream ended inside a frame".to_owned())),
                Err(e) => return Err(self.read_error(e)),
            }
        }
        Ok(true)
    }

    /// The stream itself, for bytes that are no frames.
    pub(crate) fn stream(&mut self) -> &mut RecvStream {
        &mut self.stream
    }

    pub(crate) fn read_error(&self, error: ReadError) -> FrameError {
        match error {
            ReadError::ConnectionLost(e) => FrameError::Closed(self.link.reason(&e)),
            _ => FrameError::Dropped,
        }
    }

    /// Closes the connection: nothing that such a peer says can be trusted.
    pub(crate) fn violation(&self, what: String) -> FrameError {
        self.link.violation(&what);
        FrameError::Violation(what)
    }
}

/// The sending half of a stream. Dropped before [`finish`](Self::finish), it resets the stream, so that the peer never takes
/// a part for the whole.
#[derive(Debug)]
pub(crate) struct Writer {
    link: Link,
    stream: SendStream,
    /// What is still to be written of the present frame.
    pending: Vec<Bytes>,
    finished: bool,
}

impl Writer {
    pub(crate) fn new(link: Link, stream: SendStream) -> Self {
        Self { link, stream, pending: Vec::new(), finished: false }
    }

    /// Writes bytes after those of a call that was dropped half-way.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), FrameError> {
        self.flush().await?;
        self.pending.push(bytes);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), FrameError> {
        while self.pending.iter().any(|bytes| !bytes.is_empty()) {
            let written = self.stream.write_chunks(&mut self.pending).await;
            written.map_err(|e| self.write_error(e))?;
        }
        self.pending.clear();
        Ok(())
    }

    /// Ends the stream after what was written.
    pub(crate) async fn finish(&mut self) -> Result<(), FrameError> {
        self.flush().await?;
        self.finished = true;
        self.stream.finish().map_err(|_| FrameError::Dropped)
    }

    fn write_error(&self, error: WriteError) -> FrameError {
        match error {
            WriteError::ConnectionLost(e) => FrameError::Closed(self.link.reason(&e)),
            _ => FrameError::Dropped,
        }
    }

    /// Resolves when the peer gave up its receiving half, or has all that was sent, or is gone.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let stopped = self.stream.stopped();
        async move {
            let _ = stopped.await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(STREAM_DROPPED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_length_over_the_limit_is_refused_before_its_body(bytes: [u8; 4], limit in 0..1_000_000usize) {
            match length(bytes, limit) {
                Ok(length) => prop_assert!(length <= limit),
                Err(what) => prop_assert!(what.contains("limit")),
            }
        }

        #[test]
        fn a_frame_is_its_opening_its_length_and_its_body(opening: Vec<u8>, value: Vec<u8>) {
            let bytes = encode(&opening, &value, 1 << 20).unwrap();
            let (start, rest) = bytes.split_at(opening.len());
            prop_assert_eq!(start, &opening[..]);
            let (size, body) = rest.split_first_chunk().unwrap();
            prop_assert_eq!(length(*size, 1 << 20).unwrap(), body.len());
            prop_assert_eq!(codec::decode::<Vec<u8>>(body, 1 << 20).unwrap(), value);
        }
    }
}
