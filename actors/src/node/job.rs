//! A job of a node as its driver sees it: results, a picture of it, and the way to cancel it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::mpsc;

use super::actor::WatchParts;
use super::bring::bring;
use super::handle::Node;
use crate::block::{Block, BlockRef};
use crate::job::taker::Taker;
use crate::job::{DeadLetter, Delivery, GivenUp, JobError, JobMessage, JobSummary, Logic, OperatorPlan, Skip, Why};
use crate::ledger::Results;
use crate::operator::{BoxError, Left};
use crate::pool::metrics::Metrics;
use crate::runtime::room::Permit;
use crate::runtime::wait::within;
use crate::units::Rows;

/// Who asks what a job waits for gets an answer within this: its parts have less.
const WHY_TIME: Duration = Duration::from_secs(5);

/// What is known of an operator before it runs.
#[derive(Clone)]
pub(super) struct Known {
    name: Arc<str>,
    steps: Vec<String>,
    rows: Option<Rows>,
    tasks: Option<u64>,
}

impl Known {
    /// With what a read has left, if not everything.
    pub(super) fn of(plan: &OperatorPlan, left: Option<&Vec<Left>>) -> Self {
        let name = Arc::clone(&plan.name);
        let steps = plan.logic.fused().iter().map(|spec| spec.label.clone()).collect();
        match &plan.logic {
            Logic::Read { splits, .. } => {
                let rows = match left {
                    Some(left) => left.iter().map(|left| left.rows_of(splits)).sum(),
                    None => splits.iter().map(|split| split.rows).sum(),
                };
                Self { name, steps, rows, tasks: Some(left.map_or(splits.len(), Vec::len) as u64) }
            }
            _ => Self { name, steps, rows: None, tasks: None },
        }
    }
}

/// A job as its driver sees it. Dropping the handle cancels a job that still runs.
pub struct JobHandle {
    deliveries: mpsc::Receiver<Delivery>,
    /// Room of the block that the driver has now.
    current: Option<Permit>,
    ended: Option<Result<(), JobError>>,
    taker: Taker,
    watch: JobWatch,
    /// The job lives on the node, so the node lives at least as long.
    node: Node,
    /// How long a result may take that is read back from disk.
    restore_limit: Duration,
}

impl JobHandle {
    pub(super) fn new(
        deliveries: mpsc::Receiver<Delivery>,
        taker: Taker,
        watch: JobWatch,
        node: Node,
        restore_limit: Duration,
    ) -> Self {
        Self { deliveries, current: None, ended: None, taker, watch, node, restore_limit }
    }

    /// The next block of the last operator, waiting for it; `None` when the job has finished. The block's room is given
    /// back to the job when the next block is asked for.
    ///
    /// # Errors
    /// Why the job failed.
    pub fn next_block(&mut self) -> Result<Option<Block>, JobError> {
        futures::executor::block_on(self.next())
    }

    /// The same without blocking the thread.
    ///
    /// # Errors
    /// Why the job failed.
    pub async fn next(&mut self) -> Result<Option<Block>, JobError> {
        while let Some(block) = self.next_ref().await? {
            // Those without rows say which segments are finished, which is for ledgers.
            if block.rows > Rows(0) {
                return Ok(Some(self.rows_of(&block).await?));
            }
        }
        Ok(None)
    }

    /// The rows of a result.
    async fn rows_of(&self, block: &BlockRef) -> Result<Block, JobError> {
        let lost = |error: BoxError| JobError::Block { cause: Arc::new(error) };
        if let Some(rows) = block.here() {
            return Ok(rows);
        }
        if !block.is_on_disk() {
            return block.get().await.map_err(lost);
        }
        self.taker.restores();
        let reading = bring(Arc::clone(&self.node.parts().env), block.clone(), self.restore_limit);
        let read = self.node.system().control_handle().spawn(reading).await;
        self.taker.restored();
        read.map_err(BoxError::from).flatten().map_err(lost)
    }

    /// The next block by its reference, wherever it lives.
    pub(crate) async fn next_ref(&mut self) -> Result<Option<BlockRef>, JobError> {
        self.current = None;
        if let Some(ended) = &self.ended {
            return ended.clone().map(|()| None);
        }
        self.taker.asks();
        match self.deliveries.recv().await {
            Some(Delivery::Block(block, room)) => {
                self.taker.took();
                self.current = Some(room);
                Ok(Some(block))
            }
            Some(Delivery::End(result)) => self.end(result),
            None => {
                let error =
                    JobError::Internal { actor: "the job".to_owned(), reason: "it ended without a word".to_owned() };
                self.end(Err(error))
            }
        }
    }

