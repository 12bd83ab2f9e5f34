//! Constants in expressions, and the Rust values they are made of.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array, new_null_array,
};
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::tree::Expr;
use super::wire::type_text;

/// A constant. `lit` and the methods of [`Expr`] make it from Rust values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Literal {
    /// The null of a type.
    Null(#[serde(with = "type_text")] DataType),
    /// A bool.
    Boolean(bool),
    /// A signed integer of 8 bits.
    Int8(i8),
    /// A signed integer of 16 bits.
    Int16(i16),
    /// A signed integer of 32 bits.
    Int32(i32),
    /// A signed integer of 64 bits.
    Int64(i64),
    /// An unsigned integer of 8 bits.
    UInt8(u8),
    /// An unsigned integer of 16 bits.
    UInt16(u16),
    /// An unsigned integer of 32 bits.
    UInt32(u32),
    /// An unsigned integer of 64 bits.
    UInt64(u64),
    /// A float of 32 bits.
    Float32(f32),
    /// A float of 64 bits.
    Float64(f64),
    /// A string.
    Utf8(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Literal {
    /// Its type.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Null(of) => of.clone(),
            Self::Boolean(_) => DataType::Boolean,
            Self::Int8(_) => DataType::Int8,
            Self::Int16(_) => DataType::Int16,
            Self::Int32(_) => DataType::Int32,
            Self::Int64(_) => DataType::Int64,
            Self::UInt8(_) => DataType::UInt8,
            Self::UInt16(_) => DataType::UInt16,
            Self::UInt32(_) => DataType::UInt32,
            Self::UInt64(_) => DataType::UInt64,
            Self::Float32(_) => DataType::Float32,
            Self::Float64(_) => DataType::Float64,
            Self::Utf8(_) => DataType::Utf8,
            Self::Binary(_) => DataType::Binary,
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null(_))
    }

    /// An array of one value: this.
    pub fn to_array(&self) -> ArrayRef {
        match self {
            Self::Null(of) => new_null_array(of, 1),
            Self::Boolean(v) => Arc::new(BooleanArray::from(vec![*v])),
            Self::Int8(v) => Arc::new(Int8Array::from(vec![*v])),
            Self::Int16(v) => Arc::new(Int16Array::from(vec![*v])),
            Self::Int32(v) => Arc::new(Int32Array::from(vec![*v])),
            Self::Int64(v) => Arc::new(Int64Array::from(vec![*v])),
            Self::UInt8(v) => Arc::new(UInt8Array::from(vec![*v])),
            Self::UInt16(v) => Arc::new(UInt16Array::from(vec![*v])),
            Self::UInt32(v) => Arc::new(UInt32Array::from(vec![*v])),
            Self::UInt64(v) => Arc::new(UInt64Array::from(vec![*v])),
            Self::Float32(v) => Arc::new(Float32Array::from(vec![*v])),
            Self::Float64(v) => Arc::new(Float64Array::from(vec![*v])),
            Self::Utf8(v) => Arc::new(StringArray::from(vec![v.as_str()])),
            Self::Binary(v) => Arc::new(BinaryArray::from(vec![v.as_slice()])),
        }
    }
}

/// As it is written in Rust, with `null` for the null of any type: `5`, `2.0`, `"text"`, `x"00ff"`.
impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null(_) => f.write_str("null"),
            Self::Boolean(v) => write!(f, "{v}"),
            Self::Int8(v) => write!(f, "{v}"),
            Self::Int16(v) => write!(f, "{v}"),
            Self::Int32(v) => write!(f, "{v}"),
            Self::Int64(v) => write!(f, "{v}"),
            Self::UInt8(v) => write!(f, "{v}"),
            Self::UInt16(v) => write!(f, "{v}"),
            Self::UInt32(v) => write!(f, "{v}"),
            Self::UInt64(v) => write!(f, "{v}"),
            Self::Float32(v) => write!(f, "{v:?}"),
            Self::Float64(v) => write!(f, "{v:?}"),
            Self::Utf8(v) => write!(f, "{v:?}"),
            Self::Binary(v) => {
                f.write_str("x\"")?;
                v.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("\"")
            }
        }
    }
}

macro_rules! literal_from {
    ($($rust:ty => $variant:ident),* $(,)?) => {$(
        impl From<$rust> for Literal {
            fn from(value: $rust) -> Self {
                Self::$variant(value.into())
            }
        }

        impl From<Option<$rust>> for Literal {
            fn from(value: Option<$rust>) -> Self {
                value.map_or(Self::Null(DataType::$variant), Self::from)
            }
        }

        impl From<$rust> for Expr {
            fn from(value: $rust) -> Self {
                Self::Literal(value.into())
            }
        }

        impl From<Option<$rust>> for Expr {
            fn from(value: Option<$rust>) -> Self {
                Self::Literal(value.into())
            }
        }
    )*};
}

literal_from! {
    bool => Boolean,
    i8 => Int8,
    i16 => Int16,
    i32 => Int32,
    i64 => Int64,
    u8 => UInt8,
    u16 => UInt16,
    u32 => UInt32,
    u64 => UInt64,
    f32 => Float32,
    f64 => Float64,
    &str => Utf8,
    String => Utf8,
    &[u8] => Binary,
    Vec<u8> => Binary,
}

impl From<Literal> for Expr {
    fn from(value: Literal) -> Self {
        Self::Literal(value)
    }
}
