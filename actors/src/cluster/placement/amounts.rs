//! Amounts in whole thousandths: what a node has, what a worker needs, how many workers that is.
//!
//! Thousandths, so that three thirds are one device and sums are exact. GPUs are counted device by device: two halves of
//! two devices are not one whole device.

use std::collections::BTreeMap;

use crate::job::Resources;
use crate::units::Bytes;

const MILLI: f64 = 1000.0;

/// One whole device, in thousandths.
pub const DEVICE_MILLI: u64 = 1000;

/// Devices that are counted of one node; no machine has as many, and each is an entry here.
pub const DEVICES_MAX: usize = 1024;

/// How cores are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cores {
    /// A worker holds its cores as long as it lives, as it holds everything else.
    #[default]
    Held,
    /// Workers take turns on the cores: a node needs to have as many as a worker asks for, used or not. Where cores are
    /// free still matters for the choice.
    Shared,
}

/// What a node has, or what is free of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Thousandths of CPU cores; what is free goes below zero where cores are [`Cores::Shared`].
    pub cpu_milli: i64,
    /// Thousandths of each GPU, by its ordinal.
    pub gpu_milli: Vec<u64>,
    /// Memory for workers themselves.
    pub memory: Bytes,
    /// Thousandths of named extras.
    pub extras: BTreeMap<String, u64>,
}

/// What one worker needs: checked and in thousandths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub(super) cpu_milli: i64,
    pub(super) gpus: Gpus,
    pub(super) memory: Bytes,
    pub(super) extras: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gpus {
    None,
    /// Thousandths of one device.
    Share(u64),
    /// Whole devices.
    Whole(u64),
}

impl Gpus {
    /// Thousandths over all devices.
    pub(super) fn milli(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Share(milli) => milli,
            Self::Whole(devices) => devices.saturating_mul(DEVICE_MILLI),
        }
    }
}

/// Rounded, but what is asked for is never nothing. Saturates; not a number is nothing.
fn milli(amount: f64) -> u64 {
    let least = u64::from(amount > 0.0);
    ((amount * MILLI).round() as u64).max(least)
}

/// Half the range, so that what is free of it can go below zero by as much without an overflow.
fn cpu_milli(amount: f64) -> i64 {
    milli(amount).min(i64::MAX as u64 / 2) as i64
}

impl Need {
    /// Checks what a worker asks for.
    ///
    /// # Errors
    /// In words, if an amount is below zero or not a number, or more than one device is asked for but not whole ones.
    pub fn new(wanted: &Resources) -> Result<Self, String> {
        let mut amounts = [wanted.cpus, wanted.gpus].into_iter().chain(wanted.extras.values().copied());
        if !amounts.all(|amount| amount >= 0.0) {
            return Err(format!("an amount below zero or not a number was asked for ({wanted})"));
        }
        let gpus = match wanted.gpus {
            0.0 => Gpus::None,
            share if share < 1.0 => Gpus::Share(milli(share)),
            whole if whole.fract() == 0.0 => Gpus::Whole(whole as u64),
            other => return Err(format!("{other} gpus: above one, only whole devices can be given")),
        };
        let extras = wanted.extras.iter().filter(|(_, amount)| **amount > 0.0);
        let extras = extras.map(|(name, amount)| (name.clone(), milli(*amount))).collect();
        Ok(Self { cpu_milli: cpu_milli(wanted.cpus), gpus, memory: wanted.memory, extras })
    }
}

impl Need {
    /// Whether it is anything but cores, which are taken in turns.
    pub(crate) fn leases(&self) -> bool {
        self.gpus.milli() > 0 || self.memory.0 > 0 || !self.extras.is_empty()
    }

    /// Whether both need some of the same thing, beside cores.
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        let both = |one: u64, other: u64| one > 0 && other > 0;
        both(self.gpus.milli(), other.gpus.milli())
            || both(self.memory.0, other.memory.0)
            || self.extras.keys().any(|name| other.extras.contains_key(name))
    }
}

impl Amounts {
    /// All that a node has. Of GPUs, whole devices count, at most [`DEVICES_MAX`].
    pub fn of(resources: &Resources) -> Self {
        let devices = (resources.gpus.max(0.0) as usize).min(DEVICES_MAX);
        Self {
            cpu_milli: cpu_milli(resources.cpus),
            gpu_milli: vec![DEVICE_MILLI; devices],
            memory: resources.memory,
            extras: resources.extras.iter().map(|(name, amount)| (name.clone(), milli(*amount))).collect(),
        }
    }

