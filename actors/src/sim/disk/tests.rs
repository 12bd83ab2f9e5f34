//! The simulated disk against the real one, against a plain model of what must be kept, and against a careless writer.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{DiskFaults, SimDisk};
use crate::runtime::disk::{Disk, SystemDisk};

/// One thing that a program does to a disk; files and directories by number.
#[derive(Debug, Clone)]
enum Step {
    CreateDir(u8),
    Create(u8, u8),
    Append(u8, u8, usize),
    Truncate(u8, u8, u64),
    Link((u8, u8), (u8, u8)),
    Rename((u8, u8), (u8, u8)),
    RenameDir(u8, u8),
    Remove(u8, u8),
    RemoveDir(u8),
    Sync(u8, u8),
    SyncDir(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (dir, name) = (0..3u8, 0..3u8);
    let file = (dir.clone(), name);
    let step = prop_oneof![
        1 => dir.clone().prop_map(Step::CreateDir),
        4 => file.clone().prop_map(|(d, n)| Step::Create(d, n)),
        4 => (file.clone(), 1..1_500usize).prop_map(|((d, n), bytes)| Step::Append(d, n, bytes)),
        1 => (file.clone(), 0..800u64).prop_map(|((d, n), bytes)| Step::Truncate(d, n, bytes)),
        2 => (file.clone(), file.clone()).prop_map(|(a, b)| Step::Link(a, b)),
        3 => (file.clone(), file.clone()).prop_map(|(a, b)| Step::Rename(a, b)),
        1 => (dir.clone(), dir.clone()).prop_map(|(a, b)| Step::RenameDir(a, b)),
        2 => file.clone().prop_map(|(d, n)| Step::Remove(d, n)),
        1 => dir.clone().prop_map(Step::RemoveDir),
        3 => file.prop_map(|(d, n)| Step::Sync(d, n)),
        3 => dir.prop_map(Step::SyncDir),
    ];
    prop::collection::vec(step, 1..40)
}

fn dir(root: &Path, number: u8) -> PathBuf {
    root.join(format!("d{number}"))
}

fn file(root: &Path, (dir_number, name): (u8, u8)) -> PathBuf {
    dir(root, dir_number).join(format!("f{name}"))
}

/// Does a step; `byte` is what files are made of.
fn act(disk: &dyn Disk, root: &Path, step: &Step, byte: u8) -> io::Result<()> {
    let there = |at| match disk.len(&file(root, at)) {
        Ok(_) => disk.open_append(&file(root, at)),
        Err(error) => Err(error),
    };
    match step {
        Step::CreateDir(d) => disk.create_dir_all(&dir(root, *d)),
        Step::Create(d, n) => disk.create_new(&file(root, (*d, *n))).map(drop),
        Step::Append(d, n, bytes) => there((*d, *n))?.write_all(&vec![byte; *bytes]),
        Step::Truncate(d, n, bytes) => there((*d, *n))?.truncate(*bytes),
        Step::Link(from, to) => disk.link(&file(root, *from), &file(root, *to)),
        Step::Rename(from, to) => disk.rename(&file(root, *from), &file(root, *to)),
        Step::RenameDir(from, to) => disk.rename(&dir(root, *from), &dir(root, *to)),
        Step::Remove(d, n) => disk.remove_file(&file(root, (*d, *n))),
        Step::RemoveDir(d) => disk.remove_dir(&dir(root, *d)),
        Step::Sync(d, n) => there((*d, *n))?.sync(),
        Step::SyncDir(d) => disk.sync_dir(&dir(root, *d)),
    }
}

fn content(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    disk.open_read(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All that is seen of a disk: directories, files, what is in them.
fn seen(disk: &dyn Disk, root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for d in disk.list(root).expect("the root is there") {
        for n in disk.list(&root.join(&d)).expect("it was listed") {
            all.insert(format!("{d}/{n}"), Some(content(disk, &root.join(&d).join(n)).expect("it was listed")));
        }
        all.insert(d, None);
    }
    all
}

proptest! {
    #[test]
    fn without_a_crash_it_is_like_the_real_disk(steps in steps()) {
        let folder = tempfile::tempdir().expect("a folder");
        let (sim, root) = (SimDisk::new(1), Path::new("/"));
        for (number, step) in steps.iter().enumerate() {
            let byte = number as u8 + 1;
            let (real, simulated) = (act(&SystemDisk, folder.path(), step, byte), act(&sim, root, step, byte));
            prop_assert_eq!(real.is_ok(), simulated.is_ok(), "{:?}: {:?} and {:?}", step, real, simulated);
        }
        prop_assert_eq!(seen(&SystemDisk, folder.path()), seen(&sim, root));
    }

    #[test]
    fn what_was_synced_is_kept(steps in steps(), seed: u64) {
        let (sim, root) = (SimDisk::new(seed), Path::new("/"));
        let mut model = Model::default();
        for d in 0..3 {
            sim.create_dir_all(&dir(root, d)).expect("it works");
        }
        sim.sync_all();
        // Directories stay where they are: the model is of files.
        let flat = |step: &&Step| !matches!(step, Step::RenameDir(..) | Step::RemoveDir(_) | Step::CreateDir(_));
        for step in steps.iter().filter(flat) {
            let byte = model.byte_of(step);
            if act(&sim, root, step, byte).is_ok() {
                model.on(step);
            }
        }
        sim.crash();
        for d in 0..3 {
            for n in 0..3 {
                model.check((d, n), sim.read(&file(root, (d, n))).ok())?;
            }
        }
    }

    #[test]
    fn a_run_is_repeated_by_its_seed(steps in steps(), seed: u64) {
        let run = || {
            let (sim, root) = (SimDisk::new(seed), Path::new("/"));
            sim.faults(DiskFaults { read_permille: 100, write_permille: 100, sync_permille: 100 });
            for step in &steps {
                // What fails, fails alike.
                let _ = act(&sim, root, step, 1);
            }
            sim.crash();
            let all: Vec<_> = sim.files().into_iter().map(|path| (sim.read(&path).expect("listed"), path)).collect();
            (all, sim.trace())
        };
        prop_assert_eq!(run(), run());
    }
}

/// What a file was written to be, and what of it was synced. All its bytes are its number.
#[derive(Default, Clone)]
struct Written {
    length: usize,
    longest: usize,
    /// So many bytes at its beginning are durable.
    kept: usize,
    /// It was made longer with zeros.
    zeros: bool,
}

/// Which files each name has led to since its directory was synced; the last is now.
type Histories = BTreeMap<(u8, u8), Vec<Option<u8>>>;

#[derive(Default)]
struct Model {
    files: BTreeMap<u8, Written>,
    names: Histories,
}

impl Model {
    fn now(&self, at: (u8, u8)) -> Option<u8> {
        self.names.get(&at).and_then(|history| *history.last().expect("never empty"))
    }

    fn byte_of(&self, step: &Step) -> u8 {
        match step {
            Step::Append(d, n, _) => self.now((*d, *n)).unwrap_or(0),
            _ => 0,
        }
    }

    fn lead(&mut self, at: (u8, u8), to: Option<u8>) {
        self.names.entry(at).or_insert_with(|| vec![None]).push(to);
    }

    fn written(&mut self, at: (u8, u8)) -> &mut Written {
        let number = self.now(at).expect("the step went well");
        self.files.get_mut(&number).expect("made when created")
    }

    /// A step that went well.
    fn on(&mut self, step: &Step) {
        match step {
            Step::Create(d, n) => {
                let number = self.files.len() as u8 + 1;
                self.files.insert(number, Written::default());
                self.lead((*d, *n), Some(number));
            }
            Step::Append(d, n, bytes) => {
                let file = self.written((*d, *n));
                file.length += bytes;
                file.longest = file.longest.max(file.length);
            }
            Step::Truncate(d, n, bytes) => {
                let file = self.written((*d, *n));
                file.zeros |= *bytes as usize > file.length;
                file.length = *bytes as usize;
                file.longest = file.longest.max(file.length);
                file.kept = file.kept.min(file.length);
            }
            Step::Sync(d, n) => {
                let file = self.written((*d, *n));
                file.kept = file.length;
            }
            Step::Link(from, to) => self.lead(*to, self.now(*from)),
            // Two names of one file stay as they are.
            Step::Rename(from, to) if self.now(*from) == self.now(*to) => {}
            Step::Rename(from, to) => {
                self.lead(*to, self.now(*from));
                self.lead(*from, None);
            }
            Step::Remove(d, n) => self.lead((*d, *n), None),
            Step::SyncDir(d) => {
                for ((_, _), history) in self.names.iter_mut().filter(|((dir, _), _)| dir == d) {
                    history.drain(..history.len() - 1);
                }
            }
            Step::CreateDir(_) | Step::RenameDir(..) | Step::RemoveDir(_) => {}
        }
    }

    /// What is at a name after the crash is one of the files it led to, with all that was synced of it.
    fn check(&self, at: (u8, u8), found: Option<Vec<u8>>) -> Result<(), TestCaseError> {
        let nothing = vec![None];
        let history = self.names.get(&at).unwrap_or(&nothing);
        let fits = |number: &Option<u8>| match (number, &found) {
            (None, found) => found.is_none(),
            (Some(_), None) => false,
            (Some(number), Some(bytes)) => {
                let file = &self.files[number];
                let kept =
                    bytes.len() >= file.kept && bytes.iter().take(file.kept).all(|byte| byte == number || file.zeros);
                kept && bytes.len() <= file.longest && bytes.iter().all(|byte| byte == number || *byte == 0)
            }
        };
        prop_assert!(history.iter().any(fits), "{:?} led to {:?}, found {:?}", at, history, found);
        Ok(())
    }
}

/// Writes a file as one should, or leaves a sync out; `true` once it says that the file is safe.
fn publish(disk: &SimDisk, syncs_file: bool, syncs_dir: bool) -> io::Result<()> {
    let (hidden, visible) = (Path::new("/out/_tmp"), Path::new("/out/part"));
    let mut file = disk.create_new(hidden)?;
    file.write_all(&[7; 2_000])?;
    if syncs_file {
        file.sync()?;
    }
    disk.link(hidden, visible)?;
    if syncs_dir {
        disk.sync_dir(Path::new("/out"))?;
    }
    disk.remove_file(hidden)
}

/// What is visible after power was lost at each step of it, for some seeds; with whether it had been said to be safe.
fn outcomes(syncs_file: bool, syncs_dir: bool) -> BTreeSet<(bool, Option<Vec<u8>>)> {
    let mut all = BTreeSet::new();
    for seed in 0..50 {
        for step in 0..=6 {
            let disk = SimDisk::new(seed);
            disk.create_dir_all(Path::new("/out")).expect("it works");
            disk.sync_all();
            disk.power_off_after(step);
            let safe = publish(&disk, syncs_file, syncs_dir).is_ok();
            disk.crash();
            all.insert((safe, disk.read(Path::new("/out/part")).ok()));
        }
    }
    all
}

#[test]
fn a_careful_writer_is_safe_at_each_step_and_a_careless_one_is_found() {
    let whole = Some(vec![7; 2_000]);
    let careful = BTreeSet::from([(false, None), (false, whole.clone()), (true, whole.clone())]);
    assert_eq!(outcomes(true, true), careful);
    assert!(
        outcomes(false, true).iter().any(|(_, found)| found.as_ref().is_some_and(Vec::is_empty)),
        "a name without bytes"
    );
    assert!(outcomes(true, false).contains(&(true, None)), "a name that is lost");
}

#[test]
fn a_full_disk_takes_what_fits_and_says_so() {
    let disk = SimDisk::new(1);
    disk.room(Some(10));
    let mut file = disk.create_new(Path::new("/a")).expect("names take no room");
    assert_eq!(file.write(&[1; 8]).expect("it fits"), 8);
    assert_eq!(file.write(&[1; 8]).expect("a part fits"), 2);
    assert_eq!(file.write(&[1; 8]).expect_err("nothing fits").kind(), ErrorKind::StorageFull);
    disk.remove_file(Path::new("/a")).expect("it is there");
    assert_eq!(disk.used_bytes(), 10, "an open file takes its room");
    drop(file);
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn faults_come_at_their_rate_and_a_crash_makes_open_files_useless() {
    let disk = SimDisk::new(2);
    let mut file = disk.create_new(Path::new("/a")).expect("it works");
    disk.faults(DiskFaults { write_permille: 200, ..DiskFaults::default() });
    let failed = (0..1_000).filter(|_| file.write(&[1]).is_err()).count();
    assert!((120..280).contains(&failed), "{failed}");
    disk.faults(DiskFaults { sync_permille: 1_000, ..DiskFaults::default() });
    assert!(file.sync().is_err());
    disk.crash();
    assert!(file.write(&[1]).is_err());
}
