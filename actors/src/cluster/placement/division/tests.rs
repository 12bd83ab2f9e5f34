//! Tests of division: single choices, and promises about random jobs on random nodes.

use proptest::prelude::*;

use super::*;
use crate::job::{Resources, Workers};
use crate::units::Bytes;

fn view(name: &str, gpus: f64, memory: Bytes) -> NodeView {
    let total = Amounts::of(&Resources { gpus, memory, ..Resources::cpu(4.0) });
    NodeView {
        node: NodeName::new(name).expect("a name"),
        state: State::Alive,
        free: total.clone(),
        total,
        labels: BTreeMap::from([("zone".to_owned(), name.get(..1).unwrap_or_default().to_owned())]),
        workers: 0,
        workers_max: 16,
    }
}

fn wanted(name: &str, gpus: f64, min: usize, max: usize) -> Wanted {
    let resources = Resources { gpus, ..Resources::cpu(1.0) };
    let wish = Wish { resources, workers: Workers { min, max }, cores: Cores::Shared, ..Wish::default() };
    Wanted { name: name.into(), wish }
}

fn in_zone(zone: &str, mut wanted: Wanted) -> Wanted {
    wanted.wish.labels.insert("zone".to_owned(), zone.to_owned());
    wanted
}

/// The shares as text: `b 2*` are two workers on node b, the first of the operator among them.
fn shares(nodes: &[NodeView], operators: &[Wanted]) -> Vec<String> {
    let text = |(node, share): (&NodeName, &Share)| {
        let first = if share.leases == Leases::First { "*" } else { "" };
        format!("{node} {}{first}", share.workers)
    };
    let divided = divide(nodes, operators).expect("there is room");
    divided.iter().map(|shares| shares.iter().map(text).collect::<Vec<_>>().join(", ")).collect()
}

#[test]
fn an_operator_gets_what_the_others_leave() {
    let nodes = [view("a", 2.0, Bytes(0))];
    let both = [wanted("embed", 1.0, 0, 8), wanted("classify", 1.0, 0, 8)];
    assert_eq!(shares(&nodes, &both), ["a 1*", "a 1*"]);
    let nodes = [view("a", 2.0, Bytes(0)), view("b", 3.0, Bytes(0))];
    assert_eq!(shares(&nodes, &both), ["b 3*", "a 2*"]);
    // Who holds nothing takes nothing from anybody.
    let three = [wanted("read", 0.0, 0, 4), both[0].clone(), both[1].clone()];
    assert_eq!(shares(&nodes, &three)[1..], ["b 3*", "a 2*"]);
    let nodes = [view("a", 4.0, Bytes(0))];
    assert_eq!(shares(&nodes, &both), ["a 2*", "a 2*"]);
}

#[test]
fn one_device_for_two_operators_is_refused_by_name() {
    let nodes = [view("a", 1.0, Bytes::mib(10)), view("b", 0.0, Bytes(0))];
    let three = [wanted("read", 0.0, 0, 2), wanted("embed", 1.0, 0, 2), wanted("classify", 1.0, 0, 2)];
    assert_eq!(
        divide(&nodes, &three).expect_err("one for two"),
        (
            2,
            "workers hold what they ask for as long as the job runs, and one worker of each operator does not fit beside \
             the others: there are a (gpu 1, memory 10.0 MiB), b (gpu 0) for \"embed\" (cpu 1, gpu 1), \"classify\" \
             (cpu 1, gpu 1)"
                .to_owned()
        )
    );
    let least = [wanted("embed", 0.5, 2, 2), wanted("classify", 0.5, 0, 2)];
    let (operator, reason) = divide(&nodes, &least).expect_err("three halves");
    assert!(operator == 1 && reason.contains("\"embed\" (2 times cpu 1, gpu 0.5)"), "{reason}");
}

#[test]
fn who_may_go_anywhere_makes_way_for_who_may_not() {
    let nodes = [view("a", 1.0, Bytes(0)), view("b", 1.0, Bytes(0))];
    let operators = [wanted("anywhere", 1.0, 0, 4), in_zone("a", wanted("there", 1.0, 0, 4))];
    assert_eq!(shares(&nodes, &operators), ["b 1*", "a 1*"]);
}

