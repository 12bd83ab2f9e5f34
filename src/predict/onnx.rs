//! [`Onnx`]: which model, how it is fed, what becomes of its outputs; and the check against a schema.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use bytes::Bytes as Data;
use mobula_actors::job::Resources;
use mobula_actors::operator::{BatchSize, IntoOperator, Isolation, Object, OperatorSpec, Shared};

use super::CheckedModel;
use super::OnNan;
use super::bind::{Chosen, InputBinding, bind, quoted};
use super::columns::InputColumns;
use super::device::DeviceRows;
use super::engine::{Asker, Dim, Engine, EngineChoice, Model, Signature, Tensor, TensorInfo};
use super::error::PredictError;
use super::operator::{ModelName, OutputBinding, Predictor, Settings, read, warm_key, with_fields};

/// An ONNX model as a step of a dataset.
///
/// ```no_run
/// use mobula::predict::{OnNan, Onnx};
///
/// let model = Onnx::file("ranker.onnx")
///     .input("features", "embedding") // tensor, column; without it the column of the tensor's name
///     .outputs(["score"])             // without it all of them
///     .rename_output("score", "rank")
///     .batch_size(256)
///     .workers(1..=4)
///     .on_nan(OnNan::Allow);
/// ```
#[derive(Debug, Clone)]
pub struct Onnx {
    source: ModelSource,
    inputs: Chosen,
    outputs: Option<Vec<String>>,
    renamed: Vec<(String, String)>,
    batch_size: Option<usize>,
    workers: Option<RangeInclusive<usize>>,
    resources: Resources,
    on_nan: OnNan,
    on_guess: Option<fn(&str, &str)>,
    engine: EngineChoice,
    isolation: Option<Isolation>,
}

/// Where the bytes of a model come from.
#[derive(Clone)]
enum ModelSource {
    File(PathBuf),
    Bytes(Data),
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bytes(_) => f.write_str("given as bytes"),
        }
    }
}

impl fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelSource({self})")
    }
}

impl ModelSource {
    fn read(&self) -> Result<Data, PredictError> {
        match self {
            Self::File(path) => Ok(read(path)?.into()),
            Self::Bytes(bytes) => Ok(bytes.clone()),
        }
    }

    /// The file as a worker finds it: a node has a working directory of its own.
    fn absolute(&self) -> Result<Option<PathBuf>, PredictError> {
        let Self::File(path) = self else { return Ok(None) };
        let absolute = std::path::absolute(path);
        Ok(Some(absolute.map_err(|source| PredictError::Read { path: path.clone(), source })?))
    }

    /// What travels beside the operator. A file may be left behind where it is too large: nodes then look for it at its
    /// path.
    fn object(&self, bytes: Data) -> Object {
        match self {
            Self::File(path) => Object::new(format!("model {}", path.display()), bytes).optional(),
            Self::Bytes(_) => Object::new("the model given as bytes", bytes),
        }
    }
}

