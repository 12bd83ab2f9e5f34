//! Ports: the bounded way to an actor. Room first, then the message; the room travels with it.
//!
//! A mailbox of actix bounds nothing once its address is cloned, and a sender that was refused is never woken. So what
//! bounds a mailbox here is room, in bytes and in messages: a sender takes it before it sends (and waits for it, in
//! order), the message carries it, and it is given back when the receiver drops it: when it has passed its result on,
//! or dies. A message larger than the whole port is admitted alone rather than never.

use std::sync::Arc;

use actix::{Message, Recipient};

use super::budget::EdgeLimits;
use super::room::{Permit, Room, RoomEdge};
use crate::units::Bytes;

/// A message with the room it takes in its receiver's mailbox. Keep [`Carried::room`] until the message's result has
/// been passed on.
#[derive(Debug)]
pub struct Carried<T> {
    /// The message itself.
    pub body: T,
    /// Its room; given back on drop.
    pub room: Permit,
}

impl<T: Send + 'static> Message for Carried<T> {
    type Result = ();
}

/// What a port may hold: messages in the mailbox and in the receiver's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortLimits {
    /// Bytes, as its senders state them.
    pub bytes: Bytes,
    /// Messages.
    pub messages: usize,
}

/// The receiver is gone; the message comes back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiver of the port is gone")]
pub struct Closed<T>(pub T);

/// The bounded way to an actor. Cheap to clone: all clones share the room.
///
/// ```
/// use actix::{Actor, Context, Handler};
/// use mobula_actors::runtime::{ActorSystem, Carried, Port, PortLimits, RestartBudget};
/// use mobula_actors::units::Bytes;
/// use std::time::Duration;
///
/// struct Sink;
/// impl Actor for Sink { type Context = Context<Self>; }
/// impl Handler<Carried<Vec<u8>>> for Sink {
///     type Result = ();
///     fn handle(&mut self, Carried { body, room }: Carried<Vec<u8>>, _: &mut Context<Self>) {
///         assert_eq!(body.len(), 3);
///         drop(room); // the next sender may go on
///     }
/// }
///
/// let system = ActorSystem::start()?;
/// let sink = system.spawn("sink", RestartBudget::none(), |_| Sink)?;
/// let limits = PortLimits { bytes: Bytes::mib(1), messages: 4 };
/// let port = Port::new(sink.address()?.recipient(), limits);
/// futures::executor::block_on(port.send(vec![1, 2, 3], Bytes(3)))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Port<T> {
    edge: RoomEdge,
    push: Arc<dyn Fn(T, Permit) -> Result<(), T> + Send + Sync>,
}

impl<T> Clone for Port<T> {
    fn clone(&self) -> Self {
        Self { edge: self.edge.clone(), push: Arc::clone(&self.push) }
    }
}

impl<T: Send + 'static> Port<T> {
    /// A port to an actor, with room of its own.
    pub fn new(receiver: Recipient<Carried<T>>, limits: PortLimits) -> Self {
        let bytes = limits.bytes.0;
        let edge =
            Room::new(limits.bytes).edge(EdgeLimits { floor: bytes, cap: bytes, items_max: limits.messages, depth: 0 });
        // The fresh clone is what makes the mailbox take the message whatever its own capacity: room bounds it already.
        let push = move |body, room| receiver.clone().try_send(Carried { body, room }).map_err(|e| e.into_inner().body);
        Self::with(edge, push)
    }

    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// If the receiver is gone.
    pub async fn send(&self, body: T, bytes: Bytes) -> Result<(), Closed<T>> {
        match self.reserve(bytes).await {
            Some(room) => self.push(body, room).map_err(Closed),
            None => Err(Closed(body)),
        }
    }
}

/// Blocks at a port are served in order of arrival, so all have one key.
pub(crate) const PORT_KEY: u64 = 0;

impl<T> Port<T> {
    /// A port on an edge of a shared room.
    pub(crate) fn with(edge: RoomEdge, push: impl Fn(T, Permit) -> Result<(), T> + Send + Sync + 'static) -> Self {
        Self { edge, push: Arc::new(push) }
    }

    /// Its room.
    pub(crate) fn edge(&self) -> &RoomEdge {
        &self.edge
    }

    /// Room for a message of `bytes`, if there is some and nobody waits for it.
    pub fn try_reserve(&self, bytes: Bytes) -> Option<Permit> {
        self.edge.try_take(bytes, PORT_KEY)
    }

    /// Room for a message of `bytes`, waiting for it; `None` once the port is closed.
    pub async fn reserve(&self, bytes: Bytes) -> Option<Permit> {
        self.edge.take(bytes, PORT_KEY).await
    }

    /// Sends a message into room that was taken before.
    ///
    /// # Errors
    /// If the receiver is gone; the message comes back.
    pub fn push(&self, body: T, room: Permit) -> Result<(), T> {
        (self.push)(body, room)
    }
}
