//! What users hold of an actor: a handle to ask and tell it by, from anywhere, and the reply that is to come.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::here;
use super::hosted::{AnyHosted, Hosted};
use super::message::{ActorAnswer, ActorCall, DirectoryCall, odd};
use super::space::{Actors, Space};
use super::work::{Nobody, TypedCall};
use super::{Accepts, ActorError, ActorId, NamedActor, Snapshot, Travels, decode, encode};
use crate::cluster::link::CALL_DEADLINE;
use crate::runtime::wait;
use crate::task;
use crate::task::wire::Blob;

/// Time for a reply, unless the handle says otherwise ([`ActorHandle::within`]).
pub const ASK_DEADLINE: Duration = Duration::from_secs(60);

/// An actor as those see it who use it. Cheap to clone, and serde: it may travel in messages to other actors and finds its
/// way from there. The last clone of the handle that an actor was spawned with stops it, unless it was detached; handles
/// that came by serde or by a look-up never do.
///
/// Messages of one sender are handled in the order in which it sent them. Senders wait while as many messages as the
/// mailbox holds wait or are handled; from another node, also while as many as [`WINDOW_MESSAGES`](super::WINDOW_MESSAGES)
/// of this process are under way to this actor.
pub struct ActorHandle<A: NamedActor> {
    id: ActorId,
    /// `None` where it came by serde outside of a session.
    space: Option<Weak<Space>>,
    deadline: Duration,
    /// The actor, if it lives in this process and was used.
    local: OnceLock<Weak<Hosted<A>>>,
    owner: Option<Arc<Owner>>,
}

/// Stops its actor when it is dropped.
struct Owner {
    id: ActorId,
    space: Weak<Space>,
    detached: AtomicBool,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A session that is gone has stopped it.
        if let Some(space) = self.space.upgrade().filter(|_| !self.detached.load(Ordering::Relaxed)) {
            space.tell_directory(DirectoryCall::To { id: self.id, call: ActorCall::Stop });
        }
    }
}

impl<A: NamedActor> ActorHandle<A> {
    pub(crate) fn new(id: ActorId, space: Weak<Space>) -> Self {
        Self { id, space: Some(space), deadline: ASK_DEADLINE, local: OnceLock::new(), owner: None }
    }

    /// One whose last clone stops the actor.
    pub(crate) fn owning(id: ActorId, space: Weak<Space>) -> Self {
        let owner = Owner { id, space: space.clone(), detached: AtomicBool::new(false) };
        Self { owner: Some(Arc::new(owner)), ..Self::new(id, space) }
    }

    /// The actor's number in its cluster, by which [`Actors::find`] finds it.
    pub fn id(&self) -> ActorId {
        self.id
    }

    /// The same handle, whose asks wait as long for a reply, the wait for room included. Default: [`ASK_DEADLINE`].
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The same handle in a session: for one that came by serde where none was known.
    pub fn of(&self, actors: &Actors) -> Self {
        Self { space: Some(actors.weak()), local: OnceLock::new(), ..self.clone() }
    }

    /// Lets the actor handle a message and waits for the reply. While the actor is restarted, messages wait for the next
    /// incarnation. From a handler of another actor prefer [`ask_async`](Self::ask_async): this blocks its thread.
    ///
    /// # Errors
    /// If the actor died while it had the message or is gone, or no reply came before the deadline. Nothing is asked twice.
    pub fn ask<M: Travels>(&self, message: M) -> Result<M::Result, ActorError>
    where
        A: Accepts<M>,
    {
        self.ask_later(message)?.wait()
    }

    /// Sends a message, waiting for room, and gives the reply that is to come: so one thread can have many under way.
    ///
    /// # Errors
    /// If the actor is gone, or there was no room before the deadline.
    pub fn ask_later<M: Travels>(&self, message: M) -> Result<Reply<M::Result>, ActorError>
    where
        A: Accepts<M>,
    {
        let space = self.space()?;
        let from = space.env().now();
        let to = self.to(&space)?;
        let sent = match to.try_ask(message) {
            Ok(sent) => sent?,
            Err(message) => {
                to.may_wait()?;
                let sending = to.ask(message, self.deadline);
                let sent = task::while_waiting(|| wait::within(&**space.env(), self.deadline, sending));
                sent.ok_or(ActorError::Deadline(self.deadline))??
            }
        };
        Ok(Reply { sent, deadline: self.deadline, from, lane: to.lane(), space, timer: None })
    }

