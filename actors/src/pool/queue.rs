//! The queue that the workers of a pool pull from: a task goes to whoever is free, so a slow one holds nobody up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::task::Task;
use crate::block::NodeId;

/// Tasks that wait for a worker, and workers that wait for a task. Cheap to clone.
///
/// It is kept short by its only writer, the operator's actor, which puts in little more than the workers can start.
#[derive(Clone, Default)]
pub(crate) struct TaskQueue {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// The last to come is served first: its thread is the one that is still warm.
    idle: Vec<Idle>,
    /// Workers that wait for room with a task, by its number: they would rather run an older one.
    stuck: Vec<(u64, oneshot::Sender<()>)>,
    /// Which tasks each worker has pulled: one, or a few where it feeds a device.
    running: BTreeMap<usize, Vec<(u64, u32)>>,
    /// Workers that were given up in the midst of a task: they get no more.
    barred: BTreeSet<usize>,
    closed: bool,
    /// How often in a row the oldest task was passed over for one that is nearer.
    passed: usize,
    /// Tasks are so short that waking another worker takes longer than a few of them.
    short: bool,
    /// Tasks that were pulled so far.
    pulled: u64,
}

/// A worker that waits for a task, and the node whose blocks are near to it.
struct Idle {
    worker: usize,
    near: Option<NodeId>,
    task: oneshot::Sender<Task>,
}

/// The oldest task is passed over so often in a row at most: all others may wait for it to go on.
const NEAR_PASSES_MAX: usize = 4;

/// A worker looks so far beyond the oldest task for one whose input is near. Little, for the oldest is waited for.
const NEAR_TASKS_LOOK: usize = 8;

/// With short tasks, another worker is woken only when so many wait, or when none was pulled for as long as [`QUICK`].
const SHORT_TASKS_WAIT_MAX: usize = 4;

/// Whoever runs short tasks comes back for the next within this time. One who does not has a long one: tasks are short on
/// average.
pub(crate) const QUICK: Duration = Duration::from_millis(1);

impl TaskQueue {
    /// Puts a task in; wakes a worker if one is free. The smallest number goes first: a task that is tried again is
    /// older than all that wait.
    pub(crate) fn push(&self, task: Task) {
        self.offer(task);
    }

    /// The same. With short tasks it may wait though a worker is idle: then the count of [`look_after`](Self::look_after),
    /// which has to be called after [`QUICK`].
    pub(crate) fn offer(&self, task: Task) -> Option<u64> {
        let (handed_over, held_back) = {
            let mut state = self.lock();
            if state.closed {
                return None;
            }
            let at = state.tasks.partition_point(|waiting| waiting.seq < task.seq);
            state.tasks.insert(at, task);
            let handed_over = if state.someone_is_quick() { None } else { state.hand_over() };
            if handed_over.is_none() {
                state.wake_stuck();
            }
            (handed_over, state.waits_beside_idle().filter(|_| state.short))
        };
        self.send(handed_over).or(held_back)
    }

    /// Looks after tasks that wait for a worker that is quick. If none has been pulled since the count was `seen`, nobody
    /// is: they go to workers that are idle. The count to look again with, if they still wait.
    pub(crate) fn look_after(&self, seen: u64) -> Option<u64> {
        loop {
            let handed_over = {
                let mut state = self.lock();
                let pulled = state.waits_beside_idle()?;
                if pulled != seen {
                    return Some(pulled);
                }
                let handed_over = state.hand_over();
                // Not one more task that was pulled because somebody is quick.
                state.pulled = seen;
                handed_over
            };
            handed_over.as_ref()?;
            // One that comes back is looked after here again.
            self.send(handed_over);
        }
    }

    /// A worker that died while it waited leaves its task to the others: it is [offered](Self::offer) again.
    fn send(&self, handed_over: Option<(Idle, Task)>) -> Option<u64> {
        let (Idle { worker, task: idle, .. }, task) = handed_over?;
        let task = idle.send(task).err()?;
        self.done(worker, task.seq);
        self.offer(task)
    }

    /// A task for this worker, if one waits. `None` also when the queue is closed.
    pub(crate) fn try_pull(&self, worker: usize) -> Option<Task> {
        let mut state = self.lock();
        state.running.remove(&worker);
        state.take_next(worker, None)
    }

    /// One more task for a worker that has not finished all it has.
    pub(crate) fn try_pull_more(&self, worker: usize) -> Option<Task> {
        self.lock().take_next(worker, None)
    }

    /// The worker is done with one of its tasks.
    pub(crate) fn done(&self, worker: usize, seq: u64) {
        let mut state = self.lock();
        if let Some(tasks) = state.running.get_mut(&worker) {
            tasks.retain(|(running, _)| *running != seq);
            if tasks.is_empty() {
                state.running.remove(&worker);
            }
        }
    }

