//! A driver: a process that sends jobs to a cluster and takes their results. It runs nothing itself.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mobula_transport::{
    Authority, CallError, CodecError, Config, Connection, Endpoint, Identity, JoinError, Lane, Limits, NodeId, Peer,
    Role, Token,
};

use super::link::CALL_DEADLINE;
use super::member::{ClusterError, about, incarnation};
use super::messages::{CancelOutcome, ClusterStatus, DriverAnswer, DriverCall, JobInfo, TaskList};
use super::objects::time_for;
use super::offers::Offers;
use super::sockets::Sockets;
use super::tasks::pack::DownFrame;
use super::tasks::{DriverWay, TaskLink, link};
use crate::actor::Actors;
use crate::actor::message::StreamHead;
use crate::actor::space::Space;
use crate::actor::ways::Ways;
use crate::block::Block;
use crate::job::{JobError, JobSummary, Topology, Why, WireObject};
use crate::node::NodeError;
use crate::operator::{BoxError, Object};
use crate::pool::isolated::role_was_missed;
use crate::runtime::Threads;
use crate::runtime::env::SystemEnv;
use crate::runtime::net::Net;
use crate::task::engine::{Engine, EngineParts, Upstream, ValueLimits};
use crate::task::{TaskError, Tasks};
use crate::units::Bytes;

/// One value of a driver: what a fetch carries at most.
const VALUE_BYTES_MAX: Bytes = Bytes::mib(2 << 10);
/// Time for a job to be started: its splits travel, and its operators are stood up.
const SUBMIT_DEADLINE: Duration = Duration::from_secs(60);

mod watch;

pub use watch::DriverWatch;
use watch::{End, clean, fetch_result};

/// A connection to a cluster's head. Cheap to clone.
#[derive(Clone)]
pub struct Driver {
    inner: Arc<Inner>,
}

struct Inner {
    net: Net,
    /// Keeps the socket.
    _endpoint: Endpoint,
    control: Connection,
    data: Connection,
    offers: Offers,
    space: Arc<Space>,
    /// Made when first asked for.
    tasks: Mutex<Option<Engine>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(engine) = lock(&self.tasks).take() {
            engine.close(TaskError::Ended("it was dropped".to_owned()));
        }
    }
}

/// Joins a cluster with a token of this role: the identity that its authority gives to `node`.
///
/// # Errors
/// If nobody answers, or the token is unknown, expired, used, of another role (it is not used up then), or of another
/// cluster.
pub fn join(role: Role, head: SocketAddr, token: &Token, node: NodeId, limits: &Limits) -> Result<Identity, BoxError> {
    let (token, limits) = (token.clone(), limits.clone());
    let joined: Result<Identity, JoinError> =
        Net::start()?.block_on(async move { mobula_transport::join_as(role, head, &token, node, &limits).await });
    Ok(joined?)
}

/// What a driver needs to connect.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// Who it is.
    pub identity: Identity,
    /// Where the head listens.
    pub head: SocketAddr,
    /// Limits of the transport.
    pub limits: Limits,
    /// How it opens its socket.
    pub sockets: Sockets,
    /// Which threads it runs on.
    pub threads: Threads,
}

impl Driver {
    /// Connects to a head.
    ///
    /// # Errors
    /// If it cannot be reached or refuses, or the system refuses a thread.
    pub fn connect(head: SocketAddr, identity: Identity, limits: Limits) -> Result<Self, ClusterError> {
        Self::connect_through(&Sockets::default(), head, identity, limits)
    }

    /// As [`connect`](Self::connect), with a socket of one's own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and if there is no socket.
    pub fn connect_through(
        sockets: &Sockets,
        head: SocketAddr,
        identity: Identity,
        limits: Limits,
    ) -> Result<Self, ClusterError> {
        let config = DriverConfig { identity, head, limits, sockets: sockets.clone(), threads: Threads::default() };
        let net = Net::start()?;
        let runner = net.clone();
        runner.block_on(Self::on(config, net))
    }

    /// Connects without blocking the thread, and in a simulation if the configuration says so.
    ///
    /// # Errors
    /// As [`connect_through`](Self::connect_through).
    pub async fn open(config: DriverConfig) -> Result<Self, ClusterError> {
        let net = Net::on(&config.threads)?;
        Self::on(config, net).await
    }

