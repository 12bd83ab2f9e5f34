//! How much freed memory the system's allocator keeps for itself, and who gets it back: as little as costs nothing.
//!
//! glibc gives each thread an arena, up to eight a core, and keeps what is freed there: with a thread for each worker a
//! process took almost twice the memory of its blocks (`benches/memory.rs`). Too few are as bad: workers that share one get
//! memory that is in the cache of another core, and a job took up to twice the time of one whose workers did not
//! (`benches/pipeline.rs`). And with the thresholds that glibc finds for itself, most batches were made in pages that were
//! given back to the system for the batch before, which cost a tenth.

/// Arenas beside one for each core: for threads that compute little, such as those of the control plane.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS_BESIDE: usize = 2;

/// An arena whose end is free for so many bytes gives them back, and what is larger is mapped for itself: the columns of a
/// batch are smaller, and all arenas together keep little beside the smallest memory budgets in use.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 4 << 20;

/// Bounds what the allocator keeps, but for what the user has set in the environment. Called before the threads of an actor
/// system are started; later calls change nothing.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "calls into C without pointers; they change numbers that the allocator reads")]
pub(super) fn keep_little() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let arenas = libc::c_int::try_from(cores + ARENAS_BESIDE).unwrap_or(libc::c_int::MAX);
        let settings = [
            ("MALLOC_ARENA_MAX", libc::M_ARENA_MAX, arenas),
            ("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, KEPT_BYTES),
            ("MALLOC_TRIM_THRESHOLD_", libc::M_TRIM_THRESHOLD, KEPT_BYTES),
        ];
        let is_tuned = std::env::var("GLIBC_TUNABLES").is_ok_and(|tunables| tunables.contains("glibc.malloc."));
        for (variable, setting, value) in settings {
            if !is_tuned && std::env::var_os(variable).is_none() {
                // SAFETY: `mallopt` takes two numbers, is thread-safe, and ignores what it does not know.
                unsafe { libc::mallopt(setting, value) };
            }
        }
    });
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn keep_little() {}
