//! The process's end: the same program in another role. It reads questions from the socket that is its standard input,
//! runs the operator on its main thread, and ends when its worker does.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, Signal, kill_current_process_group, setrlimit};
use rustix::stdio::{dup2_stdin, dup2_stdout};
use tracing::level_filters::LevelFilter;

use super::ROLE;
use super::frames::{self, BeginFrame, DoneFrame, FailedFrame, HEADER_BYTES, Header, Kind, OpenFrame, garbled};
use super::said::{is_out_of_memory, panicked};
use crate::block::Block;
use crate::cluster::bytes as ipc;
use crate::job::texts;
use crate::logs::{Here, Keep, LogLine};
use crate::operator::{BoxError, ObjectName, OpenContext, OperatorResult, Shared, TaskContext};
use crate::pool::chain::{Chain, Produced};
use crate::pool::doing::Doings;
use crate::runtime::env::{SharedEnv, SystemEnv};
use crate::units::Bytes;

/// Whether this process has taken its role.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The level that the worker wants to see, if this process was started as the one of an isolated operator.
fn asked() -> Option<LevelFilter> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == ROLE).then_some(())?;
    let level = arguments.next().and_then(|level| level.to_str()?.parse().ok());
    Some(level.unwrap_or(LevelFilter::OFF))
}

/// Whether this process was started for an isolated operator, by a program that did not take that role.
pub(crate) fn role_was_missed() -> bool {
    !TAKEN.load(Ordering::Relaxed) && asked().is_some()
}

/// If this process was started as the one of an isolated operator, is that and does not come back. `set_up_logs` is told
/// from which level on events are wanted; it installs what hands them to [`crate::logs::capture`].
pub fn isolated_worker(set_up_logs: impl FnOnce(LevelFilter)) {
    let Some(level) = asked() else { return };
    TAKEN.store(true, Ordering::Relaxed);
    set_up_logs(level);
    let code = match Socket::take().and_then(serve) {
        Ok(()) => 0,
        Err(error) => {
            // What is left when the worker cannot be told: it reads this.
            let _ = writeln!(io::stderr(), "the process of an isolated operator ends: {error}");
            1
        }
    };
    std::process::exit(code)
}

/// The way to the worker; all of this process share it.
#[derive(Clone)]
struct Socket(Arc<Mutex<UnixStream>>);

impl Socket {
    /// Takes the socket that is standard input. User code finds nothing there, and what it prints goes to standard error,
    /// which the worker reads.
    fn take() -> io::Result<Self> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        if socket.peer_addr().is_err() {
            return Err(io::Error::other(format!("{ROLE} is no command; mobula starts it by itself")));
        }
        dup2_stdin(File::open("/dev/null")?)?;
        dup2_stdout(io::stderr())?;
        // An abort is told by the worker; gigabytes of an image of it would only delay that.
        let no_image = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Core, no_image)?;
        end_with_the_worker(socket.try_clone()?)?;
        Ok(Self(Arc::new(Mutex::new(socket))))
    }

    fn lock(&self) -> MutexGuard<'_, UnixStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, kind: Kind, body: &[u8], batch_bytes_max: Bytes) -> io::Result<()> {
        write(&mut self.lock(), kind, body, batch_bytes_max)
    }

    /// Brings an object from the worker.
    fn bring(&self, name: &ObjectName) -> Result<bytes::Bytes, BoxError> {
        let mut socket = self.lock();
        write(&mut socket, Kind::Want, &frames::bytes(name)?, Bytes(0))?;
        match read(&mut socket, Bytes(0))? {
            (Kind::Object, Body::Whole(data)) => Ok(data.into()),
            (Kind::Object, Body::TooLarge(bytes)) => Err(no_memory(bytes).into()),
            (Kind::NoObject, Body::Whole(reason)) => Err(String::from_utf8_lossy(&reason).into_owned().into()),
            (kind, _) => Err(garbled(format!("{kind:?} came instead of an object")).into()),
        }
    }
}

