//! Parsed footers, kept within a bound, so that splits of one file do not parse it again and again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::claims;
use super::damage::guard;
use crate::io::error::{IoError, IoResult};
use crate::io::file::{FileId, read_exact_at};
use crate::io::schema::as_values;
use crate::io::wire::absolute;
use mobula_actors::units::Bytes;

/// Footers by file. A file's footer is in it at most twice: with and without its page index.
#[derive(Debug, Default)]
pub(super) struct Footers {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    footers: BTreeMap<Key, (FileId, ArrowReaderMetadata)>,
    oldest_first: VecDeque<Key>,
    bytes: u64,
}

type Key = (PathBuf, bool);

impl Footers {
    /// Those of this process, as long as anybody has them: a source is built from its parameters alone, and in the
    /// process that planned it finds what planning parsed.
    pub(super) fn of_this_process() -> Arc<Self> {
        static LIVE: Mutex<Weak<Footers>> = Mutex::new(Weak::new());
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        live.upgrade().unwrap_or_else(|| {
            let fresh = Arc::default();
            *live = Arc::downgrade(&fresh);
            fresh
        })
    }

    /// The footer of an open file, parsed if it is not kept.
    pub(super) fn get(&self, path: &Path, file: &File, id: FileId, page_index: bool) -> IoResult<ArrowReaderMetadata> {
        let key = (absolute(path)?, page_index);
        if let Some((kept, footer)) = self.lock().footers.get(&key)
            && *kept == id
        {
            return Ok(footer.clone());
        }
        let footer = parse(path, file, id, page_index)?;
        self.lock().keep(key, id, &footer);
        Ok(footer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, key: Key, id: FileId, footer: &ArrowReaderMetadata) {
        self.bytes += size(footer);
        if let Some((_, replaced)) = self.footers.insert(key.clone(), (id, footer.clone())) {
            self.bytes -= size(&replaced);
        } else {
            self.oldest_first.push_back(key);
        }
        while self.bytes > KEPT_BYTES_MAX.0 {
            let Some(oldest) = self.oldest_first.pop_front() else { break };
            if let Some((_, dropped)) = self.footers.remove(&oldest) {
                self.bytes -= size(&dropped);
            }
        }
    }
}

fn size(footer: &ArrowReaderMetadata) -> u64 {
    footer.metadata().memory_size() as u64
}

fn parse(path: &Path, file: &File, id: FileId, page_index: bool) -> IoResult<ArrowReaderMetadata> {
    let footer = check_tail(path, file, id.size)?;
    check_claims(path, file, id.size, footer)?;
    let load = || {
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
        let mut metadata = reader.parse_and_finish(file)?;
        if page_index && index_is_sound(file, id.size, &metadata) {
            let reader = ParquetMetaDataReader::new_with_metadata(metadata);
            let mut reader = reader.with_page_index_policy(PageIndexPolicy::Optional);
            reader.read_page_indexes(file)?;
            metadata = reader.finish()?;
        }
        let footer = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())?;
        let values = as_values(footer.schema());
        if values == **footer.schema() {
            return Ok(footer);
        }
        let options = ArrowReaderOptions::new().with_schema(Arc::new(values));
        ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options)
    };
    guard(path, load)?.map_err(|e: ParquetError| IoError::undecodable(path, e))
}

/// Whether the page index is one, and no larger than an index is. One can read without it.
fn index_is_sound(file: &File, size: u64, metadata: &ParquetMetaData) -> bool {
    let chunks = || metadata.row_groups().iter().flat_map(|group| group.columns());
    let places = chunks().map(|chunk| (chunk.offset_index_offset(), chunk.offset_index_length(), true));
    let values = chunks().map(|chunk| (chunk.column_index_offset(), chunk.column_index_length(), false));
    let all = places.chain(values).filter_map(|(at, length, of_places)| {
        let (at, length) = (u64::try_from(at?).ok()?, u64::try_from(length?).ok()?);
        Some((at..at.saturating_add(length), of_places))
    });
    let all: Vec<_> = all.collect();
    let start = all.iter().map(|(place, _)| place.start).min().unwrap_or(0);
    let end = all.iter().map(|(place, _)| place.end).max().unwrap_or(0);
    // It is read whole, with what lies between its parts.
    if end > size || end - start > INDEX_BYTES_MAX.0 {
        return false;
    }
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
    if read_exact_at(file, &mut bytes, start).is_err() {
        return false;
    }
    let is_sound = |(place, of_places): &(Range<u64>, bool)| {
        let part = bytes.get((place.start - start) as usize..(place.end - start) as usize);
        part.is_some_and(|part| claims::is_index(part, *of_places))
    };
    all.iter().all(is_sound)
}

/// Looks at the last eight bytes before anything is allocated by what they say.
/// Returns how long the footer is.
fn check_tail(path: &Path, file: &File, size: u64) -> IoResult<Bytes> {
    if size < FILE_BYTES_MIN {
        return Err(IoError::corrupt(path, format!("{size} bytes are too few for a Parquet file")));
    }
    let mut tail = [0; 8];
    read_exact_at(file, &mut tail, size - 8).map_err(|e| IoError::read(path, e))?;
    let [a, b, c, d, magic @ ..] = tail;
    if magic == *b"PARE" {
        return Err(IoError::corrupt(path, "its footer is encrypted, which is not supported"));
    }
    if magic != *b"PAR1" {
        return Err(IoError::corrupt(path, "it does not end like a Parquet file"));
    }
    let footer = Bytes(u32::from_le_bytes([a, b, c, d]).into());
    if footer > FOOTER_BYTES_MAX || footer.0 > size - FILE_BYTES_MIN {
        let most = FOOTER_BYTES_MAX.min(Bytes(size - FILE_BYTES_MIN));
        return Err(IoError::corrupt(path, format!("its footer claims {footer}, at most {most} are possible here")));
    }
    Ok(footer)
}

/// Looks at the footer itself before anything is allocated by what it says.
fn check_claims(path: &Path, file: &File, size: u64, footer: Bytes) -> IoResult<()> {
    let mut bytes = vec![0; usize::try_from(footer.0).unwrap_or(usize::MAX)];
    read_exact_at(file, &mut bytes, size - 8 - footer.0).map_err(|e| IoError::read(path, e))?;
    claims::check(&bytes).map_err(|why| IoError::corrupt(path, why))
}

/// Magic at both ends and the footer's length.
const FILE_BYTES_MIN: u64 = 12;

/// A footer of this size describes about a million column chunks; one that claims more is damage, not data.
const FOOTER_BYTES_MAX: Bytes = Bytes::mib(64);

/// As much as a footer: an index says about each page what a footer does of each column chunk.
const INDEX_BYTES_MAX: Bytes = Bytes::mib(64);

/// All footers of a usual dataset, and no more than a small part of the smallest budget.
const KEPT_BYTES_MAX: Bytes = Bytes::mib(32);
