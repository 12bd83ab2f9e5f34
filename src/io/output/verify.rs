//! Checks an output against its ledger, without running anything: `mobula verify`.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::Path;

use mobula_actors::job::{DeadLetter, Skip};
use mobula_actors::ledger::{Coverage, Record};
use mobula_actors::runtime::{Disk, SystemDisk};
use xxhash_rust::xxh3::Xxh3;

use super::WriteMode;
use super::folder::Folder;
use super::letters::Letters;
use super::letters_open;
use super::manifest::Manifest;
use super::names::visible_names;
use super::plan::JobPlan;
use super::publish::Names;
use super::recorder::{Note, PartRecord, read_back};
use super::skips::{LeftOut, Skips};
use crate::io::error::{IoError, IoResult};
use crate::progress::count_text;

/// What was found of one job.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// The job's folder, by its number.
    pub(crate) job: u64,
    /// Whether it has finished.
    pub(crate) finished: bool,
    /// Whether it has no plan and nothing finished: it begins, or ended while it did, and the next job takes its place.
    pub(crate) came_to_nothing: bool,
    /// Whether nobody can tell that a program goes on with it, so that none does.
    pub(crate) starts_over: bool,
    pub(crate) parts: usize,
    pub(crate) rows: u64,
    /// Splits that are finished to their end, and all.
    pub(crate) splits: (u64, u64),
    /// Rows that were given up.
    pub(crate) given_up: usize,
    /// Parts of the input that were left out.
    pub(crate) left_out: LeftOut,
    /// The job that has replayed those.
    pub(crate) replayed_by: Option<u64>,
    /// The job that has finished with overwriting its files: they are not there any more.
    pub(crate) replaced_by: Option<u64>,
    /// Whether somebody is still to replay them.
    pub(crate) is_open: bool,
    /// Jobs whose given up rows it replays.
    pub(super) replays: Vec<u64>,
    /// What is wrong.
    pub(crate) wrong: Vec<String>,
}

/// Checks all jobs that wrote to `dir`, and that nothing is visible which none of them wrote.
pub(crate) fn verify(dir: &Path) -> IoResult<(Vec<Verified>, Vec<String>)> {
    look(&SystemDisk, dir, true)
}

/// The same without reading the files.
pub(super) fn summaries(dir: &Path) -> IoResult<(Vec<Verified>, Vec<String>)> {
    look(&SystemDisk, dir, false)
}

pub(super) fn look(disk: &dyn Disk, dir: &Path, read: bool) -> IoResult<(Vec<Verified>, Vec<String>)> {
    let folders = Folder::all(disk, dir)?;
    if folders.is_empty() {
        return Err(IoError::NoLedger { dir: dir.to_owned() });
    }
    let letters = letters_open::jobs(disk, dir)?;
    let open = letters_open::open(&letters);
    let mut known = BTreeSet::new();
    let mut jobs = Vec::new();
    for (job, folder) in folders {
        let replayed_by = letters_open::replayed_by(job, &letters);
        let (replaced_by, is_open) = (letters_open::replaced_by(job, &letters), open.contains(&job));
        let mut verified = Verified { job, replayed_by, replaced_by, is_open, ..Verified::default() };
        let checked = Check { disk, dir, folder: &folder, read, known: &mut known }.run(&mut verified);
        checked.unwrap_or_else(|error| verified.wrong.push(error.to_string()));
        jobs.push(verified);
    }
    let strangers = visible_names(disk, dir)?.into_iter().filter(|name| !known.contains(name)).collect();
    Ok((jobs, strangers))
}

struct Check<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    folder: &'a Folder,
    /// Whether files are read for their checksums.
    read: bool,
    /// Names that jobs say are theirs.
    known: &'a mut BTreeSet<String>,
}

impl Check<'_> {
    fn run(self, verified: &mut Verified) -> IoResult<()> {
        let manifest = self.folder.manifest(self.disk)?;
        verified.finished = manifest.is_some();
        // Whatever becomes of its plan and ledger; what was replaced is not there any more.
        let is_there = |_: &&Manifest| verified.replaced_by.is_none();
        self.known.extend(
            manifest.iter().filter(is_there).flat_map(|manifest| &manifest.files).map(|file| file.name.clone()),
        );
        let Some(plan) = self.folder.plan(self.disk)? else {
            verified.came_to_nothing = manifest.is_none() && !self.folder.has_finished(self.disk)?;
            if !verified.came_to_nothing && (manifest.is_none() || verified.replaced_by.is_none()) {
                verified.wrong.push("its plan cannot be read".to_owned());
            }
            return Ok(());
        };
        let (coverage, parts, names) = replay(&self.folder.records(self.disk)?, verified)?;
        verified.replays.clone_from(&plan.replays);
        verified.starts_over = plan.unknown().is_some();
        count(&plan, &coverage, verified);
        if manifest.is_some() && plan.reads_all && !coverage.is_complete(&plan.splits()) {
            verified
                .wrong
                .push("it has finished, and rows of its input are neither in the output nor given up".to_owned());
        }
        if !coverage.is_within(&plan.splits()) {
            verified.wrong.push("its ledger names splits that its plan does not have".to_owned());
        }
        if manifest.is_some() && verified.replaced_by.is_some() {
            return Ok(());
        }
        for part in &parts {
            let name = names.iter().rev().find(|(file, _)| *file == part.file).map(|(_, name)| name.as_str());
            self.known.extend(name.map(str::to_owned));
            let hidden = self.folder.parts().join(&part.file);
            // Without links parts are moved, also by a job that goes on.
            let path = match name.filter(|_| manifest.is_some() || !self.disk.exists(&hidden)) {
                Some(name) => self.dir.join(name),
                None => hidden,
            };
            verified.wrong.extend(self.read.then(|| self.part(&path, part)).flatten());
            // What is to be replaced, or was added by others meanwhile, may have the name as long as the job has not ended.
            if let Some(name) = name.filter(|_| manifest.is_none() && plan.mode == WriteMode::Error) {
                verified.wrong.extend(self.stranger(&self.dir.join(name), &path, part));
            }
        }
        Ok(())
    }

    /// What is wrong with what has the name of a part, if something has it.
    fn stranger(&self, visible: &Path, hidden: &Path, part: &PartRecord) -> Option<String> {
        self.disk.len(visible).ok()?;
        let is_it = self.disk.is_same(visible, hidden).unwrap_or(false);
        let is_equal = || self.read && self.part(visible, part).is_none();
        (!is_it && !is_equal()).then(|| format!("{} is not what the job wrote", visible.display()))
    }

    /// What is wrong with a part, if anything.
    fn part(&self, path: &Path, part: &PartRecord) -> Option<String> {
        let (bytes, checksum) = match sum(self.disk, path) {
            Ok(found) => found,
            Err(error) => return Some(format!("{}: {error}", path.display())),
        };
        if bytes != part.bytes {
            return Some(format!("{} has {bytes} bytes, not {}", path.display(), part.bytes));
        }
        (checksum != part.checksum).then(|| format!("{} is damaged: its checksum differs", path.display()))
    }
}

