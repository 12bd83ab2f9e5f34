//! How far a job on a store came, and what is noted in its ledger beside that. Pure.

use mobula_actors::function::encode;
use mobula_actors::ledger::Record;
use serde::{Deserialize, Serialize};

use crate::io::error::{IoError, IoResult};
use crate::io::output::manifest::{Manifest, ManifestFile};
use crate::io::output::progress::{self, Recorded, RowPlace};
use crate::io::output::recorder::read_back;
use crate::io::sink::{Part, Uploaded};

/// How far a job on a store came.
pub(super) type Progress = progress::Progress<StoredPart>;

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
    /// Where it belongs among the others.
    place: Option<RowPlace>,
    pub(super) upload: Uploaded,
}

impl Recorded for StoredPart {
    fn of(part: Part, place: Option<RowPlace>) -> IoResult<Self> {
        let Part { path, number, rows, bytes, checksum, upload } = part;
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        match (name, upload) {
            (Some(name), Some(upload)) => {
                Ok(Self { name, number, rows: rows.0, bytes: bytes.0, checksum, place, upload })
            }
            _ => Err(IoError::Internal(format!("the part {} is no upload", path.display()))),
        }
    }

    fn order(&self) -> (Option<RowPlace>, u64) {
        (self.place, self.number)
    }
}

impl Progress {
    /// What the ledger says.
    pub(super) fn of(records: Vec<Record>) -> IoResult<Self> {
        let mut progress = Self::default();
        records.into_iter().try_for_each(|record| progress.replay(record))?;
        progress.keep_finished();
        Ok(progress)
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
        parts.sort_by_key(|part| part.order());
        Manifest::new(parts.into_iter().map(file).collect(), self.letters.count(), self.skips.left_out())
    }
}

/// What is noted in the ledger beside what is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Note {
    /// The job is given up, and nothing comes behind this.
    GivenUp,
    /// Who ran it has stopped before its end. Where this is not the last record, a process may still be at work.
    Stopped,
}

/// The record that gives a job up.
pub(super) fn given_up() -> IoResult<Record> {
    noted(Note::GivenUp)
}

/// The record by which a process says that it does not run the job any more.
pub(super) fn stopped() -> IoResult<Record> {
    noted(Note::Stopped)
}

fn noted(note: Note) -> IoResult<Record> {
    Ok(Record::Noted(encode(&note).map_err(|e| IoError::Internal(e.to_string()))?))
}

/// Whether records say that their job is given up.
pub(super) fn is_given_up(records: &[Record]) -> bool {
    records.iter().any(|record| is_note(record, Note::GivenUp))
}

/// Whether nobody runs the job, as its ledger says. If it does not say so, somebody may.
pub(super) fn is_stopped(records: &[Record]) -> bool {
    records.last().is_some_and(|record| is_note(record, Note::Stopped))
}

fn is_note(record: &Record, note: Note) -> bool {
    matches!(record, Record::Noted(noted) if read_back(noted).ok() == Some(note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mobula_actors::units::{Bytes, Rows};

    fn part(number: u64, from: u64) -> StoredPart {
        let upload = Some(Uploaded { id: format!("u{number}"), pieces: vec!["e".into()] });
        let path = format!("s3://b/p/part-{number}").into();
        let part = Part { path, number, rows: Rows(5), bytes: Bytes(50), checksum: 9, upload };
        StoredPart::of(part, Some((0, 0, from))).unwrap()
    }

    #[test]
    fn the_manifest_has_the_order_of_rows() {
        let mut progress = Progress::default();
        progress.parts = vec![part(3, 10), part(4, 0)];
        let names: Vec<_> = progress.manifest().files.into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["part-4", "part-3"]);
    }

    #[test]
    fn a_job_that_is_given_up_or_was_stopped_says_so() {
        let begun = || Record::Begun { epoch: 0 };
        assert!(is_given_up(&[begun(), given_up().unwrap()]) && is_stopped(&[begun(), stopped().unwrap()]));
        assert!(!is_given_up(&[begun(), stopped().unwrap()]) && !is_stopped(&[begun()]) && !is_stopped(&[]));
        assert!(!is_stopped(&[begun(), stopped().unwrap(), begun()]), "somebody went on");
    }
}