impl Onnx {
    /// The model in a file. It is read when the plan is checked, and what was read then is what runs, here and on a
    /// cluster: the bytes reach each node once, so nodes need not have the file. A model that is over the limits of the
    /// cluster's head is read by each node from the same path instead, and has to be the same there.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::new(ModelSource::File(PathBuf::from(path.as_ref())))
    }

    /// The model in memory. On a cluster its bytes reach each node once; the head refuses one that is over its limits.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(ModelSource::Bytes(bytes.into().into()))
    }

    fn new(source: ModelSource) -> Self {
        Self {
            source,
            inputs: Chosen::new(),
            outputs: None,
            renamed: Vec::new(),
            batch_size: None,
            workers: None,
            resources: Resources::default(),
            on_nan: OnNan::default(),
            on_guess: None,
            engine: EngineChoice::default(),
            isolation: None,
        }
    }

    /// Feeds an input of the model from a column, or from several whose values are laid side by side.
    ///
    /// Without it an input takes the column of its own name; a model with one input takes the only column that fits.
    pub fn input(mut self, tensor: impl Into<String>, columns: impl Into<InputColumns>) -> Self {
        self.inputs.insert(tensor.into(), columns.into().0);
        self
    }

    /// Takes only these outputs, in this order. Without it all, in the model's order.
    pub fn outputs(mut self, outputs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.outputs = Some(outputs.into_iter().map(Into::into).collect());
        self
    }

    /// Names the column of an output.
    pub fn rename_output(mut self, output: impl Into<String>, column: impl Into<String>) -> Self {
        self.renamed.push((output.into(), column.into()));
        self
    }

    /// Rows in one run of the model. Without it as many as make about 2 MiB of input, at most 8,192, and fewer
    /// where the rows are so wide that these take more than a block; on GPUs, as many as
    /// make the most rows a second there, which is found while running. On GPUs, fewer where so many do not fit their
    /// memory or take more than 256 MiB.
    pub fn batch_size(mut self, rows: usize) -> Self {
        self.batch_size = Some(rows);
        self
    }

    /// How many workers run it side by side; those of a node share one copy of it. Without it the engine decides.
    pub fn workers(mut self, workers: RangeInclusive<usize>) -> Self {
        self.workers = Some(workers);
        self
    }

    /// What each worker needs. Without it one CPU core. ONNX Runtime runs a model on as many threads as a worker has cores.
    pub fn resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    /// What to do with a NaN in a column that feeds the model. Without it: fail, naming column and row.
    pub fn on_nan(mut self, on_nan: OnNan) -> Self {
        self.on_nan = on_nan;
        self
    }

    /// Calls `tell` with input and column when the plan is checked and an input takes a column of another name only
    /// because no other fits.
    pub fn on_guess(mut self, tell: fn(&str, &str)) -> Self {
        self.on_guess = Some(tell);
        self
    }

    /// Which engine runs the model. Without it the one in pure Rust, on cpus.
    ///
    /// ```no_run
    /// use mobula::predict::Onnx;
    /// use mobula::predict::engine::OnnxRuntime;
    ///
    /// let model = Onnx::file("ranker.onnx").engine(OnnxRuntime::default());
    /// ```
    pub fn engine(mut self, engine: impl Into<EngineChoice>) -> Self {
        self.engine = engine.into();
        self
    }

    /// Runs the model in processes of its own, one for each worker, within these limits: an engine that aborts or never
    /// returns costs a process and an attempt, and one that runs out of memory gets half the rows. Each process loads the
    /// model for itself. When the plan is checked, the model is tried in this process all the same.
    ///
    /// ```no_run
    /// use mobula::prelude::*;
    ///
    /// let limits = Isolation { memory: Some(Bytes::mib(2048)), ..Isolation::default() };
    /// let model = Onnx::file("ranker.onnx").isolated(limits);
    /// ```
    pub fn isolated(mut self, limits: Isolation) -> Self {
        self.isolation = Some(limits);
        self
    }

    /// Reads the model, holds it against the schema of a dataset, and tries it on a made-up batch.
    ///
    /// # Errors
    /// If the file cannot be read or is no model that the engine can run; if an input has no column or one of the wrong
    /// type or shape; if an output would hide a column; if the model fails on a batch of ones of the right shapes.
    pub fn check(&self, schema: &Schema) -> Result<CheckedModel, PredictError> {
        self.check_on(schema, None)
    }

    /// The same where the workers share values: the model that is loaded to be tried is the one that they run.
    pub(crate) fn check_on(&self, schema: &Schema, shared: Option<&Shared>) -> Result<CheckedModel, PredictError> {
        let alone = Shared::default();
        let engine = self.engine_of_plan(shared.is_some())?;
        self.check_by(engine, None, schema, shared.unwrap_or(&alone))
    }

    /// The engine with which a plan is checked, `here` if its workers are in this process too.
    fn engine_of_plan(&self, here: bool) -> Result<Arc<dyn Engine>, PredictError> {
        let engine = self.engine.of_plan(here).engine(self.threads(), Asker::Plan);
        engine.map_err(|source| PredictError::of_engine(self.source.to_string(), source))
    }

    /// Threads that one run may use: the worker's share of the cores.
    fn threads(&self) -> usize {
        (self.resources.cpus as usize).max(1)
    }

    /// Reads the model and tells what it takes and gives, in its own order.
    ///
    /// # Errors
    /// If the file cannot be read or is no model that the engine can load.
    pub fn signature(&self) -> Result<Signature, PredictError> {
        let model = self.load(&*self.engine_of_plan(true)?, &self.source.read()?)?;
        self.check_names(model.signature())?;
        Ok(model.signature().clone())
    }

    /// The same on the engine of a test, instead of the chosen one.
    #[cfg(test)]
    pub(super) fn check_with(
        &self,
        given: Option<Arc<dyn Engine>>,
        schema: &Schema,
        shared: &Shared,
    ) -> Result<CheckedModel, PredictError> {
        let engine = given.clone().map_or_else(|| self.engine_of_plan(true), Ok)?;
        self.check_by(engine, given, schema, shared)
    }

    fn check_by(
        &self,
        engine: Arc<dyn Engine>,
        given: Option<Arc<dyn Engine>>,
        schema: &Schema,
        shared: &Shared,
    ) -> Result<CheckedModel, PredictError> {
        self.check_settings()?;
        let resources = self.worker_resources(given.as_deref())?;
        let bytes = self.source.read()?;
        let object = self.source.object(bytes.clone());
        let name = object.name();
        let load = || self.load(&*engine, &bytes).map(|model| (model, name.bytes));
        let model = shared.check_out(&warm_key(&name, &*engine), load)?;
        let signature = model.signature();
        self.check_names(signature)?;
        let settings = Settings {
            model: ModelName { object: name, path: self.source.absolute()? },
            inputs: bind(signature, schema, &self.inputs)?,
            outputs: self.output_bindings(signature, schema)?,
            rows: fixed_rows(signature)?,
            on_nan: self.on_nan,
            engine: self.engine.clone(),
            threads: self.threads(),
            on_device: self.batch_size.and_then(NonZeroUsize::new).map_or(DeviceRows::Climb, DeviceRows::Rows),
        };
        self.tell_guesses(&settings.inputs);
        let fields = try_out(settings.clone(), given.clone(), &model)?;
        model.give_back();
        let batch_rows = self.batch_size.or(settings.rows).unwrap_or_else(|| default_rows(&settings.inputs));
        Ok(CheckedModel {
            label: self.label(),
            input_columns: settings.inputs.iter().flat_map(|input| input.columns.clone()).collect(),
            schema: Arc::new(with_fields(schema, fields.iter().cloned())),
            fields,
            batch_rows,
            workers: self.workers.clone(),
            resources,
            spec: self.apart(self.spec(settings, given, batch_rows).with_object(object))?,
        })
    }

    /// The operator in processes of its own, if it is to be there.
    fn apart(&self, spec: OperatorSpec) -> Result<OperatorSpec, PredictError> {
        match self.isolation {
            Some(limits) => spec.isolated(limits).map_err(|refused| PredictError::Setting(refused.to_string())),
            None => Ok(spec),
        }
    }

    /// Whether the rows of a batch are found on the device while it runs.
    fn takes_climbing_batches(&self) -> bool {
        self.isolation.is_none()
            && self.engine.gpus(self.resources.gpus).is_ok_and(|gpus| gpus > 0.0)
            && self.batch_size.is_none()
    }

    fn tell_guesses(&self, inputs: &[InputBinding]) {
        let Some(tell) = self.on_guess else { return };
        for input in inputs.iter().filter(|input| !self.inputs.contains_key(&input.tensor)) {
            for column in input.columns.iter().filter(|column| **column != input.tensor) {
                tell(&input.tensor, column);
            }
        }
    }

    /// What each worker needs: for a device without a number a GPU too.
    fn worker_resources(&self, given: Option<&dyn Engine>) -> Result<Resources, PredictError> {
        let gpus = match given {
            Some(engine) if engine.has_gpus() => Ok(self.resources.gpus),
            _ => self.engine.gpus(self.resources.gpus),
        };
        Ok(Resources { gpus: gpus.map_err(PredictError::Setting)?, ..self.resources.clone() })
    }

    fn check_settings(&self) -> Result<(), PredictError> {
        if self.batch_size == Some(0) {
            return Err(PredictError::Setting("the batch size of a model is at least 1 row".to_owned()));
        }
        match &self.workers {
            Some(workers) if workers.is_empty() || *workers.start() == 0 => Err(PredictError::Setting(format!(
                "a model has at least 1 worker and at most as many as its upper bound, not {}..={}",
                workers.start(),
                workers.end()
            ))),
            _ => Ok(()),
        }
    }

    fn load(&self, engine: &dyn Engine, bytes: &[u8]) -> Result<Arc<dyn Model>, PredictError> {
        engine.load(bytes).map_err(|source| PredictError::of_engine(self.source.to_string(), source))
    }

    /// Every tensor that the user names is in the model.
    fn check_names(&self, signature: &Signature) -> Result<(), PredictError> {
        for tensor in self.inputs.keys() {
            self.find(&signature.inputs, "input", tensor)?;
        }
        let outputs = self.outputs.iter().flatten().chain(self.renamed.iter().map(|(output, _)| output));
        for tensor in outputs {
            self.find(&signature.outputs, "output", tensor)?;
        }
        Ok(())
    }

    fn find(&self, there: &[TensorInfo], role: &'static str, tensor: &str) -> Result<(), PredictError> {
        if there.iter().any(|info| info.name == tensor) {
            return Ok(());
        }
        let choices = quoted(there.iter().map(|info| info.name.as_str()));
        Err(PredictError::NoTensor { model: self.source.to_string(), role, tensor: tensor.to_owned(), choices })
    }

    fn output_bindings(&self, signature: &Signature, schema: &Schema) -> Result<Vec<OutputBinding>, PredictError> {
        let all = || signature.outputs.iter().map(|info| info.name.clone()).collect();
        let mut bindings: Vec<OutputBinding> = Vec::new();
        for tensor in self.outputs.clone().unwrap_or_else(all) {
            let renamed = self.renamed.iter().rev().find(|(output, _)| *output == tensor);
            let column = renamed.map_or_else(|| tensor.clone(), |(_, column)| column.clone());
            let taken = schema.field_with_name(&column).is_ok() || bindings.iter().any(|b| b.column == column);
            if taken {
                return Err(PredictError::Collision { output: tensor, column });
            }
            bindings.push(OutputBinding { tensor, column });
        }
        Ok(bindings)
    }

    fn spec(&self, settings: Settings, given: Option<Arc<dyn Engine>>, batch_rows: usize) -> OperatorSpec {
        let fixed = settings.rows.is_some();
        let spec = match given {
            None => Predictor::new(settings, None).into_operator(),
            // The registered operator knows no engine of a test.
            given => OperatorSpec::local("an engine of a test", move || {
                Ok(Box::new(Predictor::new(settings.clone(), given.clone())))
            }),
        };
        // What the user or the model says is kept to; what was chosen here gives way to rows that are wide.
        let says = if self.batch_size.is_some() || fixed { BatchSize::Rows } else { BatchSize::UpTo };
        let rows = match self.takes_climbing_batches() {
            true => BatchSize::Auto,
            false => NonZeroUsize::new(batch_rows).map_or(BatchSize::Auto, says),
        };
        spec.labelled(self.label()).with_batch(rows)
    }

    fn label(&self) -> String {
        match &self.source {
            ModelSource::File(path) => {
                format!("predict {}", path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
            }
            ModelSource::Bytes(_) => "predict".to_owned(),
        }
    }
}

