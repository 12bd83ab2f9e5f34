//! Custom operators as actors: a user's actix actor that handles [`Process`].
//!
//! For those who want timers, async work, or other messages beside the stream. One actor is started for each worker,
//! on the worker's own thread; when it dies, its guardian starts a fresh one and the batch is tried again.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message, WeakAddr};
use arrow::record_batch::RecordBatch;
use futures::future::LocalBoxFuture;

use super::{BatchSize, BoxError, IntoOperator, OpenContext, OperatorResult, OperatorSpec, Recipe, Scope};

/// A batch for a user's actor. The reply is what it passes on, in order.
#[derive(Debug)]
pub struct Process {
    /// The batch: at least one row.
    pub batch: RecordBatch,
}

impl Message for Process {
    type Result = OperatorResult<Vec<RecordBatch>>;
}

/// The actor is gone, and with it the batch.
#[derive(Debug, thiserror::Error)]
#[error("the actor panicked or stopped while it handled the batch")]
pub(crate) struct ActorDied;

/// How a worker starts a user's actor. Made by [`ActorOperator`].
pub trait ActorRecipe: Send + Sync {
    /// Starts the actor on the current arbiter.
    fn start(&self, ctx: &OpenContext) -> OperatorResult<Box<dyn RunningActor>>;
}

/// A started user's actor, as its worker sees it.
pub trait RunningActor {
    /// Hands it a batch.
    fn process(&self, batch: RecordBatch) -> LocalBoxFuture<'static, OperatorResult<Vec<RecordBatch>>>;
}

/// An operator whose workers are actors of type `A`, and at the same time the handle to reach them.
///
/// Cheap to clone. Keep one clone and give the other to the dataset:
/// while the stream runs, [`ActorOperator::addresses`] are the actors to send other messages to.
pub struct ActorOperator<A: Actor> {
    make: Arc<dyn Fn(&OpenContext) -> A + Send + Sync>,
    live: Arc<Mutex<Vec<WeakAddr<A>>>>,
}

impl<A: Actor> Clone for ActorOperator<A> {
    fn clone(&self) -> Self {
        Self { make: Arc::clone(&self.make), live: Arc::clone(&self.live) }
    }
}

impl<A> ActorOperator<A>
where
    A: Actor<Context = Context<A>> + Handler<Process>,
{
    /// An operator whose workers are made by `make`, each on its own thread.
    pub fn new(make: impl Fn(&OpenContext) -> A + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(make), live: Arc::default() }
    }

    /// The actors that are alive now, in the order they were started.
    pub fn addresses(&self) -> Vec<Addr<A>> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|weak| weak.upgrade().is_some_and(|address| address.connected()));
        live.iter().filter_map(WeakAddr::upgrade).collect()
    }
}

impl<A> ActorRecipe for ActorOperator<A>
where
    A: Actor<Context = Context<A>> + Handler<Process>,
    A::Context: ToEnvelope<A, Process>,
{
    fn start(&self, ctx: &OpenContext) -> OperatorResult<Box<dyn RunningActor>> {
        let address = (self.make)(ctx).start();
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|weak| weak.upgrade().is_some());
        // Weak: the actor goes with its worker, not with this list.
        live.push(address.downgrade());
        Ok(Box::new(Running { address }))
    }
}

struct Running<A: Actor> {
    address: Addr<A>,
}

impl<A> RunningActor for Running<A>
where
    A: Actor<Context = Context<A>> + Handler<Process>,
{
    fn process(&self, batch: RecordBatch) -> LocalBoxFuture<'static, OperatorResult<Vec<RecordBatch>>> {
        // One batch in flight for each worker and its room is already taken, so `send` adds nothing unbounded.
        #[allow(clippy::disallowed_methods)]
        let reply = self.address.send(Process { batch });
        Box::pin(async move {
            match reply.await {
                Ok(result) => result,
                Err(_) => Err(BoxError::from(ActorDied)),
            }
        })
    }
}

impl<A> IntoOperator for ActorOperator<A>
where
    A: Actor<Context = Context<A>> + Handler<Process>,
{
    fn into_operator(self) -> OperatorSpec {
        let label = short_name::<A>().to_owned();
        let recipe = Recipe::Actor(Arc::new(self));
        let (batch, scope) = (BatchSize::Auto, Scope::Batch);
        OperatorSpec { label, batch, scope, recipe, objects: Vec::new(), isolation: None, keeps_rows: false }
    }
}

impl<A: Actor> fmt::Debug for ActorOperator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorOperator({})", short_name::<A>())
    }
}

fn short_name<T: Any>() -> &'static str {
    let full = std::any::type_name::<T>();
    full.rsplit("::").next().unwrap_or(full)
}
