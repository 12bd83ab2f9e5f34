//! A small cluster in this test's process, over loopback.

use mobula::cluster::{self, Driver, HeadServer, Limits, NodeConfig, NodeOptions, Role, StartedNode};
use mobula::prelude::*;
use tempfile::TempDir;

/// A head that only leads, a node called n1, and a session of them.
pub(crate) struct Small {
    pub(crate) session: Session,
    pub(crate) node: StartedNode,
    pub(crate) head: HeadServer,
    folder: TempDir,
}

impl Small {
    /// The node has so many cores.
    pub(crate) fn start(cpus: usize) -> Self {
        Self::start_with(cpus, 0)
    }

    /// And so many GPUs.
    pub(crate) fn start_with(cpus: usize, gpus: usize) -> Self {
        Self::start_as(NodeConfig { cpus: Some(cpus), gpus: Some(gpus), ..NodeConfig::default() })
    }

    /// Head and node are like this, with little memory.
    pub(crate) fn start_as(node: NodeConfig) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("c");
        cluster::init(&dir).expect("a cluster");
        let node = NodeConfig { memory_budget: Some(Bytes::mib(64)), ..node };
        let lead = NodeOptions { leads_only: true, node: node.clone(), ..NodeOptions::default() };
        let head = cluster::start_head(&dir, "127.0.0.1:0", lead).expect("a head");
        let token = cluster::token(&dir, Role::Node, std::time::Duration::from_secs(60)).expect("a token");
        let options = NodeOptions { node, ..NodeOptions::default() };
        let node =
            cluster::start_node(&folder.path().join("n1"), head.address(), Some(&token), options).expect("a node");
        let identity = cluster::local_driver(&dir).expect("an identity");
        let session = Session::connect(head.address(), identity).expect("a session");
        Self { session, node, head, folder }
    }

    /// A driver beside that of the session.
    pub(crate) fn driver(&self) -> Driver {
        let identity = cluster::local_driver(&self.folder.path().join("c")).expect("an identity");
        Driver::connect(self.head.address(), identity, Limits::default()).expect("a driver")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.node.member.drain();
        self.head.stop();
    }
}
