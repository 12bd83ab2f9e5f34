//! A connection to a welcome peer, and what comes in on it.
//!
//! Calls, task streams and fetches are QUIC streams of their own; their first byte says which. Start at
//! [`Connection::call`], [`Connection::open_stream`], [`Connection::fetch`] for the side that asks and at
//! [`Connection::accept`] for the side that answers.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc};

use crate::block::IncomingFetch;
use crate::call::IncomingCall;
use crate::closed::ClosedReason;
use crate::frame::{FrameError, Reader, Writer};
use crate::hello::{Lane, Peer};
use crate::inbound;
use crate::limits::Limits;
use crate::link::Link;
use crate::stream::{FrameReceiver, FrameSender};
use crate::task::Task;

/// A connection to a peer. Clones share it; it closes with the last one, and all its streams with it.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    peer: Peer,
    lane: Lane,
    limits: Arc<Limits>,
    inbound: Mutex<mpsc::Receiver<Inbound>>,
    _reading: Task,
    /// The place that the endpoint keeps for it, if the peer connected to us.
    _place: Option<OwnedSemaphorePermit>,
}

/// What a peer asks for.
#[derive(Debug)]
pub enum Inbound {
    /// One request that wants one reply.
    Call(IncomingCall),
    /// A task stream, with the bytes of its head.
    Stream {
        /// The encoded head; [`codec::decode`](crate::codec::decode) reads it.
        head: Vec<u8>,
        /// Frames to the peer.
        tx: FrameSender,
        /// Frames from the peer.
        rx: FrameReceiver,
    },
    /// A request for a block.
    Fetch(IncomingFetch),
}

impl Connection {
    pub(crate) fn new(
        link: Link,
        peer: Peer,
        lane: Lane,
        limits: &Limits,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let limits = Arc::new(limits.clone());
        let (deliver, inbound) = mpsc::channel(limits.inbound_queue.max(1));
        let reading = Task::start(inbound::run(link.clone(), limits.clone(), deliver));
        let inner = Inner { link, peer, lane, limits, inbound: Mutex::new(inbound), _reading: reading, _place: place };
        Self { inner: Arc::new(inner) }
    }

    /// The other side.
    pub fn peer(&self) -> &Peer {
        &self.inner.peer
    }

    /// What it is for.
    pub fn lane(&self) -> Lane {
        self.inner.lane
    }

    /// The limits that hold on this side of it.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The next thing that the peer asks for. While nobody accepts, the peer's streams wait.
    ///
    /// # Errors
    /// Why the connection is no more.
    pub async fn accept(&self) -> Result<Inbound, ClosedReason> {
        let next = self.inner.inbound.lock().await.recv().await;
        match next {
            Some(inbound) => Ok(inbound),
            None => Err(self.closed().await),
        }
    }

    /// Closes it with a reason, which the peer reads. What is on its way in either direction is lost.
    pub fn close(&self, reason: &str) {
        self.inner.link.close(reason);
    }

    /// Resolves when it is no more, with the reason.
    pub async fn closed(&self) -> ClosedReason {
        self.inner.link.closed().await
    }

    /// Whether it is no more.
    pub fn is_closed(&self) -> bool {
        self.inner.link.quinn().close_reason().is_some()
    }

    /// The time a packet takes there and back, as measured of late.
    pub fn round_trip(&self) -> std::time::Duration {
        self.inner.link.quinn().rtt()
    }

    /// Both halves of a new stream.
    pub(crate) async fn open(&self) -> Result<(Writer, Reader), FrameError> {
        self.inner.link.open().await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peer { node, role, remote, .. } = self.peer();
        write!(f, "Connection({:?} with {role} {node} at {remote})", self.lane())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.link.close("the connection was let go");
    }
}
