//! Tests of the order in which jobs take leases: single stages, and random jobs on nodes with their schedulers.

use proptest::prelude::*;

use super::*;
use crate::job::Resources;
use crate::scheduler::leases::{Grant, Leases as NodeLeases};
use crate::scheduler::{Asker, First};

fn at(operator: u32, node: u64) -> PoolAt {
    (operator, NodeId(node))
}

#[test]
fn nodes_come_one_after_another_and_what_is_not_needed_last() {
    let pools = [(at(0, 2), Leases::First), (at(1, 1), Leases::First), (at(2, 1), Leases::First)];
    let more = [(at(0, 1), Leases::More), (at(9, 1), Leases::None)];
    let mut stages = Stages::new(pools.into_iter().chain(more));
    let turns = |stages: &Stages| [at(1, 1), at(2, 1), at(0, 2), at(0, 1)].map(|pool| stages.turn(pool));
    assert_eq!(turns(&stages), [Turn::Now(2), Turn::Now(2), Turn::NotYet, Turn::NotYet]);
    stages.done(at(2, 1));
    assert_eq!(turns(&stages), [Turn::Now(2), Turn::Over, Turn::NotYet, Turn::NotYet]);
    stages.done(at(1, 1));
    assert_eq!(turns(&stages), [Turn::Over, Turn::Over, Turn::Now(1), Turn::NotYet]);
    stages.done(at(0, 2));
    assert_eq!(turns(&stages), [Turn::Over, Turn::Over, Turn::Over, Turn::Now(0)]);
}

#[test]
fn who_resigns_is_not_counted_and_who_was_told_to_open_cannot() {
    let pools = [(at(0, 1), Leases::First), (at(1, 2), Leases::First), (at(2, 2), Leases::First)];
    let mut stages = Stages::new(pools);
    assert!(stages.resign(at(1, 2)) && !stages.resign(at(0, 1)));
    stages.done(at(0, 1));
    assert_eq!((stages.turn(at(1, 2)), stages.turn(at(2, 2))), (Turn::Over, Turn::Now(1)));
}

/// An operator's pool on a node, in a job of the test below.
#[derive(Debug)]
struct Pool {
    at: PoolAt,
    first: bool,
    gpus: f64,
    asked: bool,
    /// Not needed any more, though it may have been told to open.
    closed: bool,
    grant: Option<Grant>,
}

#[derive(Debug)]
struct Job {
    stages: Stages,
    pools: Vec<Pool>,
    ended: bool,
}

impl Job {
    fn new(operators: Vec<Vec<(u64, f64)>>) -> Self {
        let pool = |operator: u32, (n, (node, gpus)): (usize, (u64, f64))| Pool {
            at: at(operator, node),
            first: n == 0,
            gpus,
            asked: false,
            closed: false,
            grant: None,
        };
        let operators = (0..).zip(operators);
        let mut pools: Vec<Pool> = operators
            .flat_map(|(operator, pools)| pools.into_iter().enumerate().map(move |of| pool(operator, of)))
            .collect();
        let mut seen = BTreeSet::new();
        pools.retain(|pool| seen.insert(pool.at));
        let leases = |pool: &Pool| (pool.at, if pool.first { Leases::First } else { Leases::More });
        Self { stages: Stages::new(pools.iter().map(leases)), pools, ended: false }
    }

    /// Whether the first workers on each node fit there when nothing else runs: else it would have been refused.
    fn fits(&self, nodes: &[NodeLeases]) -> bool {
        nodes.iter().enumerate().all(|(node, leases)| {
            let firsts = self.pools.iter().filter(|pool| pool.first && pool.at.1.0 == node as u64);
            leases.feasible_together(&firsts.map(|pool| gpus(pool.gpus)).collect::<Vec<_>>()).is_ok()
        })
    }

    fn can_end(&self) -> bool {
        !self.ended && self.pools.iter().all(|pool| !pool.first || pool.closed || pool.grant.is_some())
    }
}

fn gpus(gpus: f64) -> Resources {
    Resources { gpus, ..Resources::cpu(1.0) }
}

/// Nodes, jobs, and whose ask each ticket is.
struct World {
    nodes: Vec<NodeLeases>,
    jobs: Vec<Job>,
    tickets: BTreeMap<u64, (usize, usize)>,
    next: u64,
}

