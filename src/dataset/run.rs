//! Runs: a job that was started by a dataset, and the handle to watch and cancel it.
//!
//! All blocking is here: the thread that consumes rows waits for the next block of the job.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use mobula_actors::block::Block;
use mobula_actors::cluster::{DriverJob, DriverWatch};
use mobula_actors::function::decode;
use mobula_actors::job::{JobError, JobSummary, Topology, Why};
use mobula_actors::ledger::RecordedJob;
use mobula_actors::node::{JobHandle, JobWatch};

use super::{Dataset, Runs};
use crate::error::{Error, Result};
use crate::io::Written;
use crate::plan::logical::PlanRef;
use crate::plan::{lower, rules};
use crate::session::LastRun;

impl Dataset {
    /// Starts this dataset's own plan.
    pub(super) fn run(&self) -> Result<Run> {
        self.run_plan(&self.plan)
    }

    /// Sends the models and other objects of the plan ahead to the head of the cluster; does nothing in a session of this
    /// process. A run does so by itself: ahead of it nothing has begun that would have to be taken back if this process is
    /// told to stop meanwhile.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let labelled = Session::local()?
    ///     .read_parquet("examples/data/digits/*.parquet")?
    ///     .predict(Onnx::file("examples/data/digits_mlp.onnx"))?;
    /// labelled.put_objects()?;
    /// assert_eq!(labelled.count()?, 1797);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If one is over a limit of the head that has no way round it, or the head is lost.
    pub fn put_objects(&self) -> Result<()> {
        self.session.send_ahead(&lower::lower(&rules::optimize(&self.plan), self.session.site())?)
    }

    /// Starts a plan on behalf of this dataset, whose `stats` will tell of it.
    pub(super) fn run_plan(&self, plan: &PlanRef) -> Result<Run> {
        self.run_optimized(&rules::optimize(plan))
    }

    /// Starts a plan as it is.
    pub(super) fn run_optimized(&self, plan: &PlanRef) -> Result<Run> {
        tracing::debug!(plan = %plan, "starting a job");
        self.run_topology(lower::lower(plan, self.session.site())?, plan.schema.clone())
    }

    /// Starts a topology, whose rows have these columns where that is known.
    pub(super) fn run_topology(&self, topology: Topology, schema: Option<SchemaRef>) -> Result<Run> {
        let handle = self.session.start_job(Topology { failures: self.failures, ..topology })?;
        let last = [self.last.clone(), self.session.last_run().clone()];
        let runs = self.session.runs().clone();
        let Some(number) = runs.add(RunWatch { watch: handle.watch() }) else {
            handle.watch().cancel();
            return Err(JobError::Cancelled.into());
        };
        Ok(Run { handle, ended: false, last, schema, place: PlaceInList { runs, number } })
    }
}

/// A job of this process or of a cluster: the same methods on either.
pub(crate) enum RunHandle {
    Local(JobHandle),
    /// One of this process whose results are recorded.
    Recorded(RecordedJob),
    Cluster(DriverJob),
}

impl RunHandle {
    pub(crate) fn next_block(&mut self) -> Result<Option<Block>, JobError> {
        match self {
            Self::Local(job) => job.next_block(),
            Self::Recorded(job) => job.wait().map(|_| None),
            Self::Cluster(job) => job.next_block(),
        }
    }

    fn summary(&self) -> JobSummary {
        match self {
            Self::Local(job) => job.summary(),
            Self::Recorded(job) => job.summary(),
            Self::Cluster(job) => job.summary(),
        }
    }

    fn watch(&self) -> Watch {
        match self {
            Self::Local(job) => Watch::Local(job.watch()),
            Self::Recorded(job) => Watch::Local(job.watch()),
            Self::Cluster(job) => Watch::Cluster(job.watch()),
        }
    }
}

/// Watches and cancels a job of this process or of a cluster.
#[derive(Clone)]
enum Watch {
    Local(JobWatch),
    Cluster(DriverWatch),
    /// Nothing runs any more.
    Over,
}

impl Watch {
    fn summary(&self) -> JobSummary {
        match self {
            Self::Local(job) => job.summary(),
            Self::Cluster(job) => job.summary(),
            Self::Over => JobSummary::default(),
        }
    }

    fn why(&self) -> Result<Why, JobError> {
        match self {
            Self::Local(job) => Ok(job.why()),
            Self::Cluster(job) => job.why(),
            Self::Over => Ok(Why::default()),
        }
    }

