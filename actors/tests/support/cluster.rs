//! A head, nodes and drivers in one process, over QUIC on loopback or on a simulated network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mobula_actors::cluster::{
    Authority, Driver, HeadConfig, HeadServer, Identity, Limits, Member, MemberConfig, NodeId, NodeInfo, Role, Sockets,
};
use mobula_actors::job::{JobError, JobSummary, OperatorPlan, Topology};
use mobula_actors::node::NodeConfig;
use mobula_transport::SimNetwork;

use super::values;

/// Longer than anything takes here that goes on at all.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A cluster: its head, and what makes its nodes and drivers.
pub(crate) struct TestCluster {
    pub(crate) authority: Arc<Authority>,
    pub(crate) head: HeadServer,
    /// What it was started with.
    config: HeadConfig,
    /// What all its nodes are like.
    node: NodeConfig,
    limits: Limits,
    network: Option<SimNetwork>,
    _dir: tempfile::TempDir,
}

impl TestCluster {
    /// Starts the head on loopback, which `computes` or only leads.
    pub(crate) fn start(computes: bool, node: NodeConfig) -> Self {
        Self::start_on(None, Limits::default(), computes, node)
    }

    /// Starts the head on a simulated network, all of whose addresses are those of [`simulated`].
    pub(crate) fn start_on(network: Option<SimNetwork>, limits: Limits, computes: bool, node: NodeConfig) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Arc::new(Authority::create(dir.path()).expect("an authority"));
        let config = HeadConfig {
            identity: authority.issue(Role::Head, NodeId::new("head").expect("a name")).expect("an identity"),
            authority: Arc::clone(&authority),
            listen: address(&network, "head"),
            node: node.clone(),
            computes,
            limits: limits.clone(),
            sockets: sockets(&network, "head"),
        };
        let head = HeadServer::start(config.clone()).expect("a head");
        Self { authority, head, config, node, limits, network, _dir: dir }
    }

    /// Stops the head and starts it again where it was.
    pub(crate) fn restart_head(&mut self) {
        self.head.stop();
        let config = HeadConfig { listen: self.head.address(), ..self.config.clone() };
        self.head = HeadServer::start(config).expect("its address is free");
    }

    pub(crate) fn identity(&self, role: Role, name: &str) -> Identity {
        self.authority.issue(role, NodeId::new(name).expect("a name")).expect("an identity")
    }

    /// Starts a node, labelled with its name, and waits until the head has it.
    #[track_caller]
    pub(crate) fn node(&self, name: &str) -> Member {
        self.node_that_says(name, address(&self.network, name))
    }

    /// The same for a node that tells others to reach it at an address. On a simulated network it may be wrong.
    #[track_caller]
    pub(crate) fn node_that_says(&self, name: &str, listen: SocketAddr) -> Member {
        let labels = [("name".to_owned(), name.to_owned())].into();
        let config = MemberConfig {
            identity: self.identity(Role::Node, name),
            head: self.head.address(),
            listen,
            node: NodeConfig { labels, ..self.node.clone() },
            limits: self.limits.clone(),
            sockets: sockets(&self.network, name),
        };
        let member = Member::start(config).expect("a node");
        self.wait_for(name, "alive");
        member
    }

    pub(crate) fn driver(&self, name: &str) -> Driver {
        let (sockets, identity) = (sockets(&self.network, name), self.identity(Role::Driver, name));
        Driver::connect_through(&sockets, self.head.address(), identity, self.limits.clone()).expect("a driver")
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

/// Where a process is on a simulated network, by its name.
pub(crate) fn simulated(name: &str) -> SocketAddr {
    let number = match name {
        "head" => 1,
        "driver" => 2,
        node => 10 + node.strip_prefix('n').and_then(|number| number.parse::<u8>().ok()).expect("n1, n2, .."),
    };
    SocketAddr::from(([10, 0, 0, number], 4_433))
}

/// Where a process listens. A node tells others before it does.
fn address(network: &Option<SimNetwork>, name: &str) -> SocketAddr {
    let free = || std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    network.as_ref().map_or_else(free, |_| simulated(name))
}

fn sockets(network: &Option<SimNetwork>, name: &str) -> Sockets {
    let Some(network) = network.clone() else { return Sockets::default() };
    let address = simulated(name);
    Sockets::new(move |_| Ok(network.socket(address)))
}

/// Waits for what a state shows; gives up after [`SOON`].
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "tests wait for what happens with a deadline in real time")]
pub(crate) fn until(happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < SOON, "it did not happen");
        // Leaves the cores to what is waited for.
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Runs operators to the end; `on_block` is told how many rows have come.
pub(crate) fn run(
    driver: &Driver,
    operators: Vec<OperatorPlan>,
    on_block: impl FnMut(usize),
) -> Result<Vec<i64>, JobError> {
    Ok(run_to_summary(driver, operators, on_block)?.0)
}

/// The same, with what the job did.
pub(crate) fn run_to_summary(
    driver: &Driver,
    operators: Vec<OperatorPlan>,
    mut on_block: impl FnMut(usize),
) -> Result<(Vec<i64>, JobSummary), JobError> {
    let mut job = driver.submit("test", &Topology { operators, ..Topology::default() })?;
    let mut all = Vec::new();
    while let Some(block) = job.next_block()? {
        all.extend(block.batches().iter().flat_map(values));
        on_block(all.len());
    }
    Ok((all, job.summary()))
}
