//! The worker's end: a process that runs, and how it is asked. Every wait here ends with an answer, the end of the
//! process, a limit of time, or the drop of the future, which kills the process with its owner.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::ChildStderr;
use tokio::time::timeout;

use super::died::{HowItEnded, LastLines};
use super::frames::{self, DoneFrame, FailedFrame, HEADER_BYTES, Header, Kind, TRUSTED_BYTES, garbled};
use super::{ROLE, say};
use crate::block::Block;
use crate::cluster::bytes as ipc;
use crate::operator::{ObjectName, Shared};
use crate::pool::chain::Produced;
use crate::runtime::process::Process;
use crate::units::Bytes;

/// How long a process may take to greet: it loads a program and does nothing else. On a machine that is so slow that this
/// is too short, nothing else would go well either; longer delays the word that a program does not know its role.
const READY_TIME: Duration = Duration::from_secs(30);
/// How long a process whose socket is closed may take to end by itself, so that its status tells why: a large one gives
/// its memory back first.
const EXIT_TIME: Duration = Duration::from_secs(10);
/// How long its last lines are waited for after its end, where something that it started still holds the pipe.
const LAST_WORDS_TIME: Duration = Duration::from_millis(200);

/// A running process.
pub(crate) struct Link {
    process: Process,
    socket: UnixStream,
    err: ChildStderr,
    lines: LastLines,
    batch_bytes_max: Bytes,
}

/// What the worker asks.
pub(crate) struct Question<'a> {
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
    /// Sent before it.
    pub(crate) batches: &'a [RecordBatch],
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The operator failed; the process is there.
    Failed(FailedFrame),
    /// The process is gone.
    Died(HowItEnded, Vec<String>),
}

/// What went wrong between the two.
enum Wrong {
    Failed(FailedFrame),
    Io(io::Error),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Link {
    /// Starts a process, and waits until it has taken its role.
    pub(crate) async fn start(program: Option<&Path>, batch_bytes_max: Bytes) -> Result<Self, Broken> {
        let started = Self::spawn(program, batch_bytes_max);
        let mut link = started.map_err(|error| Broken::Died(no_process(&error), Vec::new()))?;
        let Self { socket, err, lines, .. } = &mut link;
        let greeting = tokio::select! {
            greeting = timeout(READY_TIME, read(socket, batch_bytes_max)) => greeting,
            never = listen(err, lines) => match never {},
        };
        let wrong = match greeting {
            Ok(Ok((Kind::Ready, _))) => return Ok(link),
            Ok(Ok((kind, _))) => Err(garbled(format!("{kind:?} came instead of a greeting"))),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(HowItEnded::NoAnswer { limit: READY_TIME }),
        };
        let (how, words) = link.end(wrong, None).await;
        Err(Broken::Died(how.without_a_role(), words))
    }

    fn spawn(program: Option<&Path>, batch_bytes_max: Bytes) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = UnixStream::from_std(ours)?;
        let level = tracing::level_filters::LevelFilter::current().to_string();
        let (process, err) = Process::start(program, &[ROLE, &level], OwnedFd::from(theirs))?;
        Ok(Self { process, socket, err, lines: LastLines::default(), batch_bytes_max })
    }

    /// Asks and waits for the answer, no longer than `limit`. `memory` is the limit that the process has.
    pub(crate) async fn ask(
        &mut self,
        question: Question<'_>,
        limit: Option<Duration>,
        memory: Option<Bytes>,
        shared: &Shared,
    ) -> Result<Produced, Broken> {
        let Self { socket, err, lines, batch_bytes_max, .. } = self;
        let answer = answer(socket, question, *batch_bytes_max, shared);
        let in_time = async {
            match limit {
                Some(limit) => timeout(limit, answer).await.map_err(|_| HowItEnded::NoAnswer { limit }),
                None => Ok(answer.await),
            }
        };
        let answered = tokio::select! {
            answered = in_time => answered,
            never = listen(err, lines) => match never {},
        };
        let wrong = match answered {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Wrong::Failed(failed))) => return Err(Broken::Failed(failed)),
            Ok(Err(Wrong::Io(error))) => Err(error),
            Err(late) => Ok(late),
        };
        let (how, words) = self.end(wrong, memory).await;
        Err(Broken::Died(how, words))
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.process.kill();
        // The system is asked for no longer than this; then it is left to the runtime.
        let _ = timeout(EXIT_TIME, self.process.wait()).await;
    }

    /// What became of a process that will not be asked again: killed for what it did, or gone by itself.
    async fn end(&mut self, wrong: Result<HowItEnded, io::Error>, memory: Option<Bytes>) -> (HowItEnded, Vec<String>) {
        let killed_for = match wrong {
            Ok(how) => Some(how),
            Err(error) if is_gone(&error) => None,
            Err(error) => Some(HowItEnded::Garbled { what: error.to_string() }),
        };
        if killed_for.is_some() {
            self.process.kill();
        }
        let mut status = timeout(EXIT_TIME, self.process.wait()).await;
        let silent = status.is_err();
        if silent {
            self.process.kill();
            status = timeout(EXIT_TIME, self.process.wait()).await;
        }
        let Self { err, lines, .. } = self;
        let _ = timeout(LAST_WORDS_TIME, read_to_end(err, lines)).await;
        let words = lines.take();
        let how = match (killed_for, status) {
            (Some(how), _) => how,
            (None, Ok(Ok(status))) if !silent => HowItEnded::of(status, &words, memory),
            _ => HowItEnded::Garbled { what: "it closed its socket and went on".to_owned() },
        };
        (how, words)
    }
}

