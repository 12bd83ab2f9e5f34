//! Peers on a simulated network: loss, delay, duplicates and partitions by a seed, on paused time.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mobula_transport::{
    Backoff, CallError, ClosedReason, Config, ConnectError, Connection, Endpoint, Inbound, Lane, Limits, Role,
    SimNetwork, join_through,
};
use support::{Cluster, connected, id, later};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(60);

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 4_433))
}

struct Two {
    network: SimNetwork,
    a: Endpoint,
    b: Endpoint,
    cluster: Cluster,
}

fn two(seed: u64) -> Two {
    let (cluster, network) = (Cluster::new(), SimNetwork::new(seed));
    let a = cluster.simulated(&network, "a", address(1), Limits::default());
    let b = cluster.simulated(&network, "b", address(2), Limits::default());
    Two { network, a, b, cluster }
}

/// Doubles each number it is called with, and sends as many bytes as are fetched.
async fn serve(connection: Connection) -> ClosedReason {
    loop {
        // An answer that finds nobody is the caller's to notice.
        let _ = match connection.accept().await {
            Ok(Inbound::Call(call)) => {
                let number: u64 = call.decode().unwrap();
                call.reply(&(number * 2)).await
            }
            Ok(Inbound::Fetch(fetch)) => {
                let bytes: usize = fetch.decode().unwrap();
                fetch.send(&bytes, vec![Bytes::from(vec![7; bytes])]).await
            }
            Ok(Inbound::Stream { .. }) => Ok(()),
            Err(reason) => return reason,
        };
    }
}

async fn exchange(to: &Connection) {
    for number in 0..20u64 {
        assert_eq!(to.call::<u64, u64>(&number, SOON).await.unwrap(), number * 2);
    }
    let (head, block) = to.fetch::<usize, usize>(&300_000, SOON).await.unwrap();
    assert_eq!(head, 300_000);
    assert!(block.read(Vec::new()).await.unwrap() == vec![7; 300_000]);
}

#[tokio::test(start_paused = true)]
async fn calls_and_blocks_arrive_whole_through_loss_delay_and_duplicates() {
    for seed in 0..20 {
        let two = two(seed);
        let (there, here) = connected(&two.a, &two.b, Lane::Data).await;
        two.network.loss(50);
        two.network.duplicate(50);
        two.network.delay(Duration::from_millis(1)..Duration::from_millis(20));
        let served = async { serve(here).await };
        let asked = async {
            exchange(&there).await;
            there.close("done");
        };
        timeout(SOON, async { tokio::join!(served, asked) }).await.unwrap_or_else(|_| panic!("seed {seed} hangs"));
    }
}

/// A whole run with chance in it, and the trace of its packets.
fn trace(seed: u64) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let two = two(seed);
        two.network.loss(20);
        two.network.delay(Duration::from_millis(1)..Duration::from_millis(5));
        let (there, here) = connected(&two.a, &two.b, Lane::Control).await;
        let asked = async {
            exchange(&there).await;
            there.close("done");
        };
        tokio::join!(serve(here), asked);
        (two.network.packets(), two.network.trace())
    })
}

#[test]
fn a_run_is_repeated_by_its_seed() {
    for seed in 0..5 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    assert_ne!(trace(1), trace(2));
}

