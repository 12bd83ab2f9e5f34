//! One message on its way through an actor's mailbox: who sent it, what becomes of it, and its place.
//!
//! It is begun once at most. Dropped before it is begun (its incarnation died), it goes back to the actor, which keeps it
//! for the next one; dropped after, whoever asked learns what the actor died of.

use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::dev::MessageResponse;
use actix::fut::{ActorFutureExt, wrap_future};
use actix::{AsyncContext, Context, Message};
use serde::Serialize;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::error::ActorError;
use super::hosted::{Hosted, Hosting};
use super::inlet::Replies;
use super::message::ReplyFrame;
use super::{Accepts, NamedActor, Travels, decode, encode};
use crate::task::wire::Blob;

/// A message with its place in the mailbox.
pub struct Work<A: NamedActor> {
    call: Option<Box<dyn Call<A>>>,
    place: Option<OwnedSemaphorePermit>,
    home: Weak<Hosted<A>>,
}

/// What can be done with a message whose type is not known.
pub trait Call<A: NamedActor>: Send {
    /// Lets the actor handle it.
    fn run(self: Box<Self>, actor: &mut A, ctx: &mut Context<A>, hosting: Hosting<A>);

    /// Nobody will handle it.
    fn fail(self: Box<Self>, error: ActorError);
}

impl<A: NamedActor> Work<A> {
    pub(crate) fn new(call: Box<dyn Call<A>>, place: OwnedSemaphorePermit, home: &Arc<Hosted<A>>) -> Self {
        Self { call: Some(call), place: Some(place), home: Arc::downgrade(home) }
    }

    /// Called by the handler that `#[mobula::actor]` writes.
    pub fn run(mut self, actor: &mut A, ctx: &mut Context<A>) {
        let Some(home) = self.home.upgrade() else { return };
        if home.is_dying() {
            // Dropped, it goes to the next incarnation: this one is torn.
            return;
        }
        if let (Some(call), Some(place)) = (self.call.take(), self.place.take()) {
            call.run(actor, ctx, Hosting { home, place });
        }
    }

    /// Nobody will handle it.
    pub(crate) fn fail(mut self, error: ActorError) {
        if let Some(call) = self.call.take() {
            call.fail(error);
        }
    }
}

impl<A: NamedActor> Message for Work<A> {
    type Result = ();
}

impl<A: NamedActor> Drop for Work<A> {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        match (self.home.upgrade(), self.place.take()) {
            (Some(home), Some(place)) => home.take_back(Work::new(call, place, &home)),
            _ => call.fail(ActorError::NotHere),
        }
    }
}

/// Where the reply to a message goes.
pub(crate) trait Answer<R>: Send + 'static {
    /// Whether it still makes sense to begin.
    fn is_wanted(&self, now: Duration) -> bool;

    fn send(self, result: Result<R, ActorError>);
}

/// The sender is in this process and waits.
impl<R: Send + 'static> Answer<R> for oneshot::Sender<Result<R, ActorError>> {
    fn is_wanted(&self, _: Duration) -> bool {
        !self.is_closed()
    }

    fn send(self, result: Result<R, ActorError>) {
        // Who asked may have given up.
        let _ = oneshot::Sender::send(self, result);
    }
}

/// Nobody waits: a tell.
pub(crate) struct Nobody;

impl<R> Answer<R> for Nobody {
    fn is_wanted(&self, _: Duration) -> bool {
        true
    }

    fn send(self, _: Result<R, ActorError>) {}
}

/// The sender is in another process. Dropped unused, it says that the actor is not here.
pub struct WireAnswer {
    replies: Replies,
    seq: u64,
    /// Whether the reply itself is wanted, or only that the message is done with.
    asked: bool,
    /// When the sender gives up, by this process's clock.
    until: Duration,
    sent: bool,
}

impl WireAnswer {
    pub(crate) fn new(replies: Replies, seq: u64, asked: bool, until: Duration) -> Self {
        Self { replies, seq, asked, until, sent: false }
    }

    pub(crate) fn fail(mut self, error: ActorError) {
        self.put(Err(error));
    }

    fn put(&mut self, result: Result<Blob, ActorError>) {
        self.sent = true;
        self.replies.send(ReplyFrame { seq: self.seq, result });
    }
}

impl Drop for WireAnswer {
    fn drop(&mut self) {
        if !self.sent {
            self.put(Err(ActorError::NotHere));
        }
    }
}

