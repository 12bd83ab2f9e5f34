//! The head's side: passes calls to the node of the actor, and stops the actors of a driver that is gone.
//!
//! The head keeps no table of actors: an actor's number holds that of its node's life. It keeps, for each driver's
//! connection, which actors end with it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mobula_transport::{CallError, IncomingCall};
use tokio::sync::Semaphore;

use super::host::ActorHost;
use super::message::{ActorAnswer, ActorCall, ActorOrder, RemoteCall};
use super::{ActorId, NODE_ASKS_MAX, RemoteError, SPAWN_DEADLINE};
use crate::block::NodeId;
use crate::cluster::link::CALL_DEADLINE;
use crate::cluster::members::Members;
use crate::cluster::messages::{DriverAnswer, HeadCall};
use crate::cluster::peers::HEAD;

/// What a spawn may take longer here than on the node, which then says itself that it took too long.
const SPAWN_SLACK: Duration = CALL_DEADLINE;

/// The way from drivers to actors. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ActorRoutes {
    members: Arc<Members>,
    /// The head's own node, by name, if it computes.
    here: Option<(Arc<str>, ActorHost)>,
    next: Arc<AtomicU64>,
}

/// The actors that end with one connection of a driver, and its asks under way.
#[derive(Clone)]
pub(crate) struct DriverActors {
    /// Gone when the driver is.
    owned: Arc<Mutex<Option<BTreeSet<ActorId>>>>,
    asks: Arc<Semaphore>,
}

impl DriverActors {
    pub(crate) fn new() -> Self {
        let owned = Arc::new(Mutex::new(Some(BTreeSet::new())));
        Self { owned, asks: Arc::new(Semaphore::new(NODE_ASKS_MAX)) }
    }

    /// `false` if the driver is gone already.
    fn add(&self, id: ActorId) -> bool {
        self.owned().as_mut().map(|owned| owned.insert(id)).is_some()
    }

    fn remove(&self, id: ActorId) {
        if let Some(owned) = self.owned().as_mut() {
            owned.remove(&id);
        }
    }

    fn owned(&self) -> MutexGuard<'_, Option<BTreeSet<ActorId>>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActorRoutes {
    pub(crate) fn new(members: Arc<Members>, here: Option<(Arc<str>, ActorHost)>) -> Self {
        Self { members, here, next: Arc::new(AtomicU64::new(1)) }
    }

    /// Answers a driver, unless it gives up first. A spawn is carried through: someone has to stop what comes of it.
    pub(crate) async fn answer(self, incoming: IncomingCall, call: RemoteCall, driver: DriverActors) {
        let (cancelled, spawning) = (incoming.cancelled(), matches!(call, RemoteCall::Spawn { .. }));
        let answer = tokio::select! {
            answer = self.serve(call, &driver) => answer,
            () = cancelled, if !spawning => return,
        };
        if let Err(error) = incoming.reply(&DriverAnswer::Remote { answer }).await {
            tracing::debug!(%error, "nobody waited for an answer");
        }
    }

    /// Stops the actors of a driver that is gone.
    pub(crate) async fn driver_gone(&self, driver: &DriverActors) {
        let owned = driver.owned().take();
        for id in owned.unwrap_or_default() {
            tracing::info!(actor = %id, "stopping an actor whose driver is gone");
            self.stop(id).await;
        }
    }

    async fn serve(&self, call: RemoteCall, driver: &DriverActors) -> ActorAnswer {
        match call {
            RemoteCall::Detach { id } => {
                driver.remove(id);
                return ActorAnswer::Done;
            }
            RemoteCall::To { id, call: ActorCall::Stop } => {
                driver.remove(id);
                return self.stop(id).await;
            }
            _ => {}
        }
        let Ok(_place) = Arc::clone(&driver.asks).try_acquire_owned() else {
            return Err(RemoteError::Busy { asks_max: NODE_ASKS_MAX }).into();
        };
        match call {
            RemoteCall::Spawn { node, order } => self.spawn(&node, order, driver).await.into(),
            RemoteCall::To { call: ActorCall::Spawn { .. }, .. } => {
                Err(RemoteError::Refused("an actor is spawned by the name of a node".to_owned())).into()
            }
            RemoteCall::To { id, call } => {
                let deadline = if let ActorCall::Ask { deadline, .. } = call { deadline } else { CALL_DEADLINE };
                self.pass(id, call, deadline).await
            }
            RemoteCall::Detach { .. } => ActorAnswer::Done,
        }
    }

    async fn spawn(&self, node: &str, order: ActorOrder, driver: &DriverActors) -> Result<ActorAnswer, RemoteError> {
        let node = self.node(node).map_err(RemoteError::Refused)?;
        let id = ActorId { node: node.0, number: self.next.fetch_add(1, Ordering::Relaxed) };
        if !driver.add(id) {
            return Err(RemoteError::NotHere);
        }
        let answer = self.pass(id, ActorCall::Spawn { order }, SPAWN_DEADLINE + SPAWN_SLACK).await;
        // The driver may have gone while it was spawned, or it came up too late to be wanted.
        let wanted = matches!(answer, ActorAnswer::Spawned { .. }) && driver.owned().is_some();
        if !wanted {
            driver.remove(id);
            self.stop(id).await;
        }
        Ok(answer)
    }

    async fn stop(&self, id: ActorId) -> ActorAnswer {
        self.pass(id, ActorCall::Stop, CALL_DEADLINE).await
    }

    /// The number of the node of this name, if actors may be spawned there.
    fn node(&self, name: &str) -> Result<NodeId, String> {
        if self.here.as_ref().is_some_and(|(here, _)| **here == *name) {
            return Ok(HEAD);
        }
        // Who was silent for a moment is asked all the same: it answers, or its end does.
        let lives = |state: &str| ["alive", "suspect"].contains(&state);
        let alive = self.members.list().into_iter().filter(|node| lives(&node.state));
        let (mut found, mut names) = (None, self.here.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>());
        for node in alive {
            found = found.or_else(|| (node.name == name).then_some(NodeId(node.number)));
            names.push(node.name);
        }
        found.ok_or_else(|| format!("no node {name:?} is alive; there are: {}", names.join(", ")))
    }

    async fn pass(&self, ActorId { node, number: actor }: ActorId, call: ActorCall, deadline: Duration) -> ActorAnswer {
        if let (HEAD, Some((_, host))) = (NodeId(node), &self.here) {
            return host.serve(actor, call).await;
        }
        let Some(control) = self.members.control(NodeId(node)) else {
            return Err(RemoteError::NodeLost).into();
        };
        let answer = control.call::<_, ActorAnswer>(&HeadCall::Actor { actor, call }, deadline).await;
        answer.map_err(|error| lost(error, deadline)).into()
    }
}

fn lost(error: CallError, deadline: Duration) -> RemoteError {
    match error {
        CallError::Deadline(_) => RemoteError::Deadline(deadline),
        // The node lets calls go without an answer only when its life ends.
        CallError::Closed(_) | CallError::Unanswered => RemoteError::NodeLost,
        other => RemoteError::Refused(other.to_string()),
    }
}
