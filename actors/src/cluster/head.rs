//! The head: which nodes there are to run on, and the jobs that run on them.
//!
//! A job that loses blocks with a node is started again on the nodes that are left, from what is finished; see
//! [`super::restart`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::ids::NodeName;
use super::membership::State;
use super::restart::Progress;
use super::site::{Lenders, Placed, Site, Sites};
use super::watch::ClusterWatch;
use crate::block::{Block, NodeId, Segments};
use crate::job::{GivenUp, JobError, Logic, Resources, Topology};
use crate::ledger::keeper;
use crate::ledger::{Recorder, Results};
use crate::logs::JobLogs;
use crate::node::{JobHandle, Node};
use crate::operator::{BoxError, Left, Scope};
use crate::plant::{Bug, is_planted};
use crate::runtime::room::Room;
use crate::runtime::tasks;
use crate::runtime::watch::guarded;
use crate::units::{Bytes, Rows};
use fetched::Fetched;

mod fetched;

/// A job is started again so often after losses of nodes; a cluster that loses more is not worth waiting for.
const RUNS_MAX: u32 = 32;
/// The part of a node's budget that results of jobs may take. The rest is for copies of blocks from other nodes.
const RESULTS_SHARE: u64 = 2;

/// The nodes to run on. Cheap to clone.
#[derive(Clone)]
pub struct Head {
    inner: Arc<Inner>,
}

struct Inner {
    node: Node,
    /// Results of all jobs on all nodes together.
    room: Room,
    sites: Mutex<BTreeMap<NodeId, Placed>>,
    next_job: AtomicU64,
    /// The lives that are over; whoever waits for results looks at it when it changes.
    dead: watch::Sender<BTreeSet<NodeId>>,
}

impl Head {
    /// A head whose jobs' operators live on `node`; no nodes to run on yet.
    pub(crate) fn new(node: Node) -> Self {
        Self {
            inner: Arc::new(Inner {
                node,
                room: Room::new(Bytes(0)),
                sites: Mutex::default(),
                next_job: AtomicU64::new(1),
                dead: watch::Sender::default(),
            }),
        }
    }

    /// A node has come.
    pub(crate) fn add(&self, site: Arc<dyn Site>, name: NodeName, resources: &Resources, budget: Bytes) {
        self.sites().insert(site.id(), Placed::new(site, name, resources, budget));
        self.fit_room();
    }

    /// A node has gone: no job is placed there any more.
    pub(crate) fn remove(&self, id: NodeId) {
        self.sites().remove(&id);
        self.fit_room();
        self.inner.dead.send_modify(|dead| {
            dead.insert(id);
        });
    }

    /// A node has been silent for a while, or there is word of it again: jobs that start meanwhile keep away from it. Those
    /// that run send it nothing new either: each task that it has not reported keeps its place.
    pub(crate) fn suspect(&self, id: NodeId, silent: bool) {
        if let Some(placed) = self.sites().get_mut(&id) {
            placed.view.state = if silent { State::Suspect } else { State::Alive };
        }
    }

    /// A node wants to leave: it gets no more tasks.
    pub(crate) fn drain(&self, name: &str) {
        let mut sites = self.sites();
        for placed in sites.values().filter(|placed| *placed.site.name() == *name) {
            placed.site.drain();
        }
        sites.retain(|_, placed| *placed.site.name() != *name);
        drop(sites);
        self.fit_room();
    }

    /// All blocks of all jobs may come to lie on one node, so together they are no more than the smallest has room for.
    fn fit_room(&self) {
        let smallest = self.sites().values().map(|placed| placed.budget).min();
        if let Some(smallest) = smallest {
            self.inner.room.set_total(Bytes(smallest.0 / RESULTS_SHARE));
        }
    }

    /// Cores of all nodes together.
    pub fn cores(&self) -> usize {
        self.sites().values().map(|placed| (placed.view.total.cpu_milli.max(0) / 1000) as usize).sum()
    }

