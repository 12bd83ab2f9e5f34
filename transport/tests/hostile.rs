//! Peers that break the protocol: whatever bytes they send, the connection ends, and the endpoint goes on.
//!
//! They are written with quinn directly, so that they can say what our own code never would.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mobula_transport::{
    About, CallError, ClosedReason, Config, Connection, Endpoint, FetchError, Identity, Lane, Limits, RefusalKind,
    Role, codec,
};
use proptest::prelude::*;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use support::{Cluster, SOON, about, start};
use tokio::time::timeout;

/// A client that speaks QUIC and nothing else, with the certificate of an identity or with none.
struct Raw {
    quinn: quinn::Endpoint,
    config: ClientConfig,
    name: String,
}

impl Raw {
    fn new(cluster: &Cluster, identity: Option<&Identity>, protocol: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        cluster.identity(Role::Node, "unused").save(dir.path()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(dir.path().join("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                identity.save(dir.path()).unwrap();
                let certificate = CertificateDer::from_pem_file(dir.path().join("node.pem")).unwrap();
                let key = PrivateKeyDer::from_pem_file(dir.path().join("node.key")).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        tls.alpn_protocols = vec![protocol.to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let quinn = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { quinn, config, name: format!("{}.mobula", cluster.authority.cluster()) }
    }

    async fn connect(&self, to: SocketAddr) -> Result<quinn::Connection, ConnectionError> {
        self.quinn.connect_with(self.config.clone(), to, &self.name).unwrap().await
    }

    /// Opens a stream, writes these bytes and ends it; returns how the connection ends.
    async fn say(&self, to: SocketAddr, bytes: &[u8]) -> ConnectionError {
        let connection = match self.connect(to).await {
            Ok(connection) => connection,
            Err(e) => return e,
        };
        write(&connection, bytes).await;
        timeout(SOON, connection.closed()).await.unwrap()
    }
}

/// Writes a stream as far as the other side lets us.
async fn write(connection: &quinn::Connection, bytes: &[u8]) {
    if let Ok((mut send, _recv)) = connection.open_bi().await {
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        let _ = timeout(Duration::from_millis(200), send.stopped()).await;
    }
}

/// The Hello of the protocol, as bytes on the wire.
fn hello(cluster: &Cluster, about: About) -> Vec<u8> {
    #[derive(Serialize)]
    struct Hello {
        cluster: String,
        lane: Lane,
        about: About,
    }
    let hello = Hello { cluster: cluster.authority.cluster().to_string(), lane: Lane::Data, about };
    let body = codec::encode(&hello, 1 << 20).unwrap();
    let mut bytes = b"MOBU\x01\x00".to_vec();
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn closed_with(error: &ConnectionError) -> Option<(u64, String)> {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            Some((close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned()))
        }
        _ => None,
    }
}

/// A good peer is welcome all the same.
async fn check_alive(cluster: &Cluster, endpoint: &Endpoint) {
    let good = cluster.start(Role::Node, "good");
    let (there, here) = timeout(SOON, support::connected(&good, endpoint, Lane::Control)).await.unwrap();
    there.close("all is well");
    here.closed().await;
}

#[tokio::test]
async fn without_a_certificate_nothing_is_read_not_even_where_joins_are_taken() {
    let cluster = Cluster::new();
    let (head, node) = (cluster.head(), cluster.start(Role::Node, "n"));
    let raw = Raw::new(&cluster, None, b"mobula");
    let mut refusals = head.refusals();
    let told = raw.say(head.local_addr(), &hello(&cluster, about())).await;
    assert!(closed_with(&told).is_some_and(|(_, reason)| reason.contains("certificate")), "{told}");
    assert_eq!(refusals.recv().await.unwrap().refusal.kind, RefusalKind::Certificate);
    // Where no joins are taken, TLS itself asks for a certificate.
    let mut refusals = node.refusals();
    let told = raw.say(node.local_addr(), &hello(&cluster, about())).await;
    assert!(matches!(told, ConnectionError::ConnectionClosed(_)), "{told}");
    assert_eq!(refusals.recv().await.unwrap().refusal.kind, RefusalKind::Certificate);
    check_alive(&cluster, &head).await;
}

#[tokio::test]
async fn a_join_connection_is_good_for_one_small_request_only() {
    let cluster = Cluster::new();
    let head = cluster.head();
    let raw = Raw::new(&cluster, None, b"mobula-join");
    for bytes in [vec![], vec![1], vec![0xff; 4], vec![0; 100_000], hello(&cluster, about())] {
        let told = raw.say(head.local_addr(), &bytes).await;
        assert!(closed_with(&told).is_some(), "{told}");
    }
    check_alive(&cluster, &head).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_sent_away_at_the_deadline() {
    let cluster = Cluster::new();
    let limits = Limits { hello_deadline: Duration::from_secs(1), ..Limits::default() };
    let authority = Some(cluster.authority.clone());
    let head = start(Config { limits, authority, ..cluster.config(Role::Head, "head") });
    for protocol in [&b"mobula"[..], b"mobula-join"] {
        let identity = cluster.identity(Role::Node, "mute");
        let raw = Raw::new(&cluster, Some(&identity), protocol);
        let connection = raw.connect(head.local_addr()).await.unwrap();
        let told = timeout(SOON, connection.closed()).await.unwrap();
        assert!(closed_with(&told).is_some_and(|(_, reason)| reason.contains("within 1s")), "{told}");
    }
}

#[tokio::test]
async fn a_hello_that_lies_about_its_size_cluster_or_version_is_refused() {
    let cluster = Cluster::new();
    let head = cluster.head();
    let identity = cluster.identity(Role::Node, "liar");
    let raw = Raw::new(&cluster, Some(&identity), b"mobula");
    let good = hello(&cluster, about());
    let mut version = good.clone();
    version.splice(4..6, [9, 0]);
    let mut length = good.clone();
    length.splice(6..10, [0xff; 4]);
    let mut other_cluster = good.clone();
    other_cluster.splice(11..43, *b"00000000000000000000000000000000");
    let details = hello(&cluster, About { details: vec![0; 100_000], ..about() });
    let cut = good.get(..good.len() - 1).unwrap().to_vec();
    let longer = [good.clone(), vec![0]].concat();
    for (bytes, reason) in [
        (version, "version 9"),
        (length, "over the limit"),
        (other_cluster, "its certificate"),
        (details, "bytes of details"),
        (cut, "inside a frame"),
        (longer, "after its end"),
    ] {
        let told = raw.say(head.local_addr(), &bytes).await;
        assert!(closed_with(&told).is_some_and(|(_, told)| told.contains(reason)), "{reason}: {told}");
    }
    check_alive(&cluster, &head).await;
}

/// A raw peer that has been welcomed, and our end of its connection.
async fn welcomed(cluster: &Cluster, raw: &Raw, endpoint: &Endpoint) -> (quinn::Connection, Connection) {
    let connection = raw.connect(endpoint.local_addr()).await.unwrap();
    write(&connection, &hello(cluster, about())).await;
    (connection, timeout(SOON, endpoint.accept()).await.unwrap().unwrap())
}

#[tokio::test]
async fn frames_that_are_too_long_cut_short_or_of_no_kind_close_the_connection() {
    let cluster = Cluster::new();
    let node = cluster.start(Role::Node, "n");
    let identity = cluster.identity(Role::Node, "rogue");
    let raw = Raw::new(&cluster, Some(&identity), b"mobula");
    for (bytes, reason) in [
        (&b"\x09"[..], "no kind 9"),
        (b"", "before it began"),
        (b"\x01\xff\xff\xff\xff", "over the limit"),
        (b"\x02\xff\xff\xff\x7f", "over the limit"),
        (b"\x03\x00\x00\x10\x00", "inside a frame"),
        (b"\x01\x05\x00\x00\x00abc", "inside a frame"),
        (b"\x01\x01\x00\x00\x00abc", "after its end"),
        (b"\x02", "before its first frame"),
    ] {
        let (theirs, ours) = welcomed(&cluster, &raw, &node).await;
        write(&theirs, bytes).await;
        let accepted = timeout(SOON, ours.accept()).await.unwrap();
        assert!(accepted.is_err(), "{accepted:?}");
        let told = timeout(SOON, theirs.closed()).await.unwrap();
        assert!(closed_with(&told).is_some_and(|(code, told)| code == 1 && told.contains(reason)), "{reason}: {told}");
    }
    check_alive(&cluster, &node).await;
}

/// Answers the next stream with these bytes and ends it.
async fn answer(connection: &quinn::Connection, bytes: &[u8]) {
    let (mut send, mut recv) = connection.accept_bi().await.unwrap();
    let _ = recv.read_to_end(1_000).await;
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    let _ = timeout(SOON, send.stopped()).await;
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error_of_the_call() {
    let cluster = Cluster::new();
    let node = cluster.start(Role::Node, "n");
    let identity = cluster.identity(Role::Node, "rogue");
    let raw = Raw::new(&cluster, Some(&identity), b"mobula");
    for bytes in [&b""[..], b"\x00", b"\x07\x00\x00\x00\x00", b"\x00\xff\xff\xff\xff", b"\x00\x01\x00\x00\x00ab"] {
        let (theirs, ours) = welcomed(&cluster, &raw, &node).await;
        let (_, reply) = tokio::join!(answer(&theirs, bytes), ours.call::<_, String>(&1u8, SOON));
        assert!(matches!(reply, Err(CallError::Violation(_))), "{bytes:?}: {reply:?}");
        assert!(matches!(ours.closed().await, ClosedReason::Violation(_)));
    }
    // Well framed, but of another type: the connection is none the worse for it.
    let (theirs, ours) = welcomed(&cluster, &raw, &node).await;
    let (_, reply) = tokio::join!(answer(&theirs, b"\x00\x01\x00\x00\x00\xff"), ours.call::<_, String>(&1u8, SOON));
    assert!(matches!(reply, Err(CallError::Decode(_))), "{reply:?}");
    assert!(!ours.is_closed());
}

#[tokio::test]
async fn a_block_that_is_short_long_or_changed_is_never_taken_for_whole() {
    let cluster = Cluster::new();
    let node = cluster.start(Role::Node, "n");
    let identity = cluster.identity(Role::Node, "rogue");
    let raw = Raw::new(&cluster, Some(&identity), b"mobula");
    let block = |length: u64, bytes: &[u8], sum: &[u8]| {
        [b"\x00\x01\x00\x00\x00\x05", &length.to_le_bytes()[..], bytes, sum].concat()
    };
    let sum = xxhash_rust::xxh3::xxh3_64(b"block").to_le_bytes();
    let fetch = async |bytes: Vec<u8>| {
        let (theirs, ours) = welcomed(&cluster, &raw, &node).await;
        let fetch = async {
            let (head, receiver) = ours.fetch::<u8, u8>(&1, SOON).await?;
            assert_eq!(head, 5);
            receiver.read(Vec::new()).await
        };
        tokio::join!(answer(&theirs, &bytes), fetch).1
    };
    assert_eq!(fetch(block(5, b"block", &sum)).await.unwrap(), b"block");
    assert!(matches!(fetch(block(5, b"clock", &sum)).await, Err(FetchError::Checksum)));
    for bytes in [block(5, b"block", &[]), block(6, b"block", &sum), block(5, b"block", &[0; 9]), block(9, b"", &[])] {
        assert!(matches!(fetch(bytes).await, Err(FetchError::Violation(_))));
    }
    assert!(matches!(fetch(block(u64::MAX, b"block", &sum)).await, Err(FetchError::TooLarge { .. })));
    // A length within the limit that is a lie costs no memory that is not there.
    let lie = fetch(block(2 << 30, b"block", &sum)).await;
    assert!(matches!(lie, Err(FetchError::Violation(_) | FetchError::Memory(_))), "{lie:?}");
}

#[tokio::test]
async fn one_way_streams_and_streams_before_the_welcome_are_not_open_to_anyone() {
    let cluster = Cluster::new();
    let node = cluster.start(Role::Node, "n");
    let identity = cluster.identity(Role::Node, "eager");
    let raw = Raw::new(&cluster, Some(&identity), b"mobula");
    let connection = raw.connect(node.local_addr()).await.unwrap();
    let short = Duration::from_millis(50);
    let _first = connection.open_bi().await.unwrap();
    assert!(timeout(short, connection.open_bi()).await.is_err());
    assert!(timeout(short, connection.open_uni()).await.is_err());
    assert!(connection.max_datagram_size().is_none());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Bytes that are often nearly right: kinds and small lengths are likelier than chance has them.
fn nearly_frames() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![0u32..20, any::<u32>()];
    let frame = (0u8..6, length, prop::collection::vec(any::<u8>(), 0..40));
    let nearly = frame.prop_map(|(kind, length, body)| [&[kind][..], &length.to_le_bytes(), &body].concat());
    prop_oneof![nearly, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_peer_sends_after_its_welcome_the_endpoint_goes_on(streams in prop::collection::vec(nearly_frames(), 1..8)) {
        runtime().block_on(async {
            let cluster = Cluster::new();
            let node = cluster.start(Role::Node, "n");
            let identity = cluster.identity(Role::Node, "rogue");
            let raw = Raw::new(&cluster, Some(&identity), b"mobula");
            let (theirs, ours) = welcomed(&cluster, &raw, &node).await;
            let writing = async {
                for bytes in &streams {
                    write(&theirs, bytes).await;
                }
                theirs.close(VarInt::from_u32(0), b"done");
            };
            let reading = async { while ours.accept().await.is_ok() {} };
            timeout(SOON, async { tokio::join!(writing, reading) }).await.unwrap();
            check_alive(&cluster, &node).await;
        });
    }

    #[test]
    fn whatever_a_peer_says_first_the_endpoint_goes_on(bytes: Vec<u8>, at: prop::sample::Index, flip: u8) {
        runtime().block_on(async {
            let cluster = Cluster::new();
            let head = cluster.head();
            let identity = cluster.identity(Role::Node, "rogue");
            let mut nearly = hello(&cluster, about());
            let at = at.index(nearly.len());
            nearly.splice(at..=at, [flip]);
            for (first, protocol) in [(&bytes, &b"mobula"[..]), (&nearly, b"mobula"), (&bytes, b"mobula-join")] {
                let raw = Raw::new(&cluster, Some(&identity), protocol);
                let connection = raw.connect(head.local_addr()).await.unwrap();
                write(&connection, first).await;
                connection.close(VarInt::from_u32(0), b"done");
            }
            // What was only nearly wrong may have been welcomed.
            while timeout(Duration::from_millis(20), head.accept()).await.is_ok() {}
            check_alive(&cluster, &head).await;
        });
    }
}
