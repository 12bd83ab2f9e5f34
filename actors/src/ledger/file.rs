//! The file of a ledger: records are appended in groups, each group synced before anybody is told of it.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::record::{HEAD_BYTES, Head, NoFrame, Record, frame};
use crate::plant::{Bug, is_planted};
use crate::runtime::disk::{Disk, DiskFile};

/// What a ledger begins with: what it is, and its version.
const MAGIC: &[u8; 8] = b"MOBLDG01";

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The system refuses.
    #[error("cannot {verb} the ledger {}: {source}", path.display())]
    System {
        /// What was to be done.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not a ledger of this version.
    #[error("{} is no ledger of this version of Mobula; start over with --restart, or use the version that wrote it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Records that were durable are damaged.
    #[error("the ledger {} is damaged at byte {at}: what it recorded there is lost; start over with --restart", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// A record is too large.
    #[error("a record for the ledger {} is too large: {reason}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What the encoding says.
        reason: String,
    },
    /// Somebody else writes it too, or cut it.
    #[error("the ledger {} has {found} bytes where this run left {left}: another process goes on with the same job, so this one ends, and no row is written twice; run it in one place, on a file system that has locks", path.display())]
    NotAlone {
        /// The file.
        path: PathBuf,
        /// Its bytes as this process knows it.
        left: u64,
        /// And as it is.
        found: u64,
    },
    /// A write failed before: what came after it may or may not be on disk.
    #[error("the ledger {} could not be written before; run the job again to go on from what is in it", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
    },
}

/// A ledger that is being written.
pub struct LedgerFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// Bytes that are on disk.
    durable: u64,
    failed: bool,
}

impl LedgerFile {
    /// Opens a ledger, or makes it, and gives what it says. A torn end is cut off.
    ///
    /// ```
    /// use mobula_actors::ledger::{LedgerFile, Record};
    /// use mobula_actors::runtime::SystemDisk;
    /// let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("ledger");
    /// let (mut ledger, _) = LedgerFile::open(&SystemDisk, &path)?;
    /// ledger.append(&[Record::Begun { epoch: 0 }])?;
    /// let (_, records) = LedgerFile::open(&SystemDisk, &path)?;
    /// assert_eq!(records, [Record::Begun { epoch: 0 }]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the system refuses, it is no ledger, or what was durable is damaged.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<(Self, Vec<Record>), LedgerError> {
        let failed = |verb| move |source| LedgerError::System { verb, path: path.to_owned(), source };
        let found = Found::read(disk, path)?;
        // After a sync that failed, systems show what was written and hold it for clean: it is not on disk, and no later
        // sync brings it there. Whoever reads a ledger cannot know whether that happened before.
        if found.end > 0 {
            disk.write_again(path, found.end).map_err(failed("write again"))?;
        }
        let mut file = disk.open_append(path).map_err(failed("open"))?;
        let mut durable = found.end;
        if found.end < found.bytes {
            tracing::warn!(path = %path.display(), bytes = found.bytes - found.end, "the ledger had a torn end");
            file.truncate(found.end).map_err(failed("cut"))?;
        }
        if durable == 0 {
            file.write_all(MAGIC).map_err(failed("write"))?;
            durable = MAGIC.len() as u64;
        }
        file.sync().map_err(failed("sync"))?;
        if let Some(dir) = path.parent() {
            disk.sync_dir(dir).map_err(failed("sync the directory of"))?;
        }
        Ok((Self { path: path.to_owned(), file, durable, failed: false }, found.records))
    }

    /// What a ledger says, without touching it; nothing if there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<Record>, LedgerError> {
        Ok(Found::read(disk, path)?.records)
    }

    /// Appends records as one group. They are durable when this returns, and nobody else has written to it.
    ///
    /// # Errors
    /// If the system refuses; then the ledger takes no more, because nobody knows what of the group is on disk. If another
    /// process writes it too: the lock beside it keeps those away, but not on every file system.
    pub fn append(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        if self.failed {
            return Err(LedgerError::Failed { path: self.path.clone() });
        }
        let mut group = Vec::new();
        for record in records {
            let too_large = |reason| LedgerError::TooLarge { path: self.path.clone(), reason };
            group.extend(frame(record, self.durable).map_err(too_large)?);
        }
        self.failed = true;
        self.check_alone()?;
        let Self { path, file, .. } = self;
        let failed = |verb, source| LedgerError::System { verb, path: path.clone(), source };
        file.write_all(&group).map_err(|error| failed("write", error))?;
        if !is_planted(Bug::SkipFsync) {
            file.sync().map_err(|error| failed("sync", error))?;
        }
        self.durable += group.len() as u64;
        // Of two that write at once, each finds the group of the other here.
        self.check_alone()?;
        self.failed = false;
        Ok(())
    }

    /// That nobody else has changed it since it was written last.
    fn check_alone(&mut self) -> Result<(), LedgerError> {
        let Self { path, file, durable, .. } = self;
        let looked = |source| LedgerError::System { verb: "look at", path: path.clone(), source };
        match file.size().map_err(looked)? {
            found if found == *durable => Ok(()),
            found => Err(LedgerError::NotAlone { path: path.clone(), left: *durable, found }),
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.durable
    }
}