/// The bytes of a file and their XXH3.
pub(super) fn sum(disk: &dyn Disk, path: &Path) -> std::io::Result<(u64, u64)> {
    let (mut input, mut hash, mut bytes) = (disk.open_read(path)?, Xxh3::new(), 0);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = input.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, hash.digest()));
        }
        bytes += read as u64;
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

type Replayed = (Coverage, Vec<PartRecord>, Vec<(String, String)>);

fn replay(records: &[Record], verified: &mut Verified) -> IoResult<Replayed> {
    let (mut coverage, mut parts, mut names) = (Coverage::default(), Vec::new(), Names::default());
    let (mut skips, mut letters) = (Skips::default(), Letters::default());
    for record in records {
        let segments = match record {
            Record::Begun { .. } => {
                letters.keep_finished(&coverage, parts.len());
                skips.keep_finished(&coverage, parts.len());
                &[][..]
            }
            Record::Committed { segments, parts: more } => {
                for part in more {
                    parts.push(read_back::<PartRecord>(part)?);
                }
                segments
            }
            Record::GaveUp { segments, letters: more } => {
                letters.found(read_back::<Vec<DeadLetter>>(more)?);
                segments
            }
            Record::Skipped(more) => {
                skips.found(read_back::<Vec<Skip>>(more)?);
                &[]
            }
            Record::Noted(note) => {
                read_back::<Note>(note)?.apply(&mut names);
                &[]
            }
        };
        for segment in segments {
            if let Err(overlap) = coverage.insert(segment) {
                verified.wrong.push(format!("the ledger says it twice: {overlap}"));
            }
        }
    }
    letters.keep_finished(&coverage, parts.len());
    skips.keep_finished(&coverage, parts.len());
    verified.given_up = letters.count() as usize;
    verified.left_out = skips.left_out();
    verified.parts = parts.len();
    verified.rows = parts.iter().map(|part| part.rows).sum();
    Ok((coverage, parts, names.parts))
}

pub(super) fn count(plan: &JobPlan, coverage: &Coverage, verified: &mut Verified) {
    for (source, splits) in (0..).zip(plan.splits()) {
        let left: BTreeSet<u32> = coverage.left(source, splits).into_iter().map(|left| left.split).collect();
        verified.splits.0 += u64::from(splits) - left.len() as u64;
        verified.splits.1 += u64::from(splits);
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.came_to_nothing && self.wrong.is_empty() {
            return write!(f, "job {}: begins right now, or ended while it did; it has finished nothing", self.job);
        }
        let state = match self.finished {
            true => "finished",
            false if self.starts_over => STARTS_OVER,
            false => "not finished; if it does not run now, the same command goes on with it",
        };
        let (done, all) = self.splits;
        let (rows, parts) = (counted(self.rows, "row"), counted(self.parts as u64, "part"));
        write!(f, "job {}: {rows} in {parts}, {done} of {all} splits read to their end", self.job)?;
        if self.given_up > 0 {
            write!(f, ", {} given up", self.given_up)?;
        }
        if let Some(job) = self.replayed_by {
            write!(f, " and replayed by job {job}")?;
        }
        if self.left_out.count > 0 {
            write!(f, ", {} of its input left out as not readable", self.left_out.count)?;
        }
        for job in &self.replays {
            write!(f, ", replays what job {job} gave up")?;
        }
        match self.replaced_by.filter(|_| self.finished) {
            Some(job) => write!(f, " ({state}, replaced by job {job})")?,
            None => write!(f, " ({state})")?,
        }
        let reasons = self.left_out.reasons.iter().take(REASONS_SHOWN);
        reasons.into_iter().try_for_each(|reason| write!(f, "\n  not read: {reason}"))?;
        self.wrong.iter().try_for_each(|wrong| write!(f, "\n  wrong: {wrong}"))
    }
}

/// Of a job with steps that cannot be compared, and no name.
pub(super) const STARTS_OVER: &str = "not finished; the same program starts over, since it has steps of its own that \
    cannot be compared: give the job a name (WriteOptions::named) and it goes on";

/// So many things, in words.
pub(super) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count_text(number), if number == 1 { "" } else { "s" })
}

/// Of what was left out, so much is listed; the manifest has more.
const REASONS_SHOWN: usize = 10;

/// Read at once: enough that a disk reads on.
const READ_BYTES: usize = 1 << 20;
