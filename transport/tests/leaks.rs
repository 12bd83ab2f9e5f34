//! Nodes that join and leave: of none of them a task, a descriptor or a byte stays. The one test has a process of its own,
//! because it counts what its process holds.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::ops::Range;
use std::time::Duration;

use futures::future::join_all;
use mobula_transport::{Config, Endpoint, Inbound, Lane, Limits, Role, join};
use support::{Cluster, SOON, id, later, start};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Nodes before the first count: what is made once is made by then.
const BEFORE: usize = 24;
const NODES: usize = 200;
/// Nodes that are there together.
const AT_A_TIME: usize = 8;
/// Memory that may come and go with the allocator: a hundredth of it for each node would be seen.
const SLACK_BYTES: usize = 8 << 20;

/// What this process holds.
#[derive(Debug, PartialEq)]
struct Held {
    tasks: usize,
    descriptors: usize,
    connections: usize,
}

fn held(head: &Endpoint) -> Held {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    Held { tasks: Handle::current().metrics().num_alive_tasks(), descriptors, connections: head.open_connections() }
}

/// Memory in use by this process, of which the bytes on disk are no part.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Limits that hold on a busy machine too; how fast this goes is not the question.
fn patient() -> Limits {
    let long = Duration::from_secs(30);
    Limits { hello_deadline: long, idle_timeout: long, ..Limits::default() }
}

/// One node's life: it joins, connects, is asked something, and leaves.
async fn live(cluster: &Cluster, head: &Endpoint, number: usize) {
    let token = cluster.token(Role::Node, Duration::from_secs(60));
    let name = id(&format!("node-{number}"));
    let identity = join(head.local_addr(), &token, name, &patient()).await.unwrap();
    let node = start(Config { identity, limits: patient(), ..cluster.config(Role::Node, "unused") });
    let to_head = node.connect(head.local_addr(), Lane::Control).await.unwrap();
    let Ok(Inbound::Call(call)) = to_head.accept().await else { panic!("no call") };
    let asked: usize = call.decode().unwrap();
    call.reply(&(asked + 1)).await.unwrap();
    to_head.closed().await;
    // Its last packets are still on their way when it is let go.
    node.close("leaving");
}

/// The head's side of it.
async fn welcome(head: &Endpoint) {
    let node = head.accept().await.unwrap();
    assert_eq!(node.call::<usize, usize>(&7, SOON * 3).await.unwrap(), 8);
    node.close("enough");
}

/// So many nodes, some at a time.
async fn generations(cluster: &Cluster, head: &Endpoint, numbers: Range<usize>) {
    for start in numbers.clone().step_by(AT_A_TIME) {
        let together = start..numbers.end.min(start + AT_A_TIME);
        let welcomes = join_all(together.clone().map(|_| welcome(head)));
        tokio::join!(join_all(together.map(|number| live(cluster, head, number))), welcomes);
    }
}

/// Waits until no more is held than before.
async fn settle(head: &Endpoint, before: &Held) {
    let settled = timeout(SOON * 6, async {
        while held(head) != *before {
            later(Duration::from_millis(1)).await;
        }
    });
    assert!(settled.await.is_ok(), "{:?} are held, and before it was {before:?}", held(head));
}

#[tokio::test]
async fn nothing_is_left_of_two_hundred_nodes_that_joined_and_left() {
    let cluster = Cluster::new();
    let authority = Some(cluster.authority.clone());
    let head = start(Config { authority, limits: patient(), ..cluster.config(Role::Head, "head") });
    let alone = held(&head);
    generations(&cluster, &head, 0..BEFORE).await;
    settle(&head, &alone).await;
    let resident = resident_bytes();
    generations(&cluster, &head, BEFORE..BEFORE + NODES).await;
    settle(&head, &alone).await;
    let grown = resident_bytes().saturating_sub(resident);
    assert!(grown < SLACK_BYTES, "{grown} bytes more are held after {NODES} nodes");
}
