//! A job that writes: a sink and a recorder that are as simple as can be, on the engine's own ledger and the simulated
//! disk, and what must be true of the output whatever happened.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use mobula_actors::__private::{RECORDERS, linkme};
use mobula_actors::function::{decode, encode};
use mobula_actors::job::{Logic, Topology};
use mobula_actors::ledger::{Coverage, Groups, LedgerFile, Record, Recorder, RecorderEntry, RecorderSpec, Results};
use mobula_actors::operator::{
    BoxError, IntoOperator, Left, OpenContext, Operator, OperatorResult, Output, Scope, TaskContext,
};
use mobula_actors::runtime::{Disk, SharedDisk};
use mobula_actors::sim::SimDisk;
use mobula_actors::units::Bytes;
use serde::{Deserialize, Serialize};

use super::jobs::Task;
use crate::support::{plan, values};

/// Adds a sink and its recorder behind the last operator.
pub(crate) fn written(mut topology: Topology, dir: &Path, task: &Task) -> Topology {
    let Task { splits, ordered, part_bytes, .. } = *task;
    let dir = dir.to_str().expect("a plain name").to_owned();
    let params = encode(&Place { dir: dir.clone(), splits: splits as u32 }).expect("a name and a number");
    let spec = WriteNumbers { dir, disk: None, task: None, rows: Vec::new() }.into_operator().with_scope(Scope::Task);
    let logic = Logic::Map { chain: vec![spec], task_bytes: Some(Bytes(part_bytes)) };
    let mut sink = plan("write", &[topology.operators.len() - 1], logic);
    sink.ordered = ordered;
    topology.operators.push(sink);
    topology.recorder = Some(RecorderSpec { name: RECORDER.to_owned(), params });
    topology
}

/// Writes the numbers of a task into a hidden file, and emits its name: task, attempt, and how often there was such a file.
#[derive(Serialize, Deserialize)]
struct WriteNumbers {
    dir: String,
    #[serde(skip)]
    disk: Option<SharedDisk>,
    #[serde(skip)]
    task: Option<TaskContext>,
    #[serde(skip)]
    rows: Vec<i64>,
}

#[mobula_actors::operator(crate = mobula_actors, name = "test/write_numbers@1")]
impl Operator for WriteNumbers {
    fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
        self.disk = Some(ctx.shared.disk().clone());
        Ok(())
    }

    fn begin(&mut self, task: &TaskContext) -> OperatorResult {
        self.task = Some(*task);
        self.rows.clear();
        Ok(())
    }

    fn process(&mut self, batch: RecordBatch, _: &mut Output) -> OperatorResult {
        self.rows.extend(values(&batch));
        Ok(())
    }

    fn finish(&mut self, out: &mut Output) -> OperatorResult {
        let (Some(disk), Some(task), false) = (&self.disk, self.task, self.rows.is_empty()) else { return Ok(()) };
        let bytes: Vec<u8> = self.rows.iter().flat_map(|row| row.to_le_bytes()).collect();
        let name = [task.task as i64, i64::from(task.attempt)];
        let again = (0..).find_map(|again| {
            let path = parts_dir(Path::new(&self.dir)).join(file_name([name[0], name[1], again]));
            match disk.create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                made => Some(made.and_then(|mut file| {
                    file.write_all(&bytes)?;
                    file.sync()?;
                    Ok(again)
                })),
            }
        });
        let columns = [name[0], name[1], again.expect("numbers do not end")?];
        let column = |number| Arc::new(Int64Array::from(vec![number])) as ArrayRef;
        let named = ["task", "attempt", "again"].into_iter().zip(columns.map(column));
        out.emit(RecordBatch::try_from_iter(named)?);
        Ok(())
    }
}

fn file_name([task, attempt, again]: [i64; 3]) -> String {
    format!("{task}.{attempt}.{again}")
}

fn parts_dir(dir: &Path) -> PathBuf {
    dir.join("_job/parts")
}

fn ledger_path(dir: &Path) -> PathBuf {
    dir.join("_job/ledger")
}

