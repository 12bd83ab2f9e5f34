//! Files that a job read, to be read once more: maybe other columns of them.

use std::fmt;
use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use mobula_actors::function::decode;
use mobula_actors::operator::{SourceRecipe, SourceSpec, Split};
use serde::de::DeserializeOwned;

use crate::io::error::{IoError, IoResult};
use crate::io::file::FileId;
use crate::io::scan::Pushed;
use crate::io::{parquet, text};

/// How files are read again.
pub(crate) struct Again {
    /// All columns there are.
    pub(crate) schema: SchemaRef,
    /// The files, as they were and are.
    pub(crate) files: Vec<(PathBuf, FileId)>,
    /// The source that reads what a plan needs of them.
    pub(crate) source: Box<dyn Fn(&Pushed) -> SourceSpec + Send + Sync>,
}

impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Again").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Looks at the files of splits of a source that was registered under `name`; `None` if it reads no files.
///
/// # Errors
/// If a file has changed since, is gone, or two have different columns.
pub(super) fn again(name: &str, params: &[u8], splits: &[Split]) -> IoResult<Option<Again>> {
    match name {
        parquet::SOURCE => parquet::again(splits).map(Some),
        text::CSV => text::csv_again(params, splits).map(Some),
        text::JSON => text::json_again(params, splits).map(Some),
        _ => Ok(None),
    }
}

/// The parts of files that are the payloads of splits.
pub(crate) fn parts<T: DeserializeOwned>(splits: &[Split]) -> IoResult<Vec<T>> {
    splits.iter().map(|split| read_back(&split.payload)).collect()
}

/// What an earlier run of this version wrote.
pub(crate) fn read_back<T: DeserializeOwned>(bytes: &[u8]) -> IoResult<T> {
    decode(bytes).map_err(|e| IoError::Internal(format!("how dead letters were read: {e}")))
}

/// Name and parameters of a source that travels.
pub(super) fn recipe(spec: SourceSpec) -> IoResult<(String, Vec<u8>)> {
    match spec.recipe {
        SourceRecipe::Named { name, params } => Ok((name, params.to_vec())),
        SourceRecipe::Local { call, .. } => Err(IoError::Internal(format!("{call} is read again"))),
    }
}
