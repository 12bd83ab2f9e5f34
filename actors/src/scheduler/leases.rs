//! The pure thinking of the scheduler: what is free, who waits, who is next.

use std::collections::BTreeMap;

use crate::job::Resources;
use crate::units::Bytes;

/// Shares of a device are counted in thousandths, so that three thirds are one device and no rounding piles up.
const MILLI: f64 = 1000.0;

/// What a worker holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Grant {
    /// Ordinals of its devices.
    pub(crate) gpus: Vec<u32>,
    gpu_milli: u64,
    memory: Bytes,
    extras: BTreeMap<String, u64>,
}

/// What a node has and who uses it.
#[derive(Debug)]
pub(crate) struct Leases {
    total: Resources,
    gpu_free_milli: Vec<u64>,
    memory_free: Bytes,
    extras_free: BTreeMap<String, u64>,
    waiting: BTreeMap<(usize, u64), Resources>,
}

fn milli(amount: f64) -> u64 {
    (amount * MILLI).round() as u64
}

impl Leases {
    /// All of `total` is free.
    pub(crate) fn new(total: Resources) -> Self {
        Self {
            gpu_free_milli: vec![MILLI as u64; total.gpus as usize],
            memory_free: total.memory,
            extras_free: total.extras.iter().map(|(name, amount)| (name.clone(), milli(*amount))).collect(),
            waiting: BTreeMap::new(),
            total,
        }
    }

    /// Whether the node could ever give this, and if not, why.
    pub(crate) fn feasible(&self, wanted: &Resources) -> Result<(), String> {
        let amounts_ok = wanted.cpus >= 0.0 && wanted.gpus >= 0.0 && wanted.extras.values().all(|a| *a >= 0.0);
        if !amounts_ok {
            return Err(format!("an amount below zero or not a number was asked for ({wanted})"));
        }
        if wanted.gpus > 1.0 && wanted.gpus.fract() != 0.0 {
            return Err(format!("{} gpus: above one, only whole devices can be given", wanted.gpus));
        }
        let short =
            |what: &str, asked: String, has: String| Err(format!("it asks for {asked} {what}, this node has {has}"));
        if wanted.cpus > self.total.cpus {
            return short("cpus", wanted.cpus.to_string(), self.total.cpus.to_string());
        }
        if wanted.gpus > self.total.gpus {
            return short("gpus", wanted.gpus.to_string(), self.total.gpus.to_string());
        }
        if wanted.memory > self.total.memory {
            return short("of memory", wanted.memory.to_string(), self.total.memory.to_string());
        }
        for (name, amount) in &wanted.extras {
            let has = self.total.extras.get(name).copied().unwrap_or(0.0);
            if *amount > has {
                return short(&format!("{name:?}"), amount.to_string(), has.to_string());
            }
        }
        let unlike = |(name, value): &(&String, &String)| self.total.labels.get(*name) != Some(*value);
        if let Some((name, value)) = wanted.labels.iter().find(unlike) {
            return Err(format!("it asks for a node with the label {name}={value}, which this node does not have"));
        }
        Ok(())
    }

    /// Asks for a grant; it is among those that [`Leases::next`] returns, now or later. `priority` is the number of
    /// steps to the sink, `ticket` the order of arrival.
    pub(crate) fn ask(&mut self, priority: usize, ticket: u64, wanted: Resources) {
        self.waiting.insert((priority, ticket), wanted);
    }

    /// The next ask that can be granted: the most downstream first, then the oldest.
    pub(crate) fn next(&mut self) -> Option<(u64, Grant)> {
        let (place, grant) = self.waiting.iter().find_map(|(place, wanted)| Some((*place, self.fit(wanted)?)))?;
        self.waiting.remove(&place);
        self.take(&grant);
        Some((place.1, grant))
    }

    fn fit(&self, wanted: &Resources) -> Option<Grant> {
        let extras: BTreeMap<_, _> =
            wanted.extras.iter().map(|(name, amount)| (name.clone(), milli(*amount))).collect();
        let extras_fit =
            extras.iter().all(|(name, amount)| self.extras_free.get(name).copied().unwrap_or(0) >= *amount);
        if wanted.memory > self.memory_free || !extras_fit {
            return None;
        }
        let (gpus, gpu_milli) = self.fit_gpus(wanted.gpus)?;
        Some(Grant { gpus, gpu_milli, memory: wanted.memory, extras })
    }

    /// Whole devices that are quite free, or the device with the least free share that is enough: shares fill one
    /// device before they break the next.
    fn fit_gpus(&self, wanted: f64) -> Option<(Vec<u32>, u64)> {
        let devices = || self.gpu_free_milli.iter().enumerate().map(|(ordinal, free)| (ordinal as u32, *free));
        if wanted == 0.0 {
            return Some((Vec::new(), 0));
        }
        if wanted < 1.0 {
            let share = milli(wanted).max(1);
            let best = devices().filter(|(_, free)| *free >= share).min_by_key(|(_, free)| *free)?;
            return Some((vec![best.0], share));
        }
        let whole = milli(1.0);
        let free: Vec<u32> = devices().filter(|(_, f)| *f == whole).map(|(o, _)| o).take(wanted as usize).collect();
        (free.len() == wanted as usize).then_some((free, whole))
    }

    fn take(&mut self, grant: &Grant) {
        self.memory_free = self.memory_free - grant.memory;
        for ordinal in &grant.gpus {
            if let Some(free) = self.gpu_free_milli.get_mut(*ordinal as usize) {
                *free -= grant.gpu_milli;
            }
        }
        for (name, amount) in &grant.extras {
            if let Some(free) = self.extras_free.get_mut(name) {
                *free -= amount;
            }
        }
    }

    /// Takes a grant back.
    pub(crate) fn give_back(&mut self, grant: &Grant) {
        self.memory_free += grant.memory;
        for ordinal in &grant.gpus {
            if let Some(free) = self.gpu_free_milli.get_mut(*ordinal as usize) {
                *free += grant.gpu_milli;
            }
        }
        for (name, amount) in &grant.extras {
            if let Some(free) = self.extras_free.get_mut(name) {
                *free += amount;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            leases.ask(0, ticket, gpus(1.0));
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
            leases.ask(0, ticket, gpus(1.0 / 3.0));
        }
        let ordinals: Vec<_> = std::iter::from_fn(|| leases.next()).map(|(_, grant)| grant.gpus).collect();
        assert_eq!(ordinals, [[0], [0], [0], [1]]);
    }

    #[test]
    fn the_operator_nearest_to_the_sink_is_served_first() {
        let mut leases = node();
        leases.ask(2, 0, gpus(2.0));
        leases.ask(1, 1, gpus(2.0));
        assert_eq!(leases.next().map(|(ticket, _)| ticket), Some(1));
    }
}
