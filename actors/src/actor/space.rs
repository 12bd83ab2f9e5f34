//! A process's way to all actors of its cluster: its own ones straight, those of other nodes by a channel each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::channel::{self, Channel};
use super::directory::{Directory, HereNode, Owned};
use super::here::{self, Entered, Here};
use super::host::ActorHost;
use super::message::{ActorAnswer, ActorCall, DirectoryCall, odd};
use super::ways::Ways;
use super::{ActorError, ActorHandle, ActorId, NamedActor, SpawnBuilder};
use crate::cluster::link::CALL_DEADLINE;
use crate::job::Resources;
use crate::node::Node;
use crate::runtime::env::{SharedEnv, SystemEnv};
use crate::runtime::net::Net;
use crate::runtime::wait;
use crate::task::engine::{Engine, WeakEngine};

/// What a process has of actors. It ends with the session, the driver or the life of the node that holds it.
pub(crate) struct Space {
    host: Option<ActorHost>,
    ways: Ways,
    /// Where its calls wait and its streams are passed on; none in a session of one process.
    net: Option<Net>,
    /// Where timers are kept.
    timers: Handle,
    env: SharedEnv,
    channels: Mutex<BTreeMap<u64, Arc<Channel>>>,
    /// The engine for tasks of this process.
    tasks: OnceLock<WeakEngine>,
}

/// The name of the one node of a session of one process.
pub(crate) const LOCAL_NODE: &str = "local";

impl Space {
    /// That of a session of one process.
    pub(crate) fn alone(node: &Node, resources: Resources) -> Arc<Self> {
        let host = ActorHost::new(node.parts().store.node().0, node);
        let here = HereNode { name: LOCAL_NODE.into(), resources, host: host.clone() };
        let (directory, owned) = (Directory::new(None, Some(here)), Owned::new());
        Self::new(Some(host), Ways::Alone { directory, owned }, None)
    }

    /// That of a process of a cluster; `host` has its own actors, if it may have some.
    pub(crate) fn new(host: Option<ActorHost>, ways: Ways, net: Option<Net>) -> Arc<Self> {
        let env = host.as_ref().map_or_else(|| Arc::new(SystemEnv::new()) as SharedEnv, |host| Arc::clone(host.env()));
        let timers = match (&host, &net) {
            (Some(host), _) => host.control().clone(),
            (None, Some(net)) => net.handle(),
            (None, None) => Handle::current(),
        };
        let space = Arc::new(Self { host, ways, net, timers, env, channels: Mutex::default(), tasks: OnceLock::new() });
        if let Some(host) = &space.host {
            host.join(Arc::downgrade(&space));
        }
        space
    }

    /// Actors here may submit tasks.
    pub(crate) fn set_tasks(&self, engine: WeakEngine) {
        // It is set once, when the process starts.
        let _ = self.tasks.set(engine);
    }

    /// The engine for tasks of this process, if it has one.
    pub(crate) fn tasks(&self) -> Option<Engine> {
        self.tasks.get()?.get()
    }

    /// The actors of this process.
    pub(crate) fn host(&self) -> Option<&ActorHost> {
        self.host.as_ref()
    }

    /// The number of this process's node, if it has one.
    pub(crate) fn node(&self) -> Option<u64> {
        self.host.as_ref().map(ActorHost::node)
    }

    pub(crate) fn env(&self) -> &SharedEnv {
        &self.env
    }

    pub(crate) fn timers(&self) -> &Handle {
        &self.timers
    }

