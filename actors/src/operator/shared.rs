//! What all workers of a node share: values made once, warm values, and objects.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;

use super::BoxError;
use super::object::{Object, ObjectError, ObjectId, ObjectName};
use super::warm::{CheckedOut, Warm, WarmLimits};
use crate::runtime::disk::SharedDisk;
use crate::runtime::env::{SharedEnv, SystemEnv};
use crate::units::Bytes;

/// Values shared by all workers of a node: model bytes, lookup tables.
///
/// ```
/// use mobula_actors::operator::Shared;
/// let shared = Shared::default();
/// let first = shared.get_or_make("table", || Ok::<_, std::io::Error>(vec![1, 2, 3]))?;
/// let second = shared.get_or_make("table", || Ok::<Vec<i32>, std::io::Error>(unreachable!("made once")))?;
/// assert!(std::sync::Arc::ptr_eq(&first, &second));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Shared {
    values: Arc<Mutex<BTreeMap<String, SharedValue>>>,
    warm: Arc<Warm>,
    env: SharedEnv,
    disk: SharedDisk,
    /// Objects whose bytes came with the operators of this pool.
    given: Arc<BTreeMap<ObjectId, bytes::Bytes>>,
    /// Who brings others.
    bring: Option<Bring>,
}

type SharedValue = Arc<Mutex<Option<Arc<dyn Any + Send + Sync>>>>;

/// Brings an object from the head.
pub(crate) type Bring = Arc<dyn Fn(ObjectName) -> BoxFuture<'static, Result<bytes::Bytes, BoxError>> + Send + Sync>;

/// Bytes of idle warm values outside of a node, that is in tests.
const WARM_BYTES: Bytes = Bytes::mib(64);
/// How long a warm value may be idle. A person who looks at a result and starts the next job finds the model loaded; a
/// nightly job leaves the memory to others. Shorter loads again more often, longer holds memory that nobody uses.
pub(crate) const WARM_TIME: Duration = Duration::from_secs(300);

impl Default for Shared {
    /// A node's with default limits, for a worker that stands alone.
    fn default() -> Self {
        Self::alone(Arc::new(SystemEnv::new()))
    }
}

impl Shared {
    /// A node's with default limits, for a worker that stands alone in a world of its own: a simulated one.
    pub fn alone(env: SharedEnv) -> Self {
        Self::new(env, WarmLimits { bytes: WARM_BYTES, time: WARM_TIME })
    }

    pub(crate) fn new(env: SharedEnv, limits: WarmLimits) -> Self {
        let (disk, warm) = (env.disk(), Warm::new(SharedEnv::clone(&env), limits));
        Self { values: Arc::default(), warm, env, disk, given: Arc::default(), bring: None }
    }

    /// The disk of the node.
    pub fn disk(&self) -> &SharedDisk {
        &self.disk
    }

    /// A random number of the node's, for names; not for secrets.
    pub fn random(&self) -> u64 {
        self.env.random()
    }

