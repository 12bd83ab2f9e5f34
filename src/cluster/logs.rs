//! What operators log on a node reaches their driver: the layer of `tracing` that sees it.

use std::fmt::{Debug, Write};

use mobula_actors::logs;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

/// The default of [`operator_logs`]: what operators say of themselves, without what they say of each batch.
pub const OPERATOR_LOGS: LevelFilter = LevelFilter::INFO;

/// A layer of `tracing` for a process that is a node: events of operators from `level` on reach the driver of their job,
/// which emits them again in its own process, with the target `mobula::operator` and the fields `node`, `operator` and
/// `module`. The command `node` installs it, in programs of one's own too; one that sets up its own logging
/// adds it there. Without it, logs of operators stay in their process.
///
/// Seen is what is logged on the thread of a worker; threads that an operator starts are not. Nothing waits for a log:
/// beyond 4 KiB a line is cut, and beyond 256 lines or 32 KiB in half a second the oldest are left out, which the driver
/// is told.
///
/// ```
/// use mobula::cluster::{OPERATOR_LOGS, operator_logs};
/// use tracing_subscriber::prelude::*;
/// let logs = tracing_subscriber::registry().with(tracing_subscriber::fmt::layer()).with(operator_logs(OPERATOR_LOGS));
/// tracing::subscriber::set_global_default(logs)?;
/// # Ok::<(), tracing::subscriber::SetGlobalDefaultError>(())
/// ```
pub fn operator_logs<S>(level: LevelFilter) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    LevelFilter: Filter<S>,
{
    OperatorLogs.with_filter(level)
}

struct OperatorLogs;

impl<S: Subscriber> Layer<S> for OperatorLogs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        logs::capture(*metadata.level(), metadata.target(), |text| {
            let mut fields = Fields { text, some: false, written: Ok(()) };
            event.record(&mut fields);
            fields.written
        });
    }
}

/// Writes fields as `tracing`'s own printing does: the message, then `name=value`.
struct Fields<'a> {
    text: &'a mut dyn Write,
    some: bool,
    written: std::fmt::Result,
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let space = if std::mem::replace(&mut self.some, true) { " " } else { "" };
        let written = match field.name() {
            "message" => write!(self.text, "{space}{value:?}"),
            name => write!(self.text, "{space}{name}={value:?}"),
        };
        self.written = self.written.and(written);
    }
}