fn manifest_path(dir: &Path) -> PathBuf {
    dir.join("_job/manifest")
}

const RECORDER: &str = "test/write_numbers@1";

#[linkme::distributed_slice(RECORDERS)]
#[linkme(crate = linkme)]
static ENTRY: RecorderEntry = RecorderEntry {
    name: RECORDER,
    open: |params, _, disk| Ok(Box::new(Keeper::open(decode(params)?, disk)?)),
    discard: |_| {},
};

/// Where an output is, and how many splits the one source has.
#[derive(Serialize, Deserialize)]
struct Place {
    dir: String,
    splits: u32,
}

thread_local! {
    /// Outputs that somebody in this world writes: a lock that goes with its holder.
    static LOCKED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

struct Lock(String);

impl Lock {
    fn take(dir: &str) -> Result<Self, BoxError> {
        match LOCKED.with_borrow_mut(|locked| locked.insert(dir.to_owned())) {
            true => Ok(Self(dir.to_owned())),
            false => Err("another job writes there".into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        LOCKED.with_borrow_mut(|locked| locked.remove(&self.0));
    }
}

struct Keeper {
    dir: PathBuf,
    splits: u32,
    disk: SharedDisk,
    ledger: LedgerFile,
    coverage: Coverage,
    waiting: Groups<String>,
    parts: Vec<String>,
    epoch: u32,
    _lock: Lock,
}

impl Keeper {
    fn open(Place { dir, splits }: Place, disk: &SharedDisk) -> Result<Self, BoxError> {
        let lock = Lock::take(&dir)?;
        let dir = PathBuf::from(dir);
        disk.create_dir_all(&parts_dir(&dir))?;
        for made in [dir.join("_job"), dir.clone(), "/".into()] {
            disk.sync_dir(&made)?;
        }
        let (ledger, records) = LedgerFile::open(&**disk, &ledger_path(&dir))?;
        let (coverage, parts, epoch) = replay(records)?;
        let waiting = Groups::default();
        let mut keeper = Self { dir, splits, disk: disk.clone(), ledger, coverage, waiting, parts, epoch, _lock: lock };
        keeper.ledger.append(&[Record::Begun { epoch }])?;
        keeper.clean()?;
        Ok(keeper)
    }

    /// Removes attempts that are not in the ledger.
    fn clean(&self) -> io::Result<()> {
        let names = self.disk.list(&parts_dir(&self.dir))?;
        let left = names.into_iter().filter(|name| !self.parts.contains(name));
        left.into_iter().try_for_each(|name| self.disk.remove_file(&parts_dir(&self.dir).join(name)))
    }
}

/// What a ledger says: what is finished, the parts of that, and the number of the next process.
fn replay(records: Vec<Record>) -> Result<(Coverage, Vec<String>, u32), BoxError> {
    let (mut coverage, mut parts, mut next) = (Coverage::default(), Vec::new(), 0);
    for record in records {
        match record {
            Record::Begun { epoch } => next = epoch + 1,
            Record::Committed { segments, parts: more } => {
                segments.iter().try_for_each(|segment| coverage.insert(segment))?;
                parts.extend(more.into_iter().map(|part| String::from_utf8_lossy(&part).into_owned()));
            }
            Record::GaveUp { .. } | Record::Noted(_) | Record::Skipped(_) => {}
        }
    }
    Ok((coverage, parts, next))
}

fn parts(batches: &[RecordBatch]) -> Vec<String> {
    let column = |batch: &RecordBatch, at: usize| batch.column(at).as_primitive::<Int64Type>().values().to_vec();
    let names = |batch: &RecordBatch| {
        let columns = [column(batch, 0), column(batch, 1), column(batch, 2)];
        (0..batch.num_rows()).map(|row| file_name([0, 1, 2].map(|at: usize| columns[at][row]))).collect::<Vec<_>>()
    };
    batches.iter().flat_map(names).collect()
}

impl Recorder for Keeper {
    fn left(&self) -> BTreeMap<usize, Vec<Left>> {
        [(0, self.coverage.left(0, self.splits))].into()
    }

    fn first_run(&self) -> u32 {
        self.epoch * 64
    }

    fn record(&mut self, results: Vec<Results>) -> Result<(), BoxError> {
        let mut records = Vec::new();
        for Results { batches, segments } in &results {
            let Some(whole) = self.waiting.add(parts(batches), segments) else { continue };
            whole.segments.iter().try_for_each(|segment| self.coverage.insert(segment))?;
            let parts = whole.parts.iter().map(|part| part.clone().into_bytes()).collect();
            records.push(Record::Committed { segments: whole.segments, parts });
            self.parts.extend(whole.parts);
        }
        if !records.is_empty() {
            self.disk.sync_dir(&parts_dir(&self.dir))?;
            self.ledger.append(&records)?;
        }
        Ok(())
    }

    fn forget(&mut self) {
        for part in self.waiting.clear() {
            // It goes with the next process otherwise.
            let _ = self.disk.remove_file(&parts_dir(&self.dir).join(part));
        }
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>, BoxError> {
        if !self.coverage.is_complete(&[self.splits]) || self.waiting.waiting() > 0 {
            return Err("the job ended without some of its rows".into());
        }
        for (number, part) in self.parts.iter().enumerate() {
            let (from, to) = (parts_dir(&self.dir).join(part), self.dir.join(format!("part-{number}")));
            match self.disk.link(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.disk.is_same(&from, &to)? => {}
                linked => linked?,
            }
        }
        self.disk.sync_dir(&self.dir)?;
        let unnamed = self.dir.join("_job/manifest.new");
        let _ = self.disk.remove_file(&unnamed);
        let mut manifest = self.disk.create_new(&unnamed)?;
        manifest.write_all(self.parts.len().to_string().as_bytes())?;
        manifest.sync()?;
        self.disk.rename(&unnamed, &manifest_path(&self.dir))?;
        self.disk.sync_dir(&self.dir.join("_job"))?;
        Ok(Vec::new())
    }

    fn stop(mut self: Box<Self>) {
        self.forget();
    }
}

/// Whether an output was finished, as far as its disk knows.
pub(crate) fn is_finished(disk: &SimDisk, dir: &Path) -> bool {
    disk.read(&manifest_path(dir)).is_ok()
}

/// What is wrong with an output that is finished.
pub(crate) fn verify(disk: &SimDisk, dir: &Path, splits: i64, expected: &[i64]) -> Result<(), String> {
    let count = disk.read(&manifest_path(dir)).map_err(|error| format!("no manifest: {error}"))?;
    let count: usize = String::from_utf8_lossy(&count).parse().map_err(|_| "a torn manifest")?;
    let visible: BTreeSet<_> = disk.files().into_iter().filter(|path| path.parent() == Some(dir)).collect();
    let named: BTreeSet<_> = (0..count).map(|number| dir.join(format!("part-{number}"))).collect();
    if visible != named {
        return Err(format!("{count} parts are in the manifest, and visible are {visible:?}"));
    }
    let mut rows = Vec::new();
    for path in &named {
        let bytes = disk.read(path).map_err(|error| error.to_string())?;
        rows.extend(bytes.chunks(8).map(|row| row.try_into().map_or(-1, i64::from_le_bytes)));
    }
    rows.sort_unstable();
    if rows != expected {
        let at = rows.iter().zip(expected).position(|(is, should)| is != should);
        return Err(format!("{} rows are there instead of {}; row {at:?} differs", rows.len(), expected.len()));
    }
    let records = disk.flawless(|| LedgerFile::read(disk as &dyn Disk, &ledger_path(dir)));
    let records = records.map_err(|error| error.to_string())?;
    let (coverage, parts, _) = replay(records).map_err(|error| format!("the ledger: {error}"))?;
    match coverage.is_complete(&[splits as u32]) && parts.len() == count {
        true => Ok(()),
        false => Err(format!("the ledger has {} of {count} parts, or not all segments", parts.len())),
    }
}
