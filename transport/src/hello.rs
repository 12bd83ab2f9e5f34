//! Hello and Welcome: what two sides say of themselves before anything else is read, and whether it fits.
//!
//! The side that connects opens the first stream and says Hello; the other answers on it with Welcome, or with a refusal by
//! name after which it closes. Before Welcome there are no other streams: the transport allows none. A client without a
//! certificate sees its handshake succeed before the refusal arrives, so only Welcome means that a peer is accepted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::closed::{Refusal, RefusalKind};
use crate::codec;
use crate::frame::{self, FrameError, Reader, Writer};
use crate::identity::name_in;
use crate::limits::{DETAILS_BYTES_MAX, Limits, OPERATORS_MAX, REASON_BYTES_MAX};
use crate::link::Link;
use crate::name::{ClusterId, Name, NodeId, Role};

/// The version of everything that is written after the handshake. Raise it with any change to what is on the wire.
pub const PROTOCOL_VERSION: u16 = 1;
/// What every Hello and Welcome starts with, in all versions.
const MAGIC: [u8; 4] = *b"MOBU";
/// What every refusal in place of a Welcome starts with, in all versions; its code and a frame with the reason follow.
const REFUSAL_MAGIC: [u8; 4] = *b"MOBR";
/// How long a refusal may take to arrive before the connection is closed all the same.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);
/// Magic and version, or magic and code.
const OPENING_BYTES: usize = 6;
/// Operators named in a refusal; the rest is counted.
const OPERATORS_NAMED: usize = 5;
/// Bytes of a build id.
const BUILD_BYTES_MAX: usize = 256;

/// What a side says of itself. It is believed only as far as its certificate goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct About {
    /// Differs for each start of a process, so that a node that came back is not taken for the one that went.
    pub incarnation: u64,
    /// Which binary this is; both sides must be the same. At most 256 bytes.
    pub build: String,
    /// Names of the operators that it can run; both sides must have the same. At most 10,000.
    pub operators: Vec<String>,
    /// Where others reach it, if they do.
    pub address: Option<SocketAddr>,
    /// Whatever the layer above adds, at most 64 KiB.
    pub details: Vec<u8>,
}

/// What a connection is for. Calls beside bulk data on one connection wait twice as long, so there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Calls and small streams.
    Control,
    /// Task streams and blocks.
    Data,
}

/// The other side of a connection. Cluster, role and node are from its verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its cluster, which is ours.
    pub cluster: ClusterId,
    /// Its name.
    pub node: NodeId,
    /// What it is to the cluster.
    pub role: Role,
    /// What it said of itself.
    pub about: About,
    /// Where its packets come from.
    pub remote: SocketAddr,
    /// What its admission added to the Welcome; empty on the side that admits.
    pub welcome: Vec<u8>,
}

/// What the side that connects says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) cluster: ClusterId,
    pub(crate) lane: Lane,
    pub(crate) about: About,
}

/// What the other side answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) cluster: ClusterId,
    pub(crate) about: About,
    pub(crate) welcome: Vec<u8>,
}

/// Why there is no Welcome.
#[derive(Debug)]
pub(crate) enum HelloError {
    Refused(Refusal),
    Lost(FrameError),
}

impl From<Refusal> for HelloError {
    fn from(refusal: Refusal) -> Self {
        HelloError::Refused(refusal)
    }
}

impl From<FrameError> for HelloError {
    fn from(error: FrameError) -> Self {
        HelloError::Lost(error)
    }
}

impl About {
    /// Whether this is within what any peer will take; says what is not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let too_much = |what: &str, is: usize, max: usize| match is > max {
            true => Err(format!("{is} {what} are over the limit of {max}")),
            false => Ok(()),
        };
        too_much("bytes of build id", self.build.len(), BUILD_BYTES_MAX)?;
        too_much("operators", self.operators.len(), OPERATORS_MAX)?;
        too_much("bytes of details", self.details.len(), DETAILS_BYTES_MAX)
    }
}

/// Says Hello and waits for Welcome; both sides' words have to fit.
pub(crate) async fn say(
    link: &Link,
    cluster: &ClusterId,
    about: &About,
    lane: Lane,
    limits: &Limits,
) -> Result<Peer, HelloError> {
    let (mut writer, mut reader) = link.open().await?;
    let hello = Hello { cluster: cluster.clone(), lane, about: about.clone() };
    writer.write(encode(&hello, limits)?).await?;
    writer.finish().await?;
    let welcome: Welcome = read(&mut reader, limits).await?;
    let peer = peer(link, &welcome.cluster, welcome.about, welcome.welcome)?;
    compare(cluster, about, &peer)?;
    reader.end().await?;
    Ok(peer)
}

