//! A socket that sends batches of packets in pieces that the system takes.
//!
//! quinn gives up to ten packets in one call, and the system cuts them apart. A call takes 64 KiB at most; a larger one
//! fails as a packet that is too large for the path does, which quinn expects of its probes and passes over. So, of packets
//! of more than 6.5 KiB, whole batches would be lost, and the path would be taken for one that carries none.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// Bytes that one call may send: what a UDP packet over IPv4 carries, because the system checks the batch as one.
const BATCH_BYTES_MAX: usize = 65_507;

/// The system's socket, with batches that fit.
pub(crate) struct Batches(pub(crate) Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for Batches {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    // If the socket is full half-way, quinn sends all of it again later; a packet that comes twice is known by its number.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(size) = transmit.segment_size.filter(|size| *size > 0 && transmit.contents.len() > BATCH_BYTES_MAX)
        else {
            return self.0.try_send(transmit);
        };
        let Transmit { destination, ecn, src_ip, .. } = *transmit;
        let packets = (BATCH_BYTES_MAX / size).max(1);
        for contents in transmit.contents.chunks(packets * size) {
            let segment_size = (contents.len() > size).then_some(size);
            self.0.try_send(&Transmit { destination, ecn, contents, segment_size, src_ip })?;
        }
        Ok(())
    }

    fn poll_recv(&self, cx: &mut Context, to: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, to, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batches({:?})", self.0)
    }
}
