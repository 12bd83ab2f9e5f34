//! The registry of operators in this binary, filled at link time by `#[mobula::remote]` and `#[mobula::operator]`.
//!
//! A library whose items are never mentioned is not linked at all, and its operators are then missing here: mention
//! it (`use my_operators as _;`) in the program.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use linkme::distributed_slice;
use mobula_transport::codec;
use serde::{Serialize, de::DeserializeOwned};

use crate::operator::{BoxError, Operator};
use crate::units::Bytes;

/// One registered operator.
pub struct OperatorEntry {
    /// Its name: module path and identifier.
    pub name: &'static str,
    /// Where it stands in the source, `file:line`, for the error of two operators of one name.
    pub place: &'static str,
    /// Builds it from encoded parameters.
    pub build: BuildOperator,
}

/// Builds an operator from its encoded parameters.
pub type BuildOperator = fn(&[u8]) -> Result<Box<dyn Operator>, BoxError>;

/// All operators linked into this binary.
#[distributed_slice]
pub static OPERATORS: [OperatorEntry];

/// Parameters of one operator are a few numbers and names; models and tables travel as objects.
const PARAMS_BYTES_MAX: Bytes = Bytes::mib(16);

/// Encodes the parameters of an operator.
///
/// # Errors
/// If they are larger than 16 MiB or of a shape that the wire encoding cannot hold.
pub fn encode<T: Serialize>(params: &T) -> Result<Vec<u8>, BoxError> {
    Ok(codec::encode(params, PARAMS_BYTES_MAX.0 as usize)?)
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// If the bytes are not such parameters.
pub fn decode<T: DeserializeOwned>(params: &[u8]) -> Result<T, BoxError> {
    Ok(codec::decode(params, PARAMS_BYTES_MAX.0 as usize)?)
}

/// Builds the operator registered under `name`.
///
/// # Errors
/// If there is none, naming those there are; if two operators of this binary have one name; if the parameters do not
/// decode.
pub fn build(name: &str, params: &[u8]) -> Result<Box<dyn Operator>, BoxError> {
    static BY_NAME: OnceLock<Result<ByName, String>> = OnceLock::new();
    let by_name = BY_NAME.get_or_init(|| index(&OPERATORS)).as_ref().map_err(String::clone)?;
    let entry = by_name.get(name).ok_or_else(|| {
        let known: Vec<_> = by_name.keys().copied().collect();
        format!("no operator {name:?} in this binary; it has: {}", known.join(", "))
    })?;
    (entry.build)(params).map_err(|e| format!("parameters of operator {name:?}: {e}").into())
}

type ByName = BTreeMap<&'static str, &'static OperatorEntry>;

/// Two entries of one name would make a spec mean one operator here and another elsewhere, so they are an error.
fn index(entries: &'static [OperatorEntry]) -> Result<ByName, String> {
    let mut by_name = ByName::new();
    for entry in entries {
        if let Some(other) = by_name.insert(entry.name, entry) {
            let (name, here, there) = (entry.name, other.place, entry.place);
            return Err(format!("two operators are named {name:?}: at {here} and at {there}; rename one of them"));
        }
    }
    Ok(by_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_operators_of_one_name_are_an_error_that_names_both_places() {
        const fn entry(place: &'static str) -> OperatorEntry {
            OperatorEntry { name: "score", place, build: |_| Err("never built".into()) }
        }
        static ENTRIES: [OperatorEntry; 2] = [entry("a.rs:1"), entry("b.rs:2")];
        let error = index(&ENTRIES).err().expect("refused");
        assert_eq!(error, "two operators are named \"score\": at a.rs:1 and at b.rs:2; rename one of them");
    }
}
