//! The predictor: the registered operator that runs a checked model on a worker.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use mobula_actors::operator::{OpenContext, Operator, OperatorResult, Output};
use mobula_actors::units::Bytes;
use serde::{Deserialize, Serialize};

use super::bind::{InputBinding, quoted};
use super::engine::rten::Rten;
use super::engine::{Engine, Model, Tensor, TensorInfo};
use super::error::{BatchError, PredictError};
use super::{OnNan, input, output};

/// Where the bytes of a model come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum ModelSource {
    /// A file, which every node that runs the predictor must have.
    File(PathBuf),
    /// Memory of this process.
    #[serde(skip)]
    Bytes(Arc<[u8]>),
}

impl std::fmt::Display for ModelSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bytes(_) => f.write_str("given as bytes"),
        }
    }
}

impl ModelSource {
    /// As a worker finds it: a node that runs the predictor has a working directory of its own.
    pub(super) fn absolute(&self) -> Result<Self, PredictError> {
        let Self::File(path) = self else { return Ok(self.clone()) };
        let absolute = std::path::absolute(path);
        Ok(Self::File(absolute.map_err(|source| PredictError::Read { path: path.clone(), source })?))
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

/// Names the bytes of a model among the values of a node. With size and time of the file, so that a later job in the
/// same process sees a model that was written anew.
fn shared_key(path: &Path) -> String {
    let state = std::fs::metadata(path).ok().map(|file| (file.len(), file.modified().ok()));
    format!("model file {} {state:?}", path.display())
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
    pub(super) model: ModelSource,
    pub(super) inputs: Vec<InputBinding>,
    pub(super) outputs: Vec<OutputBinding>,
    /// Rows of each run, for a model whose batch dimension is fixed.
    pub(super) rows: Option<usize>,
    pub(super) on_nan: OnNan,
}

/// The operator.
#[derive(Serialize, Deserialize)]
pub(super) struct Predictor {
    settings: Settings,
    #[serde(skip, default = "default_engine")]
    engine: Arc<dyn Engine>,
    /// Made by `open`.
    #[serde(skip)]
    loaded: Option<Loaded>,
}

/// The engine that models run on unless a test says otherwise.
pub(super) fn default_engine() -> Arc<dyn Engine> {
    Arc::new(Rten)
}

/// A model ready to run, and what it takes to name its results.
struct Loaded {
    model: Box<dyn Model>,
    outputs: Vec<TensorInfo>,
    /// The schemas of the last batch in and out: batches of a job share one, so it is made once.
    schemas: Option<(SchemaRef, SchemaRef)>,
}

#[mobula_actors::operator(crate = mobula_actors, name = "mobula/predict@1")]
impl Operator for Predictor {
    fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
        match self.settings.model.clone() {
            ModelSource::File(path) => {
                let bytes = ctx.shared.get_or_make(&shared_key(&path), || read(&path))?;
                self.load(&bytes)?;
            }
            ModelSource::Bytes(bytes) => self.load(&bytes)?,
        }
        Ok(())
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        // Some models refuse a batch of no rows.
        if batch.num_rows() > 0 {
            self.process_all(vec![batch], out)?;
        }
        Ok(())
    }

    fn process_all(&mut self, batches: Vec<RecordBatch>, out: &mut Output) -> OperatorResult {
        self.predict(&batches)?.into_iter().for_each(|batch| out.emit(batch));
        Ok(())
    }

    fn close(&mut self) -> OperatorResult {
        self.loaded = None;
        Ok(())
    }
}

impl Predictor {
    pub(super) fn new(settings: Settings, engine: Arc<dyn Engine>) -> Self {
        Self { settings, engine, loaded: None }
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), PredictError> {
        let refused = |source| PredictError::Load { model: self.settings.model.to_string(), source };
        let model = self.engine.load(bytes).map_err(refused)?;
        self.accept(model)
    }

    /// Takes a loaded model, which may be another than the one that was planned with: a file can change.
    pub(super) fn accept(&mut self, model: Box<dyn Model>) -> Result<(), PredictError> {
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
        self.loaded = Some(Loaded { model, outputs, schemas: None });
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
        let outputs = batches.iter().zip(predicted).map(|(batch, predicted)| {
            let schema = self.schema(batch.schema());
            let columns = batch.columns().iter().cloned().chain(predicted).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
        });
        outputs.collect()
    }

    fn tensors(&self, batch: &RecordBatch) -> Result<Vec<Tensor>, BatchError> {
        let bindings = self.settings.inputs.iter();
        bindings.map(|binding| input::tensor(binding, batch, self.settings.on_nan)).collect()
    }

    /// The columns that the model makes of each of these batches of inputs, which have `rows` rows.
    pub(super) fn columns(
        &mut self,
        batches: Vec<Vec<Tensor>>,
        rows: impl Iterator<Item = usize>,
    ) -> Result<Vec<Vec<ArrayRef>>, BatchError> {
        let loaded = self.loaded.as_mut().expect("the model is loaded by `open`");
        let settings = &self.settings;
        let names: Vec<&str> = settings.outputs.iter().map(|output| output.tensor.as_str()).collect();
        let named = |tensors: Vec<Tensor>| settings.inputs.iter().map(|b| b.tensor.as_str()).zip(tensors).collect();
        let (mut runs, mut cuts) = (Vec::new(), Vec::new());
        for (tensors, rows) in batches.into_iter().zip(rows) {
            let cut = Cut { rows, fixed: settings.rows.unwrap_or(rows) };
            match cut.runs() {
                1 if cut.fixed == rows => runs.push(named(tensors)),
                _ => runs.extend(cut.parts().map(|(first, given)| {
                    named(tensors.iter().map(|tensor| tensor.rows(first, given).padded(cut.fixed)).collect())
                })),
            }
            cuts.push(cut);
        }
        let mut results = loaded.model.run_all(runs, &names)?.into_iter();
        cuts.into_iter().map(|cut| loaded.columns(cut, &mut results)).collect()
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

/// How a batch is cut into runs of the model.
#[derive(Clone, Copy)]
struct Cut {
    rows: usize,
    /// Rows of each run; the last is filled up.
    fixed: usize,
}

impl Cut {
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
