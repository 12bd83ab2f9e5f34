//! The actix actor round a user's remote actor: bytes in, bytes out, and what it died of.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor, Context, Handler, Message};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{RemoteActor, decode, encode};
use crate::function::registry::BuildActor;
use crate::operator::BoxError;
use crate::runtime::watch::guarded;

/// A remote actor whose type is known to its registry entry alone.
pub trait AnyActor {
    /// Handles an encoded request; gives the encoded reply.
    ///
    /// # Errors
    /// If the request cannot be decoded or the reply cannot travel.
    fn handle(&mut self, request: &[u8]) -> Result<Vec<u8>, BoxError>;
}

struct Typed<A>(A);

impl<A: RemoteActor> AnyActor for Typed<A> {
    fn handle(&mut self, request: &[u8]) -> Result<Vec<u8>, BoxError> {
        let reply = self.0.handle(decode("request", request)?);
        encode("reply", &reply)
    }
}

/// Builds an incarnation from its encoded start state.
///
/// # Errors
/// If the bytes are no such state.
pub fn build_actor<A: RemoteActor>(start: &[u8]) -> Result<Box<dyn AnyActor>, BoxError> {
    Ok(Box::new(Typed::<A>(decode("start state", start)?)))
}

/// What an actor died of last, for those who find it dead; it outlives the incarnations.
#[derive(Clone, Default)]
pub(crate) struct LastDeath(Arc<Mutex<Death>>);

/// A death and how many came before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Death {
    pub(crate) incarnation: u64,
    pub(crate) cause: String,
}

impl LastDeath {
    pub(crate) fn get(&self) -> Death {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the incarnation as a panic does, so that its guardian counts it. The panic itself has been reported.
    fn die(&self, incarnation: u64, cause: String) -> ! {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Death { incarnation, cause: cause.clone() };
        resume_unwind(Box::new(cause))
    }
}

/// One incarnation.
pub(crate) struct Shell {
    actor: Box<dyn AnyActor>,
    incarnation: u64,
    last: LastDeath,
}

impl Shell {
    /// Builds it, on its own thread. A start state that cannot be decoded is the death of the incarnation.
    pub(crate) fn build(build: BuildActor, start: &[u8], incarnation: u64, last: LastDeath) -> Self {
        let cause = match guarded(|| build(start)) {
            Ok(Ok(actor)) => return Self { actor, incarnation, last },
            Ok(Err(error)) | Err(error) => text(error),
        };
        last.die(incarnation, format!("could not be built: {cause}"))
    }
}

impl Actor for Shell {
    type Context = Context<Self>;
}

/// A request on its way to the actor; without bytes it asks whether the actor stands.
pub(crate) struct Work {
    pub(crate) request: Option<Arc<[u8]>>,
    /// Dropped unused if the actor dies before it begins with this.
    pub(crate) answer: oneshot::Sender<Outcome>,
    /// One of the asks that the actor takes; given back when it is done with it, whoever still waits.
    pub(crate) place: Arc<OwnedSemaphorePermit>,
}

/// What came of a request that the actor began with.
pub(crate) enum Outcome {
    Stands,
    Reply(Vec<u8>),
    Refused(String),
    Died(String),
}

impl Message for Work {
    type Result = ();
}

impl Handler<Work> for Shell {
    type Result = ();

    fn handle(&mut self, Work { request, answer, place }: Work, _: &mut Context<Self>) {
        // Nobody acts for who has given up.
        if answer.is_closed() {
            return;
        }
        let outcome = request.map(|request| guarded(|| self.actor.handle(&request)));
        let (outcome, death) = match outcome {
            None => (Outcome::Stands, None),
            Some(Ok(Ok(reply))) => (Outcome::Reply(reply), None),
            Some(Ok(Err(error))) => (Outcome::Refused(text(error)), None),
            Some(Err(panic)) => {
                let cause = text(panic);
                (Outcome::Died(cause.clone()), Some(cause))
            }
        };
        drop(place);
        // Who asked may have given up meanwhile.
        let _ = answer.send(outcome);
        if let Some(cause) = death {
            self.last.die(self.incarnation, cause);
        }
    }
}

/// The chain of an error on one line, cut where it is longer than a reader wants.
fn text(error: BoxError) -> String {
    crate::job::texts(&*error).join(": ")
}
