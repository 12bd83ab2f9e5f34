//! The logs of a pool on its node, until they go to the head: a ring, and the pace at which it is emptied.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::Keep;
use super::line::LogLine;
use super::ring::{Ring, RingLimits};

/// What waits for the next frame of a pool. A worker that logs more than this in [`PACE`] is not read anyway; what it
/// loses is counted.
const WAITING: RingLimits = RingLimits { things: 256, bytes: 32 << 10 };
/// From one frame of a pool to the next: with the ring, 64 KiB a second at most beside the pool's results.
const PACE: Duration = Duration::from_millis(500);

/// Lines on their way to the head.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogsFrame {
    /// Lines that were lost before the first of these.
    pub(crate) lost: u64,
    pub(crate) lines: Vec<LogLine>,
}

/// The logs of all workers of a pool on this node.
#[derive(Debug)]
pub(crate) struct PoolLogs {
    waiting: Mutex<Waiting>,
    some: Notify,
}

#[derive(Debug)]
struct Waiting {
    ring: Ring<LogLine>,
    /// The number that the next frame begins with.
    taken: u64,
}

impl Default for PoolLogs {
    fn default() -> Self {
        Self { waiting: Mutex::new(Waiting { ring: Ring::new(WAITING), taken: 0 }), some: Notify::new() }
    }
}

impl PoolLogs {
    pub(crate) fn push(&self, line: LogLine) {
        let bytes = line.bytes();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).ring.push(line, bytes);
        self.some.notify_one();
    }

    /// What waits; `None` if nothing does.
    pub(crate) fn take(&self) -> Option<LogsFrame> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { ring, taken } = &mut *waiting;
        if ring.next() == *taken {
            return None;
        }
        let lines = ring.take();
        // The oldest goes first, so all that is lost was before the first that is kept.
        let lost = lines.first().map_or(ring.next(), |(number, _)| *number) - *taken;
        *taken = ring.next();
        Some(LogsFrame { lost, lines: lines.into_iter().map(|(_, line)| line).collect() })
    }
}

impl Keep for PoolLogs {
    fn keep(&self, line: LogLine) {
        self.push(line);
    }
}

/// Empties a pool's ring in frames, not more often than its pace.
pub(crate) struct LogsOut {
    logs: Arc<PoolLogs>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl LogsOut {
    pub(crate) fn new(logs: Arc<PoolLogs>) -> Self {
        Self { logs, pause: None }
    }

    /// Waits for the next frame. Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> LogsFrame {
        if let Some(pause) = &mut self.pause {
            pause.await;
            self.pause = None;
        }
        loop {
            if let Some(frame) = self.logs.take() {
                self.pause = Some(Box::pin(tokio::time::sleep(PACE)));
                return frame;
            }
            self.logs.some.notified().await;
        }
    }

    /// What is left at the end, whenever the last frame went.
    pub(crate) fn rest(&self) -> Option<LogsFrame> {
        self.logs.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::line::TEXT_BYTES_MAX;

    fn line(text: &str) -> LogLine {
        LogLine::write(tracing::Level::INFO, "t", None, |to| to.write_str(text))
    }

    #[test]
    fn a_flood_takes_bounded_memory_and_what_is_lost_is_counted() {
        let logs = PoolLogs::default();
        assert_eq!(logs.take(), None);
        for number in 0..10_000 {
            logs.push(line(&number.to_string()));
        }
        let frame = logs.take().expect("lines");
        assert_eq!((frame.lost, frame.lines.len()), (10_000 - 256, 256));
        assert_eq!(frame.lines.last().map(|line| &*line.text), Some("9999"));
        for _ in 0..100 {
            logs.push(line(&"x".repeat(TEXT_BYTES_MAX)));
        }
        let frame = logs.take().expect("lines");
        assert!(frame.lines.len() < 8 && frame.lost == 100 - frame.lines.len() as u64, "{}", frame.lines.len());
        assert_eq!(logs.take(), None);
    }

    #[test]
    fn the_first_line_goes_at_once_and_the_next_after_the_pace() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let logs = Arc::new(PoolLogs::default());
            let mut out = LogsOut::new(Arc::clone(&logs));
            let start = tokio::time::Instant::now();
            logs.push(line("a"));
            assert_eq!(out.next().await.lines, [line("a")]);
            logs.push(line("b"));
            logs.push(line("c"));
            assert_eq!(out.next().await.lines, [line("b"), line("c")]);
            assert!(start.elapsed() >= PACE);
            logs.push(line("d"));
            assert_eq!(out.rest().expect("a line").lines, [line("d")]);
        });
    }
}
