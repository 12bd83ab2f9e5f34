//! What this machine has: cores, memory, GPUs.

use std::thread::available_parallelism;

use sysinfo::{Gpus, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

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

/// NVIDIA devices that this process can use. One that works without being seen here is given by the configuration.
fn gpus() -> usize {
    let found = match by_library() {
        0 => by_driver(),
        found => found,
    };
    visible(found, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())
}

/// What the management library lists: in a container, the devices that were given to it.
fn by_library() -> usize {
    let Ok(gpus) = Gpus::new_with_refreshed_list() else { return 0 };
    gpus.iter().filter(|gpu| gpu.vendor().is_some_and(|vendor| vendor.contains("NVIDIA"))).count()
}

/// What the kernel's driver lists, where that library is not installed.
fn by_driver() -> usize {
    std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count)
}

/// Devices that programs see under this variable, which numbers those it names anew from 0. The driver reads the list up
/// to the first entry that is no device.
fn visible(found: usize, list: Option<&str>) -> usize {
    let Some(list) = list else { return found };
    let is_device = |entry: &str| match entry.trim().parse::<i64>() {
        Ok(ordinal) => usize::try_from(ordinal).is_ok_and(|ordinal| ordinal < found),
        Err(_) => ["GPU-", "MIG-"].iter().any(|kind| entry.trim().starts_with(kind)),
    };
    let named = list.split(',').take_while(|entry| is_device(entry)).count();
    if found == 0 { 0 } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_that_programs_see_are_counted() {
        assert_eq!(visible(4, None), 4);
        assert_eq!(visible(4, Some("0,2")), 2);
        assert_eq!(visible(4, Some("3, 1,9,0")), 2, "the list ends at what is no device");
        assert_eq!(visible(4, Some("")), 0);
        assert_eq!(visible(4, Some("-1")), 0);
        assert_eq!(visible(2, Some("GPU-8f2a,MIG-71c0")), 2);
        assert_eq!(visible(0, Some("0")), 0, "there is none");
    }

    #[test]
    fn this_machine_has_cores_and_memory() {
        let machine = discover();
        assert!(machine.cpus > 0 && machine.memory > Bytes(0));
    }
}
