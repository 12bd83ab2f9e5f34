//! Tests of the leases of a node: single choices, and promises about random jobs.

use super::*;
use crate::units::Bytes;
use proptest::prelude::*;
use std::collections::VecDeque;

fn node() -> Leases {
    let extras = BTreeMap::from([("license".to_owned(), 2.0)]);
    Leases::new(Resources { gpus: 2.0, memory: Bytes::mib(100), extras, ..Resources::cpu(4.0) })
}

fn gpus(amount: f64) -> Resources {
    Resources { gpus: amount, ..Resources::cpu(1.0) }
}

#[test]
fn what_the_node_can_never_give_is_refused_with_the_reason() {
    let reason = node().feasible(&gpus(3.0)).expect_err("two devices");
    assert_eq!(reason, "it asks for 3 gpus, this node has 2");
    let wanted = Resources { extras: BTreeMap::from([("tpu".to_owned(), 1.0)]), ..Resources::default() };
    assert_eq!(node().feasible(&wanted).expect_err("no such"), "it asks for 1 \"tpu\", this node has 0");
    assert!(node().feasible(&gpus(1.5)).is_err());
    assert!(node().feasible(&gpus(f64::NAN)).is_err());
}

#[test]
fn a_device_is_never_given_twice() {
    let mut leases = node();
    for ticket in 0..3 {
        leases.ask(0, ticket, &gpus(1.0), None).expect("makes sense");
    }
    let (_, first) = leases.next().expect("free");
    let (_, second) = leases.next().expect("free");
    assert_ne!(first.gpus, second.gpus);
    assert_eq!(leases.next(), None);
    leases.give_back(&first);
    assert_eq!(leases.next().map(|(ticket, grant)| (ticket, grant.gpus)), Some((2, first.gpus)));
}

#[test]
fn shares_fill_one_device_before_the_next() {
    let mut leases = node();
    for ticket in 0..4 {
        leases.ask(0, ticket, &gpus(1.0 / 3.0), None).expect("makes sense");
    }
    let ordinals: Vec<_> = std::iter::from_fn(|| leases.next()).map(|(_, grant)| grant.gpus).collect();
    assert_eq!(ordinals, [[0], [0], [0], [1]]);
}

#[test]
fn the_operator_nearest_to_the_sink_is_served_first() {
    let mut leases = node();
    leases.ask(2, 0, &gpus(2.0), None).expect("makes sense");
    leases.ask(1, 1, &gpus(2.0), None).expect("makes sense");
    assert_eq!(leases.next().map(|(ticket, _)| ticket), Some(1));
}

#[test]
fn all_that_is_missing_is_named() {
    let wanted = Resources { memory: Bytes::mib(200), ..gpus(3.0) }.label("zone", "a");
    assert_eq!(
        node().feasible(&wanted).expect_err("three things"),
        "it asks for 3 gpus, this node has 2; it asks for 200.0 MiB of memory, this node has 100.0 MiB; it asks for a \
         node with the label zone=a, which this node does not have"
    );
}

#[test]
fn shares_that_break_too_many_devices_do_not_fit_together() {
    assert_eq!(node().feasible_together(&[gpus(0.5), gpus(1.0), gpus(0.5)]), Ok(()));
    assert_eq!(
        node().feasible_together(&[gpus(0.6), gpus(0.6), gpus(0.6)]).expect_err("three devices"),
        "what its workers ask for (0.6, 0.6, 0.6 gpus) does not fit on the 2 gpus of this node"
    );
}

/// Grants that a large ask waits for while small ones, each nearer to the sink, come and go on both devices.
fn grants_before_a_large_one(small: Option<Asker>) -> Option<u32> {
    let mut leases = node();
    let mut out = VecDeque::new();
    leases.ask(9, 1, &gpus(2.0), None).expect("makes sense");
    for ticket in 2..200 {
        leases.ask(0, ticket, &gpus(0.5), small).expect("makes sense");
        while let Some((granted, grant)) = leases.next() {
            if granted == 1 {
                return Some(ticket as u32 - 2);
            }
            out.push_back((granted, grant));
        }
        if out.len() > 3
            && let Some((_, grant)) = out.pop_front()
        {
            leases.give_back(&grant);
        }
        if leases.waiting.len() > 8 {
            // The rest end one after another.
            while let Some((_, grant)) = out.pop_front() {
                leases.give_back(&grant);
            }
        }
    }
    None
}

