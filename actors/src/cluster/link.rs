//! A node at the other end of the wire: its pools as task streams, its blocks as fetches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use mobula_transport::{CallError, CodecError, Connection, FrameReceiver, FrameSender, StreamError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::bytes;
use super::frames::{FromPool, TaskFrame, ToPool};
use super::messages::{FetchAnswer, FetchCall, HeadCall, OpenPool};
use super::site::{PoolLink, PoolOrder, Site, frames_waiting};
use crate::block::{Block, BlockId, BlockName, Home, NodeId};
use crate::job::{FailurePolicy, Topology, WireTopology, texts};
use crate::operator::{BoxError, ObjectName};
use crate::runtime::line::{LineReceiver, LineSender, line};
use crate::runtime::net::Net;
use crate::store::spill::SpillOutcome;
use crate::task::{ObjectId, PartyId};
use crate::units::Bytes;

/// Time for the answer to a call between nodes. They are answered from memory; a peer that takes longer is stuck.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Time for one block to come: 2 GiB at 20 MB/s.
pub(crate) const FETCH_DEADLINE: Duration = Duration::from_secs(100);
/// A block may take so much more on the wire than in memory: headers, and texts that the estimate did not see.
const WIRE_SLACK: (u64, u64) = (2, 1 << 20);
/// Time for one block to be written to disk: 2 GiB at 20 MB/s.
const SPILL_DEADLINE: Duration = Duration::from_secs(100);
/// Blocks that a node writes to disk at a time for the head: few more keep a disk busy, and each takes a thread there.
const SPILLS_MAX: usize = 4;
/// Blocks let go by one call.
const RELEASES_MAX: usize = 4096;

/// A node that the head reaches by two connections.
pub(crate) struct RemoteSite {
    id: NodeId,
    name: Arc<str>,
    data: Connection,
    net: Net,
    home: Arc<RemoteHome>,
    draining: AtomicBool,
}

impl RemoteSite {
    pub(crate) fn new(id: NodeId, name: Arc<str>, control: Connection, data: Connection, net: Net) -> Self {
        let (releases, released) = line();
        net.spawn(send_releases(control.clone(), released));
        let spills = Arc::new(Semaphore::new(SPILLS_MAX));
        let home = Arc::new(RemoteHome { control, data: data.clone(), net: net.clone(), releases, spills });
        Self { id, name, data, net, home, draining: AtomicBool::new(false) }
    }
}

impl Site for RemoteSite {
    fn id(&self) -> NodeId {
        self.id
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn open(&self, order: PoolOrder) -> BoxFuture<'static, Result<PoolLink, BoxError>> {
        let (data, net) = (self.data.clone(), self.net.clone());
        async move {
            let waiting = frames_waiting(order.workers);
            let open = to_wire(order)?;
            let (tx, rx) = data.open_stream(&open).await?;
            let (to, outgoing) = mpsc::channel(waiting);
            let (incoming, from) = mpsc::channel(waiting);
            net.spawn(send_tasks(outgoing, tx, incoming.downgrade()));
            net.spawn(receive_all(rx, incoming));
            Ok(PoolLink { to, from })
        }
        .boxed()
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn home(&self) -> Arc<dyn Home> {
        Arc::clone(&self.home) as _
    }
}

fn to_wire(order: PoolOrder) -> Result<OpenPool, BoxError> {
    let PoolOrder {
        job,
        weight,
        index,
        plan,
        workers,
        depth,
        block_bytes,
        batch_bytes,
        run,
        task_progress_limit,
        isolates,
        together,
    } = order;
    let topology = Topology { operators: vec![plan], ..Topology::default() };
    let operator = topology.to_wire()?.operators.pop().ok_or("an order for nothing")?;
    Ok(OpenPool {
        job,
        weight,
        index,
        operator,
        workers,
        depth,
        block_bytes,
        batch_bytes,
        run,
        task_progress_limit,
        isolates,
        together,
    })
}

/// The order as the node sees it.
pub(crate) fn from_wire(open: OpenPool) -> Result<PoolOrder, BoxError> {
    let OpenPool {
        job,
        weight,
        index,
        operator,
        workers,
        depth,
        block_bytes,
        batch_bytes,
        run,
        task_progress_limit,
        isolates,
        together,
    } = open;
    let topology = WireTopology {
        operators: vec![operator],
        recorder: None,
        weight,
        task_progress_limit,
        failures: FailurePolicy::default(),
    }
    .into_topology();
    let plan = topology.operators.into_iter().next().ok_or("an order for nothing")?;
    Ok(PoolOrder {
        job,
        weight,
        index,
        plan,
        workers,
        depth,
        block_bytes,
        batch_bytes,
        run,
        task_progress_limit,
        isolates,
        together,
    })
}

/// Sends frames until there are no more, or one that was not sent, which is returned with the reason. If the wire
/// [refuses](is_refused) it, the stream is as it was before it; else the other side is gone.
pub(crate) async fn send_all<T: Serialize>(
    frames: &mut mpsc::Receiver<T>,
    to: &mut FrameSender,
) -> Option<(T, StreamError)> {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = to.send(&frame).await {
            if !is_refused(&error) {
                tracing::debug!(%error, "a task stream ended");
            }
            return Some((frame, error));
        }
    }
    None
}

