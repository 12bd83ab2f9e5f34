//! A task before it runs: which function, on what, with which resources; and its arguments when it does.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::error::TaskError;
use super::ids::ObjectId;
use super::reference::{ObjectRef, RefCore};
use super::stream::Emitter;
use super::value::{Storable, Value};
use crate::job::Resources;
use crate::operator::BoxError;
use crate::units::Bytes;

/// Tries of a task unless its options say otherwise, as of the tasks of a job.
pub const ATTEMPTS: u32 = 4;

/// One registered function, as a task.
pub struct TaskEntry {
    /// Its name: module path and identifier.
    pub name: &'static str,
    /// Where it stands in the source, `file:line`, for the error of two functions of one name.
    pub place: &'static str,
    /// Runs it.
    pub run: RunTask,
}

/// Runs a function on the arguments of a call.
pub type RunTask = fn(&mut Call) -> Result<TaskValue, BoxError>;

/// What a function made, for the engine only.
pub struct TaskValue(pub(crate) Value);

/// A function to be run, with its arguments: what `f::task(..)` gives. It runs when it is submitted.
///
/// Errors of the function and panics are tried again, as often as [`attempts`](Self::attempts) says; so is a task whose
/// worker or node died. With `attempts(1)` one that failed is not tried again; that a task runs only once is not promised
/// where nodes go, as its result may have to be made again.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn half(n: u64) -> Result<u64, BoxError> {
///     Ok(n / 2)
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// let task = half::task(10).cpus(0.5).attempts(2);
/// assert_eq!(*tasks.get(&tasks.submit(task)?)?, 5);
/// # Ok::<(), BoxError>(())
/// ```
#[must_use = "a task runs when it is submitted"]
pub struct Task<R> {
    pub(crate) entry: &'static TaskEntry,
    pub(crate) args: Vec<Given>,
    pub(crate) resources: Resources,
    pub(crate) attempts: u32,
    result: PhantomData<fn() -> R>,
}

/// A function to be run that gives a stream of items; see [`Task`].
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
/// let stream = tasks.submit(count_to::task(3).attempts(1))?;
/// assert_eq!(stream.count(), 3);
/// # Ok::<(), BoxError>(())
/// ```
#[must_use = "a task runs when it is submitted"]
pub struct StreamTask<R>(pub(crate) Task<R>);

impl<R> Task<R> {
    /// For the code that `#[remote]` writes.
    #[doc(hidden)]
    pub fn new(entry: &'static TaskEntry, args: Vec<Given>) -> Self {
        Self { entry, args, resources: Resources::default(), attempts: ATTEMPTS, result: PhantomData }
    }

    /// The same, for a function that gives a stream.
    #[doc(hidden)]
    pub fn stream(entry: &'static TaskEntry, args: Vec<Given>) -> StreamTask<R> {
        StreamTask(Self::new(entry, args))
    }
}

macro_rules! options {
    ($self:ident => $task:expr) => {
        /// Cores that it holds while it computes; 1 unless said otherwise. While it waits for other tasks it holds none.
        pub fn cpus(mut $self, cpus: f64) -> Self {
            $task.resources.cpus = cpus;
            $self
        }

        /// Devices that it holds while it runs; below 1, a share of one. [`gpus`](super::gpus) tells it which.
        pub fn gpus(mut $self, gpus: f64) -> Self {
            $task.resources.gpus = gpus;
            $self
        }

        /// Memory that it holds while it runs, of what its node has for workers.
        pub fn memory(mut $self, memory: Bytes) -> Self {
            $task.resources.memory = memory;
            $self
        }

        /// An amount of a named extra that it holds while it runs.
        pub fn extra(mut $self, name: impl Into<String>, amount: f64) -> Self {
            $task.resources.extras.insert(name.into(), amount);
            $self
        }

        /// It runs on nodes with this label only.
        pub fn label(mut $self, name: impl Into<String>, value: impl Into<String>) -> Self {
            $task.resources.labels.insert(name.into(), value.into());
            $self
        }

        /// Tries in all, at least 1. Default: [`ATTEMPTS`].
        pub fn attempts(mut $self, attempts: u32) -> Self {
            $task.attempts = attempts.max(1);
            $self
        }
    };
}

impl<R> Task<R> {
    options!(self => self);
}

impl<R> StreamTask<R> {
    options!(self => self.0);
}

/// An argument as its caller gave it.
#[doc(hidden)]
pub enum Given {
    Value(TaskValue),
    Ref(Arc<RefCore>),
}

impl Given {
    /// A value, which belongs to the task from now on.
    pub fn value<A: Storable>(value: A) -> Self {
        Self::Value(TaskValue(Value::made(value)))
    }
}