    fn cancel(&self) {
        match self {
            Self::Local(job) => job.cancel(),
            Self::Cluster(job) => job.cancel(),
            Self::Over => {}
        }
    }
}

/// A job that runs for a dataset. Dropping it cancels the job.
pub(super) struct Run {
    handle: RunHandle,
    /// Whether its end, good or bad, has been seen.
    ended: bool,
    last: [LastRun; 2],
    schema: Option<SchemaRef>,
    place: PlaceInList,
}

/// The run's place in the list of its session.
struct PlaceInList {
    runs: Runs,
    number: u64,
}

impl Drop for PlaceInList {
    fn drop(&mut self) {
        self.runs.remove(self.number);
    }
}

impl Run {
    /// The next block, waiting for it; `None` at the end.
    pub(super) fn next_block(&mut self) -> Result<Option<Block>> {
        let next = self.handle.next_block();
        if !matches!(next, Ok(Some(_))) {
            self.ended = true;
            self.place.runs.ended(self.place.number);
        }
        Ok(next?)
    }

    /// Somebody waits until its files are visible: until it is dropped.
    pub(super) fn makes_files(&self) {
        self.place.runs.makes_files(self.place.number);
    }

    /// What the recorder says of the files that it made visible.
    pub(super) fn finished(&mut self) -> Result<Written> {
        let told = match &mut self.handle {
            RunHandle::Cluster(job) => job.finished().and_then(|told| decode(told).ok()),
            RunHandle::Recorded(job) => decode(&job.wait()?).ok(),
            RunHandle::Local(_) => None,
        };
        told.ok_or_else(|| Error::invalid("write", "the head does not say which files were written"))
    }

    /// All batches that are still to come.
    pub(super) fn batches(&mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(block) = self.next_block()? {
            batches.extend(block.batches().iter().cloned());
        }
        Ok(batches)
    }

    /// The columns of its rows, where the plan knows them.
    pub(super) fn schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref()
    }

    pub(super) fn summary(&self) -> JobSummary {
        self.handle.summary()
    }

    /// Whether nothing of it concerns this process any more.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    /// Cancels the job if it still runs, and waits until it has stopped: a second at most.
    pub(super) fn stop(&mut self) {
        self.handle.watch().cancel();
        while let Ok(Some(_)) = self.next_block() {}
    }

    /// Lets a job on a cluster go on without this process, and gives its number there; `None` for a job of this process.
    pub(super) fn detach(&mut self) -> Option<u64> {
        match &self.handle {
            RunHandle::Local(_) | RunHandle::Recorded(_) => None,
            RunHandle::Cluster(job) => {
                self.ended = true;
                Some(job.id())
            }
        }
    }

    pub(super) fn watch(&self) -> RunWatch {
        RunWatch { watch: self.handle.watch() }
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let summary = self.handle.summary();
        self.last.iter().for_each(|last| last.set(summary.clone()));
        if !self.ended {
            self.handle.watch().cancel();
        }
    }
}

/// Pictures and cancels a run from any thread. Cheap to clone; does not keep the run alive.
#[derive(Clone)]
pub struct RunWatch {
    watch: Watch,
}

impl RunWatch {
    /// Of a run that an earlier one had done already.
    pub(super) fn over() -> Self {
        Self { watch: Watch::Over }
    }

    /// What each operator did so far; after the end, what it did in all.
    pub fn summary(&self) -> JobSummary {
        self.watch.summary()
    }

    /// Who waits for whom in the run now, root causes first: down to a call of user code, a port, a lease or a node.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let dir = std::env::temp_dir().join("mobula_why");
    /// let rows = Session::local()?.range(0..1000)?;
    /// let run = rows.start_write(&dir, Format::Parquet, WriteOptions::default().mode(WriteMode::Overwrite))?;
    /// println!("{}", run.watch().why()?);
    /// run.wait()?;
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the head of its cluster does not answer.
    pub fn why(&self) -> Result<Why> {
        Ok(self.watch.why()?)
    }

    /// Stops the run. Whoever waits for it gets an error for which [`Error::is_cancelled`](crate::Error::is_cancelled)
    /// is true; a write leaves no visible file behind.
    pub fn cancel(&self) {
        self.watch.cancel();
    }
}

impl std::fmt::Debug for RunWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunWatch").field("elapsed", &self.summary().elapsed).finish_non_exhaustive()
    }
}
