//! Who gets in and who does not: both sides learn the reason, and nothing else is read of a stranger.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::time::Duration;

use mobula_transport::{
    About, Config, ConnectError, Endpoint, JoinError, Lane, Limits, RefusalKind, Refused, Role, Token, join,
};
use support::{Cluster, SOON, about, id, start};
use tokio::time::timeout;

const HOUR: Duration = Duration::from_secs(3_600);

/// Connects and expects a refusal of this kind on both sides; returns what the side that connects is told.
async fn check_refused(from: &Endpoint, to: &Endpoint, kind: RefusalKind) -> String {
    let mut refusals = to.refusals();
    let error = timeout(SOON, from.connect(to.local_addr(), Lane::Control)).await.unwrap().unwrap_err();
    let ConnectError::Refused { ref refusal, .. } = error else { panic!("{error:?}") };
    assert_eq!(refusal.kind, kind, "{error}");
    let Refused { refusal, .. } = timeout(SOON, refusals.recv()).await.unwrap().unwrap();
    assert_eq!(refusal.kind, kind, "{refusal}");
    error.to_string()
}

#[tokio::test]
async fn peers_of_one_cluster_know_each_other_by_their_certificates() {
    let cluster = Cluster::new();
    let head = Endpoint::start(cluster.config(Role::Head, "head"), |peer| {
        assert_eq!((peer.role, peer.node.as_str()), (Role::Driver, "me"));
        Ok(b"hi".to_vec())
    });
    let (head, driver) = (head.unwrap(), cluster.start(Role::Driver, "me"));
    let (there, here) = support::connected(&driver, &head, Lane::Data).await;
    assert_eq!(
        (there.peer().role, there.peer().node.as_str(), &there.peer().welcome[..]),
        (Role::Head, "head", &b"hi"[..])
    );
    assert_eq!((here.lane(), &here.peer().about), (Lane::Data, &about()));
    assert_eq!(here.peer().cluster, *cluster.authority.cluster());
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_by_both_sides() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let (from, to) = (theirs.start(Role::Node, "stranger"), ours.head());
    let told = check_refused(&from, &to, RefusalKind::Cluster).await;
    assert!(told.contains("not of this cluster's authority"), "{told}");
}

#[tokio::test]
async fn another_build_is_refused_for_drivers_too() {
    let cluster = Cluster::new();
    for role in [Role::Node, Role::Driver] {
        let other = About { build: "b2".into(), ..about() };
        let from = start(Config { about: other, ..cluster.config(role, "n") });
        let told = check_refused(&from, &cluster.head(), RefusalKind::Build).await;
        assert!(told.contains("b1") && told.contains("b2"), "{told}");
    }
}

#[tokio::test]
async fn operators_that_differ_are_named_to_both_sides() {
    let cluster = Cluster::new();
    let other = About { operators: vec!["map".into(), "embed".into()], ..about() };
    let from = start(Config { about: other, ..cluster.config(Role::Node, "n") });
    let told = check_refused(&from, &cluster.head(), RefusalKind::Operators).await;
    assert!(told.contains("embed, score"), "{told}");
}

#[tokio::test]
async fn a_peer_that_is_not_admitted_gets_the_reason() {
    let cluster = Cluster::new();
    let no = |_: &mobula_transport::Peer| Err("this incarnation is dead".to_owned());
    let to = Endpoint::start(cluster.config(Role::Head, "head"), no).unwrap();
    let told = check_refused(&cluster.start(Role::Node, "n"), &to, RefusalKind::Admission).await;
    assert!(told.contains("this incarnation is dead"), "{told}");
}

#[tokio::test]
async fn a_node_that_is_full_says_so_and_has_room_again_when_a_connection_ends() {
    let cluster = Cluster::new();
    let limits = Limits { connections: 1, ..Limits::default() };
    let node = start(Config { limits, ..cluster.config(Role::Node, "n") });
    let from = cluster.start(Role::Node, "m");
    let (there, here) = support::connected(&from, &node, Lane::Control).await;
    let error = from.connect(node.local_addr(), Lane::Data).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Refused { refusal, .. } if refusal.kind == RefusalKind::Full), "{error:?}");
    there.close("done");
    here.closed().await;
    drop(here);
    support::connected(&from, &node, Lane::Data).await;
}

