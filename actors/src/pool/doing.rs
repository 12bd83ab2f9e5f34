//! What each worker of a pool is doing: kept by the worker, for who asks why its job stands still and for who ends calls
//! that do not come back.
//!
//! A worker writes it when a slice begins and ends and when it waits, under a lock of its own that nobody else takes but
//! who asks. A worker that is *gone* was given up in the midst of a call: its tasks are tried elsewhere, and what it still
//! does counts for nothing. It learns of it when the call comes back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::task::{Task, TaskInput};
use crate::job::why::picture::{At, LeasePicture, TaskPicture, WorkerPicture};
use crate::operator::Split;
use crate::runtime::env::SharedEnv;
use crate::runtime::left_behind::Thread;
use crate::units::Rows;

/// What the workers of a pool are doing.
pub(crate) struct Doings {
    env: SharedEnv,
    workers: Mutex<BTreeMap<usize, Arc<Doing>>>,
    /// Workers that wait for resources: how many, what each needs, since when.
    lease: Mutex<Option<(usize, String, Duration)>>,
}

/// What a worker is doing.
pub(crate) struct Doing {
    env: SharedEnv,
    state: Mutex<State>,
    /// The step of a fused operator that runs, by index; beyond its steps: none, the source.
    step: AtomicUsize,
}

struct State {
    at: At,
    since: Duration,
    task: Option<Mark>,
    /// What runs on its device.
    device: Option<OnDevice>,
    gone: bool,
}

/// A task, without the room that its input takes.
#[derive(Clone)]
struct Mark {
    seq: u64,
    attempt: u32,
    split: Option<Arc<Split>>,
    rows: u64,
}

/// A call on a device.
#[derive(Clone, Copy)]
pub(crate) struct OnDevice {
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
    pub(crate) rows: u64,
    pub(crate) since: Duration,
}

/// A call that did not come back within its limit.
#[derive(Debug, Clone)]
pub(crate) struct Stuck {
    pub(crate) worker: usize,
    /// The task and attempt that it was for; none while the operator is opened.
    pub(crate) task: Option<(u64, u32)>,
    pub(crate) time: Duration,
    /// Where it is.
    pub(crate) at: At,
    /// Step, task and rows, in words.
    pub(crate) what: String,
    /// Its thread, which lets go of this when it comes back.
    pub(crate) thread: Thread,
}

/// No step runs.
const NO_STEP: usize = usize::MAX;

impl Mark {
    fn of(task: &Task) -> Self {
        let (split, rows) = match &task.input {
            TaskInput::Split(_, split, _) => (Some(Arc::clone(split)), 0),
            TaskInput::Pieces(pieces) => (None, pieces.iter().map(|piece| piece.rows as u64).sum()),
        };
        Self { seq: task.seq, attempt: task.attempt, split, rows }
    }

    fn picture(&self) -> TaskPicture {
        let what = self.split.as_ref().map_or_else(|| format!("{} rows", self.rows), |split| split.label.clone());
        TaskPicture { seq: self.seq, attempt: self.attempt, what }
    }
}

