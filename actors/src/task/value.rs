//! Stored values: in the process that made them as what they are, on their way to others as bytes.
//!
//! A value is encoded when it leaves the process and decoded once where it comes to, however many tasks read it. What is
//! bytes already ([`Bytes`](bytes::Bytes)) or an Arrow batch ([`Batch`]) is not run through the wire encoding.

use std::any::{Any, type_name};
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use bytes::Bytes as Data;
use mobula_transport::codec;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::TaskError;
use super::ids::ObjectId;
use super::wire::Blob;
use crate::block::Block;
use crate::cluster::bytes as ipc;

/// What can be stored, passed to tasks and returned by them: any serde value that owns what it holds. Arrow batches go as
/// [`Batch`], raw bytes as [`bytes::Bytes`]: both are handed on without a copy.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Model {
///     weights: Vec<f32>,
/// }
/// #
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// let model = tasks.put(Model { weights: vec![0.5; 3] })?;
/// assert_eq!(tasks.get(&model)?.weights.len(), 3);
/// # Ok::<(), BoxError>(())
/// ```
pub trait Storable: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Storable for T {}

/// An Arrow batch as a stored value.
///
/// ```
/// use mobula_actors::task::Batch;
/// use arrow::array::{ArrayRef, Int64Array};
/// use arrow::record_batch::RecordBatch;
/// use std::sync::Arc;
/// let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
/// let batch = Batch::from(RecordBatch::try_from_iter([("n", column)])?);
/// assert_eq!(batch.num_rows(), 3);
/// # Ok::<(), arrow::error::ArrowError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Batch(pub RecordBatch);

impl Deref for Batch {
    type Target = RecordBatch;

    fn deref(&self) -> &RecordBatch {
        &self.0
    }
}

impl From<RecordBatch> for Batch {
    fn from(batch: RecordBatch) -> Self {
        Self(batch)
    }
}

impl From<Batch> for RecordBatch {
    fn from(batch: Batch) -> Self {
        batch.0
    }
}

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = ipc::encode(&Block::new(vec![self.0.clone()])).map_err(S::Error::custom)?;
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        batch_of(Blob::deserialize(deserializer)?.0).map_err(D::Error::custom)
    }
}

fn batch_of(bytes: Data) -> Result<Batch, String> {
    let block = ipc::decode(bytes.into()).map_err(|error| error.to_string())?;
    match block.batches() {
        [batch] => Ok(Batch(batch.clone())),
        batches => Err(format!("{} batches where one was expected", batches.len())),
    }
}

/// A value whose type its holder does not know.
pub(crate) trait AnyValue: Any + Send + Sync {
    /// The value as bytes, of at most `limit`, and the references inside it.
    fn encode(&self, limit: usize) -> Result<Encoded, TaskError>;

    /// What to call it in an error.
    fn type_name(&self) -> &'static str;
}

/// A value on its way to another process.
pub(crate) struct Encoded {
    pub(crate) data: Data,
    pub(crate) contained: Vec<ObjectId>,
}

impl<T: Storable> AnyValue for T {
    fn encode(&self, limit: usize) -> Result<Encoded, TaskError> {
        let any: &dyn Any = self;
        let failed = |why: String| TaskError::Value(format!("a {} cannot travel: {why}", type_name::<T>()));
        if let Some(data) = any.downcast_ref::<Data>() {
            return match data.len() <= limit {
                true => Ok(Encoded { data: data.clone(), contained: Vec::new() }),
                false => Err(failed(format!("it has {} bytes, and the limit is {limit}", data.len()))),
            };
        }
        let contained = Collector::start();
        let bytes = match any.downcast_ref::<Batch>() {
            Some(batch) => ipc::encode(&Block::new(vec![batch.0.clone()])).map_err(|e| failed(e.to_string()))?,
            None => codec::encode(self, limit).map_err(|error| failed(error.to_string()))?,
        };
        Ok(Encoded { data: bytes.into(), contained: contained.end() })
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }
}

/// Decodes what [`AnyValue::encode`] made of a `T`.
fn decode<T: Storable>(data: &Data) -> Result<T, TaskError> {
    let failed =
        |why: String| TaskError::Value(format!("what is stored cannot be read as {}: {why}", type_name::<T>()));
    let special: Option<Box<dyn Any>> = if type_is::<T, Data>() {
        Some(Box::new(data.clone()))
    } else if type_is::<T, Batch>() {
        Some(Box::new(batch_of(data.clone()).map_err(failed)?))
    } else {
        None
    };
    match special.map(|value| value.downcast::<T>()) {
        Some(Ok(value)) => Ok(*value),
        _ => codec::decode(data, data.len()).map_err(|error| failed(error.to_string())),
    }
}

fn type_is<A: 'static, B: 'static>() -> bool {
    std::any::TypeId::of::<A>() == std::any::TypeId::of::<B>()
}

/// A stored value. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Value {
    /// Made in this process.
    Made(Arc<dyn AnyValue>),
    /// Came from another, or may go there.
    Stored(Arc<Stored>),
}

