//! Rows that need no file: a range of numbers, and batches in memory.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use mobula_actors::block::batch_bytes;
use mobula_actors::function::{decode, encode};
use mobula_actors::operator::{
    IntoSource, OpenContext, OperatorResult, ReadBatch, Source, SourceSpec, Split, SplitReader,
};
use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};

use super::error::{IoError, IoResult};
use super::pace::Pace;
use super::scan::{Input, Lowered, Pushed, Scan};
use super::schema::{plain, widen};
use super::shipped;

/// The numbers of a range, in a column `id` of 64-bit integers.
///
/// ```
/// let scan = mobula::io::range(0..1000)?;
/// assert_eq!(scan.row_count(), Some(1000));
/// assert_eq!(scan.with_limit(10).describe(), "range 0..1000, first 10 rows");
/// # Ok::<(), mobula::io::IoError>(())
/// ```
///
/// # Errors
/// If the range ends before it starts.
pub fn range(values: Range<i64>) -> IoResult<Scan> {
    let rows = u64::try_from(i128::from(values.end) - i128::from(values.start));
    let rows = rows.map_err(|_| IoError::Range { start: values.start, end: values.end })?;
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    Scan::new(Rowwise {
        label: format!("range {}..{}", values.start, values.end),
        schema,
        rows,
        data: Data::Range(values),
    })
}

/// Batches in memory, in order. They are shared, not copied.
///
/// # Errors
/// If there is none (then there is no schema either), or one has other columns than the first.
pub fn batches(batches: Vec<RecordBatch>) -> IoResult<Scan> {
    let first = batches.first().ok_or_else(|| IoError::NoSchema { reason: "there are no batches".into() })?;
    let mut schema = plain(first.schema_ref());
    for (batch, found) in batches.iter().enumerate() {
        schema = widen(&schema, &plain(found.schema_ref()))
            .map_err(|difference| IoError::MixedBatches { batch, difference })?;
    }
    let label = format!("{} batches in memory", batches.len());
    let (rows, batches) = numbered(batches);
    Scan::new(Rowwise { label, schema: Arc::new(schema), rows, data: Data::Batches(batches) })
}

/// Batches, each with the number of its first row.
pub(super) type Numbered = Arc<[(u64, RecordBatch)]>;

/// The rows of these batches, and where each begins among them.
pub(super) fn numbered(batches: Vec<RecordBatch>) -> (u64, Numbered) {
    let mut rows = 0;
    let numbered = batches.into_iter().filter(|batch| batch.num_rows() > 0).map(|batch| {
        let start = rows;
        rows += batch.num_rows() as u64;
        (start, batch)
    });
    let numbered = numbered.collect();
    (rows, numbered)
}

/// Rows that can be had by their numbers.
#[derive(Debug)]
struct Rowwise {
    label: String,
    schema: SchemaRef,
    rows: u64,
    data: Data,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Data {
    Range(Range<i64>),
    /// Rows of this process: see [`Source::portable`].
    #[serde(skip)]
    Batches(Numbered),
}

impl Data {
    fn bytes(&self, rows: u64) -> u64 {
        match self {
            Self::Range(_) => rows.saturating_mul(8),
            Self::Batches(batches) => batches.iter().map(|(_, batch)| batch_bytes(batch).0).sum(),
        }
    }

    /// At most `rows` rows from row `from` on, at least one.
    fn batch(&self, from: u64, rows: usize) -> OperatorResult<Option<RecordBatch>> {
        match self {
            Self::Range(values) => {
                // Within the range, which was counted in 64 bits.
                let start = values.start.wrapping_add_unsigned(from);
                let values = (0..rows as u64).map(|row| start.wrapping_add_unsigned(row));
                let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
                Ok(Some(RecordBatch::try_from_iter([("id", column)])?))
            }
            Self::Batches(batches) => {
                let after = batches.partition_point(|(start, _)| *start <= from);
                let Some((start, batch)) = after.checked_sub(1).and_then(|at| batches.get(at)) else { return Ok(None) };
                let offset = (from - start) as usize;
                Ok(Some(batch.slice(offset, rows.min(batch.num_rows().saturating_sub(offset)))))
            }
        }
    }
}

impl Input for Rowwise {
    fn label(&self) -> String {
        self.label.clone()
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn rows(&self) -> Option<Rows> {
        Some(Rows(self.rows))
    }

    fn lower(&self, pushed: &Pushed, target: Bytes) -> IoResult<Lowered> {
        let rows = pushed.limit.map_or(self.rows, |limit| limit.0.min(self.rows));
        let row_bytes = self.data.bytes(self.rows).checked_div(self.rows).unwrap_or(0).max(1);
        let step = (target.0 / row_bytes).max(1);
        let mut splits = Vec::new();
        let mut start = 0;
        while start < rows {
            let end = start.saturating_add(step).min(rows);
            splits.push(split(start..end, row_bytes)?);
            start = end;
        }
        let source = RowwiseSource {
            schema: pushed.schema(&self.schema),
            columns: pushed.columns(&self.schema),
            data: self.data.clone(),
            row_bytes,
        };
        let spec = match self.data {
            Data::Range(_) => source.into_source(),
            Data::Batches(_) => SourceSpec::local("from_batches", Arc::new(source)),
        };
        Ok((spec, splits))
    }
}

fn split(rows: Range<u64>, row_bytes: u64) -> IoResult<Split> {
    let payload = encode(&(rows.start, rows.end)).map_err(|e| IoError::Internal(format!("split of rows: {e}")))?;
    let count = rows.end - rows.start;
    let bytes = Bytes(count.saturating_mul(row_bytes));
    Ok(Split {
        label: format!("rows {}..{}", rows.start, rows.end),
        rows: Some(Rows(count)),
        bytes,
        payload,
        file: None,
    })
}

#[derive(Serialize, Deserialize)]
struct RowwiseSource {
    #[serde(with = "crate::io::wire::schema")]
    schema: SchemaRef,
    columns: Vec<usize>,
    data: Data,
    row_bytes: u64,
}

#[mobula_actors::source(crate = mobula_actors, name = "mobula/range@1")]
impl Source for RowwiseSource {
    fn open(
        &self,
        split: &Split,
        rows: Range<Rows>,
        batch: ReadBatch,
        _ctx: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        Ok(Box::new(self.reader(split, rows.start, batch)?))
    }