#[tokio::test(start_paused = true)]
async fn a_partition_shorter_than_the_idle_timeout_only_delays() {
    let two = two(1);
    let (there, here) = connected(&two.a, &two.b, Lane::Control).await;
    let serving = async { serve(here).await };
    let asked = async {
        two.network.partition(address(1), address(2));
        let healed = async {
            later(Duration::from_secs(5)).await;
            two.network.heal(address(1), address(2));
            Instant::now()
        };
        let (reply, healed) = tokio::join!(there.call::<u64, u64>(&4, SOON), healed);
        assert_eq!(reply.unwrap(), 8);
        // The call was lost and tried again ever more rarely; the first sign of life brings it through.
        let took = healed.elapsed();
        assert!(took <= 2 * two.a.limits().keep_alive, "{took:?}");
        there.close("done");
    };
    tokio::join!(serving, asked);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_lost_after_the_idle_timeout_on_both_sides() {
    let two = two(2);
    let (there, here) = connected(&two.a, &two.b, Lane::Control).await;
    // Long enough for what the handshake left to be acknowledged.
    tokio::time::advance(Duration::from_millis(200)).await;
    let start = Instant::now();
    two.network.partition(address(1), address(2));
    let (call, ours, theirs) = tokio::join!(there.call::<u64, u64>(&4, SOON), there.closed(), here.closed());
    assert!(matches!(call, Err(CallError::Closed(ClosedReason::IdleTimeout))), "{call:?}");
    assert_eq!((ours, theirs), (ClosedReason::IdleTimeout, ClosedReason::IdleTimeout));
    let (took, Limits { idle_timeout, keep_alive, .. }) = (start.elapsed(), two.a.limits());
    // What was heard last may have been said just before; what is said first after it counts once more.
    assert!((*idle_timeout - *keep_alive..*idle_timeout + 2 * *keep_alive).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn packets_lost_one_way_only_are_a_lost_peer_too() {
    let two = two(3);
    let (there, here) = connected(&two.a, &two.b, Lane::Control).await;
    two.network.cut(address(1), address(2));
    let (ours, theirs) = timeout(SOON, async { tokio::join!(there.closed(), here.closed()) }).await.unwrap();
    assert_eq!(theirs, ClosedReason::IdleTimeout);
    // This side still hears the other, until that has given up.
    assert!(matches!(ours, ClosedReason::IdleTimeout | ClosedReason::Forgotten), "{ours:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_found_again_after_a_partition_by_backing_off() {
    let two = two(4);
    let (there, _here) = connected(&two.a, &two.b, Lane::Control).await;
    two.network.partition(address(1), address(2));
    there.closed().await;
    let healed = async {
        later(Duration::from_secs(20)).await;
        two.network.heal(address(1), address(2));
    };
    let found = async {
        let mut backoff = Backoff::new(two.a.limits());
        loop {
            match two.a.connect(address(2), Lane::Control).await {
                Ok(connection) => return connection,
                Err(ConnectError::Unreachable { .. }) => later(backoff.next(1)).await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    let (found, (), again) = timeout(SOON, async { tokio::join!(found, healed, two.b.accept()) }).await.unwrap();
    assert_eq!((found.peer().node.as_str(), again.unwrap().peer().node.as_str()), ("b", "a"));
}

#[tokio::test(start_paused = true)]
async fn the_peers_of_a_process_that_died_learn_of_it_from_the_one_that_came_after() {
    let two = two(7);
    let (there, _here) = connected(&two.a, &two.b, Lane::Control).await;
    two.network.crash(address(2));
    let start = Instant::now();
    later(Duration::from_millis(100)).await;
    let _again = two.cluster.simulated_as(&two.network, two.b.identity().clone(), address(2));
    assert_eq!(timeout(SOON, there.closed()).await.unwrap(), ClosedReason::Forgotten);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_path_for_small_packets_only_carries_all_the_same() {
    let two = two(5);
    two.network.mtu(1_400);
    let (there, here) = connected(&two.a, &two.b, Lane::Data).await;
    let asked = async {
        exchange(&there).await;
        there.close("done");
    };
    timeout(SOON, async { tokio::join!(serve(here), asked) }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_joins_through_a_network_that_loses_packets() {
    let (cluster, network) = (Cluster::new(), SimNetwork::new(6));
    network.loss(100);
    let socket = Some(network.socket(address(1)));
    let config = Config { authority: Some(cluster.authority.clone()), socket, ..cluster.config(Role::Head, "head") };
    let _head = support::start(config);
    let token = cluster.token(Role::Node, SOON);
    let from = Some(network.socket(address(2)));
    let identity = join_through(from, address(1), &token, id("n"), None, &Limits::default()).await.unwrap();
    assert_eq!(identity.node(), &id("n"));
}