    fn sites(&self) -> MutexGuard<'_, BTreeMap<NodeId, Placed>> {
        self.inner.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a job on the nodes there are.
    ///
    /// # Errors
    /// If the topology contradicts itself or there is no node.
    pub async fn submit(&self, mut topology: Topology) -> Result<ClusterJob, JobError> {
        topology.check()?;
        let recorder = self.recorder(&topology).await?;
        let holds = recorder.is_none() && writes(&topology);
        if let Some(last) = topology.operators.last_mut().filter(|_| holds) {
            // Which parts are finished is told by their order.
            last.ordered = true;
        }
        let id = self.inner.next_job.fetch_add(1, Ordering::Relaxed);
        let progress = Progress::of(&topology);
        let logs = JobLogs::default();
        let left_first = recorder.as_ref().map_or_else(|| progress.left(), |recorder| recorder.left());
        let first_run = recorder.as_ref().map_or(0, |recorder| recorder.first_run());
        let given_up = GivenUp::of(&topology, recorder.as_ref().map_or(0, |recorder| recorder.given_up()));
        let begun = self.run((id, first_run), &topology, left_first.clone(), &logs, &given_up).await;
        let (run, lenders) = match begun {
            Ok(run) => run,
            Err(error) => {
                if let Some(recorder) = recorder {
                    keeper::stop(recorder).await;
                }
                return Err(error);
            }
        };
        Ok(ClusterJob {
            head: self.clone(),
            id,
            topology,
            progress,
            left_first,
            first_run,
            watch: ClusterWatch::new(run.watch()),
            run,
            lenders,
            runs: 0,
            logs,
            given_up,
            skip: Rows(0),
            left: false,
            held: holds.then(VecDeque::new),
            lost: None,
            recorder,
            finished: None,
            over: false,
        })
    }

    /// Opens the ledger of a job that has one.
    async fn recorder(&self, topology: &Topology) -> Result<Option<Box<dyn Recorder>>, JobError> {
        let Some(spec) = topology.recorder.clone() else { return Ok(None) };
        let (topology, disk) = (topology.clone(), self.inner.node.parts().env.disk());
        let open = move || guarded(|| spec.open(&topology, &disk)).flatten().inspect_err(|_| spec.discard());
        let opened = tasks::blocking(open).await.map_err(BoxError::from).flatten();
        opened.map(Some).map_err(|cause| JobError::Ledger { cause: cause.into() })
    }

    /// Waits until a node has died that keeps blocks of a run: whoever needs them waits in vain, also if the pool that
    /// made them has long ended.
    async fn lost(&self, lenders: &Lenders) -> Arc<str> {
        let mut dead = self.inner.dead.subscribe();
        let any = dead.wait_for(|dead| lenders.first_of(dead).is_some()).await;
        let node = any.ok().and_then(|dead| lenders.first_of(&dead));
        format!("number {}", node.map_or(0, |node| node.0)).into()
    }

    async fn run(
        &self,
        (job, run): (u64, u32),
        topology: &Topology,
        left: BTreeMap<usize, Vec<Left>>,
        logs: &JobLogs,
        given_up: &GivenUp,
    ) -> Result<(JobHandle, Lenders), JobError> {
        let lenders = Lenders::default();
        let sites = {
            let offers = self.sites();
            if offers.is_empty() {
                return Err(no_nodes(topology));
            }
            Sites {
                job,
                nodes: offers.values().cloned().collect(),
                room: Some(self.inner.room.clone()),
                lenders: lenders.clone(),
                logs: logs.clone(),
                run,
                left,
                given_up: Some(given_up.clone()),
            }
        };
        Ok((self.inner.node.clone().begin(topology.clone(), sites).await?, lenders))
    }
}

fn no_nodes(topology: &Topology) -> JobError {
    let operator = topology.operators.first().map(|plan| Arc::clone(&plan.name)).unwrap_or_default();
    let reason = "the cluster has no node to run on; start one with `mobula node --join`".to_owned();
    JobError::Infeasible { operator, reason }
}

/// Whether results are the names of files, which count only when the job has ended.
fn writes(topology: &Topology) -> bool {
    topology.operators.last().is_some_and(|plan| match &plan.logic {
        Logic::Map { chain, task_bytes: Some(_) } => chain.iter().any(|spec| spec.scope == Scope::Task),
        _ => false,
    })
}

