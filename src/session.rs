//! The session: a running engine as the user sees it, and where datasets begin.

use std::sync::{Arc, Mutex, PoisonError};

use mobula_actors::job::{JobSummary, Topology};
use mobula_actors::node::{JobHandle, Node, NodeConfig};
use mobula_actors::units::Bytes;

use crate::config::SessionBuilder;
use crate::error::Result;
use crate::plan::lower::Site;

/// What blocks aim at unless the builder says otherwise: as the engine does.
const BLOCK_BYTES: Bytes = Bytes::mib(8);

/// A running engine in this process. Cheap to clone; the last clone (datasets hold one) stops it.
///
/// ```
/// use mobula::prelude::*;
/// let session = Session::local()?;
/// let even = session.range(0..10)?.filter((col("id") % 2).eq(0))?;
/// assert_eq!(even.count()?, 5);
/// # Ok::<(), mobula::Error>(())
/// ```
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    node: Node,
    block_bytes: Bytes,
    last: LastRun,
}

impl Session {
    /// A session with the limits that fit this machine. Opens no socket.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn local() -> Result<Self> {
        Self::builder().build()
    }

    /// Chooses the limits of a session.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }

    pub(crate) fn start(config: NodeConfig) -> Result<Self> {
        let block_bytes = config.block_bytes.unwrap_or(BLOCK_BYTES);
        let node = Node::start(config)?;
        Ok(Self { inner: Arc::new(Inner { node, block_bytes, last: LastRun::default() }) })
    }

    /// Cores that workers compute on at once.
    pub fn cpus(&self) -> usize {
        self.inner.node.cpus()
    }

    /// Memory that blocks may take, in bytes.
    pub fn memory_budget(&self) -> Bytes {
        self.inner.node.memory_budget()
    }

    /// Size that blocks aim at, in bytes; a job with many operators on a small budget makes smaller ones.
    pub fn block_bytes(&self) -> Bytes {
        self.inner.block_bytes
    }

    /// What the run that ended last in this session did, operator by operator; `None` before the first.
    pub fn stats(&self) -> Option<JobSummary> {
        self.inner.last.get()
    }

    /// Whether both are handles of one running engine.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn site(&self) -> Site {
        Site { cpus: self.cpus(), block_bytes: self.block_bytes() }
    }

    pub(crate) fn submit(&self, topology: Topology) -> Result<JobHandle> {
        Ok(self.inner.node.submit(topology)?)
    }

    pub(crate) fn last_run(&self) -> &LastRun {
        &self.inner.last
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("cpus", &self.cpus()).field("memory_budget", &self.memory_budget()).finish()
    }
}

/// The summary of the run that ended last. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub(crate) struct LastRun(Arc<Mutex<Option<JobSummary>>>);

impl LastRun {
    pub(crate) fn get(&self) -> Option<JobSummary> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, summary: JobSummary) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(summary);
    }
}
