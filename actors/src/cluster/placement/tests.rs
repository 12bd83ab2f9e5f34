//! Tests of placement: single choices, and promises about random clusters, with [`Amounts::take`] as the judge.

use proptest::prelude::*;
use std::collections::BTreeSet;

use super::*;

fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

fn view(node: &str, cpus: f64, gpus: f64) -> NodeView {
    let extras = BTreeMap::from([("license".to_owned(), 2.0)]);
    let total = Amounts::of(&Resources { cpus, gpus, memory: Bytes::mib(100), extras, ..Resources::default() });
    let labels = BTreeMap::from([("zone".to_owned(), node.get(..1).unwrap_or_default().to_owned())]);
    NodeView {
        node: name(node),
        state: State::Alive,
        free: total.clone(),
        total,
        labels,
        workers: 0,
        workers_max: 1024,
    }
}

fn wish(cpus: f64, gpus: f64, min: usize, max: usize) -> Wish {
    let resources = Resources { gpus, ..Resources::cpu(cpus) };
    Wish { resources, workers: Workers { min, max }, ..Wish::default() }
}

fn placed(nodes: &[NodeView], wish: &Wish) -> Vec<(String, u32)> {
    let placed = place(nodes, wish).expect("there is room");
    placed.into_iter().map(|(node, workers)| (node.to_string(), workers)).collect()
}

fn refused(nodes: &[NodeView], wish: &Wish) -> String {
    let error = place(nodes, wish).expect_err("no room");
    assert!(!error.is_later(), "{error}");
    error.to_string()
}

fn at(node: &str, workers: u32) -> (String, u32) {
    (node.to_owned(), workers)
}

#[test]
fn workers_go_where_most_is_free_then_where_fewer_are_then_by_name() {
    let nodes = [view("b", 4.0, 0.0), view("a", 4.0, 0.0), view("c", 8.0, 0.0)];
    assert_eq!(placed(&nodes, &wish(1.0, 0.0, 1, 4)), [at("c", 4)]);
    assert_eq!(placed(&nodes, &wish(1.0, 0.0, 1, 5)), [at("a", 1), at("c", 4)]);
    assert_eq!(placed(&nodes, &wish(1.0, 0.0, 1, 100)), [at("a", 4), at("b", 4), at("c", 8)]);
}

#[test]
fn input_draws_workers_to_each_node_that_has_some() {
    let nodes = [view("a", 4.0, 0.0), view("b", 4.0, 0.0), view("c", 16.0, 0.0)];
    let mut near = wish(1.0, 0.0, 1, 4);
    near.input = BTreeMap::from([(name("a"), Bytes(300)), (name("b"), Bytes(100))]);
    assert_eq!(placed(&nodes, &near), [at("a", 3), at("b", 1)]);
    near.workers.max = 10;
    assert_eq!(placed(&nodes, &near), [at("a", 4), at("b", 4), at("c", 2)]);
}

#[test]
fn who_needs_no_gpu_leaves_nodes_with_gpus_to_others() {
    let nodes = [view("cpu", 2.0, 0.0), view("gpu", 32.0, 4.0)];
    assert_eq!(placed(&nodes, &wish(1.0, 0.0, 1, 2)), [at("cpu", 2)]);
    assert_eq!(placed(&nodes, &wish(1.0, 0.0, 1, 3)), [at("cpu", 2), at("gpu", 1)]);
    assert_eq!(placed(&nodes, &wish(1.0, 1.0, 1, 9)), [at("gpu", 4)]);
    assert_eq!(placed(&nodes, &wish(1.0, 0.5, 1, 5)), [at("gpu", 5)]);
}

#[test]
fn halves_of_two_devices_are_not_a_whole_one() {
    let mut node = view("gpu", 8.0, 2.0);
    node.free.gpu_milli = vec![500, 500];
    assert_eq!(place(&[node.clone()], &wish(1.0, 1.0, 1, 1)), Err(NoPlace::Later { min: 1, fit: 0 }));
    assert_eq!(placed(&[node], &wish(1.0, 0.5, 1, 9)), [at("gpu", 2)]);
}

