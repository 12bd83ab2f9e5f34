//! The handles that a driver holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ractor::ActorRef;
use tokio::sync::{mpsc, oneshot};

use super::NodeConfig;
use super::actor::{NodeArguments, NodeMessage, NodeRoot, Parts, WatchParts, memory_budget, resources};
use super::job::{JobHandle, JobWatch, Known};
use crate::actor::Actors;
use crate::actor::space::Space;
use crate::block::{Incarnation, NodeId};
use crate::cluster::objects::OBJECTS_SHARE;
use crate::cluster::site::Sites;
use crate::job::taker::Taker;
use crate::job::{DELIVERY_BLOCKS_MAX, GivenUp, JobArguments, JobError, JobMessage, Resources, Topology};
use crate::ledger::RecordedJob;
use crate::ledger::keeper::{Keeper, KeeperArguments};
use crate::operator::warm::{self, WarmLimits};
use crate::operator::{BoxError, Shared};
use crate::pool::isolated::role_was_missed;
use crate::pool::metrics::Metrics;
use crate::runtime::ActorSystem;
use crate::runtime::RestartBudget;
use crate::runtime::env::{SharedEnv, SystemEnv};
use crate::runtime::left_behind::LeftBehind;
use crate::runtime::room::Room;
use crate::runtime::tasks;
use crate::runtime::watch::guarded;
use crate::scheduler::SchedulerHandle;
use crate::scheduler::turns::Turns;
use crate::store::Store;
use crate::store::spill::{self, Spill, SpillStats};
use crate::task::engine::{Crew, CrewArguments, Engine, EngineParts, Upstream, ValueLimits};
use crate::task::{PartyId, TaskError, Tasks};
use crate::units::Bytes;

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The system refused a thread or a runtime.
    #[error("cannot start the node's threads")]
    Threads(#[from] std::io::Error),
    /// A limit makes no sense.
    #[error("configuration: {0}")]
    Config(String),
    /// This process was started for an isolated operator and did not become one.
    #[error(
        "this process was started to run an isolated operator; call `mobula::isolated_worker()` first thing in `main`"
    )]
    RoleMissed,
}

/// The part of the budget that blocks are counted against. The rest is for what no count sees: free memory that the
/// allocator keeps, pages of decoders, a row that turned out larger than expected.
const ROOM_SHARE: (u64, u64) = (3, 4);
/// The part of the budget that values kept for later jobs may take while nobody uses them.
const WARM_SHARE: u64 = 4;
/// Budgets that spilled blocks may take on disk.
const SPILL_BUDGETS: u64 = 4;
/// Smallest memory budget: below it, two workers cannot hold a block on either side.
const BUDGET_MIN: Bytes = Bytes::mib(1);
/// Workers of one operator: each is a thread.
const WORKERS_MAX: usize = 512;
/// Budget for each worker of an operator, so that its floors are a small part of the whole.
const WORKER_BYTES_MIN: Bytes = Bytes::kib(512);
/// Jobs that were started here are numbered from this, so that none has a number that a head gave.
const LOCAL_JOBS: u64 = 1 << 63;

/// A job by its number, for people.
pub(crate) fn job_name(job: u64) -> String {
    match job.checked_sub(LOCAL_JOBS) {
        Some(local) => format!("job {local} of this session"),
        None => format!("job {job}"),
    }
}

/// No more workers of an operator on a node than threads make sense for, and than its budget has a block for on either
/// side.
pub(crate) fn workers_max(memory_budget: Bytes) -> usize {
    let by_budget = memory_budget.0 / WORKER_BYTES_MIN.0;
    WORKERS_MAX.min(by_budget as usize).max(1)
}

/// Shards of the store: more than a few bring nothing, their locks are held for a few hundred nanoseconds.
const SHARDS_MAX: usize = 4;

/// A running node. Cheap to clone; the last clone (its jobs count) stops it.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    root: ActorRef<NodeMessage>,
    cpus: usize,
    gpus: usize,
    next_job: AtomicU64,
    tasks: Mutex<Option<Engine>>,
    system: ActorSystem,
    /// Of a session of one process: made when first used.
    actors: OnceLock<Arc<Space>>,
    resources: Resources,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(tasks) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tasks.close(TaskError::Ended("it was dropped".to_owned()));
        }
        self.root.stop(None);
    }
}

