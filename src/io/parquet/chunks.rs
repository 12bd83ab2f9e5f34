//! The bytes of one split's file, as the Parquet decoder asks for them.
//!
//! Small splits are read with one call to the system; large ones page by page, so that what is held stays small.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes as Buffer;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use super::page::{self, Kind, Page};
use super::thrift::Odd;
use crate::io::file::{FileId, identify, read_exact_at};
use mobula_actors::units::Bytes;

/// A file with, perhaps, one part of it in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    file: Arc<File>,
    size: u64,
    held: Option<(u64, Buffer)>,
    columns: Arc<[Column]>,
    opened: Arc<Mutex<Opened>>,
}

/// A column chunk that is read.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) place: Range<u64>,
    pub(super) kind: Kind,
}

/// What is known of pages that the decoder looked at.
#[derive(Debug)]
struct Opened {
    /// By column chunk, where the last page begins whose header was read, and what its values take if all are of one row.
    headers: BTreeMap<usize, (u64, u64)>,
    /// By column chunk, what the values take of all pages that were opened for one batch.
    taken: BTreeMap<usize, u64>,
    /// What those of all columns take beyond what each may without being asked.
    beyond: u64,
    /// The most that those of one may take, and whether they are added up.
    most: Bytes,
    adds: bool,
}

impl Chunks {
    /// `columns` are those that will be asked for. No page may hold more than `most` for one row.
    pub(super) fn new(file: File, size: u64, mut columns: Vec<Column>, most: Bytes) -> io::Result<Self> {
        columns.sort_by_key(|column| column.place.start);
        let start = columns.iter().map(|column| column.place.start).min().unwrap_or(0);
        let end = columns.iter().map(|column| column.place.end).max().unwrap_or(0);
        let held = match usize::try_from(end.min(size).saturating_sub(start)) {
            Ok(length) if length > 0 && length as u64 <= HELD_BYTES_MAX.0 => {
                let mut bytes = vec![0; length];
                read_exact_at(&file, &mut bytes, start)?;
                Some((start, Buffer::from(bytes)))
            }
            _ => None,
        };
        let opened = Opened::new(most);
        let opened = Arc::new(Mutex::new(opened));
        Ok(Self { file: Arc::new(file), size, held, columns: columns.into(), opened })
    }

    /// What the page at this place takes when decompressed, if there is one.
    pub(super) fn page_bytes(&self, at: u64) -> Option<u64> {
        Some(self.page(at).ok()?.unpacked)
    }

    /// The next batch is decoded. `adds` if nothing is skipped on the way to it, so that its rows may take all values of
    /// the pages that are opened for it; who skips rows of lists opens pages that nothing is kept of.
    pub(super) fn begin_batch(&self, adds: bool) {
        let mut opened = self.opened();
        opened.taken.clear();
        opened.beyond = 0;
        opened.adds = adds;
    }

