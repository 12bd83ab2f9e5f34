//! The logs of a job on the head, for all drivers that look at it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::line::LogLine;
use super::pool::LogsFrame;
use super::ring::{Ring, RingLimits};

/// What is kept of a job's logs, also after its end: a driver asks five times a second, and who attaches later sees the
/// last pages. With all jobs that a head remembers, 25 MiB at most.
const KEPT: RingLimits = RingLimits { things: 1_000, bytes: 256 << 10 };
/// Bytes of the names beside a line, about; they are shared between lines.
const NAMES_BYTES: usize = 32;

/// A line with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobLine {
    pub(crate) node: Arc<str>,
    pub(crate) operator: Arc<str>,
    pub(crate) line: LogLine,
}

/// What is new for a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogPage {
    /// Lines with their numbers, which go up. A number that is missing is a line that was lost.
    pub(crate) lines: Vec<(u64, JobLine)>,
    /// The number of the line that comes next.
    pub(crate) next: u64,
}

/// The logs of a job. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct JobLogs {
    ring: Arc<Mutex<Ring<JobLine>>>,
}

impl Default for JobLogs {
    fn default() -> Self {
        Self { ring: Arc::new(Mutex::new(Ring::new(KEPT))) }
    }
}

impl JobLogs {
    /// A node has sent lines of an operator.
    pub(crate) fn add(&self, node: &Arc<str>, operator: &Arc<str>, frame: LogsFrame) {
        let mut ring = self.lock();
        ring.skip(frame.lost);
        for line in frame.lines {
            let line = line.bounded();
            let bytes = NAMES_BYTES + line.bytes();
            ring.push(JobLine { node: Arc::clone(node), operator: Arc::clone(operator), line }, bytes);
        }
    }

    /// The head says something about the job itself.
    pub(crate) fn say(&self, text: &str) {
        let line = LogLine::write(tracing::Level::WARN, module_path!(), None, |to| to.write_str(text));
        let frame = LogsFrame { lost: 0, lines: vec![line] };
        self.add(&Arc::from("head"), &Arc::from("all"), frame);
    }

    /// The number of the line that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.lock().next()
    }

    /// What is kept from this number on.
    pub(crate) fn page(&self, from: u64) -> LogPage {
        let ring = self.lock();
        LogPage { lines: ring.since(from).map(|(number, line)| (number, line.clone())).collect(), next: ring.next() }
    }

    fn lock(&self) -> MutexGuard<'_, Ring<JobLine>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
