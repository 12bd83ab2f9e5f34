//! Isolated operators with real processes that abort, hang, eat memory and are killed. The processes are this very
//! program, so it has a `main` of its own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the program prints which test runs")]

#[path = "support/heard.rs"]
mod heard;
#[path = "support/odd.rs"]
mod odd;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use mobula_actors::isolated::{HowItEnded, ProcessDied};
use mobula_actors::job::{JobError, JobSummary, Topology};
use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::operator::{Isolation, Object, OperatorSpec};
use mobula_actors::units::Bytes;
use odd::{Deed, Odd};
use support::cluster::{TestCluster, run_to_summary};
use support::{map, read, run, run_on, small};
use tempfile::TempDir;

const TESTS: &[(&str, fn())] = &[
    ("rows_come_back_as_without_a_process", rows_come_back_as_without_a_process),
    ("an_abort_costs_an_attempt_and_no_row", an_abort_costs_an_attempt_and_no_row),
    ("every_way_to_die_is_named_and_the_node_lives", every_way_to_die_is_named_and_the_node_lives),
    (
        "a_poison_row_does_not_use_up_the_restarts_of_its_worker",
        a_poison_row_does_not_use_up_the_restarts_of_its_worker,
    ),
    ("a_process_that_does_not_answer_is_killed", a_process_that_does_not_answer_is_killed),
    ("rows_that_take_too_much_memory_are_tried_in_halves", rows_that_take_too_much_memory_are_tried_in_halves),
    ("a_row_that_takes_too_much_memory_alone_fails_by_name", a_row_that_takes_too_much_memory_alone_fails_by_name),
    ("processes_hold_leases_of_the_memory_that_they_may_have", processes_hold_leases_of_the_memory_that_they_may_have),
    ("an_error_keeps_the_process_and_a_panic_does_not", an_error_keeps_the_process_and_a_panic_does_not),
    ("a_process_that_dies_while_it_opens_uses_up_restarts", a_process_that_dies_while_it_opens_uses_up_restarts),
    ("a_program_that_does_not_know_the_role_is_told_so", a_program_that_does_not_know_the_role_is_told_so),
    ("no_node_starts_where_the_role_was_missed", no_node_starts_where_the_role_was_missed),
    ("a_call_that_is_given_up_leaves_neither_process_nor_thread", given_up),
    ("a_cancelled_job_leaves_no_process", a_cancelled_job_leaves_no_process),
    ("a_killed_parent_leaves_no_process", a_killed_parent_leaves_no_process),
    ("a_row_as_large_as_the_budget_passes_and_a_larger_one_is_refused", large_rows),
    ("empty_batches_other_columns_and_none_at_all_pass", empty_batches_other_columns_and_none_at_all_pass),
    ("an_object_reaches_the_process", an_object_reaches_the_process),
    ("nodes_of_a_cluster_have_such_processes_too", nodes_of_a_cluster_have_such_processes_too),
    ("what_it_logs_and_prints_is_said_again", what_it_logs_and_prints_is_said_again),
];

fn main() -> ExitCode {
    if std::env::var_os(odd::FORGETFUL).is_some() {
        return forgetful();
    }
    mobula_actors::isolated::isolated_worker(|_| {});
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [parent, file] = arguments.as_slice()
        && parent == "be-parent"
    {
        hang_for_ever(Path::new(file));
    }
    tracing::subscriber::set_global_default(heard::Heard).expect("the first one");
    let wanted =
        |name: &str| arguments.iter().filter(|arg| !arg.starts_with('-')).all(|arg| name.contains(arg.as_str()));
    let mut failed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u8::from(!passed);
    }
    ExitCode::from(failed)
}

/// A step in processes of its own.
fn isolated(deed: Deed, limits: Isolation) -> OperatorSpec {
    Odd { deed }.spec().isolated(limits).expect("it is named")
}

fn plain(deed: Deed) -> OperatorSpec {
    isolated(deed, Isolation::default())
}

/// Runs 10,000 numbers through it; one attempt unless `config` says otherwise.
fn run_step(config: NodeConfig, spec: OperatorSpec) -> Result<(Vec<i64>, JobSummary), JobError> {
    run(config, vec![read(10_000, 3, vec![]), map("odd", 0, spec)])
}

fn all() -> Vec<i64> {
    (0..10_000).collect()
}

fn retries(summary: &JobSummary) -> u64 {
    summary.operators.iter().map(|operator| operator.retries).sum()
}

