//! The actors of a node, by the numbers that the directory gave them.
//!
//! Only kinds of actors that this binary has registered are ever built; an order names one of them and brings its start
//! state. Limits: actors, and threads of their own.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::here::Here;
use super::hosted::{AnyHosted, HostRequest};
use super::lanes::{Held, Lanes, Seat};
use super::message::{ActorAnswer, ActorCall, ActorOrder};
use super::space::Space;
use super::{ActorError, ActorId, NODE_ACTORS_MAX, NODE_THREADS_MAX};
use crate::cluster::link::CALL_DEADLINE;
use crate::function::registry;
use crate::job::Resources;
use crate::node::Node;
use crate::runtime::env::SharedEnv;
use crate::scheduler::{Lease, SchedulerHandle, Wish};

/// The actors of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ActorHost {
    inner: Arc<Inner>,
}

struct Inner {
    node: u64,
    env: SharedEnv,
    scheduler: SchedulerHandle,
    /// Supervises the guardians. Not the node's root, which takes the failure of what it does not know for its own.
    above: ractor::ActorCell,
    /// Where guardians live.
    control: Handle,
    lanes: Lanes,
    /// Gone when the node's life is over.
    actors: Mutex<Option<BTreeMap<u64, Entry>>>,
    rooms: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    space: OnceLock<Weak<Space>>,
}

#[derive(Clone)]
struct Entry {
    kind: Arc<str>,
    actor: Arc<dyn AnyHosted>,
}

