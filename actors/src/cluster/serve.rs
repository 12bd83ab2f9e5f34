//! What a node does for others: opens pools for the head, lets blocks go, sends blocks to whoever fetches them.

use mobula_transport::{Connection, Endpoint, FrameReceiver, FrameSender, Inbound, IncomingCall, IncomingFetch, codec};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::agent::Agent;
use super::frames::FromPool;
use super::lent::Lent;
use super::link::{from_wire, is_refused, not_sent, receive_all, send_all};
use super::messages::{FetchAnswer, FetchCall, HeadCall, OpenPool};
use super::site::PoolLink;
use super::tasks::link::{self, Outgoing};
use crate::actor::host::ActorHost;
use crate::actor::inlet;
use crate::actor::message::{ActorCall, StreamHead};
use crate::block::BlockId;
use crate::operator::BoxError;
use crate::runtime::net::Net;
use crate::task::engine::Engine;

/// Bytes of the head of a task stream: an operator with its parameters.
const OPEN_BYTES_MAX: usize = 16 << 20;
/// Bytes of the head of any other stream: a few numbers.
pub(crate) const HEAD_BYTES_MAX: usize = 1 << 10;

/// Serves the head on a node's data connection: task streams and fetches. Pools live on `control`, their streams on the
/// network's thread.
pub(crate) async fn pools(data: Connection, agent: Agent, control: Handle, net: Net) {
    while let Ok(inbound) = data.accept().await {
        match inbound {
            Inbound::Stream { head, tx, rx } => {
                let (agent, lent) = (agent.clone(), agent.lent().clone());
                let (link, opened) = tokio::sync::oneshot::channel();
                control.spawn(async move {
                    // The stream's own task takes it, or is gone.
                    let _ = link.send(open(&agent, &head).await);
                });
                net.spawn(stream(opened, tx, rx, lent));
            }
            Inbound::Fetch(fetch) => net.spawn(send(fetch, agent.lent().clone())),
            Inbound::Call(call) => net.spawn(refuse(call)),
        }
    }
}

async fn open(agent: &Agent, head: &[u8]) -> Result<PoolLink, BoxError> {
    let open: OpenPool = codec::decode(head, OPEN_BYTES_MAX)?;
    agent.open(from_wire(open)?).await
}

/// Passes frames between the wire and a pool, once it stands. A stream that ends without a frame tells the head that it
/// does not.
async fn stream(
    opened: tokio::sync::oneshot::Receiver<Result<PoolLink, BoxError>>,
    tx: FrameSender,
    rx: FrameReceiver,
    lent: Lent,
) {
    let (mut from, to): (mpsc::Receiver<_>, _) = match opened.await {
        Ok(Ok(PoolLink { to, from })) => (from, to),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a pool could not be opened");
            let (report, from) = mpsc::channel(1);
            let cause = crate::job::texts(&*error);
            let gave_up = FromPool::GaveUp { worker: 0, cause };
            // There is room for one.
            let _ = report.try_send(gave_up);
            drop(report);
            return send_reports(from, tx, &lent).await;
        }
        Err(_) => return,
    };
    let (report, outgoing) = mpsc::channel(1);
    let forward = async move {
        while let Some(frame) = from.recv().await {
            if report.send(frame).await.is_err() {
                return;
            }
        }
    };
    // Either direction may end first: the pool goes on until both have.
    futures::join!(forward, send_reports(outgoing, tx, &lent), receive_all(rx, to));
}

/// Sends what a pool reports. A report that is too large for the wire gives the pool up, which fails the job by name: its
/// rows would be as many again. What comes behind it, or when the head is gone from the stream, is not sent, and lets its
/// blocks go.
async fn send_reports(mut from: mpsc::Receiver<FromPool>, mut tx: FrameSender, lent: &Lent) {
    if let Some((frame, error)) = send_all(&mut from, &mut tx).await {
        let what = match &frame {
            FromPool::Emitted { seq, .. } => format!("what task {seq} reports of its results"),
            _ => "a report of the pool".to_owned(),
        };
        lent.release(&frame.blocks());
        if is_refused(&error) {
            // A head that is gone needs no news.
            let _ = tx.send(&FromPool::GaveUp { worker: 0, cause: vec![not_sent(&what, &error)] }).await;
        }
    }
    // The other side may be gone already.
    let _ = tx.finish().await;
    while let Some(frame) = from.recv().await {
        lent.release(&frame.blocks());
    }
}

pub(crate) async fn refuse(call: mobula_transport::IncomingCall) {
    // Who asked may have gone.
    let _ = call.refuse("calls are answered on the control connection").await;
}

/// Sends a block to whoever asks for it.
pub(crate) async fn send(fetch: IncomingFetch, lent: Lent) {
    let encoded = match fetch.decode::<FetchCall>() {
        Ok(FetchCall::Value { id, .. }) => return answer_value(fetch, lent.value(id)).await,
        Ok(FetchCall::Block { name }) => lent.encoded(&name).await.map_err(|error| error.to_string()),
        Ok(FetchCall::Result { .. } | FetchCall::Object { .. }) => {
            Err("results and objects are fetched from the head".to_owned())
        }
        Err(error) => Err(error.to_string()),
    };
    // The room is given back when the other side has them.
    let (bytes, _room) = encoded.map_or_else(|why| (Err(why), None), |(bytes, room)| (Ok(bytes), Some(room)));
    answer(fetch, bytes).await;
}

