//! Logs beside bars: each line is written while the bars are off the screen, so that neither tears the other.

use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

use crate::cluster::operator_logs;

/// Prints this process's logs on standard error, around the bars of `screen`.
///
/// Which logs: the environment variable `MOBULA_LOG` in the form of `tracing`'s filters (`info`, `mobula=debug`);
/// without it those of level `default` and above. If the program has set up its own logging, that stays.
pub fn log_to_stderr(screen: &MultiProgress, default: tracing::Level) {
    install(screen, default, None);
}

/// [`log_to_stderr`] for a process that is the head or a node of a cluster: logs of operators from level `operators` on
/// also go to the drivers of their jobs, see [`operator_logs`].
pub fn log_node_to_stderr(screen: &MultiProgress, default: tracing::Level, operators: LevelFilter) {
    install(screen, default, Some(operators));
}

fn install(screen: &MultiProgress, default: tracing::Level, operators: Option<LevelFilter>) {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::from_level(default).into())
        .with_env_var("MOBULA_LOG")
        .from_env_lossy();
    let print = fmt::layer().with_ansi(false).with_target(true).with_writer(AroundBars { screen: screen.clone() });
    let logs = tracing_subscriber::registry().with(print.with_filter(filter)).with(operators.map(operator_logs));
    // Fails only if the program has its own logging already.
    let _ = tracing::subscriber::set_global_default(logs);
}

struct AroundBars {
    screen: MultiProgress,
}

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines { screen: self.screen.clone(), text: Vec::new() }
    }
}

/// Collects what one event writes, and prints it in one go when dropped.
struct Lines {
    screen: MultiProgress,
    text: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // A log that cannot be written has nowhere to be reported to.
        let _ = self.screen.suspend(|| io::stderr().write_all(&self.text));
    }
}