    /// As [`ask`](Self::ask), without blocking the thread. Dropping the future does not take the message back.
    pub fn ask_async<M: Travels>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<M::Result, ActorError>> + Send + 'static + use<A, M>
    where
        A: Accepts<M>,
    {
        let this = self.clone();
        async move {
            let space = this.space()?;
            let (from, deadline) = (space.env().now(), this.deadline);
            let to = this.to(&space)?;
            let (sent, timer) = match to.try_ask(message) {
                Ok(sent) => (sent?, None),
                Err(message) => {
                    let mut timer = timer(&space, deadline);
                    let sending = std::pin::pin!(to.ask(message, deadline));
                    match futures::future::select(sending, &mut timer).await {
                        futures::future::Either::Left((sent, _)) => (sent?, Some(timer)),
                        futures::future::Either::Right(_) => return Err(ActorError::Deadline(deadline)),
                    }
                }
            };
            Reply { sent, deadline, from, lane: None, space, timer }.await
        }
    }

    /// Sends a message that nobody waits for, waiting for room. It is lost if its actor dies while it has it.
    ///
    /// # Errors
    /// If the actor is known to be gone, or there was no room before the deadline.
    pub fn tell<M: Travels>(&self, message: M) -> Result<(), ActorError>
    where
        A: Accepts<M>,
    {
        let space = self.space()?;
        let to = self.to(&space)?;
        match to.try_tell(message) {
            Ok(told) => told,
            Err(message) => {
                to.may_wait()?;
                let told = task::while_waiting(|| wait::within(&**space.env(), self.deadline, to.tell(message)));
                told.unwrap_or(Err(ActorError::Deadline(self.deadline)))
            }
        }
    }

    /// As [`tell`](Self::tell), without blocking the thread; it waits for room as long as it takes.
    pub fn tell_async<M: Travels>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<(), ActorError>> + Send + 'static + use<A, M>
    where
        A: Accepts<M>,
    {
        let this = self.clone();
        async move {
            let space = this.space()?;
            let to = this.to(&space)?;
            match to.try_tell(message) {
                Ok(told) => told,
                Err(message) => to.tell(message).await,
            }
        }
    }

    /// How often it was restarted.
    ///
    /// # Errors
    /// If the actor is gone, or nobody answers.
    pub fn incarnation(&self) -> Result<u64, ActorError> {
        match self.call(ActorCall::Incarnation)? {
            ActorAnswer::Incarnation { incarnation } => Ok(incarnation),
            other => Err(odd(&other)),
        }
    }

    /// Takes a snapshot now: from here on incarnations begin with it.
    ///
    /// # Errors
    /// If the actor is gone, or the snapshot is too large.
    pub fn snapshot(&self) -> Result<(), ActorError>
    where
        A: Snapshot,
    {
        self.call(ActorCall::Snapshot).map(drop)
    }