fn no_process(error: &io::Error) -> HowItEnded {
    HowItEnded::NoProcess { why: error.to_string() }
}

/// Whether the other end is no more.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof)
}

/// Asks, and gathers the answer.
async fn answer(
    socket: &mut UnixStream,
    question: Question<'_>,
    batch_bytes_max: Bytes,
    shared: &Shared,
) -> Result<Produced, Wrong> {
    for batch in question.batches {
        let body = ipc::encode(&Block::new(vec![batch.clone()])).map_err(io::Error::other)?;
        write(socket, Kind::Batch, &body, batch_bytes_max).await?;
    }
    write(socket, question.kind, &question.body, batch_bytes_max).await?;
    let mut produced = Produced::default();
    loop {
        let (kind, body) = read(socket, batch_bytes_max).await?;
        match kind {
            Kind::Batch => {
                let block = ipc::decode(body).map_err(|error| garbled(format!("a damaged batch came: {error}")))?;
                produced.batches.extend_from_slice(block.batches());
            }
            Kind::Done => {
                let done: DoneFrame = frames::value(&body)?;
                produced.peak = done.peak;
                return Ok(produced);
            }
            Kind::Failed => return Err(Wrong::Failed(frames::value(&body)?)),
            Kind::Log => say::again(frames::value(&body)?),
            Kind::Want => bring(socket, &frames::value(&body)?, batch_bytes_max, shared).await?,
            other => return Err(garbled(format!("{other:?} came instead of an answer")).into()),
        }
    }
}

async fn bring(socket: &mut UnixStream, name: &ObjectName, most: Bytes, shared: &Shared) -> io::Result<()> {
    match shared.object(name) {
        Ok(data) => write(socket, Kind::Object, &data, most).await,
        Err(error) => write(socket, Kind::NoObject, error.to_string().as_bytes(), most).await,
    }
}

async fn write(socket: &mut UnixStream, kind: Kind, body: &[u8], batch_bytes_max: Bytes) -> io::Result<()> {
    let header = Header { kind, bytes: Bytes(body.len() as u64) }.checked(batch_bytes_max)?;
    socket.write_all(&header.encode()).await?;
    socket.write_all(body).await
}

async fn read(socket: &mut UnixStream, batch_bytes_max: Bytes) -> io::Result<(Kind, Vec<u8>)> {
    let mut header = [0; HEADER_BYTES];
    socket.read_exact(&mut header).await?;
    let Header { kind, bytes } = Header::decode(header, batch_bytes_max)?;
    // The process knows objects only by name.
    let length =
        usize::try_from(bytes.0).ok().filter(|_| kind != Kind::Object).ok_or_else(|| garbled("an object came"))?;
    let mut body = Vec::with_capacity(length.min(TRUSTED_BYTES));
    let came = (&mut *socket).take(length as u64).read_to_end(&mut body).await?;
    if came == length { Ok((kind, body)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads what the process writes beside its answers, as long as the caller waits for one.
async fn listen(err: &mut ChildStderr, lines: &mut LastLines) -> std::convert::Infallible {
    read_to_end(err, lines).await;
    // It has closed that; the answer tells what follows.
    std::future::pending().await
}

async fn read_to_end(err: &mut ChildStderr, lines: &mut LastLines) {
    let mut text = [0; 4096];
    while let Ok(length @ 1..) = err.read(&mut text).await {
        lines.push(&text[..length], say::line);
    }
}
