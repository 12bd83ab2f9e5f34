//! What happens to who connects: handshake, Hello, our checks, admission, Welcome; or a refusal by name.
//!
//! Each step has a deadline, and the number of peers in it has a limit. Nothing that a peer does here ends the endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::closed::{ClosedReason, Refusal, RefusalKind};
use crate::connection::Connection;
use crate::endpoint::{Refused, Side};
use crate::frame::FrameError;
use crate::hello::{self, HelloError};
use crate::join;
use crate::link::Link;
use crate::settings;
use crate::tls::ALPN_JOIN;

/// Accepts until the endpoint closes.
pub(crate) async fn run(endpoint: quinn::Endpoint, side: Arc<Side>, ready: mpsc::Sender<Connection>) {
    let handshakes = Arc::new(Semaphore::new(side.limits.handshakes));
    let connections = Arc::new(Semaphore::new(side.limits.connections));
    let mut greeting = JoinSet::new();
    loop {
        tokio::select! {
            // In order, so that a simulated run is repeated by its seed.
            biased;
            Some(_) = greeting.join_next() => {}
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                if incoming.may_retry() && handshakes.available_permits() <= side.limits.handshakes / 2 {
                    // An attacker can invent addresses; only who really is at one can answer this.
                    let _ = incoming.retry();
                    continue;
                }
                let permits = (handshakes.clone().try_acquire_owned(), connections.clone().try_acquire_owned());
                let (Ok(handshake), Ok(place)) = permits else {
                    tracing::warn!(remote = %incoming.remote_address(), "refused: as many connections as allowed");
                    incoming.refuse();
                    continue;
                };
                greeting.spawn(greet(incoming, side.clone(), ready.clone(), handshake, place));
            }
        }
    }
}

async fn greet(
    incoming: quinn::Incoming,
    side: Arc<Side>,
    ready: mpsc::Sender<Connection>,
    _handshake: OwnedSemaphorePermit,
    place: OwnedSemaphorePermit,
) {
    let remote = incoming.remote_address();
    let deadline = side.limits.hello_deadline;
    let Ok(connecting) = incoming.accept() else { return };
    let link = match timeout(deadline, connecting).await {
        Ok(Ok(connection)) => Link::new(connection),
        Ok(Err(e)) => return lost(&side, remote, ClosedReason::of(&e, None)),
        // Dropped without a word: whoever it is has not said one either.
        Err(_) => return note(&side, remote, Refusal::new(RefusalKind::Deadline, "the handshake took too long")),
    };
    if is_join(&link) {
        return join::serve(&link, &side).await;
    }
    let refusal = match timeout(deadline, welcome(&link, &side, &ready, place)).await {
        Ok(Ok(())) => return,
        Ok(Err(HelloError::Refused(refusal))) => refusal,
        Ok(Err(HelloError::Lost(FrameError::Closed(reason)))) => return lost(&side, remote, reason),
        Ok(Err(HelloError::Lost(error))) => Refusal::new(RefusalKind::Malformed, error.to_string()),
        Err(_) => {
            Refusal::new(RefusalKind::Deadline, format!("hello and welcome did not come about within {deadline:?}"))
        }
    };
    link.refuse(&refusal);
    note(&side, remote, refusal);
}

/// Hello, checks, admission, Welcome.
async fn welcome(
    link: &Link,
    side: &Side,
    ready: &mpsc::Sender<Connection>,
    place: OwnedSemaphorePermit,
) -> Result<(), HelloError> {
    hello::certified_name(link)?;
    let cluster = side.identity.cluster();
    let greeted = hello::hear(link, cluster, &side.about, &side.limits).await?;
    let admitted = match (side.admit)(&greeted.peer) {
        Ok(welcome) => welcome,
        Err(reason) => return Err(greeted.refuse(Refusal::new(RefusalKind::Admission, reason)).await),
    };
    // Room first: who is welcome is also handed over.
    let Ok(room) = ready.reserve().await else { return Ok(()) };
    let (peer, lane) = greeted.welcome(cluster, &side.about, admitted, &side.limits).await?;
    settings::open_up(link.quinn(), &side.limits, lane);
    room.send(Connection::new(link.clone(), peer, lane, &side.limits, Some(place)));
    Ok(())
}

fn is_join(link: &Link) -> bool {
    let data = link.quinn().handshake_data().and_then(|any| any.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(ALPN_JOIN))
}

/// A peer that went before it was welcome: a refusal if one side named one, else only noted.
fn lost(side: &Side, remote: SocketAddr, reason: ClosedReason) {
    match reason {
        ClosedReason::Refused(refusal) => note(side, remote, refusal),
        reason => tracing::info!(%remote, %reason, "a peer went before it was welcome"),
    }
}

/// Tells the log and who listens.
pub(crate) fn note(side: &Side, remote: SocketAddr, refusal: Refusal) {
    tracing::warn!(%remote, kind = ?refusal.kind, reason = %refusal, "refused a peer");
    // Nobody has to listen.
    let _ = side.refusals.send(Refused { remote, refusal });
}
