//! Dead letters beside an output: in the ledger as soon as what they stand for is committed, and as a Parquet table once the
//! job has finished.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt32Array, UInt64Array};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use mobula_actors::block::Segment;
use mobula_actors::function::encode;
use mobula_actors::job::{DeadLetter, Place};
use mobula_actors::ledger::{Coverage, Record};
use mobula_actors::runtime::Disk;
use parquet::arrow::ArrowWriter;

use super::folder::Folder;
use crate::io::error::{IoError, IoResult};
use crate::io::replay::kept::Sources;

/// Dead letters of one job.
#[derive(Default)]
pub(super) struct Letters {
    /// In the ledger.
    durable: Vec<DeadLetter>,
    /// Not there yet: what they stand for is not committed.
    waiting: Vec<DeadLetter>,
}

impl Letters {
    /// The ledger has these.
    pub(super) fn found(&mut self, letters: Vec<DeadLetter>) {
        self.durable.extend(letters);
    }

    /// These were given up.
    pub(super) fn add(&mut self, letters: Vec<DeadLetter>) {
        self.waiting.extend(letters);
    }

    /// What they stand for will be done again.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }

    /// Forgets those of what is not finished so far, which will be done and given up again: power was lost between record and
    /// commit. Of a job with a limit only the parts are known that it has finished.
    pub(super) fn keep_finished(&mut self, coverage: &Coverage, parts: usize) {
        let is_finished = |place: &Place| coverage.holds(&place.segment);
        if !coverage.is_empty() {
            self.durable.retain(|letter| letter.places.first().is_none_or(is_finished));
        } else if parts == 0 {
            self.durable.clear();
        }
    }

    /// How many the ledger has.
    pub(super) fn count(&self) -> u64 {
        self.durable.len() as u64
    }

    /// Segments are about to be committed: the record of the letters that stand for parts of them, which comes before, and
    /// the segments that it does not name. Of a letter that does not know its row, all that is known is that these are
    /// finished with it.
    pub(super) fn take(&mut self, segments: Vec<Segment>) -> IoResult<(Option<Record>, Vec<Segment>)> {
        let is_of = |place: &Place| segments.iter().any(|segment| holds(segment, &place.segment));
        let taken: Vec<_> = self.waiting.extract_if(.., |letter| letter.places.first().is_some_and(is_of)).collect();
        self.record(taken, segments)
    }

    /// The same for all that wait.
    pub(super) fn take_all(&mut self) -> IoResult<Option<Record>> {
        let taken = std::mem::take(&mut self.waiting);
        Ok(self.record(taken, Vec::new())?.0)
    }

    fn record(
        &mut self,
        taken: Vec<DeadLetter>,
        mut segments: Vec<Segment>,
    ) -> IoResult<(Option<Record>, Vec<Segment>)> {
        if taken.is_empty() {
            return Ok((None, segments));
        }
        let exact = |letter: &DeadLetter| letter.row().and_then(|_| letter.places.first()).map(|place| place.segment);
        let rows = taken.iter().filter_map(exact).filter(|row| cut_out(&mut segments, row)).collect();
        let letters = encode(&taken).map_err(|e| IoError::Internal(e.to_string()))?;
        self.durable.extend(taken);
        Ok((Some(Record::GaveUp { segments: rows, letters }), segments))
    }

    /// The table, if there are any.
    pub(super) fn to_parquet(&self) -> IoResult<Option<Vec<u8>>> {
        let bytes = (!self.durable.is_empty()).then(|| to_parquet(&self.durable)).transpose();
        bytes.map_err(|error| IoError::Internal(format!("dead letters: {error}")))
    }

    /// Writes the table, and how the rows are read again, if there are any.
    pub(super) fn write(&self, disk: &dyn Disk, folder: &Folder, sources: &Sources) -> IoResult<()> {
        let Some(bytes) = self.to_parquet()? else { return Ok(()) };
        write_file(disk, &folder.replay_path(), &sources.keep(&self.durable).to_bytes()?)?;
        let dir = folder.dead_letters();
        let path = dir.join("part-00000.parquet");
        disk.create_dir_all(&dir).map_err(|e| IoError::write(&dir, e))?;
        write_file(disk, &path, &bytes)?;
        disk.sync_dir(folder.path()).map_err(|e| IoError::write(folder.path(), e))
    }
}

/// A file whose bytes and name are durable. One that a crash left there is replaced.
fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> IoResult<()> {
    let write = || {
        let _ = disk.remove_file(path);
        let mut file = disk.create_new(path)?;
        file.write_all(bytes)?;
        file.sync()?;
        disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|e| IoError::write(path, e))
}

