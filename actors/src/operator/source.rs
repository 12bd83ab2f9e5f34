//! Where rows come from: a source cut into splits, each read by one task.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::{BoxError, OpenContext, OperatorResult};
use crate::function::registry;
use crate::units::{Bytes, Rows};

/// One unit of reading a source: a file, some row groups, a byte range. Fixed when the job is planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// What it is, for progress and errors: `data/part-3.parquet, row groups 0..4`.
    pub label: String,
    /// Rows in it, where known without reading.
    pub rows: Option<Rows>,
    /// Bytes it takes once decoded, as far as known (an estimate; 0 if unknown).
    pub bytes: Bytes,
    /// What the source needs to find it again; the engine does not look inside.
    pub payload: Vec<u8>,
    /// The file that it is a run of rows of, so that errors and dead letters name the file's rows. Default: `label` is its
    /// file, or what stands for one, and rows count from its first.
    pub file: Option<FileRows>,
}

/// A run of rows of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRows {
    /// The file.
    pub name: String,
    /// Its first row in the file, from 0.
    pub first: Rows,
}

impl Split {
    /// What a row of it is named by: a file or the label, and the row there that is its first.
    pub fn place(&self) -> (&str, Rows) {
        self.file.as_ref().map_or((self.label.as_str(), Rows(0)), |file| (file.name.as_str(), file.first))
    }
}

/// How much a reader should decode at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBatch {
    /// A batch should take about this many bytes.
    pub bytes: Bytes,
    /// And never more rows than this.
    pub rows_max: usize,
}

/// Where rows come from. One value is shared by all read workers of a node.
pub trait Source: Send + Sync + 'static {
    /// Opens a split so that its first row is row `rows.start` of the split: a task that is tried again goes on where the
    /// rows passed on end. Nobody needs rows from `rows.end` on ([`Segment::END`](crate::block::Segment::END): all there
    /// are). A reader may give them all the same, they are cut off; one that drops rows must not, because nobody else
    /// knows where to cut.
    ///
    /// # Errors
    /// Names the file and the cause.
    fn open(
        &self,
        split: &Split,
        rows: Range<Rows>,
        batch: ReadBatch,
        ctx: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>>;

    /// The same rows in a form that travels, for a source that holds rows of this process: a registered source, and
    /// splits that carry the rows. Asked only when a plan leaves this process; `None` if there is no such form.
    ///
    /// # Errors
    /// If the rows cannot be encoded, or are too many to travel inside a plan; the text ends with what to do instead.
    fn portable(&self, splits: &[Split]) -> OperatorResult<Option<(SourceSpec, Vec<Split>)>> {
        let _ = splits;
        Ok(None)
    }
}

/// Reads one split, batch by batch, on the worker's thread.
pub trait SplitReader {
    /// An estimate of the bytes that the next batch takes; room for it is taken before it is read.
    fn next_bytes(&self) -> Bytes;

    /// The next batch, `None` at the end. Each row of the split is in exactly one batch, in order; a reader that
    /// drops rows (a filter pushed down) says by [`SplitReader::rows_read`] how far it is.
    ///
    /// # Errors
    /// Names the file and the cause.
    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>>;

    /// Rows of the split that are behind the reader: `rows.start` of [`Source::open`] plus all rows returned or dropped.
    fn rows_read(&self) -> Rows;

    /// Parts of the split that were given up under a lenient error policy, with the reason; emptied by the call.
    fn take_skipped(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Names a source: how to have it, and what it is called.
#[derive(Clone)]
pub struct SourceSpec {
    /// What it is, for plans and errors: `read_parquet data/*.parquet`.
    pub label: String,
    /// How to have it.
    pub recipe: SourceRecipe,
}

/// How a node has a source.
#[derive(Clone)]
pub enum SourceRecipe {
    /// By name out of the registry of this binary, with encoded parameters. Reads on any node.
    Named {
        /// The registered name.
        name: String,
        /// The parameters, in the wire encoding.
        params: Arc<[u8]>,
    },
    /// The value itself. Reads in this process; elsewhere only if it has a [`Source::portable`] form.
    Local {
        /// The call that made it, for the error of a cluster that refuses it.
        call: &'static str,
        /// The source itself.
        source: Arc<dyn Source>,
    },
}

impl SourceSpec {
    /// A spec of a source that is registered under `name`.
    pub fn named(name: impl Into<String>, params: Vec<u8>) -> Self {
        let name = name.into();
        Self { label: name.clone(), recipe: SourceRecipe::Named { name, params: params.into() } }
    }

    /// A spec of a source that this process holds. `call` names the call that made it.
    pub fn local(call: &'static str, source: Arc<dyn Source>) -> Self {
        Self { label: call.to_owned(), recipe: SourceRecipe::Local { call, source } }
    }

    /// The same with another label.
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Builds the source; one that this process holds is that very value.
    ///
    /// # Errors
    /// If no source of that name is in this binary (naming the ones there are), or its parameters do not decode.
    pub fn build(&self) -> Result<Arc<dyn Source>, BoxError> {
        match &self.recipe {
            SourceRecipe::Named { name, params } => registry::build_source(name, params),
            SourceRecipe::Local { source, .. } => Ok(Arc::clone(source)),
        }
    }
}

/// What can be read from: a spec, or a source that `#[mobula::source]` registered.
pub trait IntoSource {
    /// The spec of it.
    fn into_source(self) -> SourceSpec;
}

impl IntoSource for SourceSpec {
    fn into_source(self) -> SourceSpec {
        self
    }
}

impl fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceSpec({})", self.label)
    }
}
