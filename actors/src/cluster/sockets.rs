//! How the processes of a cluster open their UDP sockets: as the system does, or another way.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mobula_transport::AsyncUdpSocket;

/// Opens the UDP sockets of a head, node or driver. The default is a socket of the system, bound to where the process
/// listens; another way is for sockets that need more than that (a device to be bound to, a mark for the firewall) and for
/// networks in memory. Cheap to clone.
///
/// A node opens a socket each time it joins, so this is a way to have them and not a socket.
///
/// ```
/// use mobula_actors::cluster::Sockets;
/// use mobula_transport::SimNetwork;
/// let network = SimNetwork::new(7);
/// let simulated = Sockets::new(move |listen| Ok(network.socket(listen)));
/// assert_eq!(format!("{simulated:?} {:?}", Sockets::default()), "Sockets(own) Sockets(system)");
/// ```
#[derive(Clone, Default)]
pub struct Sockets {
    open: Option<Arc<Open>>,
}

type Open = dyn Fn(SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> + Send + Sync;

impl Sockets {
    /// Sockets that `open` makes. It is given the address to listen on (for a driver: any address, port 0), and is called in
    /// the tokio runtime that will use the socket.
    pub fn new(open: impl Fn(SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> + Send + Sync + 'static) -> Self {
        Self { open: Some(Arc::new(open)) }
    }

    /// A socket; `None` says that the transport opens one of the system.
    pub(crate) fn open(&self, listen: SocketAddr) -> io::Result<Option<Arc<dyn AsyncUdpSocket>>> {
        self.open.as_ref().map(|open| open(listen)).transpose()
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.open.is_some() { "Sockets(own)" } else { "Sockets(system)" })
    }
}
