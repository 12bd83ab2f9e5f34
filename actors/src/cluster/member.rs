//! A node of a cluster: joins the head, runs the pools that it asks for and serves its blocks. When the head is lost it
//! lets everything go and joins again, as a new incarnation with a new number.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mobula_transport::{
    About, Backoff, ClosedReason, Config, ConnectError, Connection, Endpoint, EndpointError, Identity, Lane, Limits,
    Peer, Role, codec,
};
use serde::Serialize;
use tokio::sync::watch;

use super::agent::Agent;
use super::build_id::build_id;
use super::lent::Lent;
use super::link::CALL_DEADLINE;
use super::messages::{Admitted, NodeAnswer, NodeCall, NodeFacts};
use super::peers::Peers;
use super::serve;
use super::sockets::Sockets;
use super::tasks::link::Outgoing;
use super::tasks::{NodeWay, TaskLink};
use crate::actor::host::ActorHost;
use crate::actor::space::Space;
use crate::actor::ways::Ways;
use crate::block::NodeId;
use crate::function::registry;
use crate::job::texts;
use crate::node::{Node, NodeConfig, NodeError, memory_budget, resources};
use crate::operator::BoxError;
use crate::runtime::env::Env;
use crate::runtime::net::Net;
use crate::runtime::tasks;
use crate::task::PartyId;
use crate::task::engine::{Engine, Upstream};

/// What a node needs to join.
#[derive(Debug, Clone)]
pub struct MemberConfig {
    /// Who it is: what [`join`](mobula_transport::join) gave it, or the authority.
    pub identity: Identity,
    /// Where the head listens.
    pub head: SocketAddr,
    /// Where this node listens for other nodes.
    pub listen: SocketAddr,
    /// Its resources and limits.
    pub node: NodeConfig,
    /// Limits of the transport.
    pub limits: Limits,
    /// How it opens a socket, which it does each time it joins.
    pub sockets: Sockets,
}

/// Why a node is not, or no longer, part of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The system refused a thread or a socket, or the binary cannot be read.
    #[error("cannot start")]
    System(#[from] std::io::Error),
    /// The node's own limits make no sense.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The endpoint cannot start.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The other side cannot be reached or refuses.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection is no more.
    #[error("the connection to the head was lost: {0}")]
    Lost(ClosedReason),
    /// What the other side said makes no sense.
    #[error("the head's answer cannot be read: {0}")]
    Answer(BoxError),
    /// An answer to a call did not come, or was a refusal.
    #[error("the head did not answer: {0}")]
    Call(#[from] mobula_transport::CallError),
    /// Who wants to drive is no driver.
    #[error(
        "this is the identity of a {0}, and a driver's is needed: `mobula token --role driver` on the head makes a token, \
             `mobula login` uses it"
    )]
    NoDriver(Role),
    /// The head says no.
    #[error("the head refused: {0}")]
    Refused(String),
}

/// Bytes of what is said at a Hello: a page of labels and numbers.
pub(crate) const FACTS_BYTES_MAX: usize = 64 << 10;
/// A third of the head's suspicion, so that one may be lost.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);
/// A draining node leaves after this, whatever still runs there: the rest of the cluster does it again.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(9);
/// What the head tells a life whose node has joined as another process.
pub(crate) const REPLACED: &str = "another process joined as this node";
/// Peers of a life that is over are told within this, before its socket is let go for the next one. They would also notice
/// by themselves, seconds later.
const TOLD_TIME_MAX: Duration = Duration::from_millis(500);
/// How often a draining node looks whether it may go.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// What this binary says of itself.
pub(crate) fn about(
    incarnation: u64,
    listen: Option<SocketAddr>,
    facts: &impl Serialize,
) -> Result<About, ClusterError> {
    let details = codec::encode(facts, FACTS_BYTES_MAX).map_err(|error| ClusterError::Answer(error.into()))?;
    Ok(About { incarnation, build: build_id()?, operators: registry::names(), address: listen, details })
}

/// A running node of a cluster. Cheap to clone; it runs until it is told to leave or the process ends.
#[derive(Clone)]
pub struct Member {
    net: Net,
    leave: Arc<watch::Sender<bool>>,
    left: watch::Receiver<bool>,
}

