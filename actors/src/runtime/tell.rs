//! The one way to tell an actix actor something without waiting.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};

/// Tells `to` the message; `false` if it is dead.
///
/// A mailbox of actix bounds nothing once its address is cloned, so nothing here relies on it: what bounds the messages
/// of the data plane is the room that each block carries (see [`super::room`]), and all other messages are one an
/// event. The fresh clone is what makes the mailbox take the message also before the actor has run its first line.
pub(crate) fn tell<A, M>(to: &Addr<A>, message: M) -> bool
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    to.clone().try_send(message).is_ok()
}
