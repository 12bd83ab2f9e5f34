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
    /// Builds it from encoded parameters.
    pub build: fn(&[u8]) -> Result<Box<dyn Operator>, BoxError>,
}

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
/// If there is none, naming those there are, or its parameters do not decode.
pub fn build(name: &str, params: &[u8]) -> Result<Box<dyn Operator>, BoxError> {
    static BY_NAME: OnceLock<BTreeMap<&'static str, &'static OperatorEntry>> = OnceLock::new();
    let by_name = BY_NAME.get_or_init(|| OPERATORS.iter().map(|entry| (entry.name, entry)).collect());
    let entry = by_name.get(name).ok_or_else(|| {
        let known: Vec<_> = by_name.keys().copied().collect();
        format!("no operator {name:?} in this binary; it has: {}", known.join(", "))
    })?;
    (entry.build)(params).map_err(|e| format!("parameters of operator {name:?}: {e}").into())
}
