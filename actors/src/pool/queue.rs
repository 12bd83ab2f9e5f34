//! The queue that the workers of a pool pull from: a task goes to whoever is free, so a slow one holds nobody up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::task::Task;

/// Tasks that wait for a worker, and workers that wait for a task. Cheap to clone.
///
/// It is kept short by its only writer, the operator's actor, which puts in no more than the workers can start.
#[derive(Clone, Default)]
pub(crate) struct TaskQueue {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// The last to come is served first: its thread is the one that is still warm.
    idle: Vec<(usize, oneshot::Sender<Task>)>,
    /// Which task each worker has pulled.
    running: BTreeMap<usize, (u64, u32)>,
    workers: BTreeSet<usize>,
    closed: bool,
}

impl TaskQueue {
    /// Puts a task in; wakes a worker if one is free. The smallest number goes first: a task that is tried again is
    /// older than all that wait.
    pub(crate) fn push(&self, task: Task) {
        let mut handed_over = None;
        {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            let at = state.tasks.partition_point(|waiting| waiting.seq < task.seq);
            state.tasks.insert(at, task);
            if let Some(at) = state.idle.iter().rposition(|(worker, _)| state.next_for(*worker).is_some()) {
                let (worker, idle) = state.idle.remove(at);
                handed_over = state.take_next(worker).map(|task| (worker, idle, task));
            }
        }
        if let Some((worker, idle, task)) = handed_over {
            // A worker that died while it waited leaves the task to the others.
            if let Err(task) = idle.send(task) {
                self.lock().running.remove(&worker);
                self.push(task);
            }
        }
    }

    /// A task for this worker, if one waits. `None` also when the queue is closed.
    pub(crate) fn try_pull(&self, worker: usize) -> Option<Task> {
        let mut state = self.lock();
        state.running.remove(&worker);
        state.take_next(worker)
    }

    /// A task for this worker, waiting for it; `None` once the queue is closed.
    pub(crate) async fn pull(&self, worker: usize) -> Option<Task> {
        let task = {
            let mut state = self.lock();
            state.running.remove(&worker);
            if let Some(task) = state.take_next(worker) {
                return Some(task);
            }
            if state.closed {
                return None;
            }
            let (tx, rx) = oneshot::channel();
            state.idle.push((worker, tx));
            rx
        };
        task.await.ok()
    }

    /// A worker joins the pool.
    pub(crate) fn join(&self, worker: usize) {
        self.lock().workers.insert(worker);
    }

    /// A worker has left; what it had pulled, if anything.
    pub(crate) fn leave(&self, worker: usize) -> Option<(u64, u32)> {
        let mut state = self.lock();
        state.workers.remove(&worker);
        state.idle.retain(|(idle, _)| *idle != worker);
        state.running.remove(&worker)
    }

    /// Tasks that no worker has pulled yet.
    pub(crate) fn len(&self) -> usize {
        self.lock().tasks.len()
    }

    /// Ends the pool: tasks that wait are dropped, workers that wait or come back get `None`.
    pub(crate) fn close(&self) {
        let (tasks, idle) = {
            let mut state = self.lock();
            state.closed = true;
            (std::mem::take(&mut state.tasks), std::mem::take(&mut state.idle))
        };
        drop((tasks, idle));
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The first task that this worker may have: not one it has just failed, if there is anybody else to try it.
    fn next_for(&self, worker: usize) -> Option<usize> {
        let alone = self.workers.len() <= 1;
        self.tasks.iter().position(|task| alone || task.avoid != Some(worker))
    }

    fn take_next(&mut self, worker: usize) -> Option<Task> {
        let at = self.next_for(worker)?;
        let task = self.tasks.remove(at)?;
        self.running.insert(worker, (task.seq, task.attempt));
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::task::TaskInput;
    use crate::units::Rows;
    use futures::FutureExt;

    fn task(seq: u64, avoid: Option<usize>) -> Task {
        Task { seq, attempt: 1, input: TaskInput::Pieces(Vec::new().into()), from: Rows(0), avoid }
    }

    fn two_workers() -> TaskQueue {
        let queue = TaskQueue::default();
        queue.join(0);
        queue.join(1);
        queue
    }

    #[test]
    fn a_failed_task_is_tried_elsewhere_if_there_is_an_elsewhere() {
        let queue = two_workers();
        queue.push(task(7, Some(0)));
        assert!(queue.try_pull(0).is_none());
        assert_eq!(queue.try_pull(1).map(|task| task.seq), Some(7));
        queue.push(task(8, Some(0)));
        queue.leave(1);
        assert_eq!(queue.try_pull(0).map(|task| task.seq), Some(8));
    }

    #[test]
    fn the_oldest_task_goes_first() {
        let queue = two_workers();
        queue.push(task(5, None));
        queue.push(task(2, None));
        assert_eq!(queue.try_pull(0).map(|task| task.seq), Some(2));
        assert_eq!(queue.leave(0), Some((2, 1)));
    }

    #[test]
    fn who_waits_is_woken_by_a_task_and_by_the_end() {
        let queue = two_workers();
        let mut first = Box::pin(queue.pull(0));
        let mut second = Box::pin(queue.pull(1));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        queue.push(task(1, None));
        assert_eq!(second.now_or_never().flatten().map(|task| task.seq), Some(1));
        queue.close();
        assert!(first.now_or_never().expect("woken").is_none());
    }
}
