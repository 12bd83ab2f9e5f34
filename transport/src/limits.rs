//! Every limit of the transport, with its unit, its default and the reason for it.
//!
//! The defaults were measured between two processes on two cores; see `docs/internals/wire.md` for the protocol they bound.

use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Bytes of what a side may say of itself beyond the fixed fields ([`About::details`](crate::About)), and of a welcome.
pub const DETAILS_BYTES_MAX: usize = 64 * KIB;
/// Operators that one binary may have registered; their names are compared at each Hello.
pub const OPERATORS_MAX: usize = 10_000;
/// Bytes of a join request or its answer: a secret, a name, a public key, a certificate.
pub(crate) const JOIN_BYTES_MAX: usize = 8 * KIB;
/// Bytes of a reason that travels with a refusal or a close: it has to fit one packet of the smallest size.
pub(crate) const REASON_BYTES_MAX: usize = 512;

/// Limits of an endpoint and its connections. Both sides have their own; neither believes the other's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one Hello or Welcome. Default 1 MiB: 10,000 operator names and 64 KiB of details fit. A larger value is
    /// what a peer of this cluster may make us hold before it is welcome.
    pub hello_bytes: usize,
    /// Bytes of a call's request or of its reply. Default 16 MiB: plans and reports fit, blocks have a way of their own.
    pub call_frame_bytes: usize,
    /// Bytes of one frame of a task stream, its head included. Default 16 MiB, as for calls.
    pub stream_frame_bytes: usize,
    /// Bytes of one block. Default 2 GiB: Arrow's 32-bit offsets end there. It is checked before any memory is taken.
    pub block_bytes: u64,
    /// Incoming calls of one connection that are read and not yet answered. Default 256: this is what one peer can put
    /// into our mailboxes. Further calls wait unread.
    pub calls_in_flight: usize,
    /// Bytes of those calls' requests together. Default 64 MiB; one larger request is let in alone rather than never.
    pub calls_in_flight_bytes: usize,
    /// Streams open at a time in each direction of a connection: calls, task streams and fetches together. Default 1,024.
    /// Who opens one more waits.
    pub streams: u32,
    /// Incoming calls, streams and fetches that are read and wait for `Connection::accept`. Default 32.
    pub inbound_queue: usize,
    /// Bytes of one stream that may wait unread, for a control connection that this side opened. Default 1 MiB.
    pub control_stream_window_bytes: u32,
    /// Bytes of all streams of a control connection that may wait unread. Default 64 MiB.
    pub control_window_bytes: u32,
    /// Bytes of one stream that may wait unread, for data connections and for all connections accepted (which lane one is
    /// on is known only after the handshake). Default 8 MiB: one block, and a full line of 25 Gbit/s at 2.5 ms. It adds to
    /// the bound of each edge. Data connections have no window over all streams: with one, a stalled edge starves the
    /// others. So the bound of a data connection is `streams` times this.
    pub data_stream_window_bytes: u32,
    /// Bytes written and not yet acknowledged, all streams of a connection together. Default 32 MiB, four blocks.
    pub send_window_bytes: u64,
    /// Silence after which a connection is lost. Default 6 s: who watches its peers by messages of its own (the head of a
    /// cluster: 5 s) has decided before, so that it is one place that says who is dead; shorter, and a connection ends a
    /// life that was still given time. Longer, and a side that watches nobody (a driver, a node whose head died) learns so
    /// much later that it waits in vain. The lower of both sides' counts.
    pub idle_timeout: Duration,
    /// Pause after which a packet is sent only to show that this side lives. Default 0.5 s: a connection on which one packet
    /// came through in twelve lives on, and after a path was cut for a while it is in use again half a second after it is
    /// healed: the answer to this packet tells what else was lost. Longer, and messages sent meanwhile wait for the next
    /// retry, whose pause has doubled with each. Shorter, and idle connections keep both sides awake.
    pub keep_alive: Duration,
    /// Bytes of the largest packet to look for on a path. Default 65,500: loopback takes it, with a quarter of the work per
    /// byte of 1,452. On other paths discovery ends lower and nothing is lost.
    pub mtu_bytes_max: u16,
    /// Bytes of each of the socket's two buffers. Default 4 MiB: at 0.2 MiB bulk data is lost on loopback. The system may
    /// grant less (`net.core.rmem_max`).
    pub socket_buffer_bytes: usize,
    /// Time for the TLS handshake, and again for Hello and Welcome. Default 5 s.
    pub hello_deadline: Duration,
    /// Connections that are accepted and not yet welcome. Default 256; above half of it an address has to prove itself
    /// first, above all of it new ones are refused.
    pub handshakes: usize,
    /// Connections of the endpoint that others opened. Default 4,096: two for each node of a large cluster.
    pub connections: usize,
    /// First pause before a connection is tried again. Default 100 ms.
    pub reconnect_min: Duration,
    /// Longest such pause. Default 5 s: a head that is back is found within it.
    pub reconnect_max: Duration,
    /// Share of each such pause that is left to chance, in percent. Default 50, so that nodes do not come back in step.
    pub reconnect_jitter_percent: u32,
    /// How a data connection fills its path. Default [`Congestion::Cubic`].
    pub congestion: Congestion,
}

/// How a connection finds out how much its path can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// Right where losses are rare, as in one data centre.
    #[default]
    Cubic,
    /// Twice to nine times faster where 0.1 to 1 % of packets are lost; its implementation is experimental.
    Bbr,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hello_bytes: MIB,
            call_frame_bytes: 16 * MIB,
            stream_frame_bytes: 16 * MIB,
            block_bytes: 2 << 30,
            calls_in_flight: 256,
            calls_in_flight_bytes: 64 * MIB,
            streams: 1_024,
            inbound_queue: 32,
            control_stream_window_bytes: 1 << 20,
            control_window_bytes: 64 << 20,
            data_stream_window_bytes: 8 << 20,
            send_window_bytes: 32 << 20,
            idle_timeout: Duration::from_secs(6),
            keep_alive: Duration::from_millis(500),
            mtu_bytes_max: 65_500,
            socket_buffer_bytes: 4 * MIB,
            hello_deadline: Duration::from_secs(5),
            handshakes: 256,
            connections: 4_096,
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(5),
            reconnect_jitter_percent: 50,
            congestion: Congestion::Cubic,
        }
    }
}
