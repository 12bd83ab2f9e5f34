//! quinn's settings, made of [`Limits`]. What is not set here is quinn's default on purpose: segmentation offload on,
//! first packets of 1,200 bytes (larger ones fail on some paths; discovery raises it in a few round trips).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::{MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};

use crate::Lane;
use crate::identity::Identity;
use crate::limits::{Congestion, Limits};

/// Largest UDP payload that IPv4 carries, less what IP and UDP add: what both sides say they take.
const UDP_PAYLOAD_BYTES_MAX: u16 = 65_527;
/// Bytes that may be under way before the path is known. A probe for a larger packet counts among them and holds back all
/// else, a close included, until it is answered or given up: so this is several of the largest probe. quinn's default is
/// less than one.
const INITIAL_WINDOW_BYTES: u64 = 256 << 10;
/// Pause after which larger packets are tried again when some were lost. quinn takes a few losses of large packets for a path
/// that has come to drop them, though a full socket buffer does it too, and goes on with 1,200 bytes, at a tenth of the rate
/// on loopback; by its default for a minute. A path that does drop them costs a few probes at each such pause.
const LARGE_PACKETS_AGAIN: Duration = Duration::from_secs(1);
/// Packets of unaccepted connections that may wait, in bytes: one connection's, and all together.
const INCOMING_BYTES_MAX: u64 = 64 << 10;
const INCOMING_BYTES_MAX_TOTAL: u64 = 4 << 20;

/// Settings of the endpoint; a seed makes its choices repeatable.
///
/// What it needs to disown connections of an earlier process at its address follows from the identity's key: so peers of a
/// process that died learn of it with their next packet to the one that came after, not by silence.
pub(crate) fn endpoint(identity: Option<&Identity>, seed: Option<u64>) -> quinn::EndpointConfig {
    let mut config = match identity {
        Some(identity) => {
            let reset = hmac::Key::new(hmac::HMAC_SHA256, &identity.derived(b"stateless reset"));
            let [a, b, c, d, e, f, g, h, ..] = identity.derived(b"connection ids");
            let id_key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            let mut config = quinn::EndpointConfig::new(Arc::new(reset));
            config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
            config
        }
        None => quinn::EndpointConfig::default(),
    };
    config.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX).expect("within what QUIC allows");
    if let Some(seed) = seed {
        let mut bytes = [0; 32];
        let (start, _) = bytes.split_at_mut(8);
        start.copy_from_slice(&seed.to_le_bytes());
        config.rng_seed(Some(bytes));
    }
    config
}

/// Settings of a connection before it is welcome: one stream, and windows for a Hello. [`open_up`] follows.
pub(crate) fn connection(limits: &Limits, stream_window: u32) -> Arc<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(limits.mtu_bytes_max).black_hole_cooldown(LARGE_PACKETS_AGAIN);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(stream_window))
        .receive_window(VarInt::try_from(limits.hello_bytes as u64).unwrap_or(VarInt::MAX))
        .send_window(limits.send_window_bytes)
        .max_idle_timeout(limits.idle_timeout.try_into().ok())
        .keep_alive_interval(Some(limits.keep_alive))
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(mtu));
    let (mut cubic, mut bbr) = (CubicConfig::default(), BbrConfig::default());
    cubic.initial_window(INITIAL_WINDOW_BYTES);
    bbr.initial_window(INITIAL_WINDOW_BYTES);
    match limits.congestion {
        Congestion::Cubic => config.congestion_controller_factory(Arc::new(cubic)),
        Congestion::Bbr => config.congestion_controller_factory(Arc::new(bbr)),
    };
    Arc::new(config)
}

/// Gives a welcome peer the streams and windows of its lane.
pub(crate) fn open_up(connection: &quinn::Connection, limits: &Limits, lane: Lane) {
    connection.set_receive_window(match lane {
        Lane::Control => VarInt::from_u32(limits.control_window_bytes),
        Lane::Data => VarInt::MAX,
    });
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(limits.streams));
}

/// The stream window of a connection that this side opens.
pub(crate) fn stream_window(limits: &Limits, lane: Lane) -> u32 {
    match lane {
        Lane::Control => limits.control_stream_window_bytes,
        Lane::Data => limits.data_stream_window_bytes,
    }
}

/// Settings for those who connect to us.
pub(crate) fn server(crypto: quinn::crypto::rustls::QuicServerConfig, limits: &Limits) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(connection(limits, limits.data_stream_window_bytes))
        .max_incoming(limits.handshakes)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_MAX_TOTAL)
        // A node has one address; one that moves is a new connection.
        .migration(false);
    config
}

/// A UDP socket with buffers large enough for bulk data. The system may grant less than is asked for.
pub(crate) fn bind(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(buffer_bytes)?;
    socket.set_send_buffer_size(buffer_bytes)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
