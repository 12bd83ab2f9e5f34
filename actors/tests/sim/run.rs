//! One run by its seed: jobs on a cluster that things happen to, and what must be true of it all the same.

use std::cell::Cell;
use std::time::Duration;

use mobula_actors::sim::{DiskFaults, SimDisk};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::jobs::Task;
use super::schedule::{self, Fault, Planned};
use super::world::{DRIVER, HEAD, NODES, STEP, World, address};

/// Once nothing is wrong any more, the last job must end within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes that come back take so long at most to join again, if nothing else is wrong; the last job begins after that.
const HEALING: Duration = Duration::from_secs(2);

/// How a run went.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// What was wrong with it.
    pub(crate) wrong: Option<String>,
    /// What happened, with when.
    pub(crate) story: Vec<String>,
    /// A hash of all packets and all changes to the disk, with their times.
    pub(crate) trace: u64,
    /// Jobs that ended well.
    pub(crate) jobs: u32,
    pub(crate) faults: usize,
}

impl Outcome {
    #[allow(dead_code, reason = "one of the two tests that use this needs it")]
    pub(crate) fn broken(why: &str) -> Self {
        Self { wrong: Some(why.to_owned()), story: Vec::new(), trace: 0, jobs: 0, faults: 0 }
    }
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts panics of this thread: the engine catches those of its actors, but nothing here is meant to panic.
fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
}

/// Runs the seed.
pub(crate) fn run(seed: u64) -> Outcome {
    count_panics();
    let mut random = SmallRng::seed_from_u64(seed);
    let disk = SimDisk::new(seed);
    let task = Task::draw(&mut random, disk.clone());
    let faults = schedule::draw(&mut random, task.writes);
    let mut world = World::new(seed, disk, schedule::pace(&mut random), task.work());
    world.tell(&*task);
    world.tell(format!("packets take up to {} ms", world.pace.as_millis()));
    [HEAD].iter().chain(&NODES).chain(&[DRIVER]).for_each(|name| world.start(name));
    let last = faults.iter().map(|planned| planned.until).max().unwrap_or_default();
    while !task.done.get() && world.time < last + HEALING + PATIENCE {
        turn(&mut world, &faults);
        task.calm.set(world.time > last + HEALING);
        world.step();
    }
    world.tell(format!("the end, after {} jobs", task.jobs.get()));
    // What was said to be finished outlives a loss of power at any time: so also now.
    world.power_off();
    task.verify();
    let late = || format!("a job does not end for {} s after the last fault", PATIENCE.as_secs());
    let late = (!task.done.get()).then(late);
    let panicked = (PANICS.get() > 0).then(|| "something panicked".to_owned());
    let wrong = task.wrong.borrow_mut().take().or(panicked).or(late);
    let trace = world.network.trace() ^ world.disk.trace().rotate_left(1);
    let story = world.story.borrow().clone();
    Outcome { wrong, story, trace, jobs: task.jobs.get(), faults: faults.len() }
}

/// Begins and ends what is due.
fn turn(world: &mut World, faults: &[Planned]) {
    let now = world.time..world.time + STEP;
    for Planned { fault, from, until } in faults {
        if now.contains(from) {
            world.tell(fault);
            begin(world, *fault);
        }
        if now.contains(until) {
            world.tell(format!("over: {fault}"));
            end(world, *fault);
        }
    }
}

fn begin(world: &mut World, fault: Fault) {
    match fault {
        Fault::Kill(name) => world.kill(name),
        Fault::Partition(one, other) => world.network.partition(address(one), address(other)),
        Fault::Cut(from, to) => world.network.cut(address(from), address(to)),
        Fault::Bad { loss, duplicate } => {
            world.network.loss(loss);
            world.network.duplicate(duplicate);
        }
        Fault::Slow(most) => world.network.delay(STEP..most),
        Fault::Power => world.power_off(),
        Fault::PowerAfter(changes) => world.disk.power_off_after(changes),
        Fault::DiskOnce(changes) => world.disk.fail_after(changes),
        Fault::Disk(faults) => world.disk.faults(faults),
        Fault::Full(bytes) => world.disk.room(Some(world.disk.used_bytes() + bytes)),
    }
}

fn end(world: &mut World, fault: Fault) {
    match fault {
        Fault::Kill(name) => world.start(name),
        Fault::Partition(one, other) | Fault::Cut(one, other) => world.network.heal(address(one), address(other)),
        Fault::Bad { .. } => {
            world.network.loss(0);
            world.network.duplicate(0);
        }
        Fault::Slow(_) => world.calm(),
        Fault::Power | Fault::PowerAfter(_) => world.power_on(),
        // It was met, or there were too few changes.
        Fault::DiskOnce(_) => world.disk.fails_no_more(),
        Fault::Disk(_) => world.disk.faults(DiskFaults::default()),
        Fault::Full(_) => world.disk.room(None),
    }
}