/// Waits for Hello and checks it; what does not fit is refused. [`Greeted::welcome`] or [`Greeted::refuse`] follows.
pub(crate) async fn hear(
    link: &Link,
    cluster: &ClusterId,
    about: &About,
    limits: &Limits,
) -> Result<Greeted, HelloError> {
    let (mut writer, mut reader) = link.accept().await?;
    let heard = async {
        let hello: Hello = read(&mut reader, limits).await?;
        reader.end().await?;
        let peer = peer(link, &hello.cluster, hello.about, Vec::new())?;
        compare(cluster, about, &peer)?;
        Ok((peer, hello.lane))
    };
    match heard.await {
        Ok((peer, lane)) => Ok(Greeted { peer, lane, writer }),
        Err(HelloError::Refused(refusal)) => {
            say_no(&mut writer, &refusal).await;
            Err(HelloError::Refused(refusal))
        }
        Err(lost) => Err(lost),
    }
}

/// A peer whose Hello fits and who waits for our Welcome.
pub(crate) struct Greeted {
    pub(crate) peer: Peer,
    pub(crate) lane: Lane,
    writer: Writer,
}

impl Greeted {
    /// Answers Welcome.
    pub(crate) async fn welcome(
        mut self,
        cluster: &ClusterId,
        about: &About,
        welcome: Vec<u8>,
        limits: &Limits,
    ) -> Result<(Peer, Lane), HelloError> {
        let welcome = Welcome { cluster: cluster.clone(), about: about.clone(), welcome };
        self.writer.write(encode(&welcome, limits)?).await?;
        self.writer.finish().await?;
        Ok((self.peer, self.lane))
    }

    /// Answers that the peer is not wanted.
    pub(crate) async fn refuse(mut self, refusal: Refusal) -> HelloError {
        say_no(&mut self.writer, &refusal).await;
        HelloError::Refused(refusal)
    }
}

/// Writes a refusal in place of a Welcome and waits a little for it to arrive. The close that follows names it too, but a
/// close is not sent while the path is full (quinn-proto 0.11.19), and is not sent again when it is lost.
async fn say_no(writer: &mut Writer, refusal: &Refusal) {
    let mut bytes = REFUSAL_MAGIC.to_vec();
    bytes.extend_from_slice(&(refusal.code() as u16).to_le_bytes());
    bytes.extend_from_slice(&(refusal.reason.len() as u32).to_le_bytes());
    bytes.extend_from_slice(refusal.reason.as_bytes());
    let said = async {
        writer.write(bytes.into()).await?;
        writer.finish().await?;
        writer.stopped().await;
        Ok::<(), FrameError>(())
    };
    // Whether it arrives or not, the connection is over.
    let _ = timeout(REFUSAL_LINGER, said).await;
}

pub(crate) fn encode<T: Serialize>(message: &T, limits: &Limits) -> Result<Bytes, HelloError> {
    let mut opening = MAGIC.to_vec();
    opening.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    frame::encode(&opening, message, limits.hello_bytes).map_err(|e| FrameError::Encode(e).into())
}

async fn read<T: serde::de::DeserializeOwned>(reader: &mut Reader, limits: &Limits) -> Result<T, HelloError> {
    let opening = reader.bytes::<OPENING_BYTES>().await?;
    if let Some(code) = check_opening(opening)? {
        let reason = reader.only_frame(REASON_BYTES_MAX).await?;
        return Err(Refusal::from_wire(code, &reason).into());
    }
    let body = reader.only_frame(limits.hello_bytes).await?;
    decode(&body, limits.hello_bytes).map_err(HelloError::Refused)
}

