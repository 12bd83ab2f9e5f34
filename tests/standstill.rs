//! A job of which nothing moves says in the log who waits for whom: in this process, and from the head to its driver.

#[allow(dead_code, reason = "not every test needs all")]
#[path = "cluster/small.rs"]
mod small;

use std::fmt::Debug;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mobula::cluster::NodeConfig;
use mobula::prelude::*;
use small::Small;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;

/// What was said, and whether the gates are open.
#[derive(Default)]
struct State {
    said: Vec<String>,
    open: bool,
}

static STATE: Mutex<State> = Mutex::new(State { said: Vec::new(), open: false });
static CHANGED: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until something that has all of these words was said.
fn wait_for(words: &[&str]) {
    let soon = Duration::from_secs(60);
    let said = |state: &mut State| !state.said.iter().any(|line| words.iter().all(|word| line.contains(word)));
    let (state, late) = CHANGED.wait_timeout_while(state(), soon, said).expect("not poisoned");
    assert!(!late.timed_out(), "{words:?} was not said: {:?}", state.said);
}

/// Keeps what is said.
struct Seen;

impl<S: Subscriber> Layer<S> for Seen {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(event.metadata().target().to_owned());
        if !text.0.starts_with("mobula") {
            return;
        }
        event.record(&mut text);
        state().said.push(text.0);
        CHANGED.notify_all();
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.push_str(&format!(" {value:?}"));
        }
    }
}

/// Opens the gate whatever becomes of the test.
struct Opens;

impl Drop for Opens {
    fn drop(&mut self) {
        state().open = true;
        CHANGED.notify_all();
    }
}

#[mobula::remote]
fn held(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    // A plan asks it for its columns, by a batch without rows.
    if batch.num_rows() > 0 {
        drop(CHANGED.wait_while(state(), |state| !state.open).map_err(|_| "poisoned")?);
    }
    Ok(batch)
}

const STILL: Duration = Duration::from_millis(300);

/// One test, for there is one subscriber and one gate.
#[test]
fn a_job_that_stands_still_says_who_waits_for_whom_here_and_on_a_cluster() {
    tracing_subscriber::registry().with(Seen).init();
    let session = Session::builder().cpus(1).stall_warning(STILL).build().expect("a session");
    let cluster = Small::start_as(NodeConfig { cpus: Some(1), stall_warning: STILL, ..NodeConfig::default() });
    let count = |session: Session| session.range(0..10)?.map_batches(held::map())?.count();
    std::thread::scope(|scope| {
        let _opens = Opens;
        let (here, there) = (scope.spawn(|| count(session)), scope.spawn(|| count(cluster.session.clone())));
        let computes = "step \"map_batches held\", task 0";
        wait_for(&["mobula_actors::job::standstill nothing of job 0 of this session has moved for", computes]);
        wait_for(&["mobula_actors::job::standstill nothing of job 1 has moved for", "on node n1", computes]);
        // The driver of the cluster hears it too, line by line.
        wait_for(&["mobula::operator", "nothing of job 1 has moved for", "mobula jobs --why 1"]);
        wait_for(&["mobula::operator", "on node n1 has been in user code"]);
        drop(_opens);
        for counted in [here, there] {
            assert_eq!(counted.join().expect("no panic").expect("it runs"), 10);
        }
    });
}
