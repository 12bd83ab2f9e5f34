//! Clusters of real processes on loopback: the commands in the order of the README, who is let in, and jobs whose nodes
//! die or leave.
#![cfg(unix)]

#[path = "cluster/processes.rs"]
mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use processes::{Cluster, Process, done, failed, mobula, now, output, until};

const MODEL: &str = "examples/data/digits_mlp.onnx";
const DIGITS: &str = "examples/data/digits";
const EXPECTED: &str = "examples/data/digits_expected.parquet";
/// Copies of the digits in a job that is to be disturbed: a few seconds of work for two nodes.
const COPIES: usize = 60;
/// The same for one node.
const FEWER_COPIES: usize = 20;

/// The flags of the README's `predict`.
fn predict<'a>(input: &'a str, output: &'a str) -> [&'a str; 9] {
    ["predict", "--model", MODEL, "--input", input, "--output", output, "--progress", "none"]
}

fn read(file: &Path) -> Vec<RecordBatch> {
    let file = fs::File::open(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet").build().expect("parquet");
    reader.map(|batch| batch.expect("a batch")).collect()
}

fn labels(batches: &[RecordBatch]) -> Vec<i64> {
    let label = |batch: &RecordBatch| {
        let column = batch.column_by_name("label").expect("a column");
        let column = arrow::compute::cast(column, &DataType::Int64).expect("a number");
        column.as_primitive::<Int64Type>().values().to_vec()
    };
    batches.iter().flat_map(label).collect()
}

/// The labels in the visible files of a folder, in order.
fn labels_in(folder: &Path) -> Vec<i64> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (jobs, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.ends_with("_mobula"));
    files.sort();
    for job in jobs.iter().flat_map(|jobs| fs::read_dir(jobs).expect("a folder")) {
        let job = job.expect("an entry").path();
        assert!(job.join("manifest.json").exists() && !job.join("parts").exists(), "{} has ended", job.display());
    }
    let hidden = files.iter().find(|file| !file.to_string_lossy().ends_with(".parquet"));
    assert_eq!(hidden, None, "only results are left");
    files.iter().flat_map(|file| labels(&read(file))).collect()
}

/// Fills a folder with the digits, many times over; gives the pattern and the labels that are expected.
fn many_digits(folder: &Path, copies: usize) -> (String, Vec<i64>) {
    fs::create_dir(folder).expect("a folder");
    for copy in 0..copies {
        for part in 0..12 {
            let from = format!("{DIGITS}/part-{part:03}.parquet");
            fs::copy(from, folder.join(format!("{copy:03}-{part:03}.parquet"))).expect("a copy");
        }
    }
    let once = labels(&read(Path::new(EXPECTED)));
    (format!("{}/*.parquet", folder.display()), once.repeat(copies))
}

/// A job on a head that only leads and two nodes of little memory, so that it writes several files.
struct Running {
    cluster: Cluster,
    _second: Process,
    job: Process,
    out: PathBuf,
    expected: Vec<i64>,
}

/// Blocks and files are made to fit this.
const LITTLE_MEMORY: [&str; 2] = ["--memory", "64MiB"];

impl Running {
    /// Starts the job and waits until it has begun; gives one of the nodes, to be disturbed.
    fn start() -> (Self, Process) {
        let cluster = Cluster::start(&["--no-compute", LITTLE_MEMORY[0], LITTLE_MEMORY[1]]);
        let (first, second) = (cluster.node("n1", &LITTLE_MEMORY), cluster.node("n2", &LITTLE_MEMORY));
        let (input, expected) = many_digits(&cluster.path("in"), COPIES);
        let out = cluster.path("out");
        let args = predict(&input, out.to_str().expect("text"));
        let job = Process::spawn(cluster.command(&[&args[..], &["--cluster", &cluster.address]].concat()));
        cluster.until_half_way();
        (Self { cluster, _second: second, job, out, expected }, first)
    }