impl Doing {
    fn new(env: &SharedEnv) -> Self {
        let state = State { at: At::Opening, since: env.now(), task: None, device: None, gone: false };
        Self { env: Arc::clone(env), state: Mutex::new(state), step: AtomicUsize::new(NO_STEP) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker is there from now on.
    pub(crate) fn at(&self, at: At) {
        self.since(at, self.env.now());
    }

    fn since(&self, at: At, now: Duration) {
        let mut state = self.lock();
        (state.at, state.since) = (at, now);
    }

    /// It waits for its next task.
    pub(crate) fn idle(&self) {
        let mut state = self.lock();
        (state.at, state.since, state.task) = (At::Input, self.env.now(), None);
    }

    /// It has this task, and reads its input back from disk.
    pub(crate) fn restores(&self, task: &Task) {
        let mut state = self.lock();
        state.task = Some(Mark::of(task));
        (state.at, state.since) = (At::Restoring, self.env.now());
    }

    /// It has no more tasks, and closes its operator.
    pub(crate) fn closes(&self) {
        let mut state = self.lock();
        (state.at, state.since, state.task) = (At::Closing, self.env.now(), None);
    }

    /// It has this task, and calls user code for it from now on.
    pub(crate) fn begin(&self, task: &Task) {
        let mut state = self.lock();
        state.task = Some(Mark::of(task));
        (state.at, state.since) = (At::Computing { from: task.from, rows: None }, self.env.now());
    }

    /// A call of user code begins `now`, for the rows from this one on.
    pub(crate) fn call(&self, from: Rows, now: Duration) {
        self.step.store(NO_STEP, Ordering::Relaxed);
        self.since(At::Computing { from, rows: None }, now);
    }

    /// The call is for so many rows.
    pub(crate) fn rows(&self, rows: u64) {
        let mut state = self.lock();
        if let At::Computing { from, .. } = state.at {
            state.at = At::Computing { from, rows: Some(rows) };
        }
    }

    /// The call has come back; `false` if it had been given up: then nothing of this worker counts any more.
    pub(crate) fn came_back(&self) -> bool {
        let mut state = self.lock();
        (state.at, state.since) = (At::Turn, self.env.now());
        !state.gone
    }

    /// Whether it was given up.
    pub(crate) fn is_gone(&self) -> bool {
        self.lock().gone
    }

    /// A step of its chain runs.
    pub(crate) fn step(&self, index: usize) {
        self.step.store(index, Ordering::Relaxed);
    }

    /// Its device begins with a call, or is done with it.
    pub(crate) fn on_device(&self, call: Option<OnDevice>) {
        self.lock().device = call;
    }

    fn picture(&self, worker: usize, now: Duration, steps: &[String]) -> WorkerPicture {
        let state = self.lock();
        let (at, since, mark) = match state.device {
            Some(OnDevice { rows, since, .. }) => (At::OnDevice { rows }, since, state.task.as_ref()),
            None => (state.at, state.since, state.task.as_ref()),
        };
        let in_user_code = matches!(at, At::Computing { .. } | At::Opening);
        let step = steps.get(self.step.load(Ordering::Relaxed)).filter(|_| in_user_code && steps.len() > 1).cloned();
        let task = match state.device {
            Some(call) if mark.is_none_or(|mark| mark.seq != call.seq) => {
                Some(TaskPicture { seq: call.seq, attempt: call.attempt, what: format!("{} rows", call.rows) })
            }
            _ => mark.map(Mark::picture),
        };
        WorkerPicture { worker, at, since: now.saturating_sub(since), task, holds: Vec::new(), step }
    }

    /// Gives it up if it is in a call for longer than `call`, or opens or closes for longer than `opening`.
    fn give_up_after(
        &self,
        call: Duration,
        opening: Duration,
        now: Duration,
    ) -> Option<(Duration, Option<(u64, u32)>)> {
        let mut state = self.lock();
        if state.gone {
            return None;
        }
        let task = state.task.as_ref().map(|mark| (mark.seq, mark.attempt));
        let (since, limit, task) = match (&state.device, state.at) {
            (Some(on), _) => (on.since, call, Some((on.seq, on.attempt))),
            (None, At::Computing { .. } | At::Restoring) => (state.since, call, task),
            (None, At::Opening | At::Closing) => (state.since, opening, None),
            _ => return None,
        };
        let time = now.saturating_sub(since);
        state.gone = time > limit;
        state.gone.then_some((time, task))
    }
}

impl Doings {
    pub(crate) fn new(env: &SharedEnv) -> Self {
        Self { env: Arc::clone(env), workers: Mutex::default(), lease: Mutex::default() }
    }

    fn workers(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<Doing>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker comes up, perhaps once more.
    pub(crate) fn enter(&self, worker: usize) -> Arc<Doing> {
        let doing = Arc::new(Doing::new(&self.env));
        self.workers().insert(worker, Arc::clone(&doing));
        doing
    }

    /// It has ended.
    pub(crate) fn leave(&self, worker: usize) {
        self.workers().remove(&worker);
    }

    /// One more worker waits for what it needs.
    pub(crate) fn lease_wanted(&self, wanted: impl FnOnce() -> String) {
        let now = self.env.now();
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        lease.get_or_insert_with(|| (0, wanted(), now)).0 += 1;
    }

    /// One got it, or none is wanted any more.
    pub(crate) fn lease_came(&self) {
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((workers, _, since)) = lease.as_mut() {
            (*workers, *since) = (workers.saturating_sub(1), self.env.now());
        }
        lease.take_if(|(workers, ..)| *workers == 0);
    }

    /// The workers now; `steps` are the names of the steps of their chain.
    pub(crate) fn pictures(&self, steps: &[String]) -> Vec<WorkerPicture> {
        let now = self.env.now();
        self.workers().iter().map(|(worker, doing)| doing.picture(*worker, now, steps)).collect()
    }

    /// Workers that wait for resources, without who holds those.
    pub(crate) fn lease(&self) -> Option<LeasePicture> {
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        let (workers, wanted, since) = lease.as_ref()?;
        let since = self.env.now().saturating_sub(*since);
        Some(LeasePicture { workers: *workers, wanted: wanted.clone(), since, held_by: String::new() })
    }

    /// Gives up the workers that have been in a call for too long. They are not asked for any more.
    pub(crate) fn give_up_after(&self, call: Duration, opening: Duration, steps: &[String]) -> Vec<Stuck> {
        let now = self.env.now();
        let mut stuck = Vec::new();
        self.workers().retain(|worker, doing| {
            let Some((time, task)) = doing.give_up_after(call, opening, now) else { return true };
            let picture = doing.picture(*worker, now, steps);
            let thread = Arc::downgrade(doing) as Thread;
            stuck.push(Stuck { worker: *worker, task, time, at: picture.at, what: picture.call(), thread });
            false
        });
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::env::{Env, ManualEnv};

    const LIMIT: Duration = Duration::from_secs(60);

    fn task(seq: u64) -> Task {
        Task {
            seq,
            attempt: 2,
            input: TaskInput::Pieces(Vec::new().into()),
            from: Rows(10),
            until: Rows(u64::MAX),
            avoid: None,
        }
    }

    #[test]
    fn a_call_that_does_not_come_back_is_given_up_once_and_learns_of_it() {
        let env = Arc::new(ManualEnv::seeded(1));
        let doings = Doings::new(&(Arc::clone(&env) as SharedEnv));
        let steps = ["read".to_owned(), "score".to_owned()];
        let (stuck, healthy) = (doings.enter(0), doings.enter(1));
        healthy.idle();
        stuck.begin(&task(7));
        assert!(stuck.came_back());
        env.advance(LIMIT);
        stuck.call(Rows(20), env.now());
        stuck.rows(5);
        stuck.step(1);
        env.advance(LIMIT);
        assert!(doings.give_up_after(LIMIT, LIMIT, &steps).is_empty(), "not longer yet");
        env.advance(Duration::from_secs(1));
        let given_up = doings.give_up_after(LIMIT, LIMIT, &steps);
        assert_eq!((given_up.len(), given_up[0].worker, given_up[0].task), (1, 0, Some((7, 2))));
        assert!(given_up[0].what.contains("step \"score\"") && given_up[0].what.contains("rows 20 to 25"));
        assert!(!stuck.came_back() && stuck.is_gone() && !healthy.is_gone());
        assert!(doings.give_up_after(LIMIT, LIMIT, &steps).is_empty());
        assert_eq!(doings.pictures(&steps).len(), 1);
    }

    #[test]
    fn who_waits_for_a_disk_or_closes_is_given_up_too() {
        let env = Arc::new(ManualEnv::seeded(1));
        let doings = Doings::new(&(Arc::clone(&env) as SharedEnv));
        let (restores, closes) = (doings.enter(0), doings.enter(1));
        restores.restores(&task(3));
        closes.begin(&task(4));
        closes.closes();
        env.advance(LIMIT + Duration::from_secs(1));
        let given_up = doings.give_up_after(LIMIT, 2 * LIMIT, &[]);
        assert_eq!(given_up.iter().map(|stuck| (stuck.worker, stuck.task)).collect::<Vec<_>>(), [(0, Some((3, 2)))]);
        assert!(given_up[0].what.starts_with("reading back from disk: task 3 "), "{}", given_up[0].what);
        env.advance(LIMIT);
        let given_up = doings.give_up_after(LIMIT, 2 * LIMIT, &[]);
        assert_eq!(given_up.iter().map(|stuck| (stuck.worker, stuck.task)).collect::<Vec<_>>(), [(1, None)]);
        assert!(restores.is_gone() && closes.is_gone());
    }

    #[test]
    fn who_waits_is_not_given_up_but_whose_device_does_not_come_back() {
        let env = Arc::new(ManualEnv::seeded(1));
        let doings = Doings::new(&(Arc::clone(&env) as SharedEnv));
        let (waiting, on_device) = (doings.enter(0), doings.enter(1));
        waiting.begin(&task(1));
        waiting.at(At::Room(crate::units::Bytes(8)));
        on_device.at(At::Device);
        on_device.on_device(Some(OnDevice { seq: 3, attempt: 1, rows: 64, since: env.now() }));
        env.advance(10 * LIMIT);
        let given_up = doings.give_up_after(LIMIT, LIMIT, &[]);
        assert_eq!(given_up.iter().map(|stuck| (stuck.worker, stuck.task)).collect::<Vec<_>>(), [(1, Some((3, 1)))]);
        assert!(!waiting.is_gone());
    }
}
