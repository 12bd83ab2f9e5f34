//! A control group that limits the memory of a process, for the memory controller of version 1 or 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A group of its own; it goes with this value, once the processes in it have ended.
pub(crate) struct Limited {
    dir: PathBuf,
    is_v1: bool,
}

impl Limited {
    /// A group that may take so many bytes.
    pub(crate) fn new(bytes: u64) -> io::Result<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let is_v1 = v1.join("memory.limit_in_bytes").exists();
        let root = if is_v1 { v1 } else { Path::new("/sys/fs/cgroup") };
        let dir = root.join(format!("mobula-memory-{}", std::process::id()));
        fs::create_dir(&dir)?;
        let group = Self { dir, is_v1 };
        fs::write(group.file("memory.limit_in_bytes", "memory.max"), bytes.to_string())?;
        Ok(group)
    }

    /// The same command, begun inside of the group so that all its memory counts.
    pub(crate) fn wrap(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg("echo $$ > \"$0\" && exec \"$1\"");
        command.arg(self.dir.join("cgroup.procs")).arg(program);
        command
    }

    /// Processes that were killed for lack of memory.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let text = fs::read_to_string(self.file("memory.oom_control", "memory.events")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
        line.trim().parse().ok()
    }

    /// The most bytes that it took, pages of files that the kernel kept included.
    pub(crate) fn peak(&self) -> Option<u64> {
        let text = fs::read_to_string(self.file("memory.max_usage_in_bytes", "memory.peak")).ok()?;
        text.trim().parse().ok()
    }

    fn file(&self, v1: &str, v2: &str) -> PathBuf {
        self.dir.join(if self.is_v1 { v1 } else { v2 })
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // A process that is not quite gone keeps it; it is empty and harmless.
        let _ = fs::remove_dir(&self.dir);
    }
}