#[test]
fn workers_that_are_there_count_unless_their_node_leaves() {
    let mut nodes = [view("a", 4.0, 0.0), view("b", 4.0, 0.0)];
    nodes[0].workers = 2;
    assert_eq!(placed(&nodes, &wish(1.0, 0.0, 2, 3)), [at("b", 1)], "the same is free, and fewer are there");
    assert_eq!(placed(&nodes, &wish(1.0, 0.0, 2, 2)), []);
    nodes[0].state = State::Draining;
    assert_eq!(placed(&nodes, &wish(1.0, 0.0, 2, 2)), [at("b", 2)]);
}

#[test]
fn what_is_only_busy_comes_later() {
    let mut nodes = [view("a", 4.0, 0.0), view("b", 4.0, 0.0)];
    nodes[0].free.cpu_milli = 1000;
    nodes[1].state = State::Suspect;
    assert_eq!(place(&nodes, &wish(2.0, 0.0, 1, 1)), Err(NoPlace::Later { min: 1, fit: 0 }));
    assert_eq!(place(&[], &wish(2.0, 0.0, 1, 1)), Err(NoPlace::Later { min: 1, fit: 0 }), "nodes may still join");
    let error = place(&nodes, &wish(1.0, 0.0, 4, 4)).expect_err("busy").to_string();
    assert_eq!(error, "1 of 4 workers have room now; the rest is busy");
}

#[test]
fn what_no_node_can_ever_give_is_refused_with_the_most_there_is() {
    let nodes = [view("a", 4.0, 0.0), view("b", 8.0, 2.0)];
    assert_eq!(refused(&nodes, &wish(16.0, 0.0, 1, 1)), "no node can ever give cpu 16 (the most that one has is 8)");
    let both = "no node can ever give cpu 9 (the most that one has is 8), nor gpu 4 (the most that one has is 2)";
    assert_eq!(refused(&nodes, &wish(9.0, 4.0, 0, 1)), both);
    let mut other = wish(1.0, 0.0, 1, 1);
    other.resources.memory = Bytes::mib(200);
    other.resources.extras.insert("tpu".to_owned(), 1.0);
    let both = "no node can ever give memory 200.0 MiB (the most that one has is 100.0 MiB), \
                nor tpu 1 (the most that one has is 0)";
    assert_eq!(refused(&nodes, &other), both);
    let many = "9 workers are needed, and all nodes together have room for 6, were they free";
    assert_eq!(refused(&nodes, &wish(2.0, 0.0, 9, 9)), many);
    assert!(refused(&nodes, &wish(f64::NAN, 0.0, 1, 1)).contains("not a number"));
    assert!(refused(&nodes, &wish(1.0, 1.5, 1, 1)).contains("only whole devices"));
    assert!(refused(&nodes, &wish(1.0, f64::INFINITY, 1, 1)).contains("only whole devices"));
}

#[test]
fn what_is_there_but_never_in_one_place_is_named_so() {
    let nodes = [view("a", 16.0, 0.0), view("b", 2.0, 2.0)];
    let message = "each of cpu 8, gpu 1 is on some node, but no node has all of it";
    assert_eq!(refused(&nodes, &wish(8.0, 1.0, 1, 1)), message);
}

#[test]
fn labels_must_match_and_what_there_is_instead_is_listed() {
    let nodes = [view("a", 16.0, 0.0), view("b", 2.0, 0.0)];
    let mut wish = wish(1.0, 0.0, 1, 9);
    wish.labels = BTreeMap::from([("zone".to_owned(), "b".to_owned())]);
    assert_eq!(placed(&nodes, &wish), [at("b", 2)]);
    wish.labels.insert("disk".to_owned(), "fast".to_owned());
    assert_eq!(refused(&nodes, &wish), "no node has the labels disk=fast, zone=b; there are zone=a|b");
    wish.labels.remove("zone");
    assert_eq!(refused(&nodes, &wish), "no node has the labels disk=fast");
}

