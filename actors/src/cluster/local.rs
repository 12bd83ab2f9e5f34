//! Several nodes in one process, without a wire: for tests of what the nodes of a cluster do with each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::agent::Agent;
use super::head::{ClusterJob, Head};
use super::ids::NodeName;
use super::inputs::Network;
use super::lent::Lent;
use super::site::{PoolLink, PoolOrder, Site, frames_waiting};
use crate::block::{Block, BlockId, BlockName, Home, NodeId};
use crate::job::{JobError, Topology};
use crate::node::{Node, NodeConfig, NodeError, resources};
use crate::operator::{BoxError, ObjectName};
use crate::runtime::tasks::spawn;
use crate::store::spill::SpillOutcome;

/// A cluster of nodes in this process.
///
/// ```
/// use mobula_actors::cluster::LocalCluster;
/// use mobula_actors::node::NodeConfig;
/// let two = vec![NodeConfig { cpus: Some(1), ..NodeConfig::default() }; 2];
/// let cluster = LocalCluster::start(two)?;
/// assert_eq!(cluster.head().cores(), 2);
/// # Ok::<(), mobula_actors::node::NodeError>(())
/// ```
pub struct LocalCluster {
    head_node: Node,
    head: Head,
    nodes: Vec<LocalNode>,
}

struct LocalNode {
    id: NodeId,
    node: Node,
    lent: Lent,
    /// `true` once the node is lost.
    lost: watch::Sender<bool>,
    /// Changes when what the head sends does not come any more.
    cut: watch::Sender<()>,
    /// `true` while it answers no fetch.
    silent: watch::Sender<bool>,
}

/// Where blocks lie, for fetches.
type Map = Arc<Mutex<BTreeMap<NodeId, (Lent, watch::Receiver<bool>)>>>;

struct LocalNetwork(Map);

impl Network for LocalNetwork {
    fn fetch(&self, name: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name.home).cloned();
        let lent = known.filter(|(_, lost)| !*lost.borrow()).map(|(lent, _)| lent);
        fetch(lent, name)
    }

    fn object(&self, _: ObjectName) -> BoxFuture<'static, Result<bytes::Bytes, BoxError>> {
        async { Err("in one process objects come with their operators".into()) }.boxed()
    }
}

struct LocalSite {
    id: NodeId,
    agent: Agent,
    lost: watch::Receiver<bool>,
    cut: watch::Receiver<()>,
    silent: watch::Receiver<bool>,
}

impl Site for LocalSite {
    fn id(&self) -> NodeId {
        self.id
    }

    fn name(&self) -> Arc<str> {
        format!("local-{}", self.id.0).into()
    }

    fn open(&self, order: PoolOrder) -> BoxFuture<'static, Result<PoolLink, BoxError>> {
        let (agent, mut lost, mut cut) = (self.agent.clone(), self.lost.clone(), self.cut.clone());
        let waiting = frames_waiting(order.workers);
        async move {
            let PoolLink { to, from } = agent.open(order).await?;
            let (relay, relayed) = mpsc::channel(waiting);
            spawn(pass_on(from, relay, async move { drop(lost.wait_for(|lost| *lost).await) }));
            let (sent, sending) = mpsc::channel(waiting);
            cut.mark_unchanged();
            spawn(pass_on(sending, to, async move { drop(cut.changed().await) }));
            Ok(PoolLink { to: sent, from: relayed })
        }
        .boxed()
    }

    fn home(&self) -> Arc<dyn Home> {
        Arc::new(LocalHome { lent: self.agent.lent().clone(), lost: self.lost.clone(), silent: self.silent.clone() })
    }
}

/// Passes frames on until they do not come through any more.
async fn pass_on<T>(mut from: mpsc::Receiver<T>, to: mpsc::Sender<T>, over: impl Future<Output = ()>) {
    let mut over = std::pin::pin!(over);
    loop {
        let frame = tokio::select! {
            biased;
            () = &mut over => return,
            frame = from.recv() => frame,
        };
        let Some(frame) = frame else { return };
        if to.send(frame).await.is_err() {
            return;
        }
    }
}

struct LocalHome {
    lent: Lent,
    lost: watch::Receiver<bool>,
    silent: watch::Receiver<bool>,
}

