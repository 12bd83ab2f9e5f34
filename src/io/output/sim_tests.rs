//! The real sink and the real recorder on a simulated disk that loses what was not synced, fills up and fails, by seeds.
//!
//! Everything is done in one thread, in an order that the seed draws: a job reads splits, drops some rows, cuts and joins
//! what is left into tasks, has the sink write them and the recorder record them; whatever stops it, its command is run
//! again. `MOBULA_SIM_SEEDS` says how many seeds, `MOBULA_SIM_SEED` which one to run alone, with its story.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use mobula_actors::block::{Segment, Segments};
use mobula_actors::job::{Logic, OperatorPlan, Resources, Topology, Workers};
use mobula_actors::ledger::{Record, Recorder, Results};
use mobula_actors::operator::{BoxError, OpenContext, Output, Shared, SourceSpec, Split, TaskContext};
use mobula_actors::sim::{DiskFaults, SimDisk, SimEnv};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::recorder::PartRecorder;
use super::*;
use crate::io::testing::ids;

pub(super) const OUT: &str = "/data/out";
/// Seeds without an order for more.
const SEEDS: u64 = 60;
/// Rows that a read slices off at once.
const SLICE: u64 = 10;
/// Rows that this divides are dropped.
pub(super) const DROPPED: i64 = 7;
/// Times that something goes wrong, at most; after that nothing does.
const FAULTY_MAX: u32 = 6;
/// A task of a sink is tried so often.
const ATTEMPTS: u32 = 3;

/// What is run again and again.
pub(super) struct Job {
    pub(super) format: Format,
    pub(super) options: WriteOptions,
    pub(super) splits: u32,
    /// Of each split.
    pub(super) rows: u64,
    /// Rows that are let through at most, whichever come first.
    pub(super) limit: Option<u64>,
}

/// Rows of one task of the sink, and what they stand for.
struct Block {
    rows: Vec<i64>,
    segments: Segments,
}

