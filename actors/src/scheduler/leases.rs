//! The pure thinking of the scheduler: what is free, who waits, who is next.
//!
//! The most downstream goes first, then the oldest, and who does not fit is passed over by those who do. An ask that was
//! passed over [`PASSED_MAX`] times gets a *reservation*: nobody behind it takes of what it needs until it has its grant.
//!
//! A job gives back what it holds when it has ended, and it goes on only when each of its operators has a worker. So the
//! first workers of a job here get their leases *together or not at all*: no job holds some and waits for others, while
//! another job holds those and waits for the first. What would only make a job faster it gets after them, for the same
//! reason. How a job goes about several nodes: `cluster/gate.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
    pub(crate) first: Option<First>,
}

/// One of several leases that a run of a job gets together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct First {
    /// How often the job was started before.
    pub(crate) run: u32,
    /// How many they are: all are asked for, one after another.
    pub(crate) together: u32,
}

/// What a node has and who uses it.
#[derive(Debug)]
pub(crate) struct Leases {
    total: Resources,
    free: Amounts,
    /// By steps to the sink, then by ticket.
    waiting: BTreeMap<(usize, u64), Ask>,
    /// Asks of first workers until the last of them has come, by job and run.
    gathering: BTreeMap<(JobKey, u32), Gathering>,
    /// Grants that were made together and are still to be told.
    granted: VecDeque<(u64, Grant)>,
    /// Grants that are out, by job.
    held: BTreeMap<JobKey, usize>,
}

#[derive(Debug)]
struct Ask {
    /// What is granted together, by ticket.
    needs: Vec<(u64, Need)>,
    job: Option<JobKey>,
    /// Whether they are the first workers of the job.
    first: bool,
    /// Grants that went to younger asks since it came.
    passed: u32,
}

#[derive(Debug, Default)]
struct Gathering {
    needs: Vec<(u64, Need)>,
    together: usize,
    priority: usize,
}

impl Ask {
    fn shares_with(&self, other: &Self) -> bool {
        self.needs.iter().any(|(_, need)| other.needs.iter().any(|(_, other)| need.shares_with(other)))
    }

    /// Whether it is for more than cores, which are taken in turns.
    fn holds(&self) -> bool {
        self.needs.iter().any(|(_, need)| need.leases())
    }

    fn needs(&self) -> Vec<&Need> {
        self.needs.iter().map(|(_, need)| need).collect()
    }
}

impl Leases {
    /// All of `total` is free.
    pub(crate) fn new(total: Resources) -> Self {
        Self {
            free: Amounts::of(&total),
            waiting: BTreeMap::new(),
            gathering: BTreeMap::new(),
            granted: VecDeque::new(),
            held: BTreeMap::new(),
            total,
        }
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
        let needs = all.iter().map(Need::new).collect::<Result<Vec<_>, _>>()?;
        let needs: Vec<&Need> = needs.iter().collect();
        match Amounts::of(&self.total).take_together(&needs, Cores::Shared) {
            Some(_) => Ok(()),
            None => {
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
        let (need, job) = (Need::new(wanted)?, asker.map(|asker| asker.job));
        match asker.and_then(|asker| Some((asker.job, asker.first?))) {
            Some((job, First { run, together })) => {
                let gathering = self.gathering.entry((job, run)).or_insert(Gathering {
                    needs: Vec::new(),
                    together: together.max(1) as usize,
                    priority,
                });
                gathering.needs.push((ticket, need));
                gathering.priority = gathering.priority.min(priority);
                self.gathered();
            }
            None => {
                let ask = Ask { needs: vec![(ticket, need)], job, first: false, passed: 0 };
                self.waiting.insert((priority, ticket), ask);
            }
        }
        Ok(())
    }

    /// Those whose last ask has come wait together, in the place of the one that is the most downstream.
    fn gathered(&mut self) {
        for ((job, _), all) in self.gathering.extract_if(.., |_, all| all.needs.len() >= all.together) {
            let Some(ticket) = all.needs.iter().map(|(ticket, _)| *ticket).max() else { continue };
            let ask = Ask { needs: all.needs, job: Some(job), first: true, passed: 0 };
            self.waiting.insert((all.priority, ticket), ask);
        }
    }

    /// How many grants each job holds; those of no job are not counted.
    pub(crate) fn held(&self) -> BTreeMap<JobKey, usize> {
        self.held.clone()
    }

    /// Forgets the asks whose tickets are not wanted any more. Others that would have been granted with them do not wait
    /// for them.
    pub(crate) fn forget(&mut self, gone: &BTreeSet<u64>) {
        let is_wanted = |(ticket, _): &(u64, Need)| !gone.contains(ticket);
        self.waiting.values_mut().for_each(|ask| ask.needs.retain(is_wanted));
        self.waiting.retain(|_, ask| !ask.needs.is_empty());
        for all in self.gathering.values_mut() {
            let before = all.needs.len();
            all.needs.retain(is_wanted);
            all.together -= before - all.needs.len();
        }
        self.gathered();
    }

    /// The next ask that can be granted: those with a reservation first, then the most downstream, then the oldest.
    pub(crate) fn next(&mut self) -> Option<(u64, Grant)> {
        if self.granted.is_empty() {
            self.grant()?;
        }
        self.granted.pop_front()
    }

    fn grant(&mut self) -> Option<()> {
        let place = self.pick()?;
        let ask = self.waiting.remove(&place)?;
        let devices = self.free.take_together(&ask.needs(), Cores::Shared)?;
        for ((_, ticket), other) in &mut self.waiting {
            other.passed += u32::from(*ticket < place.1);
        }
        let job = ask.job;
        if let Some(job) = job {
            *self.held.entry(job).or_default() += ask.needs.len();
        }
        let grants = ask.needs.into_iter().zip(devices);
        self.granted.extend(grants.map(|((ticket, need), gpus)| (ticket, Grant { gpus, need, job })));
        Some(())
    }

    fn pick(&self) -> Option<(usize, u64)> {
        let starting = self.starting();
        let may = |ask: &Ask| ask.first || !ask.holds() || ask.job.is_none_or(|job| !starting.contains(&job));
        let waiting = self.waiting.iter().filter(|(_, ask)| may(ask));
        let (mut reserved, others): (Vec<_>, Vec<_>) = waiting.partition(|(_, ask)| ask.passed >= PASSED_MAX);
        reserved.sort_by_key(|((_, ticket), _)| *ticket);
        let free_of =
            |ask: &Ask, holders: &[(&(usize, u64), &Ask)]| !holders.iter().any(|(_, holder)| holder.shares_with(ask));
        let first = reserved.iter().enumerate().find(|(at, (_, ask))| {
            let older = reserved.get(..*at).unwrap_or_default();
            free_of(ask, older) && self.fits(ask)
        });
        if let Some((_, (place, _))) = first {
            return Some(**place);
        }
        others.into_iter().find(|(_, ask)| free_of(ask, &reserved) && self.fits(ask)).map(|(place, _)| *place)
    }

    /// Jobs whose first workers have no leases yet.
    fn starting(&self) -> BTreeSet<JobKey> {
        let waiting = self.waiting.values().filter(|ask| ask.first).filter_map(|ask| ask.job);
        self.gathering.keys().map(|(job, _)| *job).chain(waiting).collect()
    }

    fn fits(&self, ask: &Ask) -> bool {
        match ask.needs.as_slice() {
            [(_, need)] => self.free.workers(need, Cores::Shared) > 0,
            _ => self.free.clone().take_together(&ask.needs(), Cores::Shared).is_some(),
        }
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
mod tests;
