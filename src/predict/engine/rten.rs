//! The default engine: rten, pure Rust, no system library. `docs/internals/predict.md` has the measurement behind it.
//!
//! rten runs a model inside a thread pool. Parallelism is the business of our workers, one for each core, so each
//! worker's runner has a pool of one thread, made with it; a run starts no thread. The model itself (graph and weights)
//! is not changed by runs, and all workers of a node share it.

use std::sync::Arc;

use rten::{
    DataType as RtenType, Dimension, LoadErrorKind, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView,
    ValueType, ValueView,
};
use rten_tensor::Tensor as RtenTensor;

use super::header::declared_types;
use super::{Dim, Element, Elements, Engine, EngineError, Inputs, Model, Runner, Signature, Tensor, TensorInfo};

/// The engine built on the crate `rten`.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Rten;

impl Engine for Rten {
    fn name(&self) -> &'static str {
        "rten"
    }

    fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Model>, EngineError> {
        // Inside a pool, so that folding constants while loading uses no other threads.
        let load = || ModelOptions::with_all_ops().load(bytes.to_vec());
        let model = ThreadPool::with_num_threads(1).run(load).map_err(load_error)?;
        let signature = signature(&model, bytes)?;
        Ok(Arc::new(RtenModel { model, signature }))
    }
}

struct RtenModel {
    model: rten::Model,
    signature: Signature,
}

impl Model for RtenModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn runner(self: Arc<Self>) -> Box<dyn Runner> {
        let pool = Arc::new(ThreadPool::with_num_threads(1));
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&pool)));
        Box::new(RtenRunner { model: self, pool, options })
    }
}

struct RtenRunner {
    model: Arc<RtenModel>,
    pool: Arc<ThreadPool>,
    options: RunOptions,
}

impl Runner for RtenRunner {
    fn run(&mut self, inputs: Inputs<'_>, outputs: &[&str]) -> Result<Vec<Tensor>, EngineError> {
        self.run_here(inputs, outputs)
    }

    /// Inside the pool, so that the hand-over to its thread and back is paid once for all runs.
    fn run_all(&mut self, runs: Vec<Inputs<'_>>, outputs: &[&str]) -> Result<Vec<Vec<Tensor>>, EngineError> {
        self.pool.run(|| runs.into_iter().map(|inputs| self.run_here(inputs, outputs)).collect())
    }
}

impl RtenRunner {
    fn run_here(&self, inputs: Inputs<'_>, outputs: &[&str]) -> Result<Vec<Tensor>, EngineError> {
        let fed = inputs.iter().map(|(name, tensor)| Ok((self.node(name)?, view(name, tensor)?)));
        let fed = fed.collect::<Result<Vec<_>, EngineError>>()?;
        let wanted = outputs.iter().map(|name| self.node(name)).collect::<Result<Vec<_>, _>>()?;
        let values = self.model.model.run(fed, &wanted, Some(self.options.clone()));
        let values = values.map_err(|error| EngineError::Run(error.to_string()))?;
        outputs.iter().zip(values).map(|(name, value)| tensor(name, value)).collect()
    }

    fn node(&self, name: &str) -> Result<NodeId, EngineError> {
        self.model.model.find_node(name).ok_or_else(|| problem(name, "is not in the model"))
    }
}

/// The tensor as rten sees it, borrowed.
fn view<'a>(name: &str, tensor: &'a Tensor) -> Result<ValueOrView<'a>, EngineError> {
    fn of<'a, T>(name: &str, shape: &[usize], elements: &'a [T]) -> Result<ValueOrView<'a>, EngineError>
    where
        ValueView<'a>: From<rten_tensor::TensorView<'a, T>>,
    {
        let view = ValueView::from_shape(shape, elements).map_err(|error| problem(name, &error.to_string()))?;
        Ok(view.into())
    }
    let shape = &tensor.shape;
    match &tensor.elements {
        Elements::Float32(elements) => of(name, shape, elements),
        Elements::Int32(elements) => of(name, shape, elements),
        Elements::Int8(elements) => of(name, shape, elements),
        Elements::UInt8(elements) => of(name, shape, elements),
        Elements::Float64(_) | Elements::Int64(_) => Err(problem(name, "is of 64 bits, which rten does not carry")),
    }
}

