//! A network in memory for tests: the same endpoints over sockets that lose, delay, double and cut off packets by a seed.
//!
//! It knows no node and no frame: it carries UDP packets on tokio's clock, so that under paused time and on one thread a run
//! is repeated by its seed. Start at [`SimNetwork`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, Sleep};

/// Packets that wait at a socket; more are lost, as in a socket's buffer.
const QUEUE_PACKETS_MAX: usize = 4_096;

/// A network of sockets in memory. Clones share it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use mobula_transport::SimNetwork;
/// let network = SimNetwork::new(7);
/// network.loss(100); // a tenth of all packets
/// let (a, b) = ("10.0.0.1:1".parse()?, "10.0.0.2:1".parse()?);
/// let _sockets = (network.socket(a), network.socket(b));
/// network.partition(a, b);
/// network.heal(a, b);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SimNetwork {
    state: Arc<Mutex<State>>,
}

struct State {
    random: SmallRng,
    start: Instant,
    loss_permille: u32,
    duplicate_permille: u32,
    delay: Range<Duration>,
    mtu_bytes: usize,
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    sockets: BTreeMap<SocketAddr, Queue>,
    sockets_made: u64,
    sent: u64,
    trace: u64,
}

#[derive(Default)]
struct Queue {
    /// Which socket it belongs to, of all that were ever at its address.
    number: u64,
    /// By time of arrival, then by order of sending.
    coming: BTreeMap<(Duration, u64), Packet>,
    waker: Option<Waker>,
}

struct Packet {
    from: SocketAddr,
    bytes: Vec<u8>,
    ecn: Option<EcnCodepoint>,
}

impl SimNetwork {
    /// A network that loses nothing and takes 0.1 to 0.2 ms; all its chance comes from the seed. On tokio's clock.
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: SmallRng::seed_from_u64(seed),
            start: Instant::now(),
            loss_permille: 0,
            duplicate_permille: 0,
            delay: Duration::from_micros(100)..Duration::from_micros(200),
            mtu_bytes: usize::from(u16::MAX),
            cut: BTreeSet::new(),
            sockets: BTreeMap::new(),
            sockets_made: 0,
            sent: 0,
            trace: 0xcbf2_9ce4_8422_2325,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A socket at an address, in place of one that was there: a process that starts, on the clock of this network.
    pub fn socket(&self, address: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        let start = self.state().start;
        self.socket_on(address, Clock { read: start, time: Duration::ZERO })
    }

    /// The same in a process with a clock of its own: a tokio runtime in which it is `time` after the network's start now.
    /// Who steps such processes keeps their clocks together.
    pub fn socket_at(&self, address: SocketAddr, time: Duration) -> Arc<dyn AsyncUdpSocket> {
        self.socket_on(address, Clock { read: Instant::now(), time })
    }

    fn socket_on(&self, address: SocketAddr, clock: Clock) -> Arc<dyn AsyncUdpSocket> {
        let mut state = self.state();
        state.sockets_made += 1;
        let number = state.sockets_made;
        state.sockets.insert(address, Queue { number, ..Queue::default() });
        Arc::new(SimSocket { address, number, clock, network: self.clone(), alarm: Mutex::new(None) })
    }

    /// Takes the socket at an address away: a process that dies. What its endpoint sends from now on is lost.
    pub fn crash(&self, address: SocketAddr) {
        self.state().sockets.remove(&address);
    }

    /// Loses all packets between two addresses, both ways.
    pub fn partition(&self, a: SocketAddr, b: SocketAddr) {
        self.cut(a, b);
        self.cut(b, a);
    }

    /// Loses all packets from one address to another.
    pub fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.state().cut.insert((from, to));
    }

    /// Undoes [`partition`](Self::partition) and [`cut`](Self::cut) between two addresses.
    pub fn heal(&self, a: SocketAddr, b: SocketAddr) {
        let mut state = self.state();
        state.cut.remove(&(a, b));
        state.cut.remove(&(b, a));
    }

    /// Loses this many of a thousand packets.
    pub fn loss(&self, permille: u32) {
        self.state().loss_permille = permille;
    }

    /// Carries this many of a thousand packets twice.
    pub fn duplicate(&self, permille: u32) {
        self.state().duplicate_permille = permille;
    }

    /// How long packets take; each its own time, so that they overtake each other.
    pub fn delay(&self, range: Range<Duration>) {
        self.state().delay = range;
    }

    /// Loses packets larger than this many bytes.
    pub fn mtu(&self, bytes: usize) {
        self.state().mtu_bytes = bytes;
    }

    /// Packets sent so far.
    pub fn packets(&self) -> u64 {
        self.state().sent
    }

    /// A hash of all packets so far: when, from where, where to, how long, lost or not. Equal runs have equal ones.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the network")
    }
}

impl fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimNetwork({} packets)", self.packets())
    }
}