#[test]
fn shared_cores_are_taken_in_turns_but_have_to_be_there() {
    let mut nodes = [view("a", 2.0, 0.0), view("b", 4.0, 0.0)];
    nodes[1].free.cpu_milli = -1000;
    let mut wish = wish(1.0, 0.0, 1, 7);
    wish.cores = Cores::Shared;
    assert_eq!(placed(&nodes, &wish), [at("a", 4), at("b", 3)], "both end at two workers a core");
    wish.resources.cpus = 8.0;
    assert_eq!(refused(&nodes, &wish), "no node can ever give cpu 8 (the most that one has is 4)");
}

#[test]
fn who_needs_nothing_gets_no_more_than_a_node_may_hold() {
    let mut nodes = [view("a", 2.0, 0.0)];
    nodes[0].workers_max = 7;
    assert_eq!(placed(&nodes, &wish(0.0, 0.0, 1, usize::MAX)), [at("a", 7)]);
    nodes[0].workers = 5;
    assert_eq!(placed(&nodes, &wish(0.0, 0.0, 1, usize::MAX)), [at("a", 2)]);
}

#[test]
fn what_is_taken_can_be_given_back() {
    let mut amounts = view("a", 4.0, 2.0).free;
    let before = amounts.clone();
    let need = Need::new(&Resources { gpus: 0.4, ..Resources::cpu(1.0) }).expect("makes sense");
    let taken: Vec<_> = std::iter::from_fn(|| amounts.take(&need, Cores::Held)).collect();
    assert_eq!(taken, [[0], [0], [1], [1]], "one device is filled before the next is broken");
    taken.iter().for_each(|ordinals| amounts.give_back(&need, ordinals));
    assert_eq!(amounts, before);
}

fn amounts() -> impl Strategy<Value = (Amounts, Amounts)> {
    let gpu = prop_oneof![Just(0u64), Just(300), Just(500), Just(1000)];
    let total = (0..9i64, prop::collection::vec(gpu, 0..3), 0..5u64, 0..3u64);
    (total, 0..9i64, 0..5u64).prop_map(|((cpu, gpu_free, memory, extra), cpu_used, memory_used)| {
        let extras = BTreeMap::from([("license".to_owned(), extra * 1000)]);
        let gpu_milli = vec![DEVICE_MILLI; gpu_free.len()];
        let total = Amounts { cpu_milli: cpu * 500, gpu_milli, memory: Bytes(memory), extras };
        let cpu_milli = (cpu - cpu_used) * 500;
        let memory = Bytes(memory.saturating_sub(memory_used));
        let free = Amounts { cpu_milli, gpu_milli: gpu_free, memory, extras: total.extras.clone() };
        (total, free)
    })
}

fn nodes() -> impl Strategy<Value = Vec<NodeView>> {
    const STATES: [State; 5] = [State::Alive, State::Alive, State::Alive, State::Suspect, State::Draining];
    let node = (amounts(), prop::sample::select(&STATES[..]), 0..3u32, 0..3u32);
    prop::collection::vec(node, 0..6).prop_map(|nodes| {
        let view = |(number, ((total, free), state, zone, workers)): (u32, ((Amounts, Amounts), State, u32, u32))| {
            let labels = BTreeMap::from([("zone".to_owned(), zone.to_string())]);
            NodeView { node: name(&format!("node-{number}")), state, total, free, labels, workers, workers_max: 1024 }
        };
        (0..).zip(nodes).map(view).collect()
    })
}

fn wishes() -> impl Strategy<Value = Wish> {
    let cpus = prop::sample::select(&[0.0, 0.5, 1.0, 2.5][..]);
    let gpus = prop::sample::select(&[0.0, 0.0, 0.3, 0.5, 1.0, 2.0][..]);
    let label = prop::option::of(0..3u32);
    let input = prop::collection::btree_map(0..6u32, 0..1000u64, 0..4);
    (cpus, gpus, 0..3u64, 0..2u32, label, (0..5usize, 0..6usize), input, any::<bool>()).prop_map(
        |(cpus, gpus, memory, extra, label, (min, more), input, shared)| {
            let extras = BTreeMap::from([("license".to_owned(), f64::from(extra))]);
            Wish {
                resources: Resources { cpus, gpus, memory: Bytes(memory), extras, ..Resources::default() },
                workers: Workers { min, max: min + more },
                labels: label.map(|zone| ("zone".to_owned(), zone.to_string())).into_iter().collect(),
                input: input.into_iter().map(|(n, bytes)| (name(&format!("node-{n}")), Bytes(bytes))).collect(),
                cores: if shared { Cores::Shared } else { Cores::Held },
            }
        },
    )
}

