//! What a process logs and writes, said again by its worker: as if the operator had said it there.

use tracing::Level;

use crate::logs::{self, LogLevel, LogLine, TARGET};

/// The name of the module in lines that the process wrote to standard output or error.
const WRITTEN: &str = "stderr";

/// A line that the process logged.
pub(crate) fn again(line: LogLine) {
    let line = line.bounded();
    if logs::is_captured() {
        return logs::keep(line);
    }
    let LogLine { level, target, step, text } = &line;
    let (module, text) = (&*logs::cleaned(target), logs::cleaned(text));
    let operator = step.as_deref().unwrap_or_default();
    // The level and the target of an event are constants of its place.
    match level {
        LogLevel::Error => tracing::error!(target: TARGET, operator, module, "{text}"),
        LogLevel::Warn => tracing::warn!(target: TARGET, operator, module, "{text}"),
        LogLevel::Info => tracing::info!(target: TARGET, operator, module, "{text}"),
        LogLevel::Debug => tracing::debug!(target: TARGET, operator, module, "{text}"),
        LogLevel::Trace => tracing::trace!(target: TARGET, operator, module, "{text}"),
    }
}

/// A line that it wrote, which is already cleaned.
pub(crate) fn line(text: &str) {
    again(LogLine::write(Level::INFO, WRITTEN, None, |to| to.write_str(text)));
}
