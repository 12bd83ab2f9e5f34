//! The threads that actors live on: their own, or one of a few that many share.
//!
//! A thread of its own suits an actor that computes: nobody else waits for it. It costs a thread with a runtime and three
//! file descriptors, so a thousand small actors that mostly wait share a few threads, one for each core. Handlers there
//! must be short or asynchronous: all actors of the thread wait for a slow one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use actix_rt::ArbiterHandle;

use crate::runtime::host::{Host, Lane};
use crate::scheduler::Lease;

/// A place for an actor: its thread, and what it holds while it lives. Cheap to clone; the last clone gives all back.
#[derive(Clone)]
pub(crate) struct Seat {
    inner: Arc<Inner>,
}

struct Inner {
    number: u64,
    handle: ArbiterHandle,
    lane: Option<Lane>,
    shared: Option<Arc<Shared>>,
    _held: Held,
}

/// What an actor holds beside its thread.
pub(crate) struct Held {
    _lease: Option<Lease>,
    _places: Vec<tokio::sync::OwnedSemaphorePermit>,
}

impl Held {
    pub(crate) fn new(lease: Option<Lease>, places: Vec<tokio::sync::OwnedSemaphorePermit>) -> Self {
        Self { _lease: lease, _places: places }
    }
}

impl Seat {
    /// Where to start the incarnations.
    pub(crate) fn handle(&self) -> &ArbiterHandle {
        &self.inner.handle
    }

    /// Its thread by number, the same for all who share it.
    pub(crate) fn lane(&self) -> u64 {
        self.inner.number
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.actors.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(lane) = &mut self.lane {
            // The incarnation has a clone, so it has ended.
            lane.keep_warm();
        }
    }
}

struct Shared {
    number: u64,
    lane: Lane,
    actors: AtomicUsize,
}

/// The threads for actors of a node.
pub(crate) struct Lanes {
    host: Host,
    /// Started when first needed.
    shared: tokio::sync::Mutex<Vec<Arc<Shared>>>,
    shared_max: usize,
    next: AtomicU64,
}

impl Lanes {
    /// Threads to share: at most `shared_max`.
    pub(crate) fn new(host: Host, shared_max: usize) -> Self {
        Self { host, shared: tokio::sync::Mutex::default(), shared_max: shared_max.max(1), next: AtomicU64::new(1) }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A place on a thread of its own.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) async fn own(&self, held: Held) -> io::Result<Seat> {
        let lane = self.host.lane().await?;
        let (number, handle) = (self.number(), lane.handle());
        Ok(Seat { inner: Arc::new(Inner { number, handle, lane: Some(lane), shared: None, _held: held }) })
    }

    /// A place on the shared thread with the fewest actors.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) async fn shared(&self, held: Held) -> io::Result<Seat> {
        let mut all = self.shared.lock().await;
        if all.len() < self.shared_max {
            let (number, lane) = (self.number(), self.host.lane().await?);
            all.push(Arc::new(Shared { number, lane, actors: AtomicUsize::new(0) }));
        }
        let least = all.iter().min_by_key(|shared| shared.actors.load(Ordering::Relaxed));
        let shared = Arc::clone(least.ok_or_else(|| io::Error::other("there is no thread"))?);
        shared.actors.fetch_add(1, Ordering::Relaxed);
        let (number, handle) = (shared.number, shared.lane.handle());
        Ok(Seat { inner: Arc::new(Inner { number, handle, lane: None, shared: Some(shared), _held: held }) })
    }
}
