//! A look at a page's header before the decoder believes it: how many bytes it says that the page takes when decompressed,
//! and how many values it says are in it.
//!
//! The decoder allocates what the header says, and decompresses no further. 16 kB of zeros that somebody compressed well
//! are half a gigabyte, so a page that is both large and far larger than what is stored of it is refused. A few bytes of
//! run lengths are two billion values, and a row of a list takes as many of them as it likes.

use mobula_actors::units::Bytes;
use parquet::basic::Type;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

use super::estimate;
use super::thrift::{Odd, Seen, Shape, Table, walk};
use super::views::{has_dictionary, shares_prefixes};

/// Pages up to this size may be compressed as well as anything is: writers cut pages at about a mebibyte.
const PAGE_BYTES_MAX: u64 = 64 << 20;
/// Larger ones may take so many times what is stored. A value that fills such a page by itself is hardly this dull.
const RATIO_MAX: u64 = 100;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    /// Bytes of it as stored, of the page when decompressed, and of the page as stored.
    pub(super) header: u64,
    pub(super) unpacked: u64,
    pub(super) stored: u64,
    values: u64,
    is_dictionary: bool,
    shares_prefixes: bool,
}

/// What must be known of a column chunk to judge its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// What a value takes when decoded, if a row may hold any number of them.
    nested: Option<u64>,
    /// What a value in a dictionary takes at least.
    least: u64,
    is_text: bool,
    has_dictionary: bool,
    shares_prefixes: bool,
}

impl Kind {
    pub(super) fn of(chunk: &ColumnChunkMetaData) -> Self {
        let is_nested = chunk.column_descr().max_rep_level() > 0;
        let length = u64::try_from(chunk.column_descr().type_length()).unwrap_or(1);
        Self {
            nested: is_nested.then(|| estimate::width(chunk).unwrap_or(VIEW_BYTES) + estimate::levels(chunk)),
            least: match chunk.column_type() {
                Type::BOOLEAN => 1,
                Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
                Type::INT64 | Type::DOUBLE => 8,
                Type::INT96 => 12,
                Type::FIXED_LEN_BYTE_ARRAY => length,
            },
            is_text: chunk.column_type() == Type::BYTE_ARRAY,
            has_dictionary: has_dictionary(chunk),
            shares_prefixes: shares_prefixes(chunk),
        }
    }
}

const VIEW_BYTES: u64 = 16;

impl Page {
    /// The header that the bytes begin with.
    ///
    /// # Errors
    /// If there is none, or only a part of one.
    pub(super) fn read(bytes: &[u8]) -> std::result::Result<Self, Odd> {
        let mut page =
            Self { header: 0, unpacked: 0, stored: 0, values: 0, is_dictionary: false, shares_prefixes: false };
        let rest = walk(bytes, &HEADER, &mut |table, seen| {
            let Seen::Number(id, number) = seen else { return Ok(()) };
            let size = || u64::try_from(number).map_err(|_| Odd::Forged("a size is below zero"));
            match (table.name, id) {
                (PAGE, 2) => page.unpacked = size()?,
                (PAGE, 3) => page.stored = size()?,
                // Which of several counts is believed is the decoder's business.
                (DATA | DATA_V2 | DICTIONARY, 1) => page.values = page.values.max(size()?),
                (DATA, 2) | (DATA_V2, 4) => page.shares_prefixes |= number == DELTA_BYTE_ARRAY,
                (PAGE, 1) => page.is_dictionary = number == DICTIONARY_PAGE,
                _ => {}
            }
            Ok(())
        })?;
        page.header = (bytes.len() - rest) as u64;
        Ok(page)
    }

    /// The same page where the place of the next one says what is stored of it.
    pub(super) fn stored_as(self, stored: u64) -> Self {
        Self { stored, ..self }
    }

