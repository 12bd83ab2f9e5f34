//! Warm values: what one worker made at some cost (a loaded model) and the next one finds, within limits.
//!
//! [`Table`] is the thinking, without clock or lock; [`Warm`] is what workers of a node share. A value that is in use
//! counts nothing here: whoever uses it needs it anyway. One that nobody uses stays until it was idle for too long or the
//! idle ones together are too large; the one that was idle longest goes first.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::runtime::env::SharedEnv;
use crate::units::Bytes;

/// How long and how large idle values may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WarmLimits {
    /// All idle values together.
    pub(crate) bytes: Bytes,
    /// How long one stays idle.
    pub(crate) time: Duration,
}

/// One making of a value: a value that was made anew is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Making(u64);

struct Entry<V> {
    making: Making,
    value: V,
    bytes: Bytes,
    users: usize,
    idle_since: Duration,
}

/// The values by key. What it takes out it returns, so that it is freed behind the caller's lock.
struct Table<V> {
    limits: WarmLimits,
    entries: BTreeMap<String, Entry<V>>,
    made: u64,
}

impl<V: Clone> Table<V> {
    fn new(limits: WarmLimits) -> Self {
        Self { limits, entries: BTreeMap::new(), made: 0 }
    }

    /// The value, with one user more.
    fn take(&mut self, key: &str) -> Option<(V, Making)> {
        let entry = self.entries.get_mut(key)?;
        entry.users += 1;
        Some((entry.value.clone(), entry.making))
    }

    /// A value that was made for its first user.
    fn insert(&mut self, key: &str, value: V, bytes: Bytes) -> (Making, Option<V>) {
        self.made += 1;
        let making = Making(self.made);
        let entry = Entry { making, value, bytes, users: 1, idle_since: Duration::ZERO };
        (making, self.entries.insert(key.to_owned(), entry).map(|before| before.value))
    }

    /// A user is done and the value is as good as before.
    fn give_back(&mut self, now: Duration, key: &str, making: Making) -> Vec<V> {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.making == making) {
            entry.users = entry.users.saturating_sub(1);
            entry.idle_since = now;
        }
        self.trim(now)
    }

    /// Nobody gets this making of the value any more; who uses it keeps it.
    fn forget(&mut self, key: &str, making: Making) -> Option<V> {
        self.entries.get(key).filter(|entry| entry.making == making)?;
        self.entries.remove(key).map(|entry| entry.value)
    }

    /// Takes out what was idle for too long, and then the oldest until the others are small enough.
    fn trim(&mut self, now: Duration) -> Vec<V> {
        let idle = self.entries.iter().filter(|(_, entry)| entry.users == 0);
        let mut idle: Vec<_> = idle.map(|(key, entry)| (entry.idle_since, key.clone())).collect();
        idle.sort();
        let mut left = self.idle_bytes();
        let mut out = Vec::new();
        for (since, key) in idle {
            if now.saturating_sub(since) < self.limits.time && left <= self.limits.bytes {
                break;
            }
            if let Some(entry) = self.entries.remove(&key) {
                left = left - entry.bytes;
                out.push(entry.value);
            }
        }
        out
    }

    fn idle_bytes(&self) -> Bytes {
        self.entries.values().filter(|entry| entry.users == 0).map(|entry| entry.bytes).sum()
    }
}

type AnyValue = Arc<dyn Any + Send + Sync>;

/// The warm values of a node.
pub(crate) struct Warm {
    env: SharedEnv,
    table: Mutex<Table<AnyValue>>,
    /// Keys whose values are being made: whoever comes second waits for the first.
    making: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
}

impl Warm {
    pub(crate) fn new(env: SharedEnv, limits: WarmLimits) -> Arc<Self> {
        Arc::new(Self { env, table: Mutex::new(Table::new(limits)), making: Mutex::default() })
    }

