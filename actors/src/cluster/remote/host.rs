//! The node's side: the actors that live here, by the numbers that the head gave them.
//!
//! Only kinds of actors that this binary has registered are ever built; a call names one of them and brings its start
//! state. Limits: actors here, asks of one actor, asks of all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mobula_transport::IncomingCall;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::message::{ActorAnswer, ActorCall, ActorOrder};
use super::shell::{Death, LastDeath, Outcome, Shell, Work};
use super::{ASKS_MAX, ActorId, NODE_ACTORS_MAX, NODE_ASKS_MAX, RemoteError, SPAWN_DEADLINE};
use crate::cluster::link::CALL_DEADLINE;
use crate::function::registry;
use crate::runtime::tell::tell;
use crate::runtime::{ActorSystem, AskError, Exit, Supervised, tasks};

/// The remote actors of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ActorHost {
    inner: Arc<Inner>,
}

struct Inner {
    node: u64,
    /// Gone when the node's life is over.
    state: Mutex<Option<State>>,
    asks: Arc<Semaphore>,
    rooms: Arc<Semaphore>,
}

struct State {
    system: ActorSystem,
    actors: BTreeMap<u64, Hosted>,
}

/// One actor.
#[derive(Clone)]
struct Hosted {
    name: Arc<str>,
    actor: Supervised<Shell>,
    last: LastDeath,
    asks: Arc<Semaphore>,
    /// Its place among the actors here.
    _room: Arc<OwnedSemaphorePermit>,
}

impl ActorHost {
    /// The actors of the node with this number.
    pub(crate) fn new(node: u64, system: ActorSystem) -> Self {
        let state = Mutex::new(Some(State { system, actors: BTreeMap::new() }));
        let (asks, rooms) = (Arc::new(Semaphore::new(NODE_ASKS_MAX)), Arc::new(Semaphore::new(NODE_ACTORS_MAX)));
        Self { inner: Arc::new(Inner { node, state, asks, rooms }) }
    }

    /// Does what the head asks of an actor. An ask may be dropped when who asked has given up, a spawn may not.
    pub(crate) async fn serve(&self, actor: u64, call: ActorCall) -> ActorAnswer {
        if let ActorCall::Stop = call {
            self.stop(actor);
            return ActorAnswer::Done;
        }
        let Ok(_place) = Arc::clone(&self.inner.asks).try_acquire_owned() else {
            return Err(RemoteError::Busy { asks_max: NODE_ASKS_MAX }).into();
        };
        let served = match call {
            ActorCall::Spawn { order } => self.spawn(actor, order).await,
            ActorCall::Ask { request, deadline } => self.ask(actor, request, deadline).await,
            ActorCall::Find { name } => self.find(actor, &name),
            ActorCall::Incarnation => self.incarnation(actor).await,
            ActorCall::Stop => Ok(ActorAnswer::Done),
        };
        served.into()
    }

    /// Answers the head, unless it gives up first.
    pub(crate) async fn answer(self, incoming: IncomingCall, actor: u64, call: ActorCall) {
        let (cancelled, spawning) = (incoming.cancelled(), matches!(call, ActorCall::Spawn { .. }));
        let answer = tokio::select! {
            answer = self.serve(actor, call) => answer,
            () = cancelled, if !spawning => return,
        };
        if let Err(error) = incoming.reply(&answer).await {
            tracing::debug!(%error, "the head did not wait for an answer");
        }
    }

    async fn spawn(&self, number: u64, order: ActorOrder) -> Result<ActorAnswer, RemoteError> {
        let refused = |reason: String| RemoteError::Refused(reason);
        let build = registry::actor(&order.name).map_err(|error| refused(error.to_string()))?;
        let room = Arc::clone(&self.inner.rooms).try_acquire_owned();
        let room = room.map_err(|_| refused(format!("this node has {NODE_ACTORS_MAX} remote actors, the limit")))?;
        let system = self.state().as_ref().map(|state| state.system.clone()).ok_or(RemoteError::NodeLost)?;
        let (last, label, budget) = (LastDeath::default(), format!("{} {number}", order.name), order.budget());
        let (name, start) = (order.name.into(), order.start);
        let spawned = {
            let last = last.clone();
            let make = move |incarnation| Shell::build(build, &start, incarnation, last.clone());
            tasks::blocking(move || system.spawn(&label, budget, make)).await
        };
        let actor = spawned.and_then(|spawned| spawned).map_err(|error| refused(error.to_string()))?;
        let hosted = Hosted { name, actor, last, asks: Arc::new(Semaphore::new(ASKS_MAX)), _room: Arc::new(room) };
        self.insert(number, hosted.clone())?;
        let stands = timeout(SPAWN_DEADLINE, hosted.ask(None)).await;
        match stands.unwrap_or(Err(RemoteError::Deadline(SPAWN_DEADLINE))) {
            Ok(_) => Ok(ActorAnswer::Spawned { id: ActorId { node: self.inner.node, number } }),
            Err(error) => {
                self.stop(number);
                Err(error)
            }
        }
    }