/// How the process died, of a job that failed by it.
#[track_caller]
fn died(error: &JobError) -> ProcessDied {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    if let JobError::Task { cause: of_task, .. } = error {
        cause = Some((**of_task).as_ref());
    }
    let died =
        std::iter::successors(cause, |&error| error.source()).find_map(|error| error.downcast_ref::<ProcessDied>());
    died.unwrap_or_else(|| panic!("another cause: {error}")).clone()
}

fn once() -> NodeConfig {
    NodeConfig { attempts: 1, ..small() }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for a test")
}

/// Waits for what another process does; nothing tells of it but the world itself.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "processes of the system have no clock of ours")]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::yield_now();
    }
}

/// The process that a file names, once it is written.
fn process_in(file: &Path) -> u32 {
    let mut process = None;
    wait_until("a process has named itself", || {
        process = std::fs::read_to_string(file).ok().and_then(|text| text.strip_suffix('\n')?.parse().ok());
        process.is_some()
    });
    process.expect("just found")
}

/// Whether it is there at all, be it as a zombie.
fn is_there(process: u32) -> bool {
    PathBuf::from(format!("/proc/{process}")).exists()
}

fn rows_come_back_as_without_a_process() {
    let (rows, summary) = run_step(small(), plain(Deed::Nothing)).expect("it runs");
    assert_eq!((rows, retries(&summary)), (all(), 0));
    assert_eq!(summary.operators[1].rows_in.0, 10_000);
}

fn an_abort_costs_an_attempt_and_no_row() {
    let dir = folder();
    let deed = Deed::AbortOnce { at: 5_000, file: dir.path().join("aborted") };
    let (rows, summary) = run_step(small(), plain(deed)).expect("it runs");
    assert_eq!((rows, retries(&summary)), (all(), 1));
}

fn every_way_to_die_is_named_and_the_node_lives() {
    let node = Node::start(once()).expect("a node");
    for (deed, expected, words) in [
        (Deed::Abort { at: 7_000 }, HowItEnded::Killed { signal: 6 }, "about to abort"),
        (Deed::Crash { at: 7_000 }, HowItEnded::Killed { signal: 11 }, "about to crash"),
        (Deed::Overflow { at: 7_000 }, HowItEnded::Killed { signal: 6 }, "overflowed its stack"),
        (Deed::Exit { at: 7_000 }, HowItEnded::Exited { code: 3 }, "about to exit"),
    ] {
        let operators = vec![read(10_000, 3, vec![]), map("odd", 0, plain(deed))];
        let error = run_on(&node, operators).expect_err("it died");
        let ProcessDied { how, rows, last_words } = died(&error);
        assert_eq!(how, expected, "{error}");
        assert!(rows.is_some_and(|rows| !rows.is_empty()), "{error}");
        assert!(last_words.iter().any(|line| line.contains(words)), "{error}");
        assert!(error.to_string().starts_with("operator \"odd\", task "), "{error}");
    }
    let (rows, _) =
        run_on(&node, vec![read(10_000, 3, vec![]), map("odd", 0, plain(Deed::Nothing))]).expect("it lives");
    assert_eq!(rows, all());
}

fn a_poison_row_does_not_use_up_the_restarts_of_its_worker() {
    let config = NodeConfig { attempts: 12, restarts: 0, ..small() };
    let error = run_step(config, plain(Deed::Abort { at: 100 })).expect_err("it dies each time");
    assert!(matches!(error, JobError::Task { attempt: 12, .. }), "{error}");
}

fn a_process_that_does_not_answer_is_killed() {
    let limits = Isolation { time: Some(Duration::from_millis(300)), ..Isolation::default() };
    let error = run_step(once(), isolated(Deed::Hang { at: 9_000, file: None }, limits)).expect_err("it hangs");
    let text = error.to_string();
    assert!(text.contains("its process was killed: no answer in 300ms with rows "), "{text}");
}

fn rows_that_take_too_much_memory_are_tried_in_halves() {
    // A MiB for each of the last rows; a hundred are too much. The slices have more.
    let limits = Isolation { memory: Some(Bytes::mib(100)), ..Isolation::default() };
    let (rows, summary) =
        run_step(once(), isolated(Deed::Take { bytes: 1 << 20, above: 9_000 }, limits)).expect("halves fit");
    assert_eq!((rows, retries(&summary)), (all(), 0));
}