impl<R: Serialize> Answer<R> for WireAnswer {
    fn is_wanted(&self, now: Duration) -> bool {
        !self.asked || now < self.until
    }

    fn send(mut self, result: Result<R, ActorError>) {
        let body = match result {
            Ok(reply) if self.asked => encode("reply", &reply).map_err(ActorError::refused),
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        self.put(body.map(|body| Blob(body.into())));
    }
}

/// A message whose type is known.
pub(crate) struct TypedCall<M, T> {
    pub(crate) message: M,
    pub(crate) answer: T,
}

impl<A, M, T> Call<A> for TypedCall<M, T>
where
    A: Accepts<M>,
    M: Travels,
    T: Answer<M::Result>,
{
    fn run(self: Box<Self>, actor: &mut A, ctx: &mut Context<A>, hosting: Hosting<A>) {
        let Self { message, answer } = *self;
        if answer.is_wanted(hosting.home.now()) {
            handle(message, answer, actor, ctx, hosting);
        } else {
            answer.send(Err(ActorError::Deadline(Duration::ZERO)));
        }
    }

    fn fail(self: Box<Self>, error: ActorError) {
        self.answer.send(Err(error));
    }
}

/// A message as bytes: it is decoded on the actor's thread.
pub struct WireCall {
    pub(crate) body: Blob,
    pub(crate) answer: WireAnswer,
}

struct Encoded<M> {
    call: WireCall,
    kind: std::marker::PhantomData<fn() -> M>,
}

/// One kind of message of an actor.
pub struct MessageEntry<A> {
    /// Makes a call of its bytes.
    pub call: fn(WireCall) -> Box<dyn Call<A>>,
}

/// The entry of `M`; `#[mobula::actor]` names it.
pub const fn message_entry<A: Accepts<M>, M: Travels>() -> MessageEntry<A> {
    MessageEntry { call: |call| Box::new(Encoded::<M> { call, kind: std::marker::PhantomData }) }
}

impl<A: Accepts<M>, M: Travels> Call<A> for Encoded<M> {
    fn run(self: Box<Self>, actor: &mut A, ctx: &mut Context<A>, hosting: Hosting<A>) {
        let WireCall { body, answer } = self.call;
        match decode::<M>("message", &body.0) {
            Ok(message) => Box::new(TypedCall { message, answer }).run(actor, ctx, hosting),
            Err(error) => answer.fail(ActorError::refused(error)),
        }
    }

    fn fail(self: Box<Self>, error: ActorError) {
        self.call.answer.fail(error);
    }
}

/// A message that an actor has begun with. Dropped without a reply, it waits for what the actor died of.
struct Begun<A: NamedActor, R, T: Answer<R>> {
    hosting: Hosting<A>,
    answer: Option<T>,
    kind: std::marker::PhantomData<fn() -> R>,
}

impl<A: NamedActor, R, T: Answer<R>> Begun<A, R, T> {
    fn reply(mut self, reply: R, actor: &A) {
        // Who has a reply may rely on the snapshot that holds what came of the message.
        self.hosting.home.handled(actor);
        if let Some(answer) = self.answer.take() {
            answer.send(Ok(reply));
        }
    }
}

impl<A: NamedActor, R, T: Answer<R>> Drop for Begun<A, R, T> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.hosting.home.died_with(Box::new(move |error| answer.send(Err(error))));
        }
    }
}

fn handle<A, M, T>(message: M, answer: T, actor: &mut A, ctx: &mut Context<A>, hosting: Hosting<A>)
where
    A: Accepts<M>,
    M: Travels,
    T: Answer<M::Result>,
{
    let begun = Begun { hosting, answer: Some(answer), kind: std::marker::PhantomData };
    let (tx, mut rx) = oneshot::channel();
    actor.handle(message, ctx).handle(ctx, Some(tx));
    match rx.try_recv() {
        Ok(reply) => begun.reply(reply, actor),
        Err(TryRecvError::Empty) => {
            ctx.spawn(wrap_future(rx).map(move |reply, actor: &mut A, _| match reply {
                Ok(reply) => begun.reply(reply, actor),
                Err(_) => no_reply(),
            }));
        }
        Err(TryRecvError::Closed) => no_reply(),
    }
}

/// A future of the handler panicked, or let its reply go: either is a death of the incarnation.
fn no_reply() -> ! {
    panic!("a handler ended without its reply")
}