    /// Waits until so many files of the job have been begun, and so almost as many finished.
    fn until_files(&self, count: usize) {
        until(&format!("{count} files are begun"), || {
            let parts = fs::read_dir(self.out.join("_mobula/0/parts")).into_iter().flatten();
            let parts: Vec<_> = parts.flatten().map(|entry| entry.path()).collect();
            if parts.len() >= count { Ok(()) } else { Err(format!("{parts:?}")) }
        });
    }

    /// The job ends well, and its result is that of an undisturbed run.
    #[track_caller]
    fn end(self) -> (Cluster, PathBuf) {
        done(&self.job.end());
        let labels = labels_in(&self.out);
        assert_eq!(labels.len(), self.expected.len());
        assert!(labels == self.expected, "labels differ from those of an undisturbed run");
        (self.cluster, self.out)
    }
}

#[test]
fn the_commands_of_the_readme_give_the_labels_of_an_independent_engine() {
    let cluster = Cluster::start(&[]);
    let node = cluster.node("n1", &["--cpus", "1", "--memory", "256MiB", "--label", "disk=ssd"]);
    let status = done(&cluster.ask(&["status"]));
    let n1 = status.lines().find(|line| line.starts_with("n1 ")).expect("the node is listed");
    assert!(n1.contains("alive") && n1.contains("256.0 MiB") && n1.contains("disk=ssd"), "{status}");
    assert!(status.lines().any(|line| line.starts_with("head ")), "{status}");

    let out = cluster.path("out");
    let digits = format!("{DIGITS}/*.parquet");
    let summary = done(&cluster.ask(&predict(&digits, out.to_str().expect("text"))));
    assert!(summary.starts_with("1,797 rows in ") && summary.contains("bound by: "), "{summary}");
    assert_eq!(labels_in(&out), labels(&read(Path::new(EXPECTED))));

    let jobs = done(&cluster.ask(&["jobs"]));
    let job = jobs.lines().nth(1).expect("one job");
    assert!(job.contains("1,797 of 1,797") && job.contains("local") && job.contains("done"), "{jobs}");
    let number = job.split_whitespace().next().expect("a number");
    assert!(done(&cluster.ask(&["attach", number])).contains("1,797 rows read"));
    failed(&cluster.ask(&["attach", "99"]), &["no job 99", "mobula jobs"]);
    let why = done(&cluster.ask(&["jobs", "--why", "1"]));
    assert_eq!(why, "job 1 waits for nothing, it has ended: done\n");
    assert!(done(&cluster.ask(&["tasks"])).starts_with("0 run, 0 wait for a node"));
    failed(&cluster.ask(&["jobs", "--why", "99"]), &["no job 99", "mobula jobs"]);

    node.signal("-TERM");
    assert_eq!(done(&node.end()), "node n1 left\n");
    cluster.head.signal("-TERM");
    assert_eq!(done(&cluster.head.end()), "head stopped\n");
}

#[test]
fn a_job_that_fails_on_a_node_tells_its_driver_why_and_leaves_no_file() {
    let cluster = Cluster::start(&["--no-compute"]);
    let _node = cluster.node("n1", &[]);
    let (input, out) = (cluster.path("in"), cluster.path("out"));
    fs::create_dir(&input).expect("a folder");
    let whole = fs::read(format!("{DIGITS}/part-000.parquet")).expect("data");
    fs::write(input.join("a.parquet"), &whole).expect("a file");
    fs::write(input.join("b.parquet"), &whole).expect("a file");
    let job = predict(input.to_str().expect("text"), out.to_str().expect("text"));
    let bad = [&job[..], &["--columns", "pixels=digit"]].concat();
    failed(&cluster.ask(&bad), &["pixels", "digit"]);
    assert!(!out.exists());
    done(&cluster.ask(&job));
}

#[test]
fn a_node_that_has_joined_needs_no_token_again() {
    let cluster = Cluster::start(&["--no-compute"]);
    let node = cluster.node("n1", &[]);
    node.signal("-KILL");
    drop(node);
    let (_node, line) = Process::start(cluster.join("n1", &[]));
    assert!(line.starts_with("node n1 joined"), "{line}");
    cluster.until_node("n1", "alive");
}