    /// What was given up and nobody has recorded yet: what results so far stand for is among it.
    pub(crate) fn take_given_up(&self) -> (Vec<DeadLetter>, Vec<Skip>) {
        self.watch.given_up.take()
    }

    /// Results as they have come, at least one block of them and at most so many; none at the end.
    pub(crate) async fn next_results(&mut self, most: usize) -> Result<Vec<Results>, JobError> {
        let mut results = Vec::new();
        let mut next = self.next_ref().await?;
        while let Some(reference) = next.take() {
            let batches = self.rows_of(&reference).await?.batches().to_vec();
            results.push(Results { batches, segments: reference.segments.clone() });
            if results.len() < most {
                next = self.ready_ref();
            }
        }
        Ok(results)
    }

    /// The next block by its reference, if it has come already.
    pub(crate) fn ready_ref(&mut self) -> Option<BlockRef> {
        let Ok(Delivery::Block(block, room)) = self.peek() else { return None };
        self.current = Some(room);
        Some(block)
    }

    /// The next block if it is there already; what else is there stays.
    fn peek(&mut self) -> Result<Delivery, ()> {
        if self.ended.is_some() || self.deliveries.is_empty() {
            return Err(());
        }
        match self.deliveries.try_recv() {
            Ok(Delivery::End(result)) => {
                // Told when the next one is asked for.
                self.ended = Some(result);
                self.watch.mark_end();
                Err(())
            }
            next => next.map_err(drop),
        }
    }

    fn end(&mut self, result: Result<(), JobError>) -> Result<Option<BlockRef>, JobError> {
        self.watch.mark_end();
        self.ended.insert(result).clone().map(|()| None)
    }

    /// Where it is told what becomes of its results.
    pub(crate) fn taker(&self) -> &Taker {
        &self.taker
    }

    /// What the job did so far.
    pub fn summary(&self) -> JobSummary {
        self.watch.summary()
    }

    /// A handle to watch and cancel the job from another thread.
    pub fn watch(&self) -> JobWatch {
        self.watch.clone()
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.watch.cancel();
        }
    }
}

/// Watches a job and can cancel it. Cheap to clone; keeps neither the job nor its node alive.
#[derive(Clone)]
pub struct JobWatch {
    parts: WatchParts,
    metrics: Vec<Arc<Metrics>>,
    known: Vec<Known>,
    started: Duration,
    /// When the driver learnt of the end.
    ended: Arc<OnceLock<Duration>>,
    job: ActorRef<JobMessage>,
    given_up: GivenUp,
}

impl JobWatch {
    pub(super) fn new(
        parts: WatchParts,
        metrics: Vec<Arc<Metrics>>,
        known: Vec<Known>,
        started: Duration,
        job: ActorRef<JobMessage>,
        given_up: GivenUp,
    ) -> Self {
        Self { parts, metrics, known, started, ended: Arc::default(), job, given_up }
    }

    /// A picture of the job now.
    pub fn summary(&self) -> JobSummary {
        let now = self.ended.get().copied().unwrap_or_else(|| self.parts.env.now());
        let operators = self.metrics.iter().zip(&self.known).map(|(metrics, known)| {
            let mut picture = metrics.picture();
            picture.name = Arc::clone(&known.name);
            picture.steps.clone_from(&known.steps);
            picture.rows_total = known.rows;
            picture.tasks_total = known.tasks;
            picture
        });
        let (given_up, dead_letters) = self.given_up.picture();
        JobSummary {
            elapsed: now.saturating_sub(self.started),
            operators: operators.collect(),
            blocks_bytes_peak: self.parts.room.used_and_peak().1,
            given_up,
            dead_letters,
        }
    }

    /// Who waits for whom in the job now. Blocks the calling thread, for five seconds at most.
    pub fn why(&self) -> Why {
        let asked = self.clone().ask_why();
        within(&*self.parts.env, WHY_TIME, asked).flatten().unwrap_or_default()
    }

    /// The same without blocking the thread; nothing if the job is gone.
    pub(crate) async fn ask_why(self) -> Option<Why> {
        ractor::call!(self.job, JobMessage::Why).ok()
    }

    fn mark_end(&self) {
        self.ended.get_or_init(|| self.parts.env.now());
    }

    /// Stops the job; its driver sees [`JobError::Cancelled`]. Does nothing to a job that has ended.
    pub fn cancel(&self) {
        // A job that is gone has ended.
        let _ = self.job.cast(JobMessage::Cancel);
    }
}
