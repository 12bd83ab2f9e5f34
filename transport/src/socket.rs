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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    /// Keeps the packets, and refuses what the system would refuse.
    #[derive(Debug, Default)]
    struct System(Mutex<Vec<Vec<u8>>>);

    impl AsyncUdpSocket for System {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            panic!("nobody waits for it")
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            if transmit.contents.len() > BATCH_BYTES_MAX {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let size = transmit.segment_size.unwrap_or(BATCH_BYTES_MAX);
            self.0.lock().unwrap().extend(transmit.contents.chunks(size).map(<[u8]>::to_vec));
            Ok(())
        }

        fn poll_recv(&self, _: &mut Context, _: &mut [IoSliceMut<'_>], _: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }
    }

    proptest! {
        #[test]
        fn the_packets_of_any_batch_are_sent_as_they_are(size in 1_000..65_507usize, full in 0..10usize, rest in 1..1_000usize) {
            let contents: Vec<u8> = (0..full * size + rest).map(|at| (at % 251) as u8).collect();
            let segment_size = (full > 0).then_some(size);
            let destination = SocketAddr::from(([127, 0, 0, 1], 2));
            let system = Arc::new(System::default());
            let transmit = Transmit { destination, ecn: None, contents: &contents, segment_size, src_ip: None };
            Batches(system.clone()).try_send(&transmit).unwrap();
            let sent = system.0.lock().unwrap();
            let expected: Vec<&[u8]> = contents.chunks(size).collect();
            prop_assert_eq!(sent.iter().map(Vec::as_slice).collect::<Vec<_>>(), expected);
        }
    }
}
