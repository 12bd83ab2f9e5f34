//! How far a job that writes came: what its ledger says, and what waits to get into it. Pure, and the same for folders and
//! stores, which differ in what a part is to them.

use mobula_actors::block::{Segment, Segments};
use mobula_actors::function::encode;
use mobula_actors::job::{DeadLetter, Logic, Skip, Topology};
use mobula_actors::ledger::{Coverage, Groups, Record};
use mobula_actors::operator::Left;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::letters::Letters;
use super::plan::JobPlan;
use super::recorder::read_back;
use super::skips::Skips;
use crate::io::error::{IoError, IoResult};
use crate::io::sink::Part;

/// The first row that a part stands for: source, split, row.
pub(super) type RowPlace = (u32, u32, u64);

/// A part as it is in a ledger.
pub(super) trait Recorded: Serialize + DeserializeOwned {
    /// What is kept of a part that a sink has finished, which stands for rows from this place on.
    fn of(part: Part, place: Option<RowPlace>) -> IoResult<Self>;

    /// Where it belongs among the others: by its rows, then by its task.
    fn order(&self) -> (Option<RowPlace>, u64);
}

/// How far a job came.
pub(super) struct Progress<P> {
    pub(super) coverage: Coverage,
    /// In the ledger, or about to be.
    pub(super) parts: Vec<P>,
    pub(super) letters: Letters,
    pub(super) skips: Skips,
    /// How many processes have begun with the job.
    pub(super) epochs: u32,
    waiting: Groups<P>,
    /// Parts of a job with a limit, which are recorded when all of it is there.
    loose: Vec<P>,
}

impl<P> Default for Progress<P> {
    fn default() -> Self {
        let (coverage, letters, waiting) = (Coverage::default(), Letters::default(), Groups::default());
        Self { coverage, parts: Vec::new(), letters, skips: Skips::default(), epochs: 0, waiting, loose: Vec::new() }
    }
}

impl<P: Recorded> Progress<P> {
    /// What the ledger says next; notes are somebody else's.
    pub(super) fn replay(&mut self, record: Record) -> IoResult<()> {
        match record {
            Record::Begun { epoch } => {
                self.epochs = epoch + 1;
                self.keep_finished();
            }
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
            Record::Skipped(skips) => self.skips.found(read_back::<Vec<Skip>>(&skips)?),
            Record::Noted(_) => {}
        }
        Ok(())
    }

    /// Whoever had the ledger is gone: what it told of rows that are not finished will be told again.
    pub(super) fn keep_finished(&mut self) {
        self.letters.keep_finished(&self.coverage, self.parts.len());
        self.skips.keep_finished(&self.coverage, self.parts.len());
    }

    /// Whether something is finished that would be lost with the job.
    pub(super) fn has_work(&self) -> bool {
        !(self.parts.is_empty() && self.coverage.is_empty())
    }

    /// Results came: the records of what is whole with them, dead letters first, so that none is finished without one.
    pub(super) fn add(&mut self, plan: &JobPlan, parts: Vec<Part>, segments: &Segments) -> IoResult<Vec<Record>> {
        let place = segments.iter().map(|(segment, _)| (segment.source, segment.split, segment.from.0)).min();
        let parts = parts.into_iter().map(|part| P::of(part, place)).collect::<IoResult<Vec<_>>>()?;
        if !plan.reads_all {
            // A limit stops anywhere: what it let through counts when all of it is there.
            self.loose.extend(parts);
            return Ok(Vec::new());
        }
        let Some(whole) = self.waiting.add(parts, segments) else { return Ok(Vec::new()) };
        whole.segments.iter().try_for_each(|segment| self.coverage.insert(segment))?;
        let skipped = self.skips.take(&whole.segments)?;
        let (given_up, segments) = self.letters.take(whole.segments)?;
        let is_empty = segments.is_empty() && whole.parts.is_empty();
        let committed = if is_empty { None } else { Some(committed(segments, &whole.parts)?) };
        self.parts.extend(whole.parts);
        Ok(skipped.into_iter().chain(given_up).chain(committed).collect())
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
        records.extend(self.skips.take_all()?);
        records.extend(self.letters.take_all()?);
        if self.parts.is_empty() && self.loose.is_empty() {
            self.loose.push(P::of(empty()?, None)?);
        }
        if !self.loose.is_empty() {
            records.push(committed(Vec::new(), &self.loose)?);
            self.parts.append(&mut self.loose);
        }
        Ok(records)
    }

