//! How an actor is spawned: where, on which thread, with what, and what becomes of it when it dies.

use std::time::Duration;

use super::host::SPAWN_DEADLINE;
use super::message::{ActorAnswer, ActorOrder, DirectoryCall, PlaceFrame, odd};
use super::pool::{PoolBuilder, PoolSize};
use super::{ActorError, ActorHandle, Actors, MAILBOX_MESSAGES, NamedActor, Snapshot, encode};
use crate::cluster::link::CALL_DEADLINE;
use crate::job::Resources;
use crate::runtime::RestartBudget;
use crate::task::wire::Blob;
use crate::units::Bytes;

/// What a spawn may take longer here than in the directory and on the node, which then say themselves what took too long.
const SPAWN_SLACK: Duration = CALL_DEADLINE.saturating_mul(2);

/// Where an actor lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Wherever there is room for what it asks for; in a session of one process, here.
    Anywhere,
    /// On the node whose code spawns it. A driver runs nothing itself.
    Here,
    /// On the node of this name.
    Node(String),
}

/// Which thread an actor lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// One of a few that all small actors of a node share, one a core. Its handlers are short or asynchronous: the others
    /// wait for them. Thousands of such actors fit on a node.
    Shared,
    /// One of its own, where it may compute and wait as long as it likes.
    Own,
}

/// An actor that is to be spawned; [`start`](Self::start) does it.
///
/// Unless told otherwise it goes where there is room, asks for nothing, is restarted five times a minute with its start
/// state, and ends with the last clone of its handle. An actor that asks for cores or devices computes, so it gets a thread
/// of its own; one that asks for none shares one: an actor that only waits should cost no thread.
#[must_use = "an actor is spawned by `start`"]
pub struct SpawnBuilder<A> {
    actors: Actors,
    start: A,
    place: Place,
    thread: Option<Thread>,
    resources: Resources,
    budget: RestartBudget,
    name: Option<String>,
    detached: bool,
    mailbox: usize,
    snapshot_every: Option<u64>,
    within: Duration,
}

/// Restarts of an actor unless its spawner says otherwise, as of workers: five in a minute.
const RESTARTS: (u32, Duration) = (5, Duration::from_secs(60));

impl<A: NamedActor> SpawnBuilder<A> {
    pub(crate) fn new(actors: Actors, start: A) -> Self {
        Self {
            actors,
            start,
            place: Place::Anywhere,
            thread: None,
            resources: Resources::cpu(0.0),
            budget: RestartBudget::new(RESTARTS.0, RESTARTS.1),
            name: None,
            detached: false,
            mailbox: MAILBOX_MESSAGES,
            snapshot_every: None,
            within: SPAWN_DEADLINE,
        }
    }

    /// Where it lives.
    pub fn place(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// On the node of this name.
    pub fn on(self, node: impl Into<String>) -> Self {
        self.place(Place::Node(node.into()))
    }

    /// On the node whose code spawns it.
    pub fn here(self) -> Self {
        self.place(Place::Here)
    }

    /// Which thread it lives on.
    pub fn thread(mut self, thread: Thread) -> Self {
        self.thread = Some(thread);
        self
    }

    /// All that it holds while it lives.
    pub fn resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    /// Cores. Default 0: it computes little. Actors hold theirs against each other; jobs take turns beside them.
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.resources.cpus = cpus;
        self
    }

    /// GPUs, whole or a share of one. [`gpus`](super::gpus()) tells their ordinals in its handlers.
    pub fn gpus(mut self, gpus: f64) -> Self {
        self.resources.gpus = gpus;
        self
    }

    /// Memory for itself, beside blocks.
    pub fn memory(mut self, memory: Bytes) -> Self {
        self.resources.memory = memory;
        self
    }

