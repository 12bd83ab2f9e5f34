//! A second engine: a model written down in a test, which adds up each row of all its inputs.

use arrow::datatypes::DataType;

use std::sync::Arc;

use crate::predict::engine::{
    Dim, Element, Elements, Engine, EngineError, Model, Runner, Signature, Tensor, TensorInfo,
};

/// Loads the model whatever the bytes say.
#[derive(Debug, Clone)]
pub(super) struct Fake(pub(super) Signature);

impl Engine for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn load(&self, _: &[u8]) -> Result<Arc<dyn Model>, EngineError> {
        Ok(Arc::new(Sum(self.0.clone())))
    }
}

struct Sum(Signature);

struct SumRunner(Arc<Sum>);

impl Model for Sum {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn runner(self: Arc<Self>) -> Box<dyn Runner> {
        Box::new(SumRunner(self))
    }
}

impl Runner for SumRunner {
    /// Each output has the sum of the row in each of its elements; symbolic dimensions are 3.
    fn run(&mut self, inputs: Vec<(&str, Tensor)>, outputs: &[&str]) -> Result<Vec<Tensor>, EngineError> {
        let rows = inputs.first().and_then(|(_, tensor)| tensor.shape.first().copied()).unwrap_or(0);
        let sums: Vec<f32> =
            (0..rows).map(|row| inputs.iter().map(|(_, tensor)| sum(tensor, rows, row)).sum()).collect();
        let find = |name: &&str| self.0.0.outputs.iter().find(|info| info.name == *name).expect("a known output");
        Ok(outputs.iter().map(|name| output(find(name), &sums)).collect())
    }
}

fn sum(tensor: &Tensor, rows: usize, row: usize) -> f32 {
    let width = tensor.elements.len() / rows;
    let values: Vec<f32> = match &tensor.elements {
        Elements::Float32(values) => values.to_vec(),
        Elements::Float64(values) => values.iter().map(|value| *value as f32).collect(),
        Elements::Int64(values) => values.iter().map(|value| *value as f32).collect(),
        Elements::Int32(values) => values.iter().map(|value| *value as f32).collect(),
        Elements::Int8(values) => values.iter().map(|value| f32::from(*value)).collect(),
        Elements::UInt8(values) => values.iter().map(|value| f32::from(*value)).collect(),
    };
    values[row * width..(row + 1) * width].iter().sum()
}

fn output(info: &TensorInfo, sums: &[f32]) -> Tensor {
    let row: Vec<usize> = info.shape[1..].iter().map(|dim| if let Dim::Fixed(n) = dim { *n } else { 3 }).collect();
    let width: usize = row.iter().product();
    let repeated = sums.iter().flat_map(|sum| std::iter::repeat_n(*sum, width));
    let elements = match info.element {
        Element::Int32 => Elements::Int32(repeated.map(|sum| sum as i32).collect::<Vec<_>>().into()),
        _ => Elements::Float32(repeated.collect::<Vec<_>>().into()),
    };
    Tensor { shape: std::iter::once(sums.len()).chain(row).collect(), elements }
}

/// `batch` and other words are symbolic, numbers are fixed.
pub(super) fn tensor(name: &str, declared: DataType, shape: &[&str]) -> TensorInfo {
    let element = match declared {
        DataType::Int8 => Element::Int8,
        DataType::UInt8 => Element::UInt8,
        DataType::Int32 | DataType::Int64 | DataType::Boolean => Element::Int32,
        _ => Element::Float32,
    };
    let dim = |dim: &&str| dim.parse().map_or_else(|_| Dim::Symbolic((*dim).to_owned()), Dim::Fixed);
    TensorInfo { name: name.to_owned(), declared, element, shape: shape.iter().map(dim).collect() }
}

/// A model with these inputs and a `sum` for each row.
pub(super) fn model(inputs: Vec<TensorInfo>) -> Fake {
    Fake(Signature { inputs, outputs: vec![tensor("sum", DataType::Float32, &["batch"])] })
}
