//! Division: how many workers of each operator of a job go to which node, so that all of them fit beside each other.
//!
//! Workers hold what they ask for as long as their job runs. So one worker of each operator (or the least that it asks
//! for) gets its place before any operator gets more, and each operator gets only what the others leave: a job never
//! waits for what it holds itself. Operators that ask for cores alone are placed each by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Amounts, Cores, Need, NoPlace, NodeView, Wish, best, place, ranked};
use crate::cluster::ids::NodeName;
use crate::cluster::membership::State;

/// So many choices are tried until the first workers of all operators have a place. What fits at all nearly always does
/// at once; what does not is refused after some milliseconds, though there may be very many ways to try.
const TRIES_MAX: usize = 10_000;
/// Operators and nodes that an error lists.
const LISTED_MAX: usize = 8;

/// What an operator asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: Arc<str>,
    pub(crate) wish: Wish,
}

/// The part of an operator that goes to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) workers: u32,
    pub(crate) leases: Leases,
}

/// What the workers of a share need leases for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leases {
    /// They take turns on cores, and hold nothing.
    None,
    /// The first worker of the operator is among them: without its lease the job does not go on.
    First,
    /// They make it faster.
    More,
}

/// The shares of an operator.
pub(crate) type Shares = BTreeMap<NodeName, Share>;

/// Which operator, by index, cannot be placed, and why.
pub(crate) type Refused = (usize, String);

/// Divides all operators of a job among nodes that have nothing else to do. Nodes that are silent for a moment get nothing
/// as long as the others can do without them.
pub(crate) fn divide(nodes: &[NodeView], operators: &[Wanted]) -> Result<Vec<Shares>, Refused> {
    let divided = divided(nodes.to_vec(), operators);
    if divided.is_ok() || nodes.iter().all(|node| node.state != State::Suspect) {
        return divided;
    }
    // They are better than none: the head may have been silent itself.
    let mut nodes = nodes.to_vec();
    nodes.iter_mut().for_each(|node| node.state = State::Alive);
    self::divided(nodes, operators)
}

fn divided(nodes: Vec<NodeView>, operators: &[Wanted]) -> Result<Vec<Shares>, Refused> {
    let (mut shares, mut holding) = (Vec::new(), Vec::new());
    for (index, Wanted { wish, .. }) in operators.iter().enumerate() {
        let refused = |error: NoPlace| (index, error.to_string());
        let need = Need::new(&wish.resources).map_err(|error| refused(NoPlace::Amount(error)))?;
        let alone = place(&nodes, wish).map_err(refused)?;
        if need.leases() {
            shares.push(Shares::new());
            holding.push(Holding { index, need, workers: vec![0; nodes.len()], first: None });
        } else {
            let share = |workers| Share { workers, leases: Leases::None };
            shares.push(alone.into_iter().map(|(node, workers)| (node, share(workers))).collect());
        }
    }
    let mut division = Division { nodes, operators, holding };
    division.reserve()?;
    division.give_the_rest();
    division.shares_into(&mut shares);
    Ok(shares)
}

/// An operator whose workers hold more than cores.
struct Holding {
    index: usize,
    need: Need,
    /// Its workers on each node.
    workers: Vec<u32>,
    /// Where its first worker is.
    first: Option<usize>,
}

struct Division<'a> {
    nodes: Vec<NodeView>,
    operators: &'a [Wanted],
    holding: Vec<Holding>,
}

/// A worker that is being placed.
struct Trial {
    /// Which of the operators that hold something.
    at: usize,
    /// Nodes that were not tried, the best last.
    nodes: Vec<usize>,
    /// Where it is, with its devices.
    placed: Option<(usize, Vec<u32>)>,
}

