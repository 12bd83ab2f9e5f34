//! Every decoder that sees a peer's bytes, as a function of bytes: it may find them wrong, but not panic, hang or take
//! memory that they only claim. The fuzz target in `transport/fuzz` runs them, and so do the property tests below, on
//! random bytes and on good ones that were changed. It is not in a library that is built for use.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use quinn::{ApplicationClose, ConnectionError, VarInt};
use serde::{Deserialize, Serialize};

use crate::closed::{ClosedReason, Refusal};
use crate::codec;
use crate::frame::{self, LENGTH_BYTES};
use crate::hello::{self, Hello, Welcome};
use crate::identity::name_in;
use crate::join::{Answer, Request};
use crate::limits::{JOIN_BYTES_MAX, Limits};
use crate::name::{ClusterId, Name, NodeId, Role};
use crate::token::Token;

/// All of them by name.
pub const DECODERS: [(&str, fn(&[u8])); 7] = [
    ("hello", hello),
    ("frames", frames),
    ("values", values),
    ("joins", joins),
    ("certificates", certificates),
    ("names", names),
    ("closes", closes),
];

/// Longest text of an error that a peer causes: it goes into logs.
const TEXT_BYTES_MAX: usize = 2_000;

/// The first byte chooses the decoder of the rest.
pub fn chosen(data: &[u8]) {
    if let Some((choice, rest)) = data.split_first() {
        let decoder = DECODERS.iter().cycle().nth(usize::from(*choice));
        decoder.expect("the list goes round").1(rest);
    }
}

/// The first message of either side, or a refusal in its place.
pub fn hello(data: &[u8]) {
    let Some((opening, body)) = data.split_first_chunk() else { return };
    let limit = Limits::default().hello_bytes;
    match hello::check_opening(*opening) {
        Ok(Some(code)) => check_text(Refusal::from_wire(code, body)),
        Ok(None) => {
            let body = body.get(LENGTH_BYTES..).unwrap_or_default();
            match hello::decode::<Hello>(body, limit) {
                Ok(Hello { about, .. }) => about.check().err().into_iter().for_each(check_text),
                Err(refusal) => check_text(refusal),
            }
            hello::decode::<Welcome>(body, limit).err().into_iter().for_each(check_text);
        }
        Err(refusal) => check_text(refusal),
    }
}

/// Lengths and bodies, one after the other.
pub fn frames(mut data: &[u8]) {
    let limit = Limits::default().stream_frame_bytes;
    while let Some((length, rest)) = data.split_first_chunk::<LENGTH_BYTES>() {
        let Ok(length) = frame::length(*length, limit) else { return };
        assert!(length <= limit, "a length over the limit");
        let Some((body, rest)) = rest.split_at_checked(length) else { return };
        values(body);
        data = rest;
    }
}

/// A value with one of everything that messages are made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Sample {
    /// Numbers of all sizes.
    Numbers(u8, i16, u32, i64, u128, bool, char),
    /// Texts in lists and options.
    Texts(Vec<Option<String>>),
    /// A struct, with a checked text.
    Named {
        /// Checked when it is decoded.
        node: NodeId,
        /// Pairs.
        pairs: std::collections::BTreeMap<String, Vec<u8>>,
    },
    /// Nothing.
    Nothing,
}

/// A value of a call, a stream or a fetch.
pub fn values(data: &[u8]) {
    for limit in [data.len(), codec::LIMIT_BYTES_MAX] {
        if let Ok(value) = codec::decode::<Sample>(data, limit) {
            let bytes = codec::encode(&value, limit).expect("what was decoded is no longer when it is encoded");
            assert_eq!(codec::decode::<Sample>(&bytes, limit).ok(), Some(value));
        }
    }
}

/// Both sides of a join.
pub fn joins(data: &[u8]) {
    let _ = codec::decode::<Request>(data, JOIN_BYTES_MAX);
    let _ = codec::decode::<Answer>(data, JOIN_BYTES_MAX);
}

/// The name inside a certificate.
pub fn certificates(data: &[u8]) {
    if let Err(error) = name_in(data) {
        check_text(error);
    }
}

/// Names and tokens as text.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    round::<NodeId>(text);
    round::<ClusterId>(text);
    round::<Role>(text);
    round::<Name>(text);
    match text.parse::<Token>() {
        Ok(token) => assert_eq!(token.to_string(), text.trim()),
        Err(error) => check_text(error),
    }
}

