//! What ONNX Runtime says when something fails, as the errors of engines. It has few codes, and puts most of the truth in
//! words; so this looks for words. Pure.

use ort::ErrorCode;

use super::super::{DeviceChoice, EngineError};

/// Words for memory that is not to be had: of its own arena, of C++, of CUDA and its libraries.
const OUT_OF_MEMORY: [&str; 6] =
    ["out of memory", "failed to allocate memory", "bad_alloc", "bad allocation", "alloc_failed", "outofmemory"];

/// Words for an operator that it does not know, or not for these types.
const UNKNOWN: [&str; 4] =
    ["no op registered", "is not a registered function/op", "could not find an implementation", "not implemented"];

/// Words for a device that failed rather than the model.
const OF_DEVICE: [&str; 4] = ["cuda", "cudnn", "cublas", "tensorrt"];

/// Why a model cannot be loaded from these bytes.
pub(super) fn of_load(code: ErrorCode, message: &str, bytes: &[u8], device: DeviceChoice) -> EngineError {
    match code {
        _ if has(message, &OUT_OF_MEMORY) => EngineError::OutOfMemory(message.to_owned()),
        ErrorCode::InvalidProtobuf | ErrorCode::NoModel if !begins_as_model(bytes) => EngineError::NotAModel,
        ErrorCode::InvalidProtobuf | ErrorCode::NoModel => EngineError::Damaged(message.to_owned()),
        _ if has(message, &UNKNOWN) || code == ErrorCode::NotImplemented => {
            EngineError::Unsupported(message.to_owned())
        }
        _ if has(message, &["external data", "external initializer"]) => {
            EngineError::Unsupported(format!("{message}; export it with its weights inside the file"))
        }
        ErrorCode::InvalidGraph => EngineError::Damaged(message.to_owned()),
        _ if device != DeviceChoice::Cpu && of_device(code, message) => of_device_error(message, device),
        _ => EngineError::Damaged(message.to_owned()),
    }
}

/// Why a run failed.
pub(super) fn of_run(code: ErrorCode, message: &str, device: DeviceChoice) -> EngineError {
    match code {
        _ if has(message, &OUT_OF_MEMORY) => EngineError::OutOfMemory(message.to_owned()),
        _ if device != DeviceChoice::Cpu && of_device(code, message) => {
            EngineError::DeviceLost(format!("{device}: {message}"))
        }
        _ => EngineError::Run(message.to_owned()),
    }
}

pub(super) fn of_device_error(message: &str, device: DeviceChoice) -> EngineError {
    EngineError::Device { device: device.to_string(), reason: message.trim_end().to_owned() }
}

fn of_device(code: ErrorCode, message: &str) -> bool {
    let by_code = matches!(code, ErrorCode::ExecutionProviderFailure | ErrorCode::EngineError | ErrorCode::DeviceReset);
    by_code || has(message, &OF_DEVICE)
}

fn has(message: &str, words: &[&str]) -> bool {
    let message = message.to_lowercase();
    words.iter().any(|word| message.contains(word))
}

/// The first field of every model that a tool wrote is the version of its format: field 1, a number.
fn begins_as_model(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x08)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(code: ErrorCode, message: &str, bytes: &[u8]) -> String {
        of_load(code, message, bytes, DeviceChoice::Cuda(Some(1))).to_string()
    }

    #[test]
    fn bytes_that_are_no_model_are_told_from_a_model_that_was_cut() {
        let failed = "Protobuf parsing failed.";
        assert_eq!(load(ErrorCode::InvalidProtobuf, failed, b"[package]"), "it is not an ONNX model");
        let cut = load(ErrorCode::InvalidProtobuf, failed, &[0x08, 0x07]);
        assert_eq!(cut, "the file is damaged or cut short: Protobuf parsing failed.");
    }

    #[test]
    fn an_operator_that_is_not_known_is_no_damage() {
        let unknown = "Fatal error: Teleport(-1) is not a registered function/op";
        assert!(load(ErrorCode::GenericFailure, unknown, &[0x08]).starts_with("the engine cannot run it: "));
        let types = "Could not find an implementation for Celu(12) node with name 'celu'";
        assert!(load(ErrorCode::NotImplemented, types, &[0x08]).starts_with("the engine cannot run it: "));
    }

    #[test]
    fn memory_and_devices_are_told_from_models_that_fail() {
        let device = DeviceChoice::Cuda(Some(1));
        let full = "Failed to allocate memory for requested buffer of size 4096";
        assert!(matches!(of_run(ErrorCode::GenericFailure, full, device), EngineError::OutOfMemory(_)));
        let full = "CUDA failure 2: out of memory ; GPU=1";
        assert!(matches!(of_run(ErrorCode::GenericFailure, full, device), EngineError::OutOfMemory(_)));
        let lost = "CUDA failure 700: an illegal memory access was encountered ; GPU=1";
        assert!(matches!(of_run(ErrorCode::GenericFailure, lost, device), EngineError::DeviceLost(_)));
        assert!(load(ErrorCode::GenericFailure, lost, &[0x08]).starts_with("device cuda:1 cannot be used: CUDA"));
        let shape = "Non-zero status code returned while running Reshape node";
        assert!(matches!(of_run(ErrorCode::RuntimeException, shape, device), EngineError::Run(_)));
    }
}
