//! Which engine runs a model: a value that travels with the predictor, and the engine it stands for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Engine;
use super::fake::FakeDevice;
use super::rten::Rten;

/// The engine that a predictor runs its model on, with its options.
///
/// ```
/// use mobula::predict::Onnx;
/// use mobula::predict::engine::EngineChoice;
///
/// let model = Onnx::file("ranker.onnx").engine(EngineChoice::Rten); // which is the default
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EngineChoice {
    /// The engine in pure Rust, on the cores of the worker.
    #[default]
    Rten,
    /// A device that is not there, for tests.
    Fake(FakeDevice),
}

impl EngineChoice {
    /// The engine. Nothing is loaded or opened yet.
    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        match self {
            Self::Rten => Arc::new(Rten),
            Self::Fake(device) => Arc::new(*device),
        }
    }
}
