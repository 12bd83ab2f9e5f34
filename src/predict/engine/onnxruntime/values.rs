//! Tensors into the values of ONNX Runtime and back. It takes each tensor in just the type that the model declares, so
//! only what no [`Elements`] holds (booleans and 16-bit floats) is converted; all else is lent, and results are copied
//! once, out of memory that belongs to the session.

use arrow::array::{AsArray, PrimitiveArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type};
use ort::session::SessionInputValue;
use ort::value::{DynValue, Outlet, PrimitiveTensorElementType, TensorElementType, TensorRef, ValueType};

use super::super::{Dim, Element, Elements, EngineError, Tensor, TensorInfo};

type F16 = <Float16Type as ArrowPrimitiveType>::Native;

/// What the model says about one of its inputs or outputs.
pub(super) fn info(outlet: &Outlet) -> Result<TensorInfo, EngineError> {
    let name = outlet.name();
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        let what = format!(
            "is no tensor but a {}; leave it out when exporting (for scikit-learn: zipmap=False)",
            outlet.dtype()
        );
        return Err(problem(name, &what));
    };
    let (declared, element) = types(*ty).ok_or_else(|| {
        problem(name, &format!("has the element type {ty}, which no column holds: leave it out when exporting"))
    })?;
    if shape.is_empty() {
        return Err(problem(
            name,
            "declares no shape, or none with a batch: export the model with the shapes of batches",
        ));
    }
    let dim = |(i, size): (usize, &i64)| match usize::try_from(*size) {
        Ok(size) => Dim::Fixed(size),
        Err(_) => Dim::Symbolic(dimension_symbols.get(i).filter(|name| !name.is_empty()).map_or("?", |s| s).to_owned()),
    };
    Ok(TensorInfo { name: name.to_owned(), declared, element, shape: shape.iter().enumerate().map(dim).collect() })
}

/// The type of a column, and in which type such a tensor is carried.
fn types(ty: TensorElementType) -> Option<(DataType, Element)> {
    Some(match ty {
        TensorElementType::Float32 => (DataType::Float32, Element::Float32),
        TensorElementType::Float64 => (DataType::Float64, Element::Float64),
        TensorElementType::Float16 => (DataType::Float16, Element::Float32),
        TensorElementType::Int8 => (DataType::Int8, Element::Int8),
        TensorElementType::Int32 => (DataType::Int32, Element::Int32),
        TensorElementType::Int64 => (DataType::Int64, Element::Int64),
        TensorElementType::Uint8 => (DataType::UInt8, Element::UInt8),
        TensorElementType::Bool => (DataType::Boolean, Element::UInt8),
        _ => return None,
    })
}

/// The tensor as the session takes it.
pub(super) fn feed<'a>(info: &TensorInfo, tensor: &'a Tensor) -> Result<SessionInputValue<'a>, EngineError> {
    let shape = &tensor.shape;
    match (&info.declared, &tensor.elements) {
        (DataType::Boolean, Elements::UInt8(values)) => {
            let values: Vec<bool> = values.iter().map(|value| *value != 0).collect();
            owned(info, shape, values)
        }
        (DataType::Float16, Elements::Float32(values)) => owned(info, shape, narrow(values)?),
        (_, elements) if elements.element() != info.element => {
            Err(problem(&info.name, &format!("takes {:?}, not {:?}", info.element, elements.element())))
        }
        (_, Elements::Float32(values)) => lent(info, shape, values),
        (_, Elements::Float64(values)) => lent(info, shape, values),
        (_, Elements::Int32(values)) => lent(info, shape, values),
        (_, Elements::Int64(values)) => lent(info, shape, values),
        (_, Elements::Int8(values)) => lent(info, shape, values),
        (_, Elements::UInt8(values)) => lent(info, shape, values),
    }
}

fn lent<'a, T>(info: &TensorInfo, shape: &[usize], values: &'a [T]) -> Result<SessionInputValue<'a>, EngineError>
where
    T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    let value = TensorRef::from_array_view((shape.to_vec(), values));
    value.map(Into::into).map_err(|error| problem(&info.name, error.message()))
}

fn owned<T>(info: &TensorInfo, shape: &[usize], values: Vec<T>) -> Result<SessionInputValue<'static>, EngineError>
where
    T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    let value = ort::value::Tensor::from_array((shape.to_vec(), values));
    value.map(Into::into).map_err(|error| problem(&info.name, error.message()))
}

/// A result of the session, out of its memory.
pub(super) fn take(info: &TensorInfo, value: &DynValue) -> Result<Tensor, EngineError> {
    let elements = match (&info.declared, info.element) {
        (DataType::Boolean, _) => {
            let values: Vec<u8> = raw::<bool>(info, value)?.iter().map(|value| u8::from(*value)).collect();
            Elements::UInt8(values.into())
        }
        (DataType::Float16, _) => Elements::Float32(widen(raw(info, value)?)?),
        (_, Element::Float32) => Elements::Float32(copy(info, value)?),
        (_, Element::Float64) => Elements::Float64(copy(info, value)?),
        (_, Element::Int32) => Elements::Int32(copy(info, value)?),
        (_, Element::Int64) => Elements::Int64(copy(info, value)?),
        (_, Element::Int8) => Elements::Int8(copy(info, value)?),
        (_, Element::UInt8) => Elements::UInt8(copy(info, value)?),
    };
    let shape = value.shape().iter().map(|size| usize::try_from(*size).unwrap_or_default()).collect();
    Ok(Tensor { shape, elements })
}

fn copy<T>(info: &TensorInfo, value: &DynValue) -> Result<ScalarBuffer<T>, EngineError>
where
    T: PrimitiveTensorElementType + arrow::datatypes::ArrowNativeType,
{
    Ok(raw::<T>(info, value)?.to_vec().into())
}

fn raw<'v, T: PrimitiveTensorElementType>(info: &TensorInfo, value: &'v DynValue) -> Result<&'v [T], EngineError> {
    // Of an empty tensor it may have no memory at all, which makes no slice.
    if value.shape().iter().product::<i64>() == 0 {
        return Ok(&[]);
    }
    let extracted = value.try_extract_tensor::<T>();
    extracted.map(|(_, values)| values).map_err(|error| problem(&info.name, error.message()))
}

fn narrow(values: &ScalarBuffer<f32>) -> Result<Vec<F16>, EngineError> {
    let wide = PrimitiveArray::<Float32Type>::new(values.clone(), None);
    let narrow = cast(&wide, &DataType::Float16).map_err(|error| EngineError::Run(error.to_string()))?;
    Ok(narrow.as_primitive::<Float16Type>().values().to_vec())
}

fn widen(values: &[F16]) -> Result<ScalarBuffer<f32>, EngineError> {
    let narrow = PrimitiveArray::<Float16Type>::new(values.to_vec().into(), None);
    let wide = cast(&narrow, &DataType::Float32).map_err(|error| EngineError::Run(error.to_string()))?;
    Ok(wide.as_primitive::<Float32Type>().values().clone())
}

pub(super) fn problem(tensor: &str, problem: &str) -> EngineError {
    EngineError::Tensor { tensor: tensor.to_owned(), problem: problem.to_owned() }
}
