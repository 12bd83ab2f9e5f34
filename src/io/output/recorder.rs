//! The recorder of a job that writes files: its ledger, and what becomes visible of its parts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use mobula_actors::function::{decode, encode};
use mobula_actors::job::{DeadLetter, Skip, Topology};
use mobula_actors::ledger::{LedgerFile, Record, Recorder, RecorderEntry, RecorderSpec, Results};
use mobula_actors::operator::{BoxError, Left};
use mobula_actors::runtime::SharedDisk;
use serde::{Deserialize, Serialize};

use super::folder::Lock;
use super::manifest::{Manifest, ManifestFile};
use super::plan::JobPlan;
use super::progress::{Progress, Reads, Recorded, RowPlace};
use super::publish::{Change, Linked, Names};
use super::{OnDisk, OutputDir, Publish, WriteMode};
use crate::io::error::{IoError, IoResult};
use crate::io::replay::kept::Sources;
use crate::io::sink::{self, Part};

/// A part in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartRecord {
    /// Its name in the job's folder of parts.
    pub(super) file: String,
    /// Number of its task, with that of the run.
    number: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// XXH3 of its bytes.
    pub(super) checksum: u64,
    /// Where it belongs among the others.
    place: Option<RowPlace>,
}

impl Recorded for PartRecord {
    fn of(part: Part, place: Option<RowPlace>) -> IoResult<Self> {
        let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        let file = name(&part.path).ok_or_else(|| IoError::NotUtf8 { path: part.path.clone() })?;
        let Part { number, rows, bytes, checksum, .. } = part;
        Ok(Self { file, number, rows: rows.0, bytes: bytes.0, checksum, place })
    }

    fn order(&self) -> (Option<RowPlace>, u64) {
        (self.place, self.number)
    }
}

/// What the recorder notes in the ledger beside what is finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Note {
    /// Parts are about to get these names.
    Names(Names),
    /// More parts are, behind the first so many: those that had other names there do not keep them.
    MoreNames(u64, Names),
}

impl Note {
    /// The names, as they are with this.
    pub(super) fn apply(self, names: &mut Names) {
        let (first, more) = match self {
            Self::Names(names) => (0, names),
            Self::MoreNames(first, more) => (first as usize, more),
        };
        names.parts.truncate(first);
        names.parts.extend(more.parts);
        names.replaces.extend(more.replaces);
    }
}

/// Runs of one process have numbers below this, those of the next begin here.
pub(super) const RUNS_A_PROCESS: u32 = 64;

/// The recorder.
pub(super) struct PartRecorder {
    output: OutputDir,
    plan: JobPlan,
    disk: SharedDisk,
    ledger: LedgerFile,
    reads: Reads,
    progress: Progress<PartRecord>,
    /// What letters name, if there may be some.
    sources: Sources,
    names: Option<Names>,
    /// The first so many names are there, durable.
    visible: usize,
    /// Which process with this job it is, from 0.
    epoch: u32,
    _lock: Lock,
}

#[mobula_actors::__private::linkme::distributed_slice(mobula_actors::__private::RECORDERS)]
#[linkme(crate = mobula_actors::__private::linkme)]
static RECORD_WRITE: RecorderEntry = RecorderEntry {
    name: RECORDER,
    open: |params, topology, disk| Ok(Box::new(PartRecorder::open(decode(params)?, topology, disk)?)),
    // Dropped, which takes all back.
    discard: |params| drop(decode::<OutputDir>(params)),
};

/// The name under which it travels.
const RECORDER: &str = "mobula/write@2";

/// The recorder of this output.
pub(super) fn spec(output: &OutputDir) -> IoResult<RecorderSpec> {
    let params = encode(output).map_err(|e| IoError::Internal(e.to_string()))?;
    Ok(RecorderSpec { name: RECORDER.to_owned(), params })
}

impl PartRecorder {
    pub(super) fn open(mut output: OutputDir, topology: &Topology, disk: &SharedDisk) -> IoResult<Self> {
        // It stays until this recorder says otherwise.
        output.handed_over = true;
        output.disk = OnDisk(disk.clone());
        let folder = output.folder.clone();
        let running = || IoError::OutputRuns { dir: output.dir.clone() };
        let lock = folder.lock(&**disk)?.ok_or_else(running)?;
        let plan = folder.plan(&**disk)?.filter(|plan| plan.hash() == output.plan);
        let plan = plan.ok_or_else(|| IoError::OutputTaken { dir: output.dir.clone() })?;
        let (ledger, records) = LedgerFile::open(&**disk, &folder.ledger())?;
        let (mut progress, mut names) = (Progress::default(), None::<Names>);
        for record in records {
            match record {
                Record::Noted(note) => read_back::<Note>(&note)?.apply(names.get_or_insert_default()),
                record => progress.replay(record)?,
            }
        }
        progress.keep_finished();
        let (disk, reads, epoch) = (disk.clone(), Reads::of(topology), progress.epochs);
        let (sources, visible) = (Sources::default(), 0);
        let mut recorder =
            Self { output, plan, disk, ledger, reads, progress, sources, names, visible, epoch, _lock: lock };
        if !topology.failures.budget.is_zero() || recorder.progress.letters.count() > 0 {
            recorder.sources = Sources::of(topology);
        }
        recorder.check_parts()?;
        recorder.ledger.append(&[Record::Begun { epoch }])?;
        recorder.clean_attempts()?;
        recorder.publish_as_written()?;
        Ok(recorder)
    }