/// The rows that reads need not read again, by operator, as far as splits tell: those that were left at first and are not
/// any more.
fn finished_rows(
    topology: &Topology,
    left: &BTreeMap<usize, Vec<Left>>,
    first: &BTreeMap<usize, Vec<Left>>,
) -> BTreeMap<usize, Rows> {
    let finished = |(index, left): (&usize, &Vec<Left>)| {
        let Logic::Read { splits, .. } = &topology.operators.get(*index)?.logic else { return None };
        let rows = |left: &[Left]| left.iter().filter_map(|left| left.rows_of(splits)).sum::<Rows>();
        Some((*index, rows(first.get(index)?) - rows(left)))
    };
    left.iter().filter_map(finished).collect()
}

/// A job that runs on the nodes of a cluster. Dropping it cancels the job.
pub struct ClusterJob {
    head: Head,
    id: u64,
    topology: Topology,
    progress: Progress,
    /// What its reads had left at first.
    left_first: BTreeMap<usize, Vec<Left>>,
    /// The number of its first run.
    first_run: u32,
    run: JobHandle,
    /// Who keeps blocks of this run.
    lenders: Lenders,
    runs: u32,
    logs: JobLogs,
    given_up: GivenUp,
    watch: ClusterWatch,
    /// Rows at the beginning of this run that an earlier one passed on.
    skip: Rows,
    /// Whether anything was passed on.
    left: bool,
    /// Results of a job that writes and records nothing, held until its end: those that a loss made void are taken back.
    held: Option<VecDeque<Block>>,
    /// A node that was found lost behind results that had come: they are recorded first.
    lost: Option<Arc<str>>,
    /// Keeps the ledger of a job that has one.
    recorder: Option<Box<dyn Recorder>>,
    /// What the recorder said of the output.
    finished: Option<Vec<u8>>,
    over: bool,
}

impl ClusterJob {
    /// Its number on the head.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The next block of results, waiting for it; `None` at the end. Those of a job that writes come at its end, or not at
    /// all if they are recorded.
    ///
    /// # Errors
    /// Why the job failed.
    pub async fn next(&mut self) -> Result<Option<Block>, JobError> {
        if self.over {
            return Ok(self.held.as_mut().and_then(VecDeque::pop_front));
        }
        if self.recorder.is_some() {
            self.over = true;
            self.finished = Some(self.record().await?);
            return Ok(None);
        }
        if self.held.is_none() {
            let next = self.next_block().await;
            self.left |= matches!(next, Ok(Some(_)));
            return next;
        }
        self.over = true;
        while let Some(block) = self.next_block().await? {
            self.held.get_or_insert_default().push_back(block);
        }
        Ok(self.held.as_mut().and_then(VecDeque::pop_front))
    }

    /// Runs a job whose results are recorded to its end, and has its output made visible.
    async fn record(&mut self) -> Result<Vec<u8>, JobError> {
        let ended = self.record_all().await;
        let recorder = self.recorder.take();
        match (ended, recorder) {
            (Ok(()), Some(recorder)) => keeper::finish(recorder).await,
            (Err(error), Some(recorder)) => {
                self.run.watch().cancel();
                keeper::stop(recorder).await;
                Err(error)
            }
            (ended, None) => ended.map(|()| Vec::new()),
        }
    }

    async fn record_all(&mut self) -> Result<(), JobError> {
        loop {
            let results = self.next_results().await?;
            if results.is_empty() {
                return Ok(());
            }
            let Some(recorder) = self.recorder.take() else { return Ok(()) };
            let (recorder, recorded) = keeper::record(recorder, self.given_up.take(), results).await?;
            self.recorder = Some(recorder);
            recorded?;
        }
    }

    /// Results as they have come: the next, waiting for it, and what is there behind it, for one sync; none at the end.
    async fn next_results(&mut self) -> Result<Vec<Results>, JobError> {
        let mut results = Vec::new();
        let mut next = self.next_wanted().await?;
        while let Some((block, segments)) = next.take() {
            results.push(Results { batches: block.batches().to_vec(), segments });
            if results.len() < keeper::GROUP_MAX && !self.watch.is_cancelled() {
                next = self.next_ready().await;
            }
        }
        Ok(results)
    }

