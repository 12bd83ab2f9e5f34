//! A job from afar: its picture, its logs, its results, and the word that ends it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mobula_transport::Connection;

use super::super::bytes;
use super::super::link::CALL_DEADLINE;
use super::super::member::ClusterError;
use super::super::messages::{DriverAnswer, DriverCall, FetchAnswer, FetchCall};
use super::{Driver, lock, lost};
use crate::block::Block;
use crate::job::{DeadLetter, JobError, JobSummary, Why};
use crate::logs::{LogPage, LogReader, cleaned, emit};
use crate::operator::BoxError;
use crate::runtime::tasks;

/// The next result of a job may take as long as the job; a head that is gone is noticed by its connection.
const RESULT_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often the picture of a job is brought up to date.
const LOOK: Duration = Duration::from_millis(200);

/// Watches a job of a cluster and can cancel it. Cheap to clone; does not keep the job alive.
#[derive(Clone)]
pub struct DriverWatch {
    pub(super) driver: Driver,
    pub(super) job: u64,
    pub(super) picture: Arc<Mutex<JobSummary>>,
    /// Held while lines are said, so that they keep their order.
    pub(super) logs: Arc<Mutex<LogReader>>,
    pub(super) ended: Arc<AtomicBool>,
}

impl DriverWatch {
    /// A picture of the job, a fifth of a second old at most.
    pub fn summary(&self) -> JobSummary {
        self.picture().clone()
    }

    /// Who waits for whom in the job now.
    ///
    /// # Errors
    /// If the head does not answer or has forgotten the job.
    pub fn why(&self) -> Result<Why, JobError> {
        let why = self.driver.why(self.job).map_err(|error| lost(&error))?;
        why.ok_or(JobError::Unknown { job: self.job })
    }

    /// Stops the job; whoever waits for it sees [`JobError::Cancelled`].
    pub fn cancel(&self) {
        let (control, job) = (self.driver.inner.control.clone(), self.job);
        self.driver.inner.net.spawn(async move {
            // A head that is gone has stopped it.
            let _ = control.call::<_, DriverAnswer>(&DriverCall::Cancel { job, told: false }, CALL_DEADLINE).await;
        });
    }

    /// A picture of the job as the head has it now. What its operators have logged until now has been emitted when this
    /// comes back.
    ///
    /// # Errors
    /// If the head does not answer or has forgotten the job.
    pub fn look(&self) -> Result<JobSummary, JobError> {
        let call = DriverCall::Summary { job: self.job, logs_from: self.reader().next() };
        self.on_look(self.driver.call(call))
    }

    pub(super) fn on_look(&self, answer: Result<DriverAnswer, ClusterError>) -> Result<JobSummary, JobError> {
        match answer.map_err(|error| lost(&error))? {
            DriverAnswer::Summary { summary, logs, .. } => {
                let summary = clean(summary);
                self.say(logs);
                *self.picture() = summary.clone();
                Ok(summary)
            }
            _ => Err(JobError::Unknown { job: self.job }),
        }
    }

    /// What to ask for when the job has ended with lines that were not seen yet.
    pub(super) fn last_look(&self, next: &Result<Result<Block, End>, BoxError>) -> Option<DriverCall> {
        let Ok(Err(End { logs, .. })) = next else { return None };
        let logs_from = self.reader().next();
        (*logs > logs_from).then_some(DriverCall::Summary { job: self.job, logs_from })
    }

    pub(super) fn say(&self, page: LogPage) {
        let mut reader = self.reader();
        emit(&reader.on_page(page));
    }

    pub(super) fn reader(&self) -> MutexGuard<'_, LogReader> {
        lock(&self.logs)
    }

    pub(super) fn picture(&self) -> MutexGuard<'_, JobSummary> {
        lock(&self.picture)
    }

    pub(super) async fn keep_up(self) {
        let Self { driver, job, picture, logs, ended } = self;
        let control = driver.inner.control.clone();
        // Whoever holds the job holds the driver.
        drop(driver);
        let mut logs_from = 0;
        while !ended.load(Ordering::Relaxed) && !control.is_closed() {
            tokio::time::sleep(LOOK).await;
            let call = DriverCall::Summary { job, logs_from };
            let answer = control.call::<_, DriverAnswer>(&call, CALL_DEADLINE).await;
            if let Ok(DriverAnswer::Summary { summary, logs: page, .. }) = answer
                && !ended.load(Ordering::Relaxed)
            {
                *lock(&picture) = clean(summary);
                let logs = Arc::clone(&logs);
                // Who prints them may have to wait, for a terminal that was stopped say. Connections do not wait for
                // that, and no more lines are asked for until then.
                let said = tasks::blocking(move || {
                    let mut reader = lock(&logs);
                    emit(&reader.on_page(page));
                    reader.next()
                });
                logs_from = said.await.unwrap_or(logs_from);
            }
        }
    }
}

/// How a job ended.
pub(super) struct End {
    pub(super) error: Option<JobError>,
    pub(super) summary: JobSummary,
    pub(super) finished: Option<Vec<u8>>,
    logs: u64,
}

/// The block of a job with this number, or its end.
pub(super) async fn fetch_result(data: &Connection, job: u64, number: u64) -> Result<Result<Block, End>, BoxError> {
    let most = data.limits().block_bytes;
    let call = FetchCall::Result { job, number };
    let (answer, body) = data.fetch::<_, FetchAnswer>(&call, RESULT_DEADLINE).await?;
    match answer {
        FetchAnswer::End { error, summary, finished, logs } => {
            Ok(Err(End { error, summary: *summary, finished, logs }))
        }
        FetchAnswer::Block if body.len() <= most => {
            let length = body.len() as usize;
            Ok(Ok(bytes::decode(body.read(Vec::with_capacity(length)).await?)?))
        }
        FetchAnswer::Block => Err(format!("a block of {} bytes", body.len()).into()),
        FetchAnswer::Object | FetchAnswer::Value => Err("an answer that is no block".into()),
    }
}

/// A picture whose texts, of whatever driver and files, may be shown on a terminal.
pub(super) fn clean(mut summary: JobSummary) -> JobSummary {
    for operator in &mut summary.operators {
        if let Cow::Owned(name) = cleaned(&operator.name) {
            operator.name = name.into();
        }
        for text in operator.steps.iter_mut().chain(&mut operator.skipped) {
            if let Cow::Owned(clean) = cleaned(text) {
                *text = clean;
            }
        }
    }
    for DeadLetter { operator, places, error, .. } in &mut summary.dead_letters {
        for text in [operator, error].into_iter().chain(places.iter_mut().map(|place| &mut place.input)) {
            if let Cow::Owned(clean) = cleaned(text) {
                *text = clean;
            }
        }
    }
    summary
}
