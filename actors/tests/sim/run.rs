//! One run by its seed: a job on a cluster that things happen to, and what must be true of it all the same.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use mobula_actors::cluster::Driver;
use mobula_actors::job::{JobError, OperatorPlan, Topology};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::schedule::{self, Fault, Planned};
use super::world::{HEAD, NODES, STEP, Work, World};
use crate::support::{add, read, values, wide};

/// Once nothing is wrong any more, the job must end within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a run went.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// What was wrong with it.
    pub(crate) wrong: Option<String>,
    pub(crate) story: Vec<String>,
    pub(crate) trace: u64,
    pub(crate) lasted: Duration,
}

/// What a driver is to do, and what came of it.
struct Task {
    rows: i64,
    splits: i64,
    /// Whether all faults are over.
    calm: Cell<bool>,
    wrong: RefCell<Option<String>>,
    jobs: Cell<u32>,
    done: Cell<bool>,
}

/// Runs the seed.
pub(crate) fn run(seed: u64) -> Outcome {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new(seed);
    let faults = schedule::draw(&mut random, &[HEAD, NODES[0], NODES[1]]);
    let (rows, splits) = (random.random_range(1_000..6_000), random.random_range(1..12));
    world.tell(format!("{rows} rows in {splits} splits"));
    world.start_head();
    NODES.iter().for_each(|name| world.start_node(name));
    let task = Rc::new(Task {
        rows,
        splits,
        calm: Cell::default(),
        wrong: RefCell::default(),
        jobs: Cell::default(),
        done: Cell::default(),
    });
    world.start_driver(work(Rc::clone(&task)));
    let last = faults.iter().map(|planned| planned.until).max().unwrap_or_default();
    while !task.done.get() && world.time < last + PATIENCE {
        turn(&mut world, &faults);
        task.calm.set(world.time > last);
        world.step();
    }
    let late =
        (!task.done.get()).then(|| format!("a job does not end for {} s after the last fault", PATIENCE.as_secs()));
    let wrong = task.wrong.borrow_mut().take().or(late);
    world.tell(format!("the end, after {} jobs", task.jobs.get()));
    let (story, lasted) = (world.story.borrow().clone(), world.time);
    let trace = world.network.trace() ^ world.disk.trace().rotate_left(1) ^ lasted.as_nanos() as u64;
    world.end();
    Outcome { wrong, story, trace, lasted }
}

/// Begins and ends what is due.
fn turn(world: &mut World, faults: &[Planned]) {
    for Planned { fault, from, until } in faults {
        if (world.time..world.time + STEP).contains(from) {
            world.tell(fault);
            begin(world, *fault);
        }
        if (world.time..world.time + STEP).contains(until) {
            world.tell(format!("over: {fault}"));
            end(world, *fault);
        }
    }
}

fn begin(world: &mut World, fault: Fault) {
    use super::world::address;
    match fault {
        Fault::Kill(name) => world.kill(name),
        Fault::Partition(one, other) => world.network.partition(address(one), address(other)),
        Fault::Cut(from, to) => world.network.cut(address(from), address(to)),
        Fault::Bad { loss, duplicate } => {
            world.network.loss(loss);
            world.network.duplicate(duplicate);
        }
        Fault::Slow(most) => world.network.delay(STEP..most),
    }
}

fn end(world: &mut World, fault: Fault) {
    use super::world::address;
    match fault {
        Fault::Kill(HEAD) => world.start_head(),
        Fault::Kill(name) => world.start_node(name),
        Fault::Partition(one, other) | Fault::Cut(one, other) => world.network.heal(address(one), address(other)),
        Fault::Bad { .. } => {
            world.network.loss(0);
            world.network.duplicate(0);
        }
        Fault::Slow(_) => world.network.delay(STEP..2 * STEP),
    }
}

fn pipeline(rows: i64, splits: i64) -> Vec<OperatorPlan> {
    vec![wide(read(rows, splits, vec![]), 4), wide(add("one", 0, 1), 4), wide(add("two", 1, 2), 4)]
}

fn expected(rows: i64) -> impl Iterator<Item = i64> {
    3..rows + 3
}

fn differs(all: &[i64], rows: i64) -> String {
    let at = all.iter().copied().zip(expected(rows)).position(|(is, should)| is != should);
    format!("{} rows came instead of {rows}; the first that differs is {at:?}", all.len())
}

/// Runs a job, and further ones until all faults are over and one has run after that. A head that is lost or has no node
/// is asked again.
fn work(task: Rc<Task>) -> Work {
    Rc::new(move |driver| {
        let task = Rc::clone(&task);
        Box::pin(async move {
            loop {
                let was_calm = task.calm.get();
                match take(&driver, task.rows, task.splits).await {
                    Ok(all) if all.iter().copied().eq(expected(task.rows)) => task.jobs.set(task.jobs.get() + 1),
                    Ok(all) => drop(task.wrong.borrow_mut().insert(differs(&all, task.rows))),
                    Err(
                        error @ (JobError::HeadLost { .. } | JobError::NodeLost { .. } | JobError::Infeasible { .. }),
                    ) => return Err(error.to_string()),
                    Err(error) => drop(task.wrong.borrow_mut().insert(error.to_string())),
                }
                if was_calm || task.wrong.borrow().is_some() {
                    task.done.set(true);
                    return Ok(());
                }
            }
        })
    })
}

async fn take(driver: &Driver, rows: i64, splits: i64) -> Result<Vec<i64>, JobError> {
    let topology = Topology { operators: pipeline(rows, splits), ..Topology::default() };
    let mut job = driver.submit_async("sim", &topology).await?;
    let mut all = Vec::new();
    while let Some(block) = job.next().await? {
        all.extend(block.batches().iter().flat_map(values));
    }
    Ok(all)
}
