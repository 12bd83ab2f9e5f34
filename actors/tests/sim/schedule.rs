//! What goes wrong in a run, and when: drawn from its seed, each fault with its end. Pure.

use std::fmt;
use std::time::Duration;

use mobula_actors::sim::DiskFaults;
use rand::Rng;
use rand::rngs::SmallRng;

use super::world::{DRIVER, HEAD, NODES};

/// Faults begin within this time, in which an undisturbed job ends.
const FAULTS_WITHIN_MS: u64 = 2_500;
/// How long one lasts. The longest are longer than the cluster waits for anybody.
const LASTS_MS: [u64; 4] = [50, 500, 3_000, 9_000];
const FAULTS_MAX: usize = 4;
/// Changes to the disk before a fault that waits for one: those of a job or two.
const CHANGES_MAX: u64 = 60;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// A process is killed; it is started again at the end.
    Kill(&'static str),
    /// No packet passes between two processes.
    Partition(&'static str, &'static str),
    /// None passes from one to the other; the other way all do.
    Cut(&'static str, &'static str),
    /// So many of a thousand packets are lost, so many come twice.
    Bad { loss: u32, duplicate: u32 },
    /// Packets take so long at most.
    Slow(Duration),
    /// Power is lost: all processes are killed, and what was not synced is lost. At the end all start again.
    Power,
    /// The same at one of the next changes to the disk, in the middle of whatever a process does; if there are so many.
    PowerAfter(u64),
    /// One of the next changes or syncs of the disk fails.
    DiskOnce(u64),
    /// Operations of the disk fail.
    Disk(DiskFaults),
    /// The disk has room for so many bytes more.
    Full(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(name) => write!(f, "{name} is killed"),
            Self::Partition(one, other) => write!(f, "{one} and {other} do not reach each other"),
            Self::Cut(from, to) => write!(f, "{from} does not reach {to}"),
            Self::Bad { loss, duplicate } => write!(f, "of 1,000 packets {loss} are lost and {duplicate} doubled"),
            Self::Slow(most) => write!(f, "packets take up to {} ms", most.as_millis()),
            Self::Power => f.write_str("the power is lost"),
            Self::PowerAfter(changes) => write!(f, "the power is lost after {changes} changes to the disk"),
            Self::DiskOnce(changes) => write!(f, "a change to the disk fails after {changes}"),
            Self::Disk(faults) => write!(f, "{faults:?}"),
            Self::Full(bytes) => write!(f, "the disk has room for {bytes} bytes"),
        }
    }
}

/// A fault with its beginning and its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

impl Planned {
    /// Whether the same happens already at that time: a process is killed once at a time, and there is one power.
    fn is_again(&self, other: &Self) -> bool {
        let same = match (self.fault, other.fault) {
            (Fault::Kill(one), Fault::Kill(other)) => one == other,
            (one, other) => one.is_power() && other.is_power(),
        };
        same && other.from <= self.until && self.from <= other.until
    }
}

impl Fault {
    fn is_power(&self) -> bool {
        matches!(self, Self::Power | Self::PowerAfter(_))
    }
}

/// How long packets take at most when nothing is wrong: as on one machine, in a hall, or between towns. The longer, the
/// more of a job is under way at any time.
pub(crate) fn pace(random: &mut SmallRng) -> Duration {
    Duration::from_millis([4, 4, 20, 60][random.random_range(0..4)])
}

/// The faults of a run. One in eight has none.
pub(crate) fn draw(random: &mut SmallRng, writes: bool) -> Vec<Planned> {
    let count = match random.random_range(0..8) {
        0 => 0,
        _ => random.random_range(1..=FAULTS_MAX),
    };
    let mut all = Vec::<Planned>::new();
    for _ in 0..count {
        let from = Duration::from_millis(random.random_range(0..FAULTS_WITHIN_MS));
        let lasts = LASTS_MS[random.random_range(0..LASTS_MS.len())];
        let until = from + Duration::from_millis(random.random_range(lasts / 2..=lasts));
        let planned = Planned { fault: fault(random, writes), from, until };
        if !all.iter().any(|other| planned.is_again(other)) {
            all.push(planned);
        }
    }
    all
}

fn fault(random: &mut SmallRng, writes: bool) -> Fault {
    if writes && random.random_range(0..3) == 0 {
        return disk_fault(random);
    }
    let kills = [HEAD, DRIVER, NODES[0], NODES[0], NODES[1], NODES[1]];
    match random.random_range(0..10) {
        0..4 => Fault::Kill(kills[random.random_range(0..kills.len())]),
        4..6 => {
            let (one, other) = pair(random);
            Fault::Partition(one, other)
        }
        6..8 => {
            let (from, to) = pair(random);
            Fault::Cut(from, to)
        }
        8 => Fault::Bad { loss: random.random_range(1..100), duplicate: random.random_range(0..100) },
        _ => Fault::Slow(Duration::from_millis(random.random_range(10..100))),
    }
}

fn disk_fault(random: &mut SmallRng) -> Fault {
    match random.random_range(0..9) {
        0..2 => Fault::Power,
        2..4 => Fault::PowerAfter(random.random_range(0..CHANGES_MAX)),
        4..6 => Fault::DiskOnce(random.random_range(0..CHANGES_MAX)),
        6..8 => {
            let mut rate = || [0, 50, 300][random.random_range(0..3)];
            Fault::Disk(DiskFaults { read_permille: rate(), write_permille: rate(), sync_permille: rate() })
        }
        _ => Fault::Full(random.random_range(0..20_000)),
    }
}

/// Two different ones of head and nodes.
fn pair(random: &mut SmallRng) -> (&'static str, &'static str) {
    let all = [HEAD, NODES[0], NODES[1]];
    let one = random.random_range(0..all.len());
    let other = (one + random.random_range(1..all.len())) % all.len();
    (all[one], all[other])
}
