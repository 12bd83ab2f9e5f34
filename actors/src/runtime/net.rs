//! The thread that sockets live on: a runtime of one thread, apart from everything that computes.
//!
//! One thread serves small messages four times faster than several that share the sockets, and a busy core beside it
//! does not delay heartbeats. In a simulation it is the one thread there is.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::threads::Threads;

/// The network thread of a process. Cheap to clone; the last clone ends it with all that runs on it.
#[derive(Clone)]
pub(crate) struct Net {
    inner: Arc<Inner>,
}

struct Inner {
    handle: Handle,
    end: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Net {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses it.
    // Threads have to come from somewhere, and this is the place for sockets.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("mobula-net".into()).spawn(move || {
            // Either way it is over: told to end, or nobody is left to tell.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { inner: Arc::new(Inner { handle, end: Mutex::new(Some(end)), thread: Mutex::new(Some(thread)) }) })
    }

    /// The thread of a simulation, or one that is started.
    ///
    /// # Errors
    /// If the system refuses it.
    pub(crate) fn on(threads: &Threads) -> io::Result<Self> {
        let Some(one) = threads.simulation() else { return Self::start() };
        let (handle, end, thread) = (one.runtime.clone(), Mutex::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { handle, end, thread }) })
    }

    /// Runs a future there; it belongs to the connection or stream that it serves and ends with it.
    // Tasks of the network have to come from somewhere, and this is the place.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.inner.handle.spawn(future));
    }

    /// Where timers are kept that other threads wait for.
    pub(crate) fn handle(&self) -> Handle {
        self.inner.handle.clone()
    }

    /// Runs a future there and waits for it, from any other thread.
    pub(crate) fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (tx, rx) = oneshot::channel();
        self.spawn(async move {
            // Who waits is blocked below.
            let _ = tx.send(future.await);
        });
        futures::executor::block_on(rx).expect("the network thread lives as long as its handle")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(end);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last clone may be dropped by a task of the thread itself, which cannot wait for itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}
