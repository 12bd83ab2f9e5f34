//! The one place that names the wire encoding: bincode 2, always with a limit.
//!
//! Without a limit a 12-byte message can claim a string of 2^40 bytes and abort the process in the allocator, so the
//! limit is part of each call. Wire types are flat: no recursion, no vectors of zero-sized elements, none of serde's
//! `tag`, `untagged`, `flatten` and `skip_serializing_if`, which this encoding cannot carry.

use bincode::config;
use bincode::error::{DecodeError, EncodeError};
use serde::{Serialize, de::DeserializeOwned};

/// Largest limit a caller may name, so that a mistaken limit cannot become a mistaken allocation.
pub const LIMIT_BYTES_MAX: usize = 1 << 30;

/// Why a value could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value is of a shape that the encoding cannot carry.
    #[error("cannot encode")]
    Encode(#[source] EncodeError),
    /// The encoded value is larger than the limit.
    #[error("encoded value of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What was allowed.
        limit: usize,
    },
    /// The bytes are no such value, or claim more than the limit.
    #[error("cannot decode: {0}")]
    Decode(#[source] DecodeError),
    /// The value ended before the bytes did.
    #[error("{0} bytes are left over after the value")]
    Trailing(usize),
}

/// Encodes a value into at most `limit` bytes.
///
/// # Errors
/// If the value does not fit the encoding or the limit.
///
/// ```
/// let bytes = mobula_transport::codec::encode(&(7u32, "seven"), 64)?;
/// let back: (u32, String) = mobula_transport::codec::decode(&bytes, 64)?;
/// assert_eq!(back, (7, "seven".to_owned()));
/// # Ok::<(), mobula_transport::codec::CodecError>(())
/// ```
pub fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    encode_onto(&mut bytes, value, limit)?;
    Ok(bytes)
}

/// Encodes a value into at most `limit` bytes after those that are there.
///
/// # Errors
/// If the value does not fit the encoding or the limit; what is in `onto` is then of no use.
pub fn encode_onto<T: Serialize>(onto: &mut Vec<u8>, value: &T, limit: usize) -> Result<(), CodecError> {
    let before = onto.len();
    bincode::serde::encode_into_std_write(value, onto, config::standard()).map_err(CodecError::Encode)?;
    match onto.len() - before {
        bytes if bytes > limit => Err(CodecError::TooLarge { bytes, limit }),
        _ => Ok(()),
    }
}

/// Decodes a value from exactly these bytes, claiming no more memory on the way than `limit` rounded up to 64 KiB, 16 MiB
/// or 1 GiB.
///
/// # Errors
/// If the bytes are no such value, claim more than the limit, or go on after it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit.min(LIMIT_BYTES_MAX) {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit });
    }
    // The encoding wants its limit as a constant: the smallest step that holds what was asked for.
    let config = config::standard();
    let decoded = match limit {
        0..=0x1_0000 => bincode::serde::decode_from_slice(bytes, config.with_limit::<0x1_0000>()),
        0x1_0001..=0x100_0000 => bincode::serde::decode_from_slice(bytes, config.with_limit::<0x100_0000>()),
        _ => bincode::serde::decode_from_slice(bytes, config.with_limit::<LIMIT_BYTES_MAX>()),
    };
    let (value, used) = decoded.map_err(CodecError::Decode)?;
    if used < bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - used));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_claimed_length_beyond_the_limit_is_an_error_not_an_abort() {
        // bincode's varint for 2^40, as the length of a string that is not there.
        let hostile = [253, 0, 0, 0, 0, 0, 1, 0, 0, b'x', b'y', b'z'];
        assert!(matches!(decode::<String>(&hostile, 64), Err(CodecError::Decode(_))));
    }

    #[test]
    fn bytes_after_the_value_are_an_error() {
        assert!(matches!(decode::<u8>(&[1, 2], 64), Err(CodecError::Trailing(1))));
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(value: (u64, String, Vec<i16>, Option<bool>)) {
            let bytes = encode(&value, LIMIT_BYTES_MAX).expect("fits");
            prop_assert_eq!(decode::<(u64, String, Vec<i16>, Option<bool>)>(&bytes, LIMIT_BYTES_MAX).expect("same type"), value);
        }

        #[test]
        fn any_bytes_decode_or_fail_without_harm(bytes: Vec<u8>) {
            let _ = decode::<(String, Vec<u32>, Option<Vec<u8>>)>(&bytes, 1 << 20);
        }
    }
}
