//! What does the wire cost between two processes of one machine? Blocks by the second and processor time for them, calls
//! and how long they take, and what a stream that nobody reads leaves its neighbour.
//!
//! Blocks of 8 MiB are fetched four at a time into buffers that are used again. The same blocks go over TCP with rustls
//! (one connection, blocking reads and writes, no checksum) and are copied once within this process, in turns. The
//! endpoint of each process runs on a runtime of one thread, as does who calls. `--rounds N` makes more or fewer rounds.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench takes real time, and the sides it compares are threads and tasks"
)]
#![allow(clippy::print_stdout, reason = "a bench says what it found")]

#[path = "support/wire_peer.rs"]
mod peer;
#[path = "support/wire_tls.rs"]
mod tls;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use mobula_actors::operator::BoxError;
use mobula_transport::{Authority, Connection, Endpoint, Lane, NodeId, Role};

use peer::{Ask, BLOCK_BYTES, FRAME_BYTES, HERE, Peer, SERVE, THERE};

const ROUNDS: usize = 9;
/// Blocks of a round: 1 GiB.
const BLOCKS: usize = 128;
/// Blocks on their way at a time.
const IN_FLIGHT: usize = 4;
const CALLERS: usize = 128;
/// Calls of a round by one caller, and by 128 together.
const CALLS_OF_ONE: usize = 4_000;
const CALLS_OF_ALL: usize = 64_000;
/// Frames of a round on the stream beside the stalled one: 2 GiB.
const FRAMES: u32 = 2_048;
/// Frames for the stalled one: more than anyone will read.
const FRAMES_UNREAD: u32 = 1 << 20;
/// Time in which the stalled stream fills its window.
const STALL: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some([_, folder]) = arguments.windows(2).find(|pair| pair.first().is_some_and(|name| name == SERVE)) {
        return peer::serve(Path::new(folder));
    }
    let rounds = arguments.windows(2).find(|pair| pair.first().is_some_and(|name| name == "--rounds"));
    let rounds = rounds.and_then(|pair| pair.get(1)).map_or(Ok(ROUNDS), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let name = certify(dir.path())?;
    let peer = Peer::start(dir.path())?;
    peer::runtime()?.block_on(async {
        let sides = Sides::connect(dir.path(), &peer, name).await?;
        let mut figures = sides.blocks(rounds).await?;
        figures.extend(sides.calls(rounds).await?);
        figures.extend(sides.stalled_neighbour(rounds).await?);
        figures.iter().for_each(|figure| println!("figure {figure}"));
        Ok(())
    })
}

/// Makes a cluster of two in a folder; its name in TLS.
fn certify(folder: &Path) -> Result<String, BoxError> {
    let authority = Authority::create(&folder.join("cluster"))?;
    for name in [HERE, THERE] {
        authority.issue(Role::Node, NodeId::new(name)?)?.save(&folder.join(name))?;
    }
    Ok(format!("{}.mobula", authority.cluster()))
}

/// This process and its connections to the other.
struct Sides {
    endpoint: Endpoint,
    control: Connection,
    data: Connection,
    peer: std::net::SocketAddr,
    tls: std::net::SocketAddr,
    folder: PathBuf,
    name: String,
}

impl Sides {
    async fn connect(folder: &Path, peer: &Peer, name: String) -> Result<Self, BoxError> {
        let folder = folder.join(HERE);
        let endpoint = peer::endpoint(&folder)?;
        let control = endpoint.connect(peer.quic, Lane::Control).await?;
        let data = endpoint.connect(peer.quic, Lane::Data).await?;
        Ok(Self { endpoint, control, data, peer: peer.quic, tls: peer.tls, folder, name })
    }

    /// Processor time of both processes so far, in seconds.
    async fn cpu(&self) -> Result<f64, BoxError> {
        let there: u64 = self.control.call(&Ask::Cpu, DEADLINE).await?;
        Ok((there + peer::cpu()?) as f64 / 1e3)
    }

    async fn blocks(&self, rounds: usize) -> Result<Vec<String>, BoxError> {
        let mut pipe = tls::connect(&self.folder, self.tls, self.name.clone())?;
        let sources = peer::blocks();
        let mut buffers = vec![vec![0; BLOCK_BYTES]; IN_FLIGHT];
        let [mut ours, mut by_tls, mut copied] = [const { Vec::new() }; 3];
        let [mut our_cpu, mut tls_cpu] = [const { Vec::new() }; 2];
        for round in 0..=rounds {
            let before = self.cpu().await?;
            let quic = rate(self.pull(&mut buffers)).await?;
            let between = self.cpu().await?;
            let tls = rate(async { tls::pull(&mut pipe, BLOCKS, &mut buffers) }).await?;
            let after = self.cpu().await?;
            let copy = rate(async {
                for (block, buffer) in (0..BLOCKS).map(|number| (&sources[number % sources.len()], number % IN_FLIGHT))
                {
                    buffers[buffer].copy_from_slice(block);
                    std::hint::black_box(&buffers);
                }
                Ok(())
            });
            let copy = copy.await?;
            println!("blocks round {round}: {quic:.2} GB/s, TCP and TLS {tls:.2}, memcpy {copy:.1}");
            // The first finds its packet size and its memory.
            if round > 0 {
                ours.push(quic);
                by_tls.push(tls);
                copied.push(copy);
                our_cpu.push(between - before);
                tls_cpu.push(after - between);
            }
        }
        let [ours, by_tls, copied, cpu, tls_cpu] = [ours, by_tls, copied, our_cpu, tls_cpu].map(median);
        Ok(vec![
            format!("transport.blocks.rate {ours:.2} GB/s"),
            format!("transport.blocks.cpu {:.2} s/GB", cpu / round_gb()),
            format!("transport.blocks.tls_rate {by_tls:.2} GB/s"),
            format!("transport.blocks.tls_cpu {:.2} s/GB", tls_cpu / round_gb()),
            format!("transport.blocks.vs_tls {:.2} ratio", ours / by_tls),
            format!("transport.blocks.vs_memcpy {:.3} ratio", ours / copied),
        ])
    }

