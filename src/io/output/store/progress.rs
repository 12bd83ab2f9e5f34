//! How far a job on a store came: what its ledger says, and what waits to get into it. Pure.

use mobula_actors::block::{Segment, Segments};
use mobula_actors::function::encode;
use mobula_actors::job::{DeadLetter, Logic, Topology};
use mobula_actors::ledger::{Coverage, Groups, Record};
use mobula_actors::operator::Left;
use serde::{Deserialize, Serialize};

use crate::io::error::{IoError, IoResult};
use crate::io::output::letters::Letters;
use crate::io::output::manifest::{Manifest, ManifestFile};
use crate::io::output::plan::JobPlan;
use crate::io::output::recorder::read_back;
use crate::io::sink::{Part, Uploaded};

/// A part in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredPart {
    /// Its name, which readers will see.
    pub(super) name: String,
    /// Number of its task, with that of the run.
    number: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// XXH3 of its bytes.
    pub(super) checksum: u64,
    /// The first row that it stands for: where it belongs among the others.
    place: Option<(u32, u32, u64)>,
    pub(super) upload: Uploaded,
}

/// What is noted in the ledger beside what is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Note {
    /// The job is given up, and nothing comes behind this.
    GivenUp,
}

/// How far a job came.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) coverage: Coverage,
    pub(super) parts: Vec<StoredPart>,
    pub(super) letters: Letters,
    /// How many processes have begun with the job.
    pub(super) epochs: u32,
    waiting: Groups<StoredPart>,
    /// Parts of a job with a limit, which are recorded when all of it is there.
    loose: Vec<StoredPart>,
}

impl Progress {
    /// What the ledger says.
    pub(super) fn replay(records: Vec<Record>) -> IoResult<Self> {
        let mut progress = Self::default();
        for record in records {
            progress.replay_one(record)?;
        }
        Ok(progress)
    }

    fn replay_one(&mut self, record: Record) -> IoResult<()> {
        match record {
            Record::Begun { epoch } => self.epochs = epoch + 1,
            Record::Committed { segments, parts } => {
                segments.iter().try_for_each(|segment| self.coverage.insert(segment))?;
                for part in parts {
                    self.parts.push(read_back(&part)?);
                }
            }
            Record::GaveUp { segments, letters } => {
                segments.iter().try_for_each(|segment| self.coverage.insert(segment))?;
                self.letters.found(read_back::<Vec<DeadLetter>>(&letters)?);
            }
            Record::Noted(_) => {}
        }
        Ok(())
    }

    /// Whether something is finished that would be lost with the job.
    pub(super) fn has_work(&self) -> bool {
        !(self.parts.is_empty() && self.coverage.is_empty())
    }

    /// Results came: the records of what is whole with them, dead letters first, so that none is finished without one.
    pub(super) fn add(&mut self, plan: &JobPlan, parts: Vec<Part>, segments: &Segments) -> IoResult<Vec<Record>> {
        let place = segments.iter().map(|(segment, _)| (segment.source, segment.split, segment.from.0)).min();
        let parts = parts.into_iter().map(|part| stored(part, place)).collect::<IoResult<Vec<_>>>()?;
        if !plan.reads_all {
            // A limit stops anywhere: what it let through counts when all of it is there.
            self.loose.extend(parts);
            return Ok(Vec::new());
        }
        let Some(whole) = self.waiting.add(parts, segments) else { return Ok(Vec::new()) };
        whole.segments.iter().try_for_each(|segment| self.coverage.insert(segment))?;
        let (given_up, segments) = self.letters.take(whole.segments)?;
        let is_empty = segments.is_empty() && whole.parts.is_empty();
        let committed = if is_empty { None } else { Some(committed(segments, &whole.parts)?) };
        self.parts.extend(whole.parts);
        Ok(given_up.into_iter().chain(committed).collect())
    }

    /// All has come: the records that are still missing. `empty` makes a part without rows, for an output without any.
    pub(super) fn end(&mut self, plan: &JobPlan, empty: impl FnOnce() -> IoResult<Part>) -> IoResult<Vec<Record>> {
        let complete = !plan.reads_all || self.coverage.is_complete(&plan.splits());
        if !complete || self.waiting.waiting() > 0 {
            let left: usize = (0..).zip(plan.splits()).map(|(n, splits)| self.coverage.left(n, splits).len()).sum();
            return Err(IoError::Internal(format!(
                "the job ended with {left} ranges of rows that no result stands for"
            )));
        }
        let mut records = Vec::new();
        records.extend(self.letters.take_all()?);
        if !self.loose.is_empty() {
            records.push(committed(Vec::new(), &self.loose)?);
            self.parts.append(&mut self.loose);
        }
        if self.parts.is_empty() {
            self.parts.push(stored(empty()?, None)?);
            records.push(committed(Vec::new(), &self.parts)?);
        }
        Ok(records)
    }

    /// Forgets what came and is not in the ledger, and gives its parts: they will be made again.
    pub(super) fn forget(&mut self) -> Vec<StoredPart> {
        self.letters.forget();
        let mut parts = self.waiting.clear();
        parts.append(&mut self.loose);
        parts
    }

