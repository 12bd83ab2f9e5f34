//! Random clusters with random losses: all that is held at the end is right, and nothing stays when it is let go.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::world::{World, frame};
use crate::job::Resources;
use crate::task::directory::*;
use crate::task::ids::DRIVERS_FROM;
use crate::task::wire::*;
use crate::units::Bytes;

fn endless() -> DirectoryLimits {
    DirectoryLimits { remakes: 1_000_000, spared: 1_000_000, passed: 4, ..DirectoryLimits::default() }
}

fn offer(world: &mut World) -> Resources {
    let gpus = f64::from(world.rng.random_range(0..3u32));
    Resources { gpus, memory: Bytes(100), ..Resources::cpu(f64::from(world.rng.random_range(2..5u32))) }
}

/// All can run on any node with a GPU, and there is always one.
fn ask(world: &mut World) -> Resources {
    match world.rng.random_range(0..8) {
        0 => Resources::cpu(0.0),
        1 => Resources::cpu(0.5),
        2 => Resources::cpu(2.0),
        3 => Resources { gpus: 1.0 / 3.0, ..Resources::cpu(0.1) },
        4 => Resources { gpus: 1.0, ..Resources::cpu(1.0) },
        5 => Resources { memory: Bytes(60), ..Resources::cpu(1.0) },
        _ => Resources::default(),
    }
}

/// Boxes and streams.
fn act_rarely(world: &mut World, driver: PartyId, held: &[ObjectId]) {
    match world.rng.random_range(0..3) {
        0 => {
            let boxes: Vec<ObjectId> = held.iter().copied().filter(|id| world.inside.contains_key(id)).collect();
            if let Some(id) = world.one(&boxes) {
                world.submit(driver, "unbox", &[id], Resources::default());
            }
        }
        1 => {
            if let Some(inside) = world.one(held) {
                let resources = ask(world);
                world.submit(driver, "box", &[inside], resources);
            }
        }
        _ => {
            let items = world.rng.random_range(0..6);
            world.submit(driver, &format!("stream-{items}"), &[], Resources::default());
        }
    }
}

/// Something that a driver does.
fn act(world: &mut World, driver: PartyId) {
    let held: Vec<ObjectId> = world.drivers[&driver].held.keys().copied().collect();
    let some = |world: &mut World, most: usize| -> Vec<ObjectId> {
        let count = world.rng.random_range(0..=most);
        (0..count).filter_map(|_| world.one(&held)).collect()
    };
    match world.rng.random_range(0..20) {
        0 => {
            let node = world.nodes();
            let node = if world.rng.random_bool(0.5) { world.one(&node) } else { None };
            world.put(driver, node);
        }
        1..3 => {
            if let Some(id) = world.one(&held) {
                world.release(driver, id);
            }
        }
        3 => {
            if let Some(id) = world.one(&held).filter(|id| !world.drivers[&driver].asked.contains(id)) {
                world.want(driver, id);
            }
        }
        4 if world.rng.random_bool(0.2) => {
            if let Some(id) = world.one(&held) {
                world.cancelled.insert(id.task());
                world.say(driver, ToHead::Cancel { task: id });
            }
        }
        5..8 => act_rarely(world, driver, &held),
        8 => {
            let (args, depth) = (some(world, 2), world.rng.random_range(1..6));
            world.submit(driver, &format!("nest-{depth}"), &args, Resources::default());
        }
        9 if world.rng.random_bool(0.3) => {
            let args = some(world, 2);
            world.submit(driver, "fail", &args, Resources::default());
        }
        10 => {
            // It is not always true what they say.
            let nodes = world.nodes();
            if let (Some(id), Some(node)) = (world.one(&held), world.one(&nodes)) {
                world.drivers.get_mut(&driver).expect("a driver").asked.insert(id);
                world.say(driver, ToHead::NotThere { id, node });
            }
        }
        what => {
            let (args, resources) = (some(world, 4), ask(world));
            world.submit(driver, if what % 2 == 0 { "sum" } else { "big" }, &args, resources);
        }
    }
}

/// Why it is right that this failed.
fn is_right(world: &World, id: ObjectId, error: &TaskError) -> bool {
    match error {
        TaskError::Argument { cause, argument, .. } => is_right(world, *argument, cause),
        TaskError::Failed { task, causes, .. } => task.as_ref() == "fail" && causes == &["it fails"],
        TaskError::WorkerLost { task, .. } => task.as_ref() == "fail",
        TaskError::Cancelled { .. } => !world.cancelled.is_empty(),
        TaskError::Lost { object, .. } => {
            world.puts.contains(object) || world.cancelled.contains(&object.task()) || {
                eprintln!("{id}: {error}");
                false
            }
        }
        _ => false,
    }
}

fn verify(world: &mut World) {
    for _ in 0..3 {
        let drivers: Vec<PartyId> = world.drivers.keys().copied().collect();
        for driver in drivers {
            let held: Vec<ObjectId> = world.drivers[&driver].held.keys().copied().collect();
            held.into_iter().for_each(|id| world.want(driver, id));
        }
        world.run_down();
    }
    for (driver, left) in &world.drivers {
        assert!(left.asked.is_empty(), "{driver:?} has not heard of {:?}", left.asked);
        for id in left.held.keys() {
            match &left.answers[id] {
                Ok(value) => assert_eq!(Some(value), world.expected.get(id)),
                Err(error) => assert!(is_right(world, *id, error), "{id}: {error}"),
            }
        }
    }
}