impl ActorHost {
    /// The actors of this node, which has this number in its cluster.
    pub(crate) fn new(number: u64, node: &Node) -> Self {
        let parts = node.parts();
        let inner = Inner {
            node: number,
            env: Arc::clone(&parts.env),
            scheduler: parts.scheduler.clone(),
            above: node.system().root(),
            control: node.system().control_handle(),
            lanes: Lanes::new(parts.host.clone(), node.cpus()),
            actors: Mutex::new(Some(BTreeMap::new())),
            rooms: Arc::new(Semaphore::new(NODE_ACTORS_MAX)),
            threads: Arc::new(Semaphore::new(NODE_THREADS_MAX)),
            space: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// From now on its actors find others by this.
    pub(crate) fn join(&self, space: Weak<Space>) {
        // A host has one space.
        let _ = self.inner.space.set(space);
    }

    pub(crate) fn node(&self) -> u64 {
        self.inner.node
    }

    pub(crate) fn env(&self) -> &SharedEnv {
        &self.inner.env
    }

    pub(crate) fn control(&self) -> &Handle {
        &self.inner.control
    }

    /// Does what the directory asks of an actor.
    pub(crate) async fn serve(&self, number: u64, call: ActorCall) -> ActorAnswer {
        let served = match call {
            ActorCall::Spawn { order } => self.spawn(number, order).await,
            ActorCall::Find { kind } => self.find(number, &kind),
            ActorCall::Incarnation => self
                .get(number)
                .and_then(|actor| actor.incarnation())
                .map(|n| ActorAnswer::Incarnation { incarnation: n }),
            ActorCall::Snapshot => self.snapshot(number).await,
            ActorCall::Stop => {
                self.stop(number);
                Ok(ActorAnswer::Done)
            }
        };
        served.into()
    }

    /// Guardians live on the control plane, whoever asks for them.
    async fn spawn(&self, number: u64, order: ActorOrder) -> Result<ActorAnswer, ActorError> {
        let (this, (answer, answered)) = (self.clone(), oneshot::channel());
        self.inner.control.spawn(async move {
            let within = order.within;
            let spawned = timeout(within, this.spawn_here(number, order)).await;
            let spawned = spawned.unwrap_or(Err(ActorError::Deadline(within)));
            if spawned.is_err() {
                this.stop(number);
            }
            // A caller that is gone has the directory stop it.
            let _ = answer.send(spawned);
        });
        answered.await.unwrap_or(Err(ActorError::NodeLost))
    }

    async fn spawn_here(&self, number: u64, order: ActorOrder) -> Result<ActorAnswer, ActorError> {
        let build = registry::actor(&order.kind).map_err(ActorError::refused)?;
        let (seat, gpus) = self.seat(&order).await?;
        let id = ActorId { node: self.inner.node, number };
        let space = self.inner.space.get().cloned().unwrap_or_default();
        let (budget, this) = (order.budget(), Arc::downgrade(&self.inner));
        let request = HostRequest {
            label: format!("{} {id}", order.kind),
            start: order.start.0.to_vec().into(),
            budget,
            mailbox: order.mailbox as usize,
            snapshot_every: order.snapshot_every.map(|every| every.max(1)),
            here: Here { space, lane: Some(seat.lane()), gpus: gpus.into() },
            seat,
            env: Arc::clone(&self.inner.env),
            above: self.inner.above.clone(),
            ended: Box::new(move |forget| ended(&this, id, forget)),
        };
        let actor = build(request).await.map_err(ActorError::refused)?;
        let entry = Entry { kind: order.kind.into(), actor: Arc::clone(&actor) };
        match self.lock().as_mut() {
            Some(actors) => drop(actors.insert(number, entry)),
            None => {
                actor.stop();
                return Err(ActorError::NodeLost);
            }
        }
        actor.stands().await?;
        Ok(ActorAnswer::Is { id })
    }

    /// A thread, and what it asks for; with the ordinals of its devices.
    async fn seat(&self, order: &ActorOrder) -> Result<(Seat, Vec<u32>), ActorError> {
        let room = Arc::clone(&self.inner.rooms).try_acquire_owned();
        let mut places = vec![room.map_err(|_| full("actors", NODE_ACTORS_MAX))?];
        if order.own_thread {
            let thread = Arc::clone(&self.inner.threads).try_acquire_owned();
            let what = "actors with a thread of their own";
            places.push(thread.map_err(|_| full(what, NODE_THREADS_MAX))?);
        }
        let lease = self.lease(&order.resources).await?;
        let gpus = lease.as_ref().map(Lease::gpus).unwrap_or_default();
        let held = Held::new(lease, places);
        let lanes = &self.inner.lanes;
        let seat = if order.own_thread { lanes.own(held).await } else { lanes.shared(held).await };
        let seat = seat.map_err(|error| ActorError::Refused(format!("the system gives no thread: {error}")))?;
        Ok((seat, gpus))
    }

    /// What the node's scheduler has to grant: devices, memory, extras. Cores are taken in turns.
    async fn lease(&self, resources: &Resources) -> Result<Option<Lease>, ActorError> {
        if *resources == Resources::cpu(0.0) {
            return Ok(None);
        }
        self.inner.scheduler.check(resources.clone()).await.map_err(ActorError::NoPlace)?;
        let (granted, lease) = oneshot::channel();
        let waiting = Waiting { scheduler: self.inner.scheduler.clone(), there: Arc::new(()) };
        let there = Arc::downgrade(&waiting.there);
        let is_gone = Box::new(move || there.strong_count() == 0);
        // Actors that users wait for go with the most downstream operators.
        let wish = Wish { priority: 0, wanted: resources.clone(), asker: None, is_gone };
        self.inner.scheduler.ask(wish, move |lease| granted.send(lease).is_ok());
        let lease = lease.await;
        drop(waiting);
        lease.map(Some).map_err(|_| ActorError::NodeLost)
    }

    fn find(&self, number: u64, kind: &str) -> Result<ActorAnswer, ActorError> {
        let actors = self.lock();
        let entry = actors.as_ref().ok_or(ActorError::NodeLost)?.get(&number).ok_or(ActorError::NotHere)?;
        if *entry.kind == *kind { Ok(ActorAnswer::Done) } else { Err(ActorError::NotHere) }
    }

    async fn snapshot(&self, number: u64) -> Result<ActorAnswer, ActorError> {
        let taken = timeout(CALL_DEADLINE, self.get(number)?.snapshot()).await;
        taken.unwrap_or(Err(ActorError::Deadline(CALL_DEADLINE))).map(|()| ActorAnswer::Done)
    }

    pub(crate) fn get(&self, number: u64) -> Result<Arc<dyn AnyHosted>, ActorError> {
        let actors = self.lock();
        let entry = actors.as_ref().ok_or(ActorError::NodeLost)?.get(&number).ok_or(ActorError::NotHere)?;
        Ok(Arc::clone(&entry.actor))
    }

    /// An actor by its type, if it is of that.
    pub(crate) fn typed<T: Any + Send + Sync>(&self, number: u64) -> Result<Arc<T>, ActorError> {
        self.get(number)?.any().downcast().map_err(|_| ActorError::NotHere)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().as_ref().map_or(0, BTreeMap::len)
    }

    fn stop(&self, number: u64) {
        let stopped = self.lock().as_mut().and_then(|actors| actors.remove(&number));
        if let Some(entry) = stopped {
            entry.actor.stop();
        }
    }

    /// Ends all actors: the node's life is over.
    pub(crate) fn close(&self) {
        let all = self.lock().take();
        for entry in all.unwrap_or_default().values() {
            entry.actor.stop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<u64, Entry>>> {
        self.inner.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A spawn that waits for a lease. Dropped, it leaves no reservation behind.
struct Waiting {
    scheduler: SchedulerHandle,
    there: Arc<()>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.there = Arc::new(());
        self.scheduler.look();
    }
}

fn full(what: &str, most: usize) -> ActorError {
    ActorError::NoPlace(format!("this node has {most} {what}, which is the limit; stop some, or use another node"))
}

/// An actor has ended by itself. One that gave up stays, to tell so; one that stopped is forgotten.
fn ended(host: &Weak<Inner>, id: ActorId, forget: bool) {
    let Some(inner) = host.upgrade() else { return };
    let host = ActorHost { inner };
    if forget {
        let stopped = host.lock().as_mut().and_then(|actors| actors.remove(&id.number));
        drop(stopped);
    }
    if let Some(space) = host.inner.space.get().and_then(Weak::upgrade) {
        space.ended(id);
    }
}

/// Time for a place to be free and an actor to stand, unless its spawner says otherwise: its start may load a model.
pub(crate) const SPAWN_DEADLINE: Duration = Duration::from_secs(60);
