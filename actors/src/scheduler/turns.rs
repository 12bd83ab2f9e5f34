//! Turns: claims on CPU cores for as long as a worker computes.
//!
//! There are as many workers as the operators of a job ask for, but no more of them compute at once than twice the
//! cores. Of several jobs that wait, the one is served that is the furthest behind its fair share ([`super::shares`]);
//! within a job downstream first, then in order of arrival. A turn is yielded between two slices of work if its holder
//! had it for [`QUANTUM`] and someone waits who goes before it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::shares::{JobKey, Shares, Weight};
use crate::runtime::env::SharedEnv;

/// How long a worker may go on before it yields its turn to another. Much shorter and hand-overs cost more than they
/// order; much longer and downstream starves.
pub(crate) const QUANTUM: Duration = Duration::from_millis(2);

/// Turns for each core as long as one job runs. A worker that has a turn is off its core at times (it waits for its
/// model's own thread, for a page, for a file), and with one turn a core that core is then idle: `benches/pipeline.rs` ran
/// slower with one. Of several jobs there is one turn for each core: with more, the workers of two jobs would all have
/// turns, and the system would share the cores by threads rather than by weight.
const TURNS_A_CORE: u64 = 2;

/// The cores of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Turns {
    env: SharedEnv,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Turns that are out.
    out_milli: u64,
    cores_milli: u64,
    next_ticket: u64,
    shares: Shares,
    /// How many [`JobTurns`] there are of each job.
    handles: BTreeMap<JobKey, usize>,
    /// Who waits, by job; no entry is empty.
    waiting: BTreeMap<JobKey, Queue>,
}

/// By steps to the sink, then arrival.
type Queue = BTreeMap<(usize, u64), Waiter>;

struct Waiter {
    milli: u64,
    grant: oneshot::Sender<Turn>,
}

impl Turns {
    /// Turns on so many cores.
    pub(crate) fn new(cpus: usize, env: SharedEnv) -> Self {
        let cores_milli = cpus as u64 * 1000;
        let state = State {
            out_milli: 0,
            cores_milli,
            next_ticket: 0,
            shares: Shares::default(),
            handles: BTreeMap::new(),
            waiting: BTreeMap::new(),
        };
        Self { env, state: Arc::new(Mutex::new(state)) }
    }

    /// The turns of a job. Its weight is what the first of its operators here says.
    pub(crate) fn of_job(&self, job: JobKey, weight: Weight) -> JobTurns {
        let mut state = self.lock();
        let handles = state.handles.entry(job).or_default();
        *handles += 1;
        if *handles == 1 {
            state.shares.add(job, weight);
        }
        drop(state);
        JobTurns { job, turns: self.clone() }
    }

