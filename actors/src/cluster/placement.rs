//! Placement: the pure choice of nodes, for workers and for their tasks.
//!
//! [`place`] says where an operator's next workers go: near its input first, then where most is free. Work that needs no
//! GPU keeps away from nodes with GPUs while there are others. It sees the nodes as it is told, keeps nothing, and decides
//! the same whatever the order of the nodes. It grants nothing: who acts on an answer takes the amounts
//! ([`Amounts::take`]) before it asks again.

mod amounts;
pub(crate) mod division;
mod error;
#[cfg(test)]
mod tests;

pub use amounts::{Amounts, Cores, DEVICE_MILLI, DEVICES_MAX, Need};
pub use error::{Lack, NoPlace};

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use super::ids::NodeName;
use super::membership::State;
use crate::job::{Resources, Workers};
use crate::units::Bytes;

/// A node as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its name; each node is there once.
    pub node: NodeName,
    /// Only one that is alive gets workers. One that is suspect may be back; the others do not count.
    pub state: State,
    /// What it has.
    pub total: Amounts,
    /// What is free of it.
    pub free: Amounts,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Workers of this operator that are there already.
    pub workers: u32,
    /// Most workers of one operator there: each is a thread and holds blocks.
    pub workers_max: u32,
}

/// What an operator wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// What each worker needs.
    pub resources: Resources,
    /// How many workers it may have in all, with those that are there already.
    pub workers: Workers,
    /// Labels that a node must have, with these values.
    pub labels: BTreeMap<String, String>,
    /// Where its input lies.
    pub input: BTreeMap<NodeName, Bytes>,
    /// How cores are counted.
    pub cores: Cores,
}

impl Default for Wish {
    /// One worker on one core, anywhere.
    fn default() -> Self {
        let (resources, workers) = (Resources::default(), Workers { min: 1, max: 1 });
        let (labels, input, cores) = (BTreeMap::new(), BTreeMap::new(), Cores::default());
        Self { resources, workers, labels, input, cores }
    }
}

/// Where an operator's next workers go: as many as fit, up to the most it may have, by name of the node. Nothing, if it
/// has enough workers already.
///
/// ```
/// use mobula_actors::cluster::{ids::NodeName, membership::State};
/// use mobula_actors::cluster::placement::{Amounts, NodeView, Wish, place};
/// use mobula_actors::job::{Resources, Workers};
/// let view = |name: &str, gpus: f64| {
///     let total = Amounts::of(&Resources { gpus, ..Resources::cpu(8.0) });
///     let node = NodeName::new(name)?;
///     Ok::<_, mobula_actors::cluster::ids::NodeNameError>(NodeView {
///         node, state: State::Alive, free: total.clone(), total, labels: Default::default(), workers: 0, workers_max: 8,
///     })
/// };
/// let nodes = [view("cpu-1", 0.0)?, view("gpu-1", 2.0)?];
/// let model = Wish {
///     resources: Resources { gpus: 1.0, ..Resources::cpu(1.0) },
///     workers: Workers { min: 1, max: 4 },
///     ..Wish::default()
/// };
/// assert_eq!(place(&nodes, &model)?, [(NodeName::new("gpu-1")?, 2)]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If fewer fit than the least it must have: [`NoPlace::Later`] if more would fit into an idle cluster, and otherwise what
/// is missing.
pub fn place(nodes: &[NodeView], wish: &Wish) -> Result<Vec<(NodeName, u32)>, NoPlace> {
    let need = Need::new(&wish.resources).map_err(NoPlace::Amount)?;
    let Workers { min, max } = wish.workers;
    let (min, max) = (min as u64, max.max(min) as u64);
    let staying: Vec<&NodeView> = nodes.iter().filter(|node| stays(node.state)).collect();
    let there = staying.iter().map(|node| u64::from(node.workers)).sum::<u64>();
    if there >= max {
        return Ok(Vec::new());
    }
    let labelled: Vec<&NodeView> = staying.iter().copied().filter(|node| has_labels(node, &wish.labels)).collect();
    // One that starts with none has to get some at last.
    let least = min.max(1);
    if there < least {
        check_ever(&staying, &labelled, &need, wish, least)?;
    }
    let seats = labelled.iter().filter_map(|node| Seat::new(node, &need, wish)).collect();
    let placed = fill(seats, &need, max - there);
    let fit = there + placed.values().map(|workers| u64::from(*workers)).sum::<u64>();
    if fit < min { Err(NoPlace::Later { min, fit }) } else { Ok(placed.into_iter().collect()) }
}

/// The nodes that have room for one more worker, by index; the best is the last.
fn ranked(nodes: &[NodeView], need: &Need, wish: &Wish) -> Vec<usize> {
    let mut seats: Vec<(Seat<'_>, usize)> = seats(nodes, need, wish).collect();
    seats.sort_by(|(one, _), (other, _)| one.cmp(other));
    seats.into_iter().map(|(_, at)| at).collect()
}

/// The best of them.
fn best(nodes: &[NodeView], need: &Need, wish: &Wish) -> Option<usize> {
    seats(nodes, need, wish).max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, at)| at)
}