impl World {
    /// Asks for a pool whose turn it is; `false` if it is not.
    fn ask(&mut self, (job, pool): (usize, usize)) -> bool {
        let Job { stages, pools, ended } = &mut self.jobs[job];
        let Pool { at, gpus: amount, asked, .. } = &mut pools[pool];
        let Turn::Now(together) = stages.turn(*at) else { return false };
        if *ended || std::mem::replace(asked, true) {
            return false;
        }
        let first = (together > 0).then_some(First { run: 0, together });
        let asker = Asker { job: job as u64, first };
        self.nodes[at.1.0 as usize].ask(at.0 as usize, self.next, &gpus(*amount), Some(asker)).expect("feasible");
        self.tickets.insert(self.next, (job, pool));
        self.next += 1;
        if self.jobs[job].pools[pool].closed {
            self.forget(|of| of == (job, pool));
        }
        true
    }

    fn forget(&mut self, whose: impl Fn((usize, usize)) -> bool) {
        let gone: BTreeSet<u64> =
            self.tickets.iter().filter(|(_, of)| whose(**of)).map(|(ticket, _)| *ticket).collect();
        self.nodes.iter_mut().for_each(|node| node.forget(&gone));
        for ticket in gone {
            if let Some((job, pool)) = self.tickets.remove(&ticket) {
                let Job { stages, pools, .. } = &mut self.jobs[job];
                stages.done(pools[pool].at);
            }
        }
    }

    /// All grants that can be made; whether there were any.
    fn grant(&mut self) -> bool {
        let mut any = false;
        for node in 0..self.nodes.len() {
            while let Some((ticket, grant)) = self.nodes[node].next() {
                any = true;
                let (job, pool) = self.tickets.remove(&ticket).expect("once");
                let Job { stages, pools, .. } = &mut self.jobs[job];
                stages.done(pools[pool].at);
                pools[pool].grant = Some(grant);
            }
        }
        any
    }

    /// The operator of a pool has no more to do.
    fn close(&mut self, (job, pool): (usize, usize)) {
        let Job { stages, pools, .. } = &mut self.jobs[job];
        let Pool { at, asked, closed, .. } = &mut pools[pool];
        *closed = true;
        // One that was told to open opens, asks, and closes.
        if !stages.resign(*at) && *asked {
            self.forget(|of| of == (job, pool));
        }
    }

    fn end(&mut self, job: usize) {
        self.jobs[job].ended = true;
        self.forget(|(of, _)| of == job);
        for Pool { at, grant, .. } in &mut self.jobs[job].pools {
            if let Some(grant) = grant.take() {
                self.nodes[at.1.0 as usize].give_back(&grant);
            }
        }
    }
}

fn jobs() -> impl Strategy<Value = Vec<Vec<Vec<(u64, f64)>>>> {
    let gpus = prop::sample::select(&[0.4, 0.6, 1.0, 1.0, 2.0][..]);
    let operator = prop::collection::vec((0..3u64, gpus), 1..4);
    prop::collection::vec(prop::collection::vec(operator, 1..4), 1..7)
}

proptest! {
    /// Jobs hold what they have until all their operators have a worker, on whichever nodes: all end, whatever they ask
    /// for, in whatever order their pools are opened, and whichever of their operators have ended before.
    #[test]
    fn jobs_that_hold_on_one_node_and_wait_on_another_all_end(
        jobs in jobs(),
        mut chance in prop::collection::vec(any::<usize>(), 200).prop_map(|all| all.into_iter().cycle()),
    ) {
        let nodes: Vec<NodeLeases> = [1.0, 2.0, 2.0].into_iter().map(|n| NodeLeases::new(gpus(n))).collect();
        let mut jobs: Vec<Job> = jobs.into_iter().map(Job::new).collect();
        jobs.retain(|job| job.fits(&nodes));
        jobs.iter_mut().for_each(|job| job.pools.retain(|pool| pool.first || pool.gpus <= 1.0));
        let (mut world, mut chance) = (World { nodes, jobs, tickets: BTreeMap::new(), next: 0 }, move || chance.next().unwrap_or(0));
        while world.jobs.iter().any(|job| !job.ended) {
            let pools = world.jobs.iter().enumerate().filter(|(_, job)| !job.ended);
            let pools: Vec<_> = pools.flat_map(|(job, of)| (0..of.pools.len()).map(move |pool| (job, pool))).collect();
            if chance().is_multiple_of(8) {
                world.close(pools[chance() % pools.len()]);
            }
            let from = chance() % pools.len();
            let asked = (0..pools.len()).any(|n| world.ask(pools[(from + n) % pools.len()]));
            let granted = world.grant();
            let ends = (0..world.jobs.len()).find(|job| world.jobs[*job].can_end());
            // Jobs take their time, as long as anything else happens.
            if let Some(job) = ends.filter(|_| !(asked || granted) || chance().is_multiple_of(4)) {
                world.end(job);
            } else {
                prop_assert!(asked || granted, "all wait: {:?}", world.jobs);
            }
        }
    }
}
