//! The bytes of one split's file, as the Parquet decoder asks for them.
//!
//! Small splits are read with one call to the system; large ones page by page, so that what is held stays small.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes as Buffer;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use super::page;
use crate::io::file::{FileId, identify, read_exact_at};
use mobula_actors::units::Bytes;

/// A file with, perhaps, one part of it in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    file: Arc<File>,
    size: u64,
    held: Option<(u64, Buffer)>,
}

impl Chunks {
    /// `needed` is where all bytes lie that will be asked for.
    pub(super) fn new(file: File, size: u64, needed: Range<u64>) -> io::Result<Self> {
        let length = needed.end.min(size).saturating_sub(needed.start);
        let held = match usize::try_from(length) {
            Ok(length) if length > 0 && length as u64 <= HELD_BYTES_MAX.0 => {
                let mut bytes = vec![0; length];
                read_exact_at(&file, &mut bytes, needed.start)?;
                Some((needed.start, Buffer::from(bytes)))
            }
            _ => None,
        };
        Ok(Self { file: Arc::new(file), size, held })
    }

    /// What the page at this place takes when decompressed, if there is one.
    pub(super) fn page_bytes(&self, at: u64) -> Option<u64> {
        page::unpacked(self.get_read(at).ok()?.reader.fill_buf().ok()?)
    }

    /// Whether nobody has written to the file since it was this one.
    pub(super) fn is_still(&self, planned: FileId) -> io::Result<bool> {
        Ok(identify(&self.file)? == planned)
    }

    fn part_held(&self, start: u64, length: Option<usize>) -> Option<Buffer> {
        let (at, bytes) = self.held.as_ref()?;
        let from = usize::try_from(start.checked_sub(*at)?).ok()?;
        let to = length.map_or(Some(bytes.len()), |length| from.checked_add(length))?;
        (from <= to && to <= bytes.len()).then(|| bytes.slice(from..to))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Chunks {
    type T = Header;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let held = self.part_held(start, None);
        // Only page headers are read this way: a few dozen bytes each.
        let capacity = if held.is_some() { 64 } else { 512 };
        let reader = BufReader::with_capacity(capacity, Cursor { chunks: self.clone(), at: start, held });
        Ok(Header { reader, at: start, checked: false })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Buffer> {
        if let Some(bytes) = self.part_held(start, Some(length)) {
            page::check_whole(&bytes, start)?;
            return Ok(bytes);
        }
        if start.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(ParquetError::EOF(format!("bytes {start}..+{length} lie beyond the end of the file")));
        }
        let mut bytes = vec![0; length];
        read_exact_at(&self.file, &mut bytes, start)?;
        page::check_whole(&bytes, start)?;
        Ok(bytes.into())
    }
}

/// The header of a page, looked at before the first byte of it is given out. Some are opened and never read.
#[derive(Debug)]
pub(super) struct Header {
    reader: BufReader<Cursor>,
    at: u64,
    checked: bool,
}

impl Read for Header {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.checked, true) {
            page::check(self.reader.fill_buf()?, self.at).map_err(io::Error::other)?;
        }
        self.reader.read(buffer)
    }
}

/// Reads on from one place of the file.
#[derive(Debug)]
pub(super) struct Cursor {
    chunks: Chunks,
    at: u64,
    held: Option<Buffer>,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(held) = self.held.as_mut().filter(|held| !held.is_empty()) {
            let read = held.len().min(buffer.len());
            let (Some(from), Some(to)) = (held.get(..read), buffer.get_mut(..read)) else { return Ok(0) };
            to.copy_from_slice(from);
            *held = held.slice(read..);
            self.at += read as u64;
            return Ok(read);
        }
        let left = self.chunks.size.saturating_sub(self.at);
        let read = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(part) = buffer.get_mut(..read) else { return Ok(0) };
        read_exact_at(&self.chunks.file, part, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Read with one call: larger than nearly all small-file datasets need, small beside the smallest room of a port.
const HELD_BYTES_MAX: Bytes = Bytes::mib(1);