    /// Forgets what came and is not in the ledger, and gives its parts: they will be made again.
    pub(super) fn forget(&mut self) -> Vec<P> {
        self.letters.forget();
        self.skips.forget();
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

fn committed<P: Recorded>(segments: Vec<Segment>, parts: &[P]) -> IoResult<Record> {
    let parts = parts.iter().map(encode).collect::<Result<_, _>>();
    Ok(Record::Committed { segments, parts: parts.map_err(|e| IoError::Internal(e.to_string()))? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::output::recorder::PartRecord;
    use crate::io::output::{Format, WriteOptions};
    use mobula_actors::job::Place;
    use mobula_actors::units::{Bytes, Rows};

    fn part(number: u64) -> Part {
        let path = format!("parts/part-{number}").into();
        Part { path, number, rows: Rows(5), bytes: Bytes(50), checksum: 9, upload: None }
    }

    fn plan() -> JobPlan {
        JobPlan::nothing(Format::Parquet, &WriteOptions::default())
    }

    /// One that reads a split, behind a limit.
    fn limited() -> JobPlan {
        let mut topology = crate::io::output::tests::reading(1);
        let mut limit = topology.operators[0].clone();
        limit.logic = Logic::Limit(Rows(5));
        topology.operators.push(limit);
        JobPlan::of(&topology, Vec::new(), Vec::new(), (Format::Parquet, &WriteOptions::default()), Bytes(9))
    }

    fn replayed(records: &[Record]) -> Progress<PartRecord> {
        let mut progress = Progress::default();
        records.iter().cloned().try_for_each(|record| progress.replay(record)).unwrap();
        progress
    }

    #[test]
    fn what_the_ledger_says_is_what_was_added() {
        let whole = |split| Segments::one(Segment { source: 0, split, from: Rows(0), to: Segment::END });
        let mut progress = Progress::<PartRecord>::default();
        let first = progress.add(&plan(), vec![part(7)], &whole(1)).unwrap();
        assert_eq!(progress.add(&plan(), vec![part(8)], &whole(0).part(0, 1, 2)).unwrap(), Vec::new());
        let second = progress.add(&plan(), vec![part(9)], &whole(0).part(1, 2, 2)).unwrap();
        assert!(progress.add(&plan(), vec![part(10)], &whole(0)).is_err(), "rows that are finished do not come again");
        let replayed = replayed(&[first, second].concat());
        assert_eq!((replayed.parts.len(), &replayed.coverage), (3, &progress.coverage));
        assert!(replayed.has_work() && !Progress::<PartRecord>::default().has_work());
    }

    #[test]
    fn the_end_of_a_job_without_rows_is_a_part_without_rows() {
        for plan in [plan(), limited()] {
            let mut progress = Progress::<PartRecord>::default();
            let records = progress.end(&plan, || Ok(part(0))).unwrap();
            assert_eq!((records.len(), progress.parts.len(), replayed(&records).parts.len()), (1, 1, 1));
        }
    }

    #[test]
    fn behind_a_limit_all_is_recorded_at_the_end_and_then_nothing_is_read_or_forgotten() {
        let mut progress = Progress::<PartRecord>::default();
        for number in 0..2 {
            assert_eq!(progress.add(&limited(), vec![part(number)], &Segments::default()).unwrap(), Vec::new());
            assert!(!progress.has_work());
        }
        assert_eq!(progress.forget().len(), 2, "they are made again");
        progress.add(&limited(), vec![part(2)], &Segments::default()).unwrap();
        let records = progress.end(&limited(), || panic!("there are rows")).unwrap();
        let mut again = replayed(&records);
        assert_eq!((again.parts.len(), again.left(&limited())), (1, vec![Vec::new()]));
        assert_eq!(again.forget(), Vec::new(), "what is in the ledger stays");
        assert_eq!(again.end(&limited(), || panic!("there are rows")).unwrap(), Vec::new(), "it is there once");
    }

    #[test]
    fn what_was_left_out_is_told_once_its_split_is_finished_and_read_again_before() {
        let end = Segment { source: 0, split: 1, from: Rows(u64::MAX - 1), to: Segment::END };
        let skip = |reason: &str| Skip { segment: end, reason: reason.into() };
        let mut progress = Progress::<PartRecord>::default();
        // The task was tried twice.
        progress.skips.add(vec![skip("torn"), skip("torn")]);
        let plan = plan();
        let of = |split| Segments::one(Segment { source: 0, split, from: Rows(0), to: Segment::END });
        let first = progress.add(&plan, vec![part(0)], &of(0)).unwrap();
        assert!(matches!(first[..], [Record::Committed { .. }]), "nothing was left out of that one: {first:?}");
        let second = progress.add(&plan, vec![part(1)], &of(1)).unwrap();
        assert!(matches!(second[..], [Record::Skipped(_), Record::Committed { .. }]), "{second:?}");
        assert_eq!(progress.skips.left_out().reasons, ["torn"]);
        let begun = |epoch| Record::Begun { epoch };
        let count = |records: Vec<Record>| replayed(&records).skips.left_out().count;
        assert_eq!(count([vec![begun(0)], first.clone(), second.clone(), vec![begun(1)]].concat()), 1);
        assert_eq!(count([vec![begun(0)], first, second[..1].to_vec(), vec![begun(1)]].concat()), 0);
    }

    #[test]
    fn letters_without_what_they_came_with_count_for_nothing() {
        let letter = DeadLetter { operator: "score".into(), places: Vec::new(), attempts: 1, error: "bad".into() };
        let mut progress = Progress::<PartRecord>::default();
        progress.letters.add(vec![letter]);
        progress.add(&limited(), vec![part(0)], &Segments::default()).unwrap();
        let records = progress.end(&limited(), || panic!("there are rows")).unwrap();
        let begun = |epoch| Record::Begun { epoch };
        let letters_of = |records: &[Record]| replayed(records).letters.count();
        assert_eq!(letters_of(&[vec![begun(0)], records.clone(), vec![begun(1)]].concat()), 1);
        let torn = [vec![begun(0)], records[..1].to_vec(), vec![begun(1)]].concat();
        assert_eq!((letters_of(&torn), letters_of(&[torn, records].concat())), (0, 1));
    }

    #[test]
    fn a_letter_without_its_row_counts_once_its_rows_are_finished() {
        let split = |split| Segment { source: 0, split, from: Rows(0), to: Segment::END };
        let place = |split_number| Place { input: "a".into(), first: Rows(0), segment: split(split_number) };
        let letter =
            |n| DeadLetter { operator: "score".into(), places: vec![place(n)], attempts: 1, error: "bad".into() };
        let mut progress = Progress::<PartRecord>::default();
        progress.letters.add(vec![letter(0), letter(1)]);
        let first = progress.add(&plan(), vec![part(0)], &Segments::one(split(0))).unwrap();
        let second = progress.add(&plan(), vec![part(1)], &Segments::one(split(1))).unwrap();
        assert!(matches!(second[..], [Record::GaveUp { .. }, Record::Committed { .. }]), "{second:?}");
        let begun = |epoch| Record::Begun { epoch };
        let torn = [vec![begun(0)], first, second[..1].to_vec(), vec![begun(1)]].concat();
        let letters_of = |records: &[Record]| replayed(records).letters.count();
        assert_eq!((letters_of(&torn), letters_of(&[torn, second, vec![begun(2)]].concat())), (1, 2));
    }
}
