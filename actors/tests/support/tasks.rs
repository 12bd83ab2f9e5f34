//! A node for tasks, and that nothing is left of them.

use std::time::{Duration, Instant};

use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::task::{TaskCounts, Tasks};

pub(crate) fn node(cpus: usize) -> (Node, Tasks) {
    let node = Node::start(NodeConfig { cpus: Some(cpus), ..NodeConfig::default() }).expect("a node");
    let tasks = node.tasks().expect("tasks");
    (node, tasks)
}

/// Nothing is held and nothing runs, once what is being let go is gone.
#[track_caller]
pub(crate) fn assert_empty(tasks: &Tasks) {
    let end = Instant::now() + Duration::from_secs(20);
    while tasks.counts() != TaskCounts::default() {
        assert!(Instant::now() < end, "{:?}", tasks.counts());
        std::thread::yield_now();
    }
}
