//! A head, nodes and drivers in one process, over QUIC on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mobula_actors::cluster::{
    Authority, Driver, HeadConfig, HeadServer, Identity, Limits, Member, MemberConfig, NodeId, NodeInfo, Role,
};
use mobula_actors::job::{JobError, OperatorPlan, Topology};
use mobula_actors::node::NodeConfig;

use super::values;

/// Longer than anything takes here that goes on at all.
pub(crate) const SOON: Duration = Duration::from_secs(20);

const LOOPBACK: &str = "127.0.0.1:0";

/// A cluster: its head, and what makes its nodes and drivers.
pub(crate) struct TestCluster {
    pub(crate) authority: Arc<Authority>,
    pub(crate) head: HeadServer,
    /// What all its nodes are like.
    node: NodeConfig,
    _dir: tempfile::TempDir,
}

impl TestCluster {
    /// Starts the head, which `computes` or only leads.
    pub(crate) fn start(computes: bool, node: NodeConfig) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Arc::new(Authority::create(dir.path()).expect("an authority"));
        let config = HeadConfig {
            identity: authority.issue(Role::Head, NodeId::new("head").expect("a name")).expect("an identity"),
            authority: Arc::clone(&authority),
            listen: LOOPBACK.parse().expect("an address"),
            node: node.clone(),
            computes,
            limits: Limits::default(),
        };
        Self { authority, head: HeadServer::start(config).expect("a head"), node, _dir: dir }
    }

    pub(crate) fn identity(&self, role: Role, name: &str) -> Identity {
        self.authority.issue(role, NodeId::new(name).expect("a name")).expect("an identity")
    }

    /// Starts a node and waits until the head has it.
    #[track_caller]
    pub(crate) fn node(&self, name: &str) -> Member {
        let config = MemberConfig {
            identity: self.identity(Role::Node, name),
            head: self.head.address(),
            listen: free_address(),
            node: self.node.clone(),
            limits: Limits::default(),
        };
        let member = Member::start(config).expect("a node");
        self.wait_for(name, "alive");
        member
    }

    pub(crate) fn driver(&self, name: &str) -> Driver {
        Driver::connect(self.head.address(), self.identity(Role::Driver, name), Limits::default()).expect("a driver")
    }

    /// What `status` shows of the lives of a node.
    pub(crate) fn lives(&self, name: &str) -> Vec<NodeInfo> {
        self.head.status().nodes.into_iter().filter(|node| node.name == name).collect()
    }

    /// Waits until `status` shows a node in a state.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str, state: &str) {
        until(|| self.lives(name).iter().any(|node| node.state == state));
    }
}

/// A node tells others where it listens before it does.
fn free_address() -> SocketAddr {
    std::net::UdpSocket::bind(LOOPBACK).and_then(|socket| socket.local_addr()).expect("a free port")
}

/// Waits for what a state shows; gives up after [`SOON`].
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "tests wait for what happens with a deadline in real time")]
pub(crate) fn until(happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < SOON, "it did not happen");
        std::thread::yield_now();
    }
}

/// Runs operators to the end; `on_block` is told how many rows have come.
pub(crate) fn run(
    driver: &Driver,
    operators: Vec<OperatorPlan>,
    mut on_block: impl FnMut(usize),
) -> Result<Vec<i64>, JobError> {
    let mut job = driver.submit("test", &Topology { operators, finish: None })?;
    let mut all = Vec::new();
    while let Some(block) = job.next_block()? {
        all.extend(block.batches().iter().flat_map(values));
        on_block(all.len());
    }
    Ok(all)
}
