//! Runs under strace: which calls a job makes on its output, and runs that die at one of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use super::processes::output;

/// The calls by which an output changes. Those that a machine does not have are passed over.
const CALLS: &str = "openat,write,fsync,fdatasync,ftruncate,?mkdir,?mkdirat,?rmdir,?link,linkat,?rename,renameat,?renameat2,?unlink,unlinkat";

/// One call of a run: the first time that a thread comes to its `number`th of this kind on this path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) call: String,
    pub(crate) path: String,
    pub(crate) number: usize,
}

/// Whether there is strace. Where all checks of the project run it has to be there.
pub(crate) fn is_there() -> bool {
    let found = Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success());
    assert!(found || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "strace is missing: apt-get install strace");
    found
}

/// Runs a command under strace.
pub(crate) fn traced(command: &Command, flags: &[String]) -> Output {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-y"]).args(flags).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        traced.current_dir(dir);
    }
    output(traced)
}

/// The points of an undisturbed run below a folder, in their order. `log` is where strace writes.
pub(crate) fn points(command: &Command, out: &Path, log: &Path) -> Vec<Point> {
    let flags = ["-o", log.to_str().expect("text"), "-e", &format!("trace={CALLS}")].map(str::to_owned);
    let run = traced(command, &flags);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8_lossy(&std::fs::read(log).expect("a log")).into_owned();
    let mut seen = BTreeMap::<(&str, &str, &str), usize>::new();
    let mut points = Vec::new();
    for line in text.lines() {
        let Some((thread, call, path)) = call_on(line, out.to_str().expect("text")) else { continue };
        let number = seen.entry((thread, call, path)).or_default();
        *number += 1;
        let point = Point { call: call.to_owned(), path: path.to_owned(), number: *number };
        // What only reads changes nothing. strace counts the calls of each thread: who comes to a number first dies.
        if (call != "openat" || line.contains("O_CREAT")) && !points.contains(&point) {
            points.push(point);
        }
    }
    points
}

/// The thread and call of a line of strace's log, and its first path below `out`.
fn call_on<'a>(line: &'a str, out: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let (thread, line) = line.split_once(' ')?;
    let (call, arguments) = line.trim_start().split_once('(')?;
    let path = arguments.get(arguments.find(out)?..)?;
    let path = path.split(['"', '>']).next()?;
    Some((thread, call, path.trim_end_matches(" (deleted)")))
}

/// The flags that kill the process when it comes to a point.
pub(crate) fn kill_at(point: &Point) -> Vec<String> {
    let Point { call, path, number } = point;
    let inject = format!("inject={call}:signal=SIGKILL:when={number}");
    ["-o", "/dev/null", "-P", path, "-e", &format!("trace={call}"), "-e", &inject].map(str::to_owned).to_vec()
}
