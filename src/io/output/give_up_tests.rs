//! Tests: what a job leaves that is given up, or is begun beside others.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use mobula_actors::function::{decode, encode};
use mobula_actors::job::Topology;
use mobula_actors::ledger::Recorder;
use mobula_actors::runtime::SharedDisk;

use super::recorder::PartRecorder;
use super::tests::{listing, read, record, results, write_tasks};
use super::*;
use crate::io::testing::{ids, write_task};

fn prepare_plan(dir: &Path, options: &WriteOptions, plan: &JobPlan) -> IoResult<OutputDir> {
    match OutputDir::prepare(dir, Format::Parquet, &ids(0..0).schema(), options, plan)? {
        Prepared::Job(output) => Ok(*output),
        Prepared::Done(written) => panic!("done already: {written:?}"),
    }
}

/// A command, and how it is run.
#[derive(Clone)]
struct Command {
    options: WriteOptions,
    plan: JobPlan,
}

impl Command {
    fn new(mode: WriteMode, publish: Publish) -> Self {
        let options = WriteOptions::default().mode(mode).publish(publish);
        Self { plan: JobPlan::nothing(Format::Parquet, &options), options }
    }

    /// The same with a step that cannot be compared.
    fn unknown(mut self) -> Self {
        self.plan.make_unknown();
        self
    }

    /// Another command in the same mode, which gives up what did not finish.
    fn other(&self) -> Self {
        let options = self.options.clone().named("other").restart(true);
        Self { plan: JobPlan::nothing(Format::Parquet, &options), options }
    }

    fn restart(&self) -> Self {
        Self { options: self.options.clone().restart(true), ..self.clone() }
    }

    fn prepare(&self, dir: &Path) -> IoResult<OutputDir> {
        prepare_plan(dir, &self.options, &self.plan)
    }

    /// It records two parts and then its process dies.
    fn die(&self, dir: &Path) {
        let output = self.prepare(dir).unwrap();
        let mut recorder = record(&output);
        recorder.record(results(write_task(&output, 0, 1, &[ids(10..15)]))).unwrap();
        recorder.record(results(write_task(&output, 1, 1, &[ids(15..20)]))).unwrap();
        output.hand_over();
    }

    fn write(&self, dir: &Path) -> IoResult<()> {
        write_tasks(self.prepare(dir)?, &[ids(10..15), ids(15..20)]);
        Ok(())
    }
}

/// All rows that readers see, in no order.
fn rows(dir: &Path) -> Vec<i64> {
    let mut rows = read(dir)["id"].as_primitive::<Int64Type>().values().to_vec();
    rows.sort_unstable();
    rows
}

fn numbers(range: Range<i64>) -> Vec<i64> {
    range.collect()
}

/// What verify finds wrong, and names that no job knows.
fn wrong(dir: &Path) -> Vec<String> {
    let (jobs, strangers) = verify::verify(dir).unwrap();
    jobs.into_iter().flat_map(|job| job.wrong).chain(strangers).collect()
}

#[test]
fn what_a_given_up_job_had_made_visible_is_not_seen_beside_what_comes() {
    let append = Command::new(WriteMode::Append, Publish::AsWritten);
    let error = Command::new(WriteMode::Error, Publish::AsWritten);
    let closure = append.clone().unknown();
    let commands = [
        (&append, append.restart()),
        (&append, append.other()),
        (&error, error.restart()),
        (&error, error.other()),
        (&closure, closure.clone()),
    ];
    for (killed, again) in commands {
        let root = tempfile::tempdir().unwrap();
        let old = if killed.options.mode == WriteMode::Append { 0..10 } else { 0..0 };
        if !old.is_empty() {
            write_tasks(prepare_plan(root.path(), &append.options, &append.other().plan).unwrap(), &[ids(old.clone())]);
        }
        killed.die(root.path());
        assert_eq!(listing(root.path()).len(), if old.is_empty() { 2 } else { 3 }, "it was seen");
        again.write(root.path()).unwrap();
        assert_eq!(rows(root.path()), numbers(10 - old.end..20));
        assert_eq!(wrong(root.path()), [""; 0]);
    }
}

#[test]
fn a_job_is_not_given_up_for_one_that_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let job = Command::new(WriteMode::Error, Publish::AsWritten);
    job.die(root.path());
    fs::write(root.path().join("notes.txt"), "mine").unwrap();
    let error = job.restart().prepare(root.path()).unwrap_err().to_string();
    assert!(error.contains("notes.txt"), "{error}");
    fs::remove_file(root.path().join("notes.txt")).unwrap();
    write_tasks(job.prepare(root.path()).unwrap(), &[]);
    assert_eq!(rows(root.path()), numbers(10..20));
}

