//! The jobs of a simulated driver, and the rows that they must give.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use mobula_actors::cluster::Driver;
use mobula_actors::job::{JobError, Topology};
use mobula_actors::operator::{IntoOperator, Operator, OperatorResult, Output};
use mobula_actors::sim::SimDisk;
use rand::Rng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use super::process::pause;
use super::world::Work;
use super::writes;
use crate::support::{add, map, numbers, read, values, wide};

/// Drops the rows that a number divides.
#[derive(Serialize, Deserialize)]
struct DropMultiples {
    of: i64,
}

#[mobula_actors::operator(crate = mobula_actors, name = "test/drop_multiples@1")]
impl Operator for DropMultiples {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        out.emit(numbers(values(&batch).into_iter().filter(|value| value % self.of != 0)));
        Ok(())
    }
}

/// Two nodes of two cores: so many workers are on both.
const WORKERS: usize = 4;
const DROPPED: i64 = 7;
/// Between two jobs of a driver.
const PAUSE: Duration = Duration::from_millis(300);
/// So many of these after the last job the cluster is at rest: longer than anybody waits for anybody.
const RESTS_WITHIN: usize = 40;

/// What a driver is to do, and what came of it.
pub(crate) struct Task {
    /// Whether results are written and recorded, or come to the driver.
    pub(crate) writes: bool,
    /// Whether they are in order.
    pub(crate) ordered: bool,
    pub(crate) disk: SimDisk,
    /// Outputs that were said to be finished.
    outputs: Cell<u32>,
    pub(crate) rows: i64,
    pub(crate) splits: i64,
    /// How long the driver works on each block: it stretches jobs, so that faults meet them half done.
    pub(crate) slow: Duration,
    /// Most bytes of rows in a file.
    pub(crate) part_bytes: u64,
    /// Whether all faults are over.
    pub(crate) calm: Cell<bool>,
    /// The first thing that was wrong.
    pub(crate) wrong: RefCell<Option<String>>,
    /// Jobs that ended well.
    pub(crate) jobs: Cell<u32>,
    pub(crate) done: Cell<bool>,
}

impl Task {
    pub(crate) fn draw(random: &mut SmallRng, disk: SimDisk) -> Rc<Self> {
        let writes = random.random_range(0..2) == 0;
        Rc::new(Self {
            writes,
            ordered: !writes || random.random_range(0..2) == 0,
            disk,
            outputs: Cell::default(),
            rows: random.random_range(1_000..8_000),
            splits: random.random_range(1..12),
            slow: Duration::from_millis(random.random_range(0..200)),
            part_bytes: [256, 1024, 4096][random.random_range(0..3)],
            calm: Cell::default(),
            wrong: RefCell::default(),
            jobs: Cell::default(),
            done: Cell::default(),
        })
    }

    fn topology(&self) -> Topology {
        let drop = map("drop", 1, DropMultiples { of: DROPPED }.into_operator());
        let operators =
            [read(self.rows, self.splits, vec![]), add("add", 0, 1), drop].map(|plan| wide(plan, WORKERS)).into();
        Topology { operators, ..Topology::default() }
    }

    /// The rows, made by a loop.
    fn expected(&self) -> Vec<i64> {
        (1..=self.rows).filter(|row| row % DROPPED != 0).collect()
    }

    /// What a driver does: runs a job, and further ones until all faults are over and one has run after that. With a head
    /// that is lost or has no node it connects again.
    pub(crate) fn work(self: &Rc<Self>) -> Work {
        let task = Rc::clone(self);
        Rc::new(move |driver| {
            let task = Rc::clone(&task);
            Box::pin(async move {
                while !task.done.get() {
                    let was_calm = task.calm.get();
                    let said = match task.writes {
                        true => task.write(&driver).await,
                        false => task.judge(task.run(&driver).await),
                    };
                    let over = was_calm && said.is_ok() || task.wrong.borrow().is_some();
                    said?;
                    if over {
                        task.look_whether_it_rests(&driver).await?;
                        task.done.set(true);
                    }
                    pause(PAUSE).await;
                }
                Ok(())
            })
        })
    }