/// The result moved into an Arrow buffer; only a tensor that rten left transposed is copied.
fn tensor(name: &str, value: Value) -> Result<Tensor, EngineError> {
    fn parts<T: Clone>(value: RtenTensor<T>) -> (Vec<usize>, Vec<T>) {
        use rten_tensor::prelude::*;
        (value.shape().to_vec(), value.into_data())
    }
    let (shape, elements) = match value {
        Value::FloatTensor(value) => {
            let (shape, data) = parts(value);
            (shape, Elements::Float32(data.into()))
        }
        Value::Int32Tensor(value) => {
            let (shape, data) = parts(value);
            (shape, Elements::Int32(data.into()))
        }
        Value::Int8Tensor(value) => {
            let (shape, data) = parts(value);
            (shape, Elements::Int8(data.into()))
        }
        Value::UInt8Tensor(value) => {
            let (shape, data) = parts(value);
            (shape, Elements::UInt8(data.into()))
        }
        other => return Err(problem(name, &format!("is a {}, not a tensor of numbers", other.dtype()))),
    };
    Ok(Tensor { shape, elements })
}

fn signature(model: &rten::Model, bytes: &[u8]) -> Result<Signature, EngineError> {
    let declared = declared_types(bytes).map_err(|error| EngineError::Damaged(error.to_string()))?;
    let info = |id: &NodeId| -> Result<TensorInfo, EngineError> {
        let node = model.node_info(*id).ok_or_else(|| EngineError::Damaged("a tensor is missing".into()))?;
        let name = node.name().unwrap_or_default();
        let (declared, element) = declared
            .get(name)
            .and_then(|declared| Some((declared.clone(), element(node.dtype()?)?)))
            .ok_or_else(|| problem(name, "has an element type that no column holds: leave it out when exporting"))?;
        let shape = node.shape().ok_or_else(|| problem(name, NO_SHAPE))?;
        Ok(TensorInfo { name: name.to_owned(), declared, element, shape: shape.into_iter().map(dim).collect() })
    };
    let all = |ids: &[NodeId]| ids.iter().map(info).collect::<Result<Vec<_>, _>>();
    Ok(Signature { inputs: all(model.input_ids())?, outputs: all(model.output_ids())? })
}

const NO_SHAPE: &str = "declares no shape: export the model with shapes, or run onnx.shape_inference on it";

fn dim(dim: Dimension) -> Dim {
    match dim {
        Dimension::Fixed(size) => Dim::Fixed(size),
        Dimension::Symbolic(name) => Dim::Symbolic(name),
    }
}

fn element(value: ValueType) -> Option<Element> {
    match value {
        ValueType::Tensor(RtenType::Float) => Some(Element::Float32),
        ValueType::Tensor(RtenType::Int32) => Some(Element::Int32),
        ValueType::Tensor(RtenType::Int8) => Some(Element::Int8),
        ValueType::Tensor(RtenType::UInt8) => Some(Element::UInt8),
        _ => None,
    }
}

fn load_error(error: rten::LoadError) -> EngineError {
    match error.kind() {
        LoadErrorKind::UnknownFileType | LoadErrorKind::FormatNotEnabled => EngineError::NotAModel,
        LoadErrorKind::OperatorInvalid => EngineError::Unsupported(error.to_string()),
        LoadErrorKind::ExternalDataError => {
            EngineError::Unsupported(format!("{error}; export it with its weights inside the file"))
        }
        _ => EngineError::Damaged(error.to_string()),
    }
}

fn problem(tensor: &str, problem: &str) -> EngineError {
    EngineError::Tensor { tensor: tensor.to_owned(), problem: problem.to_owned() }
}