/// An overwrite of the rows 0 to 10 that dies when the old files are away and its own have their names.
fn die_while_it_replaces(dir: &Path) -> Command {
    let first = Command::new(WriteMode::Error, Publish::AtEnd);
    write_tasks(first.prepare(dir).unwrap(), &[ids(0..5), ids(5..10)]);
    let job = Command::new(WriteMode::Overwrite, Publish::AtEnd);
    job.die(dir);
    let output = job.prepare(dir).unwrap();
    let manifest = output.folder.path().join("manifest.new");
    fs::create_dir_all(manifest.join("in the way")).unwrap();
    assert!(record(&output).finish().is_err());
    output.hand_over();
    fs::remove_dir_all(manifest).unwrap();
    assert_eq!(rows(dir), numbers(10..20));
    job
}

#[test]
fn what_a_given_up_overwrite_had_replaced_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let job = die_while_it_replaces(root.path());
    let output = job.other().prepare(root.path()).unwrap();
    assert_eq!(rows(root.path()), numbers(0..10), "until the new one has finished");
    drop(output);
    assert_eq!((rows(root.path()), wrong(root.path())), (numbers(0..10), Vec::new()));
    job.write(root.path()).unwrap();
    assert_eq!((rows(root.path()), wrong(root.path())), (numbers(10..20), Vec::new()));
}

#[test]
fn what_comes_back_is_looked_at_before_anything_is_given_up() {
    let root = tempfile::tempdir().unwrap();
    let job = die_while_it_replaces(root.path());
    let fresh = Command::new(WriteMode::Error, Publish::AtEnd).other();
    let error = fresh.prepare(root.path()).unwrap_err().to_string();
    assert!(error.contains("holds the output of another job"), "{error}");
    assert_eq!(rows(root.path()), numbers(10..20));
    write_tasks(job.prepare(root.path()).unwrap(), &[]);
    assert_eq!((rows(root.path()), wrong(root.path())), (numbers(10..20), Vec::new()));
}

#[test]
fn parts_that_were_moved_where_there_are_no_links_are_told_by_their_content() {
    let root = tempfile::tempdir().unwrap();
    let job = Command::new(WriteMode::Append, Publish::AsWritten);
    job.die(root.path());
    // As a file system without links leaves it, and a name that somebody else had first.
    for part in listing(&root.path().join("_mobula/0/parts")) {
        fs::remove_file(root.path().join("_mobula/0/parts").join(part)).unwrap();
    }
    fs::write(root.path().join("part-00001.parquet"), "another's").unwrap();
    let output = job.other().prepare(root.path()).unwrap();
    assert_eq!(listing(root.path()), ["part-00001.parquet"]);
    drop(output);
}

#[test]
fn a_damaged_ledger_is_given_up_on_demand_with_what_is_visible() {
    let root = tempfile::tempdir().unwrap();
    let job = Command::new(WriteMode::Append, Publish::AsWritten);
    write_tasks(job.other().prepare(root.path()).unwrap(), &[ids(0..10)]);
    job.die(root.path());
    let ledger = root.path().join("_mobula/1/ledger");
    let mut bytes = fs::read(&ledger).unwrap();
    bytes[60] ^= 1;
    fs::write(ledger, bytes).unwrap();
    let error = job.prepare(root.path()).unwrap_err().to_string();
    assert!(error.contains("is damaged") && error.contains("--restart"), "{error}");

    // Somebody's file, which might be the job's.
    fs::write(root.path().join("part-00003.parquet"), "whose?").unwrap();
    let error = job.restart().prepare(root.path()).unwrap_err().to_string();
    assert!(error.contains("part-00003.parquet") && error.contains("write to another directory"), "{error}");
    fs::remove_file(root.path().join("part-00003.parquet")).unwrap();
    job.restart().write(root.path()).unwrap();
    assert_eq!((rows(root.path()), wrong(root.path())), (numbers(0..20), Vec::new()));
}

#[test]
fn a_job_that_runs_keeps_its_folder_when_nobody_answered_who_sent_it() {
    let root = tempfile::tempdir().unwrap();
    let output = Command::new(WriteMode::Error, Publish::AtEnd).prepare(root.path()).unwrap();
    let mut recorder = record(&output);
    let parts = write_task(&output, 0, 1, &[ids(0..5)]);
    drop(output);
    recorder.record(results(parts)).unwrap();
    recorder.finish().unwrap();
    assert_eq!(rows(root.path()), numbers(0..5));
}

