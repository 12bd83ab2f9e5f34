//! What this machine has: cores, memory, GPUs.

use std::thread::available_parallelism;

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::units::Bytes;

/// Resources as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Cores that this process may use.
    pub(crate) cpus: usize,
    /// Memory that this process may use.
    pub(crate) memory: Bytes,
    /// GPUs that can be seen.
    pub(crate) gpus: usize,
}

/// Where nothing can be found out, this much memory is assumed.
const MEMORY_FALLBACK: Bytes = Bytes::mib(1024);

/// Looks at the machine. Affinity and cgroup limits count; the cores and the memory of the host are not ours to use.
pub(crate) fn discover() -> Machine {
    let cpus = available_parallelism().map_or(1, usize::from);
    Machine { cpus, memory: memory(), gpus: gpus() }
}

fn memory() -> Bytes {
    let Ok(mut system) = System::new() else { return MEMORY_FALLBACK };
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let host = Some(system.total_memory()).filter(|&total| total > 0);
    let group = system.cgroup_limits().map(|limits| limits.total_memory);
    [host, group, own_group(&mut system)].into_iter().flatten().min().map_or(MEMORY_FALLBACK, Bytes)
}

fn own_group(system: &mut System) -> Option<u64> {
    let pid = Pid::from_u32(std::process::id());
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, ProcessRefreshKind::nothing());
    system.process(pid)?.cgroup_limits().map(|limits| limits.total_memory)
}

/// Devices that the NVIDIA driver shows. A device that works without this entry is given by the configuration.
fn gpus() -> usize {
    std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count)
}
