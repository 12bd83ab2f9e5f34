//! Tasks: functions that run somewhere, by reference to their arguments and results.
//!
//! `#[mobula::remote]` makes a function one that can be a task. `f::task(a, b)` names the call, `submit` starts it and gives
//! an [`ObjectRef`] at once, `get` waits for its value. References may be arguments of other tasks, so a program of tasks is
//! a graph; tasks may submit tasks, so the graph may grow while it runs.
//!
//! Start reading with [`Tasks`] (what users call), then `engine/state.rs` (the thinking of one process), then `directory/`
//! (that of a cluster's head) and `wire.rs` (what they say to each other).

pub(crate) mod call;
mod context;
pub(crate) mod directory;
pub(crate) mod engine;
mod error;
mod handle;
pub(crate) mod ids;
mod reference;
mod stream;
mod value;
pub(crate) mod wire;

/// Raw bytes as a stored value: shared and sent without being copied.
///
/// ```
/// use mobula_actors::task::Data;
/// let model = Data::from(vec![0u8; 1 << 20]);
/// assert_eq!(model.len(), 1 << 20);
/// ```
pub use bytes::Bytes as Data;
pub use call::{ATTEMPTS, Call, Given, IntoArg, RunTask, StreamTask, Task, TaskEntry, TaskOutcome, TaskValue};
pub(crate) use engine::while_waiting;
pub use engine::{TASK_WORKERS_MAX, TASKS_MAX};
pub use error::TaskError;
pub use handle::{Submit, TaskCounts, Tasks, Waited, attempt, crash_worker, gpus, is_cancelled, tasks};
pub use ids::{ObjectId, PartyId};
pub use reference::{ObjectRef, RefCore};
pub use stream::{NobodyTakes, ObjectStream, Results};
pub use value::{Batch, Storable};