impl Node {
    /// Starts a node on this machine; opens no socket.
    ///
    /// # Errors
    /// If a limit makes no sense or the system refuses a thread.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        Self::start_with(config, Arc::new(SystemEnv::new()))
    }

    /// The same in a world of the caller's.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(config: NodeConfig, env: SharedEnv) -> Result<Self, NodeError> {
        let system = ActorSystem::start_with(env)?;
        system.block_on(Self::on(system.clone(), config))
    }

    /// The same without blocking the thread, and in a simulation if the configuration says so.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn open(config: NodeConfig) -> Result<Self, NodeError> {
        match config.threads.simulation() {
            Some(one) => Self::on(ActorSystem::simulated(one).await?, config).await,
            None => tasks::blocking(move || Self::start(config)).await?,
        }
    }

    async fn on(system: ActorSystem, config: NodeConfig) -> Result<Self, NodeError> {
        if role_was_missed() {
            return Err(NodeError::RoleMissed);
        }
        let machine = config.machine();
        let total = resources(&config, machine);
        let budget = memory_budget(&config, machine);
        check(&config, budget)?;
        let (cpus, gpus, resources) = (total.cpus as usize, total.gpus as usize, total.clone());
        let env = Arc::clone(system.env());
        let host = system.host().clone();
        let store = Store::new(NodeId(config.number), Incarnation(env.random()), cpus.min(SHARDS_MAX));
        let arguments = NodeArguments { store: store.clone(), host: host.clone(), env: Arc::clone(&env) };
        let above = system.root();
        let spawned = ractor::Actor::spawn_linked(None, NodeRoot, arguments, above).await;
        let (root, _) = spawned.map_err(std::io::Error::other)?;
        let scheduler = SchedulerHandle::spawn(total, root.get_cell()).await.map_err(std::io::Error::other)?;
        let room = Bytes(budget.0 / ROOM_SHARE.1 * ROOM_SHARE.0);
        let limits =
            WarmLimits { bytes: config.warm_bytes.unwrap_or(Bytes(budget.0 / WARM_SHARE)), time: config.warm_time };
        let shared = Shared::new(Arc::clone(&env), limits);
        system.control_handle().spawn(warm::keep_swept(Arc::downgrade(shared.warm())));
        let spill_max = config.spill_max.unwrap_or(Bytes(budget.0.saturating_mul(SPILL_BUDGETS)));
        let spill_dir = config.spill_dir.clone().unwrap_or_else(|| spill::default_parent(&*env.disk()));
        let spill = Spill::new(Arc::clone(&env), spill_dir, spill_max);
        let turns_env = Arc::clone(&env);
        let parts = Parts {
            config: Arc::new(config),
            env,
            host,
            room: Room::new(room),
            budget,
            store,
            spill,
            turns: Turns::new(cpus, turns_env),
            scheduler,
            shared,
            left_behind: LeftBehind::default(),
        };
        let (next_job, tasks, actors) = (AtomicU64::new(0), Mutex::default(), OnceLock::new());
        Ok(Self { inner: Arc::new(Inner { parts, root, cpus, gpus, next_job, tasks, system, actors, resources }) })
    }

    /// CPU cores that workers compute on at once.
    pub fn cpus(&self) -> usize {
        self.inner.cpus
    }

    /// GPUs that workers may have.
    pub fn gpus(&self) -> usize {
        self.inner.gpus
    }

    /// The memory budget for blocks.
    pub fn memory_budget(&self) -> Bytes {
        self.inner.parts.budget
    }

    /// The size that blocks aim at; a job with many operators in a small budget takes less.
    pub fn block_bytes(&self) -> Bytes {
        self.inner.parts.config.block_bytes.unwrap_or(Bytes::mib(8))
    }

    /// Blocks alive in the node's store, and the exact bytes of their buffers.
    pub fn blocks(&self) -> (usize, Bytes) {
        let stats = self.inner.parts.store.stats();
        (stats.blocks, stats.bytes)
    }

    /// What its jobs have spilled to disk and restored so far.
    pub fn spilled(&self) -> SpillStats {
        self.inner.parts.spill.stats()
    }

    /// What the workers of all its jobs share.
    pub fn shared(&self) -> &Shared {
        &self.inner.parts.shared
    }

    /// What runs on it works with.
    pub(crate) fn parts(&self) -> &Parts {
        &self.inner.parts
    }

    /// The supervisor of everything on it.
    pub(crate) fn root(&self) -> ractor::ActorCell {
        self.inner.root.get_cell()
    }

    /// The tasks and stored values of a session of this process.
    ///
    /// # Errors
    /// If the actor system is ending.
    pub fn tasks(&self) -> Result<Tasks, NodeError> {
        let engine = self.start_tasks(PartyId::default(), None)?;
        engine.set_space(self.space());
        Ok(Tasks::new(engine))
    }

    /// The engine for tasks: made when it is asked for first, as a part of the cluster that `up` leads to.
    pub(crate) fn start_tasks(&self, party: PartyId, up: Option<Arc<dyn Upstream>>) -> Result<Engine, NodeError> {
        let Inner { parts, root, cpus, tasks, system, .. } = &*self.inner;
        let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*tasks {
            return Ok(engine.clone());
        }
        let config = &parts.config;
        let all = config.objects_bytes_max.unwrap_or(Bytes(parts.budget.0 / OBJECTS_SHARE));
        let limits = ValueLimits { one: config.object_bytes_max, all };
        let (env, scheduler) = (Arc::clone(&parts.env), Some(parts.scheduler.clone()));
        let engine = Engine::new(EngineParts { env, party, cpus: *cpus as f64, limits, scheduler, up });
        if system.is_simulated() {
            // Task workers wait by blocking their threads, and here there is one: no tasks are run.
            return Ok(tasks.insert(engine).clone());
        }
        let restarts = RestartBudget::new(config.restarts, config.restart_window);
        let (host, env) = (parts.host.clone(), Arc::clone(&parts.env));
        let arguments = CrewArguments { engine: engine.clone(), host, env, restarts };
        let above = root.get_cell();
        let spawned = async move { ractor::Actor::spawn_linked(None, Crew, arguments, above).await.map(drop) };
        system.block_on(spawned).map_err(std::io::Error::other)?;
        Ok(tasks.insert(engine).clone())
    }

    /// The actors of a node that is a session of its own; they end with it.
    pub fn actors(&self) -> Actors {
        // Actors may submit tasks.
        if let Err(error) = self.tasks() {
            tracing::debug!(%error, "actors of this session cannot submit tasks");
        }
        Actors::of(Arc::clone(self.space()))
    }

    fn space(&self) -> &Arc<Space> {
        self.inner.actors.get_or_init(|| Space::alone(self, self.inner.resources.clone()))
    }

    /// The actor system that the node stands on.
    pub fn system(&self) -> &ActorSystem {
        &self.inner.system
    }

    /// Starts a job.
    ///
    /// # Errors
    /// If the topology contradicts itself, or the node can never give what an operator asks for.
    pub fn submit(&self, topology: Topology) -> Result<JobHandle, JobError> {
        self.submit_at(topology, Sites::default())
    }

    fn submit_at(&self, mut topology: Topology, sites: Sites) -> Result<JobHandle, JobError> {
        topology.check()?;
        let job = LOCAL_JOBS + self.inner.next_job.fetch_add(1, Ordering::Relaxed);
        let most = workers_max(self.memory_budget());
        topology.operators.iter_mut().for_each(|plan| plan.workers = plan.workers.within(most));
        self.inner.system.block_on(self.clone().begin(topology, Sites { job, ..sites }))
    }

    /// Starts a job whose results are recorded: from what its ledger says is left.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); if the topology names no recorder, or the ledger cannot be opened.
    pub fn submit_recorded(&self, topology: Topology) -> Result<RecordedJob, JobError> {
        let unopened = |cause: BoxError| JobError::Ledger { cause: cause.into() };
        let spec = topology.recorder.clone().ok_or_else(|| unopened("the job names no recorder".into()))?;
        let opened = topology
            .check()
            .map_err(JobError::from)
            .and_then(|()| guarded(|| spec.open(&topology, &self.inner.parts.env.disk())).flatten().map_err(unopened));
        let recorder = opened.inspect_err(|_| spec.discard())?;
        let given_up = Some(GivenUp::of(&topology, recorder.given_up()));
        let sites = Sites { left: recorder.left(), run: recorder.first_run(), given_up, ..Sites::default() };
        let job = match self.submit_at(topology, sites) {
            Ok(job) => job,
            Err(error) => {
                recorder.stop();
                return Err(error);
            }
        };
        let (watch, (ended, end)) = (job.watch(), oneshot::channel());
        let (arguments, above) = (KeeperArguments { job, recorder, ended }, self.inner.root.get_cell());
        let spawned = async move { ractor::Actor::spawn_linked(None, Keeper, arguments, above).await.map(drop) };
        let failed =
            |error: ractor::SpawnErr| JobError::Internal { actor: "the keeper".to_owned(), reason: error.to_string() };
        self.inner.system.block_on(spawned).map_err(failed)?;
        Ok(RecordedJob::new(watch, end))
    }

    /// Starts a job whose workers live on `sites`, if there are any.
    pub(crate) async fn begin(self, topology: Topology, sites: Sites) -> Result<JobHandle, JobError> {
        let metrics: Vec<Arc<Metrics>> = topology.operators.iter().map(|_| Arc::default()).collect();
        let known =
            topology.operators.iter().enumerate().map(|(at, plan)| Known::of(plan, sites.left.get(&at))).collect();
        let (driver, deliveries) = mpsc::channel(DELIVERY_BLOCKS_MAX + 1);
        let node = self.inner.parts.clone();
        let root = self.inner.root.clone();
        let started = node.env.now();
        let room = sites.room.clone().unwrap_or_else(|| node.room.clone());
        let parts = WatchParts { env: Arc::clone(&node.env), room };
        let taker = Taker::new(Arc::clone(&node.env));
        let given_up = sites.given_up.clone().unwrap_or_else(|| GivenUp::of(&topology, 0));
        given_up.begin(sites.run);
        let counted = given_up.clone();
        let limit = topology.task_progress_limit.unwrap_or(node.config.task_progress_limit);
        let (metrics_of, taken_by) = (metrics.clone(), taker.clone());
        let arguments = JobArguments { topology, node, driver, metrics: metrics_of, sites, taker: taken_by, given_up };
        let job = start(arguments, root).await?;
        let watch = JobWatch::new(parts, metrics, known, started, job, counted);
        Ok(JobHandle::new(deliveries, taker, watch, self.clone(), limit))
    }
}