/// Whether all of these rows are in the segment. Ranges that touch may have become one since a row was given up.
pub(super) fn holds(segment: &Segment, rows: &Segment) -> bool {
    (segment.source, segment.split) == (rows.source, rows.split) && segment.from <= rows.from && rows.to <= segment.to
}

/// Takes rows out of the segment that holds them; `false` if none does.
fn cut_out(segments: &mut Vec<Segment>, rows: &Segment) -> bool {
    let Some(at) = segments.iter().position(|segment| holds(segment, rows)) else { return false };
    let whole = segments.swap_remove(at);
    let around = [Segment { to: rows.from, ..whole }, Segment { from: rows.to, ..whole }];
    segments.extend(around.into_iter().filter(|part| part.from < part.to));
    true
}

fn to_parquet(letters: &[DeadLetter]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let batch = table(letters)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

/// One line for each. `row` is empty where only a range is known, `rows_from..rows_to`, and `rows_to` where that is all that
/// is left of the split; rows are those of `input`, from 0.
fn table(letters: &[DeadLetter]) -> Result<RecordBatch, ArrowError> {
    let rows = |letter: &DeadLetter| letter.places.first().map(Place::rows);
    let input = |letter: &DeadLetter| letter.places.first().map(|place| place.input.clone());
    let from = |letter: &DeadLetter| rows(letter).map(|(from, _)| from.0);
    let texts =
        |of: fn(&DeadLetter) -> &str| Arc::new(StringArray::from_iter_values(letters.iter().map(of))) as ArrayRef;
    let numbers = |all: UInt64Array| Arc::new(all) as ArrayRef;
    let columns = [
        ("input", Arc::new(letters.iter().map(input).collect::<StringArray>()) as ArrayRef),
        ("row", numbers(letters.iter().map(|letter| letter.row().and_then(|_| from(letter))).collect())),
        ("rows_from", numbers(letters.iter().map(from).collect())),
        ("rows_to", numbers(letters.iter().map(|letter| Some(rows(letter)?.1?.0)).collect())),
        ("operator", texts(|letter| &letter.operator)),
        ("error", texts(|letter| &letter.error)),
        ("attempts", Arc::new(letters.iter().map(|letter| Some(letter.attempts)).collect::<UInt32Array>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| {
        let nullable = matches!(name, "input" | "row" | "rows_from" | "rows_to");
        (name, column, nullable)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::UInt64Type;
    use mobula_actors::units::Rows;

    fn segment(from: u64, to: u64) -> Segment {
        Segment { source: 0, split: 2, from: Rows(from), to: Rows(to) }
    }

    fn letter(from: u64, to: u64) -> DeadLetter {
        let places = vec![Place { input: "a.parquet".into(), first: Rows(0), segment: segment(from, to) }];
        DeadLetter { operator: "score".into(), places, attempts: 6, error: "bad".into() }
    }

    #[test]
    fn letters_are_recorded_with_the_segments_they_stand_for() {
        let mut letters = Letters::default();
        letters.add(vec![letter(5, 6), letter(10, 20), letter(90, 91)]);
        // Ranges that touch have become one on the way.
        let (record, rest) = letters.take(vec![segment(0, 8), segment(8, 25)]).unwrap();
        let expected = [segment(8, 25), segment(0, 5), segment(6, 8)];
        assert_eq!(rest, expected, "only a row that is known exactly is no part of the output");
        let Some(Record::GaveUp { segments, .. }) = record else { panic!("{record:?}") };
        assert_eq!((segments, letters.count()), (vec![segment(5, 6)], 2));
        letters.forget();
        assert!(letters.take(vec![segment(90, 91)]).unwrap().0.is_none());
    }

    #[test]
    fn the_table_says_what_is_known() {
        let mut later = letter(5, 6);
        later.places[0].first = Rows(100);
        let rows = table(&[later]).unwrap();
        let names = |name: &str| rows[name].as_primitive::<UInt64Type>().value(0);
        assert_eq!(["row", "rows_from", "rows_to"].map(names), [105, 105, 106], "of the file");
        let table = table(&[letter(5, 6), letter(10, u64::MAX)]).unwrap();
        let nulls: Vec<usize> = table.columns().iter().map(|column| column.null_count()).collect();
        assert_eq!(nulls, [0, 1, 0, 1, 0, 0, 0]);
        assert!(!to_parquet(&[letter(1, 2)]).unwrap().is_empty());
    }
}