/// Tries to join with a token; nothing is left of a try that fails.
fn refused(cluster: &Cluster, token: &str, words: &[&str]) {
    failed(&output(cluster.join("n9", &["--token", token])), words);
    assert!(!cluster.path("n9").exists());
}

#[test]
fn tokens_that_are_wrong_used_expired_or_for_something_else_are_refused_by_name() {
    let cluster = Cluster::start(&["--no-compute"]);
    let made = now();
    let short = cluster.token(&["--valid", "1s"]);
    let token = cluster.token(&[]);
    let unknown = token.replace(token.get(token.len() - 8..).expect("digits"), "01234567");
    refused(&cluster, &unknown, &["does not know this token", "mobula token"]);

    let (_node, _) = Process::start(cluster.join("n1", &["--token", &token]));
    refused(&cluster, &token, &["has been used", "mobula token"]);
    let taken = output(cluster.join("n2", &["--name", "n1", "--token", &cluster.token(&[])]));
    failed(&taken, &["the name n1 is taken"]);

    // The name is not given out for nothing.
    refused(&cluster, &cluster.token(&["--role", "driver"]), &["for a driver, not for a node", "--role node"]);
    let (_ninth, _) = Process::start(cluster.join("n9", &["--token", &cluster.token(&[])]));
    fs::remove_dir_all(cluster.path("n9")).expect("removed");
    let other = Cluster::start(&["--no-compute"]);
    refused(&cluster, &other.token(&[]), &["is not the head of the cluster that this token is for"]);
    let garbage = output(cluster.join("n9", &["--token", "letmein"]));
    assert_eq!(garbage.status.code(), Some(2), "{}", String::from_utf8_lossy(&garbage.stderr));
    failed(&output(cluster.join("n9", &[])), &["no identity", "mobula token"]);

    until("the token's second is over", || {
        done(&cluster.ask(&["status"]));
        if made.elapsed() > Duration::from_secs(2) { Ok(()) } else { Err("too early".to_owned()) }
    });
    refused(&cluster, &short, &["has expired", "mobula token"]);
}

#[test]
fn a_machine_without_identity_is_told_how_to_get_one_and_gets_it() {
    let cluster = Cluster::start(&[]);
    let home = cluster.path("elsewhere");
    let there = |args: &[&str]| {
        let args = [args, &["--cluster", &cluster.address]].concat();
        output(mobula(&home, &args))
    };
    let login = format!("mobula login --cluster {}", cluster.address);
    failed(&there(&["status"]), &["no identity", "mobula token --dir C --role driver", &login]);
    let node = cluster.token(&[]);
    failed(&there(&["login", "--token", &node]), &["for a node, not for a driver", "--role driver"]);
    let token = cluster.token(&["--role", "driver"]);
    done(&there(&["login", "--token", &token, "--name", "laptop"]));
    done(&there(&["status"]));
    let head = cluster.path("C");
    let wrong = there(&["jobs", "--identity", head.to_str().expect("text")]);
    failed(&wrong, &["the identity of a head", "mobula token --role driver"]);
}

#[test]
fn a_driver_of_another_cluster_is_refused() {
    let (ours, theirs) = (Cluster::start(&["--no-compute"]), Cluster::start(&["--no-compute"]));
    let identity = ours.path("home").join("drivers").join(ours.address.replace(':', "_"));
    let args = ["status", "--cluster", &theirs.address, "--identity", identity.to_str().expect("text")];
    failed(&output(ours.command(&args)), &["cluster"]);
}

