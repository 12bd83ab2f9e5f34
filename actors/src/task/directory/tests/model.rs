//! Random clusters with random losses: all that is held at the end is right, and nothing stays when it is let go.

use proptest::prelude::*;
use rand::Rng;

use super::world::World;
use crate::job::Resources;
use crate::task::directory::*;
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
                world.say(driver, crate::task::wire::ToHead::Cancel { task: id });
            }
        }
        5 => {
            let boxes: Vec<ObjectId> = held.iter().copied().filter(|id| world.inside.contains_key(id)).collect();
            if let Some(id) = world.one(&boxes) {
                world.submit(driver, "unbox", &[id], Resources::default());
            }
        }
        6 => {
            let args = some(world, 1);
            if !args.is_empty() {
                let resources = ask(world);
                world.submit(driver, "box", &args, resources);
            }
        }
        7 => {
            let items = world.rng.random_range(0..6);
            world.submit(driver, &format!("stream-{items}"), &[], Resources::default());
        }
        8 => {
            let (args, depth) = (some(world, 2), world.rng.random_range(1..6));
            world.submit(driver, &format!("nest-{depth}"), &args, Resources::default());
        }
        9 => {
            let args = some(world, 2);
            world.submit(driver, "fail", &args, Resources::default());
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
        for _ in 0..world.rng.random_range(0..40) {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn all_that_is_held_is_right_and_nothing_stays(seed in any::<u64>()) {
        live(seed, 120, 0.0);
    }

    #[test]
    fn losses_change_no_result(seed in any::<u64>()) {
        live(seed, 120, 0.1);
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

#[test]
fn a_chain_of_ten_thousand_lost_values_is_made_again() {
    let mut world = World::new(2, endless());
    let node = world.add_node(Resources::cpu(2.0));
    let driver = world.add_driver();
    let mut last = world.submit(driver, "big", &[], Resources::default());
    for _ in 0..10_000 {
        let next = world.submit(driver, "big", &[last], Resources::default());
        world.release(driver, last);
        last = next;
        for _ in 0..20 {
            world.step();
        }
    }
    world.run_down();
    world.add_node(Resources::cpu(2.0));
    world.lose(node);
    world.run_down();
    world.want(driver, last);
    world.run_down();
    assert_eq!(world.drivers[&driver].answers[&last], Ok(world.expected[&last]));
    let_all_go(&mut world);
    world.assert_empty();
}