impl Member {
    /// Joins the cluster; comes back once the head has welcomed the node. From then on it rejoins by itself.
    ///
    /// # Errors
    /// If the head cannot be reached or refuses, or the system refuses a thread.
    pub fn start(config: MemberConfig) -> Result<Self, ClusterError> {
        let net = Net::start()?;
        let life = {
            let (net, config) = (net.clone(), config.clone());
            let runner = net.clone();
            runner.block_on(async move { Life::begin(&config, &net).await })?
        };
        Ok(Self::living(config, net, life))
    }

    /// The same without blocking the thread, and in a simulation if the configuration says so.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn open(config: MemberConfig) -> Result<Self, ClusterError> {
        let net = Net::on(&config.node.threads)?;
        let life = Life::begin(&config, &net).await?;
        Ok(Self::living(config, net, life))
    }

    fn living(config: MemberConfig, net: Net, life: Life) -> Self {
        let (leave, leaving) = watch::channel(false);
        let (gone, left) = watch::channel(false);
        net.spawn(live(config, net.clone(), life, leaving, gone));
        Self { net, leave: Arc::new(leave), left }
    }

    /// Finishes what runs here, takes no more, and leaves within ten seconds. Comes back when it has left.
    pub fn drain(&self) {
        self.leave.send_replace(true);
        self.wait();
    }

    /// Waits until the node has left.
    pub fn wait(&self) {
        let mut left = self.left.clone();
        self.net.block_on(async move {
            // A node whose life is over has left.
            let _ = left.wait_for(|left| *left).await;
        });
    }
}

/// Life after life, until it is told to leave.
async fn live(
    config: MemberConfig,
    net: Net,
    first: Life,
    mut leaving: watch::Receiver<bool>,
    gone: watch::Sender<bool>,
) {
    let (mut backoff, env) = (Backoff::new(&config.limits), config.node.threads.env());
    let mut next = Some(first);
    loop {
        let life = match next.take() {
            Some(life) => life,
            None => match Life::begin(&config, &net).await {
                Ok(life) => {
                    tracing::info!(number = life.number.0, "joined again");
                    backoff.reset();
                    life
                }
                Err(error) => {
                    let why = texts(&error).join(": ");
                    tracing::warn!(why, "cannot join, trying again");
                    let pause = backoff.next(env.random());
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(pause) => continue,
                        _ = leaving.wait_for(|leaving| *leaving) => break,
                    }
                }
            },
        };
        match life.live(&mut leaving).await {
            // Joining again would push the other one out, which would join again.
            Some(ClosedReason::ByPeer(reason)) if reason == REPLACED => {
                let node = config.identity.node();
                tracing::error!(%node, "another process runs as this node, so this one takes no part any more; stop it, and give each node a folder of its own");
                break;
            }
            Some(reason) => tracing::warn!(%reason, "the head was lost; joining again"),
            None => break,
        }
    }
    gone.send_replace(true);
}

/// One incarnation of a node.
struct Life {
    number: NodeId,
    node: Node,
    endpoint: Endpoint,
    control: Connection,
    data: Connection,
    agent: Agent,
    actors: ActorHost,
    /// The way to actors, for code that runs here; it goes with this life.
    space: Arc<Space>,
    /// Runs tasks.
    engine: Engine,
    outgoing: Option<Outgoing>,
    net: Net,
}

