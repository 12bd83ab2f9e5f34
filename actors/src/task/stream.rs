//! Streams: a task that gives its results one by one.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::call::Submitted;
use super::engine::{Engine, STREAM_AHEAD};
use super::error::TaskError;
use super::ids::ObjectId;
use super::reference::{ObjectRef, RefCore};
use super::value::{Storable, Value};
use crate::operator::BoxError;

/// Where a task that gives a stream puts its items: the last parameter of its function, `out: &mut Results<R>`.
///
/// A task that is tried again gives its items again from the first; those that its consumer knows are left out, so the
/// function gives the same items in the same order each time.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn count_to(end: u64, out: &mut task::Results<u64>) -> Result<(), BoxError> {
///     (0..end).try_for_each(|n| out.give(n))
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// let items = tasks.submit(count_to::task(3))?;
/// let items = items.map(|item| Ok(*tasks.get(&item?)?)).collect::<Result<Vec<u64>, BoxError>>()?;
/// assert_eq!(items, [0, 1, 2]);
/// # Ok::<(), BoxError>(())
/// ```
pub struct Results<R> {
    emitter: Emitter,
    item: PhantomData<fn(R)>,
}

/// The engine's end of it.
pub(crate) struct Emitter {
    engine: Engine,
    task: Arc<Submitted>,
    attempt: u32,
    made: u32,
}

impl Emitter {
    pub(crate) fn new(engine: Engine, task: Arc<Submitted>, attempt: u32) -> Self {
        Self { engine, task, attempt, made: 0 }
    }
}

/// The consumer of a stream is gone, or the task was cancelled: the function may as well return.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn count(out: &mut task::Results<u64>) -> Result<(), BoxError> {
///     for n in 0.. {
///         match out.give(n) {
///             Err(error) if error.is::<task::NobodyTakes>() => return Ok(()),
///             given => given?,
///         }
///     }
///     Ok(())
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// assert_eq!(tasks.submit(count::task())?.take(5).count(), 5);
/// # Ok::<(), BoxError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody takes the items of this stream any more")]
pub struct NobodyTakes;

impl<R: Storable> Results<R> {
    pub(crate) fn new(emitter: Emitter) -> Self {
        Self { emitter, item: PhantomData }
    }

    /// Gives an item; waits while the consumer is so many items behind as the stream may be ahead (64).
    ///
    /// # Errors
    /// [`NobodyTakes`], or that the item cannot travel.
    pub fn give(&mut self, item: R) -> Result<(), BoxError> {
        let Emitter { engine, task, attempt, made } = &mut self.emitter;
        *made = made.checked_add(1).ok_or("a stream has at most 4,294,967,295 items")?;
        match engine.emit(task, *attempt, *made, Value::made(item))? {
            true => Ok(()),
            false => Err(NobodyTakes.into()),
        }
    }

    /// How many items it gave: what the engine stores at its end.
    #[doc(hidden)]
    pub fn count(&self) -> u32 {
        self.emitter.made
    }
}

/// The items of a task that gives a stream, as references, in order. Dropping it cancels the task.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// # #[remote(crate = mobula_actors)]
/// # fn count_to(end: u64, out: &mut task::Results<u64>) -> Result<(), BoxError> {
/// #     (0..end).try_for_each(|n| out.give(n))
/// # }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// let mut endless = tasks.submit(count_to::task(u64::MAX))?;
/// let first = endless.next().ok_or("it has items")??;
/// drop(endless);
/// assert_eq!(*tasks.get(&first)?, 0);
/// # Ok::<(), BoxError>(())
/// ```
pub struct ObjectStream<R> {
    task: Arc<RefCore>,
    over: bool,
    item: PhantomData<fn() -> R>,
}

impl<R> ObjectStream<R> {
    pub(crate) fn new(task: Arc<RefCore>) -> Self {
        // The stream holds its end as long as it is consumed, beside the handle here.
        task.engine().hold(task.id());
        Self { task, over: false, item: PhantomData }
    }

    /// Its name in the session.
    pub fn id(&self) -> ObjectId {
        self.task.id()
    }
}

impl<R: Storable> Iterator for ObjectStream<R> {
    type Item = Result<ObjectRef<R>, TaskError>;

    /// The next item, waiting for it; `None` at the end. An error is why the task failed: what came before it stands.
    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.task.engine().next_item(self.task.id());
        self.over = !matches!(next, Ok(Some(_)));
        next.map(|item| item.map(ObjectRef::new)).transpose()
    }
}

impl<R> Drop for ObjectStream<R> {
    fn drop(&mut self) {
        self.task.engine().end_stream(self.task.id());
    }
}

impl<R> fmt::Debug for ObjectStream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectStream({}, {STREAM_AHEAD} ahead)", self.id())
    }
}