    /// The next block if it has come already.
    async fn next_ready(&mut self) -> Option<(Block, Segments)> {
        let reference = self.run.ready_ref()?;
        match self.fetch(reference).await {
            Fetched::Block(block, segments) => Some((block, segments)),
            Fetched::Unwanted => None,
            Fetched::Lost(node) => {
                self.lost = Some(node);
                None
            }
        }
    }

    /// What the recorder said of the output, once the job has ended.
    pub fn finished(&self) -> Option<Vec<u8>> {
        self.finished.clone()
    }

    /// The next block with rows that no earlier run has passed on.
    async fn next_block(&mut self) -> Result<Option<Block>, JobError> {
        while let Some((block, segments)) = self.next_wanted().await? {
            self.progress.on_block(block.rows(), &segments);
            let skipped = self.skip.min(block.rows());
            self.skip = self.skip - skipped;
            if skipped < block.rows() {
                return Ok(Some(block.last_rows(block.rows() - skipped)));
            }
        }
        Ok(None)
    }

    /// What still comes of a job that was cancelled is not wanted.
    async fn next_wanted(&mut self) -> Result<Option<(Block, Segments)>, JobError> {
        loop {
            match self.next_of_runs().await? {
                next if !self.watch.is_cancelled() => return Ok(next),
                Some(_) => {}
                None => return Err(JobError::Cancelled),
            }
        }
    }

    async fn next_of_runs(&mut self) -> Result<Option<(Block, Segments)>, JobError> {
        loop {
            if let Some(node) = self.lost.take() {
                self.again(node).await?;
            }
            let next = tokio::select! {
                biased;
                next = self.run.next_ref() => next,
                node = self.head.lost(&self.lenders) => Err(JobError::NodeLost { node }),
            };
            let next = match next {
                Ok(None) => return Ok(None),
                Ok(Some(reference)) => self.fetch(reference).await,
                Err(JobError::NodeLost { node }) => Fetched::Lost(node),
                Err(error) => return Err(error),
            };
            match next {
                Fetched::Block(block, segments) => return Ok(Some((block, segments))),
                Fetched::Unwanted => {}
                Fetched::Lost(node) => self.lost = Some(node),
            }
        }
    }

    /// Starts the job again after a loss.
    async fn again(&mut self, node: Arc<str>) -> Result<(), JobError> {
        if self.watch.is_cancelled() {
            return Err(JobError::Cancelled);
        }
        let again = self.progress.on_loss();
        self.runs += 1;
        // Rows that left in no order cannot be told from those that did not.
        let nobody = self.head.sites().is_empty();
        if nobody || self.runs >= RUNS_MAX || self.left && !again.in_order {
            return Err(JobError::NodeLost { node });
        }
        match (&mut self.recorder, &mut self.held) {
            _ if is_planted(Bug::RequeueUnfenced) => {}
            (Some(recorder), _) => recorder.forget(),
            (None, Some(held)) => held.truncate(held.len().saturating_sub(again.blocks)),
            (None, None) => self.skip = if self.left { self.skip + again.skip } else { Rows(0) },
        }
        tracing::warn!(job = self.id, %node, run = self.runs, "a node was lost, the job goes on from what is finished");
        // Its driver would wonder why the counts of its operators begin anew.
        self.logs.say(&format!("node {node} was lost with blocks of this job, which goes on from what is finished"));
        self.run.watch().cancel();
        let left = self.rows_left();
        let finished = finished_rows(&self.topology, &left, &self.left_first);
        let run = (self.id, self.first_run + self.runs);
        (self.run, self.lenders) = self.head.run(run, &self.topology, left, &self.logs, &self.given_up).await?;
        self.watch.follow(self.run.watch(), finished);
        Ok(())
    }

    /// What its reads have left.
    fn rows_left(&self) -> BTreeMap<usize, Vec<Left>> {
        self.recorder.as_ref().map_or_else(|| self.progress.left(), |recorder| recorder.left())
    }

    /// Whether it ends by itself: what it writes is made visible here, and no driver need be there.
    pub fn finishes(&self) -> bool {
        self.topology.recorder.is_some()
    }

    /// What its operators log.
    pub(crate) fn logs(&self) -> JobLogs {
        self.logs.clone()
    }

    /// Watches and cancels the job from elsewhere.
    pub fn watch(&self) -> ClusterWatch {
        self.watch.clone()
    }
}
