//! Task streams: typed frames both ways on one QUIC stream, as far as the receiver reads.
//!
//! Who does not read stops the sender: nothing is read ahead beyond the stream's window, so a full port on one side is
//! backpressure on the other, and only on this stream.

use serde::{Serialize, de::DeserializeOwned};

use crate::closed::ClosedReason;
use crate::codec::{self, CodecError};
use crate::connection::Connection;
use crate::frame::{self, FrameError, Reader, Writer};
use crate::inbound::STREAM;

/// Why a frame did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection was lost.
    #[error("the connection is lost: {0}")]
    Closed(ClosedReason),
    /// The peer dropped its half.
    #[error("the peer gave the stream up")]
    Dropped,
    /// The value to send is larger than the limit.
    #[error("the frame is too large")]
    TooLarge(#[source] CodecError),
    /// The value cannot be encoded, or the frame is not of the type that was asked for.
    #[error("cannot encode or decode the frame")]
    Decode(#[source] CodecError),
    /// The peer broke the protocol; the connection is closed.
    #[error("the peer broke the protocol: {0}")]
    Violation(String),
}

impl From<FrameError> for StreamError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Closed(reason) => StreamError::Closed(reason),
            FrameError::Dropped => StreamError::Dropped,
            FrameError::Violation(what) => StreamError::Violation(what),
            FrameError::Encode(e) => e.into(),
        }
    }
}

impl From<CodecError> for StreamError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::TooLarge { .. } => StreamError::TooLarge(error),
            other => StreamError::Decode(other),
        }
    }
}

impl Connection {
    /// Opens a task stream; the peer's [`accept`](Connection::accept) gets the head with it.
    ///
    /// # Errors
    /// If the head is over the limit or the connection is lost.
    pub async fn open_stream<H: Serialize>(&self, head: &H) -> Result<(FrameSender, FrameReceiver), StreamError> {
        let limit = self.limits().stream_frame_bytes;
        let head = frame::encode(&[STREAM], head, limit)?;
        let (mut writer, reader) = self.open().await?;
        writer.write(head).await?;
        Ok((FrameSender::new(writer, limit), FrameReceiver::new(reader, limit)))
    }
}

/// The sending half. Dropped before [`finish`](Self::finish), it resets the stream, and the receiver gets an error.
#[derive(Debug)]
pub struct FrameSender {
    writer: Writer,
    limit: usize,
}

impl FrameSender {
    pub(crate) fn new(writer: Writer, limit: usize) -> Self {
        Self { writer, limit }
    }

    /// Sends a frame: resolves when the transport has taken it, which waits for the receiver to read. Dropped half-way, the
    /// rest of the frame goes before the next one.
    ///
    /// # Errors
    /// [`StreamError::Dropped`] if the receiver is gone.
    pub async fn send<T: Serialize>(&mut self, value: &T) -> Result<(), StreamError> {
        let bytes = frame::encode(&[], value, self.limit)?;
        Ok(self.writer.write(bytes).await?)
    }

    /// Ends the stream: the receiver gets `None` after all that was sent.
    ///
    /// # Errors
    /// If the receiver is gone already.
    pub async fn finish(mut self) -> Result<(), StreamError> {
        Ok(self.writer.finish().await?)
    }

    /// Resolves when the receiver is gone.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        self.writer.stopped()
    }
}

/// The receiving half. Dropped, it stops the sender.
#[derive(Debug)]
pub struct FrameReceiver {
    reader: Reader,
    limit: usize,
}

impl FrameReceiver {
    pub(crate) fn new(reader: Reader, limit: usize) -> Self {
        Self { reader, limit }
    }

    /// The next frame; `None` after the sender finished. It may be dropped half-way and asked again: nothing is lost.
    ///
    /// # Errors
    /// If the sender or the connection is gone, or the frame is of another type or over the limit.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        match self.reader.frame(self.limit).await? {
            Some(body) => Ok(Some(codec::decode(&body, self.limit)?)),
            None => Ok(None),
        }
    }
}