    /// Gives cores back, and the turns that fit then to who goes first.
    fn give_back(&self, milli: u64) {
        let mut granted = Vec::new();
        {
            let mut state = self.lock();
            state.out_milli -= milli;
            while let Some((waiter, job)) = state.pop_first() {
                granted.push((
                    waiter.grant,
                    Turn { milli: waiter.milli, job, since: self.env.now(), turns: self.clone() },
                ));
            }
        }
        for (grant, turn) in granted {
            let _ = grant.send(turn);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the waiter out who goes first, if its turn fits. Strictly in order: a large claim at the front is not
    /// overtaken for ever by small ones.
    fn pop_first(&mut self) -> Option<(Waiter, JobKey)> {
        self.forget_gone();
        let waiting = &self.waiting;
        let job = self.shares.first(|job| waiting.contains_key(&job))?;
        let milli = waiting.get(&job)?.first_key_value()?.1.milli;
        if !self.has_room(job, milli) {
            return None;
        }
        let queue = self.waiting.get_mut(&job)?;
        let (_, waiter) = queue.pop_first()?;
        if queue.is_empty() {
            self.waiting.remove(&job);
        }
        self.out_milli += waiter.milli;
        self.shares.begin(job);
        Some((waiter, job))
    }

    /// Whether so much more may be out for a job. What is larger than all cores gets them alone.
    fn has_room(&self, job: JobKey, milli: u64) -> bool {
        let shared = self.shares.are_shared(|ready| ready == job || self.waiting.contains_key(&ready));
        let turns = if shared { 1 } else { TURNS_A_CORE };
        self.out_milli + milli <= self.cores_milli * turns || self.out_milli == 0
    }

    /// Forgets those at the front of a queue who have given up.
    fn forget_gone(&mut self) {
        self.waiting.retain(|_, queue| {
            while queue.first_key_value().is_some_and(|(_, waiter)| waiter.grant.is_closed()) {
                queue.pop_first();
            }
            !queue.is_empty()
        });
    }

    /// Whether someone waits who goes before a worker of this job and priority: one of its own that is as near to the
    /// sink, or one of a job that is further behind.
    fn is_wanted(&mut self, job: JobKey, priority: usize) -> bool {
        let waiting = &self.waiting;
        let own = waiting.get(&job).and_then(|queue| queue.first_key_value());
        own.is_some_and(|((first, _), _)| *first <= priority)
            || waiting.len() > usize::from(own.is_some())
                && self.shares.any_behind(job, |other| waiting.contains_key(&other))
    }
}

/// The turns of one job on a node.
pub(crate) struct JobTurns {
    job: JobKey,
    turns: Turns,
}

impl JobTurns {
    /// Whose they are.
    pub(crate) fn job(&self) -> JobKey {
        self.job
    }

    /// A turn on `milli` thousandths of a core, if they are free and nobody waits for them.
    pub(crate) fn try_take(&self, milli: u64) -> Option<Turn> {
        let mut state = self.turns.lock();
        let job = self.job;
        if !state.waiting.is_empty() || !state.has_room(job, milli) {
            return None;
        }
        state.out_milli += milli;
        // Looks who is idle.
        state.shares.first(|ready| ready == job);
        state.shares.begin(job);
        drop(state);
        Some(Turn { milli, job, since: self.turns.env.now(), turns: self.turns.clone() })
    }

    /// A turn on `milli` thousandths of a core, waiting for it.
    pub(crate) async fn take(&self, priority: usize, milli: u64) -> Turn {
        loop {
            if let Some(turn) = self.try_take(milli) {
                return turn;
            }
            let waiting = self.enqueue(priority, milli);
            if let Ok(turn) = waiting.await {
                return turn;
            }
        }
    }

    fn enqueue(&self, priority: usize, milli: u64) -> oneshot::Receiver<Turn> {
        let (grant, waiting) = oneshot::channel();
        {
            let mut state = self.turns.lock();
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.entry(self.job).or_default().insert((priority, ticket), Waiter { milli, grant });
        }
        // A core may have been given back since the first look.
        self.turns.give_back(0);
        waiting
    }

    /// Whether other jobs compute here as well, or could.
    pub(crate) fn are_shared(&self) -> bool {
        self.turns.lock().handles.len() > 1
    }

    /// Whether more turns are out than there are cores, so that some who have one wait for a core all the same.
    pub(crate) fn exceed_cores(&self) -> bool {
        let state = self.turns.lock();
        state.out_milli > state.cores_milli
    }
}

impl Drop for JobTurns {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        let left = state.handles.get(&self.job).map_or(0, |handles| handles.saturating_sub(1));
        if left > 0 {
            state.handles.insert(self.job, left);
        } else {
            state.handles.remove(&self.job);
            state.shares.remove(self.job);
            // Nobody can wait without a handle, but for those that have given up.
            state.waiting.remove(&self.job);
        }
    }
}

/// A claim on a core. Given back on drop.
pub(crate) struct Turn {
    milli: u64,
    job: JobKey,
    /// What came before is charged.
    since: Duration,
    turns: Turns,
}

impl Turn {
    /// Charges the job for the time so far, and says whether the turn should be given to someone who waits.
    pub(crate) fn is_wanted(&mut self, priority: usize) -> bool {
        let (now, job) = (self.turns.env.now(), self.job);
        let cpu = self.cpu(now);
        self.since = now;
        let mut state = self.turns.lock();
        state.shares.charge(job, cpu);
        state.shares.begin(job);
        state.is_wanted(job, priority)
    }

    fn cpu(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since).saturating_mul(u32::try_from(self.milli).unwrap_or(u32::MAX)) / 1000
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let cpu = self.cpu(self.turns.env.now());
        self.turns.lock().shares.charge(self.job, cpu);
        self.turns.give_back(self.milli);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::env::ManualEnv;
    use futures::FutureExt;
    use futures::future::BoxFuture;

    const ALL: u64 = TURNS_A_CORE * 1000;

    fn turns(cpus: usize) -> (Arc<ManualEnv>, Turns) {
        let env = Arc::new(ManualEnv::seeded(1));
        (Arc::clone(&env), Turns::new(cpus, env))
    }