    fn insert(&self, number: u64, hosted: Hosted) -> Result<(), RemoteError> {
        match self.state().as_mut() {
            Some(state) => drop(state.actors.insert(number, hosted)),
            None => {
                hosted.actor.stop();
                return Err(RemoteError::NodeLost);
            }
        }
        Ok(())
    }

    async fn ask(&self, actor: u64, request: Vec<u8>, deadline: Duration) -> Result<ActorAnswer, RemoteError> {
        let hosted = self.get(actor)?;
        let asked = timeout(deadline, hosted.ask(Some(request.into()))).await;
        let reply = asked.map_err(|_| RemoteError::Deadline(deadline))??;
        Ok(ActorAnswer::Reply { reply })
    }

    fn find(&self, actor: u64, name: &str) -> Result<ActorAnswer, RemoteError> {
        (*self.get(actor)?.name == *name).then_some(ActorAnswer::Done).ok_or(RemoteError::NotHere)
    }

    async fn incarnation(&self, actor: u64) -> Result<ActorAnswer, RemoteError> {
        let hosted = self.get(actor)?;
        let alive = timeout(CALL_DEADLINE, hosted.actor.alive()).await;
        let alive = alive.map_err(|_| RemoteError::Deadline(CALL_DEADLINE))?;
        let (incarnation, _) = alive.map_err(|error| hosted.ended(&error))?;
        Ok(ActorAnswer::Incarnation { incarnation })
    }

    fn stop(&self, actor: u64) {
        let stopped = self.state().as_mut().and_then(|state| state.actors.remove(&actor));
        if let Some(hosted) = stopped {
            hosted.actor.stop();
        }
    }

    /// Ends all actors: the node's life is over.
    pub(crate) fn close(&self) {
        let Some(state) = self.state().take() else { return };
        for hosted in state.actors.values() {
            hosted.actor.stop();
        }
    }

    fn get(&self, actor: u64) -> Result<Hosted, RemoteError> {
        let state = self.state();
        let state = state.as_ref().ok_or(RemoteError::NodeLost)?;
        state.actors.get(&actor).cloned().ok_or(RemoteError::NotHere)
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hosted {
    /// Lets the actor handle a request. One that it dies before it begins with goes to the next incarnation.
    async fn ask(&self, request: Option<Arc<[u8]>>) -> Result<Vec<u8>, RemoteError> {
        let place = Arc::clone(&self.asks).try_acquire_owned();
        let place = Arc::new(place.map_err(|_| RemoteError::Busy { asks_max: ASKS_MAX })?);
        loop {
            let (incarnation, address) = self.actor.alive().await.map_err(|error| self.ended(&error))?;
            let (answer, answered) = oneshot::channel();
            // If it is dead, the message is dropped, and with it the answer's other end.
            tell(&address, Work { request: request.clone(), answer, place: Arc::clone(&place) });
            match answered.await {
                Ok(Outcome::Stands) => return Ok(Vec::new()),
                Ok(Outcome::Reply(reply)) => return Ok(reply),
                Ok(Outcome::Refused(reason)) => return Err(RemoteError::Refused(reason)),
                Ok(Outcome::Died(cause)) => {
                    self.actor.has_ended(incarnation).await;
                    let (incarnation, _) = self.actor.alive().await.map_err(|error| self.ended(&error))?;
                    return Err(RemoteError::Panicked { cause, incarnation });
                }
                Err(_) => self.actor.has_ended(incarnation).await,
            }
        }
    }

    /// Why there will be no further incarnation: it was told to stop, or died too often.
    fn ended(&self, error: &AskError) -> RemoteError {
        match error {
            AskError::Ended { exit: Exit::Panicked | Exit::Failed(_), .. } => {
                let Death { incarnation, cause } = self.last.get();
                RemoteError::GaveUp { restarts: incarnation, cause }
            }
            _ => RemoteError::NotHere,
        }
    }
}