#[test]
fn nothing_listens_without_a_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("C");
    let args = ["node", "--head", "--dir", dir.to_str().expect("text"), "--listen", "0.0.0.0:0"];
    failed(
        &output(mobula(folder.path(), &args)),
        &["there is no cluster in", "nothing listens", "mobula cluster init --dir"],
    );
    let both = output(mobula(folder.path(), &["node", "--dir", "x"]));
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn a_job_whose_node_is_killed_half_way_gives_the_same_result() {
    let (running, node) = Running::start();
    node.signal("-KILL");
    running.cluster.until_node("n1", "dead");
    running.end();
}

#[test]
fn files_that_were_finished_before_a_node_was_killed_stand_beside_those_made_again() {
    let (running, node) = Running::start();
    running.until_files(4);
    node.signal("-KILL");
    let (_cluster, out) = running.end();
    let files = fs::read_dir(out).expect("a folder").count() - 1;
    assert!(files > 4, "{files} files");
}

/// How the lives of a node are, as `status` shows them: the present one, then those that are over.
fn lives(cluster: &Cluster, node: &str) -> Vec<String> {
    let status = done(&cluster.ask(&["status"]));
    let state = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    let lives = status.lines().map(state).filter(|words| words[..1] == [node]);
    lives.filter_map(|words| words.get(1).cloned()).collect()
}

#[test]
fn a_node_that_is_stopped_is_dead_to_its_job_and_comes_back_as_another_life() {
    let (running, node) = Running::start();
    node.signal("-STOP");
    running.cluster.until_node("n1", "dead");
    let expected = running.expected.clone();
    let (cluster, out) = running.end();
    assert_eq!(lives(&cluster, "n1"), ["dead"]);
    node.signal("-CONT");
    cluster.until_node("n1", "alive");
    assert_eq!(lives(&cluster, "n1"), ["alive", "dead"]);
    // What the first life still had in hand went nowhere.
    assert!(labels_in(&out) == expected);
    node.signal("-TERM");
    assert_eq!(done(&node.end()), "node n1 left\n");
    assert!(labels_in(&out) == expected);
}

#[test]
fn what_a_stopped_node_had_in_hand_does_not_count_although_it_goes_on_while_the_job_runs() {
    let (running, node) = Running::start();
    node.signal("-STOP");
    running.cluster.until_node("n1", "dead");
    node.signal("-CONT");
    running.cluster.until_node("n1", "alive");
    running.end();
}

#[test]
fn a_node_that_was_killed_and_started_again_is_there_once_and_its_folder_is_used_by_one() {
    let cluster = Cluster::start(&["--no-compute"]);
    let mut node = cluster.node("n1", &["--cpus", "2"]);
    for _ in 0..3 {
        node.signal("-KILL");
        node.end();
        // Before the head has noticed that it was gone.
        node = Process::start(cluster.join("n1", &["--cpus", "2"])).0;
    }
    until("one node", || match done(&cluster.ask(&["status"])) {
        status if status.contains(": 2 cpus for jobs") => Ok(()),
        status => Err(status),
    });
    assert_eq!(lives(&cluster, "n1").iter().filter(|life| *life == "alive").count(), 1);
    let second = output(cluster.join("n1", &["--cpus", "2"]));
    failed(&second, &["n1", "another process uses it", "a folder of its own"]);
    let again = cluster.ask(&["status"]);
    assert!(done(&again).contains(": 2 cpus for jobs"));
    drop(node);
}

#[test]
fn a_driver_whose_head_is_killed_says_so() {
    let (running, _node) = Running::start();
    running.cluster.head.signal("-KILL");
    failed(&running.job.end(), &["the head was lost", "silent", "mobula jobs"]);
}

#[test]
fn a_head_that_is_told_to_stop_tells_its_drivers_and_leaves_nothing_half_written() {
    let (running, _node) = Running::start();
    running.until_files(2);
    running.cluster.head.signal("-TERM");
    let Running { cluster, job, out, .. } = running;
    assert_eq!(done(&cluster.head.end()), "head stopped\n");
    failed(&job.end(), &["the head was stopped"]);
    // What was finished waits for the same command, and nothing else does.
    let names = fs::read_dir(&out).into_iter().flatten().flatten().map(|entry| entry.file_name());
    assert_eq!(names.filter(|name| name != "_mobula").collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new());
}

