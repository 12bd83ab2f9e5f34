//! A look at a page's header before the decoder believes it: how many bytes it says that the page takes when decompressed.
//!
//! The decoder allocates what the header says, and decompresses no further. 16 kB of zeros that somebody compressed well
//! are half a gigabyte, so a page that is both large and far larger than what is stored of it is refused.

use mobula_actors::units::Bytes;
use parquet::errors::{ParquetError, Result};

/// Pages up to this size may be compressed as well as anything is: writers cut pages at about a mebibyte.
const PAGE_BYTES_MAX: u64 = 64 << 20;
/// Larger ones may take so many times what is stored. A value that fills such a page by itself is hardly this dull.
const RATIO_MAX: u64 = 100;

/// Looks at the bytes that a header begins with, at this place of the file.
///
/// # Errors
/// If it is no header, or a page that nobody should decompress.
pub(super) fn check(bytes: &[u8], at: u64) -> Result<()> {
    let Some((unpacked, stored)) = sizes(bytes) else {
        return Err(ParquetError::General(format!("there is no page at byte {at}")));
    };
    if unpacked > PAGE_BYTES_MAX && unpacked / RATIO_MAX > stored {
        let (unpacked, stored) = (Bytes(unpacked), Bytes(stored));
        return Err(ParquetError::General(format!(
            "the page at byte {at} would take {unpacked} from {stored}; it is refused, as no writer makes such pages of data"
        )));
    }
    Ok(())
}

/// The same for bytes that may be a page with its header, or only what follows one: they are the former if the sizes in
/// them fit.
///
/// # Errors
/// As [`check`].
pub(super) fn check_whole(bytes: &[u8], at: u64) -> Result<()> {
    let length = bytes.len() as u64;
    let is_page = sizes(bytes).is_some_and(|(_, stored)| stored < length && length - stored <= HEADER_BYTES_MAX);
    if is_page { check(bytes, at) } else { Ok(()) }
}

/// What the page whose header begins so takes when decompressed.
pub(super) fn unpacked(bytes: &[u8]) -> Option<u64> {
    sizes(bytes).map(|(unpacked, _)| unpacked)
}

/// Longer headers hold statistics of long values.
const HEADER_BYTES_MAX: u64 = 64 << 10;

/// Bytes of a page when decompressed and as stored: the second and third field of the header, in Thrift's compact form.
fn sizes(mut bytes: &[u8]) -> Option<(u64, u64)> {
    let mut id = 0;
    let mut values = [0; 3];
    for (value, wanted) in values.iter_mut().zip(1..) {
        let (&head, rest) = bytes.split_first()?;
        bytes = rest;
        if head & 0x0f != THRIFT_I32 {
            return None;
        }
        id = match head >> 4 {
            0 => zigzag(&mut bytes)?,
            step => id + i64::from(step),
        };
        *value = zigzag(&mut bytes)?;
        if id != wanted {
            return None;
        }
    }
    let [_, unpacked, stored] = values;
    Some((u64::try_from(unpacked).ok()?, u64::try_from(stored).ok()?))
}

const THRIFT_I32: u8 = 5;

fn zigzag(bytes: &mut &[u8]) -> Option<i64> {
    let mut number: u64 = 0;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    None
}

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

    fn header(unpacked: i64, stored: i64, long_form: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (id, value) in [(1, 0), (2, unpacked), (3, stored)] {
            if long_form {
                bytes.push(THRIFT_I32);
                varint(id, &mut bytes);
            } else {
                bytes.push(0x10 | THRIFT_I32);
            }
            varint(value, &mut bytes);
        }
        bytes
    }

    #[test]
    fn only_large_pages_that_were_next_to_nothing_are_refused() {
        let is_fine = |unpacked, stored| check(&header(unpacked, stored, false), 4).is_ok();
        assert!(is_fine(1 << 20, 40), "a column of one value");
        assert!(is_fine(1 << 30, 20 << 20), "one large value");
        assert!(!is_fine(537_000_000, 16_800));
        assert!(!is_fine(-1, 5));
        let error = check(&header(537_000_000, 16_800, false), 4).unwrap_err().to_string();
        assert!(error.contains("the page at byte 4 would take 512.1 MiB from 16.4 KiB"), "{error}");
    }

    proptest! {
        #[test]
        fn sizes_are_read_as_they_were_written(unpacked in 0..i64::from(i32::MAX), stored in 0..i64::from(i32::MAX), long in any::<bool>()) {
            prop_assert_eq!(sizes(&header(unpacked, stored, long)), Some((unpacked as u64, stored as u64)));
        }

        #[test]
        fn any_bytes_are_a_header_or_not(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = check(&bytes, 0);
        }
    }
}
