//! The memory of this process, watched from a thread of its own.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(2);
/// A pipeline that brings nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of the kernel, on the machines that this bench knows.
const PAGE_BYTES: u64 = 4096;

/// Bytes of memory that this process has now.
pub(crate) fn now() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the kernel tells the pages of a process") * PAGE_BYTES
}

/// Looks every few milliseconds, remembers the most that was seen, and ends the process if there is no progress.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    peak: AtomicU64,
    progress: AtomicU64,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let watching = Arc::clone(&shared);
        let thread = spawn(move || watching.look());
        Self { shared, thread }
    }

    /// Says that the pipeline goes on.
    pub(crate) fn progress(&self) {
        self.shared.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// The most bytes that were seen.
    pub(crate) fn finish(self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic");
        self.shared.peak.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn look(&self) {
        let (mut seen, mut since) = (0, Instant::now());
        while !self.stop.load(Ordering::Relaxed) {
            self.peak.fetch_max(now(), Ordering::Relaxed);
            let progress = self.progress.load(Ordering::Relaxed);
            if progress != seen {
                (seen, since) = (progress, Instant::now());
            } else if since.elapsed() > PATIENCE {
                eprintln!("no block for {PATIENCE:?}: the pipeline hangs");
                std::process::exit(1);
            }
            sleep(PERIOD);
        }
    }
}
