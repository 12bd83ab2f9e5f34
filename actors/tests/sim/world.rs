//! A head, nodes and a driver on one thread: their network, their disk and their common time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mobula_actors::cluster::{
    Authority, Driver, DriverConfig, HeadConfig, HeadServer, Identity, Limits, Member, MemberConfig, NodeId, Role,
    Sockets,
};
use mobula_actors::node::NodeConfig;
use mobula_actors::runtime::Threads;
use mobula_actors::sim::SimDisk;
use mobula_transport::SimNetwork;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::process::{Process, pause};
use crate::support::small;

/// The world's time moves in these steps. No packet takes less, so none arrives before its time.
pub(crate) const STEP: Duration = Duration::from_millis(2);

/// A process that could not join or connect tries again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// The processes by name, with what they are.
pub(crate) const HEAD: &str = "head";
pub(crate) const DRIVER: &str = "driver";
pub(crate) const NODES: [&str; 2] = ["n1", "n2"];

/// Made once: keys take time, and their bytes play no part in a run.
static AUTHORITY: LazyLock<(Arc<Authority>, tempfile::TempDir)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    (Arc::new(Authority::create(folder.path()).expect("an authority")), folder)
});

static IDENTITIES: LazyLock<BTreeMap<&'static str, Identity>> = LazyLock::new(|| {
    let roles = [(HEAD, Role::Head), (DRIVER, Role::Driver), (NODES[0], Role::Node), (NODES[1], Role::Node)];
    let issue = |(name, role)| {
        let identity = AUTHORITY.0.issue(role, NodeId::new(name).expect("a name")).expect("an identity");
        (name, identity)
    };
    roles.into_iter().map(issue).collect()
});

/// What a driver does with its connection; `Err` says that it is to connect again.
pub(crate) type Work = Rc<dyn Fn(Driver) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>>>>>;

/// All there is.
pub(crate) struct World {
    pub(crate) network: SimNetwork,
    pub(crate) disk: SimDisk,
    powered: bool,
    /// How long packets take at most when nothing is wrong.
    pub(crate) pace: Duration,
    pub(crate) time: Duration,
    processes: BTreeMap<&'static str, Process>,
    /// The chance of what processes are born with.
    random: SmallRng,
    /// What the driver does.
    work: Work,
    /// What happened, with when.
    pub(crate) story: Rc<RefCell<Vec<String>>>,
}

impl World {
    pub(crate) fn new(seed: u64, disk: SimDisk, pace: Duration, work: Work) -> Self {
        let network = SimNetwork::new(seed);
        network.delay(STEP..pace);
        Self {
            network,
            disk,
            powered: true,
            pace,
            time: Duration::ZERO,
            processes: BTreeMap::new(),
            random: SmallRng::seed_from_u64(seed),
            work,
            story: Rc::default(),
        }
    }

    pub(crate) fn tell(&self, what: impl std::fmt::Display) {
        self.story.borrow_mut().push(format!("{:>7} ms  {what}", self.time.as_millis()));
    }

    /// Lets everybody run for one step, in an order that is the same each time.
    pub(crate) fn step(&mut self) {
        self.time += STEP;
        for process in self.processes.values() {
            process.step(self.time);
        }
        if self.powered && self.disk.is_off() {
            self.tell("the power is lost");
            self.power_off();
        }
    }

    /// Packets take the time again that they take when nothing is wrong.
    pub(crate) fn calm(&self) {
        self.network.delay(STEP..self.pace);
    }

    /// Power is lost: all processes are gone, and what was not synced may be.
    pub(crate) fn power_off(&mut self) {
        self.powered = false;
        self.end();
        self.disk.crash();
    }

    /// Power is back, or is not lost any more, and all processes start again.
    pub(crate) fn power_on(&mut self) {
        self.disk.power_stays_on();
        self.powered = true;
        [HEAD].iter().chain(&NODES).chain(&[DRIVER]).for_each(|name| self.start(name));
    }

    /// Starts a process that does not run: a new life of it, if it was killed. Without power nothing starts.
    pub(crate) fn start(&mut self, name: &'static str) {
        if !self.powered || self.processes.contains_key(name) {
            return;
        }
        match name {
            HEAD => self.start_head(),
            DRIVER => self.start_driver(),
            node => self.start_node(node),
        }
    }

    pub(crate) fn kill(&mut self, name: &str) {
        if let Some(process) = self.processes.remove(name) {
            self.network.crash(address(name));
            process.kill(&self.disk);
        }
    }

    /// Kills all processes.
    pub(crate) fn end(&mut self) {
        while let Some(name) = self.processes.keys().next().copied() {
            self.kill(name);
        }
    }

    fn start_head(&mut self) {
        let sockets = self.sockets(HEAD);
        self.spawn(HEAD, move |threads| async move {
            let config = HeadConfig {
                identity: IDENTITIES[HEAD].clone(),
                authority: Arc::clone(&AUTHORITY.0),
                listen: address(HEAD),
                node: NodeConfig { threads, ..small() },
                computes: false,
                limits: limits(),
                sockets,
            };
            let _head = HeadServer::open(config).await.expect("a head");
            std::future::pending().await
        });
    }

    fn start_node(&mut self, name: &'static str) {
        let sockets = self.sockets(name);
        self.spawn(name, move |threads| async move {
            let config = MemberConfig {
                identity: IDENTITIES[name].clone(),
                head: address(HEAD),
                listen: address(name),
                node: NodeConfig { threads, ..small() },
                limits: limits(),
                sockets,
            };
            let _member = loop {
                match Member::open(config.clone()).await {
                    Ok(member) => break member,
                    Err(_) => pause(AGAIN).await,
                }
            };
            std::future::pending().await
        });
    }

    fn start_driver(&mut self) {
        let (sockets, story, work) = (self.sockets(DRIVER), Rc::clone(&self.story), Rc::clone(&self.work));
        self.spawn(DRIVER, move |threads| async move {
            loop {
                let config = DriverConfig {
                    identity: IDENTITIES[DRIVER].clone(),
                    head: address(HEAD),
                    limits: limits(),
                    sockets: sockets.clone(),
                    threads: threads.clone(),
                };
                let said = match Driver::open(config).await {
                    Ok(driver) => work(driver).await,
                    Err(error) => Err(error.to_string()),
                };
                match said {
                    Ok(()) => break,
                    Err(why) => story.borrow_mut().push(format!("{:>10}  the driver tries again: {why}", "")),
                }
                pause(AGAIN).await;
            }
        });
    }

    fn spawn<F>(&mut self, name: &'static str, main: impl FnOnce(Threads) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let process = Process::start(self.time, self.random.random(), &self.disk, main);
        let before = self.processes.insert(name, process);
        assert!(before.is_none(), "{name} runs already");
    }

    fn sockets(&self, name: &str) -> Sockets {
        let (network, address, born) = (self.network.clone(), address(name), self.time);
        let start = std::sync::OnceLock::new();
        Sockets::new(move |_| {
            // It is first opened when the process starts, and again when a node joins again.
            let now = tokio::time::Instant::now();
            let start = *start.get_or_init(|| now);
            Ok(network.socket_at(address, born + (now - start)))
        })
    }
}

/// Where a process is, by its name.
pub(crate) fn address(name: &str) -> SocketAddr {
    crate::support::cluster::simulated(name)
}

fn limits() -> Limits {
    // Whoever lost the head looks for it again soon.
    // Probes for large packets would take most of the real time.
    Limits { reconnect_max: Duration::from_millis(500), mtu_bytes_max: 1_452, ..Limits::default() }
}
