//! The input of a task as a worker reads it: slice after slice, from a split or from blocks.

use std::collections::VecDeque;
use std::ops::Range;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;

use super::slices::rows_for;
use super::task::Piece;
use crate::block::{BlockName, Origins, Segment, Segments, batch_bytes};
use crate::operator::{BatchSize, OperatorResult, SplitReader};
use crate::runtime::watch::guarded;
use crate::units::{Bytes, Rows};

/// What is left of a task's input.
pub(crate) enum Input {
    Reading(Reading),
    Pieces(Pieces),
}

/// A slice of input, ready for a call.
pub(crate) struct Slice {
    /// One batch, or as many of the operator's batch size as make a slice.
    pub(crate) batches: Vec<RecordBatch>,
    /// Rows of the task's input that are behind, this slice included.
    pub(crate) progress: Rows,
    /// The segments that it stands for, or shares of them.
    pub(crate) segments: Segments,
    /// Where its rows come from, if that is known.
    pub(crate) origins: Origins,
}

impl Input {
    /// What the next slice will take, as far as known: its own bytes if they are not in memory yet.
    pub(crate) fn next_bytes(&self, slice: Bytes) -> NextBytes {
        match self {
            Self::Reading(reading) => match &reading.batch {
                Some(batch) => NextBytes::InMemory(batch_bytes(batch).min(slice)),
                None => NextBytes::ToRead(match reading.batch_size.rows() {
                    None => reading.reader.next_bytes(),
                    // Batches are read until they make a slice.
                    Some(_) => reading.reader.next_bytes().max(slice),
                }),
            },
            Self::Pieces(pieces) => NextBytes::InMemory(pieces.next_bytes(slice)),
        }
    }

    /// The next slice of about `slice` bytes (or of exactly the operator's batch size); `None` at the end.
    pub(crate) fn next(&mut self, slice: Bytes) -> OperatorResult<Option<Slice>> {
        match self {
            Self::Reading(reading) => reading.next(slice),
            Self::Pieces(pieces) => pieces.next(slice),
        }
    }
}

/// Bytes that a slice will take.
pub(crate) enum NextBytes {
    /// It is in memory already, and its room was taken when it came.
    InMemory(Bytes),
    /// It is still to be read.
    ToRead(Bytes),
}

/// A split being read. One batch of the reader may make several slices.
pub(crate) struct Reading {
    reader: Box<dyn SplitReader>,
    source: u32,
    split: u32,
    batch_size: BatchSize,
    batch: Option<RecordBatch>,
    /// The rows of the split that are left: from behind the last slice to where the task ends.
    left: Range<Rows>,
}

impl Reading {
    pub(crate) fn new(
        reader: Box<dyn SplitReader>,
        (source, split): (u32, u32),
        rows: Range<Rows>,
        batch_size: BatchSize,
    ) -> Self {
        Self { reader, source, split, batch_size, batch: None, left: rows }
    }

    /// One batch of the reader or a part of it; where the operator says how many rows a batch has, as many as make a
    /// slice, so that each is decoded into cache and a call still gets enough.
    fn next(&mut self, slice: Bytes) -> OperatorResult<Option<Slice>> {
        let rows_of_batch = self.batch_size.rows();
        let most = if rows_of_batch.is_some() { BATCHES_A_SLICE_MAX } else { 1 };
        let (mut batches, mut bytes) = (Vec::new(), Bytes(0));
        while batches.is_empty() || self.batch.is_none() && bytes < slice && batches.len() < most {
            let (batch, whole) = match self.batch.take() {
                Some(batch) => (batch, false),
                None => match self.read()? {
                    Some(read) => read,
                    None => break,
                },
            };
            let rows = if whole { batch.num_rows() } else { rows_of_about(&batch, slice - bytes) };
            if rows < batch.num_rows() {
                self.batch = Some(batch.slice(rows, batch.num_rows() - rows));
            }
            let batch = batch.slice(0, rows);
            bytes += batch_bytes(&batch);
            match rows_of_batch {
                None => batches.push(batch),
                Some(most) => batches.extend(cut(&batch, most.get())),
            }
        }
        if batches.is_empty() {
            return Ok(None);
        }
        // Without dropped rows in the last batch, rows can be counted back from its end, which is where the reader is.
        let rest = self.batch.as_ref().map_or(0, RecordBatch::num_rows);
        let progress = self.reader.rows_read().min(self.left.end) - Rows(rest as u64);
        let segments = self.segment(progress);
        let origins = self.origins(&batches, progress);
        self.left.start = progress;
        Ok(Some(Slice { batches, progress, segments, origins }))
    }

    /// All that is left up to there.
    fn segment(&self, to: Rows) -> Segments {
        Segments::one(Segment { source: self.source, split: self.split, from: self.left.start, to })
    }

    /// Where the rows of batches come from that reach up to there; unknown where rows were dropped around them.
    fn origins(&self, batches: &[RecordBatch], to: Rows) -> Origins {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let Range { start: from, .. } = self.left;
        let all = from + Rows(rows as u64) == to;
        let rows = Segment { source: self.source, split: self.split, from, to };
        if all { Origins::one(rows) } else { Origins::default() }
    }

