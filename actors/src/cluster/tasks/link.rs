//! A party's way to the head: its engine speaks into a line, a task of the network's thread sends what stands there.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes as Data;
use futures::FutureExt;
use futures::future::BoxFuture;
use mobula_transport::{Connection, FrameReceiver, FrameSender};

use super::pack::{DownFrame, FRAME_MESSAGES, UpFrame, Weigh, pack};
use crate::block::NodeId;
use crate::cluster::link::{CALL_DEADLINE, fetch_value};
use crate::cluster::messages::{DriverAnswer, DriverCall};
use crate::cluster::objects::time_for;
use crate::cluster::offers::Offers;
use crate::cluster::peers::Peers;
use crate::operator::BoxError;
use crate::runtime::line::{LineReceiver, LineSender, line};
use crate::runtime::net::Net;
use crate::task::engine::{Engine, Fetch, Upstream};
use crate::task::wire::ToHead;
use crate::task::{ObjectId, PartyId, TaskError};
use crate::units::Bytes;

/// Bytes of messages that may stand in the line to the head. A program that submits faster than the head takes waits here;
/// 16 MiB are some fifty thousand small tasks, a second's worth.
const UNDER_WAY_BYTES: usize = 16 << 20;

/// How a process fetches values from others, and where those go that it cannot keep itself.
pub(crate) trait Way: Send + Sync + 'static {
    /// Brings the bytes of a value from a node.
    fn bring(&self, id: ObjectId, from: PartyId, bytes: Bytes) -> BoxFuture<'static, Result<Data, BoxError>>;

    /// Leaves a value with the head; waits for it. Only for drivers.
    fn leave(&self, id: ObjectId, data: Data) -> Result<(), BoxError>;
}

/// The way to the head of one engine.
pub(crate) struct TaskLink {
    up: LineSender<ToHead>,
    room: Arc<Room>,
    way: Box<dyn Way>,
    net: Net,
}

/// Messages that stand in the line, in bytes.
#[derive(Default)]
pub(crate) struct Room {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Room {
    fn change(&self, change: impl FnOnce(&mut (usize, bool))) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn wait(&self, bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0 > 0 && state.0 + bytes > UNDER_WAY_BYTES && !state.1 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What comes out of an engine for the head, at the other end of the line.
pub(crate) struct Outgoing {
    line: LineReceiver<ToHead>,
    room: Arc<Room>,
}

impl Outgoing {
    /// The next messages; none when the engine is gone.
    pub(crate) async fn next(&mut self) -> Vec<ToHead> {
        let messages = self.line.recv_many(FRAME_MESSAGES).await;
        let bytes: usize = messages.iter().map(Weigh::weight).sum();
        self.room.change(|state| state.0 = state.0.saturating_sub(bytes));
        messages
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // Whoever waits for room need not wait any more.
        self.room.change(|state| state.1 = true);
    }
}

impl TaskLink {
    /// A way whose other end somebody will read.
    pub(crate) fn new(way: impl Way, net: Net) -> (Arc<Self>, Outgoing) {
        let (up, received) = line();
        let room = Arc::<Room>::default();
        let outgoing = Outgoing { line: received, room: Arc::clone(&room) };
        (Arc::new(Self { up, room, way: Box::new(way), net }), outgoing)
    }
}

impl Upstream for TaskLink {
    fn send(&self, message: ToHead) {
        let bytes = message.weight();
        self.room.change(|state| state.0 += bytes);
        self.up.send(message);
    }

    fn wait_for_room(&self, bytes: usize) {
        self.room.wait(bytes);
    }

    fn fetch(&self, engine: Engine, fetch: Fetch) {
        let Fetch { id, bytes, nodes } = fetch;
        // The nodes in an order of each process's own, so that not all ask the same one first.
        let first = engine.party().0 as usize;
        let order: Vec<PartyId> =
            (0..nodes.len()).filter_map(|i| nodes.get((first + i) % nodes.len()).copied()).collect();
        let brought: Vec<_> = order.iter().map(|node| self.way.bring(id, *node, bytes)).collect();
        let engine = engine.weak();
        self.net.spawn(async move {
            for (node, coming) in order.iter().zip(brought) {
                match coming.await {
                    Ok(data) => {
                        if let Some(engine) = engine.get() {
                            engine.fetched(id, data);
                        }
                        return;
                    }
                    Err(error) => tracing::debug!(%id, node = node.0, %error, "a value did not come"),
                }
            }
            if let Some(engine) = engine.get() {
                engine.not_fetched(id, &order);
            }
        });
    }

    fn leave(&self, id: ObjectId, data: Data) -> Result<(), TaskError> {
        self.way.leave(id, data).map_err(|error| TaskError::Value(format!("{id} was not taken by the head: {error}")))
    }
}

/// Sends and receives for an engine, until either side is gone; then the engine is closed.
pub(crate) async fn run(engine: Engine, mut outgoing: Outgoing, mut tx: FrameSender, mut rx: FrameReceiver) {
    let send = async {
        loop {
            let messages = outgoing.next().await;
            if messages.is_empty() {
                return "its engine is gone".to_owned();
            }
            for frame in pack(messages) {
                if let Err(error) = tx.send::<UpFrame>(&frame).await {
                    return error.to_string();
                }
            }
        }
    };
    let receive = async {
        loop {
            match rx.next::<DownFrame>().await {
                Ok(Some(DownFrame::Messages(messages))) => {
                    messages.into_iter().for_each(|message| engine.on_head(message))
                }
                Ok(Some(DownFrame::Welcome { .. })) => {}
                Ok(None) => return "the head ended it".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    };
    let reason = tokio::select! {
        // In order, so that a simulated run is repeated by its seed.
        biased;
        reason = send => reason,
        reason = receive => reason,
    };
    drop(outgoing);
    engine.close(TaskError::Ended(format!("the connection to the head was lost: {reason}")));
}

/// A node's way to values.
pub(crate) struct NodeWay {
    pub(crate) peers: Peers,
}

impl Way for NodeWay {
    fn bring(&self, id: ObjectId, from: PartyId, bytes: Bytes) -> BoxFuture<'static, Result<Data, BoxError>> {
        let peers = self.peers.clone();
        async move { peers.value(NodeId(from.0), id, bytes).await }.boxed()
    }

    fn leave(&self, _: ObjectId, _: Data) -> Result<(), BoxError> {
        Err("a node keeps its values itself".into())
    }
}

/// A driver's: all through the head.
pub(crate) struct DriverWay {
    pub(crate) data: Connection,
    pub(crate) offers: Offers,
    pub(crate) net: Net,
}

impl Way for DriverWay {
    fn bring(&self, id: ObjectId, from: PartyId, bytes: Bytes) -> BoxFuture<'static, Result<Data, BoxError>> {
        let data = self.data.clone();
        async move { fetch_value(&data, id, from, bytes).await }.boxed()
    }

    fn leave(&self, id: ObjectId, data: Data) -> Result<(), BoxError> {
        let bytes = Bytes(data.len() as u64);
        let _offered = self.offers.offer_value(id, data);
        let connection = self.data.clone();
        let asked = async move {
            let call = DriverCall::Keep { id, bytes };
            connection.call::<_, DriverAnswer>(&call, CALL_DEADLINE + time_for(bytes)).await
        };
        match self.net.block_on(asked)? {
            DriverAnswer::Kept { refused: None } => Ok(()),
            DriverAnswer::Kept { refused: Some(why) } => Err(why.into()),
            other => Err(format!("an answer that does not fit the question: {other:?}").into()),
        }
    }
}