    /// How many such workers fit; `u64::MAX` if they need nothing that is counted.
    pub fn workers(&self, need: &Need, cores: Cores) -> u64 {
        let cpu = match cores {
            Cores::Held => times(self.cpu_milli.max(0) as u64, need.cpu_milli as u64),
            Cores::Shared => u64::MAX,
        };
        let extra = |(name, amount): (&String, &u64)| times(self.extras.get(name).copied().unwrap_or(0), *amount);
        let extras = need.extras.iter().map(extra).min().unwrap_or(u64::MAX);
        cpu.min(self.workers_by_gpus(need.gpus)).min(times(self.memory.0, need.memory.0)).min(extras)
    }

    fn workers_by_gpus(&self, gpus: Gpus) -> u64 {
        match gpus {
            Gpus::None => u64::MAX,
            Gpus::Share(milli) => self.gpu_milli.iter().map(|free| free / milli).sum(),
            Gpus::Whole(devices) => self.whole_devices().count() as u64 / devices,
        }
    }

    fn whole_devices(&self) -> impl Iterator<Item = u32> {
        let whole = self.gpu_milli.iter().enumerate().filter(|(_, free)| **free >= DEVICE_MILLI);
        whole.map(|(ordinal, _)| ordinal as u32)
    }

    /// Takes what one worker needs out of what is free, and says which devices it gets; `None` (and nothing taken) if it
    /// does not fit. Shares fill one device before they break the next.
    pub fn take(&mut self, need: &Need, cores: Cores) -> Option<Vec<u32>> {
        if self.workers(need, cores) == 0 {
            return None;
        }
        let ordinals: Vec<u32> = match need.gpus {
            Gpus::None => Vec::new(),
            Gpus::Share(milli) => {
                let fitting = (0..).zip(&self.gpu_milli).filter(|(_, free)| **free >= milli);
                fitting.min_by_key(|(_, free)| **free).map(|(ordinal, _)| ordinal).into_iter().collect()
            }
            Gpus::Whole(devices) => self.whole_devices().take(devices as usize).collect(),
        };
        self.hold(need, &ordinals);
        Some(ordinals)
    }

    /// Takes what all of these workers need, or nothing if they do not fit together; the devices of each, in their order.
    /// Large shares of devices go first, so that small ones fill what those leave.
    pub fn take_together(&mut self, needs: &[&Need], cores: Cores) -> Option<Vec<Vec<u32>>> {
        let mut by_size: Vec<usize> = (0..needs.len()).collect();
        by_size.sort_by_key(|at| std::cmp::Reverse(needs.get(*at).map(|need| need.gpus.milli())));
        let (mut left, mut all) = (self.clone(), vec![Vec::new(); needs.len()]);
        for at in by_size {
            let (need, ordinals) = (needs.get(at)?, all.get_mut(at)?);
            *ordinals = left.take(need, cores)?;
        }
        *self = left;
        Some(all)
    }

    /// Takes out what somebody holds who got these devices by [`Amounts::take`].
    pub fn hold(&mut self, need: &Need, ordinals: &[u32]) {
        self.cpu_milli = self.cpu_milli.saturating_sub(need.cpu_milli);
        self.change(need, ordinals, u64::saturating_sub);
    }

    /// Gives back what [`Amounts::take`] took.
    pub fn give_back(&mut self, need: &Need, ordinals: &[u32]) {
        self.cpu_milli = self.cpu_milli.saturating_add(need.cpu_milli);
        self.change(need, ordinals, u64::saturating_add);
    }

    fn change(&mut self, need: &Need, ordinals: &[u32], by: fn(u64, u64) -> u64) {
        self.memory = Bytes(by(self.memory.0, need.memory.0));
        let device_milli = need.gpus.milli().min(DEVICE_MILLI);
        for ordinal in ordinals {
            if let Some(free) = self.gpu_milli.get_mut(*ordinal as usize) {
                *free = by(*free, device_milli);
            }
        }
        for (name, amount) in &need.extras {
            if let Some(free) = self.extras.get_mut(name) {
                *free = by(*free, *amount);
            }
        }
    }
}

/// How often `part` is in `whole`; without end if it is nothing.
fn times(whole: u64, part: u64) -> u64 {
    whole.checked_div(part).unwrap_or(u64::MAX)
}
