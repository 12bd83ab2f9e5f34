//! What travels between two peers: calls, task streams, blocks; their limits, their ends, and their backpressure.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use mobula_transport::{
    CallError, ClosedReason, Config, Connection, Endpoint, EndpointError, FetchError, Inbound, Lane, Limits, Role,
    StreamError, codec,
};
use support::{Cluster, SOON, connected, pair, pair_with};
use tokio::time::timeout;

async fn next(connection: &Connection) -> Inbound {
    timeout(SOON, connection.accept()).await.unwrap().unwrap()
}

async fn next_call(connection: &Connection) -> mobula_transport::IncomingCall {
    match next(connection).await {
        Inbound::Call(call) => call,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_call_is_answered_refused_or_let_go() {
    let (there, here, _keep) = pair(Lane::Control).await;
    let serve = async {
        next_call(&here).await.reply(&"pong").await.unwrap();
        next_call(&here).await.refuse("not today").await.unwrap();
        drop(next_call(&here).await);
    };
    let ask = async {
        assert_eq!(there.call::<_, String>(&"ping", SOON).await.unwrap(), "pong");
        let refused = there.call::<_, String>(&"ping", SOON).await.unwrap_err();
        assert!(matches!(refused, CallError::Refused(reason) if reason == "not today"));
        assert!(matches!(there.call::<_, String>(&"ping", SOON).await, Err(CallError::Unanswered)));
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_is_then_cancelled_at_the_peer() {
    let (there, here, _keep) = pair(Lane::Control).await;
    let serve = async {
        let call = next_call(&here).await;
        timeout(SOON, call.cancelled()).await.unwrap();
    };
    let (_, late) = tokio::join!(serve, there.call::<_, ()>(&1u8, Duration::from_millis(50)));
    assert!(matches!(late, Err(CallError::Deadline(_))));
}

#[tokio::test]
async fn a_request_or_a_reply_over_the_limit_is_not_sent() {
    let small = Limits { call_frame_bytes: 1_000, ..Limits::default() };
    let (there, here, _keep) = pair_with(Lane::Control, small.clone(), small).await;
    let large = "x".repeat(2_000);
    assert!(matches!(there.call::<_, ()>(&large, SOON).await, Err(CallError::TooLarge(_))));
    let (served, refused) =
        tokio::join!(async { next_call(&here).await.reply(&large).await }, there.call::<_, ()>(&1u8, SOON));
    assert!(served.is_err());
    assert!(matches!(refused, Err(CallError::Refused(reason)) if reason.contains("limit of 1000")));
    assert!(!there.is_closed());
}

#[tokio::test]
async fn a_peer_with_larger_limits_than_ours_is_cut_off_not_believed() {
    let small = Limits { call_frame_bytes: 1_000, ..Limits::default() };
    let (there, here, _keep) = pair_with(Lane::Control, Limits::default(), small).await;
    let large = "x".repeat(2_000);
    let (call, accepted) = tokio::join!(there.call::<_, ()>(&large, SOON), here.accept());
    assert!(matches!(call, Err(CallError::Closed(ClosedReason::Violation(_)))), "{call:?}");
    assert!(accepted.is_err());
}

#[tokio::test]
async fn calls_beyond_those_in_flight_wait_unread() {
    let limits = Limits { calls_in_flight: 2, ..Limits::default() };
    let (there, here, _keep) = pair_with(Lane::Control, Limits::default(), limits).await;
    let ask = |number: u32| {
        let there = there.clone();
        async move { there.call::<u32, u32>(&number, SOON).await.unwrap() }
    };
    let serve = async {
        let (first, second) = (next_call(&here).await, next_call(&here).await);
        // Both places are taken, so the third is not even read.
        assert!(timeout(Duration::from_millis(50), here.accept()).await.is_err());
        for call in [first, second] {
            let number: u32 = call.decode().unwrap();
            call.reply(&number).await.unwrap();
        }
        let third = next_call(&here).await;
        let number: u32 = third.decode().unwrap();
        third.reply(&number).await.unwrap();
    };
    let (a, b, c, ()) = tokio::join!(ask(1), ask(2), ask(3), serve);
    assert_eq!((a, b, c), (1, 2, 3));
}

#[tokio::test]
async fn many_calls_at_a_time_are_each_answered_with_their_own() {
    let (there, here, _keep) = pair(Lane::Control).await;
    let calls = (0..2_000u64).map(|number| {
        let there = there.clone();
        async move { assert_eq!(there.call::<u64, u64>(&number, SOON).await.unwrap(), number * 2) }
    });
    let serve = async {
        for _ in 0..2_000 {
            let call = next_call(&here).await;
            let number: u64 = call.decode().unwrap();
            call.reply(&(number * 2)).await.unwrap();
        }
    };
    tokio::join!(futures::future::join_all(calls), serve);
}

#[tokio::test]
async fn large_calls_go_on_beyond_the_windows_of_a_control_connection() {
    let small = Limits { control_window_bytes: 2 << 20, ..Limits::default() };
    let (there, here, _keep) = pair_with(Lane::Control, small.clone(), small).await;
    let large = "x".repeat(5 << 20);
    let serve = async {
        for _ in 0..4 {
            let call = next_call(&here).await;
            let text: String = call.decode().unwrap();
            call.reply(&text).await.unwrap();
        }
    };
    let ask = async {
        for _ in 0..4 {
            assert!(there.call::<_, String>(&large, SOON).await.unwrap() == large);
        }
    };
    tokio::join!(serve, ask);
}

/// Sends a block larger than the window until the other side has its head, and then lets the fetch go.
async fn send_a_part(here: &Connection, has_head: tokio::sync::oneshot::Receiver<()>) {
    let Inbound::Fetch(fetch) = next(here).await else { panic!("no fetch") };
    tokio::select! {
        sent = fetch.send(&(), vec![Bytes::from(vec![1; 32 << 20])]) => panic!("nobody reads: {sent:?}"),
        _ = has_head => {}
    }
}

#[tokio::test]
async fn a_block_that_is_let_go_or_lost_half_way_is_an_error_of_the_fetch() {
    let (there, here, _keep) = pair(Lane::Data).await;
    for lost in [false, true] {
        let (tell, has_head) = tokio::sync::oneshot::channel();
        let serve = async {
            send_a_part(&here, has_head).await;
            if lost {
                here.close("node is going");
            }
        };
        let read = async {
            let ((), receiver) = there.fetch::<_, ()>(&0u8, SOON).await.unwrap();
            tell.send(()).unwrap();
            receiver.read(Vec::new()).await
        };
        let ((), read) = tokio::join!(serve, read);
        assert!(matches!(read, Err(FetchError::Unanswered | FetchError::Closed(_))), "{read:?}");
    }
    // The transport does not get the reason of a close through a path that is full.
    let reason = there.closed().await;
    assert!(matches!(reason, ClosedReason::Forgotten) || reason == ClosedReason::ByPeer("node is going".into()));
}

#[tokio::test]
async fn frames_go_both_ways_in_order_and_end_when_finished() {
    let (there, here, _keep) = pair(Lane::Data).await;
    let serve = async {
        let Inbound::Stream { head, mut tx, mut rx } = next(&here).await else { panic!("no stream") };
        assert_eq!(codec::decode::<String>(&head, 100).unwrap(), "head");
        while let Some(number) = rx.next::<u64>().await.unwrap() {
            tx.send(&(number + 1)).await.unwrap();
        }
        tx.finish().await.unwrap();
    };
    let ask = async {
        let (mut tx, mut rx) = there.open_stream(&"head").await.unwrap();
        for number in 0..500u64 {
            tx.send(&number).await.unwrap();
            assert_eq!(rx.next::<u64>().await.unwrap(), Some(number + 1));
        }
        tx.finish().await.unwrap();
        assert_eq!(rx.next::<u64>().await.unwrap(), None);
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn a_receiver_that_does_not_read_stops_its_sender_and_no_other() {
    let (there, here, _keep) = pair(Lane::Data).await;
    let (mut stalled, _rx) = there.open_stream(&"stalled").await.unwrap();
    let Inbound::Stream { rx: unread, .. } = next(&here).await else { panic!("no stream") };
    let frame = "7".repeat(1 << 20);
    let mut taken = 0;
    while timeout(Duration::from_secs(1), stalled.send(&frame)).await.is_ok() {
        taken += 1;
    }
    assert!((7..=9).contains(&taken), "the window of 8 MiB, not {taken} MiB");

    let (mut moving, _rx) = there.open_stream(&"moving").await.unwrap();
    let Inbound::Stream { rx: mut read, .. } = next(&here).await else { panic!("no stream") };
    let send = async {
        for _ in 0..32 {
            moving.send(&frame).await.unwrap();
        }
    };
    let receive = async {
        for _ in 0..32 {
            assert_eq!(read.next::<String>().await.unwrap().unwrap().len(), 1 << 20);
        }
    };
    timeout(SOON, async { tokio::join!(send, receive) }).await.unwrap();
    // The send that was dropped half-way goes on whole before the next.
    let mut unread = unread;
    let rest = async {
        for _ in 0..=taken {
            assert_eq!(unread.next::<String>().await.unwrap().unwrap(), frame);
        }
        assert_eq!(unread.next::<u8>().await.unwrap(), Some(9));
    };
    let (sent, ()) = timeout(SOON, async { tokio::join!(stalled.send(&9u8), rest) }).await.unwrap();
    sent.unwrap();
}

#[tokio::test]
async fn either_half_that_is_dropped_is_noticed_at_the_other_end() {
    let (there, here, _keep) = pair(Lane::Data).await;
    let (mut tx, mut rx) = there.open_stream(&()).await.unwrap();
    let Inbound::Stream { tx: their_tx, rx: their_rx, .. } = next(&here).await else { panic!("no stream") };
    drop(their_tx);
    assert!(matches!(rx.next::<u8>().await, Err(StreamError::Dropped)));
    let stopped = tx.stopped();
    drop(their_rx);
    timeout(SOON, stopped).await.unwrap();
    assert!(matches!(tx.send(&1u8).await, Err(StreamError::Dropped)));
}

#[tokio::test]
async fn a_block_arrives_whole_into_the_buffer_that_was_given() {
    let (there, here, _keep) = pair(Lane::Data).await;
    for bytes in [0usize, 1, 1_000, 3 << 20, 20 << 20] {
        let block: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        let (start, rest) = block.split_at(bytes / 3);
        let parts = vec![Bytes::copy_from_slice(start), Bytes::new(), Bytes::copy_from_slice(rest)];
        let serve = async {
            let Inbound::Fetch(fetch) = next(&here).await else { panic!("no fetch") };
            assert_eq!(fetch.decode::<u32>().unwrap(), 5);
            fetch.send(&"head", parts).await.unwrap();
        };
        let ask = async {
            let (head, receiver) = there.fetch::<u32, String>(&5, SOON).await.unwrap();
            assert_eq!((head.as_str(), receiver.len()), ("head", bytes as u64));
            let mut buffer = Vec::with_capacity(bytes + 1);
            buffer.push(1);
            let place = buffer.as_ptr();
            let read = receiver.read(buffer).await.unwrap();
            assert!(read == block, "{bytes} bytes");
            assert_eq!(read.as_ptr(), place, "no second buffer for {bytes} bytes");
        };
        tokio::join!(serve, ask);
    }
}

#[tokio::test]
async fn a_block_is_forwarded_whole_by_one_in_between() {
    let (asking, between, _keep) = pair(Lane::Data).await;
    let (towards, home, _keep_too) = pair(Lane::Data).await;
    for bytes in [0usize, 1_000, 40 << 20] {
        let block: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        let at_home = async {
            let Inbound::Fetch(fetch) = next(&home).await else { panic!("no fetch") };
            fetch.send(&"head", vec![block.clone().into()]).await.unwrap();
        };
        let forwarding = async {
            let Inbound::Fetch(fetch) = next(&between).await else { panic!("no fetch") };
            let (head, receiver) = towards.fetch::<_, String>(&5u32, SOON).await.unwrap();
            fetch.forward(&head, receiver).await.unwrap();
        };
        let ask = async {
            let (head, receiver) = asking.fetch::<u32, String>(&5, SOON).await.unwrap();
            assert_eq!((head.as_str(), receiver.len()), ("head", bytes as u64));
            assert!(receiver.read(Vec::new()).await.unwrap() == block, "{bytes} bytes");
        };
        timeout(SOON, async { tokio::join!(at_home, forwarding, ask) }).await.unwrap();
    }
}

#[tokio::test]
async fn a_forwarded_block_that_ends_early_is_never_taken_for_a_whole_one() {
    let (asking, between, _keep) = pair(Lane::Data).await;
    let (towards, home, _keep_too) = pair(Lane::Data).await;
    let at_home = async {
        let Inbound::Fetch(fetch) = next(&home).await else { panic!("no fetch") };
        // Larger than the windows on the way, so that it is cut off amid its bytes.
        let sent = fetch.send(&(), vec![vec![7; 64 << 20].into()]).await;
        assert!(sent.is_err(), "{sent:?}");
    };
    let forwarding = async {
        let Inbound::Fetch(fetch) = next(&between).await else { panic!("no fetch") };
        let ((), receiver) = towards.fetch(&5u32, SOON).await.unwrap();
        let cut = async {
            towards.closed().await;
        };
        let (forwarded, ()) = tokio::join!(fetch.forward(&(), receiver), cut);
        assert!(matches!(forwarded, Err(FetchError::Closed(_))), "{forwarded:?}");
    };
    let ask = async {
        let ((), receiver) = asking.fetch::<u32, ()>(&5, SOON).await.unwrap();
        towards.close("cut");
        assert!(matches!(receiver.read(Vec::new()).await, Err(FetchError::Unanswered)));
    };
    timeout(SOON, async { tokio::join!(at_home, forwarding, ask) }).await.unwrap();
}

#[tokio::test]
async fn a_block_over_the_limit_is_refused_before_memory_is_taken() {
    let small = Limits { block_bytes: 1_000, ..Limits::default() };
    let (there, here, _keep) = pair_with(Lane::Data, small, Limits::default()).await;
    let serve = async {
        let Inbound::Fetch(fetch) = next(&here).await else { panic!("no fetch") };
        let _ = fetch.send(&(), vec![Bytes::from(vec![0; 64 << 20])]).await;
    };
    let (fetched, ()) = tokio::join!(there.fetch::<_, ()>(&0u8, SOON), serve);
    assert!(matches!(fetched, Err(FetchError::TooLarge { limit: 1_000, .. })));
    assert!(!there.is_closed());
}

#[tokio::test]
async fn a_fetch_is_refused_with_a_reason_let_go_or_cancelled() {
    let (there, here, _keep) = pair(Lane::Data).await;
    let serve = async {
        let Inbound::Fetch(fetch) = next(&here).await else { panic!("no fetch") };
        fetch.refuse("no such block").await.unwrap();
        drop(next(&here).await);
        let Inbound::Fetch(fetch) = next(&here).await else { panic!("no fetch") };
        timeout(SOON, fetch.cancelled()).await.unwrap();
    };
    let ask = async {
        let refused = there.fetch::<_, ()>(&0u8, SOON).await.map(|_| ()).unwrap_err();
        assert!(matches!(refused, FetchError::Refused(reason) if reason == "no such block"));
        assert!(matches!(there.fetch::<_, ()>(&0u8, SOON).await, Err(FetchError::Unanswered)));
        let short = Duration::from_millis(50);
        assert!(matches!(there.fetch::<_, ()>(&0u8, short).await, Err(FetchError::Deadline(_))));
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn both_sides_learn_the_reason_of_a_close() {
    let (there, here, _keep) = pair(Lane::Control).await;
    there.close("node is draining");
    assert_eq!(there.closed().await, ClosedReason::ByUs("node is draining".into()));
    assert_eq!(here.closed().await, ClosedReason::ByPeer("node is draining".into()));
    assert!(matches!(there.call::<_, ()>(&1u8, SOON).await, Err(CallError::Closed(ClosedReason::ByUs(_)))));
}

#[tokio::test]
async fn a_connection_that_is_let_go_closes() {
    let (there, here, _keep) = pair(Lane::Control).await;
    drop(there);
    assert!(matches!(timeout(SOON, here.closed()).await.unwrap(), ClosedReason::ByPeer(_)));
}

#[tokio::test]
async fn an_address_is_free_once_its_socket_was_let_go_though_handles_are_still_held() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.start(Role::Node, "a"), cluster.start(Role::Node, "b"));
    let held = [connected(&a, &b, Lane::Control).await, connected(&b, &a, Lane::Data).await];
    let address = a.local_addr();
    let again = || Endpoint::start(Config { listen: address, ..cluster.config(Role::Node, "a") }, |_| Ok(Vec::new()));
    a.close("over");
    a.idle().await;
    assert!(matches!(again(), Err(EndpointError::Listen { .. })));
    a.release();
    let second = again().expect("the address is free");
    let (to, _from) = connected(&b, &second, Lane::Control).await;
    assert_eq!((to.peer().node.as_str(), a.local_addr()), ("a", address));
    assert!(held.iter().all(|(one, other)| one.is_closed() && other.is_closed()));
}
