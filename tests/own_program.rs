//! A program of one's own that is driver, head and node by `mobula::main`: real processes of the example `own_program`.
#![cfg(unix)]

#[path = "examples/built.rs"]
mod built;
#[path = "cluster/processes.rs"]
#[allow(dead_code, reason = "not every test needs all")]
mod processes;

use std::time::Duration;

use processes::{Cluster, Process, command, done, failed, mobula, now, output, until};

/// So many numbers that a process is busy for minutes.
const MANY: &str = "1000000000";

fn start(flags: &[&str]) -> Cluster {
    Cluster::of(built::examples().join("own_program"), flags)
}

#[test]
fn a_program_runs_its_own_function_on_its_own_node_and_sees_what_it_logs_there() {
    let cluster = start(&["--no-compute"]);
    let node = cluster.node("n1", &["--cpus", "1"]);
    let status = done(&cluster.ask(&["status"]));
    assert!(status.lines().any(|line| line.starts_with("n1 ") && line.contains("alive")), "{status}");

    let driver = cluster.ask(&["--below", "50000", "-v"]);
    let text = done(&driver);
    assert!(text.starts_with("the longest chain below 50000 begins with 35655 and has 323 steps\n"), "{text}");
    assert!(text.ends_with(&format!("computed by processes {{{}}}\n", node.id())), "{text}");
    let logs = String::from_utf8_lossy(&driver.stderr);
    let log = logs.lines().find(|line| line.contains("number=35655")).unwrap_or_else(|| panic!("{logs}"));
    for word in [" INFO mobula::operator: the best of ", "node=\"n1\"", "operator=\"map_batches longest\""] {
        assert!(log.contains(word), "{word} is not in {log}");
    }
    let jobs = done(&cluster.ask(&["jobs"]));
    assert!(jobs.lines().nth(1).is_some_and(|job| job.ends_with(" done")), "{jobs}");
    let attached = cluster.ask(&["attach", "1", "-v"]);
    let summary = done(&attached);
    assert!(summary.contains("map_batches longest"), "{summary}");
    assert!(String::from_utf8_lossy(&attached.stderr).contains("number=35655"), "who attaches sees logs too");

    node.signal("-TERM");
    assert_eq!(done(&node.end()), "node n1 left\n");
}

#[test]
fn ctrl_c_of_the_driver_cancels_its_job_and_so_does_the_command() {
    let cluster = start(&["--no-compute"]);
    let _node = cluster.node("n1", &["--cpus", "1"]);
    let run = || Process::spawn(cluster.command(&["--below", MANY, "--cluster", &cluster.address]));
    let cancelled = |jobs: usize| {
        until("the job is cancelled", || {
            let list = done(&cluster.ask(&["jobs"]));
            let ended = list.lines().filter(|line| line.ends_with("the job was cancelled")).count();
            if ended == jobs { Ok(()) } else { Err(list) }
        });
    };
    let driver = run();
    cluster.until_half_way();
    driver.signal("-INT");
    let told = now();
    let ended = driver.end();
    // Far less, but on a machine that is busy with other things.
    assert!(told.elapsed() < Duration::from_secs(10), "it took {:?}", told.elapsed());
    failed(&ended, &["cancelled\n"]);
    cancelled(1);

    let driver = run();
    until("the second job runs", || {
        let jobs = done(&cluster.ask(&["jobs"]));
        if jobs.contains(" running") { Ok(()) } else { Err(jobs) }
    });
    assert_eq!(done(&cluster.ask(&["cancel", "2"])), "job 2 cancelled\n");
    failed(&driver.end(), &["error: the job was cancelled"]);
    cancelled(2);
}

#[test]
fn ctrl_c_ends_a_program_without_a_cluster_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = built::examples().join("own_program");
    let (process, line) =
        Process::start_by_error(command(&program, folder.path(), &["--below", MANY, "--progress", "plain"]));
    assert!(line.starts_with("[0 s]") || line.contains(" rows"), "{line}");
    process.signal("-INT");
    failed(&process.end(), &["cancelled\n"]);
}

#[test]
fn what_it_says_names_this_program_and_wrong_flags_are_told_apart() {
    let cluster = start(&["--no-compute"]);
    let program = built::examples().join("own_program");
    let elsewhere = cluster.path("elsewhere");
    let there = |args: &[&str]| output(command(&program, &elsewhere, args));
    let login = format!("`own_program login --cluster {}", cluster.address);
    failed(&there(&["--cluster", &cluster.address]), &["no identity", "`own_program token --dir C", &login]);
    failed(&there(&["node", "--join", &cluster.address, "--dir", "N9"]), &["`own_program token` on the head"]);
    for args in [&["--bellow", "3"] as &[_], &["predict"], &["node", "--dir", "x"], &["--identity", "x"]] {
        assert_eq!(there(args).status.code(), Some(2), "{args:?}");
    }
    let init = there(&["cluster", "init", "--dir", elsewhere.join("C").to_str().expect("text")]);
    assert!(done(&init).contains("\n  own_program node --head --dir "));
    failed(&output(mobula(&cluster.path("home"), &["status", "--cluster", &cluster.address])), &["same binary"]);
}
