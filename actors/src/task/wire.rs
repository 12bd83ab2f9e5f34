//! What the parties and the head say to each other about tasks and values: messages of one long stream for each party, in
//! order, many to a frame.
//!
//! A reference is counted where it is held, and once for the party on the head: `grants` is how often the head has told a
//! party of it, so that a release that crosses a new grant on its way takes back only what the party knew of. One rule says
//! what grants: `Submit` and `Put` give their sender one of their own value, `Ready` of an item of a stream gives one of the
//! item the first time, and each message of the head that carries a value (`Ready`, and `Run` by its `args` and its task)
//! gives one of each reference that it lists as `contained`, also if the party has let go of the value itself by then.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes as Data;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::TaskError;
use super::ids::{ObjectId, PartyId};
use crate::job::Resources;
use crate::units::Bytes;

/// Bytes of a value that travel in messages and are kept by the head. Larger ones stay where they were made and are
/// fetched by who needs them.
pub(crate) const INLINE_BYTES_MAX: usize = 64 << 10;

/// Encoded bytes that messages share. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Blob(pub(crate) Data);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Data::copy_from_slice(bytes)))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

/// A value as messages carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ValueFrame {
    /// Here it is.
    Inline(Blob),
    /// So large, and on these nodes: whoever needs it fetches it.
    Located { bytes: Bytes, nodes: Vec<PartyId> },
}

/// A task as it travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskFrame {
    /// Its result's name.
    pub(crate) id: ObjectId,
    /// The registered name of its function.
    pub(crate) function: Arc<str>,
    pub(crate) args: Vec<ArgFrame>,
    /// References inside the arguments' values; they are held until the task has ended.
    pub(crate) contained: Vec<ObjectId>,
    /// Whether it gives a stream of items, and not one value.
    pub(crate) stream: bool,
    pub(crate) resources: Resources,
    /// Tries in all; at least 1.
    pub(crate) attempts: u32,
    /// The task that submitted it, if one did: if that is cancelled, this one goes too when nobody holds its result.
    pub(crate) parent: Option<ObjectId>,
}

/// An argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ArgFrame {
    Value(Blob),
    /// A stored value, which is there before the task runs.
    Ref(ObjectId),
}

/// A party to the head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum ToHead {
    /// Run this. The party holds the result (one grant) and is told when it is ready. With it all its `Ref`s and what they
    /// contain are held until it has ended.
    Submit(TaskFrame),
    /// This value is there; the party holds it (one grant).
    Put { id: ObjectId, value: ValueFrame, contained: Vec<ObjectId> },
    /// The party wants to hear when this is ready; answered by `Ready` or `Failed`, at once if it is.
    Want { id: ObjectId },
    /// The party holds this no more: so many of its grants are given back.
    Release { id: ObjectId, grants: u64 },
    /// Nobody wants the result of this task: it does not run, or its result is `Cancelled`. From its submitter, or from who
    /// holds the result.
    Cancel { task: ObjectId },
    /// The submitter of a stream has taken items up to this one.
    Taken { task: ObjectId, index: u32 },
    // From here on: nodes only.
    /// An attempt has ended with a result. `contained` are references inside the value.
    Done { task: ObjectId, attempt: u32, value: ValueFrame, contained: Vec<ObjectId> },
    /// An attempt has ended with an error of the function, or with its worker.
    Failed { task: ObjectId, attempt: u32, error: AttemptError },
    /// An item of a stream.
    Item { task: ObjectId, attempt: u32, index: u32, value: ValueFrame, contained: Vec<ObjectId> },
    /// The worker of a task waits for other values and computes nothing (`true`), or goes on (`false`).
    Waits { task: ObjectId, attempt: u32, waits: bool },
    /// The node has a copy of this now, for others to fetch.
    Copied { id: ObjectId },
    /// The value could not be fetched from this node, or is not what it should be. Answered like `Want`, with where it is
    /// else or will be. A node that needs it for an attempt that has not begun gives that back with
    /// [`AttemptError::Argument`], since the value may have to be made again on the same cores.
    NotThere { id: ObjectId, node: PartyId },
}

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AttemptError {
    /// The function returned this error, or panicked: the error and its causes.
    Failed(Vec<String>),
    /// The worker died.
    WorkerLost(String),
    /// An argument cannot be had; not the function's fault. The task comes back when the argument is there again.
    Argument { argument: ObjectId, reason: String },
    /// It cannot run there at all, whoever tries.
    Never(TaskError),
}

/// The head to a party.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum FromHead {
    /// The value is ready. `contained` are references inside it: with this the party holds each of them once more (one
    /// grant each). Said to the submitter of a task, to who put it never, and to who wants it.
    Ready { id: ObjectId, value: ValueFrame, contained: Vec<ObjectId> },
    /// It will never be.
    NotReady { id: ObjectId, error: TaskError },
    /// Run this attempt (nodes only), in the order of arrival, when the cores that it asks for are free there: the head
    /// sends a few more than fit. All else that it asks for is free, on these devices. `args` are those of its `Ref`s that
    /// the node may not have and those that contain references, in any order.
    Run { task: TaskFrame, attempt: u32, devices: Vec<u32>, args: Vec<RefFrame> },
    /// The attempt is not wanted any more (nodes only). It holds what it was given until the node says `Done` or `Failed`
    /// of it, as of any other: what that says does not matter.
    Stop { task: ObjectId, attempt: u32 },
    /// Nobody refers to these values any more (nodes only): those that it made, put or copied, and the small ones that came
    /// as `args`.
    Free { ids: Vec<ObjectId> },
    /// Items of a stream up to this one have been taken (to the node that makes them).
    Taken { task: ObjectId, index: u32 },
}

/// A stored value that a task needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefFrame {
    pub(crate) id: ObjectId,
    pub(crate) value: ValueFrame,
    pub(crate) contained: Vec<ObjectId>,
}
