//! How the command line ends on signals: exit code 1, soon, and without a file, hidden or not.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use super::{MODEL, folder, mobula, text, write_digits};

/// A command whose job runs for minutes.
fn long_command(folder: &Path, out: &Path) -> Command {
    let input = folder.join("in");
    fs::create_dir(&input).expect("a folder");
    let first = input.join("0000.parquet");
    write_digits(&first, 100_000);
    for number in 1..200 {
        fs::hard_link(&first, input.join(format!("{number:04}.parquet"))).expect("a link");
    }
    let args = ["predict", "--model", MODEL, "--input", input.to_str().expect("text"), "--progress", "plain"];
    let mut command = mobula(&args);
    command.arg("--output").arg(out).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A job that runs for minutes, and has begun when this returns.
fn long_job(folder: &Path, out: &Path) -> (Child, BufReader<ChildStderr>) {
    let mut command = long_command(folder, out);
    let mut child = command.spawn().expect("the binary starts");
    let mut progress = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains(" rows") {
        line.clear();
        assert!(progress.read_line(&mut line).expect("progress") > 0, "the job ended before it had rows");
    }
    (child, progress)
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

/// All that is in a folder, hidden or not; nothing if there is no folder.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn assert_cancels_within_a_second(signal: &str) {
    let folder = folder();
    let out = folder.path().join("out");
    let (mut child, mut progress) = long_job(folder.path(), &out);
    let signalled = now();
    send(signal, &child);
    let status = child.wait().expect("the job ends");
    let took = signalled.elapsed();
    let mut error = String::new();
    progress.read_to_string(&mut error).expect("text");
    assert_eq!(status.code(), Some(1), "{error}");
    assert!(error.contains("cancelled; nothing was written to"), "{error}");
    assert!(took < Duration::from_secs(1), "took {took:?}");
    assert_eq!(everything(&out), Vec::<PathBuf>::new());
}

#[test]
fn ctrl_c_ends_the_job_within_a_second_and_leaves_no_file() {
    assert_cancels_within_a_second("-INT");
}

#[test]
fn sigterm_ends_the_job_within_a_second_and_leaves_no_file() {
    assert_cancels_within_a_second("-TERM");
}

#[test]
#[cfg(target_os = "linux")]
fn a_signal_before_the_job_has_begun_ends_it_too_and_leaves_no_file() {
    let folder = folder();
    let out = folder.path().join("out");
    let child = long_command(folder.path(), &out).spawn().expect("the binary starts");
    // The first moment at which a signal is heard at all; files are listed and the model is read after it.
    while !handles_sigterm(&child) {
        std::thread::yield_now();
    }
    send("-TERM", &child);
    let signalled = now();
    let result = child.wait_with_output().expect("the command ends");
    assert!(signalled.elapsed() < Duration::from_secs(1), "took {:?}", signalled.elapsed());
    assert_eq!(result.status.code(), Some(1), "{}", text(&result.stderr));
    assert!(text(&result.stderr).contains("cancelled; nothing was written to"), "{}", text(&result.stderr));
    assert_eq!(everything(&out), Vec::<PathBuf>::new());
}

#[cfg(target_os = "linux")]
fn handles_sigterm(child: &Child) -> bool {
    const SIGTERM: u64 = 1 << 14;
    signal_mask(child.id(), "SigCgt:") & SIGTERM != 0
}

/// A line of signals of a process, one bit each; none once it has ended.
fn signal_mask(process: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|found| found.strip_prefix(line)).unwrap_or("0");
    u64::from_str_radix(mask.trim(), 16).expect("a mask")
}

#[test]
fn sighup_ends_the_job_within_a_second_and_leaves_no_file() {
    // Under nohup the command goes on, as it should.
    if signal_mask(std::process::id(), "SigIgn:") & 1 == 0 {
        assert_cancels_within_a_second("-HUP");
    }
}

#[allow(clippy::disallowed_methods, reason = "this test times a process, not the engine")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_limit_of_the_size_of_files_is_named() {
    let folder = folder();
    let (input, out) = (folder.path().join("in.parquet"), folder.path().join("out"));
    write_digits(&input, 100_000);
    let [input, out] = [&input, &out].map(|path| path.to_str().expect("text"));
    let command = mobula(&["predict", "--model", MODEL, "--input", input, "--output", out]);
    // In blocks of 512 bytes, or of 1024 where the shell is no POSIX one: the part is larger, all else is smaller.
    let limited = Command::new("sh")
        .args(["-c", "ulimit -f 200; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args())
        .output()
        .expect("a shell");
    let told = text(&limited.stderr);
    assert_eq!(limited.status.code(), Some(1), "{told}");
    assert!(told.contains("part-") && told.contains("ulimit -f"), "{told}");
}