impl Division<'_> {
    fn wish(&self, at: usize) -> Option<&Wish> {
        let holding = self.holding.get(at)?;
        self.operators.get(holding.index).map(|operator| &operator.wish)
    }

    /// Places the least number of workers of each operator beside each other.
    fn reserve(&mut self) -> Result<(), Refused> {
        let all = self.least();
        let (mut trials, mut deepest): (Vec<Trial>, usize) = (Vec::new(), 0);
        let mut tries = 0..TRIES_MAX.max(4 * all.len());
        loop {
            if trials.len() == all.len() && self.firsts_fit_idle_nodes() {
                return Ok(());
            }
            if let Some(&at) = all.get(trials.len()) {
                deepest = deepest.max(trials.len());
                trials.push(Trial { at, nodes: self.ranked(at), placed: None });
            }
            loop {
                let Some(trial) = trials.last_mut() else {
                    return Err(self.refused(all.get(deepest).copied().unwrap_or_default()));
                };
                if let Some((node, devices)) = trial.placed.take() {
                    self.give_back(trial.at, node, &devices);
                }
                let next = tries.next().and_then(|_| trial.nodes.pop());
                trial.placed = next.and_then(|node| Some((node, self.take(trial.at, node)?)));
                match next {
                    Some(_) if trial.placed.is_some() => break,
                    Some(_) => {}
                    None => drop(trials.pop()),
                }
            }
        }
    }

    /// Workers that have to be there, each by its operator: those with large shares of devices first, in the order in which
    /// a node's scheduler takes them.
    fn least(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.holding.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(self.holding.get(*at).map(|holding| holding.need.gpus.milli())));
        let least = |at: usize| self.wish(at).map_or(1, |wish| wish.workers.min.max(1));
        order.into_iter().flat_map(|at| std::iter::repeat_n(at, least(at))).collect()
    }

    /// A node grants the first workers there together. That has to work at least when nothing else runs.
    fn firsts_fit_idle_nodes(&self) -> bool {
        self.nodes.iter().enumerate().all(|(node, view)| {
            let there = self.holding.iter().filter(|holding| holding.first == Some(node));
            let needs: Vec<&Need> = there.map(|holding| &holding.need).collect();
            view.total.clone().take_together(&needs, Cores::Shared).is_some()
        })
    }

    /// One worker each, in turn, until no more fit or are wanted.
    fn give_the_rest(&mut self) {
        let mut open: Vec<usize> = (0..self.holding.len()).collect();
        while !open.is_empty() {
            open.retain(|&at| self.one_more(at));
        }
    }

    fn one_more(&mut self, at: usize) -> bool {
        let Some(max) = self.wish(at).map(|wish| wish.workers.max as u64) else { return false };
        let there = self.holding.get(at).map_or(0, |holding| holding.workers.iter().map(|n| u64::from(*n)).sum());
        let node = (there < max).then(|| self.with_nodes(at, best)).flatten().flatten();
        node.is_some_and(|node| self.take(at, node).is_some())
    }

    fn ranked(&mut self, at: usize) -> Vec<usize> {
        self.with_nodes(at, ranked).unwrap_or_default()
    }

    /// Asks about the nodes as this operator sees them.
    fn with_nodes<R>(&mut self, at: usize, ask: impl Fn(&[NodeView], &Need, &Wish) -> R) -> Option<R> {
        let holding = self.holding.get(at)?;
        let wish = self.operators.get(holding.index).map(|operator| &operator.wish)?;
        for (view, workers) in self.nodes.iter_mut().zip(&holding.workers) {
            view.workers = *workers;
        }
        Some(ask(&self.nodes, &holding.need, wish))
    }

    fn take(&mut self, at: usize, node: usize) -> Option<Vec<u32>> {
        let (holding, view) = (self.holding.get_mut(at)?, self.nodes.get_mut(node)?);
        let workers = holding.workers.get_mut(node)?;
        let devices = view.free.take(&holding.need, Cores::Shared)?;
        *workers += 1;
        holding.first.get_or_insert(node);
        Some(devices)
    }

    fn give_back(&mut self, at: usize, node: usize, devices: &[u32]) {
        let (Some(holding), Some(view)) = (self.holding.get_mut(at), self.nodes.get_mut(node)) else { return };
        view.free.give_back(&holding.need, devices);
        if let Some(workers) = holding.workers.get_mut(node) {
            *workers -= 1;
        }
        if holding.workers.iter().all(|workers| *workers == 0) {
            holding.first = None;
        }
    }

    fn shares_into(self, shares: &mut [Shares]) {
        for Holding { index, workers, first, .. } in self.holding {
            let Some(shares) = shares.get_mut(index) else { continue };
            let there = self.nodes.iter().zip(workers).enumerate().filter(|(_, (_, workers))| *workers > 0);
            shares.extend(there.map(|(node, (view, workers))| {
                let leases = if first == Some(node) { Leases::First } else { Leases::More };
                (view.node.clone(), Share { workers, leases })
            }));
        }
    }

    fn refused(&self, at: usize) -> Refused {
        let operators = self.holding.iter().enumerate().filter_map(|(at, holding)| {
            let Wanted { name, wish } = self.operators.get(holding.index)?;
            let least = self.wish(at).map_or(1, |wish| wish.workers.min.max(1));
            let times = if least == 1 { String::new() } else { format!("{least} times ") };
            Some(format!("{name:?} ({times}{})", wish.resources))
        });
        let nodes = self.nodes.iter().map(|view| format!("{} ({})", view.node, in_words(&view.total)));
        let reason = format!(
            "workers hold what they ask for as long as the job runs, and one worker of each operator does not fit beside \
             the others: there are {} for {}",
            listed(nodes),
            listed(operators)
        );
        (self.holding.get(at).map_or(0, |holding| holding.index), reason)
    }
}

fn listed(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(LISTED_MAX);
    let listed = all.into_iter().take(LISTED_MAX).collect::<Vec<_>>().join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

/// What a node has beside its cores.
fn in_words(amounts: &Amounts) -> String {
    let mut words = vec![format!("gpu {}", amounts.gpu_milli.len())];
    if amounts.memory.0 > 0 {
        words.push(format!("memory {}", amounts.memory));
    }
    words.extend(amounts.extras.iter().map(|(name, milli)| format!("{name} {}", *milli as f64 / 1000.0)));
    words.join(", ")
}

#[cfg(test)]
mod tests;