    /// The same for a pool whose operators' specs hold these objects.
    pub fn with_objects<'a>(&self, objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let given = objects.into_iter().filter_map(|object| Some((object.name().id, object.data()?.clone())));
        Self { given: Arc::new(given.collect()), ..self.clone() }
    }

    /// The same on a node that is brought objects.
    pub(crate) fn bringing(&self, bring: Bring) -> Self {
        Self { bring: Some(bring), ..self.clone() }
    }

    pub(crate) fn warm(&self) -> &Arc<Warm> {
        &self.warm
    }

    /// The value under `key`, made by `make` if nobody made it yet. Others who ask meanwhile wait for it.
    ///
    /// # Errors
    /// What `make` returns; the next caller tries again. A key that holds a value of another type counts as absent.
    pub fn get_or_make<T, E>(&self, key: &str, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E>
    where
        T: Send + Sync + 'static,
    {
        let slot = {
            let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(values.entry(key.to_owned()).or_default())
        };
        let mut value = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = value.as_ref().and_then(|v| Arc::clone(v).downcast::<T>().ok()) {
            return Ok(found);
        }
        let made = Arc::new(make()?);
        *value = Some(Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
        Ok(made)
    }

    /// The value under `key`, shared by all who have it checked out now, and kept warm for a while after the last has
    /// given it back, for the next job too. `make` makes it, with the bytes that it takes, if it is not there; others who
    /// ask meanwhile wait. Unlike [`get_or_make`](Self::get_or_make) it is freed: see
    /// [`NodeConfig::warm_bytes`](crate::node::NodeConfig::warm_bytes).
    ///
    /// ```
    /// use mobula_actors::operator::Shared;
    /// use mobula_actors::units::Bytes;
    /// let shared = Shared::default();
    /// let load = || Ok::<_, std::io::Error>(("a model".to_owned(), Bytes::mib(1)));
    /// let first = shared.check_out("model", load)?;
    /// first.give_back(); // in `close`: a worker that failed does not get there
    /// let again = shared.check_out::<String, _>("model", || Err(std::io::Error::other("it is warm")))?;
    /// assert_eq!(*again, "a model");
    /// # again.give_back();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `make` returns; the next caller tries again.
    pub fn check_out<T, E>(&self, key: &str, make: impl FnOnce() -> Result<(T, Bytes), E>) -> Result<CheckedOut<T>, E>
    where
        T: Send + Sync + 'static,
    {
        self.warm.check_out(key, make)
    }

    /// The bytes of an object that a spec of the operator holds. On a node of a cluster they are fetched from the head
    /// when the first worker asks, once for all, and then this waits for them.
    ///
    /// # Errors
    /// If no spec holds it, it does not come, or what comes is damaged.
    pub fn object(&self, name: &ObjectName) -> Result<ObjectData, ObjectError> {
        if let Some(data) = self.given.get(&name.id) {
            return Ok(ObjectData { held: Held::Given(data.clone()) });
        }
        let bring = self.bring.as_ref().ok_or(ObjectError::Missing(*name))?;
        let brought = self.warm.check_out(&format!("object {}", name.id.hex()), || {
            let data = futures::executor::block_on(bring(*name))?;
            name.verify(&data)?;
            Ok((data, name.bytes))
        });
        let brought = brought.map_err(|cause: BoxError| ObjectError::NotBrought { name: *name, cause })?;
        Ok(ObjectData { held: Held::Brought(Some(brought)) })
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// The bytes of an object, as long as a worker needs them. Dropped, they stay warm on the node for a while.
pub struct ObjectData {
    held: Held,
}

enum Held {
    Given(bytes::Bytes),
    /// Taken out when it is let go.
    Brought(Option<CheckedOut<bytes::Bytes>>),
}

impl ObjectData {
    /// Drops the bytes for good: what was made of them is all that is needed.
    pub fn forget(mut self) {
        if let Held::Brought(brought) = &mut self.held {
            drop(brought.take());
        }
    }
}

impl std::ops::Deref for ObjectData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.held {
            Held::Given(data) => data,
            Held::Brought(Some(data)) => data,
            Held::Brought(None) => &[],
        }
    }
}

impl Drop for ObjectData {
    /// Nobody can have torn bytes that cannot be changed.
    fn drop(&mut self) {
        if let Held::Brought(brought) = &mut self.held
            && let Some(brought) = brought.take()
        {
            brought.give_back();
        }
    }
}

impl std::fmt::Debug for ObjectData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectData({})", Bytes(self.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;

    use super::*;

    /// A node whose head sends `sent` whatever is asked for, and how often it did.
    fn node(sent: &'static [u8]) -> (Shared, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let bring: Bring = Arc::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move { Ok(bytes::Bytes::from_static(sent)) }.boxed()
        });
        (Shared::default().bringing(bring), count)
    }

    #[test]
    fn an_object_is_brought_once_for_all_who_want_it_and_again_once_forgotten() {
        let name = ObjectName::of(b"table");
        let (shared, count) = node(b"table");
        std::thread::scope(|scope| {
            for pool in [shared.clone(), shared.with_objects([])] {
                (0..4).for_each(|_| {
                    let pool = pool.clone();
                    scope.spawn(move || assert_eq!(*pool.object(&name).expect("it came"), *b"table"));
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 1);
        shared.object(&name).expect("warm").forget();
        shared.object(&name).expect("it came again");
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_damaged_object_is_refused_by_name_and_asked_for_again() {
        let name = ObjectName::of(b"table");
        let (shared, count) = node(b"tabel");
        for tries in 1..=2 {
            let error = shared.object(&name).expect_err("damaged").to_string();
            assert!(error.starts_with(&format!("{name} did not come: its bytes are damaged")), "{error}");
            assert_eq!(count.load(Ordering::Relaxed), tries);
        }
        let missing = Shared::default().object(&name).expect_err("nobody has it").to_string();
        assert_eq!(missing, format!("{name} is not here; give it to the operator's spec with `with_object`"));
    }
}
