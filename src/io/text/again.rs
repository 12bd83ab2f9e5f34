//! Text files read once more: the rows of dead letters, and any columns of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use mobula_actors::function::named_source;
use mobula_actors::operator::Split;

use super::TextFormat;
use super::reader::{Part, TextSource};
use crate::io::error::{IoError, IoResult};
use crate::io::file::{self, FileId};
use crate::io::replay::again::{Again, parts, read_back};
use crate::io::scan::{OnError, Pushed};

/// Looks at the files of splits, which are read as that source read them.
pub(super) fn again<F: TextFormat>(params: &[u8], splits: &[Split]) -> IoResult<Again> {
    let TextSource::<F> { format, file_schema, inferred_from, .. } = read_back(params)?;
    let parts = parts::<Part>(splits)?.into_iter().filter_map(|part| Some((part.path, part.id.ok()?)));
    let planned: BTreeMap<PathBuf, FileId> = parts.collect();
    for (path, id) in &planned {
        if file::open(path)?.1 != *id {
            return Err(IoError::LetterChanged { path: path.clone() });
        }
    }
    let schema = Arc::clone(&file_schema);
    let source = Box::new(move |pushed: &Pushed| {
        let source = TextSource {
            format: format.clone(),
            columns: pushed.columns(&file_schema),
            schema: pushed.schema(&file_schema),
            file_schema: Arc::clone(&file_schema),
            limit: None,
            on_error: OnError::Fail,
            inferred_from: inferred_from.clone(),
        };
        named_source(F::SOURCE, F::VERB, source)
    });
    Ok(Again { schema, files: planned.into_iter().collect(), source })
}
