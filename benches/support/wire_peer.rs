//! The other process of the transport's bench: it answers calls, sends blocks and frames, and says what it cost.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use mobula_actors::operator::BoxError;
use mobula_transport::{About, Config, Connection, Endpoint, FrameSender, Identity, Inbound, Limits};
use serde::{Deserialize, Serialize};

use crate::tls;

/// First argument of the other process; its folder follows.
pub(crate) const SERVE: &str = "--serve";
/// Folders of the two identities, below that one.
pub(crate) const HERE: &str = "here";
pub(crate) const THERE: &str = "there";

pub(crate) const BLOCK_BYTES: usize = 8 << 20;
/// Different blocks that there are, so that they do not all come from the processor's cache.
pub(crate) const SOURCES: usize = 8;
pub(crate) const FRAME_BYTES: usize = 1 << 20;

/// What can be called.
#[derive(Serialize, Deserialize)]
pub(crate) enum Ask {
    /// The same number again.
    Echo(u64),
    /// The processor time that this process has taken, in milliseconds.
    Cpu,
}

/// The other process, as seen from the one that measures; it ends with this.
pub(crate) struct Peer {
    child: Child,
    pub(crate) quic: SocketAddr,
    pub(crate) tls: SocketAddr,
}

impl Peer {
    pub(crate) fn start(folder: &Path) -> Result<Self, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(SERVE).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("the other process has no output")?).read_line(&mut line)?;
        let (quic, tls) = line.trim().split_once(' ').ok_or("the other process did not start")?;
        Ok(Self { child, quic: quic.parse()?, tls: tls.parse()? })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends when its input does.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// An endpoint with the identity of a folder, on the runtime that this is called in.
pub(crate) fn endpoint(folder: &Path) -> Result<Endpoint, BoxError> {
    let config = Config {
        identity: Identity::load(folder)?,
        listen: "127.0.0.1:0".parse()?,
        about: About { build: "bench".into(), ..About::default() },
        limits: Limits::default(),
        authority: None,
        socket: None,
    };
    Ok(Endpoint::start(config, |_| Ok(Vec::new()))?)
}

/// The fastest for small calls: one thread with a runtime of its own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, BoxError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Blocks that differ.
pub(crate) fn blocks() -> Vec<Bytes> {
    (0..SOURCES).map(|number| Bytes::from(vec![number as u8 + 1; BLOCK_BYTES])).collect()
}

/// Processor time of this process, both modes, in milliseconds.
pub(crate) fn cpu() -> Result<u64, BoxError> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold anything; the kernel counts in hundredths here.
    let fields = text.rsplit_once(") ").ok_or("no fields")?.1.split(' ').skip(11).take(2);
    let ticks = fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks * 10)
}

/// The other process's whole life.
pub(crate) fn serve(folder: &Path) -> Result<(), BoxError> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let blocks = blocks();
    let tls = tls::listen(&folder.join(THERE), blocks.clone())?;
    runtime()?.block_on(async {
        let endpoint = endpoint(&folder.join(THERE))?;
        println!("{} {tls}", endpoint.local_addr());
        while let Some(connection) = endpoint.accept().await {
            tokio::spawn(answer(connection, blocks.clone()));
        }
        Ok(())
    })
}

async fn answer(connection: Connection, blocks: Vec<Bytes>) {
    while let Ok(inbound) = connection.accept().await {
        // Who asked gets an error in its turn if this one fails.
        match inbound {
            Inbound::Call(call) => {
                let number = match call.decode() {
                    Ok(Ask::Echo(number)) => number,
                    Ok(Ask::Cpu) => cpu().unwrap_or_default(),
                    Err(_) => continue,
                };
                let _ = call.reply(&number).await;
            }
            Inbound::Fetch(fetch) => {
                let number = fetch.decode::<usize>().unwrap_or_default();
                let block = blocks.get(number % SOURCES).cloned().into_iter().collect();
                tokio::spawn(async move { fetch.send(&(), block).await });
            }
            Inbound::Stream { head, tx, rx } => {
                let frames = mobula_transport::codec::decode(&head, 16).unwrap_or(0);
                tokio::spawn(async move {
                    let _ = send(frames, tx).await;
                    drop(rx);
                });
            }
        }
    }
}

async fn send(frames: u32, mut tx: FrameSender) -> Result<(), BoxError> {
    let frame = "7".repeat(FRAME_BYTES);
    for _ in 0..frames {
        tx.send(&frame).await?;
    }
    Ok(tx.finish().await?)
}