/// Rows of each run of a model whose batch dimension is fixed; larger batches run in parts, the last filled up.
fn fixed_rows(signature: &Signature) -> Result<Option<usize>, PredictError> {
    let mut rows = None;
    for input in &signature.inputs {
        let Some(Dim::Fixed(fixed)) = input.shape.first() else { continue };
        if *fixed == 0 || rows.is_some_and(|other| other != *fixed) {
            let shapes: Vec<String> = signature.inputs.iter().map(TensorInfo::to_string).collect();
            let message = format!("the model's inputs do not agree on the rows of a batch: {}", shapes.join(", "));
            return Err(PredictError::Setting(message));
        }
        rows = Some(*fixed);
    }
    Ok(rows)
}

/// Runs the model on ones as a worker would; gives the fields of the output columns.
fn try_out(
    settings: Settings,
    given: Option<Arc<dyn Engine>>,
    model: &Arc<dyn Model>,
) -> Result<Vec<Field>, PredictError> {
    // Two rows tell an output that follows the batch from one that does not.
    let rows = settings.rows.unwrap_or(2);
    let ones =
        settings.inputs.iter().map(|input| Tensor::ones(input.element, rows, &input.row_shape)).collect::<Vec<_>>();
    let name = settings.model.to_string();
    let mut predictor = Predictor::new(settings, given);
    predictor.accept(model)?;
    // On cores: the driver of a cluster has no device.
    predictor.make_runner(model)?;
    predictor.columns(vec![ones], std::iter::once(rows)).map_err(|source| PredictError::Trial {
        model: name,
        rows,
        source,
    })?;
    Ok(predictor.output_fields())
}

/// Input of one run where the user names no batch size: it fits a core's cache together with what the model makes of
/// it, and handing a run to the engine's thread (some 20 µs) costs little of it. Ten times as much would only add
/// memory and latency; a tenth would make small models spend their time on the hand-over.
const RUN_INPUT_BYTES: usize = 2 << 20;

/// More rows gain nothing for any model that was measured.
const RUN_ROWS_MAX: usize = 8192;

fn default_rows(inputs: &[InputBinding]) -> usize {
    let row_bytes: usize = inputs.iter().map(|input| input.row_len() * input.element.size()).sum();
    (RUN_INPUT_BYTES / row_bytes.max(1)).clamp(1, RUN_ROWS_MAX)
}