    /// The value under `key` for one more user, made by `make` (with the bytes it takes) if it is not there. Others who
    /// ask meanwhile wait for it. A value of another type counts as absent.
    pub(super) fn check_out<T, E>(
        self: &Arc<Self>,
        key: &str,
        make: impl FnOnce() -> Result<(T, Bytes), E>,
    ) -> Result<CheckedOut<T>, E>
    where
        T: Send + Sync + 'static,
    {
        self.sweep();
        if let Some(found) = self.find(key) {
            return Ok(found);
        }
        let turn = Turn::new(self, key);
        let _first = turn.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.find(key) {
            return Ok(found);
        }
        let (value, bytes) = make()?;
        let value = Arc::new(value);
        let (making, before) = self.table().insert(key, Arc::clone(&value) as AnyValue, bytes);
        drop(before);
        Ok(CheckedOut { value, place: Some(self.place(key, making)) })
    }

    fn find<T: Send + Sync + 'static>(self: &Arc<Self>, key: &str) -> Option<CheckedOut<T>> {
        let (value, making) = self.table().take(key)?;
        let place = self.place(key, making);
        match value.downcast::<T>() {
            Ok(value) => Some(CheckedOut { value, place: Some(place) }),
            Err(_) => {
                place.give_back();
                None
            }
        }
    }

    fn place(self: &Arc<Self>, key: &str, making: Making) -> Place {
        Place { warm: Arc::clone(self), key: key.to_owned(), making }
    }

    /// Lets go what was idle for too long.
    pub(crate) fn sweep(&self) {
        let now = self.env.now();
        let out = self.table().trim(now);
        drop(out);
    }

    /// Bytes of values that nobody uses.
    pub(crate) fn idle_bytes(&self) -> Bytes {
        self.table().idle_bytes()
    }

    fn table(&self) -> MutexGuard<'_, Table<AnyValue>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often idle values are looked at, in parts of the time that they may be idle.
const SWEEPS: u32 = 4;
const SWEEP_MIN: Duration = Duration::from_secs(1);
const SWEEP_MAX: Duration = Duration::from_secs(60);

/// Lets idle values go in time, also where nothing runs any more; ends with the node.
pub(crate) async fn keep_swept(warm: Weak<Warm>) {
    loop {
        let Some(time) = warm.upgrade().map(|warm| warm.table().limits.time) else { return };
        tokio::time::sleep((time / SWEEPS).clamp(SWEEP_MIN, SWEEP_MAX)).await;
        if let Some(warm) = warm.upgrade() {
            warm.sweep();
        }
    }
}

/// One of those who wait for a value to be made.
struct Turn<'a> {
    warm: &'a Warm,
    key: &'a str,
    slot: Arc<Mutex<()>>,
}

impl<'a> Turn<'a> {
    fn new(warm: &'a Warm, key: &'a str) -> Self {
        let mut making = warm.making.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::clone(making.entry(key.to_owned()).or_default());
        Self { warm, key, slot }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut making = self.warm.making.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one: nobody else waits.
        if Arc::strong_count(&self.slot) == 2 {
            making.remove(self.key);
        }
    }
}

struct Place {
    warm: Arc<Warm>,
    key: String,
    making: Making,
}

impl Place {
    fn give_back(self) {
        let now = self.warm.env.now();
        let out = self.warm.table().give_back(now, &self.key, self.making);
        drop(out);
    }

    fn forget(self) {
        let out = self.warm.table().forget(&self.key, self.making);
        drop(out);
    }
}

/// A value that workers of a node share, for one of them. Whoever is done and left it as it was gives it
/// [back](CheckedOut::give_back); one that is dropped otherwise (an error, a panic) may be torn, and the next worker makes
/// a fresh one.
pub struct CheckedOut<T> {
    value: Arc<T>,
    place: Option<Place>,
}

impl<T> CheckedOut<T> {
    /// Gives the value back for the next worker.
    pub fn give_back(mut self) {
        if let Some(place) = self.place.take() {
            place.give_back();
        }
    }

    /// The value itself, beside this hold on it.
    pub fn value(&self) -> Arc<T> {
        Arc::clone(&self.value)
    }
}

impl<T> std::ops::Deref for CheckedOut<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for CheckedOut<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CheckedOut").field(&self.value).finish()
    }
}

