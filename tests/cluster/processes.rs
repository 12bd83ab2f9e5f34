//! A cluster of real processes on loopback for a test: they are gone when the test is over, however it ends.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A cluster's folder, its head, and where its processes keep what they keep.
pub(crate) struct Cluster {
    program: PathBuf,
    pub(crate) folder: TempDir,
    pub(crate) head: Process,
    /// Where the head listens.
    pub(crate) address: String,
}

impl Cluster {
    /// Makes a cluster and starts its head on a free port. `flags` are more flags of the head.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::of(PathBuf::from(env!("CARGO_BIN_EXE_mobula")), flags)
    }

    /// The same of another program with the same commands.
    pub(crate) fn of(program: PathBuf, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("home");
        let dir = folder.path().join("C");
        let dir = dir.to_str().expect("text");
        done(&output(command(&program, &home, &["cluster", "init", "--dir", dir])));
        let args = [&["node", "--head", "--dir", dir, "--listen", "127.0.0.1:0"], flags].concat();
        let (head, line) = Process::start(command(&program, &home, &args));
        let address = line.split("listening on ").nth(1).expect("the head says where it listens").trim().to_owned();
        Self { program, folder, head, address }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of the head's machine.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(&self.program, &self.path("home"), args)
    }

    /// Runs a command that talks to the cluster.
    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        output(self.command(&[args, &["--cluster", &self.address]].concat()))
    }

    pub(crate) fn token(&self, flags: &[&str]) -> String {
        let dir = self.path("C");
        let args = [&["token", "--dir", dir.to_str().expect("text")], flags].concat();
        done(&output(self.command(&args))).trim().to_owned()
    }

    /// The command that joins a node whose identity is in the folder `name`.
    pub(crate) fn join(&self, name: &str, flags: &[&str]) -> Command {
        let dir = self.path(name);
        let args = ["node", "--join", &self.address, "--dir", dir.to_str().expect("text")];
        self.command(&[&args, flags].concat())
    }

    /// A node that has joined with a fresh token.
    pub(crate) fn node(&self, name: &str, flags: &[&str]) -> Process {
        let token = self.token(&[]);
        let (node, line) = Process::start(self.join(name, &[&["--token", &token], flags].concat()));
        assert!(line.starts_with(&format!("node {name} joined {}, listening on 127.0.0.1:", self.address)), "{line}");
        node
    }

    /// Waits until `status` shows a node in a state.
    #[track_caller]
    pub(crate) fn until_node(&self, name: &str, state: &str) {
        until(&format!("{name} is {state}"), || {
            let status = done(&self.ask(&["status"]));
            status.lines().any(|line| line.split_whitespace().take(2).eq([name, state])).then_some(()).ok_or(status)
        });
    }

    /// Waits until the only job has read some of its rows and not all.
    #[track_caller]
    pub(crate) fn until_half_way(&self) {
        until("the job has read rows", || {
            let jobs = done(&self.ask(&["jobs"]));
            let read: u64 = rows_read(&jobs).unwrap_or_default();
            assert!(!jobs.contains(" done"), "the job ended before it could be disturbed:\n{jobs}");
            if read > 0 { Ok(()) } else { Err(jobs) }
        });
    }
}

/// The rows that the first job of a list has read.
fn rows_read(jobs: &str) -> Option<u64> {
    let line = jobs.lines().nth(1)?;
    let (before, _) = line.split_once(" of ")?;
    before.split_whitespace().last()?.replace(',', "").parse().ok()
}

/// A process that ends with the test.
pub(crate) struct Process {
    child: Child,
    out: Lines,
    err: Lines,
    /// What it said while its end was waited for.
    said: String,
}

/// What a process prints on one of its outputs, line by line; closed when it has ended.
type Lines = mpsc::Receiver<String>;

