//! Watching a job of a cluster: through all of its runs, one picture.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::job::{JobSummary, Why};
use crate::node::JobWatch;
use crate::units::Rows;

/// Watches a job of a cluster and can cancel it. Cheap to clone; does not keep the job alive.
#[derive(Clone)]
pub struct ClusterWatch {
    present: Arc<Mutex<Present>>,
}

/// The run that a job is in.
struct Present {
    watch: JobWatch,
    /// Told to stop, perhaps between two runs.
    cancelled: watch::Sender<bool>,
    /// Rows of reads, by operator, that earlier runs have finished.
    finished: BTreeMap<usize, Rows>,
    /// How long earlier runs took.
    before: Duration,
}

impl ClusterWatch {
    pub(super) fn new(watch: JobWatch) -> Self {
        Self {
            present: Arc::new(Mutex::new(Present {
                watch,
                cancelled: watch::Sender::default(),
                finished: BTreeMap::new(),
                before: Duration::ZERO,
            })),
        }
    }

    /// A picture of the job: its present run, with the rows that need not be read again and the time of earlier runs.
    pub fn summary(&self) -> JobSummary {
        let present = self.lock();
        let mut summary = present.watch.summary();
        summary.elapsed += present.before;
        for (index, rows) in &present.finished {
            if let Some(read) = summary.operators.get_mut(*index) {
                read.rows_in += *rows;
                read.rows_total = read.rows_total.map(|total| total + *rows);
            }
        }
        summary
    }

    /// Who waits for whom in its present run now.
    pub(crate) fn ask_why(&self) -> impl Future<Output = Option<Why>> + Send + use<> {
        let watch = self.lock().watch.clone();
        watch.ask_why()
    }

    /// Stops the job; whoever waits for it sees [`JobError::Cancelled`]. One that makes its files visible already does
    /// so to the end.
    pub fn cancel(&self) {
        let present = self.lock();
        present.cancelled.send_replace(true);
        present.watch.cancel();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        *self.lock().cancelled.borrow()
    }

    /// Waits until it is told to stop.
    pub(super) async fn cancelled(&self) {
        let mut cancelled = self.lock().cancelled.subscribe();
        // The sender goes with the last that watch the job.
        let _ = cancelled.wait_for(|cancelled| *cancelled).await;
    }

    /// The job is in another run now.
    pub(super) fn follow(&self, watch: JobWatch, finished: BTreeMap<usize, Rows>) {
        let mut present = self.lock();
        if *present.cancelled.borrow() {
            watch.cancel();
        }
        let elapsed = present.watch.summary().elapsed;
        present.before += elapsed;
        present.finished = finished;
        present.watch = watch;
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