    /// The next batch that has rows, and whether it must stay whole: where the reader dropped rows around or inside it,
    /// nobody knows at which row of the split a part of it would end.
    fn read(&mut self) -> OperatorResult<Option<(RecordBatch, bool)>> {
        loop {
            let before = self.reader.rows_read();
            if before >= self.left.end {
                return Ok(None);
            }
            let Some(batch) = guarded(|| self.reader.next_batch())?? else { return Ok(None) };
            if batch.num_rows() > 0 {
                let whole = self.reader.rows_read() - before != Rows(batch.num_rows() as u64);
                return Ok(Some((self.cut_off(batch, whole)?, whole)));
            }
        }
    }

    /// Without the rows behind the end of the task.
    fn cut_off(&self, batch: RecordBatch, whole: bool) -> OperatorResult<RecordBatch> {
        let beyond = (self.reader.rows_read() - self.left.end.min(self.reader.rows_read())).0 as usize;
        match beyond {
            0 => Ok(batch),
            _ if whole => Err("a reader that drops rows read beyond the rows that it was opened for".into()),
            _ => Ok(batch.slice(0, batch.num_rows().saturating_sub(beyond))),
        }
    }

    /// The rest of the task had no rows left: the segment that says so. It reaches to the end of the split however many
    /// rows that has, so that a split is known to be finished also where nobody counted its rows.
    pub(crate) fn tail(&self) -> (Rows, Segments) {
        let read = self.reader.rows_read().max(self.left.start);
        let segments = if self.left.is_empty() { Segments::default() } else { self.segment(self.left.end) };
        (read.min(self.left.end), segments)
    }

    pub(crate) fn take_skipped(&mut self) -> Vec<String> {
        self.reader.take_skipped()
    }
}

/// Rows of blocks being worked through.
pub(crate) struct Pieces {
    batches: VecDeque<RecordBatch>,
    /// The blocks that the rows are of.
    spans: VecDeque<Span>,
    batch_size: BatchSize,
    behind: Rows,
}

/// Rows of the input that are of one block.
struct Span {
    rows: Range<u64>,
    /// Row of the block that the first of them is.
    from: u64,
    /// Rows of the block.
    all: u64,
    segments: Segments,
    origins: Origins,
}

impl Span {
    /// What its rows up to `to` stand for, from `from` on.
    fn part(&self, from: u64, to: u64) -> (Segments, Origins) {
        let at = |row: u64| self.from + row.clamp(self.rows.start, self.rows.end) - self.rows.start;
        (self.segments.part(at(from), at(to), self.all), self.origins.part(at(from), at(to)))
    }
}

/// The blocks that the rows of pieces are of. What ends at `from` went with the results of the rows before.
fn spans(pieces: &[Piece], from: Rows) -> VecDeque<Span> {
    let mut at = 0;
    let span = |piece: &Piece| {
        let rows = at..at + piece.rows as u64;
        at = rows.end;
        let BlockName { rows: of, segments, origins, .. } = &*piece.arrived.block;
        let (segments, origins) = (segments.clone(), origins.clone());
        Span { rows, from: piece.from as u64, all: of.0, segments, origins }
    };
    pieces.iter().map(span).filter(|span| span.rows.end > from.0 || from == Rows(0)).collect()
}

/// What the rows from `from` to `to` stand for, all before them having been taken. Spans that end there are done with.
fn take_part(spans: &mut VecDeque<Span>, from: u64, to: u64) -> (Segments, Origins) {
    let (mut segments, mut origins) = <(Segments, Origins)>::default();
    let mut add = |(more, rows): (Segments, Origins)| {
        segments.append(&more);
        origins.append(rows);
    };
    while let Some(span) = spans.pop_front_if(|span| span.rows.end <= to) {
        add(span.part(from, to));
    }
    if let Some(cut) = spans.front().filter(|span| span.rows.start < to) {
        add(cut.part(from, to));
    }
    (segments, origins)
}

/// What rows of pieces stand for, and where they come from: the same that they would carry as a slice of a task.
pub(crate) fn segments_of(pieces: &[Piece], from: Rows, to: Rows) -> (Segments, Origins) {
    take_part(&mut spans(pieces, from), from.0, to.0)
}

impl Pieces {
    /// Rows `rows` of the pieces, to where they end.
    pub(crate) fn new(pieces: &[Piece], rows: Range<Rows>, batch_size: BatchSize) -> OperatorResult<Self> {
        let Range { start: from, end: until } = rows;
        let spans = spans(pieces, from);
        let mut all = Self { batches: VecDeque::new(), spans, batch_size, behind: from };
        let mut skip = from.0 as usize;
        let mut left = (until - from.min(until)).0 as usize;
        for piece in pieces {
            let mut start = 0;
            let block = piece.arrived.block.bring()?;
            for batch in block.batches() {
                let first = piece.from.max(start);
                let end = (piece.from + piece.rows).min(start + batch.num_rows());
                if first < end {
                    let rows = end - first;
                    let skipped = skip.min(rows);
                    skip -= skipped;
                    let rows = (rows - skipped).min(left);
                    left -= rows;
                    if rows > 0 {
                        all.batches.push_back(batch.slice(first - start + skipped, rows));
                    }
                }
                start += batch.num_rows();
            }
        }
        Ok(all)
    }

