//! The session: a running engine as the user sees it, and where datasets begin.

use std::net::ToSocketAddrs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mobula_actors::actor::{ActorHandle, Actors, NamedActor, SpawnBuilder};
use mobula_actors::cluster::{Driver, Identity, Limits};
use mobula_actors::job::{JobSummary, Topology, Weight};
use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::operator::Shared;
use mobula_actors::runtime::env::SharedEnv;
use mobula_actors::task::Tasks;
use mobula_actors::units::Bytes;

use crate::cluster;
use crate::config::SessionBuilder;
use crate::dataset::{RunHandle, Runs};
use crate::error::{Error, Result};
use crate::plan::lower::Site;

/// What blocks aim at unless the builder says otherwise: as the engine does.
const BLOCK_BYTES: Bytes = Bytes::mib(8);

/// A running engine: in this process, or a cluster. Cheap to clone; with the last clone (datasets hold one) the engine in
/// this process stops, and so do those jobs on a cluster whose results nobody else can take.
///
/// ```
/// use mobula::prelude::*;
/// let session = Session::local()?;
/// let even = session.range(0..10)?.filter((col("id") % 2).eq(0))?;
/// assert_eq!(even.count()?, 5);
/// # Ok::<(), mobula::Error>(())
/// ```
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
    weight: Weight,
    task_progress_limit: Option<Duration>,
}

struct Inner {
    engine: Engine,
    cpus: usize,
    gpus: usize,
    memory_budget: Bytes,
    block_bytes: Bytes,
    last: LastRun,
    runs: Runs,
}

/// Where jobs run.
enum Engine {
    Local(Node),
    Cluster(Driver),
}