#[test]
fn silent_nodes_are_used_where_the_others_are_not_enough() {
    let mut nodes = [view("a", 1.0, Bytes(0)), view("b", 1.0, Bytes(0))];
    nodes[0].state = State::Suspect;
    assert_eq!(shares(&nodes, &[wanted("one", 1.0, 0, 4)]), ["b 1*"]);
    assert_eq!(shares(&nodes, &[wanted("one", 1.0, 0, 4), wanted("two", 1.0, 0, 4)]), ["a 1*", "b 1*"]);
}

fn nodes() -> impl Strategy<Value = Vec<NodeView>> {
    let node = (prop::sample::select(&[0.0, 1.0, 2.0][..]), 0..3u64);
    prop::collection::vec(node, 1..4).prop_map(|nodes| {
        let names = ["a1", "b1", "a2"];
        nodes.into_iter().zip(names).map(|((gpus, mib), name)| view(name, gpus, Bytes::mib(100 * mib))).collect()
    })
}

fn operators() -> impl Strategy<Value = Vec<Wanted>> {
    let gpus = prop::sample::select(&[0.0, 0.3, 0.4, 0.5, 0.6, 1.0, 2.0][..]);
    let zone = prop::option::of(prop::sample::select(&["a", "b"][..]));
    let one = (gpus, 0..3u64, zone, 0..3usize, 1..6usize).prop_map(|(gpus, mib, zone, min, max)| {
        let mut one = wanted("one", gpus, min, max.max(min));
        one.wish.resources.memory = Bytes::mib(60 * mib);
        match zone {
            Some(zone) => in_zone(zone, one),
            None => one,
        }
    });
    prop::collection::vec(one, 1..5)
}

fn need(wanted: &Wanted) -> Need {
    Need::new(&wanted.wish.resources).expect("makes sense")
}

/// Whether one worker of each operator fits somehow: all ways are tried.
fn fits_somehow(nodes: &[NodeView], operators: &[Wanted], there: &mut Vec<Vec<Need>>) -> bool {
    let Some((first, rest)) = operators.split_first() else { return true };
    (0..nodes.len()).any(|node| {
        let view = &nodes[node];
        if first.wish.labels.iter().any(|(name, value)| view.labels.get(name) != Some(value)) {
            return false;
        }
        there[node].push(need(first));
        let needs: Vec<&Need> = there[node].iter().collect();
        let fits = view.total.clone().take_together(&needs, Cores::Shared).is_some();
        let fits = fits && fits_somehow(nodes, rest, there);
        there[node].pop();
        fits
    })
}

proptest! {
    /// All workers fit beside each other, those that come first also in the way that a node's scheduler grants them.
    #[test]
    fn a_job_never_waits_for_what_it_holds_itself(nodes in nodes(), operators in operators()) {
        let Ok(divided) = divide(&nodes, &operators) else { return Ok(()) };
        prop_assert_eq!(divided.len(), operators.len());
        for view in &nodes {
            let (mut gpus, mut memory, mut firsts) = (0, 0, Vec::new());
            for (shares, wanted) in divided.iter().zip(&operators) {
                let Some(share) = shares.get(&view.node) else { continue };
                prop_assert!(wanted.wish.labels.iter().all(|(name, value)| view.labels.get(name) == Some(value)));
                gpus += u64::from(share.workers) * need(wanted).gpus.milli();
                memory += u64::from(share.workers) * wanted.wish.resources.memory.0;
                firsts.extend((share.leases == Leases::First).then(|| need(wanted)));
            }
            prop_assert!(gpus <= view.total.gpu_milli.iter().sum() && memory <= view.total.memory.0);
            prop_assert!(view.total.clone().take_together(&firsts.iter().collect::<Vec<_>>(), Cores::Shared).is_some());
        }
        for (shares, wanted) in divided.iter().zip(&operators) {
            let workers: usize = shares.values().map(|share| share.workers as usize).sum();
            prop_assert!(workers >= wanted.wish.workers.min.max(1) && workers <= wanted.wish.workers.max);
            let firsts = shares.values().filter(|share| share.leases == Leases::First).count();
            prop_assert_eq!(firsts, usize::from(need(wanted).leases()));
        }
    }

    #[test]
    fn what_fits_in_any_way_is_not_refused(nodes in nodes(), mut operators in operators()) {
        operators.iter_mut().for_each(|wanted| wanted.wish.workers.min = 0);
        if fits_somehow(&nodes, &operators, &mut vec![Vec::new(); nodes.len()]) {
            prop_assert!(divide(&nodes, &operators).is_ok());
        } else {
            prop_assert!(divide(&nodes, &operators).is_err());
        }
    }
}