    fn portable(&self, splits: &[Split]) -> OperatorResult<Option<(SourceSpec, Vec<Split>)>> {
        let rows = splits.iter().map(|split| {
            let all = ReadBatch { bytes: Bytes(u64::MAX), rows_max: usize::MAX };
            let mut reader = self.reader(split, Rows(0), all)?;
            let batches = std::iter::from_fn(|| reader.next_batch().transpose()).collect::<OperatorResult<_>>()?;
            Ok((split.clone(), batches))
        });
        shipped::ship(&self.schema, rows).map(Some)
    }
}

impl RowwiseSource {
    fn reader(&self, split: &Split, from: Rows, batch: ReadBatch) -> OperatorResult<RowwiseReader> {
        let (start, end): (u64, u64) = decode(&split.payload)?;
        let next = start.saturating_add(from.0).min(end);
        let rows = start..end;
        let pace = Pace::new(batch, self.row_bytes, 1, true);
        let (schema, columns, data) = (Arc::clone(&self.schema), self.columns.clone(), self.data.clone());
        Ok(RowwiseReader { rows, next, pace, schema, columns, data })
    }
}

pub(super) struct RowwiseReader {
    rows: Range<u64>,
    next: u64,
    pace: Pace,
    schema: SchemaRef,
    columns: Vec<usize>,
    data: Data,
}

impl RowwiseReader {
    /// Reads these batches, which have `rows` rows, from row `from` on.
    pub(super) fn over_batches(batches: Numbered, rows: u64, from: Rows, batch: ReadBatch, schema: SchemaRef) -> Self {
        let columns = (0..schema.fields().len()).collect();
        let data = Data::Batches(batches);
        let pace = Pace::new(batch, data.bytes(rows), rows, true);
        Self { rows: 0..rows, next: from.0.min(rows), pace, schema, columns, data }
    }
}

impl SplitReader for RowwiseReader {
    fn next_bytes(&self) -> Bytes {
        self.pace.next_bytes(self.rows.end - self.next)
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        let left = self.rows.end - self.next;
        if left == 0 {
            return Ok(None);
        }
        let Some(batch) = self.data.batch(self.next, self.pace.rows(left))? else { return Ok(None) };
        let columns = batch.project(&self.columns)?.columns().to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        self.next += batch.num_rows() as u64;
        self.pace.measured(batch.num_rows() as u64, batch_bytes(&batch));
        Ok(Some(batch))
    }

    fn rows_read(&self) -> Rows {
        Rows(self.next - self.rows.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::{BATCH, drain, ids, open, read_all};
    use proptest::prelude::*;

    #[test]
    fn a_range_is_cut_by_bytes_and_labelled_by_rows() {
        let scan = range(-5..1005).unwrap();
        assert_eq!(scan.row_count(), Some(1010));
        let (source, splits) = scan.lower(Bytes(8000)).unwrap();
        assert_eq!(splits.iter().map(|s| s.label.as_str()).collect::<Vec<_>>(), ["rows 0..1000", "rows 1000..1010"]);
        assert_eq!(source.label, "range -5..1005");
        assert_eq!(read_all(&scan, Bytes(100)).unwrap(), ids(-5..1005));
    }

    #[test]
    fn the_largest_range_can_be_planned() {
        let scan = range(i64::MIN..i64::MAX).unwrap();
        assert_eq!(scan.row_count(), Some(u64::MAX));
        assert_eq!(scan.with_limit(10).lower(Bytes::mib(1)).unwrap().1.len(), 1);
        let backwards = Range { start: 1, end: 0 };
        assert!(range(backwards).unwrap_err().to_string().contains("range 1..0"));
        assert_eq!(read_all(&range(0..0).unwrap(), Bytes(1)).unwrap(), ids(0..0));
    }

    #[test]
    fn batches_of_other_schemas_are_refused() {
        let other = RecordBatch::try_from_iter([("x", Arc::clone(ids(0..1).column(0)))]).unwrap();
        let error = batches(vec![ids(0..1), other]).unwrap_err().to_string();
        assert!(error.contains("batch 1 does not have the schema of batch 0: column \"id\""), "{error}");
        assert!(batches(Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn batches_in_memory_resume_at_any_row(sizes in proptest::collection::vec(0i64..40, 1..6), target in 1u64..400, from in 0u64..20) {
            let mut start = 0;
            let all: Vec<_> = sizes.iter().map(|n| { start += n; ids(start - n..start) }).collect();
            let scan = batches(all).unwrap();
            prop_assert_eq!(read_all(&scan, Bytes(target)).unwrap(), ids(0..start));
            let (source, splits) = scan.lower(Bytes(target)).unwrap();
            let mut first = 0;
            for split in &splits {
                let rows = split.rows.unwrap().0;
                let from = from.min(rows);
                let read = drain(open(&source, split, from, BATCH).as_mut(), from).unwrap();
                let read = arrow::compute::concat_batches(&scan.schema(), &read).unwrap();
                prop_assert_eq!(read, ids((first + from) as i64..(first + rows) as i64));
                first += rows;
            }
        }
    }
}