    /// # Errors
    /// If it is a page at this place of the file that nobody should decompress or decode. `is_first` if a column chunk
    /// begins with it.
    pub(super) fn check(&self, at: u64, kind: Option<&Kind>, is_first: bool) -> Result<()> {
        let (unpacked, stored) = (Bytes(self.unpacked), Bytes(self.stored));
        if self.unpacked > PAGE_BYTES_MAX && self.unpacked / RATIO_MAX > self.stored {
            return refused(at, &format!("would take {unpacked} from {stored}"));
        }
        if self.is_dictionary && self.values > self.unpacked / kind.map_or(1, |kind| kind.least.max(1)) {
            return refused(at, &format!("would hold {} values in {unpacked}", self.values));
        }
        if self.is_dictionary && !is_first {
            return refused(at, "is a dictionary behind other pages");
        }
        let Some(kind) = kind.filter(|kind| kind.is_text) else { return Ok(()) };
        if (self.is_dictionary && !kind.has_dictionary) || (self.shares_prefixes && !kind.shares_prefixes) {
            return refused(at, "is encoded in a way that the footer says nothing of");
        }
        Ok(())
    }

    /// What its values take when decoded if they may all be of one row.
    pub(super) fn row_bytes(&self, kind: &Kind) -> u64 {
        let values = if self.is_dictionary { 0 } else { self.values };
        kind.nested.map_or(0, |bytes| values.saturating_mul(bytes))
    }
}

fn refused(at: u64, why: &str) -> Result<()> {
    Err(ParquetError::General(format!(
        "the page at byte {at} {why}; it is refused, as no writer makes such pages of data"
    )))
}

/// Longer headers hold statistics of long values. Values that fill more than this are left out by who writes them.
pub(super) const HEADER_BYTES_MAX: u64 = 8 << 20;

const DICTIONARY_PAGE: i64 = 2;
const DELTA_BYTE_ARRAY: i64 = 7;

const PAGE: &str = "page";
const DATA: &str = "data";
const DATA_V2: &str = "data v2";
const DICTIONARY: &str = "dictionary";

static HEADER: Table = Table {
    name: PAGE,
    fields: &[
        (1, Shape::I32),
        (2, Shape::I32),
        (3, Shape::I32),
        (4, Shape::I32),
        (5, Shape::Struct(&DATA_HEADER)),
        (6, Shape::Struct(&Table { name: "index", fields: &[] })),
        (7, Shape::Struct(&DICTIONARY_HEADER)),
        (8, Shape::Struct(&DATA_V2_HEADER)),
    ],
};

static DATA_HEADER: Table =
    Table { name: DATA, fields: &[(1, Shape::I32), (2, Shape::I32), (3, Shape::I32), (4, Shape::I32)] };

static DICTIONARY_HEADER: Table =
    Table { name: DICTIONARY, fields: &[(1, Shape::I32), (2, Shape::I32), (3, Shape::Bool)] };