impl Process {
    /// Starts it and waits for the first line that it prints.
    #[track_caller]
    pub(crate) fn start(command: Command) -> (Self, String) {
        let process = Self::spawn(command);
        match process.out.recv_timeout(PATIENCE) {
            Ok(line) => (process, line),
            Err(_) => panic!("it printed no line: {:?}", process.end()),
        }
    }

    /// Starts it and waits for the first line of what it says beside its results.
    #[track_caller]
    #[allow(dead_code, reason = "not every test needs all")]
    pub(crate) fn start_by_error(command: Command) -> (Self, String) {
        let process = Self::spawn(command);
        match process.err.recv_timeout(PATIENCE) {
            Ok(line) => (process, line),
            Err(_) => panic!("it said nothing: {:?}", process.end()),
        }
    }

    /// Its number in the system.
    #[allow(dead_code, reason = "not every test needs all")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let out = lines(child.stdout.take().expect("piped"));
        let err = lines(child.stderr.take().expect("piped"));
        Self { child, out, err, said: String::new() }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Kills it, and waits until it is gone with all that it held.
    #[allow(dead_code, reason = "not every test needs all")]
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end, so long at most; gives whether it has ended.
    #[allow(dead_code, reason = "not every test needs all")]
    pub(crate) fn ends_within(&mut self, time: Duration) -> bool {
        loop {
            match self.err.recv_timeout(time) {
                Ok(line) => self.said += &(line + "\n"),
                Err(end) => return end == RecvTimeoutError::Disconnected,
            }
        }
    }

    /// Waits for its end; gives how it ended and what is left of what it printed.
    #[track_caller]
    pub(crate) fn end(mut self) -> Output {
        let rest = |lines: &Lines| {
            let mut text = String::new();
            loop {
                match lines.recv_timeout(PATIENCE) {
                    Ok(line) => text += &(line + "\n"),
                    Err(RecvTimeoutError::Disconnected) => break Ok(text),
                    Err(RecvTimeoutError::Timeout) => break Err(text),
                }
            }
        };
        let (out, err) = (rest(&self.out), rest(&self.err));
        let (Ok(stdout), Ok(stderr)) = (&out, &err) else { panic!("it did not end; it said {out:?} and {err:?}") };
        let (stdout, stderr) = (stdout.clone().into_bytes(), (self.said.clone() + stderr).into_bytes());
        Output { status: self.child.wait().expect("its outputs are closed"), stdout, stderr }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test reads what a process says while it waits for another thing")]
fn lines(from: impl Read + Send + 'static) -> Lines {
    let (to, lines) = mpsc::channel();
    std::thread::spawn(move || {
        // Lines that nobody waits for any more are dropped.
        BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| to.send(line))
    });
    lines
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn output(command: Command) -> Output {
    Process::spawn(command).end()
}

/// Longer than anything takes here that goes on at all, also if many such tests share two cores.
const PATIENCE: Duration = Duration::from_secs(240);

/// The built command line, with a folder for what it keeps.
pub(crate) fn mobula(home: &Path, args: &[&str]) -> Command {
    command(Path::new(env!("CARGO_BIN_EXE_mobula")), home, args)
}

/// A program of one's own, in the same way.
pub(crate) fn command(program: &Path, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).env("MOBULA_HOME", home);
    command.env_remove("MOBULA_LOG").env_remove("MOBULA_IDENTITY").env(CHILD, "1");
    command
}

/// Set for all processes that a test starts: a test whose processes are its own program tells itself by it.
pub(crate) const CHILD: &str = "MOBULA_TEST_CHILD";

/// The command ended well; gives what it printed.
#[track_caller]
pub(crate) fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The command ended with code 1 and an error that holds all `words`.
#[track_caller]
pub(crate) fn failed(output: &Output, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in:\n{error}");
    }
}

/// Looks again and again, until it holds or patience is over; each look asks another process, which takes its time.
#[track_caller]
pub(crate) fn until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let start = now();
    while let Err(found) = look() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; there was:\n{found}");
    }
}

#[allow(clippy::disallowed_methods, reason = "this test times processes, not the engine")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
