//! The way from this process to the actors of one other node: one long stream, whoever sends.
//!
//! A sender takes credit first, in messages and in bytes, of the window of its actor, and waits for it in order; the credit
//! comes back when the actor is done with the message. So what waits for a slow actor is bounded, here, on the way and
//! there, and only its own senders wait. What many senders have under way at a time goes in one frame.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mobula_transport::{FrameReceiver, FrameSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::message::{AskFrame, ReplyFrame};
use super::{ActorError, ActorId, WINDOW_BYTES, WINDOW_MESSAGES};
use crate::runtime::line::{LineReceiver, LineSender, line};
use crate::task::wire::Blob;

/// Messages in one frame.
const FRAME_MESSAGES_MAX: usize = 1_024;
/// Bytes of messages in one frame, unless one is larger.
const FRAME_BYTES: usize = 256 << 10;
/// Bytes are counted in units of this many, so that the count fits a semaphore.
const UNIT_BYTES: usize = 1 << 10;
/// Windows that are kept though nobody sends through them just now.
const IDLE_WINDOWS: usize = 1_024;

/// What a sender learns.
type Answer = oneshot::Sender<Result<Blob, ActorError>>;

/// One such way. Its last user drops it, which ends the stream.
pub(crate) struct Channel {
    frames: LineSender<AskFrame>,
    state: Arc<State>,
}

/// What waits for replies.
pub(crate) struct State {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    pending: HashMap<u64, Pending>,
    windows: HashMap<u64, Window>,
    /// Why it is of no use any more.
    closed: Option<ActorError>,
}

struct Pending {
    /// `None` for a tell.
    answer: Option<Answer>,
    _credit: Credit,
}

#[derive(Clone)]
struct Window {
    messages: Arc<Semaphore>,
    units: Arc<Semaphore>,
}

struct Credit {
    _message: OwnedSemaphorePermit,
    _units: OwnedSemaphorePermit,
}

impl Window {
    fn new() -> Self {
        let (messages, units) = (Semaphore::new(WINDOW_MESSAGES), Semaphore::new(WINDOW_BYTES / UNIT_BYTES));
        Self { messages: Arc::new(messages), units: Arc::new(units) }
    }

    /// The message first: whoever waits for bytes holds up those behind it, so that the order is kept.
    async fn credit(&self, bytes: usize) -> Option<Credit> {
        let units = bytes.div_ceil(UNIT_BYTES).clamp(1, WINDOW_BYTES / UNIT_BYTES) as u32;
        let message = Arc::clone(&self.messages).acquire_owned().await.ok()?;
        let units = Arc::clone(&self.units).acquire_many_owned(units).await.ok()?;
        Some(Credit { _message: message, _units: units })
    }

    fn is_idle(&self) -> bool {
        self.messages.available_permits() == WINDOW_MESSAGES
    }
}

impl Channel {
    /// A channel, and what its task works with.
    pub(crate) fn new() -> (Self, LineReceiver<AskFrame>, Arc<State>) {
        let (frames, waiting) = line();
        let state = Arc::new(State { inner: Mutex::default() });
        (Self { frames, state: Arc::clone(&state) }, waiting, state)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }

    /// Sends a message once there is credit for it. `left`: how long the sender will wait for the reply; without it nobody
    /// does.
    ///
    /// # Errors
    /// If the channel is of no use any more.
    pub(crate) async fn send(
        &self,
        to: ActorId,
        message: u16,
        body: Vec<u8>,
        left: Option<Duration>,
    ) -> Result<Option<oneshot::Receiver<Result<Blob, ActorError>>>, ActorError> {
        let window = self.state.window(to.number)?;
        let Some(credit) = window.credit(body.len()).await else { return Err(self.state.why()) };
        let (answer, answered) = match left {
            Some(_) => {
                let (answer, answered) = oneshot::channel();
                (Some(answer), Some(answered))
            }
            None => (None, None),
        };
        let mut inner = self.state.lock();
        if let Some(error) = &inner.closed {
            return Err(error.clone());
        }
        let seq = inner.next;
        inner.next += 1;
        inner.pending.insert(seq, Pending { answer, _credit: credit });
        // In the lock, so that numbers go in order.
        self.frames.send(AskFrame { seq, actor: to.number, message, body: Blob(body.into()), left });
        Ok(answered)
    }
}

impl State {
    fn window(&self, actor: u64) -> Result<Window, ActorError> {
        let mut inner = self.lock();
        if let Some(error) = &inner.closed {
            return Err(error.clone());
        }
        if inner.windows.len() > IDLE_WINDOWS {
            inner.windows.retain(|_, window| !window.is_idle());
        }
        Ok(inner.windows.entry(actor).or_insert_with(Window::new).clone())
    }

    fn why(&self) -> ActorError {
        self.lock().closed.clone().unwrap_or(ActorError::SessionEnded)
    }

