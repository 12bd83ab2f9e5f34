//! A driver's place in the logs of a job, and how it says them again.

use super::job::{JobLine, LogPage};
use super::line::{LogLevel, LogLine, cleaned};

/// The target of the events that a driver emits.
pub const TARGET: &str = "mobula::operator";

/// How far a driver has read.
#[derive(Debug, Default)]
pub(crate) struct LogReader {
    next: u64,
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Line(JobLine),
    /// So many lines were lost.
    Lost(u64),
}

impl LogReader {
    /// The number from which on it wants lines.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// What of a page is new. Pages may come twice and out of order.
    pub(crate) fn on_page(&mut self, page: LogPage) -> Vec<Said> {
        let mut said = Vec::new();
        for (number, line) in page.lines {
            if number >= self.next {
                self.lost(number, &mut said);
                said.push(Said::Line(line));
                self.next = number.saturating_add(1);
            }
        }
        self.lost(page.next, &mut said);
        said
    }

    /// What comes before this number is not there any more.
    fn lost(&mut self, number: u64, said: &mut Vec<Said>) {
        if number > self.next {
            said.push(Said::Lost(number - self.next));
            self.next = number;
        }
    }
}

/// Emits events of this process, with everything that a peer said made fit for a terminal.
pub(crate) fn emit(said: &[Said]) {
    for said in said {
        match said {
            Said::Lost(lines) => tracing::warn!(target: TARGET, lines, "logs of operators were left out: too many"),
            Said::Line(JobLine { node, operator, line: LogLine { level, target, step, text } }) => {
                let operator = step.as_deref().unwrap_or(operator);
                let (node, operator) = (&*cleaned(node), &*cleaned(operator));
                let (module, text) = (&*cleaned(target), cleaned(text));
                // The level and the target of an event are constants of its place.
                match level {
                    LogLevel::Error => tracing::error!(target: TARGET, node, operator, module, "{text}"),
                    LogLevel::Warn => tracing::warn!(target: TARGET, node, operator, module, "{text}"),
                    LogLevel::Info => tracing::info!(target: TARGET, node, operator, module, "{text}"),
                    LogLevel::Debug => tracing::debug!(target: TARGET, node, operator, module, "{text}"),
                    LogLevel::Trace => tracing::trace!(target: TARGET, node, operator, module, "{text}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::JobLogs;
    use crate::logs::pool::LogsFrame;

    fn frame(lost: u64, texts: &[&str]) -> LogsFrame {
        let line = |text: &&str| LogLine::write(tracing::Level::WARN, "t", None, |to| to.write_str(text));
        LogsFrame { lost, lines: texts.iter().map(line).collect() }
    }

    fn texts(said: &[Said]) -> Vec<String> {
        let text = |said: &Said| match said {
            Said::Line(line) => format!("{} {}: {}", line.node, line.operator, line.line.text),
            Said::Lost(lines) => format!("{lines} lost"),
        };
        said.iter().map(text).collect()
    }

    #[test]
    fn each_line_is_said_once_with_its_place_and_losses_where_they_were() {
        let (logs, mut reader) = (JobLogs::default(), LogReader::default());
        logs.add(&"n1".into(), &"score".into(), frame(0, &["a", "b"]));
        let first = logs.page(reader.next());
        logs.add(&"n2".into(), &"read".into(), frame(3, &["c"]));
        let second = logs.page(reader.next());
        assert_eq!(texts(&reader.on_page(first.clone())), ["n1 score: a", "n1 score: b"]);
        assert_eq!(texts(&reader.on_page(second)), ["3 lost", "n2 read: c"]);
        assert!(reader.on_page(first).is_empty());
        logs.add(&"n2".into(), &"read".into(), frame(2, &[]));
        assert_eq!(texts(&reader.on_page(logs.page(reader.next()))), ["2 lost"]);
        assert_eq!(reader.next(), logs.next());
        assert!(reader.on_page(logs.page(reader.next())).is_empty());
    }

    #[test]
    fn who_comes_late_gets_the_last_lines_and_is_told_of_the_others() {
        let (logs, mut reader) = (JobLogs::default(), LogReader::default());
        for number in 0..5_000 {
            logs.add(&"n1".into(), &"score".into(), frame(0, &[&number.to_string()]));
        }
        let said = reader.on_page(logs.page(0));
        assert_eq!((said.len(), texts(&said[..2])), (1_001, vec!["4000 lost".to_owned(), "n1 score: 4000".to_owned()]));
    }
}