async fn start(arguments: JobArguments, root: ActorRef<NodeMessage>) -> Result<ActorRef<JobMessage>, JobError> {
    let here = arguments.sites.nodes.is_empty();
    for plan in arguments.topology.operators.iter().filter(|_| here) {
        let feasible = arguments.node.scheduler.check(plan.held()).await;
        feasible.map_err(|reason| JobError::Infeasible { operator: Arc::clone(&plan.name), reason })?;
    }
    // Leases are held as long as workers live, so one worker of each operator has to fit beside the others.
    let together = first_workers(&arguments.topology);
    if let Some(last) = arguments.topology.operators.last().filter(|_| here) {
        let mut feasible = arguments.node.scheduler.check(together).await;
        // The least of each, and those whose leases are granted together.
        for most in [WORKERS_MAX, 1] {
            if feasible.is_ok() {
                let each = each_first_worker(&arguments.topology, most);
                feasible = arguments.node.scheduler.check_together(each).await;
            }
        }
        let reason = |reason| format!("with all operators of the job at once, {reason}");
        feasible.map_err(|why| JobError::Infeasible { operator: Arc::clone(&last.name), reason: reason(why) })?;
    }
    let answer = ractor::call!(root, |reply| NodeMessage::Submit(Box::new(arguments), reply));
    answer.unwrap_or_else(|error| Err(JobError::Internal { actor: "the node".to_owned(), reason: error.to_string() }))
}