#[test]
fn a_job_that_never_began_takes_nothing_from_the_one_in_its_place() {
    let root = tempfile::tempdir().unwrap();
    let job = Command::new(WriteMode::Error, Publish::AtEnd);
    let sent = job.prepare(root.path()).unwrap();
    let late = || decode::<OutputDir>(&encode(&sent).unwrap()).unwrap();
    let (first, second) = (late(), late());
    // Its driver dies, and another command begins.
    sent.hand_over();
    let output = job.other().prepare(root.path()).unwrap();
    let system: SharedDisk = Arc::new(SystemDisk);
    let error = PartRecorder::open(first, &Default::default(), &system).err().unwrap().to_string();
    assert!(error.contains("another one writes to"), "{error}");
    // As the head does with what it cannot open.
    drop(second);
    write_tasks(output, &[ids(0..5)]);
    assert_eq!((rows(root.path()), wrong(root.path())), (numbers(0..5), Vec::new()));
}

#[test]
fn a_lock_that_cannot_be_looked_at_is_not_taken_for_free() {
    let root = tempfile::tempdir().unwrap();
    let job = Command::new(WriteMode::Append, Publish::AtEnd);
    let output = job.prepare(root.path()).unwrap();
    output.hand_over();
    // Also for the superuser of tests: a folder in the file's place.
    let lock = root.path().join("_mobula/0/lock");
    let _ = fs::remove_file(&lock);
    fs::create_dir(&lock).unwrap();
    let error = job.other().prepare(root.path()).unwrap_err().to_string();
    assert!(error.contains("_mobula/0/lock"), "{error}");
    assert!(root.path().join("_mobula/0/plan").exists());
}

#[test]
fn commands_that_begin_at_once_get_folders_of_their_own() {
    let root = tempfile::tempdir().unwrap();
    let append = |number: i64| {
        let options = WriteOptions::default().mode(WriteMode::Append).named(number.to_string());
        let plan = JobPlan::nothing(Format::Parquet, &options);
        write_tasks(prepare_plan(root.path(), &options, &plan).unwrap(), &[ids(number * 10..number * 10 + 10)]);
    };
    std::thread::scope(|threads| {
        for number in 0..8 {
            threads.spawn(move || append(number));
        }
    });
    assert_eq!((rows(root.path()), wrong(root.path())), (numbers(0..80), Vec::new()));
    assert_eq!(Folder::all(&SystemDisk, root.path()).unwrap().len(), 8);
    assert_eq!(fs::read_dir(root.path().join(HIDDEN)).unwrap().count(), 8, "and nothing else is left");
}

/// The hidden parts of the job, by name.
fn parts(output: &OutputDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(output.folder.parts()).unwrap();
    let mut parts: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    parts.sort();
    parts
}

#[test]
fn a_part_that_changed_since_it_was_finished_is_not_gone_on_with() {
    for publish in [Publish::AtEnd, Publish::AsWritten] {
        for (bytes, found) in [(Some(&b"cut"[..]), "has 3 bytes, not "), (None, "is gone")] {
            let root = tempfile::tempdir().unwrap();
            let command = Command::new(WriteMode::Error, publish);
            command.die(root.path());
            let output = command.prepare(root.path()).unwrap();
            let part = &parts(&output)[0];
            match bytes {
                Some(bytes) => fs::write(part, bytes).unwrap(),
                None => listing(root.path()).iter().map(|name| root.path().join(name)).chain([part.clone()]).for_each(
                    // The visible ones too, or they would do.
                    |path| fs::remove_file(path).unwrap(),
                ),
            }
            let there: OutputDir = decode(&encode(&output).unwrap()).unwrap();
            let disk: SharedDisk = Arc::new(SystemDisk);
            let error = PartRecorder::open(there, &Topology::default(), &disk).map(drop).unwrap_err().to_string();
            output.hand_over();
            assert!(error.contains("part-0000") && error.contains(found) && error.contains("--restart"), "{error}");
            command.restart().write(root.path()).unwrap();
            assert_eq!(rows(root.path()), numbers(10..20));
        }
    }
}

#[test]
fn what_has_the_name_of_a_part_and_is_another_file_is_told() {
    let root = tempfile::tempdir().unwrap();
    Command::new(WriteMode::Error, Publish::AsWritten).die(root.path());
    assert_eq!(wrong(root.path()), [""; 0]);
    let name = &listing(root.path())[0];
    fs::remove_file(root.path().join(name)).unwrap();
    assert_eq!(wrong(root.path()), [""; 0], "it is made visible again");
    fs::write(root.path().join(name), "another").unwrap();
    let wrong = wrong(root.path());
    assert!(wrong.len() == 1 && wrong[0].contains(&format!("{name} is not what the job wrote")), "{wrong:?}");
}