    async fn on(config: DriverConfig, net: Net) -> Result<Self, ClusterError> {
        let DriverConfig { identity, head, limits, sockets, threads } = config;
        if role_was_missed() {
            return Err(NodeError::RoleMissed.into());
        }
        if identity.role() != Role::Driver {
            return Err(ClusterError::NoDriver(identity.role()));
        }
        let any = if head.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let about = about(incarnation(&*threads.env()), None, &())?;
        let listen = SocketAddr::new(any, 0);
        let (authority, socket) = (None::<Arc<Authority>>, sockets.open(listen)?);
        let config = Config { identity, listen, about, limits, authority, socket };
        let nobody = |_: &Peer| Err("nobody connects to a driver".to_owned());
        let endpoint = Endpoint::start_seeded(config, nobody, threads.seed())?;
        let control = endpoint.connect(head, Lane::Control).await?;
        let data = endpoint.connect(head, Lane::Data).await?;
        let offers = Offers::default();
        net.spawn(offers.clone().serve(data.clone()));
        let space = Space::new(None, Ways::driver(control.clone()), Some(net.clone()));
        Ok(Self {
            inner: Arc::new(Inner { net, _endpoint: endpoint, control, data, offers, space, tasks: Mutex::default() }),
        })
    }

    /// Which nodes there are, and what jobs may use.
    ///
    /// # Errors
    /// If the head does not answer.
    pub fn status(&self) -> Result<ClusterStatus, ClusterError> {
        match self.call(DriverCall::Status)? {
            DriverAnswer::Status { status } => Ok(status),
            other => Err(odd(&other)),
        }
    }

