//! The predictor: the registered operator that runs a checked model on a worker.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use mobula_actors::operator::{
    CheckedOut, ObjectError, ObjectName, OnDevice, OpenContext, Operator, OperatorResult, Output, Shared,
};
use mobula_actors::units::Bytes;
use serde::{Deserialize, Serialize};

use super::bind::{InputBinding, quoted};
use super::device::DeviceRows;
use super::engine::{Asker, Device, Engine, EngineChoice, Inputs, Model, Runner, Tensor, TensorInfo};
use super::error::{BatchError, PredictError};
use super::{OnNan, input, output};

/// Which model a worker runs: that of these bytes, wherever they come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ModelName {
    /// Its bytes, which come with the operator.
    pub(super) object: ObjectName,
    /// Where else they may be: the file that was checked, by its absolute path.
    pub(super) path: Option<PathBuf>,
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}", path.display()),
            None => f.write_str("given as bytes"),
        }
    }
}

/// Most that a model file has: a protobuf message, which ONNX is, ends at 2 GiB.
pub(super) const MODEL_BYTES_MAX: Bytes = Bytes::mib(2 << 10);

/// Reads a model file. What is no regular file is not even opened: a pipe may never begin and a device never end.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PredictError> {
    let unreadable = |source| PredictError::Read { path: path.to_owned(), source };
    let file = std::fs::metadata(path).map_err(unreadable)?;
    let bytes = Bytes(file.len());
    match path.to_owned() {
        path if file.is_dir() => Err(PredictError::Directory { path }),
        path if !file.is_file() => Err(PredictError::NotAFile { path }),
        path if bytes > MODEL_BYTES_MAX => Err(PredictError::TooLarge { path, bytes, limit: MODEL_BYTES_MAX }),
        path => std::fs::read(path).map_err(unreadable),
    }
}

/// Reads a model file that has to be the one that was checked.
fn read_same(path: &Path, object: &ObjectName) -> Result<Vec<u8>, PredictError> {
    let bytes = read(path)?;
    object.verify(&bytes).map_err(|_| PredictError::Changed { path: path.to_owned() })?;
    Ok(bytes)
}

/// The name of a loaded model among the warm values of a node.
pub(super) fn warm_key(object: &ObjectName, engine: &dyn Engine) -> String {
    format!("model {} of {} {}", object.id.hex(), engine.name(), engine.options())
}

/// One output of the model and the column it becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutputBinding {
    pub(super) tensor: String,
    pub(super) column: String,
}

/// What a predictor does: its parameters when it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) model: ModelName,
    pub(super) inputs: Vec<InputBinding>,
    pub(super) outputs: Vec<OutputBinding>,
    /// Rows of each run, for a model whose batch dimension is fixed.
    pub(super) rows: Option<usize>,
    pub(super) on_nan: OnNan,
    pub(super) engine: EngineChoice,
    /// Threads that one run may use: the worker's share of the cores.
    pub(super) threads: usize,
    /// How rows are cut where it runs on a device.
    pub(super) on_device: DeviceRows,
}

/// The operator.
#[derive(Serialize, Deserialize)]
pub(super) struct Predictor {
    pub(super) settings: Settings,
    /// Instead of the one that the settings choose: of a test.
    #[serde(skip)]
    given: Option<Arc<dyn Engine>>,
    /// Made by `open`.
    #[serde(skip)]
    loaded: Option<Loaded>,
    /// Where it runs: what the worker has a lease of.
    #[serde(skip)]
    pub(super) device: Device,
    /// The model that `open` checked out, given back at the end unless it may be torn.
    #[serde(skip)]
    pub(super) model: Option<CheckedOut<Arc<dyn Model>>>,
    /// Whether a call broke off in the engine's hands.
    #[serde(skip)]
    pub(super) torn: bool,
}

/// A model ready to run, and what it takes to name its results.
struct Loaded {
    /// `None` until it is needed on this thread: where a device has a thread of its own, it never is.
    runner: Option<Box<dyn Runner>>,
    outputs: Vec<TensorInfo>,
    /// The schemas of the last batch in and out: batches of a job share one, so it is made once.
    schemas: Option<(SchemaRef, SchemaRef)>,
}

#[mobula_actors::operator(crate = mobula_actors, name = "mobula/predict@1")]
impl Operator for Predictor {
    fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
        let object = self.settings.model.object;
        let engine = self.engine()?;
        let key = warm_key(&object, &*engine);
        // Once loaded it takes about as much as its file.
        let model =
            ctx.shared.check_out(&key, || self.load(&*engine, &ctx.shared).map(|model| (model, object.bytes)))?;
        self.accept(model.value().as_ref())?;
        self.device = ctx.gpus.first().map_or(Device::Cpu, |ordinal| Device::Gpu(*ordinal));
        if self.device == Device::Cpu {
            self.make_runner(model.value().as_ref())?;
        }
        self.model = Some(model);
        Ok(())
    }

    fn on_device(&mut self) -> Option<&mut dyn OnDevice> {
        Some(self)
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        // Some models refuse a batch of no rows.
        if batch.num_rows() > 0 {
            self.process_all(vec![batch], out)?;
        }
        Ok(())
    }

    fn process_all(&mut self, batches: Vec<RecordBatch>, out: &mut Output) -> OperatorResult {
        // A panic leaves it so.
        self.torn = true;
        let predicted = self.predict(&batches);
        self.torn = matches!(predicted, Err(BatchError::Engine(_)));
        predicted?.into_iter().for_each(|batch| out.emit(batch));
        Ok(())
    }

    fn close(&mut self) -> OperatorResult {
        self.let_go();
        Ok(())
    }
}

