//! Spilling against a real folder, and against a disk that fails when it is told to.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{
    Array, ArrayRef, BinaryArray, DictionaryArray, Int32Array, Int64Array, ListArray, StringArray, StringViewArray,
    StructArray,
};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;

use super::*;
use crate::runtime::disk::{DiskFile, SystemDisk};
use crate::runtime::env::{Env, ManualEnv, SystemEnv};
use crate::store::{Store, Stored};

/// A disk that may be full, or not be readable.
#[derive(Default)]
struct BadDisk {
    full: AtomicBool,
    unreadable: AtomicBool,
}

struct Full(Box<dyn DiskFile>);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Some bytes still fit.
        self.0.write(bytes.get(..bytes.len().min(7)).unwrap_or_default())?;
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl DiskFile for Full {
    fn sync(&mut self) -> io::Result<()> {
        panic!("spilled blocks are not synced")
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }

    fn size(&mut self) -> io::Result<u64> {
        self.0.size()
    }
}

impl Disk for BadDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.create_dir_all(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = SystemDisk.create_new(path)?;
        Ok(if self.full.load(Ordering::Relaxed) { Box::new(Full(file)) } else { file })
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        SystemDisk.open_append(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        if self.unreadable.load(Ordering::Relaxed) {
            return Err(io::Error::other("input/output error"));
        }
        SystemDisk.open_read(path)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        SystemDisk.len(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn is_same(&self, one: &Path, other: &Path) -> io::Result<bool> {
        SystemDisk.is_same(one, other)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.remove_dir(dir)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        panic!("the directory of spilled blocks is not synced")
    }
}

/// Time and disk of a test.
struct World {
    time: ManualEnv,
    disk: Arc<BadDisk>,
}

impl Env for World {
    fn now(&self) -> Duration {
        self.time.now()
    }

    fn random(&self) -> u64 {
        self.time.random()
    }

    fn disk(&self) -> SharedDisk {
        self.disk.clone()
    }
}

fn rows(from: i64, rows: i64) -> Block {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + rows));
    Block::new(vec![RecordBatch::try_from_iter([("n", column)]).expect("one column")])
}

fn spill_to(parent: &Path) -> Spill {
    Spill::new(Arc::new(SystemEnv::new()), parent.to_owned(), Bytes::mib(64))
}

/// The only file of spilled blocks below a folder.
fn only_file(parent: &Path) -> Option<PathBuf> {
    let directory = parent.join(SystemDisk.list(parent).ok()?.pop()?);
    let mut names = SystemDisk.list(&directory).ok()?;
    names.retain(|name| name.ends_with(".block"));
    assert!(names.len() <= 1, "{names:?}");
    Some(directory.join(names.pop()?))
}

fn stored(block: Block) -> Stored {
    Stored::new(block, Arc::default())
}

#[test]
fn a_block_goes_to_disk_and_comes_back_and_nothing_is_left() {
    let parent = tempfile::tempdir().expect("a folder");
    let spill = spill_to(parent.path());
    let store = Store::new(crate::block::NodeId(0), crate::block::Incarnation(0), 2);
    let reference = store.put(rows(0, 1000), Default::default(), 1);
    let in_memory = store.stats().bytes;
    assert!(only_file(parent.path()).is_none(), "nothing is made before it is needed");
    assert!(reference.stored().expect("here").spill(&spill).expect("the disk takes it"));
    assert_eq!((store.stats().bytes, reference.here().is_none(), reference.is_on_disk()), (Bytes(0), true, true));
    assert!(only_file(parent.path()).is_some());
    let part = reference.first_rows(crate::units::Rows(10));
    assert_eq!(part.bring().expect("it comes back").batches(), rows(0, 10).batches());
    assert_eq!(reference.here().expect("here").batches(), rows(0, 1000).batches());
    assert!(store.stats().bytes >= in_memory, "it is counted again");
    assert!(only_file(parent.path()).is_none(), "its file is gone");
    let stats = spill.stats();
    assert_eq!((stats.spilled, stats.restored, stats.on_disk), ((1, Bytes(8000)), (1, Bytes(8000)), Bytes(0)));
    assert!(reference.stored().expect("here").spill(&spill).expect("the disk takes it"));
    drop(part);
    drop(reference);
    assert_eq!((only_file(parent.path()), store.stats().blocks), (None, 0));
    drop(spill);
    assert!(SystemDisk.list(parent.path()).expect("there").is_empty(), "nor its directory");
}