/// What one worker of each operator holds, all together. Cores are taken in turns and need not fit.
fn first_workers(topology: &Topology) -> Resources {
    let mut all = Resources::cpu(0.0);
    for plan in &topology.operators {
        let workers = plan.workers.min.max(1) as f64;
        all.gpus += plan.resources.gpus * workers;
        all.memory += Bytes(plan.held().memory.0.saturating_mul(workers as u64));
        for (name, amount) in &plan.resources.extras {
            *all.extras.entry(name.clone()).or_default() += amount * workers;
        }
    }
    all.gpus = if all.gpus > 1.0 { all.gpus.ceil() } else { all.gpus };
    all
}

/// The same, each by itself, and so many of one operator at most. More than fit on any machine need not be listed: their
/// sum was too much.
fn each_first_worker(topology: &Topology, most: usize) -> Vec<Resources> {
    let holds = |plan: &&crate::job::OperatorPlan| plan.resources.gpus > 0.0;
    let operators = topology.operators.iter().filter(holds);
    operators.flat_map(|plan| std::iter::repeat_n(plan.held(), plan.workers.min.clamp(1, most))).collect()
}

fn check(config: &NodeConfig, budget: Bytes) -> Result<(), NodeError> {
    let wrong = |what: &str| Err(NodeError::Config(what.to_owned()));
    if config.cpus == Some(0) {
        return wrong("cpus is 0; at least one is needed");
    }
    if budget < BUDGET_MIN {
        return wrong(&format!("memory_budget is {budget}; at least {BUDGET_MIN} is needed"));
    }
    if config.batch_bytes == Bytes(0) || config.block_bytes == Some(Bytes(0)) {
        return wrong("batch_bytes and block_bytes must be above 0");
    }
    if config.stall_warning.is_zero() || config.task_progress_limit.is_zero() {
        return wrong("stall_warning and task_progress_limit must be above 0");
    }
    if config.extras.values().any(|amount| !amount.is_finite() || *amount < 0.0) {
        return wrong("an extra has an amount below zero or not a number");
    }
    Ok(())
}