    /// A task for this worker, waiting for it; `None` once the queue is closed.
    pub(crate) async fn pull(&self, worker: usize) -> Option<Task> {
        self.pull_near(worker, None).await
    }

    /// The same, rather one whose input is on the node `near`.
    pub(crate) async fn pull_near(&self, worker: usize, near: Option<NodeId>) -> Option<Task> {
        let task = {
            let mut state = self.lock();
            state.running.remove(&worker);
            if let Some(task) = state.take_next(worker, near) {
                return Some(task);
            }
            if state.closed || state.barred.contains(&worker) {
                return None;
            }
            let (tx, rx) = oneshot::channel();
            state.idle.push(Idle { worker, near, task: tx });
            rx
        };
        task.await.ok()
    }

    /// Waits until a task older than `seq` waits in the queue. Room is kept for the oldest task first, so a worker that
    /// waits for room with a younger one may be the very worker that the oldest needs.
    ///
    /// Who is told so and does not put its task back has to [pass it on](Self::pass_on); a future that is dropped does.
    pub(crate) async fn older_than(&self, seq: u64) {
        let woken = {
            let mut state = self.lock();
            if state.tasks.front().is_some_and(|task| task.seq < seq) {
                return;
            }
            let (tx, rx) = oneshot::channel();
            state.stuck.retain(|(_, stuck)| !stuck.is_closed());
            state.stuck.push((seq, tx));
            rx
        };
        let mut stuck = Stuck { queue: self, woken };
        if (&mut stuck.woken).await.is_err() {
            // The queue is gone: whoever waits for room learns it there.
            std::future::pending::<()>().await;
        }
    }

    /// Somebody was told to make way for an older task and has none to put back: another one is told, if an older task
    /// still waits.
    pub(crate) fn pass_on(&self) {
        self.lock().wake_stuck();
    }

    /// A worker has left; what it had pulled, if anything.
    pub(crate) fn leave(&self, worker: usize) -> Vec<(u64, u32)> {
        let mut state = self.lock();
        state.idle.retain(|idle| idle.worker != worker);
        state.running.remove(&worker).unwrap_or_default()
    }

    /// The same for a worker that was given up and may come back: it gets nothing any more.
    pub(crate) fn bar(&self, worker: usize) -> Vec<(u64, u32)> {
        self.lock().barred.insert(worker);
        self.leave(worker)
    }

    /// The numbers of the tasks that each worker has pulled.
    pub(crate) fn running(&self) -> BTreeMap<usize, Vec<u64>> {
        let numbers = |tasks: &Vec<(u64, u32)>| tasks.iter().map(|(seq, _)| *seq).collect();
        self.lock().running.iter().map(|(worker, tasks)| (*worker, numbers(tasks))).collect()
    }

    /// The attempt of a task that a worker has pulled: the last one, since a worker that failed it may still say so while
    /// another is at the next.
    pub(crate) fn attempt_of(&self, seq: u64) -> Option<u32> {
        let state = self.lock();
        let attempts = state.running.values().flatten().filter(|(running, _)| *running == seq);
        attempts.map(|(_, attempt)| *attempt).max()
    }

    /// Says whether tasks have turned out to be short.
    pub(crate) fn set_short(&self, short: bool) {
        self.lock().short = short;
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

/// A worker's place among those that are stuck.
struct Stuck<'a> {
    queue: &'a TaskQueue,
    woken: oneshot::Receiver<()>,
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        self.woken.close();
        // Told, but it has not looked: it was told in vain.
        if self.woken.try_recv().is_ok() {
            self.queue.pass_on();
        }
    }
}

impl State {
    /// Whether a worker that runs takes the tasks that wait before another one would be awake.
    fn someone_is_quick(&self) -> bool {
        self.short && !self.running.is_empty() && self.tasks.len() < SHORT_TASKS_WAIT_MAX
    }

    /// The count of tasks that were pulled, if one waits and a worker is idle.
    fn waits_beside_idle(&self) -> Option<u64> {
        (!self.tasks.is_empty() && !self.idle.is_empty()).then_some(self.pulled)
    }

    /// The first task for an idle worker.
    fn hand_over(&mut self) -> Option<(Idle, Task)> {
        let idle = self.pick_idle()?;
        let task = self.take_next(idle.worker, idle.near)?;
        Some((idle, task))
    }

