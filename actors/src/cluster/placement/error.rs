//! Why no place was found: what no node can ever give, and what is only busy now.

use std::collections::{BTreeMap, BTreeSet};

use super::NodeView;
use super::amounts::{Gpus, Need};
use crate::units::Bytes;

/// Values of a label that an error lists.
const VALUES_LISTED_MAX: usize = 8;

/// Why workers cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// There is enough, but it is in use, or its node is suspect, or no node has joined yet: ask again when something
    /// changes.
    #[error("{fit} of {min} workers have room now; the rest is busy")]
    Later {
        /// How many are needed.
        min: u64,
        /// How many could be there now, with those that are.
        fit: u64,
    },
    /// What is asked for makes no sense.
    #[error("{0}")]
    Amount(String),
    /// No node has all the labels.
    #[error("no node has the labels {wanted}{offered}")]
    Labels {
        /// What is asked for, as `zone=a, disk=fast`.
        wanted: String,
        /// What there is instead, or nothing.
        offered: String,
    },
    /// No node has so much of something.
    #[error("no node can ever give {}", list(.0))]
    Lacking(Vec<Lack>),
    /// Each thing is somewhere, but not all in one place.
    #[error("each of {wanted} is on some node, but no node has all of it")]
    Together {
        /// What one worker asks for.
        wanted: String,
    },
    /// One worker fits, but not as many as are needed.
    #[error("{min} workers are needed, and all nodes together have room for {fit}, were they free")]
    Workers {
        /// How many are needed.
        min: u64,
        /// How many would fit into an idle cluster.
        fit: u64,
    },
}

/// Something that no node has enough of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What: `cpu`, `gpu`, `memory` or an extra's name.
    pub what: String,
    /// How much one worker asks for.
    pub wanted: String,
    /// The most that one node has.
    pub largest: String,
}

fn list(lacks: &[Lack]) -> String {
    let one = |lack: &Lack| format!("{} {} (the most that one has is {})", lack.what, lack.wanted, lack.largest);
    lacks.iter().map(one).collect::<Vec<_>>().join(", nor ")
}

impl NoPlace {
    /// Whether waiting may help without another node joining; otherwise the job is refused.
    pub fn is_later(&self) -> bool {
        matches!(self, Self::Later { .. })
    }

    /// No live node has the labels.
    pub(super) fn labels(wanted: &BTreeMap<String, String>, nodes: &[&NodeView]) -> Self {
        let offers = wanted.keys().filter_map(|label| {
            let values: BTreeSet<&str> =
                nodes.iter().filter_map(|node| Some(node.labels.get(label)?.as_str())).collect();
            let more = if values.len() > VALUES_LISTED_MAX { ", .." } else { "" };
            let values: Vec<&str> = values.into_iter().take(VALUES_LISTED_MAX).collect();
            (!values.is_empty()).then(|| format!("{label}={}{more}", values.join("|")))
        });
        let offers: Vec<String> = offers.collect();
        let offered = if offers.is_empty() { String::new() } else { format!("; there are {}", offers.join(", ")) };
        let wanted: Vec<String> = wanted.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Self::Labels { wanted: wanted.join(", "), offered }
    }

    /// One worker fits on none of these nodes, were they idle.
    pub(super) fn lacking(need: &Need, wanted: String, nodes: &[&NodeView]) -> Self {
        let most = |amount: &dyn Fn(&NodeView) -> u64| nodes.iter().map(|node| amount(node)).max().unwrap_or(0);
        let mut lacks = Vec::new();
        let mut compare = |what: &str, wanted: u64, largest: u64, show: &dyn Fn(u64) -> String| {
            if wanted > largest {
                lacks.push(Lack { what: what.to_owned(), wanted: show(wanted), largest: show(largest) });
            }
        };
        let milli = |amount: u64| (amount as f64 / 1000.0).to_string();
        compare("cpu", need.cpu_milli as u64, most(&|node| node.total.cpu_milli.max(0) as u64), &milli);
        let devices = |node: &NodeView| match need.gpus {
            Gpus::Whole(_) => node.total.gpu_milli.iter().sum(),
            _ => node.total.gpu_milli.iter().copied().max().unwrap_or(0),
        };
        compare("gpu", need.gpus.milli(), most(&devices), &milli);
        compare("memory", need.memory.0, most(&|node| node.total.memory.0), &|bytes| Bytes(bytes).to_string());
        for (name, amount) in &need.extras {
            compare(name, *amount, most(&|node| node.total.extras.get(name).copied().unwrap_or(0)), &milli);
        }
        if lacks.is_empty() { Self::Together { wanted } } else { Self::Lacking(lacks) }
    }
}
