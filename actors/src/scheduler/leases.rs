//! The pure thinking of the scheduler: what is free, who waits, who is next.
//!
//! The most downstream goes first, then the oldest, and who does not fit is passed over by those who do. An ask that was
//! passed over [`PASSED_MAX`] times gets a *reservation*: nobody behind it takes of what it needs until it has its grant.
//! Only a job that holds something already still gets the first worker of each of its operators: what it holds comes
//! back only if it can finish.

use std::collections::{BTreeMap, BTreeSet};

use super::shares::JobKey;
use crate::cluster::placement::{Amounts, Cores, Need};
use crate::job::Resources;

/// So many grants may pass an ask over. Few, and large asks keep devices idle that small ones could use; many, and they
/// wait long behind a stream of small ones.
pub(crate) const PASSED_MAX: u32 = 16;

/// What a worker holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grant {
    /// Ordinals of its devices.
    pub(crate) gpus: Vec<u32>,
    need: Need,
    job: Option<JobKey>,
}

/// For whom a lease is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) job: JobKey,
    /// For the first worker of an operator, without which the job does not go on.
    pub(crate) first: bool,
}

/// What a node has and who uses it.
#[derive(Debug)]
pub(crate) struct Leases {
    total: Resources,
    free: Amounts,
    /// By steps to the sink, then by ticket.
    waiting: BTreeMap<(usize, u64), Ask>,
    /// Grants that are out, by job.
    held: BTreeMap<JobKey, usize>,
}

#[derive(Debug)]
struct Ask {
    need: Need,
    asker: Option<Asker>,
    /// Grants that went to younger asks since it came.
    passed: u32,
}

impl Leases {
    /// All of `total` is free.
    pub(crate) fn new(total: Resources) -> Self {
        Self { free: Amounts::of(&total), waiting: BTreeMap::new(), held: BTreeMap::new(), total }
    }

    /// Whether the node could ever give this, and if not, all that is missing.
    pub(crate) fn feasible(&self, wanted: &Resources) -> Result<(), String> {
        Need::new(wanted)?;
        let mut missing = Vec::new();
        let mut short = |what: &str, asked: String, has: String| missing.push((format!("{asked} {what}"), has));
        if wanted.cpus > self.total.cpus {
            short("cpus", wanted.cpus.to_string(), self.total.cpus.to_string());
        }
        if wanted.gpus > self.total.gpus {
            short("gpus", wanted.gpus.to_string(), self.total.gpus.to_string());
        }
        if wanted.memory > self.total.memory {
            short("of memory", wanted.memory.to_string(), self.total.memory.to_string());
        }
        for (name, amount) in &wanted.extras {
            let has = self.total.extras.get(name).copied().unwrap_or(0.0);
            if *amount > has {
                short(&format!("{name:?}"), amount.to_string(), has.to_string());
            }
        }
        let mut reasons: Vec<String> =
            missing.into_iter().map(|(asked, has)| format!("it asks for {asked}, this node has {has}")).collect();
        let unlike = wanted.labels.iter().filter(|(name, value)| self.total.labels.get(*name) != Some(*value));
        reasons.extend(unlike.map(|(name, value)| {
            format!("it asks for a node with the label {name}={value}, which this node does not have")
        }));
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
    }

    /// Whether all of these could be held at once. Sums may fit where shares do not: three of 0.6 need three devices.
    pub(crate) fn feasible_together(&self, all: &[Resources]) -> Result<(), String> {
        let mut needs = all.iter().map(Need::new).collect::<Result<Vec<_>, _>>()?;
        needs.sort_by_key(|need| std::cmp::Reverse(need.gpu_milli()));
        let mut free = Amounts::of(&self.total);
        match needs.iter().all(|need| free.take(need, Cores::Shared).is_some()) {
            true => Ok(()),
            false => {
                let shares: Vec<String> = all.iter().filter(|r| r.gpus > 0.0).map(|r| r.gpus.to_string()).collect();
                let (shares, gpus) = (shares.join(", "), self.total.gpus);
                Err(format!("what its workers ask for ({shares} gpus) does not fit on the {gpus} gpus of this node"))
            }
        }
    }

