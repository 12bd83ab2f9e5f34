//! The threads that actix actors live on: one system thread for a node, and arbiters started from it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use actix_rt::{Arbiter, ArbiterHandle, System};
use tokio::sync::oneshot;

/// The actix system of a node. Arbiters that are given back are kept warm for the next worker.
///
/// Cheap to clone; the last clone stops the system and waits for its thread.
#[derive(Clone)]
pub(crate) struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    system: System,
    thread: Mutex<Option<JoinHandle<()>>>,
    warm: Mutex<Vec<Arbiter>>,
}

/// More idle threads than this are stopped instead of kept.
const WARM_ARBITERS_MAX: usize = 256;

impl Host {
    /// Starts the system on a thread of its own.
    ///
    /// # Errors
    /// If the system refuses a thread.
    // Threads have to come from somewhere, and this is the place.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn start() -> io::Result<Self> {
        let (tx, rx) = mpsc::channel();
        let thread = std::thread::Builder::new().name("mobula-actix".into()).spawn(move || {
            let runner = System::new();
            // The other side waits for this and cannot be gone.
            let _ = tx.send(System::current());
            if let Err(error) = runner.run() {
                tracing::error!(%error, "the actix system ended");
            }
        })?;
        let system = rx.recv().map_err(io::Error::other)?;
        Ok(Self { inner: Arc::new(Inner { system, thread: Mutex::new(Some(thread)), warm: Mutex::default() }) })
    }

    /// A thread for one actor (or a few that share it), given back by [`Lane`]'s drop.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) async fn lane(&self) -> io::Result<Lane> {
        let warm = self.inner.warm_and_alive();
        let arbiter = match warm {
            Some(arbiter) => arbiter,
            None => self.new_arbiter().await?,
        };
        Ok(Lane { arbiter: Some(arbiter), warm: false, host: self.clone() })
    }

    async fn new_arbiter(&self) -> io::Result<Arbiter> {
        let (tx, rx) = oneshot::channel();
        self.inner.system.arbiter().spawn_fn(move || {
            let _ = tx.send(Arbiter::try_new());
        });
        rx.await.map_err(|_| io::Error::other("the actix system is gone"))?
    }
}

impl Inner {
    /// A thread that an earlier actor has left, unless user code stopped it.
    fn warm_and_alive(&self) -> Option<Arbiter> {
        let mut warm = self.warm();
        warm.retain(Arbiter::alive);
        warm.pop()
    }

    fn warm(&self) -> std::sync::MutexGuard<'_, Vec<Arbiter>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for arbiter in self.warm().drain(..) {
            arbiter.stop();
        }
        self.system.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last clone may be dropped by an actor on the system's own thread, which cannot wait for itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

/// A thread of its own for an actor. Its drop ends the thread, or keeps it warm for the next actor if this one is known
/// to have ended: user code that never returns must not meet another job.
pub(crate) struct Lane {
    arbiter: Option<Arbiter>,
    warm: bool,
    host: Host,
}

impl Lane {
    /// The actor on it has ended: the thread is free for another.
    pub(crate) fn keep_warm(&mut self) {
        self.warm = true;
    }

    /// Where to start the actor.
    pub(crate) fn handle(&self) -> ArbiterHandle {
        self.arbiter.as_ref().expect("a lane holds its arbiter until it is dropped").handle()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(arbiter) = self.arbiter.take() else { return };
        let mut warm = self.host.inner.warm();
        if self.warm && warm.len() < WARM_ARBITERS_MAX {
            warm.push(arbiter);
        } else {
            arbiter.stop();
        }
    }
}
