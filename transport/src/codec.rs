//! The one place that names the wire encoding: bincode 2, always with a limit.
//!
//! The limit bounds the encoded bytes. What they claim is not believed: a 12-byte message may say that a string of 2^40
//! bytes follows, so text and bytes are copied only from where they lie (`borrowed`), and a list grows with the elements
//! that come. Wire types are flat: no recursion, no vectors of zero-sized elements, none of serde's
//! `tag`, `untagged`, `flatten` and `skip_serializing_if`, which this encoding cannot carry.

use std::marker::PhantomData;

use bincode::config;
use bincode::error::{DecodeError, EncodeError};
use serde::{Serialize, de::DeserializeOwned};

use crate::borrowed::Whole;

/// Largest limit a caller may name; a larger one counts as this.
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
    /// The bytes are no such value, or claim more than there is.
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

/// Decodes a value from exactly these bytes. Memory is taken for what is there, not for what is claimed to follow: on the
/// word of a length alone no more than 1 MiB for each list or map that is begun.
///
/// # Errors
/// If there are more bytes than the limit, or they are no such value, or go on after it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    let limit = limit.min(LIMIT_BYTES_MAX);
    if bytes.len() > limit {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit });
    }
    let decoded = bincode::serde::seed_decode_from_slice(Whole(PhantomData::<T>), bytes, config::standard());
    let (value, used) = decoded.map_err(CodecError::Decode)?;
    if used < bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - used));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt;

    use proptest::prelude::*;
    use serde::de::{Deserializer, Visitor};
    use serde::{Deserialize, Serializer};

    use super::*;

    /// A value with text and bytes at every kind of depth.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Deep {
        Text(String),
        Both { bytes: Raw, text: Option<Box<str>> },
        Many(Vec<(String, u128)>, BTreeMap<String, Raw>),
        None,
    }

    /// Bytes that are asked for as bytes, not as a list.
    #[derive(Debug, Clone, PartialEq)]
    struct Raw(Vec<u8>);

    impl Serialize for Raw {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_bytes(&self.0)
        }
    }

    impl<'de> Deserialize<'de> for Raw {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct Take;
            impl Visitor<'_> for Take {
                type Value = Raw;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Raw, E> {
                    Ok(Raw(bytes))
                }
            }
            from.deserialize_byte_buf(Take)
        }
    }

    fn deep() -> impl Strategy<Value = Deep> {
        let raw = || any::<Vec<u8>>().prop_map(Raw);
        let many = (any::<Vec<(String, u128)>>(), prop::collection::btree_map(any::<String>(), raw(), 0..4));
        prop_oneof![
            any::<String>().prop_map(Deep::Text),
            (raw(), any::<Option<Box<str>>>()).prop_map(|(bytes, text)| Deep::Both { bytes, text }),
            many.prop_map(|(list, map)| Deep::Many(list, map)),
            Just(Deep::None),
        ]
    }

    /// A length as the encoding writes it, and a little that follows.
    fn claim(before: &[u8], length: u64) -> Vec<u8> {
        let mut bytes = before.to_vec();
        bytes.push(253);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(b"xyz");
        bytes
    }

    #[test]
    fn a_list_of_small_numbers_is_as_large_as_its_bytes_not_as_its_memory() {
        let numbers = vec![1u128; 60_000];
        let bytes = encode(&numbers, 1 << 16).expect("a byte each");
        assert_eq!(decode::<Vec<u128>>(&bytes, 1 << 16).expect("within the same limit"), numbers);
    }

    #[test]
    fn bytes_after_the_value_are_an_error() {
        assert!(matches!(decode::<u8>(&[1, 2], 64), Err(CodecError::Trailing(1))));
    }

    proptest! {
        // The allocator would abort the process at half of these.
        #[test]
        fn a_claim_of_what_is_not_there_takes_no_memory(length in (1u64 << 32)..=u64::MAX) {
            for before in [&[0][..], &[1], &[1, 0, 1], &[2, 1], &[2, 0, 1], &[2, 0, 1, 1, b'k']] {
                prop_assert!(decode::<Deep>(&claim(before, length), LIMIT_BYTES_MAX).is_err());
            }
            prop_assert!(decode::<String>(&claim(&[], length), LIMIT_BYTES_MAX).is_err());
            prop_assert!(decode::<Raw>(&claim(&[], length), LIMIT_BYTES_MAX).is_err());
            prop_assert!(decode::<Vec<[u64; 8]>>(&claim(&[], length), LIMIT_BYTES_MAX).is_err());
        }

        #[test]
        fn text_and_bytes_at_any_depth_come_back(value in deep()) {
            let bytes = encode(&value, LIMIT_BYTES_MAX).expect("fits");
            prop_assert_eq!(decode::<Deep>(&bytes, bytes.len()).expect("same type"), value);
        }

        #[test]
        fn a_value_that_is_cut_short_is_an_error(value in deep(), at: prop::sample::Index) {
            let bytes = encode(&value, LIMIT_BYTES_MAX).expect("fits");
            let (start, _) = bytes.split_at(at.index(bytes.len()));
            prop_assert!(decode::<Deep>(start, LIMIT_BYTES_MAX).is_err());
        }

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
