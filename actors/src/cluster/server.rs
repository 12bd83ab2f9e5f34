//! The head as a process: listens, lets nodes and drivers in, watches who is alive, and serves drivers.
//!
//! Roles come from certificates. A node may say heartbeats, ask where another node listens, and announce that it leaves;
//! a driver may submit, watch, cancel and take results; nobody else may say anything.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mobula_transport::{
    Authority, Config, Connection, Endpoint, Identity, Inbound, IncomingCall, IncomingFetch, Limits, Peer, Role, codec,
};

use super::agent::Agent;
use super::asker::Asker;
use super::head::Head;
use super::here::HereSite;
use super::ids::NodeName;
use super::jobs::{Entry, Jobs, Next};
use super::lent::Lent;
use super::member::{ClusterError, FACTS_BYTES_MAX, about, incarnation};
use super::members::Members;
use super::messages::{CancelOutcome, ClusterStatus, DriverAnswer, DriverCall, FetchAnswer, FetchCall, NodeInfo};
use super::objects::{JobHold, OBJECTS_SHARE, ObjectLimits, ObjectStats, Objects};
use super::peers::{HEAD, Peers};
use super::relay::Relay;
use super::sockets::Sockets;
use super::tasks::Desk;
use super::{bytes, serve};
use crate::actor::directory::{Directory, HereNode, Owned};
use crate::actor::host::ActorHost;
use crate::actor::message::StreamHead;
use crate::actor::space::Space;
use crate::actor::ways::Ways;
use crate::job::{JobError, Topology, WireObject, WireTopology};
use crate::node::{Node, NodeConfig, resources};
use crate::runtime::env::SharedEnv;
use crate::runtime::net::Net;
use crate::task::engine::Engine;
use crate::units::Bytes;

mod actors;
mod nodes;
mod tasks;
mod why;

/// What a head is started with.
#[derive(Debug, Clone)]
pub struct HeadConfig {
    /// Who it is.
    pub identity: Identity,
    /// The cluster's authority, which lets nodes with a token join.
    pub authority: Arc<Authority>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its own resources and limits; with `cpus` 0 it computes nothing itself.
    pub node: NodeConfig,
    /// Whether operators may run on the head itself.
    pub computes: bool,
    /// Limits of the transport.
    pub limits: Limits,
    /// How it opens its socket.
    pub sockets: Sockets,
}

/// So long the answer to a cancel waits for the job's end, which takes half a second, or as long as its files are being
/// made visible. Well below the time in which a call has to be answered.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// So long a head that stops waits for its jobs to end and its peers to be told, which both take a moment, or as long as
/// files are being made visible. Less than a service manager waits before it kills.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Jobs that may run at once. Each costs the head some actors and a thread, and a job on its own 1,024th of the cores is
/// better off waiting.
const JOBS_MAX: usize = 1024;

/// A running head. Cheap to clone.
#[derive(Clone)]
pub struct HeadServer {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: String,
    node: Node,
    head: Head,
    net: Net,
    endpoint: Endpoint,
    peers: Peers,
    relay: Relay,
    jobs: Jobs,
    members: Arc<Members>,
    own: NodeInfo,
    agent: Agent,
    directory: Directory,
    space: Arc<Space>,
    objects: Objects,
    desk: Desk,
    /// The head's own engine for tasks, which keeps what drivers store.
    engine: Engine,
    /// Bytes of values that drivers are sending: the room that they were promised.
    promised: Mutex<Bytes>,
    kept: Mutex<Vec<Box<dyn Any + Send + Sync>>>,
}

impl HeadServer {
    /// Starts the head; from then on nodes may join and drivers submit.
    ///
    /// # Errors
    /// If it cannot listen, or the system refuses a thread.
    pub fn start(config: HeadConfig) -> Result<Self, ClusterError> {
        let node = Node::start(config.node.clone())?;
        let net = Net::start()?;
        let members = Arc::new(Members::new());
        let endpoint = {
            let (members, env, config) = (Arc::clone(&members), Arc::clone(&node.parts().env), config.clone());
            net.block_on(async move { listen(config, members, env) })?
        };
        Self::on(config, node, net, endpoint, members)
    }