    /// Looks whether the parts of earlier runs are there, with their sizes. Their bytes are looked at by `mobula verify` only:
    /// a job that goes on does not read hours of output again.
    fn check_parts(&self) -> IoResult<()> {
        let names = self.names.iter().flat_map(|names| &names.parts);
        let names: BTreeMap<&str, &str> = names.map(|(part, name)| (part.as_str(), name.as_str())).collect();
        for part in &self.progress.parts {
            let hidden = self.output.folder.parts().join(&part.file);
            let visible = names.get(part.file.as_str()).map(|name| self.output.dir.join(name));
            let (path, size) = match (self.disk.len(&hidden), visible) {
                // It was moved there, for want of links.
                (Err(error), Some(visible)) if error.kind() == io::ErrorKind::NotFound => {
                    let size = self.disk.len(&visible);
                    (visible, size)
                }
                (size, _) => (hidden, size),
            };
            let found = match size {
                Ok(bytes) if bytes == part.bytes => continue,
                Ok(bytes) => format!("has {bytes} bytes, not {}", part.bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => "is gone".to_owned(),
                Err(error) => return Err(IoError::read(&path, error)),
            };
            return Err(IoError::PartChanged { part: path, found });
        }
        Ok(())
    }

    /// Removes what earlier runs began and did not finish.
    fn clean_attempts(&self) -> IoResult<()> {
        let dir = self.output.folder.parts();
        self.disk.create_dir_all(&dir).map_err(|e| IoError::write(&dir, e))?;
        let known: BTreeSet<&str> = self.progress.parts.iter().map(|part| part.file.as_str()).collect();
        for name in self.disk.list(&dir).map_err(|e| IoError::read(&dir, e))? {
            if !known.contains(name.as_str()) {
                let path = dir.join(&name);
                self.disk.remove_file(&path).map_err(|e| IoError::write(&path, e))?;
            }
        }
        Ok(())
    }

    /// The records of what is whole now, if something is.
    fn take(&mut self, results: &Results) -> IoResult<Vec<Record>> {
        let segments = results.segments.map(|segment| self.reads.by_source(segment))?;
        self.progress.add(&self.plan, sink::parts(&results.batches)?, &segments)
    }

    fn commit(&mut self, records: &[Record]) -> IoResult<()> {
        if records.is_empty() {
            return Ok(());
        }
        // Names of parts are durable before the ledger says that they are there.
        let dir = self.output.folder.parts();
        self.disk.sync_dir(&dir).map_err(|e| IoError::write(&dir, e))?;
        Ok(self.ledger.append(records)?)
    }

    /// Makes parts visible as soon as they are in the ledger, if that is wanted. Those behind a limit are there only at the
    /// end: seen before, they would be seen twice after a crash.
    fn publish_as_written(&mut self) -> IoResult<()> {
        if self.plan.publish == Publish::AsWritten && self.plan.reads_all && !self.progress.parts.is_empty() {
            self.publish()?;
        }
        Ok(())
    }

    /// Gives all parts that have no names one, durable before the first is used, and makes them visible.
    fn publish(&mut self) -> IoResult<()> {
        let disk = self.disk.clone();
        let mut names = self.names.take().unwrap_or_default();
        loop {
            self.name_the_rest(&mut names)?;
            if names.parts.len() == self.visible {
                self.names = Some(names);
                return Ok(());
            }
            let mut change = Change::new(&*disk, &self.output.dir, &self.output.folder);
            change.move_away(&names)?;
            let mut taken = None;
            for (at, (part, name)) in names.parts.iter().enumerate().skip(self.visible) {
                if change.link(part, name)? == Linked::Taken {
                    taken = Some(at);
                    break;
                }
            }
            match taken.map(|at| (at, names.parts.get(at).map(|(_, name)| name.clone()).unwrap_or_default())) {
                None => {
                    change.keep()?;
                    self.visible = names.parts.len();
                    self.names = Some(names);
                    return Ok(());
                }
                // Another job appends at the same time: its parts are left alone.
                Some((at, _)) if self.output.mode == WriteMode::Append => {
                    drop(change);
                    names.parts.truncate(at);
                }
                Some((_, file)) => return Err(IoError::OutputNotEmpty { dir: self.output.dir.clone(), file }),
            }
        }
    }

    fn name_the_rest(&mut self, names: &mut Names) -> IoResult<()> {
        let known: BTreeSet<&str> = names.parts.iter().map(|(part, _)| part.as_str()).collect();
        let rest = self.progress.parts.iter().map(|part| &part.file).filter(|file| !known.contains(file.as_str()));
        let rest: Vec<String> = rest.cloned().collect();
        if rest.is_empty() {
            return Ok(());
        }
        let mut more = Names::choose(&*self.disk, &self.output, &rest, names)?;
        let taken = names.parts.len() as u64;
        if self.output.mode != WriteMode::Append && taken > 0 {
            let numbered = (taken..).zip(rest).map(|(n, part)| (part, super::names::part_name(n, self.output.format)));
            more = Names { parts: numbered.collect(), replaces: Vec::new() };
        }
        // Of parts that were noted before nothing is said again: a job that publishes as it writes has many.
        let note = if taken == 0 { Note::Names(more) } else { Note::MoreNames(taken, more) };
        let record = Record::Noted(encode(&note).map_err(|e| IoError::Internal(e.to_string()))?);
        note.apply(names);
        Ok(self.ledger.append(&[record])?)
    }

    fn end(&mut self) -> IoResult<Vec<u8>> {
        let Self { output, disk, plan, .. } = self;
        let records = self.progress.end(plan, || output.params.write_empty(disk))?;
        self.commit(&records)?;
        if self.names.is_none() {
            self.progress.parts.sort_by_key(Recorded::order);
            // Somebody else may have written meanwhile.
            super::names::check_content(&*self.disk, &self.output.dir, self.output.mode, self.output.format)?;
        }
        self.progress.letters.write(&*self.disk, &self.output.folder, &self.sources)?;
        self.publish()?;
        let manifest = self.manifest();
        self.write_manifest(&manifest)?;
        self.output.folder.clear(&*self.disk);
        encode(&manifest.written(&self.output.dir, &self.output.folder)).map_err(|e| IoError::Internal(e.to_string()))
    }

    fn manifest(&self) -> Manifest {
        let parts: BTreeMap<&str, &PartRecord> =
            self.progress.parts.iter().map(|part| (part.file.as_str(), part)).collect();
        let names = self.names.iter().flat_map(|names| &names.parts);
        let files = names.filter_map(|(part, name)| {
            let part = parts.get(part.as_str())?;
            let xxh3 = format!("{:016x}", part.checksum);
            Some(ManifestFile { name: name.clone(), rows: part.rows, bytes: part.bytes, xxh3 })
        });
        Manifest::new(files.collect(), self.progress.letters.count(), self.progress.skips.left_out())
    }

    /// The job has finished when its manifest has its name.
    fn write_manifest(&self, manifest: &Manifest) -> IoResult<()> {
        let folder = &self.output.folder;
        let (path, unnamed) = (folder.manifest_path(), folder.path().join("manifest.new"));
        let write = || {
            let _ = self.disk.remove_file(&unnamed);
            let mut file = self.disk.create_new(&unnamed)?;
            file.write_all(&manifest.to_json())?;
            file.sync()?;
            self.disk.rename(&unnamed, &path)?;
            self.disk.sync_dir(folder.path())
        };
        write().map_err(|e| IoError::write(&path, e))
    }

    fn remove(&self, parts: impl IntoIterator<Item = PartRecord>) {
        for part in parts {
            // It is hidden, and goes when somebody begins with the job again.
            let _ = self.disk.remove_file(&self.output.folder.parts().join(part.file));
        }
    }
}

impl Recorder for PartRecorder {
    fn left(&self) -> BTreeMap<usize, Vec<Left>> {
        self.reads.iter().zip(self.progress.left(&self.plan)).collect()
    }

