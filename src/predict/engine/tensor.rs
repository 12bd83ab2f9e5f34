//! Tensors on their way into and out of an engine: a shape over a shared Arrow buffer, so that neither way copies.

use arrow::buffer::ScalarBuffer;
use arrow::datatypes::ArrowNativeType;
use serde::{Deserialize, Serialize};

/// The element types that engines carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Element {
    /// 32-bit float.
    Float32,
    /// 64-bit float.
    Float64,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// 8-bit signed integer.
    Int8,
    /// 8-bit unsigned integer.
    UInt8,
}

/// The elements of a tensor, row by row.
#[derive(Debug, Clone)]
pub enum Elements {
    /// 32-bit floats.
    Float32(ScalarBuffer<f32>),
    /// 64-bit floats.
    Float64(ScalarBuffer<f64>),
    /// 32-bit signed integers.
    Int32(ScalarBuffer<i32>),
    /// 64-bit signed integers.
    Int64(ScalarBuffer<i64>),
    /// 8-bit signed integers.
    Int8(ScalarBuffer<i8>),
    /// 8-bit unsigned integers.
    UInt8(ScalarBuffer<u8>),
}

/// A shape and its elements; the last dimension lies closest together.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// As many elements as the product of the shape.
    pub elements: Elements,
}

impl Element {
    /// Bytes that one element takes.
    pub fn size(self) -> usize {
        match self {
            Self::Float64 | Self::Int64 => 8,
            Self::Float32 | Self::Int32 => 4,
            Self::Int8 | Self::UInt8 => 1,
        }
    }
}

impl Elements {
    /// Their type.
    pub fn element(&self) -> Element {
        match self {
            Self::Float32(_) => Element::Float32,
            Self::Float64(_) => Element::Float64,
            Self::Int32(_) => Element::Int32,
            Self::Int64(_) => Element::Int64,
            Self::Int8(_) => Element::Int8,
            Self::UInt8(_) => Element::UInt8,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Float32(values) => values.len(),
            Self::Float64(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Int8(values) => values.len(),
            Self::UInt8(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` of them from `first` on.
    fn slice(&self, first: usize, len: usize) -> Self {
        match self {
            Self::Float32(values) => Self::Float32(values.slice(first, len)),
            Self::Float64(values) => Self::Float64(values.slice(first, len)),
            Self::Int32(values) => Self::Int32(values.slice(first, len)),
            Self::Int64(values) => Self::Int64(values.slice(first, len)),
            Self::Int8(values) => Self::Int8(values.slice(first, len)),
            Self::UInt8(values) => Self::UInt8(values.slice(first, len)),
        }
    }

    /// Filled up with zeros to `len`.
    fn padded(&self, len: usize) -> Self {
        match self {
            Self::Float32(values) => Self::Float32(padded(values, len)),
            Self::Float64(values) => Self::Float64(padded(values, len)),
            Self::Int32(values) => Self::Int32(padded(values, len)),
            Self::Int64(values) => Self::Int64(padded(values, len)),
            Self::Int8(values) => Self::Int8(padded(values, len)),
            Self::UInt8(values) => Self::UInt8(padded(values, len)),
        }
    }

    /// `len` ones.
    fn ones(element: Element, len: usize) -> Self {
        match element {
            Element::Float32 => Self::Float32(vec![1.0; len].into()),
            Element::Float64 => Self::Float64(vec![1.0; len].into()),
            Element::Int32 => Self::Int32(vec![1; len].into()),
            Element::Int64 => Self::Int64(vec![1; len].into()),
            Element::Int8 => Self::Int8(vec![1; len].into()),
            Element::UInt8 => Self::UInt8(vec![1; len].into()),
        }
    }
}

impl Tensor {
    /// `rows` rows of ones: a batch to try a model with, since a one is a valid index, divisor and logarithm.
    pub(crate) fn ones(element: Element, rows: usize, row_shape: &[usize]) -> Self {
        let shape: Vec<usize> = std::iter::once(rows).chain(row_shape.iter().copied()).collect();
        Self { elements: Elements::ones(element, shape.iter().product()), shape }
    }

    /// `len` rows from `first` on, without a copy.
    pub(crate) fn rows(&self, first: usize, len: usize) -> Self {
        let row: usize = self.shape.iter().skip(1).product();
        self.reshaped(len, self.elements.slice(first * row, len * row))
    }

    /// With rows of zeros behind its own, `rows` in all.
    pub(crate) fn padded(&self, rows: usize) -> Self {
        let row: usize = self.shape.iter().skip(1).product();
        self.reshaped(rows, self.elements.padded(rows * row))
    }

    fn reshaped(&self, rows: usize, elements: Elements) -> Self {
        let shape = std::iter::once(rows).chain(self.shape.iter().skip(1).copied()).collect();
        Self { shape, elements }
    }
}

fn padded<T: ArrowNativeType>(values: &ScalarBuffer<T>, len: usize) -> ScalarBuffer<T> {
    if len <= values.len() {
        return values.clone();
    }
    let mut longer = Vec::with_capacity(len);
    longer.extend_from_slice(values);
    longer.resize(len, T::default());
    longer.into()
}