#[test]
fn blocks_of_all_kinds_of_columns_come_back_as_they_were() {
    let parent = tempfile::tempdir().expect("a folder");
    let spill = spill_to(parent.path());
    let words = || (0..500).map(|n| (n % 3 > 0).then(|| "word".repeat(n % 7)));
    let lists =
        (0..500).map(|n| (n % 4 > 0).then(|| (0..n % 5).map(|m| (m > 1).then_some(i64::from(m))).collect::<Vec<_>>()));
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter((0..500).map(|n| (n % 2 > 0).then_some(n))));
    let field = Arc::new(arrow::datatypes::Field::new("n", numbers.data_type().clone(), true));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("words", Arc::new(StringArray::from_iter(words()))),
        ("views", Arc::new(StringViewArray::from_iter(words()))),
        ("bytes", Arc::new(BinaryArray::from_iter(words().map(|word| word.map(String::into_bytes))))),
        ("lists", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
        (
            "dictionary",
            Arc::new(words().map(|word| word.map(|_| "one of few")).collect::<DictionaryArray<Int32Type>>()),
        ),
        ("struct", Arc::new(StructArray::from(vec![(field, numbers)]))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.expect("columns of one length");
    let no_columns = RecordBatch::try_new_with_options(
        Arc::new(arrow::datatypes::Schema::empty()),
        vec![],
        &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(7)),
    );
    for batches in [
        vec![batch.slice(0, 100), batch.slice(131, 64), batch.slice(499, 1)],
        vec![batch.slice(0, 0)],
        vec![no_columns.expect("rows without columns")],
    ] {
        let stored = stored(Block::new(batches.clone()));
        assert!(stored.spill(&spill).expect("written"));
        assert_eq!(stored.bring().expect("read").batches(), batches);
    }
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let parent = tempfile::tempdir().expect("a folder");
    let spill = spill_to(parent.path());
    let block = stored(rows(0, 100_000));
    assert!(block.spill(&spill).expect("written"));
    let path = only_file(parent.path()).expect("a file");
    let good = std::fs::read(&path).expect("read");
    let mut bad = good.clone();
    *bad.get_mut(5000).expect("large enough") ^= 1;
    for (bytes, why) in [(bad, "checksum"), (good[..good.len() - 9].to_vec(), "cut short"), (Vec::new(), "")] {
        std::fs::write(&path, bytes).expect("written");
        let error = block.bring().expect_err("damaged").to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains(why), "{error}");
        assert!(error.contains("--spill-dir"), "{error}");
    }
    std::fs::write(&path, good).expect("written");
    assert!(block.bring().is_ok(), "an error that passes does no harm");
}

#[test]
fn a_full_disk_leaves_blocks_in_memory_and_is_tried_again_later() {
    let parent = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(BadDisk::default());
    let world = Arc::new(World { time: ManualEnv::seeded(3), disk: disk.clone() });
    let spill = Spill::new(world.clone(), parent.path().to_owned(), Bytes::mib(1));
    disk.full.store(true, Ordering::Relaxed);
    let block = stored(rows(0, 1000));
    let mut waits = Vec::new();
    for _ in 0..8 {
        let error = block.spill(&spill).expect_err("it is full").to_string();
        assert!(
            error.starts_with(&format!("a block could not be spilled to {}: ", parent.path().display())),
            "{error}"
        );
        assert!(block.in_memory().is_some() && only_file(parent.path()).is_none(), "what was begun is removed");
        let retry = spill.ready_at(Bytes(1)).expect("it may be tried again");
        waits.push((retry - world.now()).as_millis());
        world.time.advance(retry - world.now());
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    disk.full.store(false, Ordering::Relaxed);
    assert!(block.spill(&spill).expect("there is room again"));
    assert_eq!(spill.ready_at(Bytes(1)).map(|at| at <= world.now()), Some(true));
    disk.unreadable.store(true, Ordering::Relaxed);
    let error = block.bring().expect_err("no answer from the disk").to_string();
    assert!(error.contains("input/output error"), "{error}");
    disk.unreadable.store(false, Ordering::Relaxed);
    assert_eq!(block.bring().expect("it is there").batches(), rows(0, 1000).batches());
}

#[test]
fn files_take_no_more_than_they_may() {
    let parent = tempfile::tempdir().expect("a folder");
    let spill = Spill::new(Arc::new(SystemEnv::new()), parent.path().to_owned(), Bytes::kib(600));
    // Random enough that compression does not help.
    let noise = |seed: i64| Block::new(vec![noise(seed)]);
    let (one, other) = (stored(noise(1)), stored(noise(2)));
    assert!(one.spill(&spill).expect("written"));
    assert!(spill.ready_at(Bytes::kib(400)) > spill.ready_at(Bytes::kib(100)), "there is no room for as much again");
    drop(one.bring().expect("read"));
    assert_eq!(spill.ready_at(Bytes::kib(400)), Some(Duration::ZERO));
    assert!(other.spill(&spill).expect("written"));
    let off = Spill::new(Arc::new(SystemEnv::new()), parent.path().to_owned(), Bytes(0));
    assert_eq!(off.ready_at(Bytes(1)), None);
}

fn noise(seed: i64) -> RecordBatch {
    let env = ManualEnv::seeded(seed as u64);
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values((0..50 << 10).map(|_| env.random() as i64)));
    RecordBatch::try_from_iter([("n", column)]).expect("one column")
}

#[test]
fn many_who_want_a_block_read_it_once() {
    let parent = tempfile::tempdir().expect("a folder");
    let spill = spill_to(parent.path());
    let block = stored(rows(0, 200_000));
    assert!(block.spill(&spill).expect("written"));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(block.bring().expect("read").rows().0, 200_000));
        }
    });
    assert_eq!(spill.stats().restored.0, 1);
}
