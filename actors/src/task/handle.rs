//! The handle by which programs and tasks put values, submit tasks and get results.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::{StreamTask, Task};
use super::context;
use super::engine::Engine;
use super::error::TaskError;
use super::reference::ObjectRef;
use super::stream::ObjectStream;
use super::value::{Storable, Value};

/// The tasks and stored values of a session, for its program and for tasks in it (see [`tasks`]). Cheap to clone.
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
/// let five = tasks.submit(half::task(&ten))?;
/// let two = tasks.submit(half::task(five))?;
/// assert_eq!(*tasks.get(&two)?, 2);
/// # Ok::<(), BoxError>(())
/// ```
#[derive(Clone)]
pub struct Tasks {
    engine: Engine,
}

/// What can be submitted: a [`Task`], or a [`StreamTask`].
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// fn twice<S: task::Submit>(tasks: &task::Tasks, make: impl Fn() -> S) -> Result<[S::Handle; 2], task::TaskError> {
///     Ok([tasks.submit(make())?, tasks.submit(make())?])
/// }
///
/// #[remote(crate = mobula_actors)]
/// fn half(n: u64) -> Result<u64, BoxError> {
///     Ok(n / 2)
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// let halves = twice(&tasks, || half::task(10))?;
/// assert_eq!(*tasks.get(&halves[1])?, 5);
/// # Ok::<(), BoxError>(())
/// ```
pub trait Submit {
    /// What its submitter holds: an [`ObjectRef`], or an [`ObjectStream`].
    type Handle;

    #[doc(hidden)]
    fn submit_to(self, tasks: &Tasks) -> Result<Self::Handle, TaskError>;
}

impl<R: Storable> Submit for Task<R> {
    type Handle = ObjectRef<R>;

    fn submit_to(self, tasks: &Tasks) -> Result<ObjectRef<R>, TaskError> {
        let Self { entry, args, resources, attempts, .. } = self;
        tasks.engine.submit(entry, args, resources, attempts, false).map(ObjectRef::new)
    }
}

impl<R: Storable> Submit for StreamTask<R> {
    type Handle = ObjectStream<R>;

    fn submit_to(self, tasks: &Tasks) -> Result<ObjectStream<R>, TaskError> {
        let Task { entry, args, resources, attempts, .. } = self.0;
        tasks.engine.submit(entry, args, resources, attempts, true).map(ObjectStream::new)
    }
}

/// References by whether their values are there: those that are (or have failed), and the others.
pub type Waited<T> = (Vec<ObjectRef<T>>, Vec<ObjectRef<T>>);

/// What is held in a process, and what its tasks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Values that are held here, or are to be.
    pub values: usize,
    /// Tasks whose arguments are not all there.
    pub waiting: usize,
    /// Tasks that wait for a core.
    pub queued: usize,
    /// Tasks that run.
    pub running: usize,
}

impl Tasks {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Stores a value. In one process it is shared, not copied.
    ///
    /// ```
    /// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError};
    /// # let node = Node::start(NodeConfig::default())?;
    /// let tasks = node.tasks()?;
    /// let stored = tasks.put(vec!["a".to_owned(); 1000])?;
    /// let (one, other) = (tasks.get(&stored)?, tasks.get(&stored)?);
    /// assert!(std::sync::Arc::ptr_eq(&one, &other));
    /// # Ok::<(), BoxError>(())
    /// ```
    ///
    /// # Errors
    /// If it is too large or cannot travel, or the session is over.
    pub fn put<T: Storable>(&self, value: T) -> Result<ObjectRef<T>, TaskError> {
        self.engine.put(Value::made(value)).map(ObjectRef::new)
    }

    /// Submits a task; it runs when its arguments are there and it has what it needs.
    ///
    /// ```
    /// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
    /// # #[remote(crate = mobula_actors)]
    /// # fn half(n: u64) -> Result<u64, BoxError> {
    /// #     Ok(n / 2)
    /// # }
    /// # let node = Node::start(NodeConfig { gpus: Some(0), ..NodeConfig::default() })?;
    /// let tasks = node.tasks()?;
    /// let refused = tasks.submit(half::task(10).gpus(1.0)).map(|_| ());
    /// assert!(matches!(refused, Err(task::TaskError::Infeasible { .. })));
    /// # Ok::<(), BoxError>(())
    /// ```
    ///
    /// # Errors
    /// If nothing here can ever run it (on a cluster, that is the error of its result), an argument cannot travel, or the
    /// session is over.
    pub fn submit<S: Submit>(&self, task: S) -> Result<S::Handle, TaskError> {
        task.submit_to(self)
    }

