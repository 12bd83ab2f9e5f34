//! Rows of 1 kB to 32 MB that do not compress, and a split now and then that takes long: what a spilling job is made of.

use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, LargeBinaryArray, UInt64Array};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::record_batch::RecordBatch;
use mobula_actors::operator::{BoxError, OpenContext, OperatorResult, ReadBatch, Source, Split, SplitReader};
use mobula_actors::units::{Bytes, Rows};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

/// Smallest and largest row, in bytes; all orders of magnitude in between are equally likely.
const ROW_BYTES: (f64, f64) = (1e3, 32e6);
/// Bytes of one split.
const SPLIT_BYTES: usize = 64 << 20;
/// One split in so many takes long to open.
const SLOW: u64 = 32;
/// And so long.
const SLOW_TIME: Duration = Duration::from_secs(4);
/// Rows are parts of so many random bytes, again and again: far more than LZ4 looks back.
const NOISE_BYTES: usize = 1 << 20;

/// Makes up rows: the number of a split is the seed of its rows.
pub(crate) struct NoiseRows;

/// Splits of `bytes` together, about.
pub(crate) fn splits(bytes: u64) -> Vec<Split> {
    let split = |number: u64| Split {
        label: format!("split {number}"),
        rows: Some(Rows(rows(number).len() as u64)),
        bytes: Bytes(SPLIT_BYTES as u64),
        payload: number.to_le_bytes().to_vec(),
        file: None,
    };
    (0..bytes.div_ceil(SPLIT_BYTES as u64)).map(split).collect()
}

/// Where each row of a split begins in the noise, and its length.
fn rows(split: u64) -> Vec<(usize, usize)> {
    let mut random = SmallRng::seed_from_u64(split);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while bytes < SPLIT_BYTES {
        let (least, most) = ROW_BYTES;
        let length = (least * (most / least).powf(random.random())) as usize;
        bytes += length;
        rows.push((random.random_range(0..NOISE_BYTES), length));
    }
    rows
}

/// Random bytes.
pub(crate) fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut noise = vec![0; NOISE_BYTES];
        SmallRng::seed_from_u64(5).fill_bytes(&mut noise);
        noise
    })
}

impl Source for NoiseRows {
    fn open(
        &self,
        split: &Split,
        left: std::ops::Range<Rows>,
        batch: ReadBatch,
        _: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        let number = u64::from_le_bytes(split.payload.as_slice().try_into()?);
        if number % SLOW == 0 {
            sleep(SLOW_TIME);
        }
        Ok(Box::new(Reader { rows: rows(number), read: left.start.0 as usize, batch_bytes: batch.bytes.0 as usize }))
    }
}

struct Reader {
    rows: Vec<(usize, usize)>,
    read: usize,
    batch_bytes: usize,
}

impl Reader {
    /// The rows of the next batch: as many as fit, at least one.
    fn next_rows(&self) -> &[(usize, usize)] {
        let left = &self.rows[self.read..];
        let mut bytes = 0;
        let fit = left.iter().take_while(|(_, length)| {
            bytes += *length;
            bytes <= self.batch_bytes
        });
        &left[..fit.count().max(1).min(left.len())]
    }
}

impl SplitReader for Reader {
    fn next_bytes(&self) -> Bytes {
        Bytes(self.next_rows().iter().map(|(_, length)| *length as u64).sum())
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        let rows = self.next_rows();
        if rows.is_empty() {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(rows.iter().map(|(_, length)| *length).sum());
        for &(start, length) in rows {
            let end = values.len() + length;
            values.extend_from_slice(&noise()[start..][..length.min(NOISE_BYTES - start)]);
            while values.len() < end {
                values.extend_from_slice(&noise()[..NOISE_BYTES.min(end - values.len())]);
            }
        }
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|(_, length)| *length));
        let payload: ArrayRef = Arc::new(LargeBinaryArray::try_new(offsets, Buffer::from_vec(values), None)?);
        let batch = RecordBatch::try_from_iter([("payload", payload)])?;
        self.read += batch.num_rows();
        Ok(Some(batch))
    }

    fn rows_read(&self) -> Rows {
        Rows(self.read as u64)
    }
}

/// A slow sink: makes two numbers of each row, its length and the sum of its bytes, at `mib_s` at most.
pub(crate) fn slow_sink(mib_s: f64) -> impl Fn(RecordBatch) -> Result<RecordBatch, BoxError> + Clone {
    move |batch| {
        let rows = batch.column(0).as_binary_opt::<i64>().ok_or("the payload is binary")?;
        let lengths: Vec<u64> = rows.iter().flatten().map(|row| row.len() as u64).collect();
        let sums: UInt64Array =
            rows.iter().flatten().map(|row| Some(row.iter().map(|byte| u64::from(*byte)).sum())).collect();
        sleep(Duration::from_secs_f64(lengths.iter().sum::<u64>() as f64 / (mib_s * (1 << 20) as f64)));
        let lengths = Arc::new(UInt64Array::from(lengths)) as ArrayRef;
        Ok(RecordBatch::try_from_iter([("length", lengths), ("sum", Arc::new(sums) as ArrayRef)])?)
    }
}

/// What the numbers of [`slow_sink`] must add up to over these splits: lengths, then sums of bytes.
pub(crate) fn expected(splits: usize) -> (u64, u64) {
    let mut upto = vec![0u64];
    noise().iter().for_each(|byte| upto.push(upto.last().copied().unwrap_or_default() + u64::from(*byte)));
    let all = upto[NOISE_BYTES];
    let sum = |start: usize, length: usize| {
        let end = start + length;
        (end / NOISE_BYTES) as u64 * all + upto[end % NOISE_BYTES] - upto[start]
    };
    let rows = (0..splits as u64).flat_map(rows);
    rows.fold((0, 0), |(lengths, sums), (start, length)| (lengths + length as u64, sums + sum(start, length)))
}