    /// The same without blocking the thread.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn status_async(&self) -> Result<ClusterStatus, ClusterError> {
        match self.ask(DriverCall::Status).await? {
            DriverAnswer::Status { status } => Ok(status),
            other => Err(odd(&other)),
        }
    }

    /// Which jobs there are, the oldest first.
    ///
    /// # Errors
    /// If the head does not answer.
    pub fn jobs(&self) -> Result<Vec<JobInfo>, ClusterError> {
        match self.call(DriverCall::Jobs)? {
            DriverAnswer::Jobs { jobs } => Ok(jobs),
            other => Err(odd(&other)),
        }
    }

    /// Tasks that have not ended, and what each waits for: where it runs, which resources no node has free, which of its
    /// arguments are not there.
    ///
    /// # Errors
    /// If the head does not answer.
    pub fn open_tasks(&self) -> Result<TaskList, ClusterError> {
        match self.call(DriverCall::Tasks)? {
            DriverAnswer::Tasks { list } => Ok(list),
            other => Err(odd(&other)),
        }
    }

    /// Stops a job and waits until it has ended: what it wrote is gone then. `None` if there is none of this number.
    ///
    /// # Errors
    /// If the head does not answer.
    pub fn cancel(&self, job: u64) -> Result<Option<CancelOutcome>, ClusterError> {
        let mut told = false;
        loop {
            match self.call(DriverCall::Cancel { job, told })? {
                DriverAnswer::Cancel { outcome } => return Ok(Some(outcome)),
                DriverAnswer::Unknown => return Ok(None),
                DriverAnswer::Cancelling => told = true,
                other => return Err(odd(&other)),
            }
        }
    }

    /// Who waits for whom in a job now, down to a call of user code, a port, a lease or a node. `None` if there is no job of
    /// this number. One that has ended waits for nothing.
    ///
    /// # Errors
    /// If the head does not answer.
    pub fn why(&self, job: u64) -> Result<Option<Why>, ClusterError> {
        match self.call(DriverCall::Why { job })? {
            DriverAnswer::Why { why } => Ok(Some(why.cleaned())),
            DriverAnswer::Unknown => Ok(None),
            other => Err(odd(&other)),
        }
    }

    /// Starts a job. `name` is what `jobs` shows.
    ///
    /// # Errors
    /// If the topology holds what cannot travel, or the head cannot start it.
    pub fn submit(&self, name: &str, topology: &Topology) -> Result<DriverJob, JobError> {
        let (call, objects) = submission(name, topology)?;
        let this = self.clone();
        let answer = self.inner.net.block_on(async move { this.call_offering(call, objects).await })?;
        self.attach(submitted(answer)?)
    }

    /// The same without blocking the thread.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_async(&self, name: &str, topology: &Topology) -> Result<DriverJob, JobError> {
        let (call, objects) = submission(name, topology)?;
        let job = submitted(self.call_offering(call, objects).await?)?;
        let asked = self.ask(DriverCall::Summary { job, logs_from: 0 }).await;
        self.attached(job, asked)
    }

    /// Sends objects ahead of the job that names them, which otherwise sends them itself. They stay with the head as long
    /// as this driver is connected and no job needs their room.
    ///
    /// # Errors
    /// If one is over a limit of the head, unless it is [optional](Object::optional), or the head is lost.
    pub fn put(&self, objects: Vec<Object>) -> Result<(), JobError> {
        if objects.is_empty() {
            return Ok(());
        }
        let call = DriverCall::Put { objects: objects.iter().map(WireObject::of).collect() };
        let this = self.clone();
        match self.inner.net.block_on(async move { this.call_offering(call, objects).await })? {
            DriverAnswer::Put => Ok(()),
            DriverAnswer::Failed { error } => Err(error),
            other => Err(internal(format!("an answer that does not fit: {other:?}"))),
        }
    }

    /// The head fetches the objects that it does not have while it answers, over the connection of the call.
    async fn call_offering(&self, call: DriverCall, objects: Vec<Object>) -> Result<DriverAnswer, JobError> {
        let offered = self.inner.offers.offer(objects);
        let deadline = SUBMIT_DEADLINE + time_for(offered.bytes());
        let answer = self.inner.data.call(&call, deadline).await;
        answer.map_err(|error| match error {
            CallError::TooLarge(CodecError::TooLarge { bytes, limit }) => too_large(bytes, limit),
            error => lost(&ClusterError::from(error)),
        })
    }

    /// The handle of a job that was started before, perhaps by another driver. Its results go on behind those that were taken.
    ///
    /// # Errors
    /// If there is no such job.
    pub fn attach(&self, job: u64) -> Result<DriverJob, JobError> {
        let answer = self.call(DriverCall::Summary { job, logs_from: 0 });
        self.attached(job, answer)
    }

    fn attached(&self, job: u64, answer: Result<DriverAnswer, ClusterError>) -> Result<DriverJob, JobError> {
        let answer = answer.map_err(|error| lost(&error))?;
        let DriverAnswer::Summary { summary, logs, given } = answer else {
            return Err(JobError::Unknown { job });
        };
        let watch = DriverWatch {
            driver: self.clone(),
            job,
            picture: Arc::new(Mutex::new(clean(summary))),
            logs: Arc::default(),
            ended: Arc::new(AtomicBool::new(false)),
        };
        watch.say(logs);
        self.inner.net.spawn(watch.clone().keep_up());
        Ok(DriverJob { watch, taken: given, ended: None, finished: None })
    }

    /// The tasks and stored values of the cluster, as this driver sees them.
    ///
    /// # Errors
    /// If the head cannot be asked.
    pub fn tasks(&self) -> Result<Tasks, ClusterError> {
        let Inner { net, control, data, offers, tasks, .. } = &*self.inner;
        let mut tasks = lock(tasks);
        if let Some(engine) = &*tasks {
            return Ok(Tasks::new(engine.clone()));
        }
        let way = DriverWay { data: data.clone(), offers: offers.clone(), net: net.clone() };
        let (link, outgoing) = TaskLink::new(way, net.clone());
        let control = control.clone();
        let opening = async move {
            let (tx, mut rx) = control.open_stream(&StreamHead::Tasks).await?;
            match rx.next::<DownFrame>().await? {
                Some(DownFrame::Welcome { party }) => Ok((party, tx, rx)),
                other => Err(BoxError::from(format!("a task stream began with {other:?}"))),
            }
        };
        let (party, tx, rx) = net.block_on(opening).map_err(ClusterError::Answer)?;
        // What a driver stores is kept by the head, by the limits there.
        let limits = ValueLimits { one: VALUE_BYTES_MAX, all: Bytes(u64::MAX) };
        let env = Arc::new(SystemEnv::new());
        let up: Arc<dyn Upstream> = link;
        let engine = Engine::new(EngineParts { env, party, cpus: 0.0, limits, scheduler: None, up: Some(up) });
        engine.set_space(&self.inner.space);
        net.spawn(link::run(engine.clone(), outgoing, tx, rx));
        Ok(Tasks::new(tasks.insert(engine).clone()))
    }

    /// The actors of the cluster. Those that are spawned by it end with this driver, unless they are detached.
    pub fn actors(&self) -> Actors {
        Actors::of(Arc::clone(&self.inner.space))
    }

    fn call(&self, call: DriverCall) -> Result<DriverAnswer, ClusterError> {
        let this = self.clone();
        self.inner.net.block_on(async move { this.ask(call).await })
    }

    async fn ask(&self, call: DriverCall) -> Result<DriverAnswer, ClusterError> {
        Ok(self.inner.control.call(&call, CALL_DEADLINE).await?)
    }
}