/// What is in the file of a ledger.
#[derive(Default)]
struct Found {
    records: Vec<Record>,
    bytes: u64,
    /// Behind the last whole record.
    end: u64,
}

impl Found {
    fn read(disk: &dyn Disk, path: &Path) -> Result<Self, LedgerError> {
        let failed = |source| LedgerError::System { verb: "read", path: path.to_owned(), source };
        let bytes = match disk.len(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            bytes => bytes.map_err(failed)?,
        };
        let mut input = io::BufReader::new(disk.open_read(path).map_err(failed)?);
        let mut magic = Vec::new();
        input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(failed)?;
        // A crash may leave it empty, torn or of zeros, before anything was promised.
        if !MAGIC.starts_with(&magic) {
            let never_written = magic.iter().all(|byte| *byte == 0);
            return if never_written {
                Ok(Self { bytes, ..Self::default() })
            } else {
                Err(LedgerError::Foreign { path: path.to_owned() })
            };
        }
        if magic.len() < MAGIC.len() {
            return Ok(Self { bytes, ..Self::default() });
        }
        let mut found = Self { records: Vec::new(), bytes, end: MAGIC.len() as u64 };
        found.frames(&mut input, path)?;
        Ok(found)
    }

    fn frames(&mut self, input: &mut impl Read, path: &Path) -> Result<(), LedgerError> {
        let failed = |source| LedgerError::System { verb: "read", path: path.to_owned(), source };
        // Where the first frame is that is none: unless one behind it knows better, the end is torn there.
        let mut torn: Option<u64> = None;
        let (mut at, mut payload) = (self.end, Vec::new());
        while self.bytes - at >= HEAD_BYTES as u64 {
            let mut head = [0; HEAD_BYTES];
            input.read_exact(&mut head).map_err(failed)?;
            at += HEAD_BYTES as u64;
            let Ok(head) = Head::parse(&head, self.bytes - at) else { break };
            payload.clear();
            input.by_ref().take(head.payload as u64).read_to_end(&mut payload).map_err(failed)?;
            at += head.payload as u64;
            match (head.record(&payload), torn) {
                (Ok(_), Some(torn)) if head.durable > torn => {
                    return Err(LedgerError::Damaged { path: path.to_owned(), at: torn });
                }
                (Ok(record), None) => {
                    self.records.push(record);
                    self.end = at;
                }
                (Err(NoFrame::Torn), _) => break,
                (Ok(_) | Err(NoFrame::Damaged(_)), _) => torn = torn.or(Some(self.end)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Segment;
    use crate::runtime::disk::SystemDisk;
    use crate::sim::SimDisk;
    use crate::units::Rows;
    use proptest::prelude::*;

    fn committed(n: u32) -> Record {
        let segment = Segment { source: 0, split: n, from: Rows(0), to: Segment::END };
        Record::Committed { segments: vec![segment], parts: vec![vec![7; n as usize]] }
    }

    fn written(dir: &Path, groups: &[u32]) -> (PathBuf, Vec<Record>) {
        let path = dir.join("ledger");
        let (mut ledger, _) = LedgerFile::open(&SystemDisk, &path).unwrap();
        let mut all = Vec::new();
        for group in groups {
            let records: Vec<_> = (0..*group).map(|n| committed(all.len() as u32 + n)).collect();
            ledger.append(&records).unwrap();
            all.extend(records);
        }
        (path, all)
    }

    #[test]
    fn damage_to_what_was_durable_is_told_and_not_taken_for_a_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = written(dir.path(), &[3, 2]);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8 + HEAD_BYTES + 2] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = LedgerFile::open(&SystemDisk, &path).err().unwrap().to_string();
        assert!(error.contains("damaged at byte 8") && error.contains("--restart"), "{error}");
    }

    #[test]
    fn of_two_that_write_one_ledger_the_older_ends_before_it_commits_anything() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut all) = written(dir.path(), &[2]);
        let (mut older, _) = LedgerFile::open(&SystemDisk, &path).unwrap();
        let (mut younger, _) = LedgerFile::open(&SystemDisk, &path).unwrap();
        younger.append(&[Record::Begun { epoch: 1 }]).unwrap();
        all.push(Record::Begun { epoch: 1 });
        let error = older.append(&[committed(7)]).unwrap_err().to_string();
        assert!(error.contains("another process") && error.contains("in one place"), "{error}");
        assert!(matches!(older.append(&[committed(7)]), Err(LedgerError::Failed { .. })), "and it does not try again");
        younger.append(&[committed(8)]).unwrap();
        all.push(committed(8));
        assert_eq!(LedgerFile::read(&SystemDisk, &path).unwrap(), all);
    }