pub(super) struct World {
    pub(super) disk: SimDisk,
    random: SmallRng,
    pub(super) job: Job,
    context: OpenContext,
    /// Rows that the ledger has had, durable.
    pub(super) finished: BTreeSet<i64>,
    /// The next run is told to stop when half of its blocks are recorded.
    is_interrupted: bool,
    pub(super) story: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64, job: Job) -> Self {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.sync_all();
        let env = SimEnv::new(seed, std::time::Duration::ZERO, disk.clone());
        let context = OpenContext {
            operator: "sink".into(),
            worker: 0,
            incarnation: 0,
            gpus: Vec::new(),
            shared: Shared::alone(Arc::new(env)),
        };
        let (random, finished, story) = (SmallRng::seed_from_u64(seed), BTreeSet::new(), Vec::new());
        Self { disk, random, job, context, finished, is_interrupted: false, story }
    }

    /// Runs the command until it says that it is done.
    fn run_to_the_end(&mut self, mut faults: u32) -> Written {
        for _ in 0..=FAULTY_MAX + 2 {
            if faults > 0 {
                faults -= 1;
                self.go_wrong();
            }
            if let Some(written) = self.run_once() {
                return written;
            }
        }
        panic!("it does not end:\n{}", self.story.join("\n"));
    }

    /// Runs the command, and whatever went wrong in it is over.
    fn run_once(&mut self) -> Option<Written> {
        let ended = self.run();
        self.heal();
        ended.inspect_err(|error| self.story.push(format!("stopped: {error}"))).ok()
    }

    /// Something is to go wrong in the next run, maybe.
    fn go_wrong(&mut self) {
        let (disk, random) = (&self.disk, &mut self.random);
        let at = random.random_range(0..120);
        let fault = match random.random_range(0..5) {
            0 | 1 => {
                disk.power_off_after(at);
                format!("power is lost after {at} changes")
            }
            2 => {
                disk.fail_after(at);
                format!("a change fails after {at}")
            }
            3 => {
                let mut rate = || [0, 20, 200][random.random_range(0..3)];
                let faults = DiskFaults { read_permille: rate(), write_permille: rate(), sync_permille: rate() };
                disk.faults(faults);
                format!("{faults:?}")
            }
            _ => {
                let bytes = random.random_range(0..6_000);
                disk.room(Some(disk.used_bytes() + bytes));
                format!("there is room for {bytes} bytes")
            }
        };
        self.story.push(fault);
    }

    /// What went wrong is over. Without power the process is gone, and what it did not sync may be.
    pub(super) fn heal(&mut self) {
        if self.disk.is_off() {
            self.disk.crash();
        }
        self.disk.power_stays_on();
        self.disk.fails_no_more();
        self.disk.faults(DiskFaults::default());
        self.disk.room(None);
        self.is_interrupted = false;
    }

    fn folder(&self) -> Option<Folder> {
        let all = self.disk.flawless(|| Folder::all(&self.disk, Path::new(OUT))).unwrap_or_default();
        all.into_iter().next_back().map(|(_, folder)| folder)
    }

    fn topology(&self) -> Topology {
        let split = |number| Split {
            label: format!("{number}"),
            rows: Some(Rows(self.job.rows)),
            bytes: Bytes(8 * self.job.rows),
            payload: vec![number as u8],
            file: None,
        };
        let (source, splits) = (SourceSpec::named("rows@1", Vec::new()), (0..self.job.splits).map(split).collect());
        let read = OperatorPlan {
            name: "read".into(),
            inputs: Vec::new(),
            logic: Logic::Read { source, splits, chain: Vec::new() },
            workers: Workers { min: 1, max: 1 },
            resources: Resources::default(),
            ordered: true,
        };
        let limit = self.job.limit.map(|rows| OperatorPlan { logic: Logic::Limit(Rows(rows)), ..read.clone() });
        Topology { operators: std::iter::once(read).chain(limit).collect(), ..Topology::default() }
    }

    /// One process: it prepares the output, and does what is left.
    pub(super) fn run(&mut self) -> Result<Written, BoxError> {
        let (topology, disk) = (self.topology(), Arc::new(self.disk.clone()) as SharedDisk);
        let options = self.job.options.clone();
        let plan = JobPlan::of(&topology, Vec::new(), Vec::new(), (self.job.format, &options), Bytes(80));
        let (schema, on) = (ids(0..0).schema(), OnDisk(disk.clone()));
        let output = match OutputDir::prepare_on(on, Path::new(OUT), (self.job.format, &schema), &options, &plan)? {
            Prepared::Done(written) => return Ok(written),
            Prepared::Job(output) => output,
        };
        let there = mobula_actors::function::decode(&mobula_actors::function::encode(&output)?)?;
        let mut recorder = Box::new(PartRecorder::open(there, &topology, &disk)?);
        let done = self.work(&output, &mut recorder);
        output.hand_over();
        if let Err(error) = done {
            recorder.stop();
            return Err(error);
        }
        mobula_actors::function::decode(&recorder.finish()?)
    }

    fn work(&mut self, output: &OutputDir, recorder: &mut PartRecorder) -> Result<(), BoxError> {
        let mut blocks = self.blocks(recorder);
        blocks.shuffle(&mut self.random);
        let run = u64::from(recorder.first_run()) << 20;
        let interrupted_at = self.is_interrupted.then_some(blocks.len() / 2);
        let mut room = self.job.limit.unwrap_or(u64::MAX);
        for (number, mut block) in (run..).zip(blocks) {
            if interrupted_at.is_some_and(|at| number >= run + at as u64) {
                break;
            }
            if self.job.limit.is_some() {
                block.rows.truncate(room as usize);
                room -= block.rows.len() as u64;
                block.segments = Segments::default();
            }
            let batches = match block.rows.is_empty() {
                true => Vec::new(),
                false => self.write(output, number, &block.rows)?,
            };
            recorder.record(vec![Results { batches, segments: block.segments }])?;
            self.look_what_is_finished();
        }
        if interrupted_at.is_some() { Err("Ctrl-C".into()) } else { Ok(()) }
    }

    /// The sink writes a task, again if it cannot.
    fn write(
        &self,
        output: &OutputDir,
        task: u64,
        rows: &[i64],
    ) -> Result<Vec<arrow::record_batch::RecordBatch>, BoxError> {
        let mut operator = output.operator()?.build()?;
        operator.open(&self.context)?;
        let mut last = None;
        for attempt in 1..=ATTEMPTS {
            let mut out = Output::default();
            let wrote = operator
                .begin(&TaskContext { task, attempt })
                .and_then(|()| operator.process(batch(rows), &mut out))
                .and_then(|()| operator.finish(&mut out));
            match wrote {
                Ok(()) => return Ok(out.take()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| "no attempt".into()))
    }

    /// What is left, read in slices, cut at some places and joined at others.
    fn blocks(&mut self, recorder: &PartRecorder) -> Vec<Block> {
        let mut blocks = Vec::<Block>::new();
        for left in recorder.left().into_values().flatten() {
            let mut from = left.from.0;
            let end = left.to.0.min(self.job.rows);
            while from < end {
                let to = (from + SLICE).min(end);
                let last = to == end;
                let segment = Segment {
                    source: 0,
                    split: left.split,
                    from: Rows(from),
                    to: if last { left.to } else { Rows(to) },
                };
                self.slice(segment, from..to, &mut blocks);
                from = to;
            }
        }
        blocks
    }

    fn slice(&mut self, segment: Segment, rows: Range<u64>, blocks: &mut Vec<Block>) {
        let first = i64::from(segment.split) * self.job.rows as i64;
        let read: Vec<i64> = rows.map(|row| first + row as i64).collect();
        assert!(
            !read.iter().any(|row| self.finished.contains(row)),
            "rows of {segment:?} are finished, and read again"
        );
        let kept: Vec<i64> = read.into_iter().filter(|row| row % DROPPED != 0).collect();
        let cut = match self.random.random_range(0..2) {
            0 => kept.len(),
            _ => self.random.random_range(0..=kept.len()),
        };
        let all = kept.len() as u64;
        for (from, to) in [(0, cut), (cut, kept.len())] {
            // Nothing of it: then the other piece is all.
            if from == to && all > 0 {
                continue;
            }
            let segments = Segments::one(segment);
            let segments = if all == 0 { segments } else { segments.part(from as u64, to as u64, all) };
            let rows = kept.get(from..to).unwrap_or_default();
            match blocks.last_mut().filter(|_| self.random.random_range(0..3) == 0) {
                Some(before) => {
                    before.rows.extend(rows);
                    before.segments.append(&segments);
                }
                None => blocks.push(Block { rows: rows.to_vec(), segments }),
            }
            if all == 0 {
                break;
            }
        }
    }

    /// What the ledger has by now is never to be computed again.
    fn look_what_is_finished(&mut self) {
        let Some(folder) = self.folder() else { return };
        let records = self.disk.flawless(|| folder.records(&self.disk)).unwrap_or_default();
        for record in records {
            let Record::Committed { segments, .. } = record else { continue };
            if self.job.limit.is_some() {
                // All of it.
                self.finished.extend(0..i64::from(self.job.splits) * self.job.rows as i64);
            }
            for Segment { split, from, to, .. } in segments {
                let first = i64::from(split) * self.job.rows as i64;
                self.finished.extend((from.0..to.0.min(self.job.rows)).map(|row| first + row as i64));
            }
        }
    }

    /// What is wrong with the output, if anything.
    fn check(&self, written: &Written) -> Result<(), String> {
        let (jobs, strangers) = verify::look(&self.disk, Path::new(OUT), true).map_err(|error| error.to_string())?;
        let wrong: Vec<_> = jobs.iter().flat_map(|job| &job.wrong).collect();
        let finished = jobs.iter().filter(|job| job.finished).count();
        if !wrong.is_empty() || !strangers.is_empty() || finished != 1 {
            return Err(format!("verify: {wrong:?}, {strangers:?}, {finished} jobs have finished"));
        }
        let is_visible = |path: &PathBuf| path.parent() == Some(Path::new(OUT));
        let visible: BTreeSet<_> = self.disk.files().into_iter().filter(is_visible).collect();
        if visible != written.files.iter().cloned().collect() {
            return Err(format!("visible are {visible:?}, written {:?}", written.files));
        }
        let mut rows: Vec<i64> = visible.iter().flat_map(|path| self.rows_of(path)).collect();
        rows.sort_unstable();
        let all = i64::from(self.job.splits) * self.job.rows as i64;
        let mut expected: Vec<i64> = (0..all).filter(|row| row % DROPPED != 0).collect();
        if let Some(limit) = self.job.limit {
            // Any so many.
            let (count, seen) = ((limit as usize).min(expected.len()), rows.iter().copied().collect::<BTreeSet<_>>());
            expected.retain(|row| seen.contains(row));
            expected.truncate(count);
        }
        match rows == expected && written.rows.0 == expected.len() as u64 {
            true => Ok(()),
            false => Err(format!("{} rows are there instead of {}", rows.len(), expected.len())),
        }
    }

    pub(super) fn rows_of(&self, path: &Path) -> Vec<i64> {
        let bytes = self.disk.read(path).unwrap();
        let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64().unwrap();
        if self.job.format == Format::Json {
            return String::from_utf8(bytes).unwrap().lines().map(number).collect();
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
        reader.flat_map(|batch| batch.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    /// It is done, and stays so when power is lost after that.
    fn check_for_good(&mut self, written: &Written) {
        let checked = self.check(written).and_then(|()| {
            self.disk.crash();
            let again = self.run().map_err(|error| format!("it was done, and now: {error}"))?;
            if again != *written {
                return Err(format!("{written:?} was written, and now {again:?}"));
            }
            self.check(written).map_err(|wrong| format!("after the power was lost: {wrong}"))
        });
        if let Err(wrong) = checked {
            panic!("{wrong}\n{}", self.story.join("\n"));
        }
    }
}

fn batch(rows: &[i64]) -> arrow::record_batch::RecordBatch {
    let column = arrow::array::Int64Array::from(rows.to_vec());
    arrow::record_batch::RecordBatch::try_new(ids(0..0).schema(), vec![Arc::new(column)]).unwrap()
}

/// One job by its seed; gives a hash of all that it did to its disk.
fn run(seed: u64) -> u64 {
    let mut random = SmallRng::seed_from_u64(seed);
    let format = [Format::Parquet, Format::Json][random.random_range(0..2)];
    let publish = [Publish::AtEnd, Publish::AsWritten][random.random_range(0..2)];
    let job = Job {
        format,
        options: WriteOptions::default().publish(publish),
        splits: random.random_range(1..5),
        rows: random.random_range(1..60),
        limit: [None, None, Some(random.random_range(0..80))][random.random_range(0..3)],
    };
    let faults = random.random_range(0..=FAULTY_MAX);
    let mut world = World::new(seed, job);
    let written = world.run_to_the_end(faults);
    world.check_for_good(&written);
    if number("MOBULA_SIM_SEED").is_some() {
        println!("seed {seed}\n{}", world.story.join("\n"));
    }
    world.disk.trace()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn rows_are_exact_whatever_the_disk_loses_and_refuses() {
    let seeds = match number("MOBULA_SIM_SEED") {
        Some(alone) => alone..alone + 1,
        None => 1..number("MOBULA_SIM_SEEDS").unwrap_or(SEEDS) + 1,
    };
    let failed: Vec<u64> = seeds.filter(|seed| std::panic::catch_unwind(|| run(*seed)).is_err()).collect();
    let alone = "alone: MOBULA_SIM_SEED=<seed> cargo test -p mobula --lib output::sim_tests -- --nocapture";
    assert!(failed.is_empty(), "seeds {failed:?} fail; {alone}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// A small job whose power is lost, or whose disk fails once, at each of its changes in turn; sometimes the run after that
/// is interrupted as well.
fn at_each_change(publish: Publish, format: Format, limit: Option<u64>, mut go_wrong: impl FnMut(&SimDisk, u64)) {
    let options = WriteOptions::default().publish(publish);
    let job = || Job { format, options: options.clone(), splits: 2, rows: 15, limit };
    let mut whole = World::new(1, job());
    let written = whole.run_to_the_end(0);
    whole.check_for_good(&written);
    for (at, interrupted) in (0..whole.disk.changes()).flat_map(|at| [(at, false), (at, true)]) {
        let mut world = World::new(1, job());
        world.story.push(format!("it goes wrong at change {at}"));
        go_wrong(&world.disk, at);
        if interrupted {
            world.run_once();
            world.is_interrupted = true;
        }
        let written = world.run_to_the_end(0);
        world.check_for_good(&written);
    }
}

const LIMIT: Option<u64> = Some(17);

#[test]
fn power_may_be_lost_at_each_change_of_the_disk() {
    at_each_change(Publish::AtEnd, Format::Parquet, None, SimDisk::power_off_after);
    at_each_change(Publish::AsWritten, Format::Json, None, SimDisk::power_off_after);
    at_each_change(Publish::AtEnd, Format::Json, LIMIT, SimDisk::power_off_after);
    at_each_change(Publish::AsWritten, Format::Parquet, LIMIT, SimDisk::power_off_after);
}

#[test]
fn each_change_of_the_disk_may_fail() {
    at_each_change(Publish::AtEnd, Format::Json, None, SimDisk::fail_after);
    at_each_change(Publish::AsWritten, Format::Parquet, None, SimDisk::fail_after);
    at_each_change(Publish::AtEnd, Format::Parquet, LIMIT, SimDisk::fail_after);
    at_each_change(Publish::AsWritten, Format::Json, LIMIT, SimDisk::fail_after);
}