/// Magic and version: all that is read of a peer of another version. The code, if it is a refusal.
pub(crate) fn check_opening(opening: [u8; OPENING_BYTES]) -> Result<Option<u16>, Refusal> {
    let [a, b, c, d, low, high] = opening;
    let number = u16::from_le_bytes([low, high]);
    match [a, b, c, d] {
        REFUSAL_MAGIC => Ok(Some(number)),
        MAGIC if number == PROTOCOL_VERSION => Ok(None),
        MAGIC => {
            let reason = format!("protocol version {number} does not fit {PROTOCOL_VERSION}; use the same build");
            Err(Refusal::new(RefusalKind::Protocol, reason))
        }
        _ => Err(Refusal::new(RefusalKind::Malformed, "the first message is no Hello")),
    }
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(body: &[u8], limit: usize) -> Result<T, Refusal> {
    codec::decode(body, limit).map_err(|e| Refusal::new(RefusalKind::Malformed, format!("no Hello: {e}")))
}

/// The name in the peer's certificate, which the handshake has verified.
pub(crate) fn certified_name(link: &Link) -> Result<Name, Refusal> {
    let chain =
        link.quinn().peer_identity().and_then(|any| any.downcast::<Vec<rustls::pki_types::CertificateDer>>().ok());
    let leaf = chain.as_ref().and_then(|chain| chain.first());
    let leaf =
        leaf.ok_or_else(|| Refusal::new(RefusalKind::Certificate, "a certificate of this cluster is missing"))?;
    name_in(leaf).map_err(|e| Refusal::new(RefusalKind::Certificate, e.to_string()))
}

fn peer(link: &Link, cluster: &ClusterId, about: About, welcome: Vec<u8>) -> Result<Peer, Refusal> {
    let name = certified_name(link)?;
    if name.cluster != *cluster {
        let reason = format!("the peer says cluster {cluster}, its certificate {}", name.cluster);
        return Err(Refusal::new(RefusalKind::Cluster, reason));
    }
    if welcome.len() > DETAILS_BYTES_MAX {
        return Err(Refusal::new(RefusalKind::Malformed, "the welcome is larger than 64 KiB"));
    }
    about.check().map_err(|what| Refusal::new(RefusalKind::Malformed, what))?;
    let remote = link.quinn().remote_address();
    Ok(Peer { cluster: name.cluster, node: name.node, role: name.role, about, remote, welcome })
}

/// Whether two sides fit. Pure; the reason names what differs.
fn compare(cluster: &ClusterId, ours: &About, peer: &Peer) -> Result<(), Refusal> {
    let theirs = &peer.about;
    if peer.cluster != *cluster {
        let reason = format!("cluster {} does not fit {cluster}", peer.cluster);
        return Err(Refusal::new(RefusalKind::Cluster, reason));
    }
    if theirs.build != ours.build {
        let reason = format!(
            "build {:?} of {} does not fit {:?}; all nodes and drivers run the same binary",
            theirs.build, peer.node, ours.build
        );
        return Err(Refusal::new(RefusalKind::Build, reason));
    }
    match operators_that_differ(&ours.operators, &theirs.operators) {
        None => Ok(()),
        Some(names) => {
            let reason = format!("operators differ ({names}); all nodes and drivers register the same");
            Err(Refusal::new(RefusalKind::Operators, reason))
        }
    }
}

/// The first few operators that only one side has, and how many more there are.
fn operators_that_differ(ours: &[String], theirs: &[String]) -> Option<String> {
    let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (ours.iter().collect(), theirs.iter().collect());
    let differ: Vec<&str> = ours.symmetric_difference(&theirs).map(|name| name.as_str()).collect();
    let named: Vec<String> = differ.iter().take(OPERATORS_NAMED).map(|name| name.chars().take(60).collect()).collect();
    match differ.len().saturating_sub(OPERATORS_NAMED) {
        _ if differ.is_empty() => None,
        0 => Some(named.join(", ")),
        more => Some(format!("{} and {more} more", named.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cluster(digit: &str) -> ClusterId {
        ClusterId::new(digit.repeat(32)).unwrap()
    }

    fn peer_with(about: About) -> Peer {
        let remote = "127.0.0.1:1".parse().unwrap();
        let node = NodeId::new("n").unwrap();
        Peer { cluster: cluster("a"), node, role: Role::Node, about, remote, welcome: Vec::new() }
    }

    #[test]
    fn each_mismatch_has_its_own_name() {
        let ours = About { build: "b1".into(), operators: vec!["map".into()], ..About::default() };
        let same = peer_with(About { incarnation: 9, ..ours.clone() });
        assert_eq!(compare(&cluster("a"), &ours, &same), Ok(()));
        let kind = |cluster: ClusterId, about: About| compare(&cluster, &ours, &peer_with(about)).unwrap_err().kind;
        assert_eq!(kind(cluster("b"), ours.clone()), RefusalKind::Cluster);
        assert_eq!(kind(cluster("a"), About { build: "b2".into(), ..ours.clone() }), RefusalKind::Build);
        assert_eq!(kind(cluster("a"), About { operators: vec![], ..ours.clone() }), RefusalKind::Operators);
    }

    #[test]
    fn operators_are_named_whatever_side_has_them_and_whatever_their_order() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(operators_that_differ(&names("a b c"), &names("c b a")), None);
        assert_eq!(operators_that_differ(&names("a b"), &names("b c")).unwrap(), "a, c");
        assert_eq!(operators_that_differ(&names("z"), &names("a b c d e f g z")).unwrap(), "a, b, c, d, e and 2 more");
    }

    #[test]
    fn another_version_is_refused_by_both_numbers() {
        let [a, b, c, d] = MAGIC;
        let refusal = check_opening([a, b, c, d, 7, 0]).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Protocol);
        assert!(refusal.reason.contains("version 7 does not fit 1"), "{refusal}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_hello_or_a_refusal(opening: [u8; OPENING_BYTES], body: Vec<u8>) {
            let _ = check_opening(opening);
            for refusal in [decode::<Hello>(&body, 1 << 20).err(), decode::<Welcome>(&body, 1 << 20).err()] {
                prop_assert!(refusal.is_none_or(|refusal| refusal.reason.len() < 1_000));
            }
        }

        #[test]
        fn a_hello_comes_back_from_its_bytes(incarnation: u64, build: String, operators: Vec<String>, details: Vec<u8>) {
            let about = About { incarnation, build, operators, address: None, details };
            let hello = Hello { cluster: cluster("a"), lane: Lane::Data, about: about.clone() };
            let back: Hello = decode(&codec::encode(&hello, 1 << 20).unwrap(), 1 << 20).unwrap();
            prop_assert_eq!(back.about, about);
        }
    }
}
