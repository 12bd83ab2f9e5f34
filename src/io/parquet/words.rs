//! How long the words of a dictionary are, looked at before rows are made of them.
//!
//! Rows of short words are cheaper to decode as values at once than as views first, and most dictionaries hold short words.

use std::sync::Arc;

use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::chunks::Chunks;

/// Whether no word of the dictionary that this column of texts begins with is long.
pub(super) fn are_short(file: &Chunks, chunk: &ColumnChunkMetaData) -> bool {
    let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
    let bytes = u64::try_from(start).ok().and_then(|start| file.page_bytes(start));
    match bytes {
        Some(bytes) if bytes <= WORD_BYTES => true,
        Some(bytes) if bytes <= PAGE_BYTES => longest_of(file, chunk).is_some_and(|longest| longest <= WORD_BYTES),
        _ => false,
    }
}

fn longest_of(file: &Chunks, chunk: &ColumnChunkMetaData) -> Option<u64> {
    let rows = usize::try_from(chunk.num_values()).ok()?;
    let mut pages = SerializedPageReader::new(Arc::new(file.clone()), chunk, rows, None).ok()?;
    match pages.get_next_page().ok()?? {
        Page::DictionaryPage { buf, .. } => longest(&buf),
        // A dictionary further back is refused.
        _ => Some(0),
    }
}

/// The longest of the words that stand in the page one behind another, each behind its length, if that is what they do.
fn longest(page: &[u8]) -> Option<u64> {
    let (mut rest, mut longest) = (page, 0);
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        rest = behind.get(usize::try_from(length).ok()?..)?;
        longest = longest.max(length);
    }
    Some(u64::from(longest))
}

/// The most rows that are decoded at once (65,536) take 8 MiB with words of so many bytes.
const WORD_BYTES: u64 = 128;

/// Larger dictionaries are not looked at: each split would decompress them twice.
const PAGE_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(words: &[Vec<u8>]) -> Vec<u8> {
        words.iter().flat_map(|word| [&(word.len() as u32).to_le_bytes()[..], word].concat()).collect()
    }

    proptest! {
        #[test]
        fn the_longest_is_found(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40)) {
            let most = words.iter().map(Vec::len).max().unwrap_or(0);
            prop_assert_eq!(longest(&page(&words)), Some(most as u64));
        }

        #[test]
        fn a_page_that_is_cut_or_holds_anything_is_looked_at_to_an_end(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..30), 1..9), bytes: Vec<u8>,
        ) {
            let whole = page(&words);
            prop_assert_eq!(longest(&whole[..whole.len() - 1]), None);
            let _ = longest(&bytes);
        }
    }
}
