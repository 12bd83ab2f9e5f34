//! Where time and chance come from, so that a test can bring its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::disk::{SharedDisk, SystemDisk};

/// The outside world as the engine sees it. Threads come from [`super::host`], the only other door.
///
/// Waiting is done with tokio's timers, which a paused runtime controls already.
pub trait Env: Send + Sync + 'static {
    /// Time since this value was made; never goes back.
    fn now(&self) -> Duration;

    /// A random number, for jitter and for names; not for secrets.
    fn random(&self) -> u64;

    /// Time since 1970, for what has to outlive a process; goes back when somebody sets the clock.
    #[allow(clippy::disallowed_methods, reason = "the calendar has to be read somewhere, and this is the place")]
    fn calendar(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// The disk that ledgers, parts and spilled blocks are on.
    fn disk(&self) -> SharedDisk {
        Arc::new(SystemDisk)
    }
}

/// A shared [`Env`].
pub type SharedEnv = Arc<dyn Env>;

/// The real world.
pub struct SystemEnv {
    start: Instant,
}

impl SystemEnv {
    /// Time starts now.
    // The real clock has to be read somewhere, and this is the place.
    #[allow(clippy::disallowed_methods)]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for SystemEnv {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn random(&self) -> u64 {
        rand::random()
    }
}

/// A world whose time stands until it is moved and whose chance is a seed: for tests.
///
/// ```
/// use mobula_actors::runtime::env::{Env, ManualEnv};
/// use std::time::Duration;
/// let env = ManualEnv::seeded(7);
/// env.advance(Duration::from_secs(3));
/// assert_eq!(env.now(), Duration::from_secs(3));
/// assert_eq!(env.random(), ManualEnv::seeded(7).random());
/// ```
#[derive(Debug)]
pub struct ManualEnv {
    nanos: AtomicU64,
    state: AtomicU64,
}

impl ManualEnv {
    /// Time zero, and the random numbers of this seed.
    pub fn seeded(seed: u64) -> Self {
        Self { nanos: AtomicU64::new(0), state: AtomicU64::new(seed) }
    }

    /// Moves time on.
    pub fn advance(&self, by: Duration) {
        self.nanos.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Env for ManualEnv {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    fn random(&self) -> u64 {
        let mut z = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl fmt::Debug for dyn Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}