/// How many workers can be taken out of a node's amounts, one after the other, up to a few more than any wish.
fn takes(node: &NodeView, amounts: &Amounts, wish: &Wish) -> u64 {
    let need = Need::new(&wish.resources).expect("makes sense");
    let mut amounts = amounts.clone();
    let fits = |_: &u32| node.total.cpu_milli >= need.cpu_milli && amounts.take(&need, wish.cores).is_some();
    (0..50).take_while(fits).count() as u64
}

proptest! {
    #[test]
    fn it_places_as_many_as_fit_and_may_be_and_never_more(nodes in nodes(), wish in wishes()) {
        let stays = |node: &&NodeView| matches!(node.state, State::Alive | State::Suspect);
        let labelled = |node: &&NodeView| wish.labels.iter().all(|(k, v)| node.labels.get(k) == Some(v));
        let there: u64 = nodes.iter().filter(stays).map(|node| u64::from(node.workers)).sum();
        let (min, max) = (wish.workers.min as u64, wish.workers.max as u64);
        let alive = |node: &&NodeView| node.state == State::Alive;
        let room: u64 = nodes.iter().filter(alive).filter(labelled).map(|n| takes(n, &n.free, &wish)).sum();
        let ever: u64 = nodes.iter().filter(stays).filter(labelled).map(|n| takes(n, &n.total, &wish)).sum();
        match place(&nodes, &wish) {
            Ok(placed) => {
                let sum: u64 = placed.iter().map(|(_, workers)| u64::from(*workers)).sum();
                prop_assert_eq!(sum, room.min(max.saturating_sub(there)));
                prop_assert!(there + sum >= min);
                let names: BTreeSet<&NodeName> = placed.iter().map(|(node, _)| node).collect();
                prop_assert_eq!(names.len(), placed.len(), "each node once");
                for (node, workers) in &placed {
                    let node = nodes.iter().find(|view| view.node == *node).expect("one of those given");
                    prop_assert!(*workers > 0 && alive(&node) && labelled(&node));
                    prop_assert!(u64::from(*workers) <= takes(node, &node.free, &wish));
                }
            }
            Err(NoPlace::Later { fit, .. }) => {
                prop_assert!(there + room < min.max(1), "it did not fit");
                prop_assert_eq!(fit, there + room);
                prop_assert!(ever >= min || !nodes.iter().any(|node| stays(&node)), "it will fit");
            }
            Err(_) => prop_assert!(there < min.max(1) && ever < min.max(1), "it never fits"),
        }
    }

    #[test]
    fn the_order_of_the_nodes_does_not_matter(nodes in nodes(), wish in wishes(), turn in 0..6usize) {
        let mut turned = nodes.clone();
        turned.reverse();
        let by = turn.min(turned.len());
        turned.rotate_left(by);
        prop_assert_eq!(place(&nodes, &wish), place(&turned, &wish));
    }

    #[test]
    fn a_node_with_gpus_is_taken_by_others_only_when_those_without_are_full(nodes in nodes(), wish in wishes()) {
        let resources = Resources { gpus: 0.0, ..wish.resources.clone() };
        let wish = Wish { resources, input: BTreeMap::new(), ..wish };
        let Ok(placed) = place(&nodes, &wish) else { return Ok(()) };
        let placed: BTreeMap<NodeName, u32> = placed.into_iter().collect();
        let has_gpus = |node: &&NodeView| !node.total.gpu_milli.is_empty();
        if nodes.iter().filter(has_gpus).any(|node| placed.contains_key(&node.node)) {
            let without = nodes.iter().filter(|node| !has_gpus(node) && node.state == State::Alive);
            for node in without.filter(|node| wish.labels.iter().all(|(k, v)| node.labels.get(k) == Some(v))) {
                let workers = placed.get(&node.node).copied().unwrap_or(0);
                prop_assert_eq!(u64::from(workers), takes(node, &node.free, &wish), "{:?}", node);
            }
        }
    }
}
