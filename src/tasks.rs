//! Tasks of a session: functions that run anywhere in it, by reference to their arguments and results.
//!
//! ```
//! use mobula::prelude::*;
//! use mobula::task;
//!
//! #[mobula::remote]
//! fn count(words: &[String], letter: String) -> Result<usize> {
//!     Ok(words.iter().filter(|word| word.contains(&letter)).count())
//! }
//!
//! #[mobula::remote]
//! fn sum(a: usize, b: usize) -> Result<usize> {
//!     Ok(a + b)
//! }
//!
//! let session = Session::local()?;
//! let words = session.put(vec!["one".to_owned(), "two".to_owned(), "three".to_owned()])?;
//! let with_o = session.submit(count::task(&words, "o".to_owned()))?;
//! let with_t = session.submit(count::task(&words, "t".to_owned()))?;
//! let both = session.submit(sum::task(with_o, with_t))?;
//! assert_eq!(*session.get(&both)?, 4);
//! # Ok::<(), mobula::Error>(())
//! ```
//!
//! What is passed by value is copied for each attempt; what is passed by reference ([`ObjectRef`]) is fetched once for all
//! tasks of a node, and shared by those that borrow it (`&A`). A value is freed when the last reference to it is dropped.
//! A result that is lost with its node is made again; what was put there is an error that names it.

use std::sync::Arc;
use std::time::Duration;

use mobula_actors::task::{ObjectRef, Storable, Submit, Tasks, Waited};

use crate::error::Result;
use crate::session::Session;

impl Session {
    /// Stores a value, to be passed to tasks by reference. In one process it is shared, not copied.
    ///
    /// # Errors
    /// If it is too large or cannot travel.
    pub fn put<T: Storable>(&self, value: T) -> Result<ObjectRef<T>> {
        Ok(self.tasks()?.put(value)?)
    }

    /// Submits a task (`f::task(..)`); what comes back at once is a reference to its result, or to its stream of results.
    ///
    /// # Errors
    /// If nothing in the session can ever run it, naming what is missing; on a cluster, that is the error of its result.
    pub fn submit<S: Submit>(&self, task: S) -> Result<S::Handle> {
        Ok(self.tasks()?.submit(task)?)
    }

    /// The value of a reference, waiting for it.
    ///
    /// # Errors
    /// Why there is none: its task failed, or what that needs.
    pub fn get<T: Storable>(&self, reference: &ObjectRef<T>) -> Result<Arc<T>> {
        Ok(self.tasks()?.get(reference)?)
    }

    /// The values of references, in order, waiting for all of them.
    ///
    /// # Errors
    /// The first, in order.
    pub fn get_all<T: Storable>(&self, references: &[ObjectRef<T>]) -> Result<Vec<Arc<T>>> {
        Ok(self.tasks()?.get_all(references)?)
    }

    /// Waits until `wanted` of the references are ready (or have failed), no longer than `limit` if there is one: those that
    /// are, and the others.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// #[mobula::remote]
    /// fn square(n: u64) -> Result<u64> { Ok(n * n) }
    ///
    /// let session = Session::local()?;
    /// let mut pending = (0..10).map(|n| session.submit(square::task(n))).collect::<Result<Vec<_>>>()?;
    /// let mut sum = 0;
    /// while !pending.is_empty() {
    ///     let (ready, rest) = session.wait(pending, 1, None)?;
    ///     sum += session.get_all(&ready)?.iter().map(|square| **square).sum::<u64>();
    ///     pending = rest;
    /// }
    /// assert_eq!(sum, 285);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the session is over.
    pub fn wait<T: Storable>(
        &self,
        references: Vec<ObjectRef<T>>,
        wanted: usize,
        limit: Option<Duration>,
    ) -> Result<Waited<T>> {
        Ok(self.tasks()?.wait(references, wanted, limit)?)
    }

    /// Nobody wants the result of this task: see [`Tasks::cancel`].
    ///
    /// # Errors
    /// If the session is over.
    pub fn cancel<T>(&self, reference: &ObjectRef<T>) -> Result<()> {
        self.tasks()?.cancel(reference);
        Ok(())
    }

    /// The same as one handle, for code that also runs inside tasks (where [`tasks`](mobula_actors::task::tasks) gives it).
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn tasks(&self) -> Result<Tasks> {
        self.inner_tasks()
    }
}
