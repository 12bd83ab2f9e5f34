//! The limits of a node, each with a name, a unit, a default and a reason.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::operator::WARM_TIME;
use crate::runtime::Threads;
use crate::scheduler::{Machine, discover};
use crate::units::Bytes;

/// What a node may use, and how it behaves. `NodeConfig::default()` fits the machine it runs on.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its number in its cluster, which its blocks carry; the head gives it. Default: 0, the head or a node alone.
    pub number: u64,
    /// CPU cores that workers may compute on; two workers share a core at most. Default: what this process may use (affinity and cgroup quota
    /// counted). More makes workers fight for cores; fewer leaves cores idle.
    pub cpus: Option<usize>,
    /// GPUs of this node. Default: those that can be seen. Needed where devices work but cannot be listed.
    pub gpus: Option<usize>,
    /// Named extras that leases can ask for.
    pub extras: BTreeMap<String, f64>,
    /// Names and values that operators may ask for.
    pub labels: BTreeMap<String, String>,
    /// Memory that blocks may take, in shards and in flight. Default: half of what the machine or the cgroup allows,
    /// the other half being for models, readers and user code. Too low makes small blocks; too high is swapped or
    /// killed by the system.
    pub memory_budget: Option<Bytes>,
    /// Bytes of files that results may take which wait for an older task's and find no memory (see
    /// `docs/internals/memory.md`). Default: four times `memory_budget`, and never more than half of what is free where they
    /// go: enough for the cores to go on while one task takes several times as long as the others, and a bounded part of a
    /// disk that others use. Less lets workers stand still earlier; 0 spills nothing.
    pub spill_max: Option<Bytes>,
    /// The folder in which the node makes a directory of its own for them, once it needs one; it is gone when the node is.
    /// Default: what `TMPDIR` says, else `/var/tmp`. A folder that is in memory (`tmpfs`) makes spilling useless, a slow disk
    /// makes it slow.
    pub spill_dir: Option<PathBuf>,
    /// How long the same task has to be waited for before results behind it are spilled. Default: 1 s, so that jobs whose
    /// tasks are about even never touch the disk. Shorter writes what would have left in a moment; longer lets workers
    /// stand still.
    pub spill_after: Duration,
    /// Size that blocks aim at. Default: 8 MiB, or less where the budget is small. Larger blocks cost fewer messages;
    /// smaller ones balance better and reach the sink sooner.
    pub block_bytes: Option<Bytes>,
    /// Size that the batches handed to user code aim at. Default: 1 MiB, which stays in a core's cache.
    pub batch_bytes: Bytes,
    /// Attempts of a task before the job fails. Default: 4, as elsewhere in the field.
    pub attempts: u32,
    /// Wait before a task is tried again: doubled each time, with jitter. Default: 20 ms.
    pub retry_backoff: Duration,
    /// Restarts of one worker within `restart_window` before the job fails. Default: 5 in 60 s.
    pub restarts: u32,
    /// The window of the restart budget.
    pub restart_window: Duration,
    /// How long rows may gather at a sink before they are written and recorded, though there are few of them. Default: 30 s.
    /// It is what a crash costs at most beside what is in flight; shorter makes more and smaller files.
    pub commit_interval: Duration,
    /// How long a call of user code for a task may take, or ten times what 95 of 100 calls of its operator take if that is
    /// more: one that takes longer is given up, its thread left behind and its task tried elsewhere, which counts as an
    /// attempt. Opening an operator may take 10 minutes at least. Default: 1 hour. A call cannot be killed within its
    /// process, so what is given up goes on taking its memory and its core, and healthy work that was slow once is done
    /// twice; an hour is longer than calls take whose batch fits a core's cache, and short beside a night. Whoever knows
    /// their code sets minutes. `Duration::MAX` gives nothing up.
    pub task_progress_limit: Duration,
    /// Threads of one job that may be left behind on a node; one more fails the job. Default: 16: each may hold a core and
    /// what its task holds, and four attempts of four tasks are enough to tell. More puts up with more such tasks.
    pub left_behind_max: usize,
    /// A job of which nothing moves for so long (no row in or out, no task done, no block taken) says in the log who waits
    /// for whom, and again each time that it takes as long. Default: 60 s, in which slices of healthy jobs come back.
    /// Shorter warns of slow models; longer leaves people guessing.
    pub stall_warning: Duration,
    /// Memory of values that workers keep for the next job, loaded models above all, while nobody uses them. Default: a
    /// quarter of `memory_budget`. A job that starts meanwhile divides so much less among its blocks. Too low loads the
    /// same model for each job; 0 keeps nothing.
    pub warm_bytes: Option<Bytes>,
    /// How long such a value may be idle. Default: 5 minutes, in which a person has looked at the result and started the
    /// next job. Shorter loads again more often; longer holds memory that nobody uses.
    pub warm_time: Duration,
    /// Bytes of one object (a model, a table) that travels beside a job: what a head takes from drivers and a node from
    /// its head. Default: 2 GiB, where ONNX files end, and what one fetch carries at most.
    pub object_bytes_max: Bytes,
    /// Bytes of all objects that a head holds for jobs and drivers. Default: a quarter of `memory_budget`; a head needs
    /// little of it for blocks. Too low refuses models, or leaves them to a shared file system; more is more memory of
    /// the head's machine.
    pub objects_bytes_max: Option<Bytes>,
    /// The program that processes of isolated operators run. Default: the one that this process runs, in which the same
    /// names mean the same operators. Needed where that cannot take the role, as a library loaded by another program; one
    /// that lacks an operator is told so when the operator opens.
    pub isolated_program: Option<PathBuf>,
    /// Which threads it runs on. Default: its own.
    pub threads: Threads,
}

impl NodeConfig {
    /// The machine that it is on: as found, or in a simulation the same one everywhere.
    pub(crate) fn machine(&self) -> Machine {
        match self.threads.simulation() {
            Some(_) => Machine { cpus: 2, memory: Bytes::mib(1024), gpus: 0 },
            None => discover(),
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            number: 0,
            cpus: None,
            gpus: None,
            extras: BTreeMap::new(),
            labels: BTreeMap::new(),
            memory_budget: None,
            spill_max: None,
            spill_dir: None,
            spill_after: Duration::from_secs(1),
            block_bytes: None,
            batch_bytes: Bytes::mib(1),
            attempts: 4,
            retry_backoff: Duration::from_millis(20),
            restarts: 5,
            restart_window: Duration::from_secs(60),
            commit_interval: Duration::from_secs(30),
            task_progress_limit: Duration::from_secs(3600),
            left_behind_max: 16,
            stall_warning: Duration::from_secs(60),
            warm_bytes: None,
            warm_time: WARM_TIME,
            object_bytes_max: Bytes::mib(2 << 10),
            objects_bytes_max: None,
            threads: Threads::default(),
            isolated_program: None,
        }
    }
}