impl Home for LocalHome {
    fn release(&self, id: BlockId) {
        self.lent.release(&[id]);
    }

    fn fetch(&self, name: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
        let (from, mut silent) = ((!*self.lost.borrow()).then(|| self.lent.clone()), self.silent.clone());
        async move {
            // It speaks again, or is gone.
            let _ = silent.wait_for(|silent| !silent).await;
            fetch(from, name).await
        }
        .boxed()
    }

    fn spill(&self, id: BlockId) -> BoxFuture<'static, Result<SpillOutcome, BoxError>> {
        let lent = (!*self.lost.borrow()).then(|| self.lent.clone());
        async move { Ok(lent.ok_or("the node does not answer")?.spill(id).await) }.boxed()
    }
}

fn fetch(from: Option<Lent>, name: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
    async move {
        let lent = from.ok_or_else(|| format!("node {} does not answer", name.home.0))?;
        lent.bring(&name).await
    }
    .boxed()
}

impl LocalCluster {
    /// Starts a node for each of `configs`, and a head that computes nothing with the limits of the first.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start(configs: Vec<NodeConfig>) -> Result<Self, NodeError> {
        let first = configs.first().cloned().unwrap_or_default();
        let head_node = Node::start(NodeConfig { cpus: Some(1), ..first })?;
        let head = Head::new(head_node.clone());
        let map = Map::default();
        let mut nodes = Vec::new();
        for (number, config) in (1..).zip(configs) {
            let node = Node::start(NodeConfig { number, ..config })?;
            let (id, lent) = (NodeId(number), Lent::new(node.parts()));
            let (lost, is_lost) = watch::channel(false);
            let (cut, is_cut) = watch::channel(());
            let (silent, is_silent) = watch::channel(false);
            map.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (lent.clone(), is_lost.clone()));
            let network = Arc::new(LocalNetwork(Arc::clone(&map)));
            let agent = Agent::new(node.parts().clone(), node.root(), lent.clone(), network);
            let name = NodeName::new(&format!("local-{number}")).expect("a short name");
            let has = resources(&node.parts().config, node.parts().config.machine());
            let site = LocalSite { id, agent, lost: is_lost, cut: is_cut, silent: is_silent };
            head.add(Arc::new(site), name, &has, node.memory_budget());
            nodes.push(LocalNode { id, node, lent, lost, cut, silent });
        }
        Ok(Self { head_node, head, nodes })
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Starts a job.
    ///
    /// # Errors
    /// As [`Head::submit`].
    pub fn submit(&self, topology: Topology) -> Result<ClusterJob, JobError> {
        let head = self.head.clone();
        self.head_node.system().block_on(async move { head.submit(topology).await })
    }

    /// The node with this index is lost, with all its blocks and tasks.
    pub fn lose(&self, index: usize) {
        if let Some(LocalNode { id, lost, .. }) = self.nodes.get(index) {
            self.head.remove(*id);
            lost.send_replace(true);
        }
    }

    /// What the head sends to the pools that are open now on the node with this index does not come any more; what they
    /// send to the head does.
    pub fn cut(&self, index: usize) {
        if let Some(LocalNode { cut, .. }) = self.nodes.get(index) {
            cut.send_replace(());
        }
    }

    /// The node with this index lives and answers no fetch of the head, or does so again: its disk hangs.
    pub fn silence(&self, index: usize, silent: bool) {
        if let Some(node) = self.nodes.get(index) {
            node.silent.send_replace(silent);
        }
    }

    /// Blocks that the nodes keep for the head: none once all jobs have ended.
    pub fn blocks(&self) -> usize {
        self.nodes.iter().filter(|node| !*node.lost.borrow()).map(|node| node.lent.len()).sum()
    }

    /// Runs a future on the head's runtime, waiting for it.
    pub fn block_on<R: Send + 'static>(&self, future: impl Future<Output = R> + Send + 'static) -> R {
        self.head_node.system().block_on(future)
    }

    /// The node with this index.
    pub fn node(&self, index: usize) -> Option<&Node> {
        self.nodes.get(index).map(|node| &node.node)
    }
}