    /// An idle worker for the first task that waits: rather one that has not just failed it. If there is no other, the
    /// same again: others may be waiting for this very task.
    fn pick_idle(&mut self) -> Option<Idle> {
        let (avoid, home) = self.tasks.front().map(|task| (task.avoid, task.input.home()))?;
        let willing = |idle: &Idle| Some(idle.worker) != avoid;
        let near = self.idle.iter().rposition(|idle| home.is_some() && idle.near == home && willing(idle));
        let at = near.or_else(|| self.idle.iter().rposition(willing)).or_else(|| self.idle.len().checked_sub(1))?;
        Some(self.idle.remove(at))
    }

    /// Nobody is idle: the worker that is stuck with the youngest task, if it is younger than the oldest that waits.
    fn wake_stuck(&mut self) {
        let Some(oldest) = self.tasks.front().map(|task| task.seq) else { return };
        self.stuck.retain(|(_, stuck)| !stuck.is_closed());
        let youngest = self.stuck.iter().enumerate().max_by_key(|(_, (seq, _))| *seq);
        if let Some((at, (seq, _))) = youngest
            && *seq > oldest
        {
            let (_, stuck) = self.stuck.remove(at);
            // Closed between the two lines: it is no longer stuck.
            let _ = stuck.send(());
        }
    }

    fn take_next(&mut self, worker: usize, near: Option<NodeId>) -> Option<Task> {
        if self.barred.contains(&worker) {
            return None;
        }
        let is_near = |task: &Task| task.input.home() == near;
        let at = match near {
            Some(_) if self.passed < NEAR_PASSES_MAX => {
                self.tasks.iter().take(NEAR_TASKS_LOOK).position(is_near).unwrap_or(0)
            }
            _ => 0,
        };
        self.passed = if at == 0 { 0 } else { self.passed + 1 };
        let task = self.tasks.remove(at)?;
        self.pulled += 1;
        self.running.entry(worker).or_default().push((task.seq, task.attempt));
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, BlockId, BlockName, BlockRef, Incarnation, Segment, Segments};
    use crate::pool::task::{Arrived, Piece, TaskInput};
    use crate::units::{Bytes, Rows};
    use futures::FutureExt;

    fn task(seq: u64, avoid: Option<usize>) -> Task {
        Task { seq, attempt: 1, input: TaskInput::Pieces(Vec::new().into()), from: Rows(0), until: Segment::END, avoid }
    }

    /// A task whose input is a block of that node.
    fn task_on(seq: u64, home: u64) -> Task {
        let name = BlockName {
            id: BlockId(seq),
            home: NodeId(home),
            incarnation: Incarnation(1),
            rows: Rows(1),
            bytes: Bytes(8),
            segments: Segments::default(),
            origins: Default::default(),
        };
        let arrived =
            Arrived { block: BlockRef::copied(name, Block::new(Vec::new())), _room: None, whole: false, apart: false };
        let pieces = vec![Piece { arrived: Arc::new(arrived), from: 0, rows: 1 }];
        Task { input: TaskInput::Pieces(pieces.into()), ..task(seq, None) }
    }

    #[test]
    fn a_failed_task_is_tried_elsewhere_if_another_worker_is_free() {
        let queue = TaskQueue::default();
        let mut first = Box::pin(queue.pull(0));
        let mut second = Box::pin(queue.pull(1));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        queue.push(task(7, Some(1)));
        assert_eq!(first.now_or_never().flatten().map(|task| task.seq), Some(7));
        queue.push(task(8, Some(1)));
        assert_eq!(second.now_or_never().flatten().map(|task| task.seq), Some(8));
    }

