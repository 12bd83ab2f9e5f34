//! Operators in processes of their own: a worker whose operator is marked `isolated` starts this program once more, and
//! that process builds the operator, opens it and is asked batch by batch.
//!
//! [`Isolated`] is the worker's side and decides what follows from a failure; [`link`] is the process as it is asked,
//! [`frames`] what the two say, [`child`] the process. [`died`] and [`halves`] are the thinking, without I/O. See
//! `docs/internals/isolated.md`.

mod child;
mod died;
mod frames;
mod halves;
mod link;
mod said;
mod say;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;

pub use child::isolated_worker;
pub(crate) use child::role_was_missed;
pub use died::{HowItEnded, ProcessDied};
pub(crate) use frames::frame_bytes_max;
use frames::{BeginFrame, FailedFrame, Kind, OpenFrame};
use halves::Halves;
use link::{Broken, Link, Question};

use super::chain::Produced;
use super::worker::PoolShared;
use crate::job::{spec_to_wire, told};
use crate::operator::{BoxError, Isolation, OpenContext, OperatorResult, OperatorSpec, Scope, TaskContext};
use crate::units::Bytes;

/// The first argument of a process in this role.
const ROLE: &str = "mobula-isolated-worker";
/// Least time that an operator has to open or to close, where its batches have a limit: a model takes longer to load than
/// to run. Too short fails jobs that are only slow to start; longer is waited for once for each process.
const OPEN_TIME_MIN: Duration = Duration::from_secs(60);

/// What a node says about the processes of its workers.
#[derive(Debug, Clone)]
pub(crate) struct IsolatedParts {
    /// What they run; by default what this process runs.
    pub(crate) program: Option<PathBuf>,
    /// Bytes of the frame of a batch.
    pub(crate) frame_bytes_max: Bytes,
}

/// Nobody needs the rows at hand any more; the process is gone.
#[derive(Debug, thiserror::Error)]
#[error("the call was broken off: nobody needs its rows")]
pub(crate) struct BrokenOff;

/// The operator cannot be opened, whatever the rows: the worker ends, and its guardian decides whether to try again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotOpened(#[source] BoxError);

/// Fewer rows at once may do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OutOfMemory(#[source] BoxError);

/// The operator of a worker, in a process of its own.
///
/// The process may die and the worker lives: the next call starts a fresh one. Deaths with rows at hand are counted by
/// the attempts of those rows; a death without rows, while it opens, ends the worker and counts as its restart.
pub(crate) struct Isolated {
    pool: Arc<PoolShared>,
    spec: OperatorSpec,
    isolation: Isolation,
    ctx: OpenContext,
    link: Option<Link>,
    /// Whether the operator is open in the process.
    open: bool,
    task: Option<TaskContext>,
    halves: Halves,
}

impl Isolated {
    /// Starts the process and opens the operator in it.
    pub(crate) async fn open(
        pool: Arc<PoolShared>,
        spec: OperatorSpec,
        isolation: Isolation,
        ctx: OpenContext,
    ) -> OperatorResult<Self> {
        let halves = Halves::default();
        let mut isolated = Self { pool, spec, isolation, ctx, link: None, open: false, task: None, halves };
        isolated.opened().await?;
        Ok(isolated)
    }

    /// A task begins.
    pub(crate) async fn begin(&mut self, task: TaskContext) -> OperatorResult {
        self.task = Some(task);
        self.opened().await?;
        self.begun().await
    }

    /// Runs batches through the operator, the first of which is row `from` of the task's input.
    pub(crate) async fn process(&mut self, batches: Vec<RecordBatch>, from: u64) -> OperatorResult<Produced> {
        let mut all = Produced::default();
        let (mut calls, mut at) = (VecDeque::from([batches]), from);
        while let Some(call) = self.halves.next(&mut calls) {
            let rows = halves::rows(&call);
            match self.call(&call, at).await {
                Ok(produced) => {
                    self.halves.on_good(rows);
                    at += rows as u64;
                    all.peak = all.peak.max(produced.peak);
                    all.batches.extend(produced.batches);
                }
                Err(error) => {
                    let [first, second] = self.halved(&call, error)?;
                    calls.push_front(second);
                    calls.push_front(first);
                }
            }
        }
        Ok(all)
    }

    /// What to try instead of a call that ran out of memory. The results of a whole task come at its end, from all its
    /// rows, so there a part of them cannot be tried again.
    fn halved(&mut self, call: &[RecordBatch], error: BoxError) -> OperatorResult<[Vec<RecordBatch>; 2]> {
        let out_of_memory = match error.downcast_ref::<ProcessDied>() {
            Some(died) => died.how.is_out_of_memory(),
            None => error.is::<OutOfMemory>(),
        };
        if !out_of_memory || self.spec.scope == Scope::Task {
            return Err(error);
        }
        let operator = &*self.pool.operator;
        let rows = halves::rows(call);
        let Some(halves) = self.halves.on_out_of_memory(call) else { return Err(error) };
        tracing::info!(operator, rows, %error, "out of memory: half as many rows are tried");
        Ok(halves)
    }

