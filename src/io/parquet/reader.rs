//! Read time: one split, from any row on, in batches of about the bytes asked for.
//!
//! The decoder takes a fixed number of rows a batch. Where metadata cannot say what a row takes (a dictionary of long
//! values), a first small batch is measured, and the decoder is built again for the rest with the right number.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use mobula_actors::function::decode;
use mobula_actors::operator::{OpenContext, OperatorResult, ReadBatch, Source, Split, SplitReader};
use mobula_actors::units::{Bytes, Rows};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::RowGroupMetaData;
use serde::{Deserialize, Serialize};

use super::chunks::{Chunks, Column};
use super::damage::guard;
use super::estimate::{self, Estimate};
use super::footer::Footers;
use super::page::Kind;
use super::prune;
use super::runs::Runs;
use super::shown::shown;
use super::{views, words};
use crate::expr::Expr;
use crate::io::error::{IoError, IoResult};
use crate::io::file::{self, FileId};
use crate::io::given_up::{GivenUp, reason};
use crate::io::pace::{PROBE_ROWS, Pace};
use crate::io::scan::OnError;
use crate::io::schema::fit;

/// The payload of a split: some row groups of one file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    /// Absolute.
    pub(super) path: PathBuf,
    pub(super) id: Option<FileId>,
    pub(super) groups: Vec<u32>,
    /// The first row that is needed, of those in `groups`.
    pub(super) first: u64,
    /// Rows that are needed.
    pub(super) rows: u64,
    /// Why there is nothing to read: the file was given up when the job was planned.
    pub(super) given_up: Option<String>,
}

/// Reads splits of Parquet files.
#[derive(Serialize, Deserialize)]
pub(super) struct ParquetSource {
    /// Of the batches it returns.
    #[serde(with = "crate::io::wire::schema")]
    pub(super) schema: SchemaRef,
    /// Positions of the columns in the file, in output order.
    pub(super) columns: Vec<usize>,
    pub(super) predicate: Option<Expr>,
    pub(super) on_error: OnError,
    #[serde(skip, default = "Footers::of_this_process")]
    pub(super) footers: Arc<Footers>,
}

#[mobula_actors::source(crate = mobula_actors, name = "mobula/parquet@1")]
impl Source for ParquetSource {
    fn open(
        &self,
        split: &Split,
        rows: Range<Rows>,
        batch: ReadBatch,
        _ctx: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        let part: Part = decode(&split.payload)?;
        let gave_up = |reason| Ok(GivenUp::reader(reason, Rows(part.rows)));
        if let Some(why) = part.given_up {
            return gave_up(why);
        }
        match self.open_part(&part, rows, batch) {
            Ok(reader) => Ok(Box::new(reader)),
            Err(error) if self.on_error == OnError::Skip => gave_up(format!("{}: {}", split.label, reason(&error))),
            Err(error) => Err(error.into()),
        }
    }
}

impl ParquetSource {
    fn open_part(&self, part: &Part, rows: Range<Rows>, batch: ReadBatch) -> IoResult<PartReader> {
        let id = part.id.ok_or_else(|| IoError::Internal("a split without a file".into()))?;
        let file = file::open_planned(&part.path, id)?;
        let mut footer = self.footers.get(&part.path, &file, id, self.predicate.is_some())?;
        let mask = ProjectionMask::roots(footer.parquet_schema(), self.columns.iter().copied());
        let groups = groups(part, &footer, &mask)?;
        let kept = match &self.predicate {
            Some(predicate) => guard(&part.path, || prune::rows(predicate, &footer, &indices(&groups)))?,
            None => std::iter::once(0..u64::MAX).collect(),
        };
        let at = |row: Rows| part.first.saturating_add(row.0.min(part.rows));
        let runs = Runs::new(kept, at(rows.start), at(rows.end));
        let estimate = total(&groups, &footer, &mask);
        let rows_all: u64 = groups.iter().map(|group| group.rows).sum();
        let most = Bytes(ROW_BYTES_MAX.0.saturating_add(batch.bytes.0.saturating_mul(2)));
        let columns = columns(&groups, &footer, &mask).ok_or_else(|| outside(&part.path))?;
        let chunks = Chunks::new(file, id.size, columns, most).map_err(|e| IoError::read(&part.path, e))?;
        let (bursting, probe) = guard(&part.path, || {
            let are_short = |chunk: &_| words::are_short(&chunks, chunk);
            let groups = || known(&groups, &footer);
            let bursting = groups().flat_map(|group| views::bursting(group, &mask, are_short)).collect::<BTreeSet<_>>();
            (bursting, groups().any(|group| views::bursts_as_views(group, &mask, are_short)))
        })?;
        let rows_max = if probe { batch.rows_max.min(PROBE_ROWS) } else { batch.rows_max };
        let paced = ReadBatch { rows_max, ..batch };
        if !bursting.is_empty() {
            footer = decoded_as_views(&footer, &bursting, &part.path)?;
        }
        Ok(PartReader {
            path: part.path.clone(),
            id,
            pace: Pace::new(paced, estimate.bytes, rows_all, estimate.certain),
            footer,
            mask,
            order: order(&self.columns),
            schema: Arc::clone(&self.schema),
            groups,
            first: part.first,
            runs,
            chunks,
            decoder: None,
            decoded: None,
            batch_bytes: batch.bytes,
            on_error: self.on_error,
            skipped: Vec::new(),
        })
    }
}

