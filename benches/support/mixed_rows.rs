//! Rows of 1 kB to 1 MB, made up as fast as memory can be filled: a source that costs nearly nothing, and two maps.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, LargeBinaryArray, UInt64Array};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::record_batch::RecordBatch;
use mobula_actors::operator::{BoxError, OpenContext, OperatorResult, ReadBatch, Source, Split, SplitReader};
use mobula_actors::units::{Bytes, Rows};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// By how much [`inflate`] makes rows longer.
pub(crate) const FACTOR: usize = 8;

/// Smallest and largest row, in bytes; all orders of magnitude in between are equally likely.
const ROW_BYTES: (f64, f64) = (1e3, 1e6);
/// Bytes of one split.
const SPLIT_BYTES: usize = 8 << 20;

/// Makes up rows: the number of a split is the seed of its rows.
pub(crate) struct MixedRows;

/// Splits of `bytes` together, about.
pub(crate) fn splits(bytes: u64) -> Vec<Split> {
    let split = |number: u64| {
        let lengths = lengths(number);
        Split {
            label: format!("split {number}"),
            rows: Some(Rows(lengths.len() as u64)),
            bytes: Bytes(lengths.iter().sum::<usize>() as u64),
            payload: number.to_le_bytes().to_vec(),
            file: None,
        }
    };
    (0..bytes.div_ceil(SPLIT_BYTES as u64)).map(split).collect()
}

/// Lengths of the rows of a split.
fn lengths(split: u64) -> Vec<usize> {
    let mut random = SmallRng::seed_from_u64(split);
    let (mut lengths, mut bytes) = (Vec::new(), 0);
    while bytes < SPLIT_BYTES {
        let (least, most) = ROW_BYTES;
        let length = (least * (most / least).powf(random.random())) as usize;
        bytes += length;
        lengths.push(length);
    }
    lengths
}

impl Source for MixedRows {
    fn open(
        &self,
        split: &Split,
        rows: Range<Rows>,
        batch: ReadBatch,
        _: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        let number = u64::from_le_bytes(split.payload.as_slice().try_into()?);
        Ok(Box::new(Reader {
            lengths: lengths(number),
            read: rows.start.0 as usize,
            batch_bytes: batch.bytes.0 as usize,
        }))
    }
}

struct Reader {
    lengths: Vec<usize>,
    read: usize,
    batch_bytes: usize,
}

impl Reader {
    /// Lengths of the rows of the next batch: as many as fit, at least one.
    fn next_lengths(&self) -> &[usize] {
        let left = &self.lengths[self.read..];
        let mut bytes = 0;
        let fit = left.iter().take_while(|length| {
            bytes += *length;
            bytes <= self.batch_bytes
        });
        &left[..fit.count().max(1).min(left.len())]
    }
}

impl SplitReader for Reader {
    fn next_bytes(&self) -> Bytes {
        Bytes(self.next_lengths().iter().sum::<usize>() as u64)
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        let lengths = self.next_lengths();
        if lengths.is_empty() {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(lengths.iter().sum());
        for (row, length) in lengths.iter().enumerate() {
            values.resize(values.len() + length, fill(self.read + row));
        }
        let batch = column(lengths.iter().copied(), values)?;
        self.read += batch.num_rows();
        Ok(Some(batch))
    }

    fn rows_read(&self) -> Rows {
        Rows(self.read as u64)
    }
}

/// The byte that a row is made of; never zero, so that its memory is really written.
fn fill(row: usize) -> u8 {
    (row % 255 + 1) as u8
}

fn column(lengths: impl Iterator<Item = usize>, values: Vec<u8>) -> OperatorResult<RecordBatch> {
    let offsets = OffsetBuffer::from_lengths(lengths);
    let payload: ArrayRef = Arc::new(LargeBinaryArray::try_new(offsets, Buffer::from_vec(values), None)?);
    Ok(RecordBatch::try_from_iter([("payload", payload)])?)
}

fn payload(batch: &RecordBatch) -> Result<&LargeBinaryArray, BoxError> {
    batch.column(0).as_binary_opt().ok_or_else(|| "the payload is binary".into())
}

/// Makes each row [`FACTOR`] times as long.
pub(crate) fn inflate(batch: RecordBatch) -> Result<RecordBatch, BoxError> {
    let rows = payload(&batch)?;
    let mut values = Vec::with_capacity(FACTOR * rows.iter().flatten().map(<[u8]>::len).sum::<usize>());
    for row in rows.iter().flatten() {
        (0..FACTOR).for_each(|_| values.extend_from_slice(row));
    }
    column(rows.iter().flatten().map(|row| FACTOR * row.len()), values)
}

/// Makes two numbers of each row: its length and the sum of its bytes.
pub(crate) fn reduce(batch: RecordBatch) -> Result<RecordBatch, BoxError> {
    let rows = payload(&batch)?;
    let lengths: UInt64Array = rows.iter().flatten().map(|row| Some(row.len() as u64)).collect();
    let sums: UInt64Array = rows.iter().flatten().map(|row| Some(sum(row))).collect();
    Ok(RecordBatch::try_from_iter([("length", Arc::new(lengths) as ArrayRef), ("sum", Arc::new(sums) as ArrayRef)])?)
}

fn sum(row: &[u8]) -> u64 {
    row.iter().map(|byte| u64::from(*byte)).sum()
}

/// What the numbers of [`reduce`] must add up to over these splits: lengths, then sums of bytes.
pub(crate) fn expected(splits: usize) -> (u64, u64) {
    let rows = (0..splits as u64).flat_map(|split| lengths(split).into_iter().enumerate());
    rows.fold((0, 0), |(lengths, sums), (row, length)| {
        let length = (FACTOR * length) as u64;
        (lengths + length, sums + length * u64::from(fill(row)))
    })
}