#[test]
fn a_large_ask_behind_a_stream_of_small_ones_gets_its_turn() {
    let waited = grants_before_a_large_one(None).expect("granted");
    assert!(waited > 8 && waited <= PASSED_MAX + 16, "{waited}");
    let other = Asker { job: 7, first: None };
    assert!(grants_before_a_large_one(Some(other)).is_some());
}

fn first(job: u64, together: u32) -> Option<Asker> {
    Some(Asker { job, first: Some(First { run: 0, together }) })
}

#[test]
fn two_jobs_that_need_two_devices_each_do_not_get_one_each() {
    let mut leases = node();
    leases.ask(0, 0, &gpus(1.0), first(9, 1)).expect("makes sense");
    let (_, held) = leases.next().expect("free");
    // Each asks for the operator at its sink first.
    for (ticket, (priority, job)) in (1..).zip([(0, 1), (0, 2), (1, 1), (1, 2)]) {
        leases.ask(priority, ticket, &gpus(1.0), first(job, 2)).expect("makes sense");
        // What makes a job faster is not granted before what it needs.
        leases.ask(0, 10 + ticket, &gpus(1.0), Some(Asker { job, first: None })).expect("makes sense");
        assert_eq!(leases.next(), None, "there is one for two");
    }
    // Who asks for cores alone holds nothing, and waits for nobody.
    leases.ask(3, 20, &Resources::cpu(1.0), Some(Asker { job: 1, first: None })).expect("makes sense");
    assert_eq!(leases.next().map(|(ticket, _)| ticket), Some(20));
    leases.give_back(&held);
    let granted: Vec<_> = std::iter::from_fn(|| leases.next()).collect();
    assert_eq!(granted.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [1, 3]);
    leases.forget(&(10..15).collect());
    granted.iter().for_each(|(_, grant)| leases.give_back(grant));
    let granted: Vec<_> = std::iter::from_fn(|| leases.next()).collect();
    assert_eq!(granted.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn an_operator_that_is_not_needed_any_more_is_not_waited_for() {
    let mut leases = node();
    leases.ask(0, 0, &gpus(1.0), first(1, 3)).expect("makes sense");
    leases.ask(1, 1, &gpus(1.0), first(1, 3)).expect("makes sense");
    assert_eq!(leases.next(), None, "the third has not asked");
    leases.forget(&BTreeSet::from([0]));
    assert_eq!(leases.next(), None, "nor now");
    leases.ask(2, 2, &gpus(1.0), first(1, 3)).expect("makes sense");
    assert_eq!(std::iter::from_fn(|| leases.next()).count(), 2);
    // The same while they wait, or before the last has come.
    leases.ask(0, 3, &gpus(2.0), first(2, 2)).expect("makes sense");
    leases.ask(0, 4, &gpus(1.0), first(2, 2)).expect("makes sense");
    leases.ask(0, 5, &gpus(1.0), first(3, 2)).expect("makes sense");
    leases.forget(&BTreeSet::from([3, 4, 5]));
    leases.ask(0, 6, &gpus(1.0), first(3, 2)).expect("makes sense");
    assert!(leases.gathering.is_empty() && leases.waiting.len() == 1);
}

#[test]
fn shares_that_fit_together_are_not_taken_in_an_order_in_which_they_do_not() {
    let mut leases = node();
    for (ticket, share) in (0..).zip([0.4, 0.4, 0.6, 0.6]) {
        leases.ask(ticket as usize, ticket, &gpus(share), first(1, 4)).expect("makes sense");
    }
    let ordinals: Vec<_> = std::iter::from_fn(|| leases.next()).map(|(_, grant)| grant.gpus).collect();
    assert_eq!(ordinals, [[0], [1], [0], [1]]);
}

#[test]
fn a_reservation_is_void_when_nobody_wants_it_any_more() {
    let mut leases = node();
    leases.ask(9, 0, &gpus(2.0), None).expect("makes sense");
    leases.ask(0, 1, &gpus(1.0), None).expect("makes sense");
    let (_, held) = leases.next().expect("fits");
    leases.waiting.values_mut().for_each(|ask| ask.passed = PASSED_MAX);
    leases.ask(0, 2, &gpus(1.0), None).expect("makes sense");
    assert_eq!(leases.next(), None, "kept for the large one");
    leases.forget(&BTreeSet::from([0]));
    assert_eq!(leases.next().map(|(ticket, _)| ticket), Some(2));
    leases.give_back(&held);
}

#[derive(Debug, Clone)]
enum Event {
    /// Priority, thousandths of devices, MiB, licenses.
    Ask(usize, u64, u64, u64, Option<u64>),
    /// Which of the grants that are out.
    GiveBack(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let gpus = prop::sample::select(&[0, 1, 100, 250, 333, 500, 999, 1000, 2000, 3000][..]);
    let asker = prop::option::of(0..3u64);
    let ask = (0..4usize, gpus, 0..120u64, 0..3u64, asker).prop_map(|(p, g, m, l, a)| Event::Ask(p, g, m, l, a));
    prop::collection::vec(prop_oneof![3 => ask, 2 => (0..100usize).prop_map(Event::GiveBack)], 1..150)
}

/// What all grants that are out hold: of each device, of memory, of licenses.
fn sums(out: &[(u64, Grant)], asked: &BTreeMap<u64, Resources>) -> (Vec<u64>, u64, u64) {
    let (mut devices, mut memory, mut licenses) = (vec![0; 3], 0, 0);
    for (ticket, grant) in out {
        let wanted = &asked[ticket];
        let share = ((wanted.gpus * 1000.0).round() as u64).min(1000);
        grant.gpus.iter().for_each(|ordinal| devices[*ordinal as usize] += share);
        memory += wanted.memory.0;
        licenses += wanted.extras["license"] as u64;
    }
    (devices, memory, licenses)
}

proptest! {
    /// At every step, on every device, no more is out than there is; whole devices have one holder; at the end all is
    /// free again to the last thousandth; and who can be granted is granted in the end.
    #[test]
    fn grants_never_exceed_what_there_is(events in events()) {
        let extras = BTreeMap::from([("license".to_owned(), 2.0)]);
        let total = Resources { gpus: 3.0, memory: Bytes::mib(100), extras, ..Resources::cpu(4.0) };
        let mut leases = Leases::new(total.clone());
        let (mut out, mut asked) = (Vec::new(), BTreeMap::new());
        for (ticket, event) in (0..).zip(events) {
            match event {
                Event::Ask(priority, gpus, mib, license, asker) => {
                    let extras = BTreeMap::from([("license".to_owned(), license as f64)]);
                    let gpus = gpus as f64 / 1000.0;
                    let wanted = Resources { gpus, memory: Bytes::mib(mib), extras, ..Resources::cpu(1.0) };
                    if leases.feasible(&wanted).is_ok() {
                        let asker = asker.map(|job| Asker { job, first: None });
                        leases.ask(priority, ticket, &wanted, asker).expect("feasible");
                        asked.insert(ticket, wanted);
                    }
                }
                Event::GiveBack(which) if !out.is_empty() => {
                    let (_, grant) = out.remove(which % out.len());
                    leases.give_back(&grant);
                }
                Event::GiveBack(_) => {}
            }
            while let Some(granted) = leases.next() {
                prop_assert_eq!(granted.1.gpus.len() as f64, asked[&granted.0].gpus.ceil());
                out.push(granted);
                let (devices, memory, licenses) = sums(&out, &asked);
                prop_assert!(devices.iter().all(|held| *held <= 1000), "{devices:?}");
                prop_assert!(memory <= Bytes::mib(100).0 && licenses <= 2);
                let whole = out.iter().filter(|(ticket, _)| asked[ticket].gpus >= 1.0);
                let holders: Vec<u32> = whole.flat_map(|(_, grant)| grant.gpus.clone()).collect();
                prop_assert!(holders.iter().all(|ordinal| devices[*ordinal as usize] == 1000));
            }
        }
        while let Some((_, grant)) = out.pop() {
            leases.give_back(&grant);
            out.extend(std::iter::from_fn(|| leases.next()));
        }
        prop_assert!(leases.waiting.is_empty() && leases.held.is_empty());
        prop_assert_eq!(leases.free, Amounts::of(&total));
    }

    /// However a stream of asks comes and goes, the one that waits is passed over a bounded number of times.
    #[test]
    fn nobody_is_passed_over_for_ever(
        large in prop::sample::select(&[1.0, 2.0, 3.0][..]),
        small in prop::collection::vec((0..3usize, prop::sample::select(&[0.1, 0.5, 1.0][..])), 100..200),
    ) {
        let mut leases = Leases::new(Resources { gpus: 3.0, ..Resources::cpu(4.0) });
        let mut out = VecDeque::new();
        leases.ask(0, 0, &gpus(1.0), None).expect("makes sense");
        out.extend(leases.next());
        leases.ask(5, 1, &gpus(large), None).expect("makes sense");
        let mut passed = 0;
        'all: for (ticket, (priority, amount)) in (2..).zip(small) {
            leases.ask(priority, ticket, &gpus(amount), None).expect("makes sense");
            while let Some(granted) = leases.next() {
                if granted.0 == 1 {
                    passed = u32::MAX;
                    break 'all;
                }
                passed += 1;
                prop_assert!(passed <= PASSED_MAX);
                out.push_back(granted);
            }
            // Everyone ends some time.
            if let Some((_, grant)) = out.pop_front() {
                leases.give_back(&grant);
            }
        }
        prop_assert_eq!(passed, u32::MAX, "granted in the end");
    }

    /// Jobs that give back what they hold only when each of their operators has a worker: however many there are, whatever
    /// they ask for and in whatever order their asks come, all end.
    #[test]
    fn jobs_that_hold_until_they_have_all_end(jobs in jobs(), order in prop::collection::vec(any::<u32>(), 64)) {
        let total = Resources { gpus: 3.0, memory: Bytes::mib(100), ..Resources::cpu(4.0) };
        let mut leases = Leases::new(total.clone());
        let fits = |job: &Vec<Resources>| leases.feasible_together(job).is_ok();
        let mut jobs: Vec<Asking> = jobs.into_iter().filter(fits).map(Asking::new).collect();
        let (mut ticket, mut of) = (0, BTreeMap::new());
        let mut order = order.into_iter().cycle();
        while jobs.iter().any(|job| !job.has_ended) {
            let mut moved = false;
            // One ask of a job by chance, as long as there are any; then what can be granted; then those end that can.
            let with_asks: Vec<usize> = (0..jobs.len()).filter(|at| jobs[*at].asked < jobs[*at].needs.len()).collect();
            if !with_asks.is_empty() {
                let at = with_asks[order.next().unwrap_or(0) as usize % with_asks.len()];
                let job = &mut jobs[at];
                for faster in [false, true] {
                    let first = (!faster).then_some(First { run: 0, together: job.needs.len() as u32 });
                    leases.ask(job.asked, ticket, &job.needs[job.asked], Some(Asker { job: at as u64, first })).expect("feasible");
                    of.insert(ticket, (at, faster));
                    ticket += 1;
                }
                job.asked += 1;
                moved = true;
            }
            while let Some((ticket, grant)) = leases.next() {
                let (job, faster) = of.remove(&ticket).expect("once");
                jobs[job].firsts += usize::from(!faster);
                jobs[job].held.push(grant);
                moved = true;
            }
            let slow = order.next().is_some_and(|n| n % 3 == 0) && moved;
            if let Some(at) = jobs.iter().position(|job| job.can_end()).filter(|_| !slow) {
                let gone = of.iter().filter(|(_, (job, _))| *job == at).map(|(ticket, _)| *ticket).collect();
                leases.forget(&gone);
                jobs[at].held.drain(..).for_each(|grant| leases.give_back(&grant));
                jobs[at].has_ended = true;
                moved = true;
            }
            prop_assert!(moved, "all wait: {jobs:?}");
        }
        prop_assert!(leases.held.is_empty() && leases.gathering.is_empty());
        prop_assert_eq!(leases.free, Amounts::of(&total));
    }
}

/// A job of the test above: what the first worker of each operator needs. A second one would make it faster.
#[derive(Debug)]
struct Asking {
    needs: Vec<Resources>,
    asked: usize,
    firsts: usize,
    held: Vec<Grant>,
    has_ended: bool,
}

impl Asking {
    fn new(needs: Vec<Resources>) -> Self {
        Self { needs, asked: 0, firsts: 0, held: Vec::new(), has_ended: false }
    }

    fn can_end(&self) -> bool {
        !self.has_ended && self.firsts == self.needs.len()
    }
}

fn jobs() -> impl Strategy<Value = Vec<Vec<Resources>>> {
    let amounts = prop::sample::select(&[0.0, 0.3, 0.5, 0.6, 1.0, 1.0, 2.0, 3.0][..]);
    let need = (amounts, 0..60u64).prop_map(|(amount, mib)| Resources { memory: Bytes::mib(mib), ..gpus(amount) });
    prop::collection::vec(prop::collection::vec(need, 1..4), 1..8)
}