/// What is logged while the operator runs.
impl Keep for Socket {
    fn keep(&self, line: LogLine) {
        if let Ok(line) = frames::bytes(&line) {
            // A worker that is gone reads no logs.
            let _ = self.write(Kind::Log, &line, Bytes(0));
        }
    }
}

/// Ends this process, and what it has started, once the worker's end of the socket is closed: by the worker, or by the
/// system when the worker's process is gone. User code that never returns cannot prevent it.
// A thread of a process that has no engine: it ends with the process.
#[allow(clippy::disallowed_methods)]
fn end_with_the_worker(socket: UnixStream) -> io::Result<()> {
    let watch = move || {
        loop {
            let mut watched = [PollFd::new(&socket, PollFlags::empty())];
            // An interrupted wait is begun again.
            if poll(&mut watched, None).is_ok() && watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
                let _ = kill_current_process_group(Signal::KILL);
            }
        }
    };
    std::thread::Builder::new().name("mobula-worker-watch".into()).spawn(watch).map(drop)
}

fn serve(socket: Socket) -> io::Result<()> {
    let _here = Here::enter(Some(Arc::new(socket.clone())));
    socket.write(Kind::Ready, &[], Bytes(0))?;
    let mut role = Role { socket, chain: None, batches: Vec::new(), batch_bytes_max: Bytes::mib(1) };
    loop {
        let (kind, body) = read(&mut role.socket.lock(), role.batch_bytes_max)?;
        let answer = match (kind, body) {
            (Kind::Batch, body) => {
                role.batches.push(body);
                continue;
            }
            (kind, Body::Whole(body)) => role.on(kind, &body)?,
            (_, Body::TooLarge(bytes)) => Err(no_memory(bytes).into()),
        };
        role.batches.clear();
        role.answer(answer)?;
        if kind == Kind::Close {
            return Ok(());
        }
    }
}

/// The process as the worker asks it.
struct Role {
    socket: Socket,
    chain: Option<Chain>,
    /// Encoded, for the next call.
    batches: Vec<Body>,
    batch_bytes_max: Bytes,
}

impl Role {
    fn on(&mut self, kind: Kind, body: &[u8]) -> io::Result<OperatorResult<Produced>> {
        Ok(match kind {
            Kind::Open => self.open(frames::value(body)?),
            Kind::Begin => {
                let BeginFrame { task, attempt } = frames::value(body)?;
                self.with(|chain| chain.begin(&TaskContext { task, attempt }).map(|()| Produced::default()))
            }
            Kind::Process => {
                let encoded = std::mem::take(&mut self.batches);
                encoded
                    .into_iter()
                    .map(batch)
                    .collect::<OperatorResult<Vec<_>>>()
                    .and_then(|batches| self.with(|chain| chain.process(batches)))
            }
            Kind::Finish => self.with(Chain::finish),
            Kind::Close => self.with(|chain| chain.close().map(|()| Produced::default())),
            other => return Err(garbled(format!("{other:?} came instead of a question"))),
        })
    }

    fn open(&mut self, open: OpenFrame) -> OperatorResult<Produced> {
        self.chain = None;
        let OpenFrame { operator, worker, incarnation, gpus, spec, batch_bytes_max } = open;
        self.batch_bytes_max = batch_bytes_max;
        let spec = spec.into_spec();
        if let Some(memory) = spec.isolation.and_then(|isolation| isolation.memory) {
            limit_memory(memory)?;
        }
        let socket = self.socket.clone();
        let bring = move |name: ObjectName| std::future::ready(socket.bring(&name)).boxed();
        let shared = Shared::default().bringing(Arc::new(bring));
        let ctx = OpenContext { operator: operator.into(), worker: worker as usize, incarnation, gpus, shared };
        // Whoever asks what it does asks the worker on the other side.
        let env: SharedEnv = Arc::new(SystemEnv::new());
        self.chain = Some(Chain::open(&[spec], &ctx, &Doings::new(&env).enter(0))?);
        Ok(Produced::default())
    }

