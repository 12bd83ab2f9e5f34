//! One QUIC connection with the reason that this side ended it for, which quinn does not keep.
//!
//! It opens and accepts raw streams; what they carry is for [`crate::frame`] and above.

use std::sync::{Arc, OnceLock};

use quinn::{ConnectionError, RecvStream, SendStream, VarInt};

use crate::closed::{CODE_CLOSED, CODE_VIOLATION, ClosedReason, Refusal, cut};
use crate::frame::{FrameError, Reader, Writer};

/// Clones share it. Dropping it does not close the connection before quinn's last handle is gone.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    quinn: quinn::Connection,
    /// The first reason of this side; later ones have no effect.
    ours: OnceLock<ClosedReason>,
}

impl Link {
    pub(crate) fn new(quinn: quinn::Connection) -> Self {
        Self { inner: Arc::new(Inner { quinn, ours: OnceLock::new() }) }
    }

    pub(crate) fn quinn(&self) -> &quinn::Connection {
        &self.inner.quinn
    }

    /// Both halves of a new stream; waits while as many are open as the peer allows.
    pub(crate) async fn open(&self) -> Result<(Writer, Reader), FrameError> {
        self.halves(self.quinn().open_bi().await)
    }

    /// Both halves of the next stream that the peer opens.
    pub(crate) async fn accept(&self) -> Result<(Writer, Reader), FrameError> {
        self.halves(self.quinn().accept_bi().await)
    }

    fn halves(
        &self,
        stream: Result<(SendStream, RecvStream), ConnectionError>,
    ) -> Result<(Writer, Reader), FrameError> {
        match stream {
            Ok((send, recv)) => Ok((Writer::new(self.clone(), send), Reader::new(self.clone(), recv))),
            Err(e) => Err(FrameError::Closed(self.reason(&e))),
        }
    }

    /// Ends it on purpose.
    pub(crate) fn close(&self, reason: &str) {
        let reason = cut(reason);
        self.end(CODE_CLOSED, &reason, ClosedReason::ByUs(reason.clone()));
    }

    /// Ends it because the two sides do not fit.
    pub(crate) fn refuse(&self, refusal: &Refusal) {
        self.end(refusal.code(), &refusal.reason, ClosedReason::Refused(refusal.clone()));
    }

    /// Ends it because the peer broke the protocol: nothing that it says can be trusted.
    pub(crate) fn violation(&self, what: &str) {
        let what = cut(what);
        tracing::warn!(remote = %self.quinn().remote_address(), %what, "a peer broke the protocol");
        self.end(CODE_VIOLATION, &what, ClosedReason::Violation(what.clone()));
    }

    fn end(&self, code: u32, told: &str, reason: ClosedReason) {
        // A second close has no effect, and the first reason stands.
        let _ = self.inner.ours.set(reason);
        self.quinn().close(VarInt::from_u32(code), told.as_bytes());
    }

    /// What quinn says, in the words of whoever ended it.
    pub(crate) fn reason(&self, error: &ConnectionError) -> ClosedReason {
        ClosedReason::of(error, self.inner.ours.get())
    }

    /// Resolves when it is no more.
    pub(crate) async fn closed(&self) -> ClosedReason {
        let error = self.quinn().closed().await;
        self.reason(&error)
    }
}