fn seats<'a>(nodes: &'a [NodeView], need: &Need, wish: &Wish) -> impl Iterator<Item = (Seat<'a>, usize)> {
    let labelled = nodes.iter().enumerate().filter(|(_, node)| has_labels(node, &wish.labels));
    labelled.filter_map(|(at, node)| Some((Seat::new(node, need, wish)?, at)))
}

fn stays(state: State) -> bool {
    matches!(state, State::Alive | State::Suspect)
}

fn has_labels(node: &NodeView, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| node.labels.get(name) == Some(value))
}

/// Whether the least number of workers would fit if nothing else ran.
fn check_ever(
    staying: &[&NodeView],
    labelled: &[&NodeView],
    need: &Need,
    wish: &Wish,
    min: u64,
) -> Result<(), NoPlace> {
    if staying.is_empty() {
        return Err(NoPlace::Later { min, fit: 0 });
    }
    if labelled.is_empty() {
        return Err(NoPlace::labels(&wish.labels, staying));
    }
    let room = |node: &&NodeView| room(node, &node.total, need, wish.cores);
    let fit = labelled.iter().map(room).fold(0, u64::saturating_add);
    match fit {
        0 => Err(NoPlace::lacking(need, wish.resources.to_string(), labelled)),
        fit if fit < min => Err(NoPlace::Workers { min, fit }),
        _ => Ok(()),
    }
}

/// How many workers fit into these amounts of a node. Shared cores still have to be there.
fn room(node: &NodeView, amounts: &Amounts, need: &Need, cores: Cores) -> u64 {
    let has_cores = node.total.cpu_milli >= need.cpu_milli;
    if has_cores { amounts.workers(need, cores).min(u64::from(node.workers_max)) } else { 0 }
}

fn fill(mut seats: BinaryHeap<Seat<'_>>, need: &Need, mut more: u64) -> BTreeMap<NodeName, u32> {
    let mut placed = BTreeMap::new();
    while more > 0 {
        let Some(mut seat) = seats.pop() else { break };
        *placed.entry(seat.node.node.clone()).or_default() += 1;
        more -= 1;
        if seat.take(need) {
            seats.push(seat);
        }
    }
    placed
}

/// Room for workers on a node; the greatest is where the next one goes.
struct Seat<'a> {
    node: &'a NodeView,
    /// How many still fit; at least one.
    left: u64,
    /// Input that lies there.
    input: Bytes,
    /// Workers of this operator there.
    workers: u64,
    /// Whether its GPUs are of no use to this operator.
    idle_gpus: bool,
    gpu_free: u64,
    cpu_free: i64,
    /// What `cpu_free` is seen in relation to: shared cores end at the same load, held ones at the same number free.
    cpu_of: i64,
    memory_free: Bytes,
}

impl<'a> Seat<'a> {
    fn new(node: &'a NodeView, need: &Need, wish: &Wish) -> Option<Self> {
        let more = u64::from(node.workers_max.saturating_sub(node.workers));
        let left = room(node, &node.free, need, wish.cores).min(more);
        let wants_gpus = need.gpus.milli() > 0;
        (node.state == State::Alive && left > 0).then(|| Self {
            node,
            left,
            input: wish.input.get(&node.node).copied().unwrap_or_default(),
            workers: u64::from(node.workers),
            idle_gpus: !wants_gpus && !node.total.gpu_milli.is_empty(),
            gpu_free: if wants_gpus { node.free.gpu_milli.iter().sum() } else { 0 },
            cpu_free: node.free.cpu_milli,
            cpu_of: if wish.cores == Cores::Shared { node.total.cpu_milli.max(1) } else { 1 },
            memory_free: node.free.memory,
        })
    }

    /// One worker more is there; whether another fits.
    fn take(&mut self, need: &Need) -> bool {
        self.left -= 1;
        self.workers += 1;
        self.gpu_free = self.gpu_free.saturating_sub(need.gpus.milli());
        self.cpu_free = self.cpu_free.saturating_sub(need.cpu_milli);
        self.memory_free = self.memory_free - need.memory;
        self.left > 0
    }

    /// Compares the input that each worker would have to itself, so that input on several nodes draws workers to each.
    fn near_input(&self, other: &Self) -> Ordering {
        let share = |a: &Self, b: &Self| u128::from(a.input.0) * u128::from(b.workers + 1);
        share(self, other).cmp(&share(other, self))
    }

    /// Compares what is free: the scarcest thing first.
    fn free(&self, other: &Self) -> Ordering {
        let cpu = |a: &Self, b: &Self| i128::from(a.cpu_free) * i128::from(b.cpu_of);
        let rest = |seat: &Self| (seat.cpu_free, seat.memory_free);
        self.gpu_free
            .cmp(&other.gpu_free)
            .then_with(|| cpu(self, other).cmp(&cpu(other, self)))
            .then_with(|| rest(self).cmp(&rest(other)))
    }
}

impl Ord for Seat<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.near_input(other)
            .then(other.idle_gpus.cmp(&self.idle_gpus))
            .then_with(|| self.free(other))
            .then(other.workers.cmp(&self.workers))
            .then_with(|| other.node.node.cmp(&self.node.node))
    }
}

impl PartialOrd for Seat<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Seat<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Seat<'_> {}
