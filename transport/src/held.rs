//! A socket that can be let go while others still have handles to it.
//!
//! quinn keeps a socket as long as there is any handle to its endpoint or to a connection, closed or not. User code that is
//! still in a call may hold one for hours, and the port would be taken until then. So quinn gets this, and the system's
//! socket is in it until [`HeldSocket::release`].

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// A poller of the socket, which holds the socket too.
type Polled = Mutex<Option<Pin<Box<dyn UdpPoller>>>>;

/// The socket. Once released it sends into nothing and hears nothing.
pub(crate) struct HeldSocket {
    /// Locked for writing only to let it go, so that it is let go when that returns.
    inner: RwLock<Option<Arc<dyn AsyncUdpSocket>>>,
    /// One for each connection.
    pollers: Mutex<Vec<Weak<Polled>>>,
    address: SocketAddr,
}

impl HeldSocket {
    pub(crate) fn new(socket: Arc<dyn AsyncUdpSocket>) -> io::Result<Arc<Self>> {
        let address = socket.local_addr()?;
        Ok(Arc::new(Self { inner: RwLock::new(Some(socket)), pollers: Mutex::default(), address }))
    }

    /// Lets the socket go: its address is free.
    pub(crate) fn release(&self) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for poller in self.pollers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(poller) = poller.upgrade() {
                poller.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        }
        inner.take();
    }

    fn with<R>(&self, released: R, use_it: impl FnOnce(&Arc<dyn AsyncUdpSocket>) -> R) -> R {
        match &*self.inner.read().unwrap_or_else(PoisonError::into_inner) {
            Some(socket) => use_it(socket),
            None => released,
        }
    }
}

impl AsyncUdpSocket for HeldSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        // Inside, so that a release that begins now finds the poller.
        let poller = self.with(None, |socket| {
            let poller = Arc::new(Mutex::new(Some(Arc::clone(socket).create_io_poller())));
            let mut pollers = self.pollers.lock().unwrap_or_else(PoisonError::into_inner);
            pollers.retain(|poller| poller.strong_count() > 0);
            pollers.push(Arc::downgrade(&poller));
            Some(poller)
        });
        Box::pin(HeldPoller(poller.unwrap_or_default()))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.with(Ok(()), |socket| socket.try_send(transmit))
    }

    fn poll_recv(&self, cx: &mut Context, to: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        self.with(Poll::Pending, |socket| socket.poll_recv(cx, to, meta))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn max_transmit_segments(&self) -> usize {
        self.with(1, |socket| socket.max_transmit_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.with(1, |socket| socket.max_receive_segments())
    }

    fn may_fragment(&self) -> bool {
        self.with(true, |socket| socket.may_fragment())
    }
}

impl fmt::Debug for HeldSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldSocket({})", self.address)
    }
}

#[derive(Debug)]
struct HeldPoller(Arc<Polled>);

impl UdpPoller for HeldPoller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(poller) => poller.as_mut().poll_writable(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
