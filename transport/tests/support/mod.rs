//! A cluster for tests: an authority in a folder of its own, endpoints on loopback or on a simulated network.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mobula_transport::{
    About, AsyncUdpSocket, Authority, Config, Connection, Endpoint, Identity, Lane, Limits, NodeId, Role, SimNetwork,
    Token,
};

pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    pub(crate) authority: Arc<Authority>,
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn about() -> About {
    About { incarnation: 1, build: "b1".into(), operators: vec!["map".into(), "score".into()], ..About::default() }
}

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::create(&dir.path().join("cluster")).unwrap());
        Self { dir, authority }
    }

    pub(crate) fn identity(&self, role: Role, name: &str) -> Identity {
        self.authority.issue(role, id(name)).unwrap()
    }

    pub(crate) fn config(&self, role: Role, name: &str) -> Config {
        Config {
            identity: self.identity(role, name),
            listen: loopback(),
            about: about(),
            limits: Limits::default(),
            authority: None,
            socket: None,
        }
    }

    pub(crate) fn start(&self, role: Role, name: &str) -> Endpoint {
        start(self.config(role, name))
    }

    /// A token that is valid from now.
    #[allow(clippy::disallowed_methods, reason = "the head looks at the machine's clock too")]
    pub(crate) fn token(&self, role: Role, valid: Duration) -> Token {
        self.authority.token(role, valid, SystemTime::now()).unwrap()
    }

    /// A head that takes joins.
    pub(crate) fn head(&self) -> Endpoint {
        start(Config { authority: Some(self.authority.clone()), ..self.config(Role::Head, "head") })
    }

    /// A node on a simulated network.
    pub(crate) fn simulated(&self, network: &SimNetwork, name: &str, address: SocketAddr, limits: Limits) -> Endpoint {
        let socket: Option<Arc<dyn AsyncUdpSocket>> = Some(network.socket(address));
        let config = Config { socket, limits, ..self.config(Role::Node, name) };
        Endpoint::start_seeded(config, |_| Ok(Vec::new()), Some(u64::from(address.port()))).unwrap()
    }

    /// A process that starts on a simulated network with an identity that there is.
    pub(crate) fn simulated_as(&self, network: &SimNetwork, identity: Identity, address: SocketAddr) -> Endpoint {
        let socket: Option<Arc<dyn AsyncUdpSocket>> = Some(network.socket(address));
        start(Config { socket, identity, ..self.config(Role::Node, "unused") })
    }
}

pub(crate) fn start(config: Config) -> Endpoint {
    Endpoint::start(config, |_| Ok(Vec::new())).unwrap()
}

/// Lets time pass; under paused time only the clock moves.
pub(crate) async fn later(pause: Duration) {
    let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
}

/// Both ends of a connection between two endpoints.
pub(crate) async fn connected(from: &Endpoint, to: &Endpoint, lane: Lane) -> (Connection, Connection) {
    let (there, here) = tokio::join!(from.connect(to.local_addr(), lane), to.accept());
    (there.unwrap(), here.unwrap())
}

/// Two nodes of a fresh cluster and both ends of a connection between them; keep the endpoints, or they close.
pub(crate) async fn pair(lane: Lane) -> (Connection, Connection, (Cluster, Endpoint, Endpoint)) {
    pair_with(lane, Limits::default(), Limits::default()).await
}

/// As [`pair`], with the limits of each.
pub(crate) async fn pair_with(
    lane: Lane,
    ours: Limits,
    theirs: Limits,
) -> (Connection, Connection, (Cluster, Endpoint, Endpoint)) {
    let cluster = Cluster::new();
    let a = start(Config { limits: ours, ..cluster.config(Role::Node, "a") });
    let b = start(Config { limits: theirs, ..cluster.config(Role::Node, "b") });
    let (there, here) = connected(&a, &b, lane).await;
    (there, here, (cluster, a, b))
}