impl State {
    /// Sends one packet on its way, or loses it. Returns who has to look again.
    fn send(
        &mut self,
        now: Duration,
        (from, to): (SocketAddr, SocketAddr),
        bytes: &[u8],
        ecn: Option<EcnCodepoint>,
    ) -> Option<Waker> {
        // All chances are drawn whether they are used or not, so that a cut changes nothing for the packets after it.
        let (loss, duplicate) = (self.random.random_range(0..1_000), self.random.random_range(0..1_000));
        let (first, second) = (self.take(), self.take());
        let is_cut = self.cut.contains(&(from, to));
        let lost = is_cut || loss < self.loss_permille || bytes.len() > self.mtu_bytes;
        let nanos = now.as_nanos() as u64;
        for word in [nanos, u64::from(from.port()), u64::from(to.port()), bytes.len() as u64, u64::from(lost)] {
            self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3);
        }
        if lost {
            self.sent += 1;
            return None;
        }
        let mut times = vec![now + first];
        if duplicate < self.duplicate_permille {
            times.push(now + second);
        }
        let queue = self.sockets.get_mut(&to)?;
        let earliest = queue.coming.keys().next().map(|(at, _)| *at);
        for at in times.iter().take(QUEUE_PACKETS_MAX.saturating_sub(queue.coming.len())) {
            self.sent += 1;
            queue.coming.insert((*at, self.sent), Packet { from, bytes: bytes.to_vec(), ecn });
        }
        // Who waits for an earlier packet wakes up for that one anyway.
        let is_earliest = earliest.is_none_or(|earliest| times.iter().any(|at| *at < earliest));
        if is_earliest { queue.waker.take() } else { None }
    }

    fn take(&mut self) -> Duration {
        match self.delay.is_empty() {
            true => self.delay.start,
            false => self.random.random_range(self.delay.clone()),
        }
    }
}

/// How the clock of a process tells the network's time.
#[derive(Clone, Copy)]
struct Clock {
    /// What it read once,
    read: Instant,
    /// and the network's time then.
    time: Duration,
}

impl Clock {
    fn now(self) -> Duration {
        self.time + Instant::now().duration_since(self.read)
    }

    fn at(self, time: Duration) -> Instant {
        self.read + time.saturating_sub(self.time)
    }
}

/// A socket of a [`SimNetwork`].
struct SimSocket {
    address: SocketAddr,
    number: u64,
    clock: Clock,
    network: SimNetwork,
    /// Set to when the next packet arrives.
    alarm: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl SimSocket {
    /// Packets that have arrived, at most this many; else when the next one does.
    fn arrived(&self, at_most: usize, waker: &Waker) -> Result<VecDeque<Packet>, Option<Instant>> {
        let mut state = self.network.state();
        let now = self.clock.now();
        let queue = state.sockets.get_mut(&self.address).filter(|queue| queue.number == self.number);
        let Some(queue) = queue else { return Err(None) };
        let mut arrived = VecDeque::new();
        while arrived.len() < at_most {
            match queue.coming.first_entry() {
                Some(entry) if entry.key().0 <= now => arrived.push_back(entry.remove()),
                Some(entry) if arrived.is_empty() => {
                    queue.waker = Some(waker.clone());
                    return Err(Some(self.clock.at(entry.key().0)));
                }
                None if arrived.is_empty() => {
                    queue.waker = Some(waker.clone());
                    return Err(None);
                }
                _ => break,
            }
        }
        Ok(arrived)
    }

    /// Whether the next packet's time has come meanwhile; else the task is woken then.
    fn is_due(&self, at: Instant, cx: &mut Context<'_>) -> bool {
        let mut alarm = self.alarm.lock().expect("nothing panics while it holds the alarm");
        let alarm = alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        alarm.as_mut().reset(at);
        alarm.as_mut().poll(cx).is_ready()
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.address)
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for bytes in transmit.contents.chunks(segment) {
            let mut state = self.network.state();
            if state.sockets.get(&self.address).is_none_or(|queue| queue.number != self.number) {
                return Ok(());
            }
            let way = (self.address, transmit.destination);
            let woken = state.send(self.clock.now(), way, bytes, transmit.ecn);
            drop(state);
            if let Some(waker) = woken {
                waker.wake();
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.arrived(buffers.len().min(meta.len()), cx.waker()) {
                Ok(packets) => {
                    let count = packets.len();
                    for ((packet, buffer), meta) in packets.into_iter().zip(buffers).zip(meta) {
                        let length = packet.bytes.len().min(buffer.len());
                        let (place, bytes) = (buffer.get_mut(..length), packet.bytes.get(..length));
                        place.zip(bytes).into_iter().for_each(|(place, bytes)| place.copy_from_slice(bytes));
                        *meta =
                            RecvMeta { addr: packet.from, len: length, stride: length, ecn: packet.ecn, dst_ip: None };
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(Some(at)) if self.is_due(at, cx) => {}
                Err(_) => return Poll::Pending,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// A simulated socket always takes a packet; whether it arrives is another matter.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