impl Predictor {
    /// `given` is the engine of a test, instead of the one that the settings choose.
    pub(super) fn new(settings: Settings, given: Option<Arc<dyn Engine>>) -> Self {
        Self { settings, given, loaded: None, device: Device::Cpu, model: None, torn: false }
    }

    fn engine(&self) -> Result<Arc<dyn Engine>, PredictError> {
        let chosen = || self.settings.engine.engine(self.settings.threads, Asker::Worker);
        let engine = self.given.clone().map_or_else(chosen, Ok);
        engine.map_err(|source| PredictError::of_engine(self.settings.model.to_string(), source))
    }

    /// The model is for the next worker. One that may be torn is for nobody: who needs it loads a fresh one.
    fn let_go(&mut self) {
        self.loaded = None;
        if let Some(model) = self.model.take().filter(|_| !self.torn) {
            model.give_back();
        }
    }

    /// Loads the model from the bytes that came with the operator, or from its file if that still has them.
    fn load(&self, engine: &dyn Engine, shared: &Shared) -> Result<Arc<dyn Model>, PredictError> {
        let ModelName { object, path } = &self.settings.model;
        let model = || self.settings.model.to_string();
        let load = |bytes: &[u8]| engine.load(bytes).map_err(|source| PredictError::of_engine(model(), source));
        match (shared.object(object), path) {
            (Ok(bytes), _) => {
                let loaded = load(&bytes)?;
                bytes.forget();
                Ok(loaded)
            }
            (Err(ObjectError::Missing(_)), Some(path)) => load(&read_same(path, object)?),
            (Err(object_error), Some(path)) => match read_same(path, object) {
                Ok(bytes) => load(&bytes),
                Err(file) => Err(PredictError::Away { object: object_error, file: Box::new(file) }),
            },
            (Err(source), None) => Err(PredictError::Object { model: model(), source }),
        }
    }

    /// Takes a loaded model.
    pub(super) fn accept(&mut self, model: &Arc<dyn Model>) -> Result<(), PredictError> {
        let there = &model.signature().outputs;
        let find = |output: &OutputBinding| {
            there.iter().find(|info| info.name == output.tensor).cloned().ok_or_else(|| PredictError::NoTensor {
                model: self.settings.model.to_string(),
                role: "output",
                tensor: output.tensor.clone(),
                choices: quoted(there.iter().map(|info| info.name.as_str())),
            })
        };
        let outputs = self.settings.outputs.iter().map(find).collect::<Result<_, _>>()?;
        self.loaded = Some(Loaded { runner: None, outputs, schemas: None });
        Ok(())
    }

    /// Makes what the model is run with on this thread.
    pub(super) fn make_runner(&mut self, model: &Arc<dyn Model>) -> Result<(), PredictError> {
        let (device, name) = (self.device, || self.settings.model.to_string());
        let runner = Arc::clone(model).runner_on(device);
        let runner = runner.map_err(|source| PredictError::of_runner(name(), device, source))?;
        if let Some(loaded) = &mut self.loaded {
            loaded.runner = Some(runner);
        }
        Ok(())
    }

    /// The fields of the output columns.
    pub(super) fn output_fields(&self) -> Vec<Field> {
        let outputs = self.loaded.iter().flat_map(|loaded| &loaded.outputs);
        outputs.zip(&self.settings.outputs).map(|(info, to)| output::field(info, &to.column)).collect()
    }

