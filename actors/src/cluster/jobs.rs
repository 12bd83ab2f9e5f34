//! The jobs of the head: which there are, how far they are, and their results until a driver has taken them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::head::ClusterJob;
use super::messages::{CancelOutcome, DriverAnswer, JobInfo};
use super::objects::JobHold;
use super::watch::ClusterWatch;
use crate::block::Block;
use crate::job::{JobError, JobSummary};
use crate::logs::JobLogs;
use crate::runtime::env::SharedEnv;
use crate::units::Rows;

/// Jobs that have ended and are still listed; the oldest go first.
const ENDED_KEPT: usize = 100;

/// The jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs {
    env: SharedEnv,
    jobs: Arc<Mutex<BTreeMap<u64, Arc<Entry>>>>,
}

/// One job.
pub(crate) struct Entry {
    name: String,
    driver: String,
    finishes: bool,
    started: Duration,
    watch: ClusterWatch,
    logs: JobLogs,
    /// Taken by whoever waits for the next result.
    job: tokio::sync::Mutex<Held>,
    /// Results that were given to its driver. Written by whoever holds the job; read by whoever attaches meanwhile.
    given: AtomicU64,
    ended: watch::Sender<Option<Ended>>,
    /// Whether it runs to its end without anybody who takes its results.
    runs_out: AtomicBool,
    /// The objects that it needs until it has ended.
    objects: Mutex<Option<JobHold>>,
}

/// What only one at a time works with.
struct Held {
    /// Gone with its plan once it has ended.
    job: Option<ClusterJob>,
    /// The last of the results that were given to its driver, until the driver asks for the one behind it: who asked may have given up meanwhile, or the bytes
    /// may not have come.
    last: Option<Block>,
}

/// How a job ended.
#[derive(Clone)]
struct Ended {
    result: Result<(), JobError>,
    summary: JobSummary,
    finished: Option<Vec<u8>>,
    after: Duration,
}

impl Ended {
    fn state(&self) -> String {
        self.result.as_ref().map_or_else(ToString::to_string, |()| DONE.to_owned())
    }
}

/// How `jobs` shows a job that ended well.
const DONE: &str = "done";

/// What a driver gets next.
pub(crate) enum Next {
    Block(Block),
    /// How it ended, what it did, and what its finisher returned.
    End(Option<JobError>, JobSummary, Option<Vec<u8>>),
    /// The result of this number is not kept any more, or its turn has not come.
    Odd(u64),
}

impl Jobs {
    pub(crate) fn new(env: SharedEnv) -> Self {
        Self { env, jobs: Arc::default() }
    }

