//! Objects: bytes that are too large for the parameters of an operator (a model, a table), named by their hash.
//!
//! An operator's parameters hold an [`ObjectName`]; its [`OperatorSpec`](super::OperatorSpec) holds the [`Object`], whose
//! bytes reach each node once. A worker gets them by [`Shared::object`](super::Shared::object). On a cluster the head takes
//! the bytes from the driver when the job is submitted (`cluster/objects.rs`), and nodes take them from the head.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::BoxError;
use crate::units::Bytes;

/// The SHA-256 of an object's bytes. Prints as its first 12 digits, which people tell apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId([u8; 32]);

/// Digits of an id in messages.
const DIGITS_SHOWN: usize = 12;

impl ObjectId {
    /// The id of these bytes.
    pub fn of(data: &[u8]) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
        Self(id)
    }

    /// All its digits.
    pub fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex().get(..DIGITS_SHOWN).unwrap_or_default())
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

/// What parameters of operators hold of an object: its hash and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// The hash.
    pub id: ObjectId,
    /// The size.
    pub bytes: Bytes,
}

impl ObjectName {
    /// The name of these bytes.
    pub fn of(data: &[u8]) -> Self {
        Self { id: ObjectId::of(data), bytes: Bytes(data.len() as u64) }
    }

    /// Whether these are the bytes of the name.
    ///
    /// # Errors
    /// If their number or their hash is another one, saying which.
    pub fn verify(&self, data: &[u8]) -> Result<(), BoxError> {
        let length = Bytes(data.len() as u64);
        if length != self.bytes {
            return Err(format!("{length} came instead").into());
        }
        let found = ObjectId::of(data);
        if found == self.id { Ok(()) } else { Err(format!("its bytes are damaged: their hash is {found}").into()) }
    }
}

/// `object 3fa4c0d1e2f3 (12.0 MiB)`
impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {} ({})", self.id, self.bytes)
    }
}

/// An object as an operator's spec holds it. Cheap to clone: clones share the bytes.
///
/// ```
/// use arrow::record_batch::RecordBatch;
/// use mobula_actors::operator::{
///     IntoOperator, Object, ObjectName, OpenContext, Operator, OperatorResult, Output,
/// };
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Priced {
///     table: ObjectName,
///     #[serde(skip)]
///     prices: Vec<u8>,
/// }
///
/// #[mobula_actors::operator(crate = mobula_actors)]
/// impl Operator for Priced {
///     fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
///         self.prices = ctx.shared.object(&self.table)?.to_vec();
///         Ok(())
///     }
///
///     fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
///         out.emit(batch); // with a price
///         Ok(())
///     }
/// }
///
/// fn main() {
///     let table = Object::new("the prices", vec![1; 1 << 20]);
///     let spec = Priced { table: table.name(), prices: Vec::new() }.into_operator().with_object(table);
///     assert_eq!(spec.objects[0].label(), "the prices");
/// }
/// ```
#[derive(Clone)]
pub struct Object {
    name: ObjectName,
    label: Arc<str>,
    /// `None` where only the name has come: the bytes are fetched when a worker wants them.
    data: Option<bytes::Bytes>,
    optional: bool,
}

impl Object {
    /// An object of these bytes. `label` says in errors what it is.
    pub fn new(label: impl Into<Arc<str>>, data: impl Into<bytes::Bytes>) -> Self {
        let data = data.into();
        Self { name: ObjectName::of(&data), label: label.into(), data: Some(data), optional: false }
    }

    /// The same, but the operator can do without: it is left behind where a limit forbids it.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// One whose bytes are not those of its name.
    #[cfg(test)]
    pub(crate) fn forged(name: ObjectName, data: impl Into<bytes::Bytes>) -> Self {
        Self { name, ..Self::new("a forged table", data) }
    }

    /// An object whose bytes are elsewhere.
    pub(crate) fn away(name: ObjectName, label: &str, optional: bool) -> Self {
        Self { name, label: label.into(), data: None, optional }
    }

    /// Its name, for parameters of operators.
    pub fn name(&self) -> ObjectName {
        self.name
    }

    /// What it is, for errors.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether its operator can do without it.
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    /// The bytes, where they are in this process.
    pub(crate) fn data(&self) -> Option<&bytes::Bytes> {
        self.data.as_ref()
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({}, {})", self.label, self.name)
    }
}

/// Why a worker does not get an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// No spec of the operator holds it and there is nobody to ask.
    #[error("{0} is not here; give it to the operator's spec with `with_object`")]
    Missing(ObjectName),
    /// It could not be brought, or what came is something else.
    #[error("{name} did not come: {cause}")]
    NotBrought {
        /// The object.
        name: ObjectName,
        /// What happened.
        cause: BoxError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_its_bytes_and_no_others() {
        let name = ObjectName::of(b"abc");
        assert_eq!(name.id.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(name.to_string(), "object ba7816bf8f01 (3 B)");
        name.verify(b"abc").expect("its own");
        assert_eq!(name.verify(b"ab").expect_err("short").to_string(), "2 B came instead");
        let other = name.verify(b"abd").expect_err("damaged").to_string();
        assert!(other.starts_with("its bytes are damaged: their hash is "), "{other}");
    }
}