    /// The value, waiting for it. Called by a task, its core is free meanwhile.
    ///
    /// # Errors
    /// Why there is none: the task failed, or what it needs.
    pub fn get<T: Storable>(&self, reference: &ObjectRef<T>) -> Result<Arc<T>, TaskError> {
        self.read(self.check(reference)?.get(reference.id(), None)?)
    }

    /// The same, waiting no longer than `limit`.
    ///
    /// ```
    /// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
    /// #[remote(crate = mobula_actors)]
    /// fn search() -> Result<u64, BoxError> {
    ///     while !task::is_cancelled() {
    ///         std::hint::spin_loop();
    ///     }
    ///     Ok(0)
    /// }
    /// #
    /// # let node = Node::start(NodeConfig::default())?;
    /// let tasks = node.tasks()?;
    /// let endless = tasks.submit(search::task())?;
    /// let late = tasks.get_within(&endless, std::time::Duration::from_millis(1));
    /// assert!(matches!(late, Err(task::TaskError::Late { .. })));
    /// # tasks.cancel(&endless);
    /// # Ok::<(), BoxError>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`TaskError::Late`].
    pub fn get_within<T: Storable>(&self, reference: &ObjectRef<T>, limit: Duration) -> Result<Arc<T>, TaskError> {
        self.read(self.check(reference)?.get(reference.id(), Some(limit))?)
    }

    /// The values, in order, waiting for all of them.
    ///
    /// ```
    /// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
    /// # #[remote(crate = mobula_actors)]
    /// # fn half(n: u64) -> Result<u64, BoxError> {
    /// #     Ok(n / 2)
    /// # }
    /// #
    /// # let node = Node::start(NodeConfig::default())?;
    /// let tasks = node.tasks()?;
    /// let halves = (0..4).map(|n| tasks.submit(half::task(n))).collect::<Result<Vec<_>, _>>()?;
    /// let halves: Vec<u64> = tasks.get_all(&halves)?.iter().map(|half| **half).collect();
    /// assert_eq!(halves, [0, 0, 1, 1]);
    /// # Ok::<(), BoxError>(())
    /// ```
    ///
    /// # Errors
    /// The first, in order.
    pub fn get_all<T: Storable>(&self, references: &[ObjectRef<T>]) -> Result<Vec<Arc<T>>, TaskError> {
        references.iter().map(|reference| self.get(reference)).collect()
    }

    /// Waits until `wanted` of the references are ready (or have failed), no longer than `limit` if there is one: those that
    /// are, and the others, both in their order.
    ///
    /// ```
    /// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
    /// # #[remote(crate = mobula_actors)]
    /// # fn half(n: u64) -> Result<u64, BoxError> {
    /// #     Ok(n / 2)
    /// # }
    /// #
    /// # let node = Node::start(NodeConfig::default())?;
    /// let tasks = node.tasks()?;
    /// let halves = (0..4).map(|n| tasks.submit(half::task(n))).collect::<Result<Vec<_>, _>>()?;
    /// let (ready, pending) = tasks.wait(halves, 1, None)?;
    /// assert!(!ready.is_empty() && ready.len() + pending.len() == 4);
    /// # Ok::<(), BoxError>(())
    /// ```
    ///
    /// # Errors
    /// If the session is over.
    pub fn wait<T: Storable>(
        &self,
        references: Vec<ObjectRef<T>>,
        wanted: usize,
        limit: Option<Duration>,
    ) -> Result<Waited<T>, TaskError> {
        let ids = references.iter().map(|reference| self.check(reference).map(|_| reference.id()));
        let ready = self.engine.wait(&ids.collect::<Result<Vec<_>, _>>()?, wanted, limit)?;
        let mut waited = (Vec::new(), Vec::new());
        for (reference, ready) in references.into_iter().zip(ready) {
            if ready { waited.0.push(reference) } else { waited.1.push(reference) }
        }
        Ok(waited)
    }

    /// Nobody wants the result of this task: if it has not begun it does not run; if it runs, [`is_cancelled`] tells it so
    /// and its result is dropped. Whoever waits for it, or needs it as an argument, gets [`TaskError::Cancelled`]. Tasks that
    /// it submitted end in the same way when it lets their results go and nobody else holds them.
    ///
    /// ```
    /// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
    /// #[remote(crate = mobula_actors)]
    /// fn search() -> Result<u64, BoxError> {
    ///     while !task::is_cancelled() {
    ///         std::hint::spin_loop();
    ///     }
    ///     Ok(0)
    /// }
    /// #
    /// # let node = Node::start(NodeConfig::default())?;
    /// let tasks = node.tasks()?;
    /// let endless = tasks.submit(search::task())?;
    /// tasks.cancel(&endless);
    /// assert!(matches!(tasks.get(&endless), Err(task::TaskError::Cancelled { .. })));
    /// # Ok::<(), BoxError>(())
    /// ```
    pub fn cancel<T>(&self, reference: &ObjectRef<T>) {
        reference.core().engine().cancel(reference.id());
    }