fn a_row_that_takes_too_much_memory_alone_fails_by_name() {
    let limits = Isolation { memory: Some(Bytes::mib(100)), ..Isolation::default() };
    let greedy = Deed::Take { bytes: 200 << 20, above: 9_998 };
    let error = run_step(once(), isolated(greedy, limits)).expect_err("one row is too much");
    let ProcessDied { how, rows, .. } = died(&error);
    assert_eq!(how, HowItEnded::OutOfMemory { limit: Some(Bytes::mib(100)) }, "{error}");
    assert_eq!(rows.map(|rows| rows.end - rows.start), Some(1), "{error}");
}

fn processes_hold_leases_of_the_memory_that_they_may_have() {
    let limits = Isolation { memory: Some(Bytes::mib(1 << 30)), ..Isolation::default() };
    let error = run_step(once(), isolated(Deed::Nothing, limits)).expect_err("no machine has that");
    let text = error.to_string();
    assert!(matches!(error, JobError::Infeasible { .. }) && text.contains("of memory, this node has "), "{text}");
}

fn an_error_keeps_the_process_and_a_panic_does_not() {
    for (panics, keeps) in [(false, true), (true, false)] {
        let dir = folder();
        let file = dir.path().join("failed");
        let deed = Deed::FailOnce { at: 9_999, file: file.clone(), panics };
        // One worker, so that the same one tries again.
        let config = NodeConfig { cpus: Some(1), ..small() };
        let mut step = map("odd", 0, plain(deed));
        step.workers.max = 1;
        let (rows, summary) = run(config, vec![read(10_000, 3, vec![]), step]).expect("it runs");
        assert_eq!(retries(&summary), 1, "{panics}");
        let failed: i64 = std::fs::read_to_string(&file).expect("it failed").parse().expect("a number");
        assert_eq!(rows.last().copied() == Some(failed), keeps, "{failed} failed, then {:?}", rows.last());
    }
    let error = run_step(once(), plain(Deed::Panic { at: 3 })).expect_err("it panics");
    assert!(error.to_string().ends_with("panicked: row 3 is odd"), "{error}");
}

fn a_process_that_dies_while_it_opens_uses_up_restarts() {
    let config = NodeConfig { restarts: 2, ..small() };
    let error = run_step(config, plain(Deed::AbortInOpen)).expect_err("it cannot open");
    assert!(matches!(error, JobError::Worker { restarts: 2, .. }), "{error}");
    assert!(error.to_string().contains("signal 6 (SIGABRT)"), "{error}");
}

fn a_program_that_does_not_know_the_role_is_told_so() {
    let program = |path: &str| NodeConfig { isolated_program: Some(path.into()), restarts: 0, ..small() };
    let error = run_step(program("/bin/true"), plain(Deed::Nothing)).expect_err("no such role").to_string();
    assert!(error.contains("exited with code 0 before it took its role"), "{error}");
    assert!(error.contains("`mobula::isolated_worker()`"), "{error}");
    let error = run_step(program("/no/such/program"), plain(Deed::Nothing)).expect_err("no program").to_string();
    assert!(error.contains("no process could be started"), "{error}");
}

/// What a program does that has not called `isolated_worker`.
fn forgetful() -> ExitCode {
    match Node::start(small()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(7)
        }
    }
}

fn no_node_starts_where_the_role_was_missed() {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let output = command.arg("mobula-isolated-worker").env(odd::FORGETFUL, "1").output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{error}");
    assert!(error.contains("call `mobula::isolated_worker()` first thing in `main`"), "{error}");
}

fn given_up() {
    let dir = folder();
    let file = dir.path().join("process");
    let config =
        NodeConfig { task_progress_limit: Duration::from_millis(400), attempts: 1_000, left_behind_max: 0, ..small() };
    let node = Node::start(config).expect("a node");
    let spec = plain(Deed::Hang { at: 0, file: Some(file.clone()) });
    let operators = vec![read(10_000, 3, vec![]), map("odd", 0, spec)];
    let job = node.submit(Topology { operators, ..Topology::default() }).expect("it starts");
    let (watch, process) = (job.watch(), process_in(&file));
    wait_until("the process is gone", || !is_there(process));
    // The job goes on, with one process after another.
    let retries = watch.summary().operators[1].retries;
    wait_until("it is tried again", || watch.summary().operators[1].retries >= retries + 3);
    drop(job);
}

