//! What operators log on a node, on its way to the driver of their job.
//!
//! A worker of a job of the cluster says so to its thread as long as it lives. Whoever sees the events of this process (a
//! layer of `tracing`; this crate installs none) hands them to [`capture`], which keeps those of such threads in a ring of
//! the worker's pool ([`pool`]). From there they go with the pool's stream to the head, into a ring of the job ([`job`]),
//! and to each driver that looks at the job ([`reader`]), which says them again as events of its own process. Every ring
//! is bounded; what it loses is counted and told. Nobody ever waits for a log.

mod job;
mod line;
mod pool;
mod reader;
mod ring;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

pub(crate) use job::{JobLogs, LogPage};
pub(crate) use line::{LogLevel, LogLine};
pub(crate) use pool::{LogsFrame, LogsOut, PoolLogs};
pub(crate) use reader::{LogReader, emit};

pub use line::cleaned;
/// The target of the events that a driver emits for what operators log elsewhere.
pub use reader::TARGET;

thread_local! {
    /// Where logs of the worker on this thread go.
    static HERE: RefCell<Option<Arc<dyn Keep>>> = const { RefCell::new(None) };
    /// The step of a fused operator that it is in.
    static STEP: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Where lines of a marked thread go.
pub(crate) trait Keep {
    fn keep(&self, line: LogLine);
}

/// Whether this thread works for a job whose driver is to see its logs.
///
/// ```
/// assert!(!mobula_actors::logs::is_captured(), "this thread is no worker");
/// ```
pub fn is_captured() -> bool {
    HERE.with_borrow(Option::is_some)
}

/// Keeps a line for the driver of the job that this thread works for; does nothing on other threads. `write` writes its
/// text, of which 4 KiB are kept.
///
/// ```
/// use tracing::Level;
/// mobula_actors::logs::capture(Level::WARN, "my_crate", |text| write!(text, "row {} looks odd", 7));
/// ```
pub fn capture(level: tracing::Level, target: &str, write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) {
    if is_captured() {
        let step = STEP.with_borrow(Clone::clone);
        keep(LogLine::write(level, target, step.as_deref(), write));
    }
}

/// Keeps a whole line.
pub(crate) fn keep(line: LogLine) {
    // Cloned: it is kept behind the borrow.
    if let Some(logs) = HERE.with_borrow(Clone::clone) {
        logs.keep(line);
    }
}

/// The thread works for a pool until this is dropped.
pub(crate) struct Here(());

impl Here {
    pub(crate) fn enter<K: Keep + 'static>(logs: Option<Arc<K>>) -> Self {
        HERE.set(logs.map(|logs| logs as Arc<dyn Keep>));
        Self(())
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

/// The thread is in a step of a fused operator until this is dropped.
pub(crate) struct InStep(bool);

impl InStep {
    pub(crate) fn enter(step: Option<&Arc<str>>) -> Self {
        let entered = step.filter(|_| is_captured());
        if let Some(step) = entered {
            STEP.set(Some(Arc::clone(step)));
        }
        Self(entered.is_some())
    }
}

impl Drop for InStep {
    fn drop(&mut self) {
        if self.0 {
            STEP.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_thread_are_kept_only_while_it_works_for_a_pool() {
        let logs = Arc::new(PoolLogs::default());
        let say = |text: &'static str| capture(tracing::Level::INFO, "t", |to| to.write_str(text));
        say("before");
        let here = Here::enter(Some(Arc::clone(&logs)));
        assert!(is_captured());
        say("inside");
        drop(here);
        say("after");
        let frame = logs.take().expect("a line");
        assert_eq!(frame.lines.iter().map(|line| &*line.text).collect::<Vec<_>>(), ["inside"]);
    }

    #[test]
    fn what_is_written_may_log_itself() {
        let logs = Arc::new(PoolLogs::default());
        let _here = Here::enter(Some(Arc::clone(&logs)));
        capture(tracing::Level::WARN, "outer", |text| {
            capture(tracing::Level::WARN, "inner", |text| text.write_str("first"));
            text.write_str("second")
        });
        let texts: Vec<_> = logs.take().expect("lines").lines.into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["first", "second"]);
    }
}
