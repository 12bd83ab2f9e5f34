//! An endpoint: the one UDP socket of a process, through which it connects and is connected to.
//!
//! It runs on the tokio runtime in which it is started (measured: a runtime of one thread of its own is the fastest for
//! small calls). There is no endpoint without an identity and no mode without TLS. Start at [`Endpoint::start`]; what
//! happens to who connects is in `accept`, what the sides tell each other in `hello`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{AsyncUdpSocket, ClientConfig, ConnectionError, Runtime, TokioRuntime, VarInt};
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio::time::timeout;

use crate::accept;
use crate::authority::Authority;
use crate::closed::{CODE_CLOSED, ClosedReason, Refusal, RefusalKind, cut};
use crate::connection::Connection;
use crate::frame::FrameError;
use crate::held::HeldSocket;
use crate::hello::{self, About, HelloError, Lane, Peer};
use crate::identity::Identity;
use crate::limits::Limits;
use crate::link::Link;
use crate::name::Role;
use crate::settings;
use crate::socket::Batches;
use crate::task::Task;
use crate::tls::{self, TlsError};

/// Refusals kept for who listens to [`Endpoint::refusals`] and is slow.
const REFUSALS_KEPT: usize = 64;

/// What an endpoint is started with.
pub struct Config {
    /// Who this process is.
    pub identity: Identity,
    /// Where it listens, or connects from. A driver may say port 0: nobody connects to it.
    pub listen: SocketAddr,
    /// What it says of itself in each Hello and Welcome.
    pub about: About,
    /// Its limits.
    pub limits: Limits,
    /// On the head: the authority, which lets nodes with a token join through this endpoint.
    pub authority: Option<Arc<Authority>>,
    /// A socket in place of the system's, as [`SimNetwork`](crate::SimNetwork) makes them; `listen` is then not looked at.
    pub socket: Option<Arc<dyn AsyncUdpSocket>>,
}

/// Why an endpoint cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The identity is of no use for TLS.
    #[error("cannot set up TLS with this identity")]
    Tls(#[source] TlsError),
    /// What this side wants to say of itself is over a limit.
    #[error("cannot say hello: {0}")]
    About(String),
    /// The authority is of another cluster than the identity.
    #[error("the authority is of another cluster than this node's identity")]
    Authority,
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// One side refused the other.
    #[error("cannot connect to {address}: {refusal}")]
    Refused {
        /// Where to.
        address: SocketAddr,
        /// By what name.
        refusal: Refusal,
    },
    /// Nobody answers there.
    #[error("nobody answers at {address} within {deadline:?}; is the node up and the address right?")]
    Unreachable {
        /// Where to.
        address: SocketAddr,
        /// How long was waited.
        deadline: Duration,
    },
    /// It was lost before the Welcome.
    #[error("the connection to {address} was lost before the welcome: {reason}")]
    Lost {
        /// Where to.
        address: SocketAddr,
        /// How.
        reason: ClosedReason,
    },
    /// The address or this endpoint cannot be used.
    #[error("cannot connect to {address} from here")]
    Unusable {
        /// Where to.
        address: SocketAddr,
        /// Why.
        #[source]
        source: quinn::ConnectError,
    },
}

/// A peer that was refused, and why.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Where it came from.
    pub remote: SocketAddr,
    /// By what name it was refused.
    pub refusal: Refusal,
}

/// A process's door to its cluster. Clones share it; with the last one it closes.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    side: Arc<Side>,
    quinn: quinn::Endpoint,
    socket: Arc<HeldSocket>,
    control: ClientConfig,
    data: ClientConfig,
    accepted: Mutex<mpsc::Receiver<Connection>>,
    _accepting: Task,
}

/// Whether a peer may come in; what is returned goes into its Welcome, or to it as the reason.
type Admit = Box<dyn Fn(&Peer) -> Result<Vec<u8>, String> + Send + Sync>;

/// What an endpoint knows of itself; shared with the task that accepts.
pub(crate) struct Side {
    pub(crate) identity: Identity,
    pub(crate) about: About,
    pub(crate) limits: Limits,
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) admit: Admit,
    pub(crate) refusals: broadcast::Sender<Refused>,
}

impl Endpoint {
    /// Starts on the tokio runtime that this is called in. `admit` is asked for each peer that connects, after all other
    /// checks: what it returns goes into the peer's Welcome, its error to the peer as the reason of its refusal.
    ///
    /// # Errors
    /// If the address cannot be listened on, or the configuration does not fit itself.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        config: Config,
        admit: impl Fn(&Peer) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Result<Self, EndpointError> {
        Self::start_seeded(config, admit, None)
    }

