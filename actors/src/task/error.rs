//! Why a task gave no result, or a value is not there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::ObjectId;

/// Why a task gave no result, or a stored value cannot be had. Cheap to clone: all who wait for it get the same.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError, remote, task};
/// #[remote(crate = mobula_actors)]
/// fn fails() -> Result<u64, BoxError> {
///     Err("no such row".into())
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// match tasks.get(&tasks.submit(fails::task().attempts(1))?) {
///     Err(task::TaskError::Failed { causes, .. }) => assert_eq!(causes, ["no such row"]),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), BoxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The function returned an error or panicked, in its last attempt.
    #[error("task {task} failed in attempt {attempt} of {attempts}: {}", causes.join(": "))]
    Failed {
        /// The function.
        task: Arc<str>,
        /// The attempt that failed last.
        attempt: u32,
        /// How many it may have.
        attempts: u32,
        /// The error and its causes.
        causes: Vec<String>,
    },
    /// Workers or nodes died with it until its attempts were used up.
    #[error(
        "task {task} was lost with its worker in attempt {attempt} of {attempts}: {reason}; a task that ends its process ends the next one too, so look at what it does"
    )]
    WorkerLost {
        /// The function.
        task: Arc<str>,
        /// The attempt that was lost last.
        attempt: u32,
        /// How many it may have.
        attempts: u32,
        /// How the worker ended.
        reason: String,
    },
    /// An argument of the task could not be had, so it did not run.
    #[error("task {task} did not run, because its argument {argument} is missing: {cause}")]
    Argument {
        /// The function.
        task: Arc<str>,
        /// The reference that it was given.
        argument: ObjectId,
        /// Why; never itself an error of this kind.
        cause: Arc<TaskError>,
    },
    /// Somebody cancelled it.
    #[error("task {task} was cancelled")]
    Cancelled {
        /// The function.
        task: Arc<str>,
    },
    /// Nothing here can ever run it.
    #[error("task {task} can never run: {reason}")]
    Infeasible {
        /// The function.
        task: Arc<str>,
        /// What is missing.
        reason: String,
    },
    /// The value is gone, and cannot be made again.
    #[error("{object} is lost: {reason}")]
    Lost {
        /// The value.
        object: ObjectId,
        /// What happened.
        reason: String,
    },
    /// The value was not ready in time; it may be later.
    #[error("{object} was not ready within {waited:?}")]
    Late {
        /// The value.
        object: ObjectId,
        /// How long it was waited for.
        waited: std::time::Duration,
    },
    /// A limit was met.
    #[error("{0}")]
    Limit(String),
    /// The value is not of the type that its reference says, or cannot travel.
    #[error("{0}")]
    Value(String),
    /// The session is over, or its head is gone.
    #[error("the session is over: {0}")]
    Ended(String),
}

impl TaskError {
    /// The error of a task whose argument failed with this one: the first cause is what a reader wants.
    pub(crate) fn of_argument(&self, task: &Arc<str>, argument: ObjectId) -> Self {
        match self {
            Self::Argument { argument, cause, .. } => {
                Self::Argument { task: Arc::clone(task), argument: *argument, cause: Arc::clone(cause) }
            }
            other => Self::Argument { task: Arc::clone(task), argument, cause: Arc::new(other.clone()) },
        }
    }
}