    /// Fetches the blocks of a round, each buffer's one after the other.
    async fn pull(&self, buffers: &mut [Vec<u8>]) -> Result<(), BoxError> {
        let places = buffers.len();
        let fetch = async |place: usize, buffer: &mut Vec<u8>| {
            for number in (place..BLOCKS).step_by(places) {
                let ((), block) = self.data.fetch::<usize, ()>(&number, DEADLINE).await?;
                *buffer = block.read(std::mem::take(buffer)).await?;
                if buffer.len() != BLOCK_BYTES || buffer.last() != Some(&((number % peer::SOURCES) as u8 + 1)) {
                    return Err(format!("block {number} is another").into());
                }
            }
            Ok::<_, BoxError>(())
        };
        try_join_all(buffers.iter_mut().enumerate().map(|(place, buffer)| fetch(place, buffer))).await?;
        Ok(())
    }

    async fn calls(&self, rounds: usize) -> Result<Vec<String>, BoxError> {
        let [mut one_50, mut one_99, mut all_50, mut all_99, mut rates] = [const { Vec::new() }; 5];
        for round in 0..=rounds {
            let one = self.call_times(CALLS_OF_ONE).await?;
            let start = Instant::now();
            let all = try_join_all((0..CALLERS).map(|_| self.call_times(CALLS_OF_ALL / CALLERS))).await?.concat();
            let rate = CALLS_OF_ALL as f64 / start.elapsed().as_secs_f64();
            println!("calls round {round}: one caller {:.1} us, {CALLERS} callers {rate:.0} calls/s", at(&one, 50));
            if round > 0 {
                one_50.push(at(&one, 50));
                one_99.push(at(&one, 99));
                rates.push(rate);
                all_50.push(at(&all, 50));
                all_99.push(at(&all, 99));
            }
        }
        let [one_50, one_99, all_50, all_99, rate] = [one_50, one_99, all_50, all_99, rates].map(median);
        Ok(vec![
            format!("transport.calls.1.rate {:.0} calls/s", 1e6 / one_50),
            format!("transport.calls.1.p50 {one_50:.1} us"),
            format!("transport.calls.1.p99 {one_99:.1} us"),
            format!("transport.calls.128.rate {rate:.0} calls/s"),
            format!("transport.calls.128.p50 {all_50:.1} us"),
            format!("transport.calls.128.p99 {all_99:.1} us"),
        ])
    }

    /// Calls one after the other; how long each took, in microseconds.
    async fn call_times(&self, calls: usize) -> Result<Vec<f64>, BoxError> {
        let mut times = Vec::with_capacity(calls);
        for number in 0..calls as u64 {
            let start = Instant::now();
            let reply: u64 = self.control.call(&Ask::Echo(number), DEADLINE).await?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
            if reply != number {
                return Err("the reply is another's".into());
            }
        }
        Ok(times)
    }

    async fn stalled_neighbour(&self, rounds: usize) -> Result<Vec<String>, BoxError> {
        let alone = self.endpoint.connect(self.peer, Lane::Data).await?;
        let shared = self.endpoint.connect(self.peer, Lane::Data).await?;
        let stalled = shared.open_stream(&FRAMES_UNREAD).await?;
        tokio::time::sleep(STALL).await;
        let [mut free, mut beside] = [const { Vec::new() }; 2];
        for round in 0..=rounds {
            let (one, other) = match round % 2 {
                0 => (frames(&alone).await?, frames(&shared).await?),
                _ => {
                    let other = frames(&shared).await?;
                    (frames(&alone).await?, other)
                }
            };
            println!("frames round {round}: alone {one:.2} GB/s, beside a stalled stream {other:.2}");
            if round > 0 {
                free.push(one);
                beside.push(other);
            }
        }
        drop(stalled);
        let ratios = beside.iter().zip(&free).map(|(beside, free)| beside / free).collect();
        Ok(vec![
            format!("transport.frames.rate {:.2} GB/s", median(free)),
            format!("transport.stalled_neighbour {:.3} ratio", median(ratios)),
        ])
    }
}

/// Reads a stream of frames to its end; GB by the second.
async fn frames(connection: &Connection) -> Result<f64, BoxError> {
    let start = Instant::now();
    let (tx, mut rx) = connection.open_stream(&FRAMES).await?;
    let mut bytes = 0;
    while let Some(frame) = rx.next::<String>().await? {
        bytes += frame.len();
    }
    tx.finish().await?;
    match bytes == FRAMES as usize * FRAME_BYTES {
        true => Ok(bytes as f64 / 1e9 / start.elapsed().as_secs_f64()),
        false => Err("frames are missing".into()),
    }
}

fn round_gb() -> f64 {
    (BLOCKS * BLOCK_BYTES) as f64 / 1e9
}

/// GB by the second of something that moves the blocks of a round.
async fn rate(work: impl Future<Output = Result<(), BoxError>>) -> Result<f64, BoxError> {
    let start = Instant::now();
    work.await?;
    Ok(round_gb() / start.elapsed().as_secs_f64())
}

/// The value below which so many percent of them are.
fn at(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() * percent / 100).copied().unwrap_or_default()
}

fn median(values: Vec<f64>) -> f64 {
    at(&values, 50)
}