    /// What is held here, and what runs.
    ///
    /// ```
    /// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError};
    /// # let node = Node::start(NodeConfig::default())?;
    /// let tasks = node.tasks()?;
    /// let stored = tasks.put(1u64)?;
    /// assert_eq!(tasks.counts().values, 1);
    /// drop(stored);
    /// assert_eq!(tasks.counts().values, 0);
    /// # Ok::<(), BoxError>(())
    /// ```
    pub fn counts(&self) -> TaskCounts {
        let (values, waiting, queued, running) = self.engine.counts();
        TaskCounts { values, waiting, queued, running }
    }

    fn check<T>(&self, reference: &ObjectRef<T>) -> Result<&Engine, TaskError> {
        match reference.core().engine().is(&self.engine) {
            true => Ok(&self.engine),
            false => Err(TaskError::Value("the reference belongs to another session".to_owned())),
        }
    }

    fn read<T: Storable>(&self, value: Value) -> Result<Arc<T>, TaskError> {
        let _here = context::reading(&self.engine);
        value.typed()
    }
}

/// The tasks of the session that the calling task runs in: to submit more, to get and to put.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn factorial(n: u64) -> Result<u64, BoxError> {
///     if n == 0 {
///         return Ok(1);
///     }
///     let tasks = task::tasks()?;
///     Ok(n * *tasks.get(&tasks.submit(factorial::task(n - 1))?)?)
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// assert_eq!(*tasks.get(&tasks.submit(factorial::task(5))?)?, 120);
/// assert!(task::tasks().is_err(), "only tasks may ask");
/// # Ok::<(), BoxError>(())
/// ```
///
/// # Errors
/// If the calling thread runs no task.
pub fn tasks() -> Result<Tasks, TaskError> {
    let engine = context::engine();
    engine.map(Tasks::new).ok_or_else(|| TaskError::Value("this is not called by a task".to_owned()))
}

/// Whether nobody wants the result of the calling task any more: it may return at once.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn search() -> Result<u64, BoxError> {
///     while !task::is_cancelled() {
///         std::hint::spin_loop();
///     }
///     Ok(0)
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// let search = tasks.submit(search::task())?;
/// tasks.cancel(&search);
/// assert!(tasks.get(&search).is_err());
/// # Ok::<(), BoxError>(())
/// ```
pub fn is_cancelled() -> bool {
    context::work().is_some_and(|work| work.task.is_cancelled())
}

/// The ordinals of the devices that the calling task holds.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn devices() -> Result<Vec<u32>, BoxError> {
///     Ok(task::gpus())
/// }
/// #
/// # let node = Node::start(NodeConfig { gpus: Some(1), ..NodeConfig::default() })?;
/// let tasks = node.tasks()?;
/// let held = tasks.submit(devices::task().gpus(1.0))?;
/// assert_eq!(*tasks.get(&held)?, [0]);
/// # Ok::<(), BoxError>(())
/// ```
pub fn gpus() -> Vec<u32> {
    context::work().map(|work| work.gpus.to_vec()).unwrap_or_default()
}

/// Which attempt the calling task is, from 1; 0 outside of tasks.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn third_time_lucky() -> Result<u32, BoxError> {
///     match task::attempt() {
///         attempt @ 3.. => Ok(attempt),
///         _ => Err("not yet".into()),
///     }
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// assert_eq!(*tasks.get(&tasks.submit(third_time_lucky::task())?)?, 3);
/// assert_eq!(task::attempt(), 0);
/// # Ok::<(), BoxError>(())
/// ```
pub fn attempt() -> u32 {
    context::work().map_or(0, |work| work.attempt)
}

/// Ends the worker of the calling task as a crash of its thread would: for tests of what a program does then.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn mortal() -> Result<u32, BoxError> {
///     if task::attempt() == 1 {
///         task::crash_worker();
///     }
///     Ok(task::attempt())
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// assert_eq!(*tasks.get(&tasks.submit(mortal::task())?)?, 2);
/// # Ok::<(), BoxError>(())
/// ```
pub fn crash_worker() -> ! {
    std::panic::resume_unwind(Box::new(super::engine::WorkerDeath))
}
