//! The end of a stream of messages on the node of its actors: pushes each into its actor's mailbox, in order, and sends
//! back what became of it.
//!
//! A message whose actor's mailbox is full waits here, and those behind it to the same actor wait behind it; others go past.
//! What waits is bounded by the sender's windows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mobula_transport::{Connection, FrameReceiver, FrameSender};

use super::channel::send_in_frames;
use super::host::ActorHost;
use super::hosted::AnyHosted;
use super::message::{AskFrame, ReplyFrame, StreamHead};
use super::work::WireAnswer;
use super::{ActorError, WINDOW_MESSAGES};
use crate::runtime::line::{LineSender, line};
use crate::runtime::load::Load;
use crate::runtime::net::Net;

/// Serves a stream until its other side or this node ends.
pub(crate) async fn serve(host: ActorHost, tx: FrameSender, mut rx: FrameReceiver, net: Net) {
    let ((line, mut waiting), load) = (line(), Load::default());
    let replies = Replies { line, load: load.clone() };
    let inlet = Inlet { host, replies, queues: Queues::default(), net };
    let receive = async move {
        loop {
            inlet.replies.load.until_less().await;
            match rx.next::<Vec<AskFrame>>().await {
                Ok(Some(frames)) => {
                    if let Err(error) = frames.into_iter().try_for_each(|frame| inlet.take(frame)) {
                        tracing::warn!(error, "a stream of messages is given up");
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => return tracing::debug!(%error, "a stream of messages ended"),
            }
        }
    };
    let send = async {
        let sent = send_in_frames(&mut waiting, tx, weight, |bytes| load.sub(bytes)).await;
        load.lift();
        sent
    };
    // Replies still go after the last message has come; without a reader there is nobody to reply to.
    let (sent, ()) = futures::join!(send, receive);
    if let Err(error) = sent {
        tracing::debug!(error, "replies were not taken");
    }
}

/// Passes frames on between a process and the node that its stream is for, as they are.
pub(crate) async fn relay(to: Connection, node: u64, mut tx: FrameSender, mut rx: FrameReceiver) {
    let Ok((mut there, mut back)) = to.open_stream(&StreamHead::Actors { to: node }).await else { return };
    let forth = async {
        while let Ok(Some(frames)) = rx.next::<Vec<AskFrame>>().await {
            if there.send(&frames).await.is_err() {
                break;
            }
        }
    };
    let home = async {
        while let Ok(Some(frames)) = back.next::<Vec<ReplyFrame>>().await {
            if tx.send(&frames).await.is_err() {
                break;
            }
        }
    };
    // Whichever way ends, the other is of no use: dropped, both ends of both streams learn of it.
    tokio::select! {
        () = forth => {}
        () = home => {}
    }
}

/// The way back to a sender. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Replies {
    line: LineSender<ReplyFrame>,
    /// What stands there or is being written.
    load: Load,
}

impl Replies {
    pub(crate) fn send(&self, reply: ReplyFrame) {
        self.load.add(weight(&reply));
        self.line.send(reply);
    }
}

/// About the bytes of a reply on the wire.
fn weight(reply: &ReplyFrame) -> usize {
    const REPLY_BYTES: usize = 64;
    REPLY_BYTES + reply.result.as_ref().map_or(0, |body| body.0.len())
}

struct Inlet {
    host: ActorHost,
    replies: Replies,
    queues: Queues,
    net: Net,
}

/// What waits for room, by actor.
#[derive(Clone, Default)]
struct Queues(Arc<Mutex<HashMap<u64, VecDeque<Delivery>>>>);

struct Delivery {
    frame: AskFrame,
    answer: WireAnswer,
}

impl Queues {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, VecDeque<Delivery>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inlet {
    fn take(&self, frame: AskFrame) -> Result<(), String> {
        let until = self.host.env().now().saturating_add(frame.left.unwrap_or_default());
        let answer = WireAnswer::new(self.replies.clone(), frame.seq, frame.left.is_some(), until);
        let delivery = Delivery { frame, answer };
        let actor = delivery.frame.actor;
        let hosted = match self.host.get(actor) {
            Ok(hosted) => hosted,
            Err(error) => {
                delivery.answer.fail(error);
                return Ok(());
            }
        };
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get_mut(&actor) {
            if queue.len() >= WINDOW_MESSAGES {
                return Err(format!("more than {WINDOW_MESSAGES} messages to one actor were sent ahead"));
            }
            queue.push_back(delivery);
            return Ok(());
        }
        match Arc::clone(hosted.gate()).try_acquire_owned() {
            Ok(place) => {
                drop(queues);
                let Delivery { frame, answer } = delivery;
                hosted.deliver(frame.message, frame.body.0, place, answer);
            }
            Err(_) => {
                queues.insert(actor, VecDeque::from([delivery]));
                drop(queues);
                self.net.spawn(deliver_all(self.queues.clone(), actor, hosted));
            }
        }
        Ok(())
    }
}

/// Delivers what waits for one actor, in order, until nothing does.
async fn deliver_all(queues: Queues, actor: u64, hosted: Arc<dyn AnyHosted>) {
    loop {
        let place = Arc::clone(hosted.gate()).acquire_owned().await;
        let next = {
            let mut queues = queues.lock();
            let next = queues.get_mut(&actor).and_then(VecDeque::pop_front);
            if next.is_none() {
                queues.remove(&actor);
            }
            next
        };
        let Some(Delivery { frame, answer }) = next else { return };
        match place {
            Ok(place) => Arc::clone(&hosted).deliver(frame.message, frame.body.0, place, answer),
            Err(_) => answer.fail(ActorError::NotHere),
        }
    }
}