static DATA_V2_HEADER: Table = Table {
    name: DATA_V2,
    fields: &[
        (1, Shape::I32),
        (2, Shape::I32),
        (3, Shape::I32),
        (4, Shape::I32),
        (5, Shape::I32),
        (6, Shape::I32),
        (7, Shape::Bool),
    ],
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn varint(number: i64, bytes: &mut Vec<u8>) {
        let mut left = ((number << 1) ^ (number >> 63)) as u64;
        while left >= 0x80 {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
    }

    /// Fields of a struct by number, in short form or long.
    fn fields(numbers: impl IntoIterator<Item = (i64, i64)>, long_form: bool) -> Vec<u8> {
        let (mut bytes, mut last) = (Vec::new(), 0);
        for (id, value) in numbers {
            if long_form {
                bytes.push(5);
                varint(id, &mut bytes);
            } else {
                bytes.push(((id - last) as u8) << 4 | 5);
            }
            varint(value, &mut bytes);
            last = id;
        }
        bytes
    }

    fn header(kind: i64, unpacked: i64, stored: i64, values: i64, encoding: i64, long_form: bool) -> Vec<u8> {
        let mut bytes = fields([(1, kind), (2, unpacked), (3, stored)], long_form);
        let (step, field) = match kind {
            0 => (2, 2),
            2 => (4, 2),
            _ => (5, 4),
        };
        bytes.push(step << 4 | 12);
        bytes.extend(fields([(1, values), (field, encoding)], long_form));
        bytes.extend([0, 0]);
        bytes
    }

    fn kind(nested: Option<u64>, is_text: bool) -> Kind {
        Kind { nested, least: 4, is_text, has_dictionary: false, shares_prefixes: false }
    }

    #[test]
    fn only_large_pages_that_were_next_to_nothing_are_refused() {
        let check =
            |unpacked, stored| Page::read(&header(0, unpacked, stored, 1, 0, false)).unwrap().check(4, None, true);
        assert!(check(1 << 20, 40).is_ok(), "a column of one value");
        assert!(check(1 << 30, 20 << 20).is_ok(), "one large value");
        let error = check(537_000_000, 16_800).unwrap_err().to_string();
        assert!(error.contains("the page at byte 4 would take 512.1 MiB from 16.4 KiB"), "{error}");
        assert!(Page::read(&header(0, -1, 5, 1, 0, false)).is_err());
    }

    #[test]
    fn a_dictionary_holds_no_more_values_than_there_are_bytes_for() {
        let check = |values, kind: Option<Kind>| {
            Page::read(&header(2, 4000, 40, values, 0, false)).unwrap().check(4, kind.as_ref(), true)
        };
        assert!(check(1000, Some(kind(None, false))).is_ok());
        assert!(check(1001, Some(kind(None, false))).is_err());
        assert!(check(4001, None).is_err());
        let second = Page::read(&header(2, 4000, 40, 1, 0, false)).unwrap().check(4, None, false).unwrap_err();
        assert!(second.to_string().contains("the page at byte 4 is a dictionary behind other pages"), "{second}");
    }

    #[test]
    fn encodings_that_burst_are_those_of_the_footer() {
        let check = |page, encoding, kind: Kind| {
            Page::read(&header(page, 4000, 40, 10, encoding, false)).unwrap().check(4, Some(&kind), true).is_ok()
        };
        let (text, named) =
            (kind(None, true), Kind { has_dictionary: true, shares_prefixes: true, ..kind(None, true) });
        assert!(!check(2, 0, text) && !check(0, 7, text) && !check(3, 7, text));
        assert!(check(2, 0, named) && check(0, 7, named) && check(3, 7, named));
        assert!(check(0, 0, text) && check(2, 0, kind(None, false)));
    }

    #[test]
    fn values_of_lists_count_as_if_they_were_of_one_row() {
        let page = |kind| Page::read(&header(kind, 40, 40, 2_000_000_000, 0, false)).unwrap();
        assert_eq!(page(0).row_bytes(&kind(Some(12), false)), 24_000_000_000);
        assert_eq!(page(3).row_bytes(&kind(Some(12), false)), 24_000_000_000);
        assert_eq!(page(0).row_bytes(&kind(None, false)), 0);
        assert_eq!(page(2).row_bytes(&kind(Some(12), false)), 0);
    }

    proptest! {
        #[test]
        fn headers_are_read_as_they_were_written(
            kind in prop_oneof![Just(0), Just(2), Just(3)], unpacked in 0..i64::from(i32::MAX),
            stored in 0..i64::from(i32::MAX), values in 0..i64::from(i32::MAX), long in any::<bool>(),
            behind in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut bytes = header(kind, unpacked, stored, values, 0, long);
            let length = bytes.len();
            bytes.extend(behind);
            let page = Page::read(&bytes).unwrap();
            prop_assert_eq!((page.header, page.unpacked as i64, page.stored as i64), (length as u64, unpacked, stored));
            prop_assert_eq!(page.values as i64, values);
            prop_assert_eq!(Page::read(&bytes[..length - 1]), Err(Odd::Cut));
        }

        #[test]
        fn any_bytes_are_a_header_or_not(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Page::read(&bytes);
        }
    }
}