#[test]
fn a_node_that_is_told_to_leave_is_gone_within_ten_seconds_and_no_job_fails() {
    let (running, node) = Running::start();
    let told = now();
    node.signal("-TERM");
    let left = node.end();
    assert!(told.elapsed() < Duration::from_secs(10), "it took {:?}", told.elapsed());
    assert_eq!(done(&left), "node n1 left\n");
    running.cluster.until_node("n1", "left");
    running.end();
}

#[test]
fn ctrl_c_of_a_driver_cancels_its_job_on_the_cluster_and_leaves_no_file() {
    let cluster = Cluster::start(&["--no-compute"]);
    let _node = cluster.node("n1", &["--cpus", "1"]);
    let (input, _) = many_digits(&cluster.path("in"), FEWER_COPIES);
    let out = cluster.path("out");
    let args = predict(&input, out.to_str().expect("text"));
    let job = Process::spawn(cluster.command(&[&args[..], &["--cluster", &cluster.address]].concat()));
    cluster.until_half_way();
    job.signal("-INT");
    failed(&job.end(), &["cancelled; nothing was written to"]);
    until("the job is cancelled", || {
        let jobs = done(&cluster.ask(&["jobs"]));
        if jobs.contains("cancelled") { Ok(()) } else { Err(jobs) }
    });
    assert!(!out.exists());
    failed(&cluster.ask(&["attach", "1"]), &["job 1 did not finish", "cancelled"]);
}

#[test]
fn a_write_whose_driver_is_killed_goes_on_and_can_be_watched() {
    let cluster = Cluster::start(&["--no-compute"]);
    let _node = cluster.node("n1", &[]);
    let (input, expected) = many_digits(&cluster.path("in"), FEWER_COPIES);
    let out = cluster.path("out");
    let args = predict(&input, out.to_str().expect("text"));
    let driver = Process::spawn(cluster.command(&[&args[..], &["--cluster", &cluster.address]].concat()));
    cluster.until_half_way();
    driver.signal("-KILL");
    drop(driver);
    let summary = done(&cluster.ask(&["attach", "1"]));
    assert!(summary.contains("rows read in"), "{summary}");
    assert!(labels_in(&out) == expected, "labels differ from those of a write whose driver stayed");
}

#[test]
fn an_output_is_meant_from_where_the_driver_was_started() {
    let cluster = Cluster::start(&[]);
    let root = env!("CARGO_MANIFEST_DIR");
    let (model, input) = (format!("{root}/{MODEL}"), format!("{root}/{DIGITS}/part-000.parquet"));
    let args = ["predict", "--model", &model, "--input", &input, "--output", "out", "--overwrite"];
    for _ in 0..2 {
        let mut command = cluster.command(&[&args[..], &["--cluster", &cluster.address]].concat());
        command.current_dir(cluster.folder.path());
        done(&output(command));
        assert_eq!(labels_in(&cluster.path("out")).len(), 150);
    }
}

#[test]
fn a_detached_write_that_is_cancelled_leaves_nothing_hidden_or_not() {
    let cluster = Cluster::start(&["--no-compute"]);
    let _node = cluster.node("n1", &["--cpus", "1"]);
    let (input, _) = many_digits(&cluster.path("in"), FEWER_COPIES);
    let out = cluster.path("out");
    fs::create_dir(&out).expect("a folder");
    done(&cluster.ask(&[&predict(&input, out.to_str().expect("text"))[..], &["--detach"]].concat()));
    cluster.until_half_way();
    let everything = || fs::read_dir(&out).expect("a folder").map(|entry| entry.expect("an entry").path());
    assert_eq!(everything().count(), 1, "it has a folder of its own for what it writes");
    assert_eq!(done(&cluster.ask(&["cancel", "1"])), "job 1 cancelled\n");
    assert_eq!(everything().next(), None);
    let jobs = done(&cluster.ask(&["jobs"]));
    assert!(jobs.lines().nth(1).is_some_and(|job| job.ends_with("the job was cancelled")), "{jobs}");

    failed(&cluster.ask(&["cancel", "1"]), &["job 1 is not running any more: the job was cancelled"]);
    failed(&cluster.ask(&["cancel", "7"]), &["no job 7", "mobula jobs"]);
    assert_eq!(cluster.ask(&["cancel", "first"]).status.code(), Some(2));
}