    /// The same without blocking the thread, and in a simulation if the configuration says so.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn open(config: HeadConfig) -> Result<Self, ClusterError> {
        let node = Node::open(config.node.clone()).await?;
        let net = Net::on(&config.node.threads)?;
        let members = Arc::new(Members::new());
        let endpoint = listen(config.clone(), Arc::clone(&members), Arc::clone(&node.parts().env))?;
        Self::on(config, node, net, endpoint, members)
    }

    fn on(
        config: HeadConfig,
        node: Node,
        net: Net,
        endpoint: Endpoint,
        members: Arc<Members>,
    ) -> Result<Self, ClusterError> {
        let mut own = own_info(&config, &node);
        let env = Arc::clone(&node.parts().env);
        own.address = endpoint.local_addr().to_string();
        let objects = Objects::new(object_limits(&config.node, &node));
        let peers = Peers::of_head(endpoint.clone(), net.clone(), Arc::clone(&env), objects.clone());
        let relay = Relay::new(peers.clone(), objects.clone());
        let lent = Lent::new(node.parts());
        let desk = Desk::new(Arc::clone(&env), net.clone(), object_limits(&config.node, &node).all);
        let engine = tasks::own(&node, &peers, &net, &lent, &desk, config.computes.then_some(&own))?;
        let agent = Agent::new(node.parts().clone(), node.root(), lent, Arc::new(peers.clone()));
        let head = Head::new(node.clone());
        if config.computes {
            let site = HereSite { name: own.name.as_str().into(), agent: agent.clone() };
            let name = NodeName::new(&own.name).map_err(|error| ClusterError::Answer(error.into()))?;
            head.add(Arc::new(site), name, &own.resources, node.memory_budget());
        }
        let cluster = config.identity.cluster().to_string();
        let jobs = Jobs::new(env);
        let host = config.computes.then(|| ActorHost::new(HEAD.0, &node));
        let here =
            |host: ActorHost| HereNode { name: own.name.as_str().into(), resources: own.resources.clone(), host };
        let directory = Directory::new(Some(Arc::clone(&members)), host.clone().map(here));
        let ways = Ways::Head { directory: directory.clone(), owned: Owned::new(), members: Arc::clone(&members) };
        let space = Space::new(host, ways, Some(net.clone()));
        engine.set_space(&space);
        let inner = Inner {
            cluster,
            node,
            head,
            net,
            endpoint,
            peers,
            relay,
            jobs,
            members,
            own,
            agent,
            directory,
            space,
            objects,
            desk,
            engine,
            promised: Mutex::default(),
            kept: Mutex::default(),
        };
        let server = Self { inner: Arc::new(inner) };
        server.inner.net.spawn(server.clone().accept());
        server.inner.net.spawn(server.clone().watch());
        Ok(server)
    }

    /// Keeps something as long as the head lives, such as a lock on its folder.
    pub fn keep(&self, thing: impl Any + Send + Sync) {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(thing));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.inner.endpoint.local_addr()
    }

    /// What `status` shows.
    pub fn status(&self) -> ClusterStatus {
        let Inner { cluster, head, node, jobs, members, own, .. } = &*self.inner;
        let mut nodes = vec![own.clone()];
        nodes.extend(members.list());
        let budgets = nodes.iter().filter(|node| node.state == "alive").map(|node| node.memory_budget);
        ClusterStatus {
            cluster: cluster.clone(),
            cpus: head.cores(),
            memory_budget: budgets.min().unwrap_or_default(),
            block_bytes: node.block_bytes(),
            nodes,
            jobs: jobs.running(),
        }
    }

    /// The objects that it holds for jobs and drivers.
    pub fn objects(&self) -> ObjectStats {
        self.inner.objects.stats()
    }

    /// Ends all jobs, with what they wrote hidden, and closes all connections: drivers are told why, nodes try to join
    /// again. Comes back when that is done, within five seconds.
    pub fn stop(&self) {
        let Inner { net, node, jobs, endpoint, .. } = &*self.inner;
        let (jobs, endpoint, control) = (jobs.clone(), endpoint.clone(), node.system().control_handle());
        net.block_on(async move {
            let ended = control.spawn(jobs.end_all());
            endpoint.close("the head was stopped");
            let all = async { tokio::join!(ended, endpoint.idle()).0 };
            match tokio::time::timeout(STOP_WAIT, all).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the head stops before its jobs have ended"),
                Err(_) => tracing::warn!("the head stops before its jobs have ended and all peers were told"),
            }
            // For a head that is started in its place, whoever still has handles to this one.
            endpoint.release();
        });
    }

    async fn accept(self) {
        while let Some(connection) = self.inner.endpoint.accept().await {
            match connection.peer().role {
                Role::Node => self.node(connection),
                Role::Driver => self.inner.net.spawn(self.clone().driver(connection)),
                Role::Head => connection.close("a cluster has one head"),
            }
        }
    }

    fn now(&self) -> Duration {
        self.inner.node.parts().env.now()
    }

    async fn driver(self, connection: Connection) {
        let owned = Owned::new();
        let from = Asker::new(connection.clone(), self.inner.objects.driver());
        let Inner { net, node, jobs, .. } = &*self.inner;
        while let Ok(inbound) = connection.accept().await {
            match inbound {
                Inbound::Call(call) => {
                    let answer = match call.decode::<DriverCall>() {
                        Ok(DriverCall::Submit { name, topology }) => {
                            let (server, from) = (self.clone(), from.clone());
                            net.spawn(async move { reply(call, Ok(server.submit(from, name, topology).await)).await });
                            continue;
                        }
                        Ok(DriverCall::Put { objects }) => {
                            let (server, from) = (self.clone(), from.clone());
                            net.spawn(async move { reply(call, Ok(server.put(from, objects).await)).await });
                            continue;
                        }
                        Ok(DriverCall::Keep { id, bytes }) => {
                            net.spawn(self.clone().keep_value(call, connection.clone(), id, bytes));
                            continue;
                        }
                        Ok(DriverCall::Actors { call: asked }) => {
                            let answer = |answer| DriverAnswer::Actors { answer };
                            net.spawn(self.clone().directory(call, asked, owned.clone(), answer));
                            continue;
                        }
                        Ok(DriverCall::Cancel { job, told }) => {
                            net.spawn(self.clone().cancel(call, job, told));
                            continue;
                        }
                        Ok(DriverCall::Why { job }) => {
                            net.spawn(self.clone().why(call, job));
                            continue;
                        }
                        Ok(other) => Ok(self.answer(other)),
                        Err(error) => Err(error.to_string()),
                    };
                    net.spawn(reply(call, answer));
                }
                Inbound::Fetch(fetch) => net.spawn(self.clone().fetch_of_driver(fetch)),
                Inbound::Stream { head, tx, rx } => match codec::decode(&head, serve::HEAD_BYTES_MAX) {
                    Ok(StreamHead::Tasks) => net.spawn(self.inner.desk.clone().driver(tx, rx)),
                    _ => self.messages(&head, tx, rx),
                },
            }
        }
        node.system().control_handle().spawn(jobs.clone().driver_gone(from.started.end()));
        self.inner.directory.caller_gone(&owned).await;
    }

    /// Takes objects ahead of their job.
    async fn put(&self, from: Asker, objects: Vec<WireObject>) -> DriverAnswer {
        let objects = objects.into_iter().map(WireObject::into_object).collect();
        match self.inner.objects.put(objects, &from.connection, from.brought.driver).await {
            Ok(()) => DriverAnswer::Put,
            Err(error) => DriverAnswer::Failed { error },
        }
    }

    /// Takes the objects of a job from its driver, and starts it.
    async fn submit(&self, from: Asker, name: String, topology: Vec<u8>) -> DriverAnswer {
        let mut topology = match WireTopology::decode(&topology) {
            Ok(topology) => topology.into_topology(),
            Err(error) => return DriverAnswer::Failed { error: odd(error.to_string()) },
        };
        let Asker { connection, started, brought } = from;
        let (hold, left) = match self.inner.objects.take(&mut topology, &connection, brought.driver).await {
            Ok(taken) => taken,
            Err(error) => return DriverAnswer::Failed { error },
        };
        match self.start_job(name, connection.peer().node.to_string(), topology, hold).await {
            Ok(job) => {
                if !started.add(job) {
                    let jobs = self.inner.jobs.clone();
                    self.inner.node.system().control_handle().spawn(jobs.driver_gone(vec![job]));
                }
                DriverAnswer::Submitted { job, left }
            }
            Err(error) => DriverAnswer::Failed { error },
        }
    }

    /// Jobs live on the node's control plane, not on the network's thread.
    async fn start_job(
        &self,
        name: String,
        driver: String,
        topology: Topology,
        objects: JobHold,
    ) -> Result<u64, JobError> {
        let Inner { head, jobs, node, .. } = &*self.inner;
        if jobs.running() >= JOBS_MAX {
            let reason =
                format!("{JOBS_MAX} jobs run on this cluster already, which is the most; try again when one has ended");
            return Err(JobError::Infeasible { operator: name.into(), reason });
        }
        let (control, head) = (node.system().control_handle(), head.clone());
        let started = control.spawn(async move { head.submit(topology).await }).await;
        let job = jobs.add(name, driver, started.map_err(|error| odd(error.to_string()))??, objects);
        control.spawn(jobs.clone().run(job));
        Ok(job)
    }

    fn answer(&self, call: DriverCall) -> DriverAnswer {
        let jobs = &self.inner.jobs;
        match call {
            // Answered elsewhere.
            DriverCall::Submit { .. }
            | DriverCall::Put { .. }
            | DriverCall::Keep { .. }
            | DriverCall::Actors { .. }
            | DriverCall::Why { .. }
            | DriverCall::Cancel { .. } => DriverAnswer::Unknown,
            DriverCall::Jobs => DriverAnswer::Jobs { jobs: jobs.list() },
            DriverCall::Status => DriverAnswer::Status { status: self.status() },
            DriverCall::Tasks => DriverAnswer::Tasks { list: self.task_list() },
            DriverCall::Summary { job, logs_from } => match jobs.get(job) {
                Some(entry) => entry.answer(logs_from),
                None => DriverAnswer::Unknown,
            },
        }
    }

    /// Tells a job to end, and sees to it that it does: whoever takes its results may not ask for more.
    fn stop_job(&self, job: u64, entry: &Entry) {
        let Inner { node, jobs, .. } = &*self.inner;
        entry.watch().cancel();
        node.system().control_handle().spawn(jobs.clone().run_out(job));
    }

    /// Stops a job and answers when it has ended.
    async fn cancel(self, call: IncomingCall, job: u64, told: bool) {
        let Some(entry) = self.inner.jobs.get(job) else { return reply(call, Ok(DriverAnswer::Unknown)).await };
        let before = entry.end_state().filter(|_| !told).map(CancelOutcome::Ended);
        if before.is_none() {
            self.stop_job(job, &entry);
        }
        let ended = tokio::time::timeout(CANCEL_WAIT, entry.until_ended()).await;
        let outcome = || DriverAnswer::Cancel { outcome: before.unwrap_or_else(|| entry.cancelled()) };
        reply(call, Ok(ended.map_or(DriverAnswer::Cancelling, |()| outcome()))).await;
    }

    /// The next result of a job, for its driver.
    async fn result(self, fetch: IncomingFetch) {
        let wanted = match fetch.decode::<FetchCall>() {
            Ok(FetchCall::Result { job, number }) => self.inner.jobs.get(job).map(|entry| (entry, number)),
            _ => None,
        };
        let Some((entry, number)) = wanted else {
            // Who asked may have gone.
            let _ = fetch.refuse("there is no such job (any more); see `mobula jobs`").await;
            return;
        };
        let (jobs, waiting, given_up) = (self.inner.jobs.clone(), Arc::clone(&entry), fetch.cancelled());
        let next = async move { jobs.result(&waiting, number, given_up).await };
        match self.inner.node.system().control_handle().spawn(next).await {
            Ok(None) => {}
            Ok(Some(Next::Block(block))) => {
                serve::answer(fetch, bytes::encode(&block).map_err(|error| error.to_string())).await
            }
            Ok(Some(Next::Odd(number))) => drop(fetch.refuse(&format!("result {number} is not kept any more")).await),
            Ok(Some(Next::End(error, summary, finished))) => {
                let logs = entry.logs().next();
                let summary = Box::new(summary);
                let sent = fetch.send(&FetchAnswer::End { error, summary, finished, logs }, Vec::new()).await;
                if let Err(error) = sent {
                    tracing::debug!(%error, "a driver did not take the end of its job");
                }
            }
            Err(error) => drop(fetch.refuse(&error.to_string()).await),
        }
    }
}