    /// Runs a future of this process's own; it ends with what it works on.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        match &self.net {
            Some(net) => net.spawn(future),
            None => drop(self.timers.spawn(future)),
        }
    }

    /// The way to the actors of another node.
    pub(crate) fn channel(self: &Arc<Self>, node: u64) -> Arc<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&node).filter(|channel| !channel.is_closed()) {
            return Arc::clone(channel);
        }
        channels.retain(|_, channel| !channel.is_closed());
        let (channel, mut waiting, state) = Channel::new();
        let channel = Arc::new(channel);
        channels.insert(node, Arc::clone(&channel));
        let space = Arc::downgrade(self);
        self.spawn(async move {
            let opening = match space.upgrade() {
                Some(space) => space.ways.open(node).await,
                None => return,
            };
            let reason = match opening {
                Ok((tx, rx)) => channel::run(&state, &mut waiting, tx, rx).await,
                Err(ActorError::Cut(reason)) => Some(reason),
                Err(error) => return state.close(&error),
            };
            let error = match (reason, space.upgrade()) {
                (Some(reason), Some(space)) => space.ways.verdict(node, reason).await,
                _ => ActorError::SessionEnded,
            };
            state.close(&error);
        });
        channel
    }

    /// Asks the directory.
    pub(crate) async fn call(
        self: Arc<Self>,
        call: DirectoryCall,
        deadline: Duration,
    ) -> Result<ActorAnswer, ActorError> {
        self.ways.call(call, deadline).await
    }

    /// The same from a thread that may wait.
    pub(crate) fn call_and_wait(
        self: &Arc<Self>,
        call: DirectoryCall,
        deadline: Duration,
    ) -> Result<ActorAnswer, ActorError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let this = Arc::clone(self);
        self.spawn(async move {
            // Who asked waits below.
            let _ = answer.send(this.call(call, deadline).await);
        });
        wait::block_on(answered).unwrap_or(Err(ActorError::SessionEnded))
    }

    /// Does something without waiting for it.
    pub(crate) fn tell_directory(self: &Arc<Self>, call: DirectoryCall) {
        let this = Arc::clone(self);
        self.spawn(async move {
            if let Err(error) = this.call(call, CALL_DEADLINE).await {
                tracing::debug!(%error, "the directory was not told");
            }
        });
    }

    /// An actor of this process has ended by itself.
    pub(crate) fn ended(self: &Arc<Self>, id: ActorId) {
        match self.ways.directory() {
            Some(directory) => directory.ended(id),
            None => self.tell_directory(DirectoryCall::Ended { id }),
        }
    }

    /// Where code runs that finds its way by this space.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        here::enter(Here { space: Arc::downgrade(self), lane: here::lane(), gpus: here::gpus().into() })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some(host) = &self.host {
            host.close();
        }
    }
}

/// The actors of a session, of a driver, or of the node that runs the present code ([`here`](super::here())). Cheap to
/// clone; keeps nothing alive.
///
/// ```
/// use actix::{Actor, Context, Handler, Message};
/// use mobula_actors::node::{Node, NodeConfig};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Counter { count: u64 }
///
/// #[mobula_actors::actor(crate = mobula_actors, name = "counter@1", messages(Add))]
/// impl Actor for Counter { type Context = Context<Self>; }
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[rtype(result = "u64")]
/// struct Add(u64);
///
/// impl Handler<Add> for Counter {
///     type Result = u64;
///     fn handle(&mut self, Add(more): Add, _: &mut Context<Self>) -> u64 { self.count += more; self.count }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let node = Node::start(NodeConfig::default())?;
///     let counter = node.actors().spawn(Counter { count: 40 }).start()?;
///     assert_eq!(counter.ask(Add(2))?, 42);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Actors {
    space: Weak<Space>,
}

impl Actors {
    pub(crate) fn of(space: Arc<Space>) -> Self {
        Self { space: Arc::downgrade(&space) }
    }

    pub(crate) fn space(&self) -> Result<Arc<Space>, ActorError> {
        self.space.upgrade().ok_or(ActorError::SessionEnded)
    }

    pub(crate) fn weak(&self) -> Weak<Space> {
        self.space.clone()
    }

    /// An actor to spawn, with this start state: see [`SpawnBuilder`].
    pub fn spawn<A: NamedActor>(&self, start: A) -> SpawnBuilder<A> {
        SpawnBuilder::new(self.clone(), start)
    }

    /// The actor of this name, whoever spawned it. It does not end with this handle.
    ///
    /// # Errors
    /// If there is none, or it is of another kind.
    pub fn named<A: NamedActor>(&self, name: &str) -> Result<ActorHandle<A>, ActorError> {
        match self.space()?.call_and_wait(DirectoryCall::Lookup { name: name.to_owned() }, CALL_DEADLINE)? {
            ActorAnswer::Is { id } => self.find(id),
            other => Err(odd(&other)),
        }
    }

    /// The actor of this number, whoever spawned it. It does not end with this handle.
    ///
    /// # Errors
    /// If there is no such actor (any more), or it is of another kind.
    pub fn find<A: NamedActor>(&self, id: ActorId) -> Result<ActorHandle<A>, ActorError> {
        let call = DirectoryCall::To { id, call: ActorCall::Find { kind: A::NAME.to_owned() } };
        match self.space()?.call_and_wait(call, CALL_DEADLINE)? {
            ActorAnswer::Done => Ok(ActorHandle::new(id, self.space.clone())),
            other => Err(odd(&other)),
        }
    }

    /// How many actors live in this process.
    pub fn count(&self) -> usize {
        self.space.upgrade().and_then(|space| space.host().map(ActorHost::len)).unwrap_or_default()
    }
}

impl fmt::Debug for Actors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Actors")
    }
}
