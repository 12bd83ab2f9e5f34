//! Joining: how a node with a token and no certificate gets one from the head.
//!
//! It connects under the join protocol's name, knows the cluster by the token's hash of the authority's certificate, and
//! sends one request: the token's secret, the name it wants, its public key. The answer is a certificate or a refusal by
//! name; nothing else can be said on such a connection. The private key never leaves the node.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{AsyncUdpSocket, ClientConfig};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::accept::note;
use crate::authority::{self, Authority};
use crate::closed::{ALERT_NO_APPLICATION_PROTOCOL, ClosedReason, Refusal, RefusalKind};
use crate::codec;
use crate::endpoint::{self, Side};
use crate::frame::{self, FrameError};
use crate::identity::{Identity, IdentityError};
use crate::limits::{JOIN_BYTES_MAX, Limits};
use crate::link::Link;
use crate::name::{NodeId, Role};
use crate::settings;
use crate::tls;
use crate::token::{Token, TokenError};

/// Why a node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The head does not know the token.
    #[error("the head does not know this token; make one with `mobula token` on the head")]
    Unknown,
    /// The token's time is past.
    #[error("this token has expired; make a new one with `mobula token` on the head")]
    Expired,
    /// The token was used before.
    #[error("this token has been used; each is for one join, make a new one with `mobula token` on the head")]
    Used,
    /// Another node of the cluster has the name.
    #[error(
        "the name {0} is taken in this cluster; choose another with --name, or, if who had it is gone for good, remove \
             nodes/{0} in the cluster's folder on the head"
    )]
    Taken(NodeId),
    /// The token makes something else than was wanted; it is not used up.
    #[error("this token is for a {found}, not for a {wanted}; `mobula token --role {wanted}` makes another")]
    WrongRole {
        /// What it makes.
        found: Role,
        /// What was wanted.
        wanted: Role,
    },
    /// Who answers there is not the head of the token's cluster.
    #[error("{0} is not the head of the cluster that this token is for")]
    WrongCluster(SocketAddr),
    /// Who answers there takes no joins.
    #[error("{0} takes no joins; ask the head of the cluster")]
    NotHead(SocketAddr),
    /// Nobody answers, or it was lost on the way. The token may be used up then.
    #[error("the join at {address} was cut off: {reason}")]
    Lost {
        /// Where.
        address: SocketAddr,
        /// How.
        reason: String,
    },
    /// The head could not do its part.
    #[error("the head could not make a certificate: {0}")]
    Head(String),
    /// This side could not make its key or keep its certificate.
    #[error("cannot make this node's identity")]
    Identity(#[source] IdentityError),
    /// No socket or no TLS here.
    #[error("cannot start a join from here")]
    Setup(#[source] tls::TlsError),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) secret: String,
    pub(crate) node: NodeId,
    pub(crate) public_key: Vec<u8>,
    /// What the token has to be for.
    pub(crate) wanted: Option<Role>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Answer {
    Certificate { certificate: Vec<u8>, authority: Vec<u8> },
    Unknown,
    Expired,
    Used,
    Taken,
    WrongRole(Role),
    Failed(String),
}

/// Joins a cluster: makes a key, shows the token, and comes back with the identity that the head signed.
///
/// # Errors
/// Each reason by name; see [`JoinError`].
pub async fn join(address: SocketAddr, token: &Token, node: NodeId, limits: &Limits) -> Result<Identity, JoinError> {
    join_through(None, address, token, node, None, limits).await
}

/// As [`join()`], with a token that has to be for `role`: one for another is refused and not used up.
///
/// # Errors
/// As [`join()`].
pub async fn join_as(
    role: Role,
    address: SocketAddr,
    token: &Token,
    node: NodeId,
    limits: &Limits,
) -> Result<Identity, JoinError> {
    join_through(None, address, token, node, Some(role), limits).await
}

/// As [`join()`] and [`join_as`], through a socket from outside, as [`SimNetwork`](crate::SimNetwork) makes them.
///
/// # Errors
/// As [`join()`].
pub async fn join_through(
    socket: Option<Arc<dyn AsyncUdpSocket>>,
    address: SocketAddr,
    token: &Token,
    node: NodeId,
    wanted: Option<Role>,
    limits: &Limits,
) -> Result<Identity, JoinError> {
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(|e| JoinError::Identity(IdentityError::Certificate(e)))?;
    let public_key = key.subject_public_key_info();
    let request = Request { secret: token.secret.clone(), node: node.clone(), public_key, wanted };
    let asked = timeout(limits.hello_deadline * 2, ask(socket, address, token, &request, limits)).await;
    let deadline = || JoinError::Lost { address, reason: "no answer came in time".to_owned() };
    match asked.map_err(|_| deadline())?? {
        Answer::Certificate { certificate, authority } => {
            let key = PrivatePkcs8KeyDer::from(key.serialize_der());
            let identity = Identity::new(certificate.into(), authority.into(), key).map_err(JoinError::Identity)?;
            match *identity.cluster() == token.cluster() {
                true => Ok(identity),
                false => Err(JoinError::WrongCluster(address)),
            }
        }
        Answer::Unknown => Err(JoinError::Unknown),
        Answer::Expired => Err(JoinError::Expired),
        Answer::Used => Err(JoinError::Used),
        Answer::Taken => Err(JoinError::Taken(node)),
        Answer::WrongRole(found) => Err(JoinError::WrongRole { found, wanted: wanted.unwrap_or(found) }),
        Answer::Failed(reason) => Err(JoinError::Head(reason)),
    }
}

async fn ask(
    socket: Option<Arc<dyn AsyncUdpSocket>>,
    address: SocketAddr,
    token: &Token,
    request: &Request,
    limits: &Limits,
) -> Result<Answer, JoinError> {
    let mut config = ClientConfig::new(Arc::new(tls::joining(token).map_err(JoinError::Setup)?));
    config.transport_config(settings::connection(limits, limits.control_stream_window_bytes));
    let from = match address {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    };
    let settings = settings::endpoint(None, None);
    let opened = endpoint::open(from, socket, None, settings, limits);
    let (quinn, _) = opened.map_err(|e| JoinError::Setup(e.into()))?;
    let connecting = quinn.connect_with(config, address, &token.cluster().tls_name());
    let connection = connecting.map_err(|e| JoinError::Setup(e.into()))?.await.map_err(|e| lost(address, &e))?;
    let link = Link::new(connection);
    let answer = exchange(&link, request).await;
    link.close("joined or refused");
    quinn.wait_idle().await;
    answer.map_err(|e| JoinError::Lost { address, reason: e.to_string() })
}

async fn exchange(link: &Link, request: &Request) -> Result<Answer, FrameError> {
    let (mut writer, mut reader) = link.open().await?;
    writer.write(frame::encode(&[], request, JOIN_BYTES_MAX).map_err(FrameError::Encode)?).await?;
    writer.finish().await?;
    let body = reader.only_frame(JOIN_BYTES_MAX).await?;
    codec::decode(&body, JOIN_BYTES_MAX).map_err(|e| reader.violation(e.to_string()))
}

fn lost(address: SocketAddr, error: &quinn::ConnectionError) -> JoinError {
    let no_protocol = quinn::TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL);
    match error {
        quinn::ConnectionError::ConnectionClosed(close) if close.error_code == no_protocol => {
            JoinError::NotHead(address)
        }
        quinn::ConnectionError::TransportError(_) => JoinError::WrongCluster(address),
        other => JoinError::Lost { address, reason: ClosedReason::of(other, None).to_string() },
    }
}

/// The head's side: one request, one answer, and the connection is over.
pub(crate) async fn serve(link: &Link, side: &Side) {
    let remote = link.quinn().remote_address();
    let deadline = side.limits.hello_deadline;
    let refusal = match timeout(deadline, answer(link, side)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => Refusal::new(RefusalKind::Malformed, format!("no join request: {error}")),
        Err(_) => Refusal::new(RefusalKind::Deadline, format!("no join request came within {deadline:?}")),
    };
    link.refuse(&refusal);
    note(side, remote, refusal);
}

async fn answer(link: &Link, side: &Side) -> Result<(), FrameError> {
    let (mut writer, mut reader) = link.accept().await?;
    let body = reader.only_frame(JOIN_BYTES_MAX).await?;
    reader.end().await?;
    let request: Request = codec::decode(&body, JOIN_BYTES_MAX).map_err(|e| reader.violation(e.to_string()))?;
    let answer = match &side.authority {
        Some(authority) => admit(authority, &request, link.quinn().remote_address(), side),
        None => Answer::Failed("this node has no authority".to_owned()),
    };
    writer.write(frame::encode(&[], &answer, JOIN_BYTES_MAX).map_err(FrameError::Encode)?).await?;
    writer.finish().await?;
    // Until it has arrived: a close would overtake it.
    writer.stopped().await;
    Ok(())
}

/// Redeems and signs. The few milliseconds of disk are spent in place: joins are rare and have to be in order.
fn admit(authority: &Authority, request: &Request, remote: SocketAddr, side: &Side) -> Answer {
    let node = &request.node;
    if let (Some(wanted), Ok(found)) = (request.wanted, authority.peek(&request.secret, authority::now()))
        && wanted != found
    {
        let why = format!("join of {node}: the token is for a {found}, not for a {wanted}");
        note(side, remote, Refusal::new(RefusalKind::Admission, why));
        return Answer::WrongRole(found);
    }
    // A name that is taken does not cost the token, so that another can be tried; without a good token nobody learns of it.
    let redeemed = match authority.is_taken(node) {
        true => authority.peek(&request.secret, authority::now()).map(|_| None),
        false => authority.redeem(&request.secret, authority::now()).map(Some),
    };
    let (answer, why) = match redeemed {
        Ok(None) => (Answer::Taken, "the name is taken".to_owned()),
        Ok(Some(role)) => {
            let signed = authority.record(node).and_then(|()| authority.sign(&request.public_key, role, node));
            match signed {
                Ok(certificate) => {
                    tracing::info!(%remote, %node, %role, "a node joined");
                    return Answer::Certificate { certificate, authority: authority.certificate().to_vec() };
                }
                Err(IdentityError::Taken { .. }) => (Answer::Taken, "the name is taken".to_owned()),
                Err(e) => (Answer::Failed(e.to_string()), e.to_string()),
            }
        }
        Err(e) => (answer_to(&e), e.to_string()),
    };
    note(side, remote, Refusal::new(RefusalKind::Admission, format!("join of {node}: {why}")));
    answer
}

fn answer_to(error: &TokenError) -> Answer {
    match error {
        TokenError::Unknown | TokenError::Malformed => Answer::Unknown,
        TokenError::Expired => Answer::Expired,
        TokenError::Used => Answer::Used,
        TokenError::Book { .. } => Answer::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(body: Vec<u8>) {
            let _ = codec::decode::<Request>(&body, JOIN_BYTES_MAX);
            let _ = codec::decode::<Answer>(&body, JOIN_BYTES_MAX);
        }
    }
}