/// What an argument of type `A` can be given as: a value, or a reference to one.
#[diagnostic::on_unimplemented(
    message = "this argument is a `{A}`, or a reference to one (`ObjectRef<{A}>`)",
    label = "this is `{Self}`"
)]
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn half(n: u64) -> Result<u64, BoxError> {
///     Ok(n / 2)
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// let ten = tasks.put(10u64)?;
/// for task in [half::task(10), half::task(&ten), half::task(ten.clone())] {
///     assert_eq!(*tasks.get(&tasks.submit(task)?)?, 5);
/// }
/// # Ok::<(), BoxError>(())
/// ```
pub trait IntoArg<A> {
    #[doc(hidden)]
    fn into_arg(self) -> Given;
}

impl<A: Storable> IntoArg<A> for A {
    fn into_arg(self) -> Given {
        Given::value(self)
    }
}

impl<A: Storable> IntoArg<A> for ObjectRef<A> {
    fn into_arg(self) -> Given {
        Given::Ref(self.into_core())
    }
}

impl<A: Storable> IntoArg<A> for &ObjectRef<A> {
    fn into_arg(self) -> Given {
        Given::Ref(Arc::clone(self.core()))
    }
}

impl IntoArg<String> for &str {
    fn into_arg(self) -> Given {
        Given::value(self.to_owned())
    }
}

/// A task that was submitted.
pub(crate) struct Submitted {
    pub(crate) id: ObjectId,
    pub(crate) entry: &'static TaskEntry,
    pub(crate) args: Box<[Arg]>,
    /// References inside the values of its arguments that are held for it.
    pub(crate) contained: Box<[ObjectId]>,
    pub(crate) needs: Arc<Needs>,
    /// The task that submitted it here.
    pub(crate) parent: Weak<Submitted>,
    /// Nobody wants its result: it may look at this.
    pub(crate) cancelled: AtomicBool,
    pub(crate) stream: bool,
    /// Whether the head said to run it; it is told what comes of it.
    pub(crate) for_head: bool,
}

impl Submitted {
    pub(crate) fn name(&self) -> Arc<str> {
        self.entry.name.into()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The stored values that it takes.
    pub(crate) fn references(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.args.iter().filter_map(|arg| match arg {
            Arg::Ref(id) => Some(*id),
            Arg::Value(_) => None,
        })
    }
}

/// What a task needs to run. Tasks of the same needs share it.
#[derive(Debug, PartialEq)]
pub(crate) struct Needs {
    pub(crate) resources: Resources,
    pub(crate) attempts: u32,
    /// Thousandths of a core.
    pub(crate) cpu_milli: i64,
}

impl Needs {
    pub(crate) fn new(resources: Resources, attempts: u32) -> Self {
        let cpu_milli = (resources.cpus * 1000.0).round() as i64;
        Self { resources, attempts, cpu_milli }
    }

    /// Whether it needs a lease: more than turns on cores.
    pub(crate) fn leased(&self) -> bool {
        let Resources { gpus, memory, extras, .. } = &self.resources;
        *gpus > 0.0 || *memory > Bytes(0) || !extras.is_empty()
    }
}

/// An argument of a task.
pub(crate) enum Arg {
    Value(Value),
    Ref(ObjectId),
}

/// A call of a function: what the code that `#[remote]` writes works with.
pub struct Call {
    pub(crate) args: Vec<Value>,
    pub(crate) emitter: Option<Emitter>,
}

impl Call {
    /// An argument; shared with all who hold it.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn arg<A: Storable>(&self, index: usize) -> Result<Arc<A>, BoxError> {
        let value = self.args.get(index).ok_or("the task has fewer arguments than its function")?;
        Ok(value.typed::<A>()?)
    }

    /// What the function returned.
    ///
    /// # Errors
    /// The function's own.
    pub fn result<O: TaskOutcome>(outcome: O) -> Result<TaskValue, BoxError> {
        Ok(TaskValue(Value::made(outcome.outcome()?)))
    }

    /// Where a function that gives a stream puts its items.
    ///
    /// # Errors
    /// If the task gives no stream.
    pub fn results<R: Storable>(&mut self) -> Result<super::Results<R>, BoxError> {
        let emitter = self.emitter.take().ok_or("the task gives no stream")?;
        Ok(super::Results::new(emitter))
    }
}

/// What a remote function returns as a task.
#[diagnostic::on_unimplemented(
    message = "a remote function returns `Result<R, E>`, where `R` can travel (serde) and `E` is any error",
    label = "this is `{Self}`"
)]
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn parse(text: &str) -> Result<u64, std::num::ParseIntError> {
///     text.parse()
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// let parsed = tasks.submit(parse::task("17".to_owned()))?;
/// assert_eq!(*tasks.get(&parsed)?, 17);
/// # Ok::<(), BoxError>(())
/// ```
pub trait TaskOutcome {
    /// What it gives.
    type Value: Storable;

    /// As the engine's own result.
    ///
    /// # Errors
    /// The function's.
    fn outcome(self) -> Result<Self::Value, BoxError>;
}

impl<R: Storable, E: Into<BoxError>> TaskOutcome for Result<R, E> {
    type Value = R;

    fn outcome(self) -> Result<R, BoxError> {
        self.map_err(Into::into)
    }
}

/// The function registered under `name`.
///
/// # Errors
/// If there is none in this binary, or two have the name.
pub(crate) fn entry(name: &str) -> Result<&'static TaskEntry, TaskError> {
    crate::function::registry::task(name)
        .map_err(|error| TaskError::Infeasible { task: name.into(), reason: error.to_string() })
}