    /// From now on the actor outlives its handles and its driver. It ends when it is stopped, its node goes, or the head is
    /// lost.
    ///
    /// # Errors
    /// If nobody answers.
    pub fn detach(&self) -> Result<(), ActorError> {
        self.space()?.call_and_wait(DirectoryCall::Detach { id: self.id }, CALL_DEADLINE)?;
        if let Some(owner) = &self.owner {
            owner.detached.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Stops the actor, whoever spawned it. Messages that it has not begun with are answered that it is gone; one that it
    /// has begun with is not interrupted.
    ///
    /// # Errors
    /// If nobody answers. One that is gone already is no error.
    pub fn stop(&self) -> Result<(), ActorError> {
        match self.call(ActorCall::Stop) {
            Ok(_) | Err(ActorError::NodeLost | ActorError::NotHere) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// As [`stop`](Self::stop), without waiting for it.
    pub(crate) fn stop_soon(&self) {
        if let Ok(space) = self.space() {
            space.tell_directory(DirectoryCall::To { id: self.id, call: ActorCall::Stop });
        }
    }

    fn call(&self, call: ActorCall) -> Result<ActorAnswer, ActorError> {
        self.space()?.call_and_wait(DirectoryCall::To { id: self.id, call }, CALL_DEADLINE)
    }

    pub(crate) fn space(&self) -> Result<Arc<Space>, ActorError> {
        self.space.as_ref().ok_or(ActorError::NoSession)?.upgrade().ok_or(ActorError::SessionEnded)
    }

    fn to(&self, space: &Arc<Space>) -> Result<To<A>, ActorError> {
        if space.node() != Some(self.id.node) {
            return Ok(To::Away(Arc::clone(space), self.id));
        }
        if let Some(hosted) = self.local.get() {
            return hosted.upgrade().map(To::Here).ok_or(ActorError::NotHere);
        }
        let host = space.host().ok_or(ActorError::NotHere)?;
        let hosted = host.typed::<Hosted<A>>(self.id.number)?;
        // Another thread may have been first, with the same.
        let _ = self.local.set(Arc::downgrade(&hosted));
        Ok(To::Here(hosted))
    }
}

/// Where a message goes.
enum To<A: NamedActor> {
    Here(Arc<Hosted<A>>),
    Away(Arc<Space>, ActorId),
}

impl<A: NamedActor> To<A> {
    /// The thread of the actor, if it is in this process.
    fn lane(&self) -> Option<u64> {
        match self {
            Self::Here(hosted) => hosted.lane(),
            Self::Away(..) => None,
        }
    }

    /// An actor must not block the thread that the other one lives on.
    fn may_wait(&self) -> Result<(), ActorError> {
        may_wait(self.lane())
    }

    /// Sends at once, if the actor is here and has room; else the message comes back.
    fn try_ask<M: Travels>(&self, message: M) -> Result<Result<Sent<M::Result>, ActorError>, M>
    where
        A: Accepts<M>,
    {
        let Self::Here(hosted) = self else { return Err(message) };
        let Ok(place) = Arc::clone(hosted.gate()).try_acquire_owned() else { return Err(message) };
        let (answer, answered) = oneshot::channel();
        hosted.push(Box::new(TypedCall { message, answer }), place);
        Ok(Ok(Sent::Here(answered)))
    }

    async fn ask<M: Travels>(&self, message: M, left: Duration) -> Result<Sent<M::Result>, ActorError>
    where
        A: Accepts<M>,
    {
        match self {
            Self::Here(hosted) => {
                let place = Arc::clone(hosted.gate()).acquire_owned().await.map_err(|_| ActorError::NotHere)?;
                let (answer, answered) = oneshot::channel();
                hosted.push(Box::new(TypedCall { message, answer }), place);
                Ok(Sent::Here(answered))
            }
            Self::Away(space, id) => {
                let body = encode("message", &message).map_err(ActorError::refused)?;
                drop(message);
                let answered = space.channel(id.node).send(*id, <A as Accepts<M>>::NUMBER, body, Some(left)).await?;
                answered.map(Sent::Away).ok_or(ActorError::SessionEnded)
            }
        }
    }

    fn try_tell<M: Travels>(&self, message: M) -> Result<Result<(), ActorError>, M>
    where
        A: Accepts<M>,
    {
        let Self::Here(hosted) = self else { return Err(message) };
        let Ok(place) = Arc::clone(hosted.gate()).try_acquire_owned() else { return Err(message) };
        Ok(hosted.incarnation().map(|_| hosted.push(Box::new(TypedCall { message, answer: Nobody }), place)))
    }

    async fn tell<M: Travels>(&self, message: M) -> Result<(), ActorError>
    where
        A: Accepts<M>,
    {
        match self {
            Self::Here(hosted) => {
                let place = Arc::clone(hosted.gate()).acquire_owned().await.map_err(|_| ActorError::NotHere)?;
                hosted.incarnation()?;
                hosted.push(Box::new(TypedCall { message, answer: Nobody }), place);
                Ok(())
            }
            Self::Away(space, id) => {
                let body = encode("message", &message).map_err(ActorError::refused)?;
                drop(message);
                space.channel(id.node).send(*id, <A as Accepts<M>>::NUMBER, body, None).await.map(drop)
            }
        }
    }
}

fn may_wait(lane: Option<u64>) -> Result<(), ActorError> {
    if lane.is_some() && lane == here::lane() {
        let reason = "the actor lives on the thread that would wait for it; ask without blocking (`ask_async`), or give one \
                      of them a thread of its own";
        return Err(ActorError::Refused(reason.to_owned()));
    }
    Ok(())
}

/// A message that was sent.
enum Sent<R> {
    Here(oneshot::Receiver<Result<R, ActorError>>),
    Away(oneshot::Receiver<Result<Blob, ActorError>>),
}

fn timer(space: &Space, time: Duration) -> Pin<Box<Sleep>> {
    let _timers = space.timers().enter();
    Box::pin(tokio::time::sleep(time))
}

/// A reply that is to come: a future, or [`wait`](Self::wait) for it. Dropped, the message is not taken back.
pub struct Reply<R> {
    sent: Sent<R>,
    deadline: Duration,
    /// When the deadline began.
    from: Duration,
    lane: Option<u64>,
    space: Arc<Space>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<R: serde::de::DeserializeOwned> Reply<R> {
    /// Waits for it, until the deadline of its ask.
    ///
    /// # Errors
    /// As [`ActorHandle::ask`].
    pub fn wait(self) -> Result<R, ActorError> {
        may_wait(self.lane)?;
        let Self { mut sent, deadline, from, space, .. } = self;
        let left = (from + deadline).saturating_sub(space.env().now());
        let come = std::future::poll_fn(|cx| sent.poll(&space, cx));
        let came = task::while_waiting(|| wait::within(&**space.env(), left, come));
        came.unwrap_or(Err(ActorError::Deadline(deadline)))
    }
}

impl<R: serde::de::DeserializeOwned> Sent<R> {
    fn poll(&mut self, space: &Arc<Space>, cx: &mut Context<'_>) -> Poll<Result<R, ActorError>> {
        match self {
            Self::Here(answered) => {
                Pin::new(answered).poll(cx).map(|come| come.unwrap_or(Err(ActorError::SessionEnded)))
            }
            Self::Away(answered) => {
                let Poll::Ready(come) = Pin::new(answered).poll(cx) else { return Poll::Pending };
                let body = match come.unwrap_or(Err(ActorError::SessionEnded)) {
                    Ok(body) => body,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                // Handles in it find their way by this.
                let _here = space.enter();
                Poll::Ready(decode("reply", &body.0).map_err(ActorError::refused))
            }
        }
    }
}

impl<R: serde::de::DeserializeOwned> Future for Reply<R> {
    type Output = Result<R, ActorError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(come) = this.sent.poll(&this.space, cx) {
            return Poll::Ready(come);
        }
        let timer = this.timer.get_or_insert_with(|| {
            let left = (this.from + this.deadline).saturating_sub(this.space.env().now());
            timer(&this.space, left)
        });
        timer.as_mut().poll(cx).map(|()| Err(ActorError::Deadline(this.deadline)))
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

impl<A: NamedActor> Clone for ActorHandle<A> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            space: self.space.clone(),
            deadline: self.deadline,
            local: self.local.clone(),
            owner: self.owner.clone(),
        }
    }
}

impl<A: NamedActor> fmt::Debug for ActorHandle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorHandle({} {})", A::NAME, self.id)
    }
}

impl<A: NamedActor> Serialize for ActorHandle<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.id, self.deadline).serialize(serializer)
    }
}

impl<'de, A: NamedActor> Deserialize<'de> for ActorHandle<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, deadline) = <(ActorId, Duration)>::deserialize(deserializer)?;
        Ok(Self { id, space: here::space(), deadline, local: OnceLock::new(), owner: None })
    }
}