    /// Asks for a grant; it is among those that [`Leases::next`] returns, now or later. `priority` is the number of
    /// steps to the sink, `ticket` the order of arrival.
    ///
    /// # Errors
    /// If the amounts make no sense, see [`Leases::feasible`]: it does not wait then.
    pub(crate) fn ask(
        &mut self,
        priority: usize,
        ticket: u64,
        wanted: &Resources,
        asker: Option<Asker>,
    ) -> Result<(), String> {
        let ask = Ask { need: Need::new(wanted)?, asker, passed: 0 };
        self.waiting.insert((priority, ticket), ask);
        Ok(())
    }

    /// How many grants each job holds; those of no job are not counted.
    pub(crate) fn held(&self) -> BTreeMap<JobKey, usize> {
        self.held.clone()
    }

    /// Forgets the asks whose tickets are not wanted any more.
    pub(crate) fn forget(&mut self, gone: &BTreeSet<u64>) {
        self.waiting.retain(|(_, ticket), _| !gone.contains(ticket));
    }

    /// The next ask that can be granted: those with a reservation first, then the most downstream, then the oldest.
    pub(crate) fn next(&mut self) -> Option<(u64, Grant)> {
        let place = self.pick()?;
        let ask = self.waiting.remove(&place)?;
        let gpus = self.free.take(&ask.need, Cores::Shared)?;
        for ((_, ticket), other) in &mut self.waiting {
            other.passed += u32::from(*ticket < place.1);
        }
        let job = ask.asker.map(|asker| asker.job);
        if let Some(job) = job {
            *self.held.entry(job).or_default() += 1;
        }
        Some((place.1, Grant { gpus, need: ask.need, job }))
    }

    fn pick(&self) -> Option<(usize, u64)> {
        let mut reserved: Vec<_> = self.waiting.iter().filter(|(_, ask)| ask.passed >= PASSED_MAX).collect();
        reserved.sort_by_key(|((_, ticket), _)| *ticket);
        let fits = |ask: &Ask| self.free.workers(&ask.need, Cores::Shared) > 0;
        let free_of = |ask: &Ask, holders: &[(&(usize, u64), &Ask)]| {
            self.must_finish(ask) || !holders.iter().any(|(_, holder)| holder.need.shares_with(&ask.need))
        };
        let first = reserved.iter().enumerate().find(|(at, (_, ask))| {
            let older = reserved.get(..*at).unwrap_or_default();
            fits(ask) && free_of(ask, older)
        });
        if let Some((_, (place, _))) = first {
            return Some(**place);
        }
        let all = self.waiting.iter().filter(|(_, ask)| ask.passed < PASSED_MAX);
        all.filter(|(_, ask)| fits(ask) && free_of(ask, &reserved)).map(|(place, _)| *place).next()
    }

    /// Whether its job holds something that it gives back only when it has this too.
    fn must_finish(&self, ask: &Ask) -> bool {
        ask.asker.is_some_and(|asker| asker.first && self.held.contains_key(&asker.job))
    }

    /// Takes a grant back.
    pub(crate) fn give_back(&mut self, grant: &Grant) {
        self.free.give_back(&grant.need, &grant.gpus);
        let Some(job) = grant.job else { return };
        match self.held.get(&job).map_or(0, |held| held.saturating_sub(1)) {
            0 => drop(self.held.remove(&job)),
            left => drop(self.held.insert(job, left)),
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn grants_before_a_large_one(small: Option<Asker>, hold: bool) -> Option<u32> {
        let mut leases = node();
        let mut out = VecDeque::new();
        if hold {
            leases.ask(0, 0, &gpus(0.5), small).expect("makes sense");
            out.extend(leases.next());
        }
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
        let waited = grants_before_a_large_one(None, false).expect("granted");
        assert!(waited > 8 && waited <= PASSED_MAX + 16, "{waited}");
        let other = Asker { job: 7, first: false };
        assert!(grants_before_a_large_one(Some(other), false).is_some());
    }

    #[test]
    fn a_job_that_holds_something_gets_its_first_workers_past_a_reservation() {
        let first = Asker { job: 7, first: true };
        assert_eq!(grants_before_a_large_one(Some(first), true), None, "that job can finish");
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
        Ask(usize, u64, u64, u64, Option<(u64, bool)>),
        /// Which of the grants that are out.
        GiveBack(usize),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let gpus = prop::sample::select(&[0, 1, 100, 250, 333, 500, 999, 1000, 2000, 3000][..]);
        let asker = prop::option::of((0..3u64, any::<bool>()));
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
                            let asker = asker.map(|(job, first)| Asker { job, first });
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
    }
}
