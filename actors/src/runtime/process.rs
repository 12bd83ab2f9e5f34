//! Processes: the one place where they are started and ended. Each is killed when its owner drops it, with all that it
//! started itself.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, Command};

/// A process and, in a group of its own, those that it started.
pub(crate) struct Process {
    child: Child,
    /// Its group, until its end was taken notice of: then the number may be another's.
    group: Option<Pid>,
}

impl Process {
    /// Starts `program` (by default the one that this process runs) with `talk` as its standard input. Its standard error
    /// is for the caller to read; what it writes to standard output is dropped unless it arranges otherwise. Signals of a
    /// terminal do not reach it. To be called where a tokio runtime runs.
    ///
    /// # Errors
    /// If the program is not there or the system refuses a process.
    // Processes have to come from somewhere, and this is the place.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn start(program: Option<&Path>, args: &[&str], talk: OwnedFd) -> io::Result<(Self, ChildStderr)> {
        let shown = program.map_or_else(std::env::current_exe, |program| Ok(program.to_owned()))?;
        let mut command = std::process::Command::new(program.map_or_else(|| running(&shown), Path::to_owned));
        command.arg0(&shown).args(args).stdin(Stdio::from(talk)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Command::from(command).process_group(0).kill_on_drop(true).spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("a process without standard error"))?;
        Ok((Self { child, group }, stderr))
    }

    /// Ends it now, if it has not ended.
    pub(crate) fn kill(&mut self) {
        if let Some(group) = self.group {
            // One that has ended needs no signal.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Waits for its end; whatever it started and left behind ends with it.
    ///
    /// # Errors
    /// If the system does not say.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.kill();
        self.group = None;
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program that this process runs, even if its file has been replaced since: a name in its registry has to mean the
/// same in both processes.
fn running(shown: &Path) -> PathBuf {
    if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { shown.to_owned() }
}