    /// A job was started.
    pub(crate) fn add(&self, name: String, driver: String, job: ClusterJob, objects: JobHold) -> u64 {
        let id = job.id();
        let entry = Entry {
            name,
            driver,
            finishes: job.finishes(),
            started: self.env.now(),
            watch: job.watch(),
            logs: job.logs(),
            job: tokio::sync::Mutex::new(Held { job: Some(job), last: None }),
            given: AtomicU64::new(0),
            ended: watch::Sender::default(),
            runs_out: AtomicBool::new(false),
            objects: Mutex::new(Some(objects)),
        };
        let mut jobs = self.lock();
        jobs.insert(id, Arc::new(entry));
        let over: Vec<u64> = jobs.iter().filter(|(_, entry)| entry.ended().is_some()).map(|(id, _)| *id).collect();
        for id in over.iter().take(over.len().saturating_sub(ENDED_KEPT)) {
            jobs.remove(id);
        }
        id
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Entry>> {
        self.lock().get(&id).cloned()
    }

    /// Jobs that have not ended.
    pub(crate) fn running(&self) -> usize {
        self.lock().values().filter(|entry| entry.ended().is_none()).count()
    }

    /// All that are known, the oldest first.
    pub(crate) fn list(&self) -> Vec<JobInfo> {
        let now = self.env.now();
        self.lock().iter().map(|(id, entry)| entry.info(*id, now)).collect()
    }

    /// The result of a job with this number, waiting for it: the last one again, or the next. `None` if `given_up` was first.
    pub(crate) async fn result(&self, entry: &Entry, number: u64, given_up: impl Future<Output = ()>) -> Option<Next> {
        let mut held = tokio::select! {
            biased;
            held = entry.job.lock() => held,
            () = given_up => return None,
        };
        let given = entry.given.load(Ordering::Relaxed);
        if let Some(last) = held.last.clone().filter(|_| number.checked_add(1) == Some(given)) {
            return Some(Next::Block(last));
        }
        if number != given && entry.ended().is_none() {
            return Some(Next::Odd(number));
        }
        // Not broken off, whoever waits: what has come by then is kept.
        let next = self.next(entry, &mut held).await;
        if let Next::Block(block) = &next {
            entry.given.store(given + 1, Ordering::Relaxed);
            held.last = Some(block.clone());
        }
        Some(next)
    }

    async fn next(&self, entry: &Entry, held: &mut Held) -> Next {
        held.last = None;
        if let Some(ended) = entry.ended() {
            return Next::End(ended.result.err(), ended.summary, ended.finished);
        }
        let result = match held.job.as_mut() {
            Some(job) => job.next().await,
            None => Ok(None),
        };
        let finished = match result {
            Ok(Some(block)) => return Next::Block(block),
            Ok(None) => Ok(held.job.as_ref().and_then(ClusterJob::finished)),
            Err(error) => Err(error),
        };
        let end = self.end(entry, finished);
        held.job = None;
        end
    }

    fn end(&self, entry: &Entry, result: Result<Option<Vec<u8>>, JobError>) -> Next {
        let summary = entry.watch.summary();
        let (result, finished) = match result {
            Ok(finished) => (Ok(()), finished),
            Err(error) => (Err(error), None),
        };
        let ended = Ended {
            result: result.clone(),
            summary: summary.clone(),
            finished: finished.clone(),
            after: self.env.now() - entry.started,
        };
        let objects = entry.objects.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(objects);
        entry.ended.send_replace(Some(ended));
        Next::End(result.err(), summary, finished)
    }

    /// Runs a job that finishes by itself to its end, whether or not anybody waits for it.
    pub(crate) async fn run(self, id: u64) {
        if self.get(id).is_some_and(|entry| entry.finishes) {
            self.run_out(id).await;
        }
    }

    /// Runs a job to its end though nobody takes its results. Only the first call does; more than one is never needed.
    pub(crate) async fn run_out(self, id: u64) {
        let Some(entry) = self.get(id).filter(|entry| !entry.runs_out.swap(true, Ordering::Relaxed)) else { return };
        // For each result anew, so that a driver that asks meanwhile is answered.
        while let Next::Block(_) = self.next(&entry, &mut *entry.job.lock().await).await {}
    }

    /// The driver of these jobs is gone. Those that finish by themselves go on, the others have nobody to compute for.
    pub(crate) async fn driver_gone(self, jobs: Vec<u64>) {
        let mut cancelled = Vec::new();
        for id in jobs {
            if let Some(entry) = self.get(id).filter(|entry| !entry.finishes) {
                entry.watch.cancel();
                cancelled.push(id);
            }
        }
        for id in cancelled {
            self.clone().run_out(id).await;
        }
    }

    /// Ends all jobs that run. Comes back when they have ended, and what they wrote is gone or in place.
    pub(crate) async fn end_all(self) {
        let running = || self.lock().iter().map(|(id, entry)| (*id, Arc::clone(entry))).collect::<Vec<_>>();
        let running: Vec<_> = running().into_iter().filter(|(_, entry)| entry.ended().is_none()).collect();
        running.iter().for_each(|(_, entry)| entry.watch.cancel());
        for (id, entry) in running {
            self.clone().run_out(id).await;
            entry.until_ended().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(crate) fn watch(&self) -> &ClusterWatch {
        &self.watch
    }

    /// What its operators logged.
    pub(crate) fn logs(&self) -> &JobLogs {
        &self.logs
    }

    /// What it did so far, or in all.
    pub(crate) fn summary(&self) -> JobSummary {
        self.ended().map_or_else(|| self.watch.summary(), |ended| ended.summary)
    }

    /// What a driver is told that looks at it, with its logs from this line on.
    pub(crate) fn answer(&self, logs_from: u64) -> DriverAnswer {
        let given = self.given.load(Ordering::Relaxed);
        DriverAnswer::Summary { summary: self.summary(), logs: self.logs.page(logs_from), given }
    }

    fn ended(&self) -> Option<Ended> {
        self.ended.borrow().clone()
    }

    /// How it has ended, as `jobs` shows it.
    pub(crate) fn end_state(&self) -> Option<String> {
        self.ended().map(|ended| ended.state())
    }

    /// What came of a cancel, once it has ended.
    pub(crate) fn cancelled(&self) -> CancelOutcome {
        match self.ended() {
            Some(ended) if !matches!(ended.result, Err(JobError::Cancelled)) => CancelOutcome::Ended(ended.state()),
            _ => CancelOutcome::Cancelled,
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn until_ended(&self) {
        // It cannot be closed while the entry is there.
        let _ = self.ended.subscribe().wait_for(Option::is_some).await;
    }

    fn info(&self, job: u64, now: Duration) -> JobInfo {
        let (state, after) = match self.ended() {
            None => ("running".to_owned(), now.saturating_sub(self.started)),
            Some(ended) => (ended.state(), ended.after),
        };
        let summary = self.summary();
        let reads = || summary.operators.iter().filter(|operator| operator.rows_total.is_some());
        // What splits say of their rows is the driver's word: these sums do not overflow.
        let total = reads().filter_map(|operator| operator.rows_total).sum::<Rows>().0;
        let rows = (reads().map(|operator| operator.rows_in).sum::<Rows>().0, (total > 0).then_some(total));
        JobInfo { job, name: self.name.clone(), driver: self.driver.clone(), state, seconds: after.as_secs(), rows }
    }
}