/// Sends the bytes of a block, or why there are none.
pub(crate) async fn answer(fetch: IncomingFetch, bytes: Result<Vec<u8>, String>) {
    let sent = match bytes {
        Ok(bytes) => fetch.send(&FetchAnswer::Block, vec![bytes.into()]).await.map_err(|error| error.to_string()),
        Err(reason) => fetch.refuse(&reason).await.map_err(|error| error.to_string()),
    };
    if let Err(error) = sent {
        tracing::debug!(error, "a block was not taken");
    }
}

/// Sends the bytes of an object, or why there are none.
pub(crate) async fn answer_object(fetch: IncomingFetch, data: Result<bytes::Bytes, String>) {
    let sent = match data {
        Ok(data) => fetch.send(&FetchAnswer::Object, vec![data]).await.map_err(|error| error.to_string()),
        Err(reason) => fetch.refuse(&reason).await.map_err(|error| error.to_string()),
    };
    if let Err(error) = sent {
        tracing::debug!(error, "an object was not taken");
    }
}

/// Sends the bytes of a stored value, if they are here.
pub(crate) async fn answer_value(fetch: IncomingFetch, data: Option<bytes::Bytes>) {
    let sent = match data {
        Some(data) => fetch.send(&FetchAnswer::Value, vec![data]).await.map_err(|error| error.to_string()),
        None => fetch.refuse("the value is not here (any more)").await.map_err(|error| error.to_string()),
    };
    if let Err(error) = sent {
        tracing::debug!(error, "a value was not taken");
    }
}

/// Serves the head on a node's control connection: lets blocks go when it says so, and passes on what it asks of actors.
pub(crate) async fn calls(
    control: Connection,
    lent: Lent,
    actors: ActorHost,
    mut tasks: Option<(Engine, Outgoing)>,
    net: Net,
) {
    while let Ok(inbound) = control.accept().await {
        let call = match inbound {
            Inbound::Call(call) => call,
            Inbound::Stream { head, tx, rx } => {
                match (codec::decode(&head, HEAD_BYTES_MAX), tasks.take()) {
                    (Ok(StreamHead::Tasks), Some((engine, outgoing))) => {
                        net.spawn(link::run(engine, outgoing, tx, rx));
                    }
                    (_, kept) => {
                        tasks = kept;
                        messages(&head, &actors, tx, rx, &net);
                    }
                }
                continue;
            }
            Inbound::Fetch(fetch) => {
                // Dropped, which ends it: blocks go by the data connection.
                drop(fetch);
                continue;
            }
        };
        let done = match call.decode::<HeadCall>() {
            Ok(HeadCall::Release { blocks }) => {
                lent.release(&blocks);
                call.reply(&()).await
            }
            Ok(HeadCall::Spill { block }) => {
                net.spawn(spill(lent.clone(), call, block));
                continue;
            }
            Ok(HeadCall::Actor { actor, call: asked }) => {
                net.spawn(answer_of(actors.clone(), call, actor, asked));
                continue;
            }
            Err(error) => call.refuse(&error.to_string()).await,
        };
        if let Err(error) = done {
            tracing::debug!(%error, "the head did not wait for an answer");
        }
    }
}

/// Moves a block to disk and says what came of it.
async fn spill(lent: Lent, call: IncomingCall, block: BlockId) {
    let outcome = lent.spill(block).await;
    if let Err(error) = call.reply(&outcome).await {
        tracing::debug!(%error, "the head did not wait until a block was spilled");
    }
}

/// Asks an actor what the head asks. A spawn is carried through: someone has to stop what comes of it.
async fn answer_of(actors: ActorHost, call: IncomingCall, actor: u64, asked: ActorCall) {
    let (cancelled, spawning) = (call.cancelled(), matches!(asked, ActorCall::Spawn { .. }));
    let answer = tokio::select! {
        answer = actors.serve(actor, asked) => answer,
        () = cancelled, if !spawning => return,
    };
    if let Err(error) = call.reply(&answer).await {
        tracing::debug!(%error, "the head did not wait for an answer");
    }
}

/// Serves a stream of messages to the actors here. Anything else is dropped, which ends it.
fn messages(head: &[u8], actors: &ActorHost, tx: FrameSender, rx: FrameReceiver, net: &Net) {
    if let Ok(StreamHead::Actors { to }) = codec::decode(head, HEAD_BYTES_MAX)
        && to == actors.node()
    {
        net.spawn(inlet::serve(actors.clone(), tx, rx, net.clone()));
    }
}

/// Serves other nodes: they fetch blocks, send messages to actors, and may do nothing else.
pub(crate) async fn peers(endpoint: Endpoint, lent: Lent, actors: ActorHost, net: Net) {
    while let Some(connection) = endpoint.accept().await {
        net.spawn(peer(connection, lent.clone(), actors.clone(), net.clone()));
    }
}

/// Serves one other node.
async fn peer(connection: Connection, lent: Lent, actors: ActorHost, net: Net) {
    while let Ok(inbound) = connection.accept().await {
        match inbound {
            Inbound::Fetch(fetch) => net.spawn(send(fetch, lent.clone())),
            Inbound::Call(call) => net.spawn(refuse(call)),
            Inbound::Stream { head, tx, rx } => messages(&head, &actors, tx, rx, &net),
        }
    }
}
