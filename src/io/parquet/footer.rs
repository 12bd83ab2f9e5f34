//! Parsed footers, kept within a bound, so that splits of one file do not parse it again and again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

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
    check_tail(path, file, id.size)?;
    let policy = if page_index { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip };
    let options = ArrowReaderOptions::new().with_page_index_policy(policy);
    let load = || {
        let footer = ArrowReaderMetadata::load(file, options.clone())?;
        let values = as_values(footer.schema());
        if values == **footer.schema() {
            return Ok(footer);
        }
        ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options.with_schema(Arc::new(values)))
    };
    guard(path, load)?.map_err(|e: ParquetError| IoError::undecodable(path, e))
}

/// Looks at the last eight bytes before anything is allocated by what they say.
fn check_tail(path: &Path, file: &File, size: u64) -> IoResult<()> {
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
    Ok(())
}

/// Magic at both ends and the footer's length.
const FILE_BYTES_MIN: u64 = 12;

/// A footer of this size describes about a million column chunks; one that claims more is damage, not data.
const FOOTER_BYTES_MAX: Bytes = Bytes::mib(64);

/// All footers of a usual dataset, and no more than a small part of the smallest budget.
const KEPT_BYTES_MAX: Bytes = Bytes::mib(32);
