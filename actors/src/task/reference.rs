//! References to stored values: what tasks and programs pass around.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::context;
use super::engine::Engine;
use super::ids::ObjectId;
use super::value::Collector;

/// A reference to a stored value of type `T`: the result of a task, or what was put. Cheap to clone; when the last one
/// is dropped, on whatever node, the value is freed.
///
/// It may be an argument of a task, and it may be inside values: in what is put, in arguments and in results.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn sum(numbers: Vec<task::ObjectRef<u64>>) -> Result<u64, BoxError> {
///     Ok(task::tasks()?.get_all(&numbers)?.iter().map(|number| **number).sum())
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// let numbers = (0..4).map(|n| tasks.put(n)).collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(*tasks.get(&tasks.submit(sum::task(numbers))?)?, 6);
/// # Ok::<(), BoxError>(())
/// ```
pub struct ObjectRef<T> {
    core: Arc<RefCore>,
    value: PhantomData<fn() -> T>,
}

/// What all clones of a reference in this process share.
#[doc(hidden)]
pub struct RefCore {
    id: ObjectId,
    engine: Engine,
}

impl RefCore {
    /// Of a value that the engine counts as held once more.
    pub(crate) fn new(id: ObjectId, engine: Engine) -> Arc<Self> {
        Arc::new(Self { id, engine })
    }

    pub(crate) fn id(&self) -> ObjectId {
        self.id
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for RefCore {
    fn drop(&mut self) {
        self.engine.let_go(self.id);
    }
}

impl<T> ObjectRef<T> {
    pub(crate) fn new(core: Arc<RefCore>) -> Self {
        Self { core, value: PhantomData }
    }

    /// Its name in the session.
    pub fn id(&self) -> ObjectId {
        self.core.id
    }

    pub(crate) fn core(&self) -> &Arc<RefCore> {
        &self.core
    }

    pub(crate) fn into_core(self) -> Arc<RefCore> {
        self.core
    }
}

impl<T> Clone for ObjectRef<T> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.core))
    }
}

impl<T> fmt::Debug for ObjectRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectRef({})", self.id())
    }
}

impl<T> Serialize for ObjectRef<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !Collector::add(self.id()) {
            return Err(S::Error::custom(
                "a reference travels in values that are put, and in arguments and results of tasks",
            ));
        }
        self.id().serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for ObjectRef<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = ObjectId::deserialize(deserializer)?;
        let engine = context::engine().ok_or_else(|| D::Error::custom("there is no session to hold a reference"))?;
        Ok(Self::new(engine.adopt(id)))
    }
}