/// Whether it is about one frame, and the stream goes on.
pub(crate) fn is_refused(error: &StreamError) -> bool {
    matches!(error, StreamError::TooLarge(_) | StreamError::Decode(_))
}

/// Sends what the head says to a pool. A task that is too large for the wire has failed: at each of its attempts, and by
/// name, while the stream and the others' tasks go on.
async fn send_tasks(mut frames: mpsc::Receiver<ToPool>, mut to: FrameSender, reports: mpsc::WeakSender<FromPool>) {
    while let Some((frame, error)) = send_all(&mut frames, &mut to).await {
        if !is_refused(&error) {
            return;
        }
        // All other frames are a few numbers.
        let (ToPool::Task(task), Some(reports)) = (frame, reports.upgrade()) else { return };
        let TaskFrame { seq, attempt, .. } = task;
        let cause = vec![not_sent("the task", &error)];
        // A job that is gone needs no news.
        let _ = reports.send(FromPool::Failed { seq, attempt, reached: None, cause }).await;
    }
    // The other side may be gone already.
    let _ = to.finish().await;
}

/// Why a frame was not sent, and what helps.
pub(crate) fn not_sent(what: &str, error: &StreamError) -> String {
    match error {
        StreamError::TooLarge(CodecError::TooLarge { bytes, limit }) => {
            let (bytes, limit) = (Bytes(*bytes as u64), Bytes(*limit as u64));
            format!(
                "{what} takes {bytes} between the head and a node, where a frame may have {limit}: write rows that are in memory to files; have fewer blocks in a task, by a smaller batch size or larger blocks (block_bytes)"
            )
        }
        other => format!("{what} cannot be sent between the head and a node: {}", texts(other).join(": ")),
    }
}

/// Receives frames until the other side ends or nobody wants them.
pub(crate) async fn receive_all<T: DeserializeOwned>(mut from: FrameReceiver, to: mpsc::Sender<T>) {
    loop {
        match from.next().await {
            Ok(Some(frame)) => {
                if to.send(frame).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "a task stream ended");
                return;
            }
        }
    }
}

/// The way to the blocks of a node.
struct RemoteHome {
    control: Connection,
    data: Connection,
    net: Net,
    releases: LineSender<BlockId>,
    /// Places of blocks that it is writing to disk.
    spills: Arc<Semaphore>,
}

impl Home for RemoteHome {
    fn release(&self, id: BlockId) {
        // A node that is gone has let all go.
        self.releases.send(id);
    }

    fn fetch(&self, name: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
        fetch(self.data.clone(), &self.net, name)
    }