/// The bytes of a value, and the value once somebody has read it.
pub(crate) struct Stored {
    data: Data,
    read: Mutex<Option<Arc<dyn AnyValue>>>,
}

impl Value {
    pub(crate) fn made<T: Storable>(value: T) -> Self {
        Self::Made(Arc::new(value))
    }

    /// Of bytes that came, or of a value and its bytes.
    pub(crate) fn stored(data: Data, read: Option<Arc<dyn AnyValue>>) -> Self {
        Self::Stored(Arc::new(Stored { data, read: Mutex::new(read) }))
    }

    /// The value as its type; decoded if nobody has read it here before.
    pub(crate) fn typed<T: Storable>(&self) -> Result<Arc<T>, TaskError> {
        let made = match self {
            Self::Made(made) => Arc::clone(made),
            Self::Stored(stored) => {
                // Held while it is decoded: a second reader waits instead of decoding it too.
                let mut read = stored.read.lock().unwrap_or_else(PoisonError::into_inner);
                match &*read {
                    Some(made) => Arc::clone(made),
                    None => {
                        let made: Arc<dyn AnyValue> = Arc::new(decode::<T>(&stored.data)?);
                        Arc::clone(read.insert(made))
                    }
                }
            }
        };
        let is = made.as_ref().type_name();
        let any: Arc<dyn Any + Send + Sync> = made;
        any.downcast::<T>().map_err(|_| {
            TaskError::Value(format!("the stored value is a {is}, and {} was asked for", type_name::<T>()))
        })
    }

    /// Its bytes, of at most `limit`, and the references inside it if it had to be encoded.
    pub(crate) fn encoded(&self, limit: usize) -> Result<Encoded, TaskError> {
        match self {
            Self::Made(made) => made.encode(limit),
            Self::Stored(stored) => Ok(Encoded { data: stored.data.clone(), contained: Vec::new() }),
        }
    }

    /// The bytes, if it has them.
    pub(crate) fn data(&self) -> Option<Data> {
        match self {
            Self::Made(_) => None,
            Self::Stored(stored) => Some(stored.data.clone()),
        }
    }
}

thread_local! {
    /// The references inside the value that this thread is encoding.
    static COLLECTED: RefCell<Option<Vec<ObjectId>>> = const { RefCell::new(None) };
}

/// Collects the references that this thread encodes while it lives.
pub(crate) struct Collector {
    before: Option<Vec<ObjectId>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self { before: COLLECTED.with(|collected| collected.borrow_mut().replace(Vec::new())) }
    }

    pub(crate) fn end(self) -> Vec<ObjectId> {
        COLLECTED.with(|collected| collected.borrow_mut().take().unwrap_or_default())
    }

    /// A reference is being encoded; `false` if nobody collects, so that it would be lost.
    pub(crate) fn add(id: ObjectId) -> bool {
        COLLECTED.with(|collected| collected.borrow_mut().as_mut().map(|ids| ids.push(id)).is_some())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let before = self.before.take();
        COLLECTED.with(|collected| *collected.borrow_mut() = before);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{ArrayRef, Int64Array};
    use proptest::prelude::*;

    use super::*;

    fn there_and_back<T: Storable>(value: T) -> Arc<T> {
        let encoded = Value::made(value).encoded(1 << 20).expect("it encodes");
        Value::stored(encoded.data, None).typed::<T>().expect("it decodes")
    }

    #[test]
    fn batches_and_bytes_come_back_and_bytes_are_not_copied() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = Batch(RecordBatch::try_from_iter([("n", column)]).expect("a column"));
        assert_eq!(*there_and_back(batch.clone()), batch);
        assert_eq!(*there_and_back(vec![batch.clone(), batch.clone()]), vec![batch.clone(), batch]);
        let data = Data::from(vec![7; 1000]);
        assert_eq!(there_and_back(data.clone()).as_ptr(), data.as_ptr());
    }

    #[test]
    fn a_value_is_decoded_once_and_only_as_what_it_is() {
        let value = Value::stored(Value::made(5u64).encoded(100).expect("small").data, None);
        let (first, second) = (value.typed::<u64>().expect("it is"), value.typed::<u64>().expect("it is"));
        assert!(Arc::ptr_eq(&first, &second));
        let error = value.typed::<String>().expect_err("it is no text").to_string();
        assert_eq!(error, "the stored value is a u64, and alloc::string::String was asked for");
        let error = Value::made(vec![0u8; 200]).encoded(100).err().expect("too large").to_string();
        assert!(error.starts_with("a alloc::vec::Vec<u8> cannot travel"), "{error}");
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value: BTreeMap<String, (i64, Option<Vec<u8>>)>) {
            prop_assert_eq!(&*there_and_back(value.clone()), &value);
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes: Vec<u8>) {
            let _ = Value::stored(bytes.clone().into(), None).typed::<BTreeMap<String, u64>>();
            let _ = Value::stored(bytes.into(), None).typed::<Batch>();
        }
    }
}