    #[test]
    fn what_a_failed_sync_let_go_is_kept_once_the_ledger_was_opened_again() {
        let (disk, path) = (SimDisk::new(3), Path::new("/ledger"));
        let (mut ledger, _) = LedgerFile::open(&disk, path).unwrap();
        // The write, and then its sync.
        disk.fail_after(1);
        ledger.append(&[committed(0)]).unwrap_err();
        let (mut ledger, found) = LedgerFile::open(&disk, path).unwrap();
        assert_eq!(found, [committed(0)], "the system shows what it did not bring to its disk");
        ledger.append(&[committed(1)]).unwrap();
        disk.crash();
        assert_eq!(LedgerFile::read(&disk, path).unwrap(), [committed(0), committed(1)]);
    }

    #[test]
    fn a_file_that_is_no_ledger_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        std::fs::write(&path, "something else altogether").unwrap();
        let error = LedgerFile::open(&SystemDisk, &path).err().unwrap().to_string();
        assert!(error.contains("no ledger of this version"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"something else altogether");
    }

    proptest! {
        /// Cut anywhere, a ledger has lost records from its end only, and goes on from there.
        #[test]
        fn a_torn_end_is_cut_off(groups in prop::collection::vec(1u32..4, 1..4), cut in any::<prop::sample::Index>()) {
            let dir = tempfile::tempdir().unwrap();
            let (path, all) = written(dir.path(), &groups);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..cut.index(bytes.len() + 1)]).unwrap();
            let (mut ledger, mut found) = LedgerFile::open(&SystemDisk, &path).unwrap();
            prop_assert!(all.starts_with(&found));
            ledger.append(&[committed(99)]).unwrap();
            found.push(committed(99));
            prop_assert_eq!(LedgerFile::read(&SystemDisk, &path).unwrap(), found);
        }

        /// Any damage is found, or was in the last group, of which a reader may think that it was torn.
        #[test]
        fn a_flipped_bit_never_makes_another_record(groups in prop::collection::vec(1u32..4, 2..4), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let dir = tempfile::tempdir().unwrap();
            let (path, all) = written(dir.path(), &groups);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            std::fs::write(&path, bytes).unwrap();
            if let Ok(found) = LedgerFile::read(&SystemDisk, &path) {
                prop_assert!(all.starts_with(&found));
            }
        }
    }
}
