//! The threads that actix actors live on: one system thread for a node, and arbiters started from it. In a simulation
//! they all live on its one thread.

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

enum Inner {
    Own(Own),
    Simulated(ArbiterHandle),
}

/// Threads of a node's own.
struct Own {
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
        let own = Own { system, thread: Mutex::new(Some(thread)), warm: Mutex::default() };
        Ok(Self { inner: Arc::new(Inner::Own(own)) })
    }

    /// A host whose actors all live on the thread of a simulation.
    pub(crate) fn simulated(arbiter: ArbiterHandle) -> Self {
        Self { inner: Arc::new(Inner::Simulated(arbiter)) }
    }

    /// A thread for one actor (or a few that share it), given back by [`Lane`]'s drop.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) async fn lane(&self) -> io::Result<Lane> {
        let own = match &*self.inner {
            Inner::Own(own) => own,
            Inner::Simulated(arbiter) => return Ok(Lane::Shared(arbiter.clone())),
        };
        let arbiter = match own.warm_and_alive() {
            Some(arbiter) => arbiter,
            None => own.new_arbiter().await?,
        };
        Ok(Lane::Own(OwnLane { arbiter: Some(arbiter), warm: false, host: self.clone() }))
    }
}

impl Own {
    async fn new_arbiter(&self) -> io::Result<Arbiter> {
        let (tx, rx) = oneshot::channel();
        self.system.arbiter().spawn_fn(move || {
            let _ = tx.send(Arbiter::try_new());
        });
        rx.await.map_err(|_| io::Error::other("the actix system is gone"))?
    }

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

impl Drop for Own {
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

/// A thread for an actor: its own, or the one of a simulation, where an actor ends by itself.
pub(crate) enum Lane {
    /// As below.
    Own(OwnLane),
    /// Shared with everybody.
    Shared(ArbiterHandle),
}

/// A thread of its own for an actor. Its drop ends the thread, or keeps it warm for the next actor if this one is known
/// to have ended: user code that never returns must not meet another job.
pub(crate) struct OwnLane {
    arbiter: Option<Arbiter>,
    warm: bool,
    host: Host,
}

impl Lane {
    /// The actor on it has ended: the thread is free for another.
    pub(crate) fn keep_warm(&mut self) {
        if let Self::Own(own) = self {
            own.warm = true;
        }
    }

    /// Where to start the actor.
    pub(crate) fn handle(&self) -> ArbiterHandle {
        match self {
            Self::Own(own) => own.arbiter.as_ref().expect("a lane holds its arbiter until it is dropped").handle(),
            Self::Shared(arbiter) => arbiter.clone(),
        }
    }
}

impl Drop for OwnLane {
    fn drop(&mut self) {
        let (Some(arbiter), Inner::Own(own)) = (self.arbiter.take(), &*self.host.inner) else { return };
        let mut warm = own.warm();
        if self.warm && warm.len() < WARM_ARBITERS_MAX {
            warm.push(arbiter);
        } else {
            arbiter.stop();
        }
    }
}