    fn with(&mut self, call: impl FnOnce(&mut Chain) -> OperatorResult<Produced>) -> OperatorResult<Produced> {
        call(self.chain.as_mut().ok_or("a question before the operator is opened")?)
    }

    fn answer(&mut self, answer: OperatorResult<Produced>) -> io::Result<()> {
        let most = self.batch_bytes_max;
        match answer.and_then(|produced| self.results(produced)) {
            Ok(done) => self.socket.write(Kind::Done, &frames::bytes(&done)?, most),
            Err(error) => {
                self.chain = None;
                let error: &BoxError = &error;
                let texts = texts(error.as_ref());
                let failed = FailedFrame { texts, panicked: panicked(error), out_of_memory: is_out_of_memory(error) };
                self.socket.write(Kind::Failed, &frames::bytes(&failed)?, most)
            }
        }
    }

    /// Sends results. One that is too large, or of a type that has no encoding, is an error like the operator's own: the
    /// worker drops those that were sent before it.
    fn results(&self, produced: Produced) -> OperatorResult<DoneFrame> {
        for batch in produced.batches {
            let bytes = ipc::encode(&Block::new(vec![batch]))?;
            self.socket.write(Kind::Batch, &bytes, self.batch_bytes_max)?;
        }
        Ok(DoneFrame { peak: produced.peak })
    }
}

/// The bytes of a frame, or how many they would have been.
enum Body {
    Whole(Vec<u8>),
    TooLarge(Bytes),
}

fn batch(body: Body) -> OperatorResult<RecordBatch> {
    match body {
        Body::Whole(bytes) => {
            let block = ipc::decode(bytes)?;
            Ok(block.batches().first().cloned().ok_or_else(|| garbled("a frame without a batch came"))?)
        }
        Body::TooLarge(bytes) => Err(no_memory(bytes).into()),
    }
}

fn no_memory(bytes: Bytes) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, format!("no memory for {bytes} of input"))
}

/// `RLIMIT_DATA`: all that the process may write to, rather than `RLIMIT_AS`, which also counts what is only reserved
/// (arenas of allocators, address space of GPUs) and files that are mapped.
fn limit_memory(memory: Bytes) -> io::Result<()> {
    if !cfg!(target_os = "linux") {
        let why = "a memory limit of an isolated operator needs Linux; leave it out here";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(setrlimit(Resource::Data, Rlimit { current: Some(memory.0), maximum: Some(memory.0) })?)
}

fn write(socket: &mut UnixStream, kind: Kind, body: &[u8], batch_bytes_max: Bytes) -> io::Result<()> {
    let header = Header { kind, bytes: Bytes(body.len() as u64) }.checked(batch_bytes_max)?;
    socket.write_all(&header.encode())?;
    socket.write_all(body)
}

/// The next frame. Where there is no memory for it, it is read all the same and left out: the worker is told, and sends
/// less.
fn read(socket: &mut UnixStream, batch_bytes_max: Bytes) -> io::Result<(Kind, Body)> {
    let mut header = [0; HEADER_BYTES];
    socket.read_exact(&mut header)?;
    let Header { kind, bytes } = Header::decode(header, batch_bytes_max)?;
    let mut frame = socket.take(bytes.0);
    let mut body = Vec::new();
    if usize::try_from(bytes.0).ok().is_none_or(|length| body.try_reserve_exact(length).is_err()) {
        io::copy(&mut frame, &mut io::sink())?;
        return Ok((kind, Body::TooLarge(bytes)));
    }
    let came = frame.read_to_end(&mut body)? as u64;
    if came == bytes.0 { Ok((kind, Body::Whole(body))) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
