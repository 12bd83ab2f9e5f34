//! A source that reads some rows of another one's splits.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::record_batch::RecordBatch;
use mobula_actors::block::Segment;
use mobula_actors::function::{decode, encode};
use mobula_actors::operator::{
    FileRows, IntoSource, OpenContext, OperatorResult, ReadBatch, Source, SourceSpec, Split, SplitReader,
};
use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};

use super::kept::{Kept, KeptRows};
use crate::io::error::{IoError, IoResult};

/// Reads splits of another source, of each some rows.
#[derive(Serialize, Deserialize)]
struct Picked {
    name: String,
    params: Vec<u8>,
    #[serde(skip)]
    source: OnceLock<Result<Arc<dyn Source>, String>>,
}

/// The payload of its splits.
#[derive(Serialize, Deserialize)]
struct PickedRows {
    split: Split,
    from: Rows,
    /// [`Segment::END`] for all there are.
    to: Rows,
}

/// A source that reads the splits of this one in part.
pub(super) fn picked((name, params): (String, Vec<u8>)) -> SourceSpec {
    Picked { name, params, source: OnceLock::new() }.into_source()
}

/// Rows `from..to` of a split.
pub(super) fn split(of: &Split, from: u64, to: u64) -> IoResult<Split> {
    let all = of.rows.map_or(Segment::END.0, |rows| rows.0);
    let to = to.min(all);
    let rows = (to != Segment::END.0).then(|| Rows(to.saturating_sub(from)));
    let bytes = match (rows, of.rows) {
        (Some(Rows(part)), Some(Rows(all))) => Bytes(of.bytes.0.saturating_mul(part) / all.max(1)),
        _ => of.bytes,
    };
    let (name, Rows(before)) = of.place();
    let first = before.saturating_add(from);
    let label = match rows {
        Some(Rows(1)) => format!("{name}, row {first}"),
        Some(_) => format!("{name}, rows {first}..{}", before.saturating_add(to)),
        None => format!("{name}, from row {first} on"),
    };
    let file = Some(FileRows { name: name.to_owned(), first: Rows(first) });
    let payload = encode(&PickedRows { split: of.clone(), from: Rows(from), to: Rows(to) });
    let payload = payload.map_err(|e| IoError::Internal(format!("split {label}: {e}")))?;
    Ok(Split { label, rows, bytes, payload, file })
}

/// The same rows as rows of the splits that were picked from.
pub(super) fn unwrapped(mut kept: Kept) -> Kept {
    let is_picked: Vec<bool> = kept
        .sources
        .iter_mut()
        .map(|source| {
            let inner =
                source.recipe.as_ref().filter(|(name, _)| name == PICKED).map(|(_, params)| decode::<Picked>(params));
            let Some(Ok(Picked { name, params, .. })) = inner else { return false };
            source.recipe = Some((name, params));
            true
        })
        .collect();
    for (at, (source, split)) in kept.splits.iter_mut().enumerate() {
        if is_picked.get(*source as usize) != Some(&true) {
            continue;
        }
        let Ok(PickedRows { split: inner, from, to }) = decode(&split.payload) else { continue };
        for rows in kept.rows.iter_mut().filter(|rows| rows.split as usize == at) {
            *rows = KeptRows {
                from: rows.from.saturating_add(from.0),
                to: rows.to.saturating_add(from.0).min(to.0),
                ..rows.clone()
            };
        }
        *split = inner;
    }
    kept
}

/// What it is registered as.
const PICKED: &str = "mobula/picked@1";

#[mobula_actors::source(crate = mobula_actors, name = "mobula/picked@1")]
impl Source for Picked {
    fn open(
        &self,
        split: &Split,
        rows: Range<Rows>,
        batch: ReadBatch,
        ctx: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        let PickedRows { split, from, to } = decode(&split.payload)?;
        let build = || SourceSpec::named(self.name.clone(), self.params.clone()).build().map_err(|e| e.to_string());
        let source = self.source.get_or_init(build).as_ref().map_err(Clone::clone)?;
        let at = |row: Rows| Rows(from.0.saturating_add(row.0)).min(to);
        let inner = source.open(&split, at(rows.start)..at(rows.end), batch, ctx)?;
        Ok(Box::new(PickedReader { inner, from, end: at(rows.end) }))
    }
}

/// Counts rows from the first that is picked.
struct PickedReader {
    inner: Box<dyn SplitReader>,
    from: Rows,
    end: Rows,
}

impl SplitReader for PickedReader {
    fn next_bytes(&self) -> Bytes {
        self.inner.next_bytes()
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        if self.inner.rows_read() >= self.end {
            return Ok(None);
        }
        let Some(batch) = self.inner.next_batch()? else { return Ok(None) };
        // A reader may give more than it was opened for. None of these drops rows.
        let beyond = self.inner.rows_read().0.saturating_sub(self.end.0) as usize;
        Ok(Some(batch.slice(0, batch.num_rows().saturating_sub(beyond))))
    }

    fn rows_read(&self) -> Rows {
        Rows(self.inner.rows_read().min(self.end).0.saturating_sub(self.from.0))
    }

    fn take_skipped(&mut self) -> Vec<String> {
        self.inner.take_skipped()
    }
}
