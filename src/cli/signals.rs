//! Signals that ask a command to end: Ctrl-C, SIGTERM, and SIGHUP unless started under `nohup`.
//!
//! [`Signals`] is for commands that run until they are told to end; [`Handlers`] are what it and `interrupt` listen by.

use std::io;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Listens from now on.
pub(crate) struct Signals {
    runtime: Runtime,
    handlers: Handlers,
}

/// What came first.
pub(crate) enum Heard<T> {
    /// The work's end, with its result.
    Done(T),
    /// A signal; the work goes on.
    Signal,
}

impl Signals {
    /// Comes back once the handlers are there.
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handlers = {
            let _inside = runtime.enter();
            Handlers::new()?
        };
        Ok(Self { runtime, handlers })
    }

    /// Waits for a signal.
    pub(crate) fn wait(&mut self) {
        self.runtime.block_on(self.handlers.next());
    }

    /// Does blocking work on a thread of its own, until it is done or a signal comes.
    #[allow(clippy::disallowed_methods, reason = "work that does not end by itself ends with the process")]
    pub(crate) fn during<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Heard<T>> {
        let (end, ended) = oneshot::channel();
        // Nobody waits for it after a signal.
        std::thread::Builder::new().name("work".to_owned()).spawn(move || drop(end.send(work())))?;
        let handlers = &mut self.handlers;
        self.runtime.block_on(async {
            tokio::select! {
                done = ended => done.map(Heard::Done).map_err(|_| io::Error::other("its thread died")),
                () = handlers.next() => Ok(Heard::Signal),
            }
        })
    }
}

/// Handlers of the signals that ask a command to end.
#[cfg(unix)]
pub(crate) struct Handlers {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Handlers {
    /// Has to be called inside a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Whether the command was started under `nohup`, which a handler of our own would undo. Known on Linux only.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is signal 1, SIGHUP.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Handlers of what asks a command to end.
#[cfg(not(unix))]
pub(crate) struct Handlers(tokio::signal::windows::CtrlC);

#[cfg(not(unix))]
impl Handlers {
    /// Has to be called inside a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}
