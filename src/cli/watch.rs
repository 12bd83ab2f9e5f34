//! Watches a running write from a thread of its own: draws its progress, and cancels it on Ctrl-C, SIGTERM or SIGHUP.
//!
//! The first of them cancels the job, which ends within a moment and leaves no visible file. A second one, or a job that
//! does not end in [`GRACE`], ends the process at once.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use crate::dataset::{RunWatch, RunningWrite, WriteSummary};
use crate::progress::Painter;
use crate::{JobSummary, OperatorState};
use tokio::sync::oneshot;

use super::Screen;
use super::interrupt::{Interrupts, exit};

/// Waits for `run`, which writes to `output`, to end and shows its progress on `screen` meanwhile. Ends the process if
/// the run is cancelled.
pub(crate) fn wait_watched(
    run: RunningWrite,
    interrupts: Interrupts,
    output: &Path,
    screen: &Screen,
) -> crate::Result<WriteSummary> {
    if interrupts.came() {
        // Takes back what it wrote, even if it is done already.
        drop(run);
        exit("cancelled", Some(output));
    }
    let painter = Painter::new(screen.style, screen.bars.clone(), io::stderr());
    let watch = run.watch();
    let (end, ended) = oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || watch_blocking(watch, painter, ended, interrupts, output));
        let result = run.wait();
        drop(end);
        // A watcher that failed has said so itself; the job's result stands.
        let _ = watcher.join();
        if result.as_ref().is_err_and(crate::Error::is_cancelled) {
            // Not by returning: that would wait for workers that are inside a batch.
            exit("cancelled", Some(output));
        }
        result
    })
}

fn watch_blocking(
    run: RunWatch,
    painter: Painter<io::Stderr>,
    ended: oneshot::Receiver<()>,
    interrupts: Interrupts,
    output: &Path,
) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(watch(run, painter, ended, interrupts, output)),
        Err(e) => tracing::warn!("no progress and no clean Ctrl-C: {e}"),
    }
}

async fn watch(
    run: RunWatch,
    mut painter: Painter<io::Stderr>,
    ended: oneshot::Receiver<()>,
    mut interrupts: Interrupts,
    output: &Path,
) {
    let mut ended = pin!(ended);
    let mut interrupted = false;
    let mut redraw = tokio::time::interval(REDRAW_EVERY);
    loop {
        tokio::select! {
            biased;
            _ = &mut ended => break painter.clear(),
            () = interrupts.wait_for(1), if !interrupted => {
                interrupted = true;
                painter.clear();
                if !has_computed(&run.summary()) {
                    run.cancel();
                    return end_soon(ended, interrupts, output).await;
                }
            }
            _ = redraw.tick() => painter.paint(&run.summary()),
        }
    }
}

/// Whether all that is left is to make the files visible, which is not broken off half-way.
pub(super) fn has_computed(summary: &JobSummary) -> bool {
    let operators = &summary.operators;
    !operators.is_empty() && operators.iter().all(|operator| operator.state == OperatorState::Done)
}

/// Waits for a cancelled job to end; ends the process at a second interrupt or when the job takes too long.
async fn end_soon(ended: impl Future, mut interrupts: Interrupts, output: &Path) {
    tokio::select! {
        biased;
        _ = ended => {}
        () = interrupts.wait_for(2) => exit("stopped", Some(output)),
        () = tokio::time::sleep(GRACE) => exit("cancelled", Some(output)),
    }
}

/// Fast enough to look alive, slow enough to cost nothing.
pub(super) const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// Ctrl-C ends the program within a second; this leaves some of it for the process to end.
pub(super) const GRACE: Duration = Duration::from_millis(800);
