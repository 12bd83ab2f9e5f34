//! The jobs of a simulated driver, and the rows that they must give.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use mobula_actors::cluster::Driver;
use mobula_actors::job::{JobError, Topology};
use mobula_actors::operator::{IntoOperator, Operator, OperatorResult, Output};
use serde::{Deserialize, Serialize};

use super::world::Work;
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

/// What a driver is to do, and what came of it.
pub(crate) struct Task {
    pub(crate) rows: i64,
    pub(crate) splits: i64,
    /// How long the driver works on each block: it stretches jobs, so that faults meet them half done.
    pub(crate) slow: Duration,
    /// Whether all faults are over.
    pub(crate) calm: Cell<bool>,
    /// The first thing that was wrong.
    pub(crate) wrong: RefCell<Option<String>>,
    /// Jobs that ended well.
    pub(crate) jobs: Cell<u32>,
    pub(crate) done: Cell<bool>,
}

impl Task {
    pub(crate) fn new(rows: i64, splits: i64, slow: Duration) -> Rc<Self> {
        let (calm, wrong, jobs, done) = (Cell::default(), RefCell::default(), Cell::default(), Cell::default());
        Rc::new(Self { rows, splits, slow, calm, wrong, jobs, done })
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
                    let said = task.judge(task.run(&driver).await);
                    task.done.set(was_calm && said.is_ok() || task.wrong.borrow().is_some());
                    said?;
                    pause(PAUSE).await;
                }
                Ok(())
            })
        })
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

/// Lets virtual time pass.
async fn pause(time: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
}

fn differs(rows: &[i64], expected: &[i64]) -> String {
    let at = rows.iter().zip(expected).position(|(is, should)| is != should);
    let row = at.unwrap_or(rows.len().min(expected.len()));
    format!("{} rows came instead of {}; the first that differs is number {row}", rows.len(), expected.len())
}