    #[test]
    fn the_worker_nearest_to_the_sink_gets_the_next_turn() {
        let job = turns(1).1.of_job(1, Weight::default());
        let mut held = job.try_take(ALL).expect("free");
        let mut far = Box::pin(job.take(5, ALL));
        let mut near = Box::pin(job.take(1, ALL));
        assert!(far.as_mut().now_or_never().is_none());
        assert!(near.as_mut().now_or_never().is_none());
        assert!(held.is_wanted(1) && !held.is_wanted(0));
        drop(held);
        let got = near.as_mut().now_or_never().expect("served first");
        assert!(far.as_mut().now_or_never().is_none());
        drop(got);
        assert!(far.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_worker_that_gives_up_waiting_loses_nobodys_turn() {
        let job = turns(1).1.of_job(1, Weight::default());
        let held = job.try_take(ALL).expect("free");
        let mut gone = Box::pin(job.take(0, 1000));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        drop(held);
        assert!(job.try_take(1000).is_some());
    }

    #[test]
    fn a_job_that_is_gone_leaves_nothing_behind() {
        let (_, turns) = turns(1);
        let (job, again) = (turns.of_job(1, Weight::default()), turns.of_job(1, Weight::default()));
        let turn = job.try_take(ALL).expect("free");
        let mut waiting = Box::pin(again.take(0, 1000));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
        drop((job, again));
        drop(turn);
        let state = turns.lock();
        assert!(state.handles.is_empty() && state.waiting.is_empty());
        assert_eq!(state.out_milli, 0);
    }

    /// A worker that computes whenever it may, and yields when it should.
    struct Worker<'a> {
        job: &'a JobTurns,
        priority: usize,
        turn: Option<Turn>,
        waiting: Option<BoxFuture<'a, Turn>>,
        had: Duration,
    }

    impl Worker<'_> {
        fn step(&mut self) {
            let wanted = self.turn.as_mut().is_some_and(|turn| turn.is_wanted(self.priority));
            self.turn.take_if(|_| wanted);
            self.look();
        }

        fn look(&mut self) {
            if self.turn.is_none() {
                let (job, priority) = (self.job, self.priority);
                let mut waiting = self.waiting.take().unwrap_or_else(|| job.take(priority, 1000).boxed());
                self.turn = waiting.as_mut().now_or_never();
                self.waiting = self.turn.is_none().then_some(waiting);
            }
        }
    }

    /// What the workers of each job get of the cores in `quanta`, in quanta.
    fn compute(cpus: usize, jobs: &[(u32, usize)], quanta: usize) -> Vec<usize> {
        let (env, turns) = turns(cpus);
        let weight = |weight| Weight::new(weight).expect("in range");
        let handles: Vec<JobTurns> = (0..).zip(jobs).map(|(job, (w, _))| turns.of_job(job, weight(*w))).collect();
        let worker = |job, priority| Worker { job, priority, turn: None, waiting: None, had: Duration::ZERO };
        let mut workers: Vec<Worker> = handles
            .iter()
            .zip(jobs)
            .flat_map(|(job, (_, workers))| (0..*workers).map(move |priority| worker(job, priority % 3)))
            .collect();
        for _ in 0..quanta {
            workers.iter_mut().for_each(Worker::step);
            // Some were given a turn after they had looked.
            workers.iter_mut().for_each(Worker::look);
            env.advance(QUANTUM);
            workers.iter_mut().filter(|worker| worker.turn.is_some()).for_each(|worker| worker.had += QUANTUM);
        }
        let had =
            |job: &JobTurns| workers.iter().filter(|worker| worker.job.job == job.job).map(|worker| worker.had).sum();
        handles
            .iter()
            .map(|job| {
                let had: Duration = had(job);
                (had.as_millis() / QUANTUM.as_millis()) as usize
            })
            .collect()
    }

    fn assert_near(got: usize, wanted: usize) {
        assert!(got.abs_diff(wanted) * 20 <= wanted, "{got} is not {wanted} within 5 %");
    }

    #[test]
    fn jobs_share_the_cores_by_weight_however_many_workers_they_have() {
        let all = 2 * 1000;
        let got = compute(2, &[(1, 20), (1, 4)], 1000);
        assert_near(got[0], all / 2);
        assert_near(got[1], all / 2);
        let got = compute(2, &[(3, 8), (1, 40)], 1000);
        assert_near(got[0], all * 3 / 4);
        assert_near(got[1], all / 4);
        // Two that have no more workers than there are cores, as jobs of one step have.
        let got = compute(2, &[(9, 2), (1, 2)], 1000);
        assert_near(got[0], all * 9 / 10);
        assert_near(got[1], all / 10);
        // One that has fewer workers than its share leaves the rest to the others.
        let got = compute(2, &[(8, 1), (1, 8), (1, 8)], 1000);
        assert_near(got[0], 1000);
        assert_near(got[1], 500);
        assert_near(got[2], 500);
        // One alone has two turns for each core.
        assert_near(compute(2, &[(1, 8)], 1000)[0], 4 * 1000);
    }
}