async fn reply<T: serde::Serialize>(call: IncomingCall, answer: Result<T, String>) {
    let sent = match answer {
        Ok(answer) => call.reply(&answer).await,
        Err(reason) => call.refuse(&reason).await,
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "nobody waited for an answer");
    }
}

fn odd(reason: String) -> JobError {
    JobError::Internal { actor: "the head".to_owned(), reason }
}

fn object_limits(config: &NodeConfig, node: &Node) -> ObjectLimits {
    let all = config.objects_bytes_max.unwrap_or(Bytes(node.memory_budget().0 / OBJECTS_SHARE));
    ObjectLimits { one: config.object_bytes_max, all }
}

fn listen(config: HeadConfig, members: Arc<Members>, env: SharedEnv) -> Result<Endpoint, ClusterError> {
    let HeadConfig { identity, authority, listen, limits, sockets, node, .. } = config;
    let about = about(incarnation(&*env), Some(listen), &())?;
    let endpoint =
        Config { identity, listen, about, limits, authority: Some(authority), socket: sockets.open(listen)? };
    let admit = move |peer: &Peer| match peer.role {
        Role::Node => {
            let admitted = members.admit(env.now(), peer)?;
            codec::encode(&admitted, FACTS_BYTES_MAX).map_err(|error| error.to_string())
        }
        Role::Driver => Ok(Vec::new()),
        Role::Head => Err("a cluster has one head".to_owned()),
    };
    Ok(Endpoint::start_seeded(endpoint, admit, node.threads.seed())?)
}

fn own_info(config: &HeadConfig, node: &Node) -> NodeInfo {
    let total = resources(&config.node, config.node.machine());
    NodeInfo {
        name: config.identity.node().to_string(),
        number: 0,
        state: if config.computes { "alive" } else { "head only" }.to_owned(),
        address: config.listen.to_string(),
        resources: total,
        memory_budget: node.memory_budget(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::member::HEARTBEAT;
    use super::super::membership;
    use super::*;

    #[test]
    fn it_is_the_head_that_says_who_is_dead_and_no_connection_says_so_before() {
        let (verdict, wire) = (membership::Limits::default(), Limits::default());
        // The last word may be a heartbeat older than the last packet, and nobody looks for a while.
        assert!(wire.idle_timeout > verdict.dead + 2 * nodes::LOOK);
        assert!(3 * wire.keep_alive <= verdict.suspect && 3 * HEARTBEAT <= verdict.suspect);
    }
}