    /// On nodes with this label only.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.resources = self.resources.label(name, value);
        self
    }

    /// How often it is restarted. Default: five times a minute.
    pub fn restarts(mut self, budget: RestartBudget) -> Self {
        self.budget = budget;
        self
    }

    /// A name, by which it is found from anywhere in the cluster ([`Actors::named`]). One actor has it at a time.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// It outlives its handles and its driver.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Messages that wait or are handled at a time; who sends one more waits. An asynchronous handler may have as many under
    /// way; with 1 the actor handles one message after the other. Default: [`MAILBOX_MESSAGES`].
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.mailbox = messages;
        self
    }

    /// After so many messages it is asked for a snapshot, before the last of them is answered; the next incarnation begins
    /// with it.
    pub fn snapshot_every(mut self, messages: u64) -> Self
    where
        A: Snapshot,
    {
        self.snapshot_every = Some(messages);
        self
    }

    /// Time for a place to be free and its first incarnation to stand. Default: a minute, in which a model is loaded.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Spawns it; comes back when its first incarnation stands.
    ///
    /// # Errors
    /// If no node can ever give what it asks for, or none can in time; its name is taken; its start state is too large; it
    /// cannot be built.
    pub fn start(self) -> Result<ActorHandle<A>, ActorError> {
        let (actors, detached) = (self.actors.clone(), self.detached);
        let (call, deadline) = self.call()?;
        let answer = actors.space()?.call_and_wait(call, deadline)?;
        handle(&actors, detached, &answer)
    }

    /// The same without blocking the thread.
    pub fn start_async(self) -> impl Future<Output = Result<ActorHandle<A>, ActorError>> + Send + 'static {
        let actors = self.actors.clone();
        let call = self.call();
        async move {
            let (call, deadline) = call?;
            start_ordered(&actors, call, deadline).await
        }
    }

    /// A pool of such actors: `4` of them, or `1..=8` as need be. Each has a thread of its own unless [`thread`](Self::thread)
    /// says otherwise; one that dies is not restarted but replaced.
    pub fn pool(mut self, size: impl Into<PoolSize>) -> PoolBuilder<A> {
        self.budget = RestartBudget::none();
        self.thread = self.thread.or(Some(Thread::Own));
        (self.name, self.detached) = (None, false);
        let actors = self.actors.clone();
        PoolBuilder::new(actors, self.call(), size.into())
    }

    fn call(self) -> Result<(DirectoryCall, Duration), ActorError> {
        let place = match self.place {
            Place::Anywhere => PlaceFrame::Anywhere,
            Place::Node(name) => PlaceFrame::Named(name),
            Place::Here => PlaceFrame::Numbered(self.actors.space()?.node().ok_or_else(|| {
                let reason =
                    "no actor lives in this process, which only leads or drives; name a node, or leave the choice";
                ActorError::NoPlace(reason.to_owned())
            })?),
        };
        let computes = self.resources.cpus > 0.0 || self.resources.gpus > 0.0;
        let thread = self.thread.unwrap_or(if computes { Thread::Own } else { Thread::Shared });
        let (restarts_max, window) = self.budget.terms();
        let order = ActorOrder {
            kind: A::NAME.to_owned(),
            start: Blob(encode("start state", &self.start).map_err(ActorError::refused)?.into()),
            restarts_max,
            window,
            resources: self.resources,
            own_thread: thread == Thread::Own,
            mailbox: u32::try_from(self.mailbox).unwrap_or(u32::MAX),
            snapshot_every: self.snapshot_every,
            within: self.within,
        };
        let call = DirectoryCall::Spawn { place, name: self.name, detached: self.detached, order };
        Ok((call, self.within + SPAWN_SLACK))
    }
}

/// Spawns what was ordered. A spawn whose future is dropped ends with the handle that nobody got.
pub(crate) async fn start_ordered<A: NamedActor>(
    actors: &Actors,
    call: DirectoryCall,
    deadline: Duration,
) -> Result<ActorHandle<A>, ActorError> {
    let detached = matches!(call, DirectoryCall::Spawn { detached: true, .. });
    let space = actors.space()?;
    let (answer, answered) = tokio::sync::oneshot::channel();
    let (calling, weak) = (space.clone(), actors.clone());
    space.spawn(async move {
        let called = calling.call(call, deadline).await;
        // Not sent, the handle is dropped, which stops the actor.
        let _ = answer.send(called.and_then(|answer| handle::<A>(&weak, detached, &answer)));
    });
    drop(space);
    answered.await.unwrap_or(Err(ActorError::SessionEnded))
}

fn handle<A: NamedActor>(actors: &Actors, detached: bool, answer: &ActorAnswer) -> Result<ActorHandle<A>, ActorError> {
    match answer {
        ActorAnswer::Is { id } if detached => Ok(ActorHandle::new(*id, actors.weak())),
        ActorAnswer::Is { id } => Ok(ActorHandle::owning(*id, actors.weak())),
        other => Err(odd(other)),
    }
}