fn let_all_go(world: &mut World) {
    let drivers: Vec<PartyId> = world.drivers.keys().copied().collect();
    for driver in drivers {
        while let Some(id) = {
            let held: Vec<ObjectId> = world.drivers[&driver].held.keys().copied().collect();
            world.one(&held)
        } {
            world.release(driver, id);
        }
    }
    world.run_down();
    // What an answer on its way had granted.
    let late = world.drivers.values().any(|driver| !driver.held.is_empty());
    if late {
        let_all_go(world);
    }
}

fn live(seed: u64, acts: usize, losses: f64) {
    let mut world = World::new(seed, endless());
    world.twice = true;
    let sure = Resources { gpus: 1.0, memory: Bytes(100), ..Resources::cpu(2.0) };
    world.add_node(sure.clone());
    let offers = offer(&mut world);
    world.add_node(offers);
    for _ in 0..2 {
        world.add_driver();
    }
    for _ in 0..acts {
        let drivers: Vec<PartyId> = world.drivers.keys().copied().collect();
        let driver = world.one(&drivers).expect("there is one");
        act(&mut world, driver);
        let most = [8, 40, 150][world.rng.random_range(0..3)];
        for _ in 0..world.rng.random_range(0..most) {
            world.step();
        }
        if world.rng.random_bool(losses) {
            let nodes = world.nodes();
            let node = world.one(&nodes).expect("there is one");
            world.add_node(sure.clone());
            let offers = offer(&mut world);
            match world.rng.random_range(0..5) {
                0 => world.directory.drain_node(node),
                1 => {
                    world.add_node(offers);
                }
                2 if world.drivers.len() > 1 => world.lose(driver),
                2 => {
                    world.add_driver();
                }
                _ => world.lose(node),
            }
        }
    }
    world.run_down();
    verify(&mut world);
    let_all_go(&mut world);
    world.assert_empty();
}

/// Nodes are always busy, and a task comes for each that ends. Gives the most tasks that ended while one waited.
fn longest_wait(seed: u64) -> u64 {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut directory = Directory::new(DirectoryLimits { passed: 8, ..DirectoryLimits::default() });
    let driver = PartyId(DRIVERS_FROM);
    directory.join(driver, None);
    let offers = [Resources { gpus: 2.0, memory: Bytes(100), ..Resources::cpu(8.0) }, Resources::cpu(4.0)];
    for (party, resources) in (1..).zip(&offers[..rng.random_range(1..3)]) {
        let name = NodeName::new(&format!("n{party}")).expect("a name");
        directory.join(PartyId(party), Some(NodeOffer { name, resources: resources.clone() }));
    }
    let asks = [
        Resources::cpu(0.3),
        Resources::default(),
        Resources::cpu(8.0),
        Resources { gpus: 2.0, ..Resources::cpu(1.0) },
        Resources { gpus: 1.0 / 3.0, ..Resources::cpu(0.0) },
        Resources { memory: Bytes(100), ..Resources::cpu(3.0) },
    ];
    let (mut came, mut running, mut longest) = (BTreeMap::new(), Vec::new(), 0);
    for ended in 0..2_000u64 {
        directory.look(Duration::from_millis(ended * 2));
        let ask = if rng.random_bool(0.8) { rng.random_range(0..2) } else { rng.random_range(0..asks.len()) };
        let id = ObjectId::new(driver, ended);
        directory.on(driver, ToHead::Submit(frame(id, "f", 0, &[], Vec::new(), asks[ask].clone())));
        came.insert(id, ended);
        for (party, message) in directory.take_out() {
            if let FromHead::Run { task, attempt, .. } = message {
                longest = longest.max(ended - came.remove(&task.id).expect("it came once"));
                running.push((party, task.id, attempt));
            }
        }
        directory.check_sums();
        if ended >= 40 {
            let (party, task, attempt) = running.swap_remove(rng.random_range(0..running.len()));
            let value = ValueFrame::Inline(Blob::default());
            directory.on(party, ToHead::Done { task, attempt, value, contained: Vec::new() });
        }
    }
    came.values().map(|came| 2_000 - came).fold(longest, u64::max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn all_that_is_held_is_right_and_nothing_stays(seed in any::<u64>()) {
        live(seed, 150, 0.0);
    }

    #[test]
    fn losses_change_no_result(seed in any::<u64>()) {
        live(seed, 150, 0.1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn no_task_waits_for_ever(seed in any::<u64>()) {
        let longest = longest_wait(seed);
        prop_assert!(longest < 600, "one waited while {longest} others ended");
    }
}

#[test]
fn nested_tasks_a_hundred_deep_end_on_two_cores() {
    let mut world = World::new(1, endless());
    world.add_node(Resources::cpu(2.0));
    let driver = world.add_driver();
    let deep: Vec<ObjectId> = (0..3).map(|_| world.submit(driver, "nest-100", &[], Resources::default())).collect();
    world.run_down();
    for id in deep {
        assert_eq!(world.drivers[&driver].answers[&id], Ok(world.expected[&id]));
    }
    let_all_go(&mut world);
    world.assert_empty();
}