    /// Rows that are left, and about the bytes of one of them.
    pub(crate) fn left(&self) -> Option<(usize, Bytes)> {
        let front = self.batches.front()?;
        let rows = self.batches.iter().map(RecordBatch::num_rows).sum();
        Some((rows, Bytes(batch_bytes(front).0.div_ceil(front.num_rows().max(1) as u64))))
    }

    /// The next `rows` rows as one batch, fewer at the end of the input.
    pub(crate) fn next_rows(&mut self, rows: usize) -> OperatorResult<Option<Slice>> {
        let batch = self.exactly(rows)?;
        Ok(batch.map(|batch| self.slice(vec![batch])))
    }

    fn next_bytes(&self, slice: Bytes) -> Bytes {
        match self.batch_size.rows() {
            None => self.batches.front().map_or(Bytes(0), |batch| batch_bytes(batch).min(slice)),
            Some(rows) => {
                let Some(front) = self.batches.front() else { return Bytes(0) };
                let left: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
                let rows = self.whole_batches(rows.get(), slice).saturating_mul(rows.get()).min(left) as u64;
                Bytes(batch_bytes(front).0.saturating_mul(rows) / front.num_rows().max(1) as u64)
            }
        }
    }

    fn next(&mut self, slice: Bytes) -> OperatorResult<Option<Slice>> {
        let batches = match self.batch_size.rows() {
            None => {
                let Some(front) = self.batches.front() else { return Ok(None) };
                let rows = rows_of_about(front, slice);
                Vec::from_iter(self.take_rows(rows))
            }
            Some(rows) => {
                let count = self.whole_batches(rows.get(), slice);
                let batches = (0..count).map_while(|_| self.exactly(rows.get()).transpose());
                batches.collect::<OperatorResult<Vec<_>>>()?
            }
        };
        if batches.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.slice(batches)))
    }

    /// These are the next batches.
    fn slice(&mut self, batches: Vec<RecordBatch>) -> Slice {
        let from = self.behind.0;
        self.behind += Rows(batches.iter().map(|batch| batch.num_rows() as u64).sum());
        let (segments, origins) = take_part(&mut self.spans, from, self.behind.0);
        Slice { batches, progress: self.behind, segments, origins }
    }

    /// How many batches of `rows` rows make a slice: at least one.
    fn whole_batches(&self, rows: usize, slice: Bytes) -> usize {
        let front = self.batches.front();
        front.map_or(0, |front| (rows_for(slice, front.num_rows(), batch_bytes(front)) / rows.max(1)).max(1))
    }

    /// At most `rows` rows, all from the first batch.
    fn take_rows(&mut self, rows: usize) -> Option<RecordBatch> {
        let front = self.batches.pop_front()?;
        if front.num_rows() <= rows {
            return Some(front);
        }
        self.batches.push_front(front.slice(rows, front.num_rows() - rows));
        Some(front.slice(0, rows))
    }

    /// Exactly `rows` rows (fewer at the end of the input), copied together only where a border lies in between.
    fn exactly(&mut self, rows: usize) -> OperatorResult<Option<RecordBatch>> {
        let mut parts = Vec::new();
        let mut missing = rows;
        while missing > 0
            && let Some(part) = self.take_rows(missing)
        {
            missing -= part.num_rows();
            parts.push(part);
        }
        match parts.len() {
            0 | 1 => Ok(parts.pop()),
            _ => {
                let schema = parts.first().map(RecordBatch::schema).ok_or("parts are not empty")?;
                Ok(Some(concat_batches(&schema, parts.iter())?))
            }
        }
    }
}

/// Most batches of a reader in one slice, for batches that take hardly any bytes.
const BATCHES_A_SLICE_MAX: usize = 64;

/// The batch in parts of at most `rows` rows.
fn cut(batch: &RecordBatch, rows: usize) -> impl Iterator<Item = RecordBatch> {
    let firsts = (0..batch.num_rows()).step_by(rows.max(1));
    firsts.map(move |first| batch.slice(first, rows.min(batch.num_rows() - first)))
}

/// Rows from the front of a batch that take about `slice` bytes: an average first, halved while a few huge rows make
/// the slice twice too large.
fn rows_of_about(batch: &RecordBatch, slice: Bytes) -> usize {
    let mut rows = rows_for(slice, batch.num_rows(), batch_bytes(batch));
    while rows > 1 && rows < batch.num_rows() && batch_bytes(&batch.slice(0, rows)).0 > 2 * slice.0 {
        rows /= 2;
    }
    rows
}