    /// The most that the values of one row may take.
    pub(super) fn most(&self) -> Bytes {
        self.opened().most
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The column chunk that a place is in.
    fn column(&self, at: u64) -> Option<(usize, &Kind)> {
        let index = self.columns.partition_point(|column| column.place.start <= at).checked_sub(1)?;
        let column = self.columns.get(index).filter(|column| column.place.contains(&at))?;
        Some((index, &column.kind))
    }

    /// The header of the page at this place.
    fn page(&self, at: u64) -> Result<Page> {
        let left = self.size.saturating_sub(at);
        for most in [HEADER_BYTES, HEADER_BYTES * 128, page::HEADER_BYTES_MAX] {
            let page = match self.part_held(at, None) {
                Some(held) => Page::read(&held),
                None => {
                    let mut bytes = vec![0; usize::try_from(left.min(most)).unwrap_or(usize::MAX)];
                    read_exact_at(&self.file, &mut bytes, at)?;
                    Page::read(&bytes)
                }
            };
            match page {
                Err(Odd::Cut) if left > most => {}
                page => return page.map_err(|odd| no_page(at, odd)),
            }
        }
        Err(no_page(at, Odd::Cut))
    }

    /// The column chunk of a page that may be decoded.
    fn check(&self, at: u64, page: &Page) -> Result<Option<(usize, &Kind)>> {
        let column = self.column(at);
        let is_first = column.and_then(|(index, _)| self.columns.get(index)).is_none_or(|all| all.place.start == at);
        page.check(at, column.map(|(_, kind)| kind), is_first)?;
        Ok(column)
    }

    /// The decoder has come to the header of this page.
    fn on_header(&self, at: u64, page: &Page) -> Result<()> {
        let column = self.check(at, page)?;
        if let Some((index, kind)) = column {
            self.opened().headers.insert(index, (at.saturating_add(page.header), page.row_bytes(kind)));
        }
        Ok(())
    }

    /// The decoder will decode these bytes: a page whose header it has read, or a whole one.
    fn on_bytes(&self, at: u64, bytes: &Buffer) -> Result<()> {
        let known = self.column(at).and_then(|(index, _)| self.opened().headers.get(&index).copied());
        let taken = match known {
            Some((start, taken)) if start == at => taken,
            _ => {
                let page = Page::read(bytes).map_err(|odd| no_page(at, odd))?;
                let stored = bytes.len() as u64 - page.header;
                self.check(at, &page.stored_as(stored))?.map_or(0, |(_, kind)| page.row_bytes(kind))
            }
        };
        self.column(at).map_or(Ok(()), |(index, _)| self.opened().on_page(at, index, taken))
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

impl Opened {
    fn new(most: Bytes) -> Self {
        Self { headers: BTreeMap::new(), taken: BTreeMap::new(), beyond: 0, most, adds: false }
    }

    fn on_page(&mut self, at: u64, column: usize, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let taken = self.taken.entry(column).or_default();
        let before = taken.saturating_sub(UNASKED.0);
        *taken = if self.adds { taken.saturating_add(bytes) } else { bytes };
        self.beyond = self.beyond.saturating_sub(before).saturating_add(taken.saturating_sub(UNASKED.0));
        let (one, most) = (Bytes(*taken), self.most);
        let (all, all_most) = (Bytes(self.beyond), Bytes(most.0.saturating_mul(COLUMNS_FULL_MAX)));
        if one > most {
            return Err(ParquetError::General(format!(
                "with the page at byte {at} a row may take {one} of values in a list, and {most} is the most for one"
            )));
        }
        if all > all_most {
            return Err(ParquetError::General(format!(
                "with the page at byte {at} the lists of all columns may take {all} at once, and {all_most} is the most; \
                 read fewer columns"
            )));
        }
        Ok(())
    }
}

fn no_page(at: u64, odd: Odd) -> ParquetError {
    let why = match odd {
        Odd::Cut => "it has no end",
        Odd::Forged(why) => why,
    };
    ParquetError::General(format!("there is no page at byte {at}: {why}"))
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
        let capacity = if held.is_some() { 64 } else { HEADER_BYTES as usize };
        let reader = BufReader::with_capacity(capacity, Cursor { chunks: self.clone(), at: start, held });
        Ok(Header { reader, at: start, checked: false })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Buffer> {
        if let Some(bytes) = self.part_held(start, Some(length)) {
            self.on_bytes(start, &bytes)?;
            return Ok(bytes);
        }
        if start.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(ParquetError::EOF(format!("bytes {start}..+{length} lie beyond the end of the file")));
        }
        let mut bytes = vec![0; length];
        read_exact_at(&self.file, &mut bytes, start)?;
        let bytes = Buffer::from(bytes);
        self.on_bytes(start, &bytes)?;
        Ok(bytes)
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
            let (begin, at) = (self.reader.fill_buf()?, self.at);
            let page = match Page::read(begin) {
                Err(Odd::Cut) => self.reader.get_ref().chunks.page(at),
                page => page.map_err(|odd| no_page(at, odd)),
            };
            let page = page.map_err(io::Error::other)?;
            self.reader.get_ref().chunks.on_header(at, &page).map_err(io::Error::other)?;
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

/// Most headers of pages are shorter.
const HEADER_BYTES: u64 = 512;

/// So many times what one column may take is the most for all, beyond what each may take unasked.
const COLUMNS_FULL_MAX: u64 = 4;

/// What a column's pages may take that counts for nothing: a page of many rows is opened for few of them, and one of a column
/// of empty lists may be all of its rows. Wide tables have many of those.
const UNASKED: Bytes = Bytes::mib(64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_lists_add_up_over_the_pages_of_a_batch() {
        let fresh = |adds| Opened { adds, ..Opened::new(Bytes::mib(100)) };
        let page = |opened: &mut Opened, at, column, mib| opened.on_page(at, column, Bytes::mib(mib).0);
        let mut opened = fresh(true);
        assert!(page(&mut opened, 4, 0, 60).is_ok() && page(&mut opened, 9, 1, 60).is_ok());
        let error = page(&mut opened, 19, 0, 60).unwrap_err().to_string();
        assert!(error.contains("with the page at byte 19 a row may take 120.0 MiB of values"), "{error}");
        let mut opened = fresh(true);
        assert!((0..11).all(|column| page(&mut opened, 4, column, 99).is_ok()), "each by 35 MiB beyond");
        let error = page(&mut opened, 4, 11, 99).unwrap_err().to_string();
        assert!(error.contains("all columns may take 420.0 MiB at once, and 400.0 MiB is the most"), "{error}");
        let mut opened = fresh(true);
        assert!((0..10_000).all(|column| page(&mut opened, 4, column, 12).is_ok()), "a wide table of small lists");
        let mut opened = fresh(false);
        assert!((0..9).all(|_| page(&mut opened, 4, 0, 60).is_ok()), "nothing is kept of most");
        assert!(page(&mut opened, 4, 0, 101).is_err());
    }
}
