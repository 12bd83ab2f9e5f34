//! Watches what the session of a user's program runs: shows its progress, and cancels it on Ctrl-C, SIGTERM or SIGHUP.
//!
//! The first of them cancels all runs and refuses new ones; the program's function sees an error and returns. If it does
//! not, or at a second signal, the process is ended, but not while files are being made visible.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::MultiProgress;
use tokio::sync::oneshot;

use super::Screen;
use super::interrupt::{Interrupts, exit};
use super::watch::{GRACE, REDRAW_EVERY, has_computed};
use crate::dataset::Runs;
use crate::progress::{Painter, Style};

/// Does the program's work and watches it meanwhile.
pub(super) fn watched<T>(runs: Runs, interrupts: Interrupts, screen: &Screen, work: impl FnOnce() -> T) -> T {
    let (end, ended) = oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || watch_blocking(&runs, interrupts, screen, ended));
        let result = work();
        drop(end);
        // A watcher that failed has said so itself; the program's result stands.
        let _ = watcher.join();
        result
    })
}

fn watch_blocking(runs: &Runs, interrupts: Interrupts, screen: &Screen, ended: oneshot::Receiver<()>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(watch(runs, interrupts, screen, ended)),
        Err(e) => tracing::warn!("no progress and no clean Ctrl-C: {e}"),
    }
}

async fn watch(runs: &Runs, mut interrupts: Interrupts, screen: &Screen, ended: oneshot::Receiver<()>) {
    let mut ended = pin!(ended);
    let shown = Shown::of(runs, screen);
    let mut redraw = tokio::time::interval(REDRAW_EVERY);
    loop {
        tokio::select! {
            biased;
            _ = &mut ended => return shown.clear(|_| true),
            () = interrupts.wait_for(1) => break,
            _ = redraw.tick() => shown.paint(runs),
        }
    }
    shown.clear(|_| true);
    let mut patience = match runs.close() {
        // Nothing is to be taken back.
        0 => exit("cancelled", None),
        _ => Patience::default(),
    };
    loop {
        tokio::select! {
            biased;
            _ = &mut ended => return,
            () = interrupts.wait_for(2) => exit("stopped", None),
            () = tokio::time::sleep(LOOK) => {
                let all = runs.all();
                let finishing = all.iter().any(|(_, run)| run.makes_files && has_computed(&run.watch.summary()));
                if patience.is_over(all.len(), finishing) {
                    exit("cancelled", None);
                }
            }
        }
    }
}

/// How often it looks whether a cancelled program has come to its end.
const LOOK: Duration = Duration::from_millis(20);

/// How long a program that was told to end is waited for.
#[derive(Debug, Default)]
struct Patience {
    waited: Duration,
    left: Option<usize>,
}

impl Patience {
    /// One more look: so many runs are left. Each that ends, and one that makes files visible, is time well spent.
    fn is_over(&mut self, runs: usize, finishing: bool) -> bool {
        if finishing || self.left.replace(runs) != Some(runs) {
            self.waited = Duration::ZERO;
        }
        self.waited += LOOK;
        self.waited > GRACE
    }
}

/// The progress of the oldest run, as long as it is the oldest. Cheap to clone; clones share it.
#[derive(Clone)]
struct Shown {
    style: Style,
    bars: MultiProgress,
    painter: Arc<Mutex<Option<(u64, Painter<io::Stderr>)>>>,
}

impl Shown {
    /// On the screen, for runs of the list: what a program prints after a run is not torn by the run's bars.
    fn of(runs: &Runs, screen: &Screen) -> Self {
        let shown = Self { style: screen.style, bars: screen.bars.clone(), painter: Arc::default() };
        let ending = shown.clone();
        runs.on_end(move |number| ending.clear(|shown| shown == number));
        shown
    }

    fn paint(&self, runs: &Runs) {
        let mut painter = self.lock();
        // Under the lock, so that no run is painted after its end.
        let Some((number, run)) = runs.all().into_iter().next() else { return };
        let summary = run.watch.summary();
        let (_, painter) = match &mut *painter {
            Some((shown, _)) if *shown != number => return,
            other => other.get_or_insert_with(|| (number, Painter::new(self.style, self.bars.clone(), io::stderr()))),
        };
        painter.paint(&summary);
    }

    fn clear(&self, which: impl Fn(u64) -> bool) {
        if let Some((_, mut painter)) = self.lock().take_if(|(shown, _)| which(*shown)) {
            painter.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(u64, Painter<io::Stderr>)>> {
        self.painter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(patience: &mut Patience, runs: usize, finishing: bool) -> usize {
        (0..10_000).take_while(|_| !patience.is_over(runs, finishing)).count()
    }

    #[test]
    fn a_program_that_does_not_end_is_waited_for_a_moment_and_longer_while_its_runs_end() {
        let grace = (GRACE.as_millis() / LOOK.as_millis()) as usize;
        let mut patience = Patience::default();
        assert_eq!(looks(&mut patience, 2, false), grace);
        assert_eq!(looks(&mut patience, 1, false), grace);
        assert_eq!(looks(&mut patience, 0, false), grace);
        assert_eq!(looks(&mut patience, 0, true), 10_000);
        assert!(looks(&mut patience, 0, false) < grace);
    }
}
