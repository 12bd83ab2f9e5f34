//! What a worker and the process of its operator say to each other: frames over a pair of sockets.
//!
//! A frame is a kind (one byte), a length (eight bytes, little-endian) and as many bytes. The length is held against a
//! limit before anything is allocated. The process greets with `Ready`; then the worker asks and the process answers,
//! one question at a time:
//!
//! | question | bytes | answer |
//! |---|---|---|
//! | `Open` | [`OpenFrame`] | `Done`: the operator is opened, afresh if there was one |
//! | `Begin` | task and attempt | `Done` |
//! | `Batch`, any number, then `Process` | Arrow's IPC stream; nothing | results as `Batch`, any number, then `Done` |
//! | `Finish` | nothing | results as `Batch`, then `Done` |
//! | `Close` | nothing | `Done`, and the process exits |
//!
//! Any of them may be answered by `Failed` ([`FailedFrame`]) instead: the operator is gone, the process is not. Before
//! an answer the process may send `Log` (a line) and `Want` (the name of an object), which the worker answers by `Object`
//! (its bytes) or `NoObject` (the reason).

use std::io;

use mobula_transport::codec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::job::WireSpec;
use crate::units::Bytes;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Ready,
    Open,
    Begin,
    Batch,
    Process,
    Finish,
    Close,
    Object,
    NoObject,
    Want,
    Log,
    Done,
    Failed,
}

/// All of them, each at the place of its number.
const KINDS: [Kind; 13] = [
    Kind::Ready,
    Kind::Open,
    Kind::Begin,
    Kind::Batch,
    Kind::Process,
    Kind::Finish,
    Kind::Close,
    Kind::Object,
    Kind::NoObject,
    Kind::Want,
    Kind::Log,
    Kind::Done,
    Kind::Failed,
];

/// Bytes of a frame that is neither a batch nor an object. The largest is `Open` with parameters of an operator, which
/// are 16 MiB at most.
const CONTROL_BYTES_MAX: Bytes = Bytes::mib(32);
/// What an encoded batch takes beside its values, at most, for every reasonable schema: names, offsets, padding.
const ENVELOPE_BYTES: Bytes = Bytes::mib(1);
/// Bytes of a frame that are taken on the word of its length; what is beyond grows with what comes.
pub(crate) const TRUSTED_BYTES: usize = 16 << 20;

/// Bytes of the frame of a batch on a node with this memory for blocks: a row as large as all of it passes, whatever
/// its encoding adds (bitmaps of nulls, at most an eighth). A longer one would not fit the node when it came.
pub(crate) fn frame_bytes_max(budget: Bytes) -> Bytes {
    budget + Bytes(budget.0 / 8) + ENVELOPE_BYTES
}

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) bytes: Bytes,
}

/// Bytes of a [`Header`].
pub(crate) const HEADER_BYTES: usize = 9;

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0] = self.kind as u8;
        header[1..].copy_from_slice(&self.bytes.0.to_le_bytes());
        header
    }

    /// The header, unless it is none or its frame is too long.
    ///
    /// # Errors
    /// Saying which.
    pub(crate) fn decode(header: [u8; HEADER_BYTES], batch_bytes_max: Bytes) -> io::Result<Self> {
        let [kind, length @ ..] = header;
        let bytes = Bytes(u64::from_le_bytes(length));
        let kind = *KINDS.get(usize::from(kind)).ok_or_else(|| garbled(format!("a frame of kind {kind} came")))?;
        Self { kind, bytes }.checked(batch_bytes_max)
    }

    /// The same, unless its frame is too long.
    ///
    /// # Errors
    /// Naming the limit.
    pub(crate) fn checked(self, batch_bytes_max: Bytes) -> io::Result<Self> {
        let most = match self.kind {
            Kind::Batch => batch_bytes_max,
            // As many as the worker says: they are the bytes of a value that it holds.
            Kind::Object => Bytes(u64::MAX),
            _ => CONTROL_BYTES_MAX,
        };
        match self.bytes {
            bytes if bytes <= most => Ok(self),
            bytes if self.kind == Kind::Batch => Err(garbled(format!(
                "a batch of {bytes} is over the limit of {most} that follows from the node's memory for blocks; make \
                 batches smaller (--batch-size, `MapOptions::batch_size`, `Onnx::batch_size`) or give it more memory \
                 (--memory)"
            ))),
            bytes => Err(garbled(format!("a frame of {bytes} is over the limit of {most}"))),
        }
    }
}

/// What is no frame of this protocol.
pub(crate) fn garbled(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// The value of a frame.
///
/// # Errors
/// If the bytes are another.
pub(crate) fn value<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    codec::decode(bytes, CONTROL_BYTES_MAX.0 as usize).map_err(|error| garbled(error.to_string()))
}

/// The bytes of a value.
///
/// # Errors
/// If it is too large.
pub(crate) fn bytes<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    codec::encode(value, CONTROL_BYTES_MAX.0 as usize).map_err(io::Error::other)
}

/// What the process is to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OpenFrame {
    pub(crate) operator: String,
    pub(crate) worker: u64,
    pub(crate) incarnation: u64,
    pub(crate) gpus: Vec<u32>,
    pub(crate) spec: WireSpec,
    pub(crate) batch_bytes_max: Bytes,
}

/// A task begins.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct BeginFrame {
    pub(crate) task: u64,
    pub(crate) attempt: u32,
}

/// All results have come.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct DoneFrame {
    /// Most bytes that were alive at once, as [`Produced`](super::super::chain::Produced) has them.
    pub(crate) peak: Bytes,
}

/// The operator failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FailedFrame {
    /// The error and its causes.
    pub(crate) texts: Vec<String>,
    /// Statics and threads of the process may be torn.
    pub(crate) panicked: bool,
    /// Fewer rows at once may do.
    pub(crate) out_of_memory: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_kind_stands_at_the_place_of_its_number() {
        for (number, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            let header = Header { kind, bytes: Bytes(70) };
            assert_eq!(Header::decode(header.encode(), Bytes(70)).expect("within the limit"), header);
        }
    }

    #[test]
    fn a_batch_as_large_as_the_memory_for_blocks_passes_and_a_larger_one_is_refused_with_the_limit() {
        let most = frame_bytes_max(Bytes::mib(64));
        let batch = |bytes| Header { kind: Kind::Batch, bytes };
        let row = Bytes::mib(64) + Bytes::mib(8);
        assert_eq!(Header::decode(batch(row).encode(), most).expect("it fits"), batch(row));
        let error = Header::decode(batch(most + Bytes(1)).encode(), most).expect_err("too large").to_string();
        assert!(error.contains("73.0 MiB") && error.contains("make batches smaller"), "{error}");
        let control = Header { kind: Kind::Open, bytes: Bytes::mib(33) };
        assert!(Header::decode(control.encode(), most).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_within_the_limits_or_an_error(bytes: [u8; HEADER_BYTES]) {
            if let Ok(header) = Header::decode(bytes, Bytes::mib(1)) {
                prop_assert!(header.kind == Kind::Object || header.bytes <= CONTROL_BYTES_MAX);
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }
}