impl Life {
    /// Reaches the head, which admits this node under a number.
    async fn join(config: &MemberConfig) -> Result<(Endpoint, [Connection; 2], u64), ClusterError> {
        let total = resources(&config.node, config.node.machine());
        let facts = NodeFacts {
            memory_budget: memory_budget(&config.node, config.node.machine()),
            resources: total,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let about = about(incarnation(&*config.node.threads.env()), Some(config.listen), &facts)?;
        let endpoint = Config {
            identity: config.identity.clone(),
            listen: config.listen,
            about,
            limits: config.limits.clone(),
            authority: None,
            socket: config.sockets.open(config.listen)?,
        };
        let endpoint = Endpoint::start_seeded(endpoint, admit, config.node.threads.seed())?;
        let control = endpoint.connect(config.head, Lane::Control).await?;
        let data = endpoint.connect(config.head, Lane::Data).await?;
        let unreadable = |error: codec::CodecError| ClusterError::Answer(error.into());
        let Admitted { number } = codec::decode(&control.peer().welcome, FACTS_BYTES_MAX).map_err(unreadable)?;
        Ok((endpoint, [control, data], number))
    }

    async fn begin(config: &MemberConfig, net: &Net) -> Result<Self, ClusterError> {
        let (endpoint, [control, data], number) = Self::join(config).await?;
        let node_config = NodeConfig { number, ..config.node.clone() };
        let node = Node::open(node_config).await?;
        let lent = Lent::new(node.parts());
        let network = Arc::new(Peers::of_node(
            endpoint.clone(),
            net.clone(),
            Arc::clone(&node.parts().env),
            control.clone(),
            data.clone(),
        ));
        let agent = Agent::new(node.parts().clone(), node.root(), lent, Arc::clone(&network) as _);
        let actors = ActorHost::new(number, &node);
        let (link, outgoing) = TaskLink::new(NodeWay { peers: (*network).clone() }, net.clone());
        let engine = {
            let (node, up): (_, Arc<dyn Upstream>) = (node.clone(), link);
            tasks::blocking(move || node.start_tasks(PartyId(number), Some(up))).await??
        };
        agent.lent().set_values(&engine);
        let ways = Ways::node(control.clone(), endpoint.clone());
        let space = Space::new(Some(actors.clone()), ways, Some(net.clone()));
        engine.set_space(&space);
        Ok(Self {
            number: NodeId(number),
            node,
            endpoint,
            control,
            data,
            agent,
            actors,
            space,
            engine,
            outgoing: Some(outgoing),
            net: net.clone(),
        })
    }

    /// Lives until the head is lost, which is the reason returned, or the node has left.
    async fn live(mut self, leaving: &mut watch::Receiver<bool>) -> Option<ClosedReason> {
        let (agent, handle) = (self.agent.clone(), self.node.system().control_handle());
        self.net.spawn(serve::pools(self.data.clone(), agent.clone(), handle, self.net.clone()));
        let (control, lent, actors) = (self.control.clone(), agent.lent().clone(), self.actors.clone());
        let tasks = self.outgoing.take().map(|outgoing| (self.engine.clone(), outgoing));
        self.net.spawn(serve::calls(control, lent, actors.clone(), tasks, self.net.clone()));
        self.net.spawn(serve::peers(self.endpoint.clone(), agent.lent().clone(), actors, self.net.clone()));
        self.net.spawn(heartbeats(self.control.clone()));
        let ended = tokio::select! {
            biased;
            reason = self.control.closed() => Some(reason),
            reason = self.data.closed() => Some(reason),
            _ = leaving.wait_for(|leaving| *leaving) => None,
        };
        if ended.is_none() {
            self.drain().await;
        }
        self.control.close("it left");
        self.data.close("it left");
        self.endpoint.close("it left");
        self.agent.lent().clear();
        self.actors.close();
        drop(self.space);
        // Its threads may be waited for, which is nothing for the network's thread.
        let node = self.node;
        if let Err(error) = tasks::blocking(move || drop(node)).await {
            tracing::debug!(%error, "the process ends before the node's threads");
        }
        // User code that is still in a call has handles to the endpoint; the next life does not wait for it.
        if tokio::time::timeout(TOLD_TIME_MAX, self.endpoint.idle()).await.is_err() {
            tracing::debug!("a life ends before all of its peers were told");
        }
        self.endpoint.release();
        ended
    }

    /// Takes no more tasks, and waits until nobody needs a block of this node.
    async fn drain(&self) {
        if let Err(error) = self.control.call::<_, NodeAnswer>(&NodeCall::Draining, CALL_DEADLINE).await {
            tracing::warn!(%error, "the head did not hear that this node leaves");
            return;
        }
        let idle = async {
            while self.agent.is_busy() || self.engine.is_busy() {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(DRAIN_TIME_MAX, idle).await.is_err() {
            tracing::warn!(blocks = self.agent.lent().len(), "leaving although blocks of this node are still in use");
        }
    }
}

/// Other nodes fetch blocks here; nobody else has anything to ask of a node.
fn admit(peer: &Peer) -> Result<Vec<u8>, String> {
    match peer.role {
        Role::Node | Role::Head => Ok(Vec::new()),
        Role::Driver => Err("a driver talks to the head".to_owned()),
    }
}

/// The number of this life: milliseconds since 1970, so larger than any before, unless the clock was set back by more
/// than the node was down.
pub(crate) fn incarnation(env: &dyn Env) -> u64 {
    // It has to outlive the process, so the calendar tells it.
    env.calendar().as_millis() as u64
}

async fn heartbeats(control: Connection) {
    while !control.is_closed() {
        if let Err(error) = control.call::<_, NodeAnswer>(&NodeCall::Heartbeat, CALL_DEADLINE).await {
            tracing::debug!(%error, "a heartbeat was not answered");
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}
