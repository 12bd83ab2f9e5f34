//! How much freed memory the system's allocator keeps for itself: as little as costs nothing.
//!
//! glibc gives each thread an arena and keeps what is freed there, so with a thread for each worker a process took
//! almost twice the memory of its blocks (`benches/memory.rs`). With two arenas it does not, and was as fast.

/// Arenas for all threads together.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS_MAX: libc::c_int = 2;

/// Bounds the arenas of the process, unless the user has done so in the environment. Called before the threads of an
/// actor system are started; later calls change nothing.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "a call into C without pointers; it changes a number that the allocator reads")]
pub(super) fn keep_little() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
            // SAFETY: `mallopt` takes two numbers, is thread-safe, and ignores what it does not know.
            unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX) };
        }
    });
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn keep_little() {}
