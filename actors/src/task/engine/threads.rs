//! The threads at an engine: workers that take tasks, and whoever waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::state::{Effects, Ended, Start};
use super::waiter::Waiter;
use super::{Engine, TASK_WORKERS_MAX};
use crate::task::context;
use crate::task::error::TaskError;

/// A worker that has had nothing to do for so long ends, if there are more than cores.
const IDLE: Duration = Duration::from_secs(10);
/// Looks at the queue so often before a worker sleeps; see [`super::waiter`].
const SPINS: u32 = 600;

impl Engine {
    /// Waits; whether it is over. A task that is cancelled meanwhile need not wait on.
    pub(super) fn wait_for(&self, waiter: &Arc<Waiter>, limit: Option<Duration>) -> Result<bool, TaskError> {
        let waits = self.begin_waiting(waiter)?;
        let over = waiter.wait(&*self.inner.parts.env, limit);
        drop(waits);
        Ok(over)
    }

    /// The calling thread waits from now on; if it is a worker, its core is free meanwhile.
    fn begin_waiting(&self, waiter: &Arc<Waiter>) -> Result<Option<Waits<'_>>, TaskError> {
        let Some(work) = context::work_of(self) else { return Ok(None) };
        let worker = work.worker;
        self.with(|state, effects| {
            if state.is_full_of_waiters() {
                return Err(TaskError::Limit(format!(
                    "{TASK_WORKERS_MAX} tasks wait for other tasks in this process, which is the most; let a task return what it \
                     would wait for, or wait in fewer tasks"
                )));
            }
            state.wait(worker, waiter, effects)
        })?;
        Ok(Some(Waits { engine: self, worker }))
    }

    /// What a worker does next, after what it did; `None` if it is to end.
    pub(super) fn next(&self, worker: usize, mut ended: Option<Ended>) -> Option<Start> {
        let mut effects = Effects::default();
        let mut state = self.lock();
        if let Some(ended) = ended.take() {
            // This worker looks itself: nobody need be woken for what its end makes possible, unless it is more than one.
            let other = std::mem::replace(&mut state.workers.spinning, true);
            state.ended(worker, ended, &mut effects);
            state.workers.spinning = other;
        }
        let (mut spun, mut rested) = (self.inner.parts.cpus < 2.0, false);
        loop {
            let next = if state.closed.is_some() { None } else { state.next(worker, &mut effects) };
            let over = next.is_some() || state.closed.is_some();
            if over || !effects.is_empty() {
                self.publish(&state, &mut effects);
                drop(state);
                self.apply(std::mem::take(&mut effects));
                if over {
                    return next;
                }
                state = self.lock();
                continue;
            }
            self.publish(&state, &mut effects);
            if !spun && !state.workers.spinning {
                spun = true;
                state.workers.spinning = true;
                drop(state);
                self.spin();
                state = self.lock();
                state.workers.spinning = false;
                continue;
            }
            if rested && state.retires(self.inner.parts.cpus) {
                return None;
            }
            state.workers.idle += 1;
            let (guard, wait) = match self.inner.work.wait_timeout(state, IDLE) {
                Ok(waited) => waited,
                Err(poisoned) => poisoned.into_inner(),
            };
            state = guard;
            state.workers.idle -= 1;
            rested = wait.timed_out();
        }
    }

    fn spin(&self) {
        for _ in 0..SPINS {
            if self.inner.queued.load(Ordering::Acquire) > 0 || self.inner.closed.load(Ordering::Relaxed) {
                return;
            }
            std::hint::spin_loop();
        }
    }

    /// A worker has died with what it ran.
    pub(super) fn worker_died(&self, worker: usize, reason: String) {
        self.with(|state, effects| state.ended(worker, Ended::Lost(reason), effects));
    }

    /// Workers that were to be started are there.
    pub(super) fn started(&self) {
        self.with(|state, effects| state.started(effects));
    }

    /// A worker is gone for good.
    pub(super) fn gone(&self) {
        self.with(|state, effects| state.gone(effects));
    }
}

/// Waits for something that is no task, an actor's reply say: if the thread is a worker of tasks, its core is free meanwhile,
/// and what it waits for may need one.
pub(crate) fn while_waiting<R>(wait: impl FnOnce() -> R) -> R {
    let engine = context::engine();
    let waiter = Arc::new(Waiter::new(1));
    // At the limit of workers it waits with its core; a task that is cancelled waits as long as it said.
    let _waits = engine.as_ref().map(|engine| engine.begin_waiting(&waiter));
    wait()
}

/// A worker waits; with its drop it goes on, once it has its core again.
struct Waits<'a> {
    engine: &'a Engine,
    worker: usize,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let waiter = Arc::new(Waiter::new(1));
        let goes_on = self.engine.with(|state, effects| state.go_on(self.worker, &waiter, effects));
        if !goes_on {
            waiter.wait(&*self.engine.inner.parts.env, None);
        }
    }
}
