//! Hears Ctrl-C, SIGTERM and SIGHUP from the first moment of a command on.
//!
//! Until a command says that its job starts ([`Interrupts::job_starts`]) nothing is written and an interrupt ends the
//! process at once. From then on interrupts are only counted; `watch` acts on them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::signals::Handlers;

/// The interrupts that came so far. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct Interrupts {
    count: watch::Receiver<usize>,
    starts: Arc<Mutex<bool>>,
}

impl Interrupts {
    /// Listens from now on, for a command that writes to `output` or that is the user's own.
    pub(crate) fn listen(output: Option<&Path>) -> Self {
        let (sender, count) = watch::channel(0);
        let starts = Arc::new(Mutex::new(false));
        let listener = Listener { count: sender, starts: Arc::clone(&starts), output: output.map(Path::to_owned) };
        if let Err(e) = listener.start() {
            tracing::warn!("no clean Ctrl-C: {e}");
        }
        Self { count, starts }
    }

    /// From now on there is something to take back: an interrupt no longer ends the process by itself.
    pub(crate) fn job_starts(&self) {
        *self.starts.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Whether there was an interrupt already.
    pub(crate) fn came(&self) -> bool {
        *self.count.borrow() > 0
    }

    /// Waits until `count` interrupts came in all.
    pub(crate) async fn wait_for(&mut self, count: usize) {
        if self.count.wait_for(|came| *came >= count).await.is_err() {
            // Nobody listens.
            std::future::pending::<()>().await;
        }
    }
}

struct Listener {
    count: watch::Sender<usize>,
    starts: Arc<Mutex<bool>>,
    output: Option<PathBuf>,
}

impl Listener {
    /// Comes back once the handlers are there.
    #[allow(clippy::disallowed_methods, reason = "it listens as long as the process lives, before there is a session")]
    fn start(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            Handlers::new()?
        };
        let listen = move || {
            runtime.block_on(async {
                loop {
                    signals.next().await;
                    self.heard();
                }
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
        Ok(())
    }

    fn heard(&self) {
        let starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        self.count.send_modify(|count| *count += 1);
        if !*starts {
            exit("cancelled", self.output.as_deref());
        }
    }
}

/// Ends the process because it was interrupted.
pub(crate) fn exit(what: &str, output: Option<&Path>) -> ! {
    let written = output.map(|output| match crate::io::kept(output) {
        Some(kept) => format!("; {kept}"),
        None => format!("; nothing was written to {}", output.display()),
    });
    let _ = writeln!(io::stderr(), "{what}{}", written.unwrap_or_default());
    std::process::exit(1);
}