impl<T> Drop for CheckedOut<T> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::runtime::env::ManualEnv;

    const TIME: Duration = Duration::from_secs(300);

    fn warm(bytes: u64) -> (Arc<Warm>, Arc<ManualEnv>) {
        let env = Arc::new(ManualEnv::seeded(1));
        (Warm::new(Arc::clone(&env) as SharedEnv, WarmLimits { bytes: Bytes(bytes), time: TIME }), env)
    }

    /// Checks a value of ten bytes out, counting how often it is made.
    fn open(warm: &Arc<Warm>, key: &str, made: &AtomicUsize) -> CheckedOut<usize> {
        let make = || Ok::<_, Infallible>((made.fetch_add(1, Ordering::Relaxed), Bytes(10)));
        match warm.check_out(key, make) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    fn count(made: &AtomicUsize) -> usize {
        made.load(Ordering::Relaxed)
    }

    #[test]
    fn a_value_is_made_once_for_all_who_ask_and_found_again_by_the_next() {
        let ((warm, _), made) = (warm(100), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            (0..8).for_each(|_| {
                scope.spawn(|| open(&warm, "a", &made).give_back());
            });
        });
        open(&warm, "a", &made).give_back();
        assert_eq!(count(&made), 1);
        open(&warm, "b", &made).give_back();
        assert_eq!((count(&made), warm.idle_bytes()), (2, Bytes(20)));
        assert!(warm.making.lock().expect("no panic").is_empty());
    }

    #[test]
    fn a_value_that_is_not_given_back_is_made_afresh_and_others_keep_theirs() {
        let ((warm, _), made) = (warm(100), AtomicUsize::new(0));
        let (good, torn) = (open(&warm, "a", &made), open(&warm, "a", &made));
        drop(torn);
        let fresh = open(&warm, "a", &made);
        assert_eq!((*good, *fresh, count(&made)), (0, 1, 2));
        // The old making says nothing of the new one.
        drop(good);
        fresh.give_back();
        assert_eq!(*open(&warm, "a", &made), 1);
    }

    #[test]
    fn an_idle_value_expires_and_one_in_use_does_not() {
        let ((warm, env), made) = (warm(100), AtomicUsize::new(0));
        let used = open(&warm, "used", &made);
        open(&warm, "idle", &made).give_back();
        env.advance(TIME - Duration::from_secs(1));
        warm.sweep();
        assert_eq!(warm.idle_bytes(), Bytes(10));
        env.advance(Duration::from_secs(1));
        warm.sweep();
        assert_eq!(warm.idle_bytes(), Bytes(0));
        open(&warm, "used", &made).give_back();
        assert_eq!(count(&made), 2);
        used.give_back();
        assert_eq!(warm.idle_bytes(), Bytes(10));
    }

    #[test]
    fn idle_values_keep_to_their_limit_and_the_oldest_goes_first() {
        let ((warm, env), made) = (warm(25), AtomicUsize::new(0));
        let all = ["a", "b", "c"].map(|key| open(&warm, key, &made));
        for value in all {
            env.advance(Duration::from_secs(1));
            value.give_back();
        }
        assert_eq!(warm.idle_bytes(), Bytes(20));
        ["b", "c"].iter().for_each(|key| open(&warm, key, &made).give_back());
        assert_eq!(count(&made), 3);
        open(&warm, "a", &made).give_back();
        assert_eq!(count(&made), 4);
    }

    #[test]
    fn one_that_is_larger_than_the_limit_is_not_kept() {
        let ((warm, _), made) = (warm(9), AtomicUsize::new(0));
        open(&warm, "a", &made).give_back();
        open(&warm, "a", &made).give_back();
        assert_eq!((count(&made), warm.idle_bytes()), (2, Bytes(0)));
    }

    #[test]
    fn a_failure_to_make_is_told_and_the_next_tries_again() {
        let ((warm, _), made) = (warm(100), AtomicUsize::new(0));
        assert_eq!(warm.check_out::<usize, _>("a", || Err("no")).expect_err("no"), "no");
        let panicked = crate::runtime::watch::guarded(|| warm.check_out::<usize, &str>("a", || panic!("torn")));
        assert!(panicked.is_err());
        open(&warm, "a", &made).give_back();
        assert_eq!(count(&made), 1);
    }
}