    /// As [`start`](Self::start), with a seed for the choices of the transport, so that a simulated run can be repeated.
    /// Not for a real network: what an attacker can repeat he can guess.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_seeded(
        config: Config,
        admit: impl Fn(&Peer) -> Result<Vec<u8>, String> + Send + Sync + 'static,
        seed: Option<u64>,
    ) -> Result<Self, EndpointError> {
        let Config { identity, listen, about, limits, authority, socket } = config;
        about.check().map_err(EndpointError::About)?;
        if authority.as_ref().is_some_and(|authority| authority.cluster() != identity.cluster()) {
            return Err(EndpointError::Authority);
        }
        // Nobody connects to a driver: its endpoint has no side that accepts.
        let server = match identity.role() {
            Role::Driver => None,
            Role::Head | Role::Node => Some(tls::server(&identity, authority.is_some()).map_err(EndpointError::Tls)?),
        };
        let server = server.map(|crypto| settings::server(crypto, &limits));
        let crypto = Arc::new(tls::client(&identity).map_err(EndpointError::Tls)?);
        let client = |lane| {
            let mut client = ClientConfig::new(crypto.clone());
            client.transport_config(settings::connection(&limits, settings::stream_window(&limits, lane)));
            client
        };
        let (control, data) = (client(Lane::Control), client(Lane::Data));
        let settings = settings::endpoint(Some(&identity), seed);
        let (quinn, socket) = open(listen, socket, server, settings, &limits)
            .map_err(|source| EndpointError::Listen { address: listen, source })?;
        let (refusals, _) = broadcast::channel(REFUSALS_KEPT);
        let side = Arc::new(Side { identity, about, limits, authority, admit: Box::new(admit), refusals });
        let (ready, accepted) = mpsc::channel(side.limits.handshakes.max(1));
        let accepting = Task::start(accept::run(quinn.clone(), side.clone(), ready));
        let accepted = Mutex::new(accepted);
        let inner = Inner { side, quinn, socket, control, data, accepted, _accepting: accepting };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.quinn.local_addr().expect("a bound socket has an address")
    }

    /// Who this process is.
    pub fn identity(&self) -> &Identity {
        &self.inner.side.identity
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.inner.side.limits
    }

    /// The next peer that was welcomed; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Connection> {
        self.inner.accepted.lock().await.recv().await
    }

    /// Connects, says Hello and waits for Welcome.
    ///
    /// # Errors
    /// [`ConnectError::Refused`] by name if the sides do not fit or the other does not want us.
    pub async fn connect(&self, address: SocketAddr, lane: Lane) -> Result<Connection, ConnectError> {
        let Side { identity, about, limits, .. } = &*self.inner.side;
        let config = match lane {
            Lane::Control => self.inner.control.clone(),
            Lane::Data => self.inner.data.clone(),
        };
        let connecting = self.inner.quinn.connect_with(config, address, &identity.cluster().tls_name());
        let connecting = connecting.map_err(|source| ConnectError::Unusable { address, source })?;
        let deadline = limits.hello_deadline;
        let unreachable = |_| ConnectError::Unreachable { address, deadline };
        let connected = timeout(deadline, connecting).await.map_err(unreachable)?;
        let link = Link::new(connected.map_err(|e| lost(address, deadline, &e))?);
        let said = timeout(deadline, hello::say(&link, identity.cluster(), about, lane, limits)).await;
        let peer = match said {
            Ok(Ok(peer)) => peer,
            Ok(Err(HelloError::Lost(error))) => return Err(lost_in_hello(address, error)),
            Ok(Err(HelloError::Refused(refusal))) => {
                link.refuse(&refusal);
                return Err(ConnectError::Refused { address, refusal });
            }
            Err(_) => {
                let refusal = Refusal::new(RefusalKind::Deadline, format!("no welcome came within {deadline:?}"));
                link.refuse(&refusal);
                return Err(ConnectError::Refused { address, refusal });
            }
        };
        settings::open_up(link.quinn(), limits, lane);
        Ok(Connection::new(link, peer, lane, limits, None))
    }

    /// What was refused here from now on; a listener that is slow misses the oldest.
    pub fn refusals(&self) -> broadcast::Receiver<Refused> {
        self.inner.side.refusals.subscribe()
    }

    /// Connections that are open or opening.
    pub fn open_connections(&self) -> usize {
        self.inner.quinn.open_connections()
    }

    /// Closes all connections with a reason and accepts no more.
    pub fn close(&self, reason: &str) {
        self.inner.quinn.close(VarInt::from_u32(CODE_CLOSED), cut(reason).as_bytes());
    }

    /// Resolves when no connection is left, and the peers have been told.
    pub async fn idle(&self) {
        self.inner.quinn.wait_idle().await;
    }

    /// Lets its socket go, also while others hold handles to it or to its connections: the address is free, and nothing is
    /// sent or heard any more. To be closed first, and [`idle`](Self::idle), so that the peers have been told.
    pub fn release(&self) {
        self.inner.socket.release();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({:?} at {})", self.identity(), self.local_addr())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.quinn.close(VarInt::from_u32(CODE_CLOSED), b"the endpoint is gone");
    }
}

/// Opens a socket, the system's or the one that was given.
pub(crate) fn open(
    listen: SocketAddr,
    socket: Option<Arc<dyn AsyncUdpSocket>>,
    server: Option<quinn::ServerConfig>,
    config: quinn::EndpointConfig,
    limits: &Limits,
) -> io::Result<(quinn::Endpoint, Arc<HeldSocket>)> {
    let runtime = Arc::new(TokioRuntime);
    let socket = match socket {
        Some(socket) => socket,
        None => {
            let socket = settings::bind(listen, limits.socket_buffer_bytes)?;
            Arc::new(Batches(runtime.wrap_udp_socket(socket)?))
        }
    };
    let socket = HeldSocket::new(socket)?;
    let quinn = quinn::Endpoint::new_with_abstract_socket(config, server, Arc::clone(&socket) as _, runtime)?;
    Ok((quinn, socket))
}

fn lost(address: SocketAddr, deadline: Duration, error: &ConnectionError) -> ConnectError {
    match ClosedReason::of(error, None) {
        ClosedReason::Refused(refusal) => ConnectError::Refused { address, refusal },
        ClosedReason::IdleTimeout => ConnectError::Unreachable { address, deadline },
        reason => ConnectError::Lost { address, reason },
    }
}

fn lost_in_hello(address: SocketAddr, error: FrameError) -> ConnectError {
    match error {
        FrameError::Closed(ClosedReason::Refused(refusal)) => ConnectError::Refused { address, refusal },
        FrameError::Closed(reason) => ConnectError::Lost { address, reason },
        other => ConnectError::Lost { address, reason: ClosedReason::Violation(other.to_string()) },
    }
}
