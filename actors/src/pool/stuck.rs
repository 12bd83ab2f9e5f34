//! Calls of user code that do not come back: the worker is given up, its thread left behind, its task tried elsewhere.
//!
//! A call cannot be killed within its process. So whatever it still does is made to count for nothing: its turn on a core is
//! given back, the queue gives its worker no more, its attempts are over, and when it comes back its worker ends.

use std::sync::Arc;
use std::time::Duration;

use super::doing::Stuck;
use super::progress::{call_limit, opening_limit};
use super::task::WorkerEvent;
use super::worker::PoolShared;
use crate::block::Segment;
use crate::job::JobError;
use crate::job::why::picture::At;
use crate::operator::BoxError;
use crate::runtime::watch::Exit;

/// The cause of an attempt whose call did not come back.
#[derive(Debug, thiserror::Error)]
#[error("no progress for {} s ({what}); a longer task_progress_limit gives it more time", .time.as_secs_f64().round())]
struct NoProgress {
    time: Duration,
    what: String,
}

impl Stuck {
    fn cause(&self) -> Arc<BoxError> {
        Arc::new(NoProgress { time: self.time, what: self.what.clone() }.into())
    }
}

impl PoolShared {
    /// Gives up the workers whose calls take longer than they may.
    pub(crate) fn give_up_stuck(&self) -> Vec<Stuck> {
        let limit = self.task_progress_limit;
        let stuck = self.doings.give_up_after(call_limit(limit, &self.calls), opening_limit(limit), &self.steps);
        stuck.iter().for_each(|stuck| self.let_go(stuck));
        stuck
    }

    /// What a worker that was given up had at hand is tried elsewhere. Each of its tasks, at fault or not, gets a new attempt:
    /// the worker may be about to report on the old one.
    fn let_go(&self, stuck: &Stuck) {
        let Stuck { worker, task, time, what, thread, at } = stuck;
        let (operator, seconds) = (&self.operator, time.as_secs());
        if self.is_isolated() {
            // Its worker waits for it without a thread, and ends with its guardian.
            tracing::warn!(%operator, worker, seconds, what, "a call does not come back; its process is killed");
        } else {
            tracing::warn!(%operator, worker, seconds, what, "a call does not come back; its thread is left behind");
            self.left_behind.add(self.turns.job(), thread.clone());
        }
        self.metrics.worker_ended();
        self.give_turn_back(*worker);
        for (seq, attempt) in self.queue.bar(*worker) {
            // Nobody knows how far it was; but no row is at fault for a disk.
            let reached = (*at != At::Restoring).then_some(Segment::END);
            self.tell(match *task == Some((seq, attempt)) {
                true => WorkerEvent::Failed { seq, attempt, worker: *worker, reached, cause: stuck.cause() },
                false => WorkerEvent::Lost { seq, attempt, worker: *worker, exit: Exit::Failed(stuck.cause()) },
            });
        }
    }

    /// Whether another worker may take the place of one that was left behind.
    ///
    /// # Errors
    /// If the job has left too many behind by now.
    pub(crate) fn may_go_on(&self, stuck: &Stuck) -> Result<(), JobError> {
        if self.left_behind.of(self.turns.job()) <= self.left_behind_max {
            return Ok(());
        }
        let (operator, most) = (Arc::clone(&self.operator), self.left_behind_max);
        Err(JobError::LeftBehind { operator, most, cause: stuck.cause() })
    }
}
