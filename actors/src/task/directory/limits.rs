//! What the directory keeps and does at most, so that no party can fill the head.

use std::time::Duration;

use crate::units::Bytes;

/// Limits of a [`Directory`](super::Directory).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirectoryLimits {
    /// Values known at once: those that are held, results of tasks to come, and frames that are kept to make a value again.
    /// Default 8 million, about 4 GiB at the 500 bytes of a queued task. Less refuses work that fits into memory.
    pub(crate) values: usize,
    /// Bytes of small values and of arguments that the head keeps. Default 4 GiB: a million queued tasks with 4 kB each.
    /// Values past it fail with the error of a limit.
    pub(crate) inline: Bytes,
    /// Different asks at once: a function with what its tasks ask for. Default 4,096; each has a queue that each choice looks
    /// at.
    pub(crate) classes: usize,
    /// Arguments of one task. Default 16,384: a reduction over as many parts; each is looked at when the task is placed.
    pub(crate) args: usize,
    /// References inside one value, or inside the arguments of one task. Default 262,144: a table of parts; more belong into
    /// several values, since each message that carries the value carries them.
    pub(crate) contained: usize,
    /// Items of one stream. Default 16 million; each that is held is a value.
    pub(crate) items: u32,
    /// Drivers and nodes at once. Default 4,096; a choice of node looks at each of them.
    pub(crate) parties: usize,
    /// Times that a task which had ended is run again for its lost value. Default 4: past that it is the cluster or the task
    /// that is broken.
    pub(crate) remakes: u32,
    /// Attempts of a task that are lost without counting, since it is not known that they had begun: an argument could not
    /// be had, or a node went with tasks in its queue. Default 8, so that a task that ends its node ends few of them.
    pub(crate) spared: u32,
    /// Younger tasks that may go where a task would fit if it were free there, before a node is kept free for it. Default 32:
    /// fewer leaves cores idle, more lets a big task wait.
    pub(crate) passed: u32,
    /// Attempts that compute on a node at once, for tasks that ask for no cores. Default 1,024; each is a thread there.
    pub(crate) computing: usize,
    /// Most tasks that wait in a node's own queue. Default 256; they cannot go elsewhere any more.
    pub(crate) ahead: usize,
    /// How much work, at the pace of the last look, waits in a node's own queue. Default 2 ms: a few round trips between
    /// nodes. Less leaves cores idle between tasks, more binds tasks to a node that may slow down.
    pub(crate) cover: Duration,
    /// Entries of the queue of tasks that failed once that are looked at for one that may run on a free node. Default 32.
    pub(crate) retries_seen: usize,
    /// Nodes that have gone whose names are kept for errors. Default 1,024.
    pub(crate) names: usize,
}

impl Default for DirectoryLimits {
    fn default() -> Self {
        Self {
            values: 8_000_000,
            inline: Bytes::mib(4096),
            classes: 4096,
            args: 16_384,
            contained: 262_144,
            items: 16_000_000,
            parties: 4096,
            remakes: 4,
            spared: 8,
            passed: 32,
            computing: 1024,
            ahead: 256,
            cover: Duration::from_millis(2),
            retries_seen: 32,
            names: 1024,
        }
    }
}

/// A small value without references in it that is needed for lineage alone is kept in place of the way to make it again, if
/// it has at most so many bytes: about what that way would take. So chains of small results are not remembered.
pub(super) const LEAF_BYTES_MAX: usize = 1024;
