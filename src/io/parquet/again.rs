//! Parquet files read once more: the rows of dead letters, and any columns of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use mobula_actors::operator::{IntoSource, Split};

use super::footer::Footers;
use super::reader::{ParquetSource, Part};
use super::scan::look;
use crate::io::error::{IoError, IoResult};
use crate::io::file::FileId;
use crate::io::replay::again::{Again, parts};
use crate::io::scan::OnError;

/// What the source of Parquet files is registered as.
pub(crate) const SOURCE: &str = "mobula/parquet@1";

/// Looks at the files of splits.
pub(crate) fn again(splits: &[Split]) -> IoResult<Again> {
    let parts = parts::<Part>(splits)?.into_iter().filter_map(|part| Some((part.path, part.id?)));
    let planned: BTreeMap<PathBuf, FileId> = parts.collect();
    let (footers, mut schema) = (Footers::of_this_process(), None);
    for (path, id) in &planned {
        if look(path, &footers, &mut schema)?.0 != *id {
            return Err(IoError::LetterChanged { path: path.clone() });
        }
    }
    let none = || IoError::NoSchema { reason: "no file is read again".into() };
    let schema: SchemaRef = Arc::new(schema.ok_or_else(none)?.1);
    let all = Arc::clone(&schema);
    let source = Box::new(move |pushed: &crate::io::scan::Pushed| {
        let (schema, columns) = (pushed.schema(&all), pushed.columns(&all));
        ParquetSource { schema, columns, predicate: None, on_error: OnError::Fail, footers: Arc::clone(&footers) }
            .into_source()
    });
    Ok(Again { schema, files: planned.into_iter().collect(), source })
}
