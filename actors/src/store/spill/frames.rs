//! The bytes of a spilled block: a stream cut into frames, each compressed and checksummed by itself.
//!
//! A frame is: length of its bytes as they were (u32), as they are stored (u32), checksum of what is stored (u64, seeded
//! with the frame's number), then what is stored; all little-endian. Bytes that LZ4 does not make fewer are stored as they
//! are. Small frames keep what writing and reading take beside the block small, and a reader hands no byte on, nor
//! believes a length in it, before its frame was checked.

use std::io::{self, Read, Write};

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes in a frame, before compression: they stay in a core's cache on their way, and the 16 bytes of the header are
/// nothing beside them. Larger frames compress hardly better.
const FRAME_BYTES: usize = 256 << 10;
const HEADER_BYTES: usize = 16;

/// Cuts what is written into frames. What is left is written by [`finish`](Self::finish), not when it is dropped.
pub(super) struct FrameWriter<W: Write> {
    to: W,
    raw: Vec<u8>,
    stored: Vec<u8>,
    index: u64,
    written: u64,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(to: W) -> Self {
        let stored = vec![0; HEADER_BYTES + get_maximum_output_size(FRAME_BYTES)];
        Self { to, raw: Vec::with_capacity(FRAME_BYTES), stored, index: 0, written: 0 }
    }

    /// Writes the last frame; how many bytes there are in all.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.frame()?;
        self.to.flush()?;
        Ok(self.written)
    }

    fn frame(&mut self) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let (header, body) = self.stored.split_at_mut(HEADER_BYTES);
        let fewer = compress_into(&self.raw, body).ok().filter(|length| *length < self.raw.len());
        let length = fewer.unwrap_or(self.raw.len());
        let stored = if fewer.is_some() { body.get(..length).unwrap_or_default() } else { &self.raw };
        let sum = xxh3_64_with_seed(stored, self.index);
        header[..4].copy_from_slice(&(self.raw.len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        header[8..].copy_from_slice(&sum.to_le_bytes());
        self.to.write_all(header)?;
        self.to.write_all(stored)?;
        self.written += (HEADER_BYTES + length) as u64;
        self.index += 1;
        self.raw.clear();
        Ok(())
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.raw.len() == FRAME_BYTES {
            self.frame()?;
        }
        let part = bytes.len().min(FRAME_BYTES - self.raw.len());
        self.raw.extend_from_slice(bytes.get(..part).unwrap_or_default());
        Ok(part)
    }

    /// Does nothing: frames are written when they are full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the bytes of checked frames.
pub(super) struct FrameReader<R: Read> {
    from: R,
    raw: Vec<u8>,
    given: usize,
    stored: Vec<u8>,
    index: u64,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, raw: Vec::new(), given: 0, stored: Vec::new(), index: 0 }
    }

    /// Reads the next frame; an end of the file between frames is the end.
    fn frame(&mut self) -> io::Result<()> {
        self.raw.clear();
        self.given = 0;
        let mut header = [0; HEADER_BYTES];
        if read_full(&mut self.from, &mut header)? == 0 {
            return Ok(());
        }
        let [a, b, c, d, e, f, g, h, sum @ ..] = header;
        let (raw, stored) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]) as usize);
        if raw == 0 || raw > FRAME_BYTES || stored > raw {
            return Err(damaged(self.index, "its lengths make no sense"));
        }
        self.stored.resize(stored, 0);
        if read_full(&mut self.from, &mut self.stored)? < stored {
            return Err(damaged(self.index, "it is cut short"));
        }
        if xxh3_64_with_seed(&self.stored, self.index) != u64::from_le_bytes(sum) {
            return Err(damaged(self.index, "its checksum does not match"));
        }
        if stored == raw {
            std::mem::swap(&mut self.raw, &mut self.stored);
        } else {
            self.raw.resize(raw, 0);
            let length = decompress_into(&self.stored, &mut self.raw);
            if length.map_err(|error| damaged(self.index, &error.to_string()))? != raw {
                return Err(damaged(self.index, "it holds fewer bytes than it says"));
            }
        }
        self.index += 1;
        Ok(())
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.raw.len() {
            self.frame()?;
        }
        let left = self.raw.get(self.given..).unwrap_or_default();
        let part = left.len().min(into.len());
        into[..part].copy_from_slice(&left[..part]);
        self.given += part;
        Ok(part)
    }
}

/// Reads until the buffer is full or the file ends; a header that is cut short is damage.
fn read_full(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match from.read(&mut into[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn damaged(frame: u64, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("frame {frame}: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(bytes: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = FrameWriter::new(&mut file);
        writer.write_all(bytes).expect("memory");
        let length = writer.finish().expect("memory");
        assert_eq!(length, file.len() as u64);
        file
    }

    fn read(file: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        FrameReader::new(file).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Bytes that LZ4 makes fewer (a short period), or hardly (a long one).
    fn bytes(length: usize, period: usize) -> Vec<u8> {
        (0..length).map(|n| ((n % period).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn bytes_that_do_not_get_fewer_are_stored_as_they_are() {
        let few = stored(&bytes(3 * FRAME_BYTES, 64));
        assert!(few.len() < FRAME_BYTES / 10, "{}", few.len());
        let random: Vec<u8> = (0..FRAME_BYTES as u64).map(|n| xxh3_64_with_seed(b"", n) as u8).collect();
        assert_eq!(stored(&random).len(), FRAME_BYTES + HEADER_BYTES);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_written_is_read(length in 0usize..3 * FRAME_BYTES, period in 1usize..100_000) {
            let before = bytes(length, period);
            prop_assert_eq!(read(&stored(&before)).expect("undamaged"), before);
        }

        /// A byte that changed, frames that changed places, a cut: an error, or an end between frames; never other bytes.
        #[test]
        fn damage_is_noticed(length in 1usize..3 * FRAME_BYTES, period in 1usize..1000, at in any::<usize>(), flip in 1u8.., cut in any::<bool>()) {
            let before = bytes(length, period);
            let mut file = stored(&before);
            let at = at % file.len();
            if cut {
                file.truncate(at);
            } else {
                file[at] ^= flip;
            }
            if let Ok(after) = read(&file) {
                prop_assert!(cut && after.len() % FRAME_BYTES == 0 && before.starts_with(&after));
            }
        }
    }
}