    fn replied(&self, replies: Vec<ReplyFrame>) {
        let mut inner = self.lock();
        let pending: Vec<_> =
            replies.into_iter().filter_map(|reply| Some((inner.pending.remove(&reply.seq)?, reply.result))).collect();
        drop(inner);
        for (Pending { answer, _credit }, result) in pending {
            if let Some(answer) = answer {
                // Who asked may have given up.
                let _ = answer.send(result);
            }
        }
    }

    /// Nothing more comes: everyone who waits learns why.
    pub(crate) fn close(&self, error: &ActorError) {
        let mut inner = self.lock();
        inner.closed.get_or_insert_with(|| error.clone());
        let (pending, windows) = (std::mem::take(&mut inner.pending), std::mem::take(&mut inner.windows));
        drop(inner);
        for window in windows.into_values() {
            window.messages.close();
            window.units.close();
        }
        for answer in pending.into_values().filter_map(|pending| pending.answer) {
            let _ = answer.send(Err(error.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes messages and replies until the stream or the channel ends; gives what ended it, if it was the stream.
pub(crate) async fn run(
    state: &State,
    waiting: &mut LineReceiver<AskFrame>,
    tx: FrameSender,
    mut rx: FrameReceiver,
) -> Option<String> {
    let receive = async {
        loop {
            match rx.next::<Vec<ReplyFrame>>().await {
                Ok(Some(replies)) => state.replied(replies),
                Ok(None) => return "its node ended the stream".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    };
    tokio::select! {
        reason = receive => Some(reason),
        sent = send_in_frames(waiting, tx, |frame| frame.body.0.len(), |_| {}) => sent.err(),
    }
}

/// Sends what waits, as much at a time as there is, until there are no more senders; `sent` is told of the bytes that went.
pub(crate) async fn send_in_frames<T: serde::Serialize>(
    waiting: &mut LineReceiver<T>,
    mut tx: FrameSender,
    bytes: impl Fn(&T) -> usize,
    sent: impl Fn(usize),
) -> Result<(), String> {
    loop {
        let mut next = waiting.recv_many(FRAME_MESSAGES_MAX).await;
        if next.is_empty() {
            // The other side may be gone already.
            let _ = tx.finish().await;
            return Ok(());
        }
        while !next.is_empty() {
            let mut size = 0;
            let fit = next.iter().take_while(|frame| {
                size += bytes(frame);
                size <= FRAME_BYTES
            });
            let rest = next.split_off(fit.count().max(1));
            tx.send(&next).await.map_err(|error| error.to_string())?;
            sent(next.iter().map(&bytes).sum());
            next = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(number: u64) -> ActorId {
        ActorId { node: 1, number }
    }

    #[tokio::test]
    async fn senders_wait_for_credit_in_order_and_other_actors_are_not_held_up() {
        let (channel, mut waiting, state) = Channel::new();
        for _ in 0..WINDOW_MESSAGES {
            channel.send(to(1), 0, vec![1], None).await.expect("there is credit");
        }
        let mut waits = Box::pin(channel.send(to(1), 0, vec![2], None));
        assert!(futures::poll!(&mut waits).is_pending());
        channel.send(to(2), 0, vec![3], None).await.expect("another window");
        state.replied(vec![ReplyFrame { seq: 0, result: Ok(Blob::default()) }]);
        waits.await.expect("there is credit again");
        let sent = waiting.recv_many(FRAME_MESSAGES_MAX).await;
        assert_eq!(sent.len(), WINDOW_MESSAGES + 2);
        assert!(sent.iter().zip(0..).all(|(frame, seq)| frame.seq == seq));
    }

    #[tokio::test]
    async fn a_large_message_goes_alone_and_the_next_waits_for_it() {
        let (channel, _waiting, state) = Channel::new();
        channel.send(to(1), 0, vec![0; 2 * WINDOW_BYTES], None).await.expect("alone rather than never");
        let mut waits = Box::pin(channel.send(to(1), 0, vec![0], None));
        assert!(futures::poll!(&mut waits).is_pending());
        state.replied(vec![ReplyFrame { seq: 0, result: Ok(Blob::default()) }]);
        waits.await.expect("there is credit again");
    }

    #[tokio::test]
    async fn when_the_channel_closes_everyone_who_waits_learns_why() {
        let (channel, _waiting, state) = Channel::new();
        let asked = channel.send(to(1), 0, vec![0], Some(Duration::from_secs(1))).await.expect("credit");
        for _ in 1..WINDOW_MESSAGES {
            channel.send(to(1), 0, vec![0], None).await.expect("credit");
        }
        let mut waits = Box::pin(channel.send(to(1), 0, vec![0], None));
        assert!(futures::poll!(&mut waits).is_pending());
        state.close(&ActorError::NodeLost);
        assert_eq!(waits.await.err(), Some(ActorError::NodeLost));
        assert_eq!(asked.expect("it asked").await.expect("answered"), Err(ActorError::NodeLost));
        assert!(channel.is_closed());
    }
}