    /// The task has no more batches.
    pub(crate) async fn finish(&mut self) -> OperatorResult<Produced> {
        let limit = self.long();
        self.ask(Kind::Finish, Vec::new(), &[], limit, None).await
    }

    /// The worker ends in good order; the process ends with it.
    pub(crate) async fn close(mut self) -> OperatorResult {
        if self.open && !self.pool.is_stopped() {
            let limit = Some(self.long().unwrap_or(OPEN_TIME_MIN));
            self.ask(Kind::Close, Vec::new(), &[], limit, None).await?;
        }
        self.kill().await;
        Ok(())
    }

    async fn call(&mut self, batches: &[RecordBatch], at: u64) -> OperatorResult<Produced> {
        if !self.open {
            self.opened().await?;
            self.begun().await?;
        }
        let limit = self.isolation.time.map(|time| time.saturating_mul(batches.len().max(1) as u32));
        let rows = at..at + halves::rows(batches) as u64;
        self.ask(Kind::Process, Vec::new(), batches, limit, Some(rows)).await
    }

    /// Makes sure that a process runs with the operator open in it.
    async fn opened(&mut self) -> OperatorResult {
        if self.open {
            return Ok(());
        }
        if self.link.is_none() {
            let parts = &self.pool.isolated;
            let started = Link::start(parts.program.as_deref(), parts.frame_bytes_max);
            let started = tokio::select! {
                started = started => started,
                () = self.pool.stopping() => return Err(BrokenOff.into()),
            };
            match started {
                Ok(link) => self.link = Some(link),
                Err(broken) => return Err(NotOpened(self.broken(broken, None).await).into()),
            }
        }
        let open = OpenFrame {
            operator: self.ctx.operator.to_string(),
            worker: self.ctx.worker as u64,
            incarnation: self.ctx.incarnation,
            gpus: self.ctx.gpus.clone(),
            spec: spec_to_wire(&self.spec)?,
            batch_bytes_max: self.pool.isolated.frame_bytes_max,
        };
        let limit = self.long();
        let opened = self.ask(Kind::Open, frames::bytes(&open)?, &[], limit, None).await;
        opened.map_err(|error| if error.is::<BrokenOff>() { error } else { NotOpened(error).into() })?;
        self.open = true;
        Ok(())
    }

    async fn begun(&mut self) -> OperatorResult {
        let Some(TaskContext { task, attempt }) = self.task else { return Ok(()) };
        let begin = frames::bytes(&BeginFrame { task, attempt })?;
        let limit = self.long();
        self.ask(Kind::Begin, begin, &[], limit, None).await.map(drop)
    }

    /// The time for what is done once in a while.
    fn long(&self) -> Option<Duration> {
        self.isolation.time.map(|time| time.max(OPEN_TIME_MIN))
    }

    async fn ask(
        &mut self,
        kind: Kind,
        body: Vec<u8>,
        batches: &[RecordBatch],
        limit: Option<Duration>,
        rows: Option<Range<u64>>,
    ) -> OperatorResult<Produced> {
        let link = self.link.as_mut().ok_or("a process that is gone is not asked")?;
        let question = Question { kind, body, batches };
        let answer = tokio::select! {
            biased;
            answer = link.ask(question, limit, self.isolation.memory, &self.ctx.shared) => Some(answer),
            () = self.pool.stopping() => None,
        };
        match answer {
            Some(Ok(produced)) => Ok(produced),
            Some(Err(broken)) => Err(self.broken(broken, rows).await),
            None => {
                self.kill().await;
                Err(BrokenOff.into())
            }
        }
    }

    async fn kill(&mut self) {
        self.open = false;
        if let Some(link) = self.link.take() {
            link.kill().await;
        }
    }

    /// The error of an attempt. The operator is opened afresh before it is called again.
    async fn broken(&mut self, broken: Broken, rows: Option<Range<u64>>) -> BoxError {
        self.open = false;
        match broken {
            Broken::Died(how, last_words) => {
                self.link = None;
                ProcessDied { how, rows, last_words }.into()
            }
            Broken::Failed(FailedFrame { texts, panicked, out_of_memory }) => {
                // After a panic its statics may be torn; a GPU that failed is rid of what it holds only with its process.
                if panicked || !self.ctx.gpus.is_empty() {
                    self.kill().await;
                }
                let error = told(texts);
                if out_of_memory { OutOfMemory(error).into() } else { error }
            }
        }
    }
}