    fn first_run(&self) -> u32 {
        self.epoch.saturating_mul(RUNS_A_PROCESS)
    }

    fn given_up(&self) -> u64 {
        self.progress.letters.count()
    }

    fn give_up(&mut self, mut letters: Vec<DeadLetter>) -> Result<(), BoxError> {
        for place in letters.iter_mut().flat_map(|letter| &mut letter.places) {
            place.segment = self.reads.by_source(place.segment)?;
        }
        self.progress.letters.add(letters);
        Ok(())
    }

    fn skip(&mut self, mut skips: Vec<Skip>) -> Result<(), BoxError> {
        for skip in &mut skips {
            skip.segment = self.reads.by_source(skip.segment)?;
        }
        self.progress.skips.add(skips);
        Ok(())
    }

    fn record(&mut self, results: Vec<Results>) -> Result<(), BoxError> {
        let mut records = Vec::new();
        for result in &results {
            records.extend(self.take(result)?);
        }
        self.commit(&records)?;
        Ok(self.publish_as_written()?)
    }

    fn forget(&mut self) {
        let parts = self.progress.forget();
        self.remove(parts);
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<u8>, BoxError> {
        Ok(self.end()?)
    }

    fn stop(mut self: Box<Self>) {
        self.forget();
        if !self.progress.has_work() {
            self.output.take_back();
        } else if self.clean_attempts().is_err() {
            tracing::debug!(dir = %self.output.dir.display(), "hidden attempts stay until the job goes on");
        }
    }
}

/// What this module wrote into a ledger.
pub(super) fn read_back<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> IoResult<T> {
    decode(bytes).map_err(|e| IoError::Internal(format!("a record of the ledger: {e}")))
}
