//! Records and the frames around them: pure.
//!
//! A frame is `length (u32) | durable (u64) | checksum (u64) | payload`, little endian; the checksum is XXH3 of `durable`
//! and payload. `durable` is how many bytes of the file were known to be on disk when the frame was written. So a reader
//! tells a torn end, which nobody was promised anything about, from damage to what was promised.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::block::Segment;

/// What a ledger says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A process begins with the job, or goes on with it.
    Begun {
        /// How often that has happened before.
        epoch: u32,
    },
    /// These segments are finished: this record is the commit.
    Committed {
        /// Which they are; disjoint with all others.
        segments: Vec<Segment>,
        /// The results, in the words of whoever wrote them.
        parts: Vec<Vec<u8>>,
    },
    /// These rows are given up, with their reasons, in the words of whoever writes dead letters.
    GaveUp {
        /// Which they are; disjoint with all others.
        segments: Vec<Segment>,
        /// The reasons.
        letters: Vec<u8>,
    },
    /// Something that whoever keeps the ledger wants to remember.
    Noted(Vec<u8>),
    /// These parts of the input could not be read and are given up, in the words of whoever keeps the ledger. What they are of is
    /// finished by a record behind this one.
    Skipped(Vec<u8>),
}

/// Most bytes of a payload. A part stands for segments of some ten bytes each; a million of them in one group fit.
pub(super) const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 20;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoFrame {
    /// They end too early, or were never written.
    Torn,
    /// They are something else; the next frame may begin so many bytes on.
    Damaged(u64),
}

/// The frame of a record.
pub(super) fn frame(record: &Record, durable: u64) -> Result<Vec<u8>, String> {
    let payload = mobula_transport::codec::encode(record, PAYLOAD_BYTES_MAX).map_err(|error| error.to_string())?;
    let mut frame = Vec::with_capacity(HEAD_BYTES + payload.len());
    frame.extend((payload.len() as u32).to_le_bytes());
    frame.extend(durable.to_le_bytes());
    frame.extend(checksum(durable, &payload).to_le_bytes());
    frame.extend(payload);
    Ok(frame)
}

/// What the head of a frame says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) payload: usize,
    pub(super) durable: u64,
    checksum: u64,
}

impl Head {
    /// The head of the next frame, with `left` bytes of the file behind it.
    pub(super) fn parse(bytes: &[u8; HEAD_BYTES], left: u64) -> Result<Self, NoFrame> {
        let number =
            |from: usize| bytes.get(from..from + 8).and_then(|part| part.try_into().ok()).map(u64::from_le_bytes);
        let length = bytes.first_chunk().map(|length| u32::from_le_bytes(*length)).unwrap_or_default();
        let (Some(durable), Some(checksum)) = (number(4), number(12)) else { return Err(NoFrame::Torn) };
        // An empty record does not exist, but pages that were never written are all zeros.
        if length == 0 || u64::from(length) > left || length as usize > PAYLOAD_BYTES_MAX {
            return Err(NoFrame::Torn);
        }
        Ok(Self { payload: length as usize, durable, checksum })
    }

    /// The record that the payload holds.
    pub(super) fn record(&self, payload: &[u8]) -> Result<Record, NoFrame> {
        let damaged = NoFrame::Damaged(payload.len() as u64);
        if checksum(self.durable, payload) != self.checksum {
            return Err(damaged);
        }
        mobula_transport::codec::decode(payload, PAYLOAD_BYTES_MAX).map_err(|_| damaged)
    }
}

fn checksum(durable: u64, payload: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&durable.to_le_bytes());
    hash.update(payload);
    hash.digest()
}