    /// Once all is over the cluster has its nodes again, each of them once, and nothing to do.
    async fn look_whether_it_rests(&self, driver: &Driver) -> Result<(), String> {
        let mut is = String::new();
        for _ in 0..RESTS_WITHIN {
            let status = driver.status_async().await.map_err(|error| error.to_string())?;
            let (cores, jobs) = (status.cpus, status.jobs);
            if (cores, jobs) == (WORKERS, 0) {
                return Ok(());
            }
            is = format!("in the end the cluster has {cores} cores instead of {WORKERS}, and {jobs} jobs");
            pause(PAUSE).await;
        }
        self.is_wrong(is);
        Ok(())
    }

    async fn run(&self, driver: &Driver) -> Result<Vec<i64>, JobError> {
        let mut job = driver.submit_async("sim", &self.topology()).await?;
        let mut all = Vec::new();
        while let Some(block) = job.next().await? {
            all.extend(block.batches().iter().flat_map(values));
            pause(if self.calm.get() { Duration::ZERO } else { self.slow }).await;
        }
        Ok(all)
    }

    /// The output of a number.
    fn output(number: u32) -> PathBuf {
        PathBuf::from(format!("/out{number}"))
    }

    /// Runs a job that writes, again and again until its output is finished. Whatever stops it may be a fault.
    async fn write(&self, driver: &Driver) -> Result<(), String> {
        let dir = Self::output(self.outputs.get());
        if !writes::is_finished(&self.disk, &dir) {
            let topology = writes::written(self.topology(), &dir, self);
            let mut job = driver.submit_async("sim", &topology).await.map_err(|error| error.to_string())?;
            while job.next().await.map_err(|error| error.to_string())?.is_some() {}
        }
        if let Err(wrong) = writes::verify(&self.disk, &dir, self.splits, &self.expected()) {
            self.is_wrong(format!("{}: {wrong}", dir.display()));
        }
        self.jobs.set(self.jobs.get() + 1);
        self.outputs.set(self.outputs.get() + 1);
        Ok(())
    }

    /// What was said to be finished still is, whatever happened since.
    pub(crate) fn verify(&self) {
        for number in 0..self.outputs.get() {
            let dir = Self::output(number);
            if let Err(wrong) = writes::verify(&self.disk, &dir, self.splits, &self.expected()) {
                self.is_wrong(format!("{} in the end: {wrong}", dir.display()));
            }
        }
    }

    /// `Err` says that the job is to be tried again.
    fn judge(&self, result: Result<Vec<i64>, JobError>) -> Result<(), String> {
        match result {
            Ok(rows) if rows == self.expected() => self.jobs.set(self.jobs.get() + 1),
            Ok(rows) => self.is_wrong(differs(&rows, &self.expected())),
            // These say that there was nobody to go on with.
            Err(error @ (JobError::HeadLost { .. } | JobError::NodeLost { .. } | JobError::Infeasible { .. })) => {
                return Err(error.to_string());
            }
            Err(error) => self.is_wrong(error.to_string()),
        }
        Ok(())
    }

    fn is_wrong(&self, what: String) {
        self.wrong.borrow_mut().get_or_insert(what);
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, splits, slow, writes, ordered, .. } = self;
        let to = if *writes { "written" } else { "for the driver" };
        let order = if *ordered { "in order" } else { "in any order" };
        write!(f, "{rows} rows in {splits} splits, {to}, {order}, {} ms for a block", slow.as_millis())
    }
}

fn differs(rows: &[i64], expected: &[i64]) -> String {
    let at = rows.iter().zip(expected).position(|(is, should)| is != should);
    let row = at.unwrap_or(rows.len().min(expected.len()));
    format!("{} rows came instead of {}; the first that differs is number {row}", rows.len(), expected.len())
}