    #[test]
    fn a_worker_that_is_stuck_with_a_younger_task_is_woken_for_an_older_one() {
        let queue = TaskQueue::default();
        let mut stuck = Box::pin(queue.older_than(9));
        assert!(stuck.as_mut().now_or_never().is_none());
        queue.push(task(12, None));
        assert!(stuck.as_mut().now_or_never().is_none());
        queue.push(task(4, Some(0)));
        assert!(stuck.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_worker_that_was_woken_in_vain_passes_it_on() {
        let queue = TaskQueue::default();
        let (mut gone, mut stuck) = (Box::pin(queue.older_than(12)), Box::pin(queue.older_than(9)));
        assert!(gone.as_mut().now_or_never().is_none() && stuck.as_mut().now_or_never().is_none());
        queue.push(task(4, None));
        assert!(stuck.as_mut().now_or_never().is_none(), "the youngest was told");
        drop(gone);
        assert!(stuck.as_mut().now_or_never().is_some());
        let mut third = Box::pin(queue.older_than(3));
        queue.pass_on();
        assert!(third.as_mut().now_or_never().is_none(), "it is older itself");
        assert!(queue.older_than(9).now_or_never().is_some());
    }

    #[test]
    fn a_nearer_task_goes_first_but_the_oldest_does_not_wait_for_ever() {
        let queue = TaskQueue::default();
        (0..10).for_each(|seq| queue.push(task_on(seq, if seq == 0 { 1 } else { 2 })));
        let order: Vec<_> =
            (0..6).filter_map(|worker| queue.pull_near(worker, Some(NodeId(2))).now_or_never()?).collect();
        assert_eq!(order.iter().map(|task| task.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 0, 5]);
        let idle = queue.pull_near(9, Some(NodeId(1))).now_or_never().flatten();
        assert_eq!(idle.map(|task| task.seq), Some(6), "any task rather than none");
    }

    #[test]
    fn a_worker_that_was_given_up_gets_no_more() {
        let queue = TaskQueue::default();
        queue.push(task(1, None));
        assert!(queue.try_pull(0).is_some());
        assert_eq!(queue.bar(0), [(1, 1)]);
        queue.push(task(2, None));
        assert!(queue.try_pull(0).is_none() && queue.try_pull_more(0).is_none());
        assert!(queue.pull(0).now_or_never().expect("at once").is_none());
        assert_eq!(queue.try_pull(1).map(|task| task.seq), Some(2));
        assert_eq!(queue.running(), [(1, vec![2])].into());
    }

    #[test]
    fn a_task_is_at_its_last_attempt_while_the_worker_of_the_one_before_is_still_about_to_leave_it() {
        let queue = TaskQueue::default();
        queue.push(task(3, None));
        assert!(queue.try_pull(0).is_some());
        queue.push(Task { attempt: 2, ..task(3, None) });
        assert!(queue.try_pull(1).is_some());
        assert_eq!(queue.attempt_of(3), Some(2));
    }

    #[test]
    fn the_oldest_task_goes_first() {
        let queue = TaskQueue::default();
        queue.push(task(5, None));
        queue.push(task(2, None));
        assert_eq!(queue.try_pull(0).map(|task| task.seq), Some(2));
        let more = queue.try_pull_more(0).map(|task| task.seq);
        assert_eq!((more, queue.attempt_of(2)), (Some(5), Some(1)));
        queue.done(0, 2);
        assert_eq!(queue.leave(0), [(5, 1)]);
    }

    #[test]
    fn short_tasks_wait_for_a_worker_that_is_quick_and_not_for_one_that_is_not() {
        let queue = TaskQueue::default();
        queue.push(task(0, None));
        assert!(queue.try_pull(0).is_some());
        let (mut first, mut second) = (Box::pin(queue.pull(1)), Box::pin(queue.pull(2)));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        queue.set_short(true);
        let seen = queue.offer(task(1, None)).expect("it waits");
        assert_eq!(queue.offer(task(2, None)), Some(seen));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        // The one that runs comes back: it is quick.
        assert_eq!(queue.try_pull(0).map(|task| task.seq), Some(1));
        let next = queue.look_after(seen).expect("one still waits");
        assert!(next > seen && second.as_mut().now_or_never().is_none());
        // It does not: the others go on without it, all of them.
        assert_eq!(queue.offer(task(3, None)), Some(next));
        assert_eq!(queue.offer(task(4, None)), Some(next));
        assert_eq!(queue.look_after(next), None);
        let both = [second, first].map(|idle| idle.now_or_never().flatten().map(|task| task.seq));
        assert_eq!((both, queue.len()), ([Some(2), Some(3)], 1));
        assert_eq!(queue.offer(task(5, None)), None, "nobody is idle");
    }

    #[test]
    fn a_short_task_that_comes_back_from_a_dead_worker_is_looked_after() {
        let queue = TaskQueue::default();
        queue.push(task(0, None));
        assert!(queue.try_pull(0).is_some());
        let mut idle = Box::pin(queue.pull(1));
        assert!(idle.as_mut().now_or_never().is_none());
        queue.set_short(true);
        // Handed over just before somebody became quick.
        let (tx, rx) = oneshot::channel();
        drop(rx);
        let seen = queue.send(Some((Idle { worker: 2, near: None, task: tx }, task(1, None)))).expect("it waits");
        assert!(idle.as_mut().now_or_never().is_none());
        assert_eq!(queue.look_after(seen), None);
        assert_eq!(idle.now_or_never().flatten().map(|task| task.seq), Some(1));
    }

    #[test]
    fn who_waits_is_woken_by_a_task_and_by_the_end() {
        let queue = TaskQueue::default();
        let mut first = Box::pin(queue.pull(0));
        let mut second = Box::pin(queue.pull(1));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        queue.push(task(1, None));
        assert_eq!(second.now_or_never().flatten().map(|task| task.seq), Some(1));
        queue.close();
        assert!(first.now_or_never().expect("woken").is_none());
    }
}