#[test]
fn a_detached_write_is_left_to_the_cluster() {
    let cluster = Cluster::start(&[]);
    let (input, expected) = many_digits(&cluster.path("in"), 2);
    let out = cluster.path("out");
    let started = done(&cluster.ask(&[&predict(&input, out.to_str().expect("text"))[..], &["--detach"]].concat()));
    assert_eq!(started, "job 1\n");
    done(&cluster.ask(&["attach", "1"]));
    assert!(labels_in(&out) == expected);
}

/// Runs `predict` with a model at a path that means another place to each process: the driver has it, nodes do not.
#[cfg(target_os = "linux")]
fn predict_with_a_model_of_the_driver(cluster: &Cluster) -> std::process::Output {
    let elsewhere = cluster.path("elsewhere");
    fs::create_dir_all(&elsewhere).expect("a folder");
    fs::copy(MODEL, elsewhere.join("model.onnx")).expect("a copy");
    let (input, out) = (format!("{}/{DIGITS}/*.parquet", env!("CARGO_MANIFEST_DIR")), cluster.path("out"));
    let job = predict(&input, out.to_str().expect("text")).map(|arg| match arg {
        MODEL => "/proc/self/cwd/model.onnx",
        other => other,
    });
    let mut command = cluster.command(&[&job[..], &["--cluster", &cluster.address]].concat());
    command.current_dir(elsewhere);
    output(command)
}

#[test]
#[cfg(target_os = "linux")]
fn a_model_that_only_the_driver_has_reaches_the_nodes() {
    let cluster = Cluster::start(&["--no-compute"]);
    let _nodes = [cluster.node("n1", &[]), cluster.node("n2", &[])];
    done(&predict_with_a_model_of_the_driver(&cluster));
    assert_eq!(labels_in(&cluster.path("out")), labels(&read(Path::new(EXPECTED))));
}

#[test]
fn a_model_that_is_deleted_once_its_job_was_submitted_is_not_missed() {
    let cluster = Cluster::start(&[]);
    let (input, expected) = many_digits(&cluster.path("in"), 2);
    let (out, model) = (cluster.path("out"), cluster.path("model.onnx"));
    fs::copy(MODEL, &model).expect("a copy");
    let path = model.to_str().expect("text");
    let job = predict(&input, out.to_str().expect("text")).map(|arg| if arg == MODEL { path } else { arg });
    done(&cluster.ask(&[&job[..], &["--detach"]].concat()));
    fs::remove_file(&model).expect("removed");
    done(&cluster.ask(&["attach", "1"]));
    assert!(labels_in(&out) == expected);
}

#[test]
#[cfg(target_os = "linux")]
fn a_model_over_the_heads_limit_is_read_by_each_node_from_its_path() {
    let cluster = Cluster::start(&["--no-compute", "--object-max", "10K"]);
    let _node = cluster.node("n1", &[]);
    let absent = predict_with_a_model_of_the_driver(&cluster);
    failed(
        &absent,
        &["/proc/self/cwd/model.onnx", "9.8 KiB for one object", "on node n1", "its file is of no use here"],
    );
    let (input, out) = (format!("{DIGITS}/*.parquet"), cluster.path("out"));
    let found = cluster.ask(&predict(&input, out.to_str().expect("text")));
    done(&found);
    let said = String::from_utf8_lossy(&found.stderr);
    assert!(said.contains("digits_mlp.onnx") && said.contains("--object-max"), "{said}");
    assert_eq!(labels_in(&out), labels(&read(Path::new(EXPECTED))));
}
