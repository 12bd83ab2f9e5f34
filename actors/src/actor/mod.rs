//! Actors of the user's own: actix actors that are spawned here or on another node, asked through typed handles, and
//! restarted within a budget.
//!
//! Who does what: [`handle`] is what users hold, [`spawn`] how they start one. [`space`] is a process's way to all actors,
//! its own ones in [`host`] and those of other nodes through a [`channel`], one long stream for each node, which ends in
//! an [`inlet`] there. [`hosted`] is one actor on its node: its mailbox, its incarnations and what they die of; [`work`]
//! one message on its way through it. [`directory`] (on the head, or in a session of one process) knows names, owners and
//! what is free where. [`pool`] keeps several equal actors busy.
//!
//! What dies with what: a panic costs an incarnation, and the next begins with the start state or the last snapshot; the
//! messages that nobody had begun with go to it, in their order. The restart budget used up ends the actor; so does the
//! end of its node's life, of its driver or of the last clone of the handle that it was spawned with (unless it was
//! detached). An actor does not move to another node.
//!
//! What is promised of a message: it is handled once at most, in the order of its sender. An ask always ends, by the reply
//! or by an error. A tell that an actor has begun with is lost with its incarnation, and nobody is told.

use actix::{Actor, Context, Handler, Message};
use mobula_transport::codec;
use serde::{Serialize, de::DeserializeOwned};

use crate::operator::BoxError;

pub(crate) mod channel;
pub(crate) mod directory;
mod error;
pub(crate) mod handle;
pub(crate) mod here;
pub(crate) mod host;
pub(crate) mod hosted;
mod id;
pub(crate) mod inlet;
pub(crate) mod lanes;
pub(crate) mod message;
pub(crate) mod places;
pub(crate) mod pool;
pub(crate) mod space;
mod spawn;
pub(crate) mod ways;
pub(crate) mod work;

pub use error::ActorError;
pub use handle::{ASK_DEADLINE, ActorHandle, Reply};
pub use here::{gpus, here};
pub use hosted::{AnyHosted, HostRequest, Hosting, host_actor};
pub use id::{ActorId, ActorIdError};
pub use pool::{ActorPool, Map, PoolBuilder, PoolError, PoolSize};
pub use space::Actors;
pub use spawn::{Place, SpawnBuilder, Thread};
pub use work::{Call, MessageEntry, WireCall, Work, message_entry};

/// Bytes of a start state, a message or a reply, encoded. Larger data travels as blocks and objects. Default 4 MiB: a frame
/// holds several, and the window of a sender two.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Messages of one actor that wait or are handled; who sends one more waits. Default of [`SpawnBuilder::mailbox`]. More
/// hide longer pauses of the actor; fewer let its senders feel sooner that it is slow.
pub const MAILBOX_MESSAGES: usize = 256;
/// Messages of one process to one actor of another that are under way; who sends one more waits. 128 keep an actor busy
/// that handles a message in a few microseconds, at a round trip of 200.
pub const WINDOW_MESSAGES: usize = 128;
/// Bytes of these messages. A larger message goes alone.
pub const WINDOW_BYTES: usize = 2 * MESSAGE_BYTES_MAX;
/// Actors on one node. Each costs a few kilobytes, and some microseconds to start.
pub const NODE_ACTORS_MAX: usize = 16_384;
/// Actors on one node that have a thread of their own.
pub const NODE_THREADS_MAX: usize = 256;

/// A message that can travel, with its reply. Nothing to implement: it is an actix message with serde on both.
pub trait Travels:
    Message<Result: Serialize + DeserializeOwned + Send> + Serialize + DeserializeOwned + Send + 'static
{
}

impl<M> Travels for M where
    M: Message<Result: Serialize + DeserializeOwned + Send> + Serialize + DeserializeOwned + Send + 'static
{
}

/// An actor with a name in the registry; `#[mobula::actor]` writes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no name in the registry",
    note = "write `#[mobula::actor(messages(..))]` on `impl Actor for {Self}`"
)]
pub trait NamedActor: Actor<Context = Context<Self>> + Handler<Work<Self>> + Serialize + DeserializeOwned {
    /// The registered name.
    const NAME: &'static str;
    /// What it can be sent, by number.
    const MESSAGES: &'static [MessageEntry<Self>];
    /// Its encoded snapshot, if it has some.
    const SNAPSHOT: Option<TakeSnapshot<Self>>;
}

/// Encodes a snapshot of an actor.
pub type TakeSnapshot<A> = fn(&A) -> Result<Vec<u8>, BoxError>;

/// An actor that can be sent `M` from anywhere; `#[mobula::actor]` writes it for each of the messages that it names.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take `{M}` from elsewhere",
    note = "write `#[mobula::actor(messages({M}))]` on `impl Actor for {Self}`, and implement `Handler<{M}>`"
)]
pub trait Accepts<M: Travels>: NamedActor + Handler<M> {
    /// Its place among the actor's messages.
    const NUMBER: u16;
}

/// What of an actor its next incarnation begins with, instead of the state that it was spawned with.
///
/// Say `snapshot` in `#[mobula::actor(..)]`, and when to take one by [`SpawnBuilder::snapshot_every`] or
/// [`ActorHandle::snapshot`]. A snapshot is kept in the process of the actor: it outlives incarnations, not the node.
pub trait Snapshot: NamedActor {
    /// A start state that stands for this one.
    fn snapshot(&self) -> Self;
}

/// Encodes a snapshot; `#[mobula::actor]` names it.
///
/// # Errors
/// If it cannot travel.
pub fn take_snapshot<A: Snapshot>(actor: &A) -> Result<Vec<u8>, BoxError> {
    encode("snapshot", &actor.snapshot())
}

/// Encodes a start state, a message or a reply.
pub(crate) fn encode<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>, BoxError> {
    codec::encode(value, MESSAGE_BYTES_MAX)
        .map_err(|error| format!("the {what} cannot travel: {error}; large data travels as blocks and objects").into())
}

/// Decodes what [`encode`] made.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, BoxError> {
    codec::decode(bytes, MESSAGE_BYTES_MAX).map_err(|error| format!("the {what} cannot be read: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_to_travel_is_refused_with_the_way_out() {
        let error = encode("message", &vec![0u8; MESSAGE_BYTES_MAX + 1]).expect_err("too large").to_string();
        assert!(error.starts_with("the message cannot travel") && error.ends_with("blocks and objects"), "{error}");
    }
}