/// A row group of a split.
#[derive(Debug, Clone, Copy)]
struct Group {
    index: usize,
    rows: u64,
    /// What a row takes on average, if its metadata says that for certain.
    row_bytes: Bytes,
}

struct PartReader {
    path: PathBuf,
    id: FileId,
    footer: ArrowReaderMetadata,
    mask: ProjectionMask,
    /// Where each output column stands in a decoded batch.
    order: Vec<usize>,
    schema: SchemaRef,
    groups: Vec<Group>,
    /// Row of `groups` that the split begins with.
    first: u64,
    /// Counted as in `groups`.
    runs: Runs,
    chunks: Chunks,
    pace: Pace,
    decoder: Option<ParquetRecordBatchReader>,
    /// What was decoded and not returned yet.
    decoded: Option<RecordBatch>,
    /// What a batch aims at.
    batch_bytes: Bytes,
    on_error: OnError,
    skipped: Vec<String>,
}

impl SplitReader for PartReader {
    fn next_bytes(&self) -> Bytes {
        self.pace.next_bytes(self.runs.left())
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        if self.runs.left() == 0 {
            return Ok(None);
        }
        match self.next() {
            Ok(batch) => Ok(Some(batch)),
            Err(error) if self.on_error == OnError::Skip => {
                let rows = self.runs.left();
                self.skipped.push(format!("{}: {rows} rows given up: {}", self.path.display(), reason(&error)));
                self.decoder = None;
                self.decoded = None;
                self.runs.give_up();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn rows_read(&self) -> Rows {
        Rows(self.runs.position().saturating_sub(self.first))
    }

    fn take_skipped(&mut self) -> Vec<String> {
        std::mem::take(&mut self.skipped)
    }
}

impl PartReader {
    /// The next rows, from a file that is still the one of the plan when the last of them leave.
    fn next(&mut self) -> IoResult<RecordBatch> {
        let batch = self.values();
        let is_last = batch.as_ref().map_or(true, |batch| batch.num_rows() as u64 >= self.runs.left());
        // Rows of a file that is written to meanwhile may be of before and after, and what cannot be decoded need not be
        // damage.
        if is_last && !self.chunks.is_still(self.id).map_err(|e| IoError::read(&self.path, e))? {
            return Err(IoError::Changed { path: self.path.clone() });
        }
        let batch = batch?;
        self.runs.advance(batch.num_rows() as u64);
        Ok(batch)
    }

    /// As many rows as make a batch as values.
    fn values(&mut self) -> IoResult<RecordBatch> {
        let decoded = match self.decoded.take() {
            Some(decoded) => decoded,
            None => self.decode()?,
        };
        let (rows, bytes) = views::rows_within(&decoded, self.batch_bytes);
        if bytes > ROW_BYTES_MAX {
            return Err(self.too_large(self.runs.position(), bytes));
        }
        let batch = decoded.slice(0, rows);
        if rows < decoded.num_rows() {
            self.decoded = Some(decoded.slice(rows, decoded.num_rows() - rows));
        }
        let batch = guard(&self.path, || fit(&shown(&batch)?, &self.schema))?;
        batch.map_err(|e| IoError::undecodable(&self.path, e))
    }

    fn decode(&mut self) -> IoResult<RecordBatch> {
        let rows = self.pace.rows(self.runs.left()) as u64;
        self.refuse_large_rows(rows)?;
        let (mut decoder, skips) = match self.decoder.take() {
            Some(decoder) => (decoder, false),
            None => (self.build()?, self.runs.position() > self.behind()),
        };
        self.chunks.begin_batch(!skips && self.runs.is_next(rows));
        let batch = match guard(&self.path, || decoder.next())? {
            Some(batch) => batch.map_err(|e| IoError::undecodable(&self.path, e))?,
            None => return Err(IoError::corrupt(&self.path, "it has fewer rows than its footer says")),
        };
        let rows = batch.num_rows() as u64;
        if rows == 0 || rows > self.runs.left() {
            return Err(IoError::corrupt(&self.path, "its pages do not hold the rows that its footer says"));
        }
        let batch = batch.project(&self.order).map_err(|e| IoError::undecodable(&self.path, e))?;
        if !self.pace.measured(rows, views::values_bytes(&batch)) {
            self.decoder = Some(decoder);
        }
        Ok(batch)
    }

    /// Refuses rows that are certain to take more than one may, before they do.
    fn refuse_large_rows(&self, rows: u64) -> IoResult<()> {
        let next = self.runs.position()..self.runs.position().saturating_add(rows);
        let mut first = 0;
        for group in &self.groups {
            let of_group = first..first + group.rows;
            first = of_group.end;
            let is_next = of_group.start < next.end && next.start < of_group.end;
            if is_next && group.row_bytes > self.chunks.most() {
                return Err(self.too_large(of_group.start.max(next.start), group.row_bytes));
            }
        }
        Ok(())
    }

    fn too_large(&self, row: u64, bytes: Bytes) -> IoError {
        let reason = format!("row {row} of its row groups takes {bytes}, and {ROW_BYTES_MAX} is the most for one");
        IoError::corrupt(&self.path, reason)
    }

    /// Rows of row groups that are read to the end.
    fn behind(&self) -> u64 {
        let position = self.runs.iter().next().map_or(0, |run| run.start);
        let ends = self.groups.iter().scan(0, |end, group| {
            *end += group.rows;
            Some(*end)
        });
        ends.take_while(|end| *end <= position).last().unwrap_or(0)
    }

    /// A decoder of what is left. Row groups that are behind are left out, so that resuming is cheap.
    fn build(&self) -> IoResult<ParquetRecordBatchReader> {
        let behind = self.behind();
        let mut rows_before = 0;
        let ahead = self.groups.iter().skip_while(|group| {
            rows_before += group.rows;
            rows_before <= behind
        });
        let ahead: Vec<Group> = ahead.copied().collect();
        let rows: u64 = ahead.iter().map(|group| group.rows).sum();
        let runs = self.runs.iter().map(|run| (run.start - behind) as usize..(run.end - behind) as usize);
        // Without a selection where all rows are wanted: it costs the decoder some for each batch.
        let all = self.runs.left() == rows;
        let selection = (!all).then(|| RowSelection::from_consecutive_ranges(runs, rows as usize));
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.chunks.clone(), self.footer.clone())
            .with_row_groups(indices(&ahead))
            .with_projection(self.mask.clone())
            .with_batch_size(self.pace.rows(self.runs.left()));
        let builder = match selection {
            Some(selection) => builder.with_row_selection(selection),
            None => builder,
        };
        guard(&self.path, || builder.build())?.map_err(|e| IoError::undecodable(&self.path, e))
    }
}

fn groups(part: &Part, footer: &ArrowReaderMetadata, mask: &ProjectionMask) -> IoResult<Vec<Group>> {
    let find = |index: &u32| {
        let index = *index as usize;
        let group = footer.metadata().row_groups().get(index)?;
        let rows = u64::try_from(group.num_rows()).ok()?;
        let estimate = estimate::row_group(group, mask);
        let row_bytes = if estimate.certain { estimate.bytes / rows.max(1) } else { 0 };
        Some(Group { index, rows, row_bytes: Bytes(row_bytes) })
    };
    let found: Option<Vec<_>> = part.groups.iter().map(find).collect();
    found.ok_or_else(|| IoError::corrupt(&part.path, "a row group is not there"))
}

fn indices(groups: &[Group]) -> Vec<usize> {
    groups.iter().map(|group| group.index).collect()
}

fn total(groups: &[Group], footer: &ArrowReaderMetadata, mask: &ProjectionMask) -> Estimate {
    known(groups, footer).map(|group| estimate::row_group(group, mask)).fold(
        Estimate { bytes: 0, certain: true },
        |all, one| Estimate { bytes: all.bytes.saturating_add(one.bytes), certain: all.certain && one.certain },
    )
}

fn known<'a>(groups: &[Group], footer: &'a ArrowReaderMetadata) -> impl Iterator<Item = &'a RowGroupMetaData> {
    groups.iter().filter_map(|group| footer.metadata().row_groups().get(group.index))
}

