//! Calls: one request and one reply on a stream of their own, typed, with a deadline, cancelled when dropped.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::closed::ClosedReason;
use crate::codec::{self, CodecError};
use crate::connection::Connection;
use crate::frame::{self, FrameError, Writer};
use crate::inbound::{ANSWERED, CALL, Place, REFUSED};
use crate::limits::Limits;

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The reply did not come in time. Whether the peer did what was asked is not known.
    #[error("no reply came within {0:?}")]
    Deadline(Duration),
    /// The connection was lost. Whether the peer did what was asked is not known.
    #[error("the connection is lost: {0}")]
    Closed(ClosedReason),
    /// The peer refused, with its reason.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The peer let the call go without a reply.
    #[error("the peer let the call go without a reply")]
    Unanswered,
    /// The request is larger than the limit.
    #[error("the request is too large")]
    TooLarge(#[source] CodecError),
    /// The request cannot be encoded, or the reply is not of the type that was asked for.
    #[error("cannot encode the request or decode the reply")]
    Decode(#[source] CodecError),
    /// The peer broke the protocol; the connection is closed.
    #[error("the peer broke the protocol: {0}")]
    Violation(String),
}

/// Why a reply did not go.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The caller gave up.
    #[error("the caller gave up")]
    Cancelled,
    /// The connection was lost.
    #[error("the connection is lost: {0}")]
    Closed(ClosedReason),
    /// The reply is larger than the limit or cannot be encoded. The caller has been refused with this reason.
    #[error("cannot send the reply")]
    Encode(#[source] CodecError),
}

impl Connection {
    /// Calls the peer and waits for its reply. Dropping the future cancels the call on the other side too.
    ///
    /// # Errors
    /// See [`CallError`]; after `Deadline` and `Closed` it is not known whether the peer did what was asked.
    pub async fn call<Q: Serialize, R: DeserializeOwned>(
        &self,
        request: &Q,
        deadline: Duration,
    ) -> Result<R, CallError> {
        let limit = self.limits().call_frame_bytes;
        let request = frame::encode(&[CALL], request, limit).map_err(encode_error)?;
        let exchange = async {
            let (mut writer, mut reader) = self.open().await?;
            writer.write(request).await?;
            writer.finish().await?;
            let [status] = reader.bytes().await?;
            let body = reader.only_frame(limit).await?;
            reader.end().await?;
            match status {
                ANSWERED | REFUSED => Ok((status, body)),
                other => Err(reader.violation(format!("there is no reply of kind {other}"))),
            }
        };
        let exchanged = timeout(deadline, exchange).await.map_err(|_| CallError::Deadline(deadline))?;
        match exchanged.map_err(call_error)? {
            (ANSWERED, body) => codec::decode(&body, limit).map_err(CallError::Decode),
            (_, body) => Err(CallError::Refused(codec::decode(&body, limit).map_err(CallError::Decode)?)),
        }
    }
}

fn call_error(error: FrameError) -> CallError {
    match error {
        FrameError::Closed(reason) => CallError::Closed(reason),
        FrameError::Dropped => CallError::Unanswered,
        FrameError::Violation(what) => CallError::Violation(what),
        FrameError::Encode(e) => encode_error(e),
    }
}

fn encode_error(error: CodecError) -> CallError {
    match error {
        CodecError::TooLarge { .. } => CallError::TooLarge(error),
        other => CallError::Decode(other),
    }
}

/// A call that waits for its reply. Dropped without one, the caller gets [`CallError::Unanswered`].
#[derive(Debug)]
pub struct IncomingCall {
    body: Vec<u8>,
    writer: Writer,
    limits: Arc<Limits>,
    _place: Place,
}

impl IncomingCall {
    pub(crate) fn new(body: Vec<u8>, writer: Writer, limits: Arc<Limits>, place: Place) -> Self {
        Self { body, writer, limits, _place: place }
    }

    /// The request. It may be asked for more than once.
    ///
    /// # Errors
    /// If it is not of this type; [`refuse`](Self::refuse) then.
    pub fn decode<Q: DeserializeOwned>(&self) -> Result<Q, CodecError> {
        codec::decode(&self.body, self.limits.call_frame_bytes)
    }

    /// Replies.
    ///
    /// # Errors
    /// If the caller gave up or is gone, or the reply is over the limit.
    pub async fn reply<R: Serialize>(mut self, reply: &R) -> Result<(), ReplyError> {
        answer(&mut self.writer, ANSWERED, reply, self.limits.call_frame_bytes).await
    }

    /// Refuses, with a reason that the caller gets.
    ///
    /// # Errors
    /// If the caller gave up or is gone.
    pub async fn refuse(mut self, reason: &str) -> Result<(), ReplyError> {
        answer(&mut self.writer, REFUSED, &reason, self.limits.call_frame_bytes).await
    }

    /// Resolves when the caller gives up or is gone.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        self.writer.stopped()
    }
}

/// Writes an answer whole and ends the stream; what is over the limit is answered by that.
pub(crate) async fn answer<T: Serialize>(
    writer: &mut Writer,
    status: u8,
    value: &T,
    limit: usize,
) -> Result<(), ReplyError> {
    let (bytes, failed) = match frame::encode(&[status], value, limit) {
        Ok(bytes) => (bytes, None),
        Err(e) => {
            let reason = format!("the reply could not be sent: {e}");
            let refusal =
                frame::encode(&[REFUSED], &reason, limit.max(reason.len() + 16)).map_err(ReplyError::Encode)?;
            (refusal, Some(e))
        }
    };
    writer.write(bytes).await.map_err(reply_error)?;
    writer.finish().await.map_err(reply_error)?;
    failed.map_or(Ok(()), |e| Err(ReplyError::Encode(e)))
}

pub(crate) fn reply_error(error: FrameError) -> ReplyError {
    match error {
        FrameError::Closed(reason) => ReplyError::Closed(reason),
        FrameError::Encode(e) => ReplyError::Encode(e),
        FrameError::Dropped | FrameError::Violation(_) => ReplyError::Cancelled,
    }
}
