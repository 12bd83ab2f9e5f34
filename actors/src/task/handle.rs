//! The handle by which programs and tasks put values, submit tasks and get results.

use std::sync::Arc;
use std::time::Duration;

use super::call::{StreamTask, Task};
use super::context;
use super::engine::Engine;
use super::error::TaskError;
use super::reference::ObjectRef;
use super::stream::ObjectStream;
use super::value::{Storable, Value};

/// The tasks and stored values of a session, for its program and for tasks in it (see [`tasks`]). Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    engine: Engine,
}

/// What can be submitted: a [`Task`], or a [`StreamTask`].
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    /// # Errors
    /// If it is too large or cannot travel, or the session is over.
    pub fn put<T: Storable>(&self, value: T) -> Result<ObjectRef<T>, TaskError> {
        self.engine.put(Value::made(value)).map(ObjectRef::new)
    }

    /// Submits a task; it runs when its arguments are there and it has what it needs.
    ///
    /// # Errors
    /// If nothing here can ever run it, an argument cannot travel, or the session is over.
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
    /// # Errors
    /// As [`get`](Self::get), and [`TaskError::Late`].
    pub fn get_within<T: Storable>(&self, reference: &ObjectRef<T>, limit: Duration) -> Result<Arc<T>, TaskError> {
        self.read(self.check(reference)?.get(reference.id(), Some(limit))?)
    }

    /// The values, in order, waiting for all of them.
    ///
    /// # Errors
    /// The first, in order.
    pub fn get_all<T: Storable>(&self, references: &[ObjectRef<T>]) -> Result<Vec<Arc<T>>, TaskError> {
        references.iter().map(|reference| self.get(reference)).collect()
    }

    /// Waits until `wanted` of the references are ready (or have failed), no longer than `limit` if there is one: those that
    /// are, and the others, both in their order.
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
    /// it submitted run on.
    pub fn cancel<T>(&self, reference: &ObjectRef<T>) {
        reference.core().engine().cancel(reference.id());
    }

    /// What is held here, and what runs.
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
/// # Errors
/// If the calling thread runs no task.
pub fn tasks() -> Result<Tasks, TaskError> {
    let engine = context::engine();
    engine.map(Tasks::new).ok_or_else(|| TaskError::Value("this is not called by a task".to_owned()))
}

/// Whether nobody wants the result of the calling task any more: it may return at once.
pub fn is_cancelled() -> bool {
    context::work().is_some_and(|work| work.task.is_cancelled())
}

/// The ordinals of the devices that the calling task holds.
pub fn gpus() -> Vec<u32> {
    context::work().map(|work| work.gpus.to_vec()).unwrap_or_default()
}

/// Which attempt the calling task is, from 1; 0 outside of tasks.
pub fn attempt() -> u32 {
    context::work().map_or(0, |work| work.attempt)
}

/// Ends the worker of the calling task as a crash of its thread would: for tests of what a program does then.
pub fn crash_worker() -> ! {
    std::panic::resume_unwind(Box::new(super::engine::WorkerDeath))
}
