//! The limits of a session: every one with its unit, its default, and the price of a wrong value.
//!
//! Start at [`SessionBuilder`]. What a node does with these limits is in `mobula_actors::node::NodeConfig`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mobula_actors::node::NodeConfig;
use mobula_actors::runtime::SystemEnv;
use mobula_actors::runtime::env::SharedEnv;
use mobula_actors::units::Bytes;

use crate::error::Result;
use crate::session::Session;

/// Chooses the limits of a [`Session`]; what is not chosen fits the machine.
///
/// ```
/// use mobula::prelude::*;
/// let session = Session::builder().memory_budget(Bytes::mib(256)).cpus(2).build()?;
/// assert_eq!(session.range(0..10)?.count()?, 10);
/// # Ok::<(), mobula::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct SessionBuilder {
    node: NodeConfig,
}

impl SessionBuilder {
    /// Cores that workers compute on at once. Default: what this process may use (affinity and cgroup quota counted).
    /// More makes workers fight for cores; fewer leaves cores idle.
    pub fn cpus(mut self, cores: usize) -> Self {
        self.node.cpus = Some(cores);
        self
    }

    /// GPUs that operators may ask for. Default: those that can be seen. Needed where devices work but cannot be
    /// listed; more than there are lets two models land on one device.
    pub fn gpus(mut self, devices: usize) -> Self {
        self.node.gpus = Some(devices);
        self
    }

    /// A named extra that operators may ask for (`"licence"`, 2 of them). Default: none. An operator that asks for an
    /// extra the session does not have is refused when its job starts.
    pub fn extra(mut self, name: impl Into<String>, amount: f64) -> Self {
        self.node.extras.insert(name.into(), amount);
        self
    }

    /// A name and value by which operators may choose this session's node, see [`Resources`](crate::prelude::Resources).
    /// Default: none. A plan that names labels runs here if this session has them.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.node.labels.insert(name.into(), value.into());
        self
    }

    /// Memory that blocks may take, in bytes. Default: half of what the machine or the cgroup allows, the other half
    /// being for models, readers and functions. Too low makes small blocks; too high is swapped or killed.
    pub fn memory_budget(mut self, bytes: Bytes) -> Self {
        self.node.memory_budget = Some(bytes);
        self
    }

    /// Bytes of disk for results that wait for an older task's when memory runs short. Default: four times the memory
    /// budget, and at most half of what is free there. Less lets workers stand still earlier while one task takes long; 0
    /// uses no disk.
    pub fn spill_max(mut self, bytes: Bytes) -> Self {
        self.node.spill_max = Some(bytes);
        self
    }

    /// The folder for them, in which the session makes a directory of its own once it needs one. Default: what `TMPDIR`
    /// names, else `/var/tmp`. A folder in memory (`tmpfs`) gains nothing.
    pub fn spill_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.node.spill_dir = Some(dir.into());
        self
    }

    /// Size that blocks aim at, in bytes. Default: 8 MiB, less where the budget is small. Larger blocks cost fewer
    /// messages; smaller ones balance better and reach the end sooner.
    pub fn block_bytes(mut self, bytes: Bytes) -> Self {
        self.node.block_bytes = Some(bytes);
        self
    }

    /// Size that the batches handed to functions aim at, in bytes. Default: 1 MiB, which stays in a core's cache.
    pub fn batch_bytes(mut self, bytes: Bytes) -> Self {
        self.node.batch_bytes = bytes;
        self
    }

    /// How often a task is tried before its job fails. Default: 4. One turns retries off.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.node.attempts = attempts;
        self
    }

    /// Wait before a failed task is tried again, doubled each time. Default: 20 ms. Longer suits causes that pass
    /// slowly, such as a file server that restarts.
    pub fn retry_backoff(mut self, wait: Duration) -> Self {
        self.node.retry_backoff = wait;
        self
    }

    /// How often one worker may be restarted within the window before its job fails. Default: 5 in 60 seconds.
    pub fn restarts(mut self, restarts: u32, window: Duration) -> Self {
        self.node.restarts = restarts;
        self.node.restart_window = window;
        self
    }

    /// How long rows may gather before they are written to a file and recorded, though there are few of them. Default: 30
    /// seconds. It is what a crash costs at most beside what is in flight; shorter makes more and smaller files.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.node.commit_interval = interval;
        self
    }

    /// How long a call of user code for a task may take, or ten times what 95 of 100 calls of its operator take if that is
    /// more: one that takes longer is given up, its thread left behind, and its task tried elsewhere. Default: 1 hour.
    /// Healthy calls that are ended are done again; too long, and a call that never comes back holds its job up so long.
    /// `Duration::MAX` gives nothing up. [`Session::with_task_progress_limit`] sets it for some jobs.
    pub fn task_progress_limit(mut self, limit: Duration) -> Self {
        self.node.task_progress_limit = limit;
        self
    }

    /// Threads of one job that may be left behind in calls that do not come back; one more fails the job. Default: 16. Each
    /// may hold a core and the memory of its task.
    pub fn left_behind_max(mut self, threads: usize) -> Self {
        self.node.left_behind_max = threads;
        self
    }

    /// A job of which nothing moves for so long says in the log who waits for whom, and again each time that it takes as
    /// long. Default: 60 s. Shorter warns of slow steps; longer leaves people guessing.
    pub fn stall_warning(mut self, time: Duration) -> Self {
        self.node.stall_warning = time;
        self
    }

    /// Memory of loaded models and other values that are kept for the next job while nobody uses them, in bytes. Default:
    /// a quarter of the memory budget; blocks of a job that starts meanwhile get so much less. Too low loads a model anew
    /// for each job; 0 keeps none.
    pub fn warm_bytes(mut self, bytes: Bytes) -> Self {
        self.node.warm_bytes = Some(bytes);
        self
    }

    /// How long such a value waits for the next job. Default: 5 minutes. Shorter loads again more often; longer holds
    /// memory that nobody uses.
    pub fn warm_time(mut self, time: Duration) -> Self {
        self.node.warm_time = time;
        self
    }

    /// The program that processes of isolated operators run. Default: the one that this process runs. Needed where that
    /// does not call [`isolated_worker`](crate::isolated_worker); it has to have the operators in question.
    pub fn isolated_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.node.isolated_program = Some(program.into());
        self
    }

    /// Starts the session.
    ///
    /// # Errors
    /// If a limit makes no sense or the system refuses a thread.
    pub fn build(self) -> Result<Session> {
        self.build_with(Arc::new(SystemEnv::new()))
    }

    /// The same in a world of the caller's: what a bench counts syncs of the disk by.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    #[doc(hidden)]
    pub fn build_with(self, env: SharedEnv) -> Result<Session> {
        Session::start(self.node, env)
    }
}
