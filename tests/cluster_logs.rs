//! What operators log on a node is seen at the driver, with node and operator, whatever becomes of the job.
//!
//! Head, node and driver live in this test's process; its only subscriber of `tracing` keeps what the driver emits.

#[path = "cluster/small.rs"]
mod small;

use std::fmt::{Debug, Write};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use mobula::cluster::{self, OPERATOR_LOGS};
use mobula::prelude::*;
use small::Small;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;

/// Events of the driver, as lines of text.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Seen;

impl<S: Subscriber> Layer<S> for Seen {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "mobula::operator" {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            seen().push(line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

fn seen() -> MutexGuard<'static, Vec<String>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lines that hold a word; jobs of other tests have others.
fn seen_with(word: &str) -> Vec<String> {
    seen().iter().filter(|line| line.contains(word)).cloned().collect()
}

/// A small cluster whose logs are seen.
fn logged() -> Small {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let logs = tracing_subscriber::registry().with(Seen).with(cluster::operator_logs(OPERATOR_LOGS));
        tracing::subscriber::set_global_default(logs).expect("the only one");
    });
    Small::start(1)
}

fn rows(cluster: &Small, rows: i64) -> Dataset {
    cluster.session.range(0..rows).expect("rows")
}

#[mobula::remote]
fn says_what_it_sees(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    tracing::warn!(rows = batch.num_rows(), "a \u{1b}[2Jwicked line\nand another");
    tracing::info!("an INFO-MARK");
    tracing::debug!("a DEBUG-MARK");
    Ok(batch)
}

#[test]
fn the_driver_sees_what_an_operator_says_with_its_place_and_nothing_that_a_terminal_obeys() {
    let cluster = logged();
    let said = rows(&cluster, 100).map_batches(says_what_it_sees::map()).expect("a plan");
    assert_eq!(said.count().expect("it runs"), 100);
    let wicked = seen_with("wicked");
    let [line] = wicked.as_slice() else { panic!("one line is expected: {wicked:?}") };
    assert!(line.starts_with("WARN ") && line.contains("node=\"n1\""), "{line}");
    assert!(
        line.contains("operator=\"map_batches says_what_it_sees\"") && line.contains("module=\"cluster_logs\""),
        "{line}"
    );
    assert!(line.contains("message=a \\u{1b}[2Jwicked line\\nand another rows=100"), "{line}");
    assert_eq!((seen_with("INFO-MARK").len(), seen_with("DEBUG-MARK").len()), (1, 0));
}

const FLOOD: i64 = 30_000;

#[mobula::remote]
fn floods(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    for row in 0..batch.num_rows() {
        tracing::warn!("FLOOD {row}");
    }
    Ok(batch)
}

#[test]
fn of_a_flood_the_last_lines_come_and_the_others_are_counted_also_for_who_attaches_later() {
    let cluster = logged();
    let flood = rows(&cluster, FLOOD).map_batches(floods::map()).expect("a plan");
    assert_eq!(flood.count().expect("it runs"), FLOOD as u64);
    let lines = seen_with("FLOOD").len();
    let lost = |seen: &[String]| -> usize {
        let number = |line: &String| line.split("lines=").nth(1).and_then(|lines| lines.parse::<usize>().ok());
        seen.iter().filter_map(number).sum()
    };
    let told = seen_with("logs of operators were left out");
    assert_eq!(lines + lost(&told), FLOOD as usize, "{lines} lines, and {told:?}");
    assert!((1..10_000).contains(&lines), "{lines} lines");

    let other = cluster.driver();
    other.attach(1).expect("the job is known");
    let again = seen_with("FLOOD").len() - lines;
    assert!((1..=1_000).contains(&again), "{again} lines");
    let told_again = seen_with("logs of operators were left out");
    assert_eq!(again + lost(&told_again[told.len()..]), FLOOD as usize);
}

#[mobula::remote]
fn gives_up(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    tracing::error!("LAST WORDS of {} rows", batch.num_rows());
    Err("it gave up".into())
}

#[mobula::remote]
fn dies(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    tracing::error!("DYING WORDS");
    assert!(batch.num_rows() == 0, "it died");
    Ok(batch)
}

#[test]
fn what_an_operator_says_before_it_fails_its_job_is_seen_before_the_error() {
    let cluster = logged();
    for (operator, words, cause) in
        [(gives_up::map(), "LAST WORDS", "it gave up"), (dies::map(), "DYING WORDS", "it died")]
    {
        let error = rows(&cluster, 10).map_batches(operator).expect("a plan").collect().expect_err("it fails");
        let found = seen_with(words).len();
        assert!(error.to_string().contains(cause), "{error}");
        assert_eq!(found, 4, "one for each attempt");
    }
}