#[tokio::test]
async fn nobody_connects_to_a_driver() {
    let cluster = Cluster::new();
    let limits = Limits { hello_deadline: Duration::from_millis(300), ..Limits::default() };
    let node = start(Config { limits, ..cluster.config(Role::Node, "n") });
    let driver = cluster.start(Role::Driver, "d");
    let error = node.connect(driver.local_addr(), Lane::Control).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_joins_with_a_token_and_is_then_a_peer() {
    let cluster = Cluster::new();
    let head = cluster.head();
    let token = cluster.token(Role::Node, HOUR);
    let token: Token = token.to_string().parse().unwrap();
    let identity = join(head.local_addr(), &token, id("n7"), &Limits::default()).await.unwrap();
    assert_eq!((identity.role(), identity.node()), (Role::Node, &id("n7")));
    let node = start(Config { identity, ..cluster.config(Role::Node, "unused") });
    let (_, here) = support::connected(&node, &head, Lane::Control).await;
    assert_eq!(here.peer().node, id("n7"));
}

#[tokio::test]
async fn a_bad_token_is_refused_by_its_own_name() {
    let cluster = Cluster::new();
    let head = cluster.head();
    let joined = async |token: &Token, name: &str| join(head.local_addr(), token, id(name), &Limits::default()).await;
    let token = |valid| cluster.token(Role::Node, valid);

    let used = token(HOUR);
    joined(&used, "a").await.unwrap();
    assert!(matches!(joined(&used, "b").await, Err(JoinError::Used)));
    assert!(matches!(joined(&token(Duration::ZERO), "c").await, Err(JoinError::Expired)));
    let digits = token(HOUR).to_string();
    let made_up = format!("{}{}", digits.get(..digits.len() - 64).unwrap(), "0".repeat(64));
    assert!(matches!(joined(&made_up.parse().unwrap(), "d").await, Err(JoinError::Unknown)));
    // A name that is taken does not cost the token.
    let good = token(HOUR);
    assert!(matches!(joined(&good, "a").await, Err(JoinError::Taken(_))));
    joined(&good, "e").await.unwrap();
}

#[tokio::test]
async fn a_token_is_shown_to_nobody_but_the_head_of_its_cluster() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let token = ours.token(Role::Node, HOUR);
    let foreign = theirs.head();
    let wrong = join(foreign.local_addr(), &token, id("n"), &Limits::default()).await.unwrap_err();
    assert!(matches!(wrong, JoinError::WrongCluster(_)), "{wrong:?}");
    // A node of the cluster that takes joins is still not its head.
    let posing = start(Config { authority: Some(ours.authority.clone()), ..ours.config(Role::Node, "posing") });
    let wrong = join(posing.local_addr(), &token, id("n"), &Limits::default()).await.unwrap_err();
    assert!(matches!(wrong, JoinError::WrongCluster(_)), "{wrong:?}");
    let plain = ours.start(Role::Head, "plain");
    let wrong = join(plain.local_addr(), &token, id("n"), &Limits::default()).await.unwrap_err();
    assert!(matches!(wrong, JoinError::NotHead(_)), "{wrong:?}");
    join(ours.head().local_addr(), &token, id("n"), &Limits::default()).await.unwrap();
}

#[tokio::test]
async fn nothing_is_left_of_two_hundred_connections() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.start(Role::Node, "a"), cluster.start(Role::Head, "b"));
    for _ in 0..200 {
        let (there, here) = support::connected(&a, &b, Lane::Control).await;
        there.close("done");
        here.closed().await;
    }
    a.idle().await;
    b.idle().await;
    assert_eq!((a.open_connections(), b.open_connections()), (0, 0));
}