impl Session {
    /// A session with the limits that fit this machine. Opens no socket.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn local() -> Result<Self> {
        Self::builder().build()
    }

    /// A session of the cluster whose head listens at `head`, as the driver that `identity` names: the same verbs, run
    /// by all nodes. Data files are named by absolute paths, which have to lead to the same files on all of them; a model's
    /// bytes are sent. What cannot travel, such as [`local`](crate::prelude::local), is refused when it is to run.
    ///
    /// ```no_run
    /// use mobula::cluster::driver_identity;
    /// use mobula::prelude::*;
    /// let head = "127.0.0.1:4433";
    /// let session = Session::connect(head, driver_identity(head)?)?;
    /// println!("{} rows", session.read_parquet("data/*.parquet")?.count()?);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If `head` is no address, nobody answers there, or the head refuses, with its reason.
    pub fn connect(head: impl ToSocketAddrs, identity: Identity) -> Result<Self> {
        let driver = Driver::connect(cluster::address(head)?, identity, Limits::default())?;
        let status = driver.status()?;
        let gpus = status.nodes.iter().map(|node| node.resources.gpus as usize).sum();
        Ok(Self::over(Engine::Cluster(driver), (status.cpus, gpus), status.memory_budget, status.block_bytes))
    }

    /// Chooses the limits of a session in this process.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }

    pub(crate) fn start(config: NodeConfig, env: SharedEnv) -> Result<Self> {
        let block_bytes = config.block_bytes.unwrap_or(BLOCK_BYTES);
        let node = Node::start_with(config, env)?;
        let (cores, memory_budget) = ((node.cpus(), node.gpus()), node.memory_budget());
        Ok(Self::over(Engine::Local(node), cores, memory_budget, block_bytes))
    }

    fn over(engine: Engine, (cpus, gpus): (usize, usize), memory_budget: Bytes, block_bytes: Bytes) -> Self {
        let inner =
            Inner { engine, cpus, gpus, memory_budget, block_bytes, last: LastRun::default(), runs: Runs::default() };
        Self { inner: Arc::new(inner), weight: Weight::default(), task_progress_limit: None }
    }

    /// The same engine; jobs of this handle get a share of the cores in proportion to `weight`, 1 (the default) to 1000,
    /// while other jobs run beside them: with 3, three times what a job of weight 1 gets.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let session = Session::local()?;
    /// let urgent = session.with_weight(10)?;
    /// assert_eq!(urgent.range(0..10)?.count()?, 10);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the weight is out of range.
    pub fn with_weight(&self, weight: u32) -> Result<Self> {
        let weight = Weight::new(weight).map_err(|error| Error::invalid("with_weight", error.to_string()))?;
        Ok(Self { weight, ..self.clone() })
    }

    /// The same engine; in jobs of this handle a call of user code for a task may take so long, or ten times what 95 of 100
    /// calls of its operator take if that is more. One that takes longer is given up and its task tried elsewhere, which
    /// counts as one of its attempts; the call's thread is left behind, since nothing within a process can end it. Opening
    /// an operator may take ten minutes at least. Without this, the limit of the session or the nodes holds: an hour
    /// unless they were set otherwise.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// use std::time::Duration;
    /// let session = Session::local()?.with_task_progress_limit(Duration::from_secs(300));
    /// assert_eq!(session.range(0..10)?.count()?, 10);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    pub fn with_task_progress_limit(&self, limit: Duration) -> Self {
        Self { task_progress_limit: Some(limit), ..self.clone() }
    }

    /// Cores that workers compute on at once; of a cluster, those of all nodes when the session connected.
    pub fn cpus(&self) -> usize {
        self.inner.cpus
    }

    /// GPUs that workers may have; of a cluster, those of all nodes when the session connected.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let session = Session::builder().gpus(2).build()?;
    /// assert_eq!(session.gpus(), 2);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    pub fn gpus(&self) -> usize {
        self.inner.gpus
    }

    /// Memory that blocks may take on a node, in bytes; of a cluster, on the smallest node when the session connected.
    pub fn memory_budget(&self) -> Bytes {
        self.inner.memory_budget
    }

    /// Size that blocks aim at, in bytes; a job with many operators on a small budget makes smaller ones.
    pub fn block_bytes(&self) -> Bytes {
        self.inner.block_bytes
    }

    /// An actor to spawn, here or on the cluster, with this start state: see [`SpawnBuilder`] for where, on which thread
    /// and with what.
    ///
    /// ```
    /// use mobula::actix::{Actor, Context, Handler, Message};
    /// use mobula::prelude::*;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Counter { count: u64 }
    ///
    /// #[mobula::actor(messages(Add))]
    /// impl Actor for Counter { type Context = Context<Self>; }
    ///
    /// #[derive(Message, Serialize, Deserialize)]
    /// #[rtype(result = "u64")]
    /// struct Add(u64);
    ///
    /// impl Handler<Add> for Counter {
    ///     type Result = u64;
    ///     fn handle(&mut self, Add(more): Add, _: &mut Context<Self>) -> u64 { self.count += more; self.count }
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let session = Session::local()?;
    ///     let counter = session.spawn(Counter { count: 40 }).name("the counter").start()?;
    ///     assert_eq!(counter.ask(Add(1))?, 41);
    ///     assert_eq!(session.actor::<Counter>("the counter")?.ask(Add(1))?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn spawn<A: NamedActor>(&self, start: A) -> SpawnBuilder<A> {
        self.actors().spawn(start)
    }

    /// The actor of this name, whoever spawned it.
    ///
    /// # Errors
    /// If there is none, or it is of another kind.
    pub fn actor<A: NamedActor>(&self, name: &str) -> Result<ActorHandle<A>> {
        Ok(self.actors().named(name)?)
    }

    /// The way to all actors.
    pub fn actors(&self) -> Actors {
        match &self.inner.engine {
            Engine::Local(node) => node.actors(),
            Engine::Cluster(driver) => driver.actors(),
        }
    }

    /// What the run that ended last in this session did, operator by operator; `None` before the first.
    pub fn stats(&self) -> Option<JobSummary> {
        self.inner.last.get()
    }

    /// Whether both are handles of one running engine.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn site(&self) -> Site {
        Site { cpus: self.cpus(), block_bytes: self.block_bytes() }
    }

    /// What workers in this process share.
    pub(crate) fn shared(&self) -> Option<&Shared> {
        match &self.inner.engine {
            Engine::Local(node) => Some(node.shared()),
            Engine::Cluster(_) => None,
        }
    }

    pub(crate) fn start_job(&self, topology: Topology) -> Result<RunHandle> {
        let Self { weight, task_progress_limit, .. } = *self;
        let topology = Topology { weight, task_progress_limit, ..topology };
        match &self.inner.engine {
            Engine::Local(node) if topology.recorder.is_some() => {
                Ok(RunHandle::Recorded(node.submit_recorded(topology)?))
            }
            Engine::Local(node) => Ok(RunHandle::Local(node.submit(topology)?)),
            Engine::Cluster(driver) => {
                let name = topology.operators.last().map_or("", |operator| &operator.name);
                Ok(RunHandle::Cluster(driver.submit(name, &topology)?))
            }
        }
    }

    /// Its runs that have not ended.
    pub(crate) fn runs(&self) -> &Runs {
        &self.inner.runs
    }

    /// Sends what a topology takes beside its parameters ahead, where its operators run elsewhere.
    pub(crate) fn send_ahead(&self, topology: &Topology) -> Result<()> {
        match &self.inner.engine {
            Engine::Local(_) => Ok(()),
            Engine::Cluster(driver) => Ok(driver.put(topology.objects().cloned().collect())?),
        }
    }

    /// Its tasks.
    pub(crate) fn inner_tasks(&self) -> Result<Tasks> {
        match &self.inner.engine {
            Engine::Local(node) => Ok(node.tasks()?),
            Engine::Cluster(driver) => Ok(driver.tasks()?),
        }
    }

    pub(crate) fn last_run(&self) -> &LastRun {
        &self.inner.last
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("cpus", &self.cpus()).field("memory_budget", &self.memory_budget()).finish()
    }
}

/// The summary of the run that ended last. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub(crate) struct LastRun(Arc<Mutex<Option<JobSummary>>>);

impl LastRun {
    pub(crate) fn get(&self) -> Option<JobSummary> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, summary: JobSummary) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(summary);
    }
}