fn round<T: FromStr<Err: Display> + Display + Debug + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(name) => assert_eq!(name.to_string(), text, "a name has one spelling"),
        Err(error) => check_text(error),
    }
}

/// How a peer ends a connection: a code and a reason.
pub fn closes(data: &[u8]) {
    let Some((code, reason)) = data.split_first_chunk() else { return };
    let error_code = VarInt::from_u64(u64::from_le_bytes(*code) >> 2).expect("62 bits");
    let close = ApplicationClose { error_code, reason: reason.to_vec().into() };
    check_text(ClosedReason::of(&ConnectionError::ApplicationClosed(close), None));
}

fn check_text(text: impl Display) {
    let bytes = text.to_string().len();
    assert!(bytes <= TEXT_BYTES_MAX, "{bytes} bytes of text from a peer");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{About, Authority, Lane};

    /// A decoder and bytes that are good for it.
    type Case = (fn(&[u8]), Vec<u8>);

    /// Some for each decoder.
    fn good() -> Vec<Case> {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        let (cluster, node) = (authority.cluster().clone(), NodeId::new("node-1").unwrap());
        let identity = authority.issue(Role::Node, node.clone()).unwrap();
        let about = About { build: "b1".into(), operators: vec!["map".into(), "score".into()], ..About::default() };
        let limits = Limits::default();
        let welcome = Welcome { cluster: cluster.clone(), about: about.clone(), welcome: vec![1; 9] };
        let said = Hello { cluster: cluster.clone(), lane: Lane::Data, about };
        let request =
            Request { secret: "5".repeat(64), node: node.clone(), public_key: vec![7; 32], wanted: Some(Role::Node) };
        let answer = Answer::Certificate { certificate: vec![3; 40], authority: vec![4; 40] };
        let named = Sample::Named { node: node.clone(), pairs: [("a".to_owned(), vec![1, 2])].into() };
        let texts = Sample::Texts(vec![None, Some("text".into())]);
        let values: Vec<Vec<u8>> = [&named, &texts].map(|value| codec::encode(value, 1 << 20).unwrap()).into();
        let frames: Vec<u8> = [&named, &texts].map(|value| frame::encode(&[], value, 1 << 20).unwrap()).concat();
        let name = Name { cluster, role: Role::Node, node };
        let mut all: Vec<Case> = vec![
            (super::hello, hello::encode(&said, &limits).unwrap().to_vec()),
            (super::hello, hello::encode(&welcome, &limits).unwrap().to_vec()),
            (super::frames, frames),
            (joins, codec::encode(&request, 1 << 20).unwrap()),
            (joins, codec::encode(&answer, 1 << 20).unwrap()),
            (certificates, identity.chain().first().unwrap().to_vec()),
            (names, name.to_string().into_bytes()),
            (names, format!("mobula1.{}.{}", "a".repeat(64), "b".repeat(64)).into_bytes()),
            (closes, [&0x13u64.to_le_bytes()[..], b"operators differ"].concat()),
        ];
        all.extend(values.into_iter().map(|bytes| (super::values as fn(&[u8]), bytes)));
        all
    }

    static GOOD: std::sync::LazyLock<Vec<Case>> = std::sync::LazyLock::new(good);

    #[test]
    fn good_bytes_do_no_harm_either() {
        GOOD.iter().for_each(|(decode, bytes)| decode(bytes));
    }

    proptest! {
        #[test]
        fn no_decoder_is_harmed_by_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            DECODERS.iter().for_each(|(_, decode)| decode(&bytes));
            chosen(&bytes);
        }

        #[test]
        fn no_decoder_is_harmed_by_good_bytes_that_were_changed(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
        ) {
            for (decode, good) in GOOD.iter() {
                let mut bytes = good.clone();
                for (at, byte, how) in &changes {
                    let at = at.index(bytes.len() + 1);
                    match how {
                        0 => bytes.insert(at, *byte),
                        1 => bytes.iter_mut().skip(at).take(1).for_each(|there| *there = *byte),
                        _ => bytes.truncate(at.max(1)),
                    }
                }
                decode(&bytes);
            }
        }
    }
}