fn a_cancelled_job_leaves_no_process() {
    let dir = folder();
    let file = dir.path().join("process");
    let node = Node::start(small()).expect("a node");
    let spec = plain(Deed::Hang { at: 0, file: Some(file.clone()) });
    let operators = vec![read(10_000, 3, vec![]), map("odd", 0, spec)];
    let job = node.submit(Topology { operators, ..Topology::default() }).expect("it starts");
    let process = process_in(&file);
    assert!(is_there(process));
    drop(job);
    wait_until("the process is gone", || !is_there(process));
}

/// A process that hangs in an isolated operator, to be killed.
fn hang_for_ever(file: &Path) -> ! {
    let spec = plain(Deed::Hang { at: 0, file: Some(file.to_owned()) });
    let outcome = run_step(small(), spec);
    panic!("it hangs until it is killed: {outcome:?}")
}

fn a_killed_parent_leaves_no_process() {
    let dir = folder();
    let file = dir.path().join("process");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let mut parent = command.arg("be-parent").arg(&file).stdin(Stdio::null()).spawn().expect("it starts");
    let process = process_in(&file);
    assert!(is_there(process));
    parent.kill().expect("SIGKILL");
    parent.wait().expect("it is gone");
    wait_until("the process is gone", || !is_there(process));
}

fn large_rows() {
    let most = small().memory_budget.expect("a small one").0;
    let through = |bytes| {
        let (blow, measure) = (plain(Deed::Blow { bytes }), plain(Deed::Measure));
        run(once(), vec![read(1, 1, vec![]), map("blow", 0, blow), map("measure", 1, measure)])
    };
    assert_eq!(through(most).expect("it fits").0, [most as i64]);
    let error = through(most * 2).expect_err("too large").to_string();
    assert!(error.contains("over the limit of 19.0 MiB") && error.contains("make batches smaller"), "{error}");
}

fn empty_batches_other_columns_and_none_at_all_pass() {
    let chain = vec![read(10_000, 3, vec![]), map("odd", 0, plain(Deed::Vary)), map("even", 1, plain(Deed::Unvary))];
    let (rows, summary) = run(small(), chain).expect("it runs");
    assert_eq!(rows, all().into_iter().filter(|n| n % 3 == 0).collect::<Vec<_>>(), "of three batches two are kept");
    assert!(summary.operators[1].rows_out.0 >= 10_000, "rows without columns count");
}

fn an_object_reaches_the_process() {
    let object = Object::new("a table", vec![7; 3 << 20]);
    let spec = Odd { deed: Deed::Read { object: object.name() } }.spec().with_object(object);
    let (rows, _) = run_step(small(), spec.isolated(Isolation::default()).expect("it is named")).expect("it runs");
    assert_eq!(rows, all().into_iter().map(|n| n + 7).collect::<Vec<_>>());
}

fn nodes_of_a_cluster_have_such_processes_too() {
    let (dir, cluster) = (folder(), TestCluster::start(false, small()));
    let _node = cluster.node("node");
    let driver = cluster.driver("driver");
    let object = Object::new("a table", vec![7; 3 << 20]);
    let reader = Odd { deed: Deed::Read { object: object.name() } }.spec().with_object(object);
    let fragile = plain(Deed::AbortOnce { at: 5_000, file: dir.path().join("aborted") });
    let reader = reader.isolated(Isolation::default()).expect("it is named");
    let steps = vec![read(10_000, 3, vec![]), map("fragile", 0, fragile), map("reader", 1, reader)];
    let (rows, summary) = run_to_summary(&driver, steps, |_| {}).expect("it runs");
    assert_eq!((rows, retries(&summary)), (all().into_iter().map(|n| n + 7).collect(), 1));
    let error = run_to_summary(&driver, vec![read(10, 1, vec![]), map("odd", 0, plain(Deed::Crash { at: 3 }))], |_| {});
    let error = error.expect_err("it crashes each time").to_string();
    assert!(error.contains("signal 11 (SIGSEGV) with rows 0.."), "{error}");
}

fn what_it_logs_and_prints_is_said_again() {
    run_step(once(), plain(Deed::Log { at: 42 })).expect("it runs");
    let said = heard::all();
    assert!(said.iter().any(|line| line.contains("WARN") && line.contains("row 42 looks odd")), "{said:?}");
    let printed = said.iter().find(|line| line.contains("what is printed does not disturb the answers"));
    assert!(printed.is_some_and(|line| line.contains("INFO") && line.contains("stderr")), "{said:?}");
}