    /// The batches, each with the model's outputs behind its own columns.
    pub(super) fn predict(&mut self, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>, BatchError> {
        let tensors = batches.iter().map(|batch| self.tensors(batch)).collect::<Result<Vec<_>, _>>()?;
        let predicted = self.columns(tensors, batches.iter().map(RecordBatch::num_rows))?;
        batches.iter().zip(predicted).map(|(batch, predicted)| self.append(batch, predicted)).collect()
    }

    pub(super) fn tensors(&self, batch: &RecordBatch) -> Result<Vec<Tensor>, BatchError> {
        let bindings = self.settings.inputs.iter();
        bindings.map(|binding| input::tensor(binding, batch, self.settings.on_nan)).collect()
    }

    /// The batch with these columns behind its own.
    pub(super) fn append(&mut self, batch: &RecordBatch, predicted: Vec<ArrayRef>) -> Result<RecordBatch, BatchError> {
        let schema = self.schema(batch.schema());
        let columns = batch.columns().iter().cloned().chain(predicted).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// The columns that the model makes of each of these batches of inputs, which have `rows` rows.
    pub(super) fn columns(
        &mut self,
        batches: Vec<Vec<Tensor>>,
        rows: impl Iterator<Item = usize>,
    ) -> Result<Vec<Vec<ArrayRef>>, BatchError> {
        if let Some(model) = self.model.as_ref().map(|model| Arc::clone(model.value().as_ref()))
            && self.loaded.as_ref().is_some_and(|loaded| loaded.runner.is_none())
        {
            self.make_runner(&model).map_err(|error| BatchError::Runner(Box::new(error)))?;
        }
        let loaded = self.loaded.as_mut().expect("the model is loaded by `open`");
        let runner = loaded.runner.as_mut().expect("a runner is made before the first batch");
        let settings = &self.settings;
        let outputs = settings.output_names();
        let (mut runs, mut cuts) = (Vec::new(), Vec::new());
        for (tensors, rows) in batches.into_iter().zip(rows) {
            let cut = Cut::of(settings, rows);
            runs.extend(cut.runs_of(tensors).into_iter().map(|tensors| settings.named(tensors)));
            cuts.push(cut);
        }
        let mut results = runner.run_all(runs, &outputs)?.into_iter();
        cuts.into_iter().map(|cut| loaded.columns(cut, &mut results)).collect()
    }

    /// The columns of one batch, from the results of its runs.
    pub(super) fn columns_of(&self, cut: Cut, results: Vec<Vec<Tensor>>) -> Result<Vec<ArrayRef>, BatchError> {
        let loaded = self.loaded.as_ref().expect("the model is loaded by `open`");
        loaded.columns(cut, &mut results.into_iter())
    }

    /// The schema of the batch with the outputs behind it.
    fn schema(&mut self, before: SchemaRef) -> SchemaRef {
        let known = self.loaded.as_ref().and_then(|loaded| loaded.schemas.as_ref());
        if let Some((last, after)) = known
            && Arc::ptr_eq(last, &before)
        {
            return Arc::clone(after);
        }
        let after = Arc::new(with_fields(&before, self.output_fields()));
        if let Some(loaded) = &mut self.loaded {
            loaded.schemas = Some((before, Arc::clone(&after)));
        }
        after
    }
}

impl Drop for Predictor {
    /// Rows that fit no model, or another step that failed, say nothing against the model.
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Settings {
    /// The outputs that are taken, as the model names them.
    pub(super) fn output_names(&self) -> Vec<&str> {
        self.outputs.iter().map(|output| output.tensor.as_str()).collect()
    }

    /// Inputs by name, from tensors in the order of the bindings.
    pub(super) fn named(&self, tensors: Vec<Tensor>) -> Inputs<'_> {
        self.inputs.iter().map(|binding| binding.tensor.as_str()).zip(tensors).collect()
    }
}

/// How a batch is cut into runs of the model.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    rows: usize,
    /// Rows of each run; the last is filled up.
    fixed: usize,
}

impl Cut {
    pub(super) fn of(settings: &Settings, rows: usize) -> Self {
        Self { rows, fixed: settings.rows.unwrap_or(rows) }
    }

    /// The tensors of a batch, run by run.
    pub(super) fn runs_of(self, tensors: Vec<Tensor>) -> Vec<Vec<Tensor>> {
        if self.runs() == 1 && self.fixed == self.rows {
            return vec![tensors];
        }
        let part = |(first, given)| tensors.iter().map(|t| t.rows(first, given).padded(self.fixed)).collect();
        self.parts().map(part).collect()
    }

    fn runs(self) -> usize {
        self.rows.div_ceil(self.fixed.max(1))
    }

    /// First row and number of rows of each run.
    fn parts(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.rows).step_by(self.fixed.max(1)).map(move |first| (first, self.fixed.min(self.rows - first)))
    }
}

impl Loaded {
    /// The output columns of one batch, from the results of its runs.
    fn columns(&self, cut: Cut, results: &mut impl Iterator<Item = Vec<Tensor>>) -> Result<Vec<ArrayRef>, BatchError> {
        let mut parts = Vec::with_capacity(cut.runs());
        for ((_, given), tensors) in cut.parts().zip(results) {
            let tensors = self.outputs.iter().zip(tensors);
            let whole = tensors.map(|(info, tensor)| output::column(info, tensor, cut.fixed));
            parts.push(whole.map(|column| Ok(column?.slice(0, given))).collect::<Result<Vec<_>, BatchError>>()?);
        }
        match parts.len() {
            1 => Ok(parts.pop().unwrap_or_default()),
            _ => concat_columns(&parts, self.outputs.len()),
        }
    }
}

/// The schema with fields behind its own.
pub(super) fn with_fields(schema: &Schema, added: impl IntoIterator<Item = Field>) -> Schema {
    let fields = schema.fields().iter().cloned().chain(added.into_iter().map(Arc::new)).collect::<Vec<_>>();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

/// Column by column, the parts one behind the other.
fn concat_columns(parts: &[Vec<ArrayRef>], columns: usize) -> Result<Vec<ArrayRef>, BatchError> {
    let column = |i: usize| parts.iter().filter_map(|part| part.get(i)).map(AsRef::as_ref).collect::<Vec<_>>();
    (0..columns).map(|i| Ok(concat(&column(i))?)).collect()
}