/// The same footer for a decoder that makes views of these columns.
fn decoded_as_views(
    footer: &ArrowReaderMetadata,
    columns: &BTreeSet<usize>,
    path: &Path,
) -> IoResult<ArrowReaderMetadata> {
    let options = ArrowReaderOptions::new().with_schema(Arc::new(views::as_views(footer.schema(), columns)));
    let made = guard(path, || ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options))?;
    made.map_err(|e| IoError::undecodable(path, e))
}

/// One row takes no more than this: values of 32-bit offsets end at twice as much, and whoever has larger rows keeps them
/// in files of their own. What claims more is a bomb or damage.
const ROW_BYTES_MAX: Bytes = Bytes::mib(1 << 10);

/// The column chunks that are read, if they lie where something can.
fn columns(groups: &[Group], footer: &ArrowReaderMetadata, mask: &ProjectionMask) -> Option<Vec<Column>> {
    let leaves = known(groups, footer).flat_map(|group| group.columns().iter().enumerate());
    let chosen = leaves.filter(|(leaf, _)| mask.leaf_included(*leaf)).map(|(_, chunk)| {
        let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
        let (start, length) = (u64::try_from(start).ok()?, u64::try_from(chunk.compressed_size()).ok()?);
        Some(Column { place: start..start.saturating_add(length), kind: Kind::of(chunk) })
    });
    chosen.collect()
}

fn outside(path: &Path) -> IoError {
    IoError::corrupt(path, "a column lies outside of the file")
}

/// The decoder returns columns in file order; this says where each output column is among them.
fn order(columns: &[usize]) -> Vec<usize> {
    let mut sorted = columns.to_vec();
    sorted.sort_unstable();
    columns.iter().filter_map(|column| sorted.binary_search(column).ok()).collect()
}