fn submission(name: &str, topology: &Topology) -> Result<(DriverCall, Vec<Object>), JobError> {
    let encoded = topology.to_wire()?.encode().map_err(|error| internal(error.to_string()))?;
    let call = DriverCall::Submit { name: name.to_owned(), topology: encoded };
    Ok((call, topology.objects().cloned().collect()))
}

/// The number of the job that was started.
fn submitted(answer: DriverAnswer) -> Result<u64, JobError> {
    match answer {
        DriverAnswer::Submitted { job, left } => {
            left.iter()
                .for_each(|left| tracing::warn!("the head does not take {left}; each node has to have it itself"));
            Ok(job)
        }
        DriverAnswer::Failed { error } => Err(error),
        other => Err(internal(format!("an answer that does not fit: {other:?}"))),
    }
}

fn odd(answer: &DriverAnswer) -> ClusterError {
    ClusterError::Answer(format!("it does not fit the question: {answer:?}").into())
}

fn internal(reason: String) -> JobError {
    JobError::Internal { actor: "the head".to_owned(), reason }
}

fn lost(error: &ClusterError) -> JobError {
    JobError::HeadLost { reason: error.to_string() }
}

fn too_large(bytes: usize, limit: usize) -> JobError {
    let (bytes, limit) = (Bytes(bytes as u64), Bytes(limit as u64));
    let reason = format!(
        "a plan of {bytes}: it may have {limit}. Rows that are in memory travel inside it; write them to files first, which every node can read"
    );
    JobError::Object { reason }
}

/// A job as its driver sees it. Dropping it leaves the job alone; the head cancels those whose results nobody can take
/// once their driver's connection has ended.
pub struct DriverJob {
    watch: DriverWatch,
    /// Blocks of results that have come, here or to the handle before.
    taken: u64,
    ended: Option<Result<(), JobError>>,
    finished: Option<Vec<u8>>,
}

impl DriverJob {
    /// Its number on the head.
    pub fn id(&self) -> u64 {
        self.watch.job
    }

    /// The next block of results, waiting for it; `None` when the job has finished.
    ///
    /// # Errors
    /// Why the job failed, or that the head is gone.
    pub fn next_block(&mut self) -> Result<Option<Block>, JobError> {
        if let Some(ended) = &self.ended {
            return ended.clone().map(|()| None);
        }
        let (data, job, number) = (self.watch.driver.inner.data.clone(), self.watch.job, self.taken);
        let next = self.watch.driver.inner.net.block_on(async move { fetch_result(&data, job, number).await });
        if let Some(call) = self.watch.last_look(&next) {
            // What was logged last is said before how it ended; if it does not come, the end counts more.
            let _ = self.watch.on_look(self.watch.driver.call(call));
        }
        self.on_next(next)
    }

    /// The same without blocking the thread. If the future is dropped, the next one brings what this would have brought.
    ///
    /// # Errors
    /// As [`next_block`](Self::next_block).
    pub async fn next(&mut self) -> Result<Option<Block>, JobError> {
        if let Some(ended) = &self.ended {
            return ended.clone().map(|()| None);
        }
        let next = fetch_result(&self.watch.driver.inner.data, self.watch.job, self.taken).await;
        if let Some(call) = self.watch.last_look(&next) {
            // As above.
            let _ = self.watch.on_look(self.watch.driver.ask(call).await);
        }
        self.on_next(next)
    }

    fn on_next(&mut self, next: Result<Result<Block, End>, BoxError>) -> Result<Option<Block>, JobError> {
        let result = match next {
            Ok(Ok(block)) => {
                self.taken += 1;
                return Ok(Some(block));
            }
            Ok(Err(End { error, summary, finished, .. })) => {
                self.finished = finished;
                *self.watch.picture() = clean(summary);
                error.map_or(Ok(()), Err)
            }
            Err(error) => Err(JobError::HeadLost { reason: error.to_string() }),
        };
        self.watch.ended.store(true, Ordering::Relaxed);
        self.ended.insert(result).clone().map(|()| None)
    }

    /// What the finisher of a job that writes returned, once it has ended.
    pub fn finished(&self) -> Option<&[u8]> {
        self.finished.as_deref()
    }

    /// What the job did so far.
    pub fn summary(&self) -> JobSummary {
        self.watch.summary()
    }

    /// A handle to watch and cancel the job from another thread.
    pub fn watch(&self) -> DriverWatch {
        self.watch.clone()
    }
}

impl Drop for DriverJob {
    fn drop(&mut self) {
        self.watch.ended.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
