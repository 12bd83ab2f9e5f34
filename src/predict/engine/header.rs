//! The declared element types of a model's inputs and outputs, read from the file without its weights.
//!
//! An engine may carry a tensor in another type than the model declares (rten: int64 as int32); columns get the
//! declared one.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use rten_onnx::onnx;
use rten_onnx::protobuf::{DecodeMessage, Fields, OwnedValues, ProtobufError, ReadValue, ValueReader};

/// The declared types by tensor name; tensors of a type that no column can hold are left out.
pub(super) fn declared_types(bytes: &[u8]) -> Result<BTreeMap<String, DataType>, ProtobufError> {
    let model = ModelHeader::decode(ValueReader::from_buf(bytes))?;
    Ok(model.tensors.into_iter().filter_map(declared_type).collect())
}

fn declared_type(info: onnx::ValueInfoProto) -> Option<(String, DataType)> {
    let declared = match info.r#type?.tensor_type?.elem_type? {
        onnx::DataType::FLOAT => DataType::Float32,
        onnx::DataType::DOUBLE => DataType::Float64,
        onnx::DataType::FLOAT16 => DataType::Float16,
        onnx::DataType::INT8 => DataType::Int8,
        onnx::DataType::INT32 => DataType::Int32,
        onnx::DataType::INT64 => DataType::Int64,
        onnx::DataType::UINT8 => DataType::UInt8,
        onnx::DataType::BOOL => DataType::Boolean,
        _ => return None,
    };
    Some((info.name?, declared))
}

/// A `ModelProto` of which only the tensors of the outermost graph are read.
#[derive(Default)]
struct ModelHeader {
    tensors: Vec<onnx::ValueInfoProto>,
}

/// Field numbers of `ModelProto` and `GraphProto` in onnx.proto3.
const MODEL_GRAPH: u64 = 7;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;

impl DecodeMessage for ModelHeader {
    type Types = OwnedValues;

    fn decode_fields<R: ReadValue<Types = Self::Types>>(mut fields: Fields<R>) -> Result<Self, ProtobufError> {
        let mut header = Self::default();
        while let Some(mut field) = fields.next()? {
            if field.number() == MODEL_GRAPH {
                header.tensors.extend(GraphHeader::decode_field(&mut field)?.0);
            } else {
                field.skip()?;
            }
        }
        Ok(header)
    }
}

struct GraphHeader(Vec<onnx::ValueInfoProto>);

impl DecodeMessage for GraphHeader {
    type Types = OwnedValues;

    fn decode_fields<R: ReadValue<Types = Self::Types>>(mut fields: Fields<R>) -> Result<Self, ProtobufError> {
        let mut tensors = Vec::new();
        while let Some(mut field) = fields.next()? {
            match field.number() {
                GRAPH_INPUT | GRAPH_OUTPUT => tensors.push(onnx::ValueInfoProto::decode_field(&mut field)?),
                _ => field.skip()?,
            }
        }
        Ok(Self(tensors))
    }
}