    /// What is left to read of each source. A job with a limit reads all again, unless all of it was recorded.
    pub(super) fn left(&self, plan: &JobPlan) -> Vec<Vec<Left>> {
        let over = !plan.reads_all && !self.parts.is_empty();
        let left = |(n, splits)| if over { Vec::new() } else { self.coverage.left(n, splits) };
        (0..).zip(plan.splits()).map(left).collect()
    }

    /// What is visible once all parts are, in the order of the rows.
    pub(super) fn manifest(&self) -> Manifest {
        let file = |part: &StoredPart| ManifestFile {
            name: part.name.clone(),
            rows: part.rows,
            bytes: part.bytes,
            xxh3: format!("{:016x}", part.checksum),
        };
        let mut parts: Vec<&StoredPart> = self.parts.iter().collect();
        parts.sort_by_key(|part| (part.place, part.number));
        Manifest::new(parts.into_iter().map(file).collect(), self.letters.count())
    }
}

/// The record that gives a job up.
pub(super) fn given_up() -> IoResult<Record> {
    Ok(Record::Noted(encode(&Note::GivenUp).map_err(|e| IoError::Internal(e.to_string()))?))
}

/// Whether records say that their job is given up.
pub(super) fn is_given_up(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record, Record::Noted(note) if read_back(note).ok() == Some(Note::GivenUp)))
}

/// The operators that read, in the order of the plan's sources, which does not depend on what shares an operator.
pub(super) struct Reads(Vec<usize>);

impl Reads {
    pub(super) fn of(topology: &Topology) -> Self {
        let is_read = |(index, logic): (usize, &Logic)| matches!(logic, Logic::Read { .. }).then_some(index);
        Self(topology.operators.iter().map(|plan| &plan.logic).enumerate().filter_map(is_read).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }

    /// The segment with the number of its source instead of that of its operator.
    pub(super) fn by_source(&self, segment: Segment) -> IoResult<Segment> {
        let found = self.0.iter().position(|read| *read == segment.source as usize);
        let source = found.ok_or_else(|| IoError::Internal(format!("operator {} does not read", segment.source)))?;
        Ok(Segment { source: source as u32, ..segment })
    }
}

fn committed(segments: Vec<Segment>, parts: &[StoredPart]) -> IoResult<Record> {
    let parts = parts.iter().map(encode).collect::<Result<_, _>>();
    Ok(Record::Committed { segments, parts: parts.map_err(|e| IoError::Internal(e.to_string()))? })
}

fn stored(part: Part, place: Option<(u32, u32, u64)>) -> IoResult<StoredPart> {
    let Part { path, number, rows, bytes, checksum, upload } = part;
    let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    match (name, upload) {
        (Some(name), Some(upload)) => {
            Ok(StoredPart { name, number, rows: rows.0, bytes: bytes.0, checksum, place, upload })
        }
        _ => Err(IoError::Internal(format!("the part {} is no upload", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::output::{Format, WriteOptions};
    use mobula_actors::units::{Bytes, Rows};

    fn part(number: u64) -> Part {
        let upload = Some(Uploaded { id: format!("u{number}"), pieces: vec!["e".into()] });
        let path = format!("s3://b/p/part-{number}").into();
        Part { path, number, rows: Rows(5), bytes: Bytes(50), checksum: 9, upload }
    }

    fn plan() -> JobPlan {
        JobPlan::nothing(Format::Parquet, &WriteOptions::default())
    }

    #[test]
    fn what_the_ledger_says_is_what_was_added() {
        let whole = |split| Segments::one(Segment { source: 0, split, from: Rows(0), to: Segment::END });
        let mut progress = Progress::default();
        let first = progress.add(&plan(), vec![part(7)], &whole(1)).unwrap();
        assert_eq!(progress.add(&plan(), vec![part(8)], &whole(0).part(0, 1, 2)).unwrap(), Vec::new());
        let second = progress.add(&plan(), vec![part(9)], &whole(0).part(1, 2, 2)).unwrap();
        assert!(progress.add(&plan(), vec![part(10)], &whole(0)).is_err(), "rows that are finished do not come again");
        let replayed = Progress::replay([first, second].concat()).unwrap();
        assert_eq!((replayed.parts.len(), &replayed.coverage), (3, &progress.coverage));
        assert!(replayed.has_work() && !Progress::default().has_work());
    }

    #[test]
    fn the_end_of_a_job_without_rows_is_a_part_without_rows_and_the_order_is_that_of_rows() {
        let mut progress = Progress::default();
        let records = progress.end(&plan(), || Ok(part(0))).unwrap();
        assert_eq!((records.len(), progress.manifest().files.len()), (1, 1));
        let mut two = Progress::default();
        for (number, from) in [(3, 10), (4, 0)] {
            two.parts.push(stored(part(number), Some((0, 0, from))).unwrap());
        }
        two.end(&plan(), || Ok(part(0))).unwrap();
        let names: Vec<_> = two.manifest().files.into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["part-4", "part-3"]);
    }

    #[test]
    fn a_job_that_is_given_up_says_so() {
        assert!(is_given_up(&[Record::Begun { epoch: 0 }, given_up().unwrap()]));
        assert!(!is_given_up(&[Record::Begun { epoch: 0 }]));
    }
}