    fn spill(&self, block: BlockId) -> BoxFuture<'static, Result<SpillOutcome, BoxError>> {
        let (control, spills) = (self.control.clone(), Arc::clone(&self.spills));
        let (tx, rx) = oneshot::channel();
        self.net.spawn(async move {
            // The semaphore is never closed.
            let _place = spills.acquire().await;
            let outcome = control.call(&HeadCall::Spill { block }, SPILL_DEADLINE).await;
            // Who asked may have gone.
            let _ = tx.send(outcome.map_err(BoxError::from));
        });
        async move { rx.await.map_err(|_| "the network thread is gone")? }.boxed()
    }
}

async fn send_releases(control: Connection, mut released: LineReceiver<BlockId>) {
    loop {
        let blocks = released.recv_many(RELEASES_MAX).await;
        if blocks.is_empty() {
            return;
        }
        let call = HeadCall::Release { blocks };
        // Forgotten, they would be kept for as long as the head lives; letting go twice is nothing.
        while let Err(error) = control.call::<_, ()>(&call, CALL_DEADLINE).await {
            tracing::debug!(%error, "blocks could not be let go; the node lets all go when the head is gone");
            if !matches!(error, CallError::Deadline(_)) {
                break;
            }
        }
    }
}

/// Fetches an object, which is as large as its name says. Whether it is the one is for the caller to verify.
pub(crate) async fn fetch_object(data: &Connection, name: ObjectName) -> Result<::bytes::Bytes, BoxError> {
    let (answer, body) = data.fetch::<_, FetchAnswer>(&FetchCall::Object { name }, FETCH_DEADLINE).await?;
    let FetchAnswer::Object = answer else { return Err("an answer that is no object".into()) };
    if body.len() != name.bytes.0 {
        return Err(format!("{} came instead", Bytes(body.len())).into());
    }
    // Takes the memory, which may fail, and reads.
    Ok(body.read(Vec::new()).await?.into())
}

/// Fetches the bytes of a stored value, which has so many.
pub(crate) async fn fetch_value(
    data: &Connection,
    id: ObjectId,
    node: PartyId,
    bytes: Bytes,
) -> Result<::bytes::Bytes, BoxError> {
    let deadline = FETCH_DEADLINE + super::objects::time_for(bytes);
    let (answer, body) = data.fetch::<_, FetchAnswer>(&FetchCall::Value { id, node }, deadline).await?;
    let FetchAnswer::Value = answer else { return Err("an answer that is no value".into()) };
    if body.len() != bytes.0 {
        return Err(format!("{} came where {bytes} were expected", Bytes(body.len())).into());
    }
    Ok(body.read(Vec::new()).await?.into())
}

/// Fetches a block on the network thread, whoever asks.
pub(crate) fn fetch(data: Connection, net: &Net, name: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
    let (tx, rx) = tokio::sync::oneshot::channel();
    net.spawn(async move {
        // Who asked may have gone.
        let _ = tx.send(fetch_here(&data, name).await);
    });
    async move { rx.await.map_err(|_| "the network thread is gone")? }.boxed()
}

async fn fetch_here(data: &Connection, name: BlockName) -> Result<Block, BoxError> {
    let most = Bytes(name.bytes.0.saturating_mul(WIRE_SLACK.0).saturating_add(WIRE_SLACK.1));
    let rows = name.rows;
    let (answer, body) = data.fetch::<_, FetchAnswer>(&FetchCall::Block { name }, FETCH_DEADLINE).await?;
    let FetchAnswer::Block = answer else { return Err("an answer that is no block".into()) };
    let length = body.len();
    if length > most.0 {
        return Err(format!("a block of {length} bytes where {most} were expected at most").into());
    }
    let block = bytes::decode(body.read(Vec::with_capacity(length as usize)).await?)?;
    if block.rows() < rows {
        return Err(format!("a block of {} rows where {rows} were expected", block.rows()).into());
    }
    Ok(block)
}
