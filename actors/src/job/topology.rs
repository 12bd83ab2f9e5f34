//! What a job runs: operators and the edges between them. The upper layer's plan is lowered to this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{FailurePolicy, Weight};
use crate::ledger::RecorderSpec;
use crate::operator::{Object, OperatorSpec, SourceSpec, Split};
use crate::units::{Bytes, Rows};

/// The operators of a job, each after all its inputs; the last one's blocks go to the driver.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// The operators; an edge is named by the index of its upstream operator.
    pub operators: Vec<OperatorPlan>,
    /// Who keeps the ledger of a job that writes, where the job lives.
    pub recorder: Option<RecorderSpec>,
    /// Its share of the cores beside other jobs.
    pub weight: Weight,
    /// How long a call of user code for one of its tasks may take, where that is not what the nodes are set to: see
    /// [`NodeConfig::task_progress_limit`](crate::node::NodeConfig::task_progress_limit).
    pub task_progress_limit: Option<Duration>,
    /// What it does about rows that user code fails on.
    pub failures: FailurePolicy,
}

/// Most operators of a topology. Each has an actor and a part of the memory budget; a plan that a person wrote has tens,
/// one that a program wrote hundreds.
pub const OPERATORS_MAX: usize = 10_000;

/// How a topology contradicts itself. A plan that was lowered never does; one made by hand may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TopologyError {
    /// There is nothing to run.
    #[error("it has no operators")]
    Empty,
    /// There is too much to run.
    #[error("it has {operators} operators, which is over the limit of {OPERATORS_MAX}")]
    TooMany {
        /// How many it has.
        operators: usize,
    },
    /// An operator names an input that does not come before it.
    #[error("operator {operator:?} takes input from {input}, which is not before it")]
    Input {
        /// The operator.
        operator: Arc<str>,
        /// The index it names.
        input: usize,
    },
    /// A block goes to one operator, so each is the input of exactly one, and the last of none.
    #[error("operator {operator:?} is the input of {consumers} operators")]
    Consumers {
        /// The operator.
        operator: Arc<str>,
        /// How many name it.
        consumers: usize,
    },
    /// The number of inputs does not fit what the operator does.
    #[error("operator {operator:?} has {inputs} inputs")]
    Inputs {
        /// The operator.
        operator: Arc<str>,
        /// How many it names.
        inputs: usize,
    },
}

impl Topology {
    /// What its operators take beside their parameters.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.operators.iter().flat_map(|plan| plan.logic.chain()).flat_map(|spec| &spec.objects)
    }

    /// Checks that edges lead from earlier to later operators and that each block goes to one receiver.
    ///
    /// # Errors
    /// Naming the operator that is wrong.
    pub fn check(&self) -> Result<(), TopologyError> {
        let operators = self.operators.len();
        let last = operators.checked_sub(1).ok_or(TopologyError::Empty)?;
        if operators > OPERATORS_MAX {
            return Err(TopologyError::TooMany { operators });
        }
        let mut consumers = vec![0; operators];
        for (index, plan) in self.operators.iter().enumerate() {
            let operator = || Arc::clone(&plan.name);
            let inputs = plan.inputs.len();
            let inputs_fit = match plan.logic {
                Logic::Read { .. } => inputs == 0,
                Logic::Map { .. } | Logic::Limit(_) => inputs == 1,
                Logic::Union => inputs > 0,
            };
            if !inputs_fit {
                return Err(TopologyError::Inputs { operator: operator(), inputs });
            }
            for &input in &plan.inputs {
                match consumers.get_mut(input).filter(|_| input < index) {
                    Some(consumers) => *consumers += 1,
                    None => return Err(TopologyError::Input { operator: operator(), input }),
                }
            }
        }
        let mut wrong = self.operators.iter().zip(consumers).enumerate();
        match wrong.find(|(index, (_, consumers))| *consumers != usize::from(*index != last)) {
            Some((_, (plan, consumers))) => {
                Err(TopologyError::Consumers { operator: Arc::clone(&plan.name), consumers })
            }
            None => Ok(()),
        }
    }
}

/// One operator of a topology.
#[derive(Debug, Clone)]
pub struct OperatorPlan {
    /// Name in progress, errors and the summary; unique in the topology.
    pub name: Arc<str>,
    /// Indices of the operators it takes blocks from.
    pub inputs: Vec<usize>,
    /// What it does.
    pub logic: Logic,
    /// How many workers it may have.
    pub workers: Workers,
    /// What each worker needs.
    pub resources: Resources,
    /// Whether its results leave in the order of its input.
    pub ordered: bool,
}

impl OperatorPlan {
    /// What each worker holds as long as it lives: with the memory that its process may have, if it runs in one of its own.
    pub(crate) fn held(&self) -> Resources {
        let limits = self.logic.chain().iter().filter_map(|spec| spec.isolation?.memory);
        let memory = limits.max().unwrap_or_default().max(self.resources.memory);
        Resources { memory, ..self.resources.clone() }
    }

    /// Whether that is more than cores, which are taken in turns.
    pub(crate) fn holds(&self) -> bool {
        let Resources { gpus, memory, extras, .. } = self.held();
        self.has_workers() && (gpus > 0.0 || memory > Bytes(0) || extras.values().any(|amount| *amount > 0.0))
    }

    /// Whether it has workers: others pass blocks on by themselves.
    pub(crate) fn has_workers(&self) -> bool {
        matches!(self.logic, Logic::Read { .. } | Logic::Map { .. })
    }
}

/// What an operator does with its blocks.
#[derive(Debug, Clone)]
pub enum Logic {
    /// Reads splits (one task each) and runs a chain of operators over each batch.
    Read {
        /// Where the rows come from.
        source: SourceSpec,
        /// The tasks.
        splits: Vec<Split>,
        /// Operators fused into the read, in order.
        chain: Vec<OperatorSpec>,
    },
    /// Runs a chain of operators over each batch.
    Map {
        /// Operators fused into one call, in order; at least one.
        chain: Vec<OperatorSpec>,
        /// A task takes blocks until it holds this many bytes; `None`: a block is a task.
        task_bytes: Option<Bytes>,
    },
    /// Passes the first rows on and then stops everything upstream.
    Limit(Rows),
    /// All blocks of the first input, then of the second, and so on; as they come if unordered.
    Union,
}

impl Logic {
    /// All steps of the operator.
    pub(crate) fn chain(&self) -> &[OperatorSpec] {
        match self {
            Self::Read { chain, .. } | Self::Map { chain, .. } => chain,
            Self::Limit(_) | Self::Union => &[],
        }
    }

    /// The same, to be changed.
    pub(crate) fn chain_mut(&mut self) -> &mut [OperatorSpec] {
        match self {
            Self::Read { chain, .. } | Self::Map { chain, .. } => chain,
            Self::Limit(_) | Self::Union => &mut [],
        }
    }

    /// The steps fused into the operator, behind the one that it is named after.
    pub fn fused(&self) -> &[OperatorSpec] {
        match self {
            Self::Read { chain, .. } => chain,
            Self::Map { chain, .. } => chain.get(1..).unwrap_or_default(),
            Self::Limit(_) | Self::Union => &[],
        }
    }
}

/// How many workers an operator may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workers {
    /// Started with the job.
    pub min: usize,
    /// Never more; the pool grows to what the backlog can use at once.
    pub max: usize,
}

impl Workers {
    /// At least one, and at most `most`.
    pub(crate) fn within(self, most: usize) -> Self {
        Self { min: self.min.min(most), max: self.max.clamp(1, most) }
    }
}

/// Amounts that a worker needs while it computes (cpu) or while it lives (all others).
///
/// ```
/// use mobula_actors::job::Resources;
/// let one_gpu = Resources { gpus: 1.0, ..Resources::cpu(1.0) };
/// assert_eq!(one_gpu.to_string(), "cpu 1, gpu 1");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU cores.
    pub cpus: f64,
    /// GPUs; below 1 a share of one device.
    pub gpus: f64,
    /// Memory of the worker itself (a model), beside the blocks: leased from what the machine has and the budget leaves.
    pub memory: Bytes,
    /// Named extras.
    pub extras: BTreeMap<String, f64>,
    /// Labels that a node has, or that a worker's node must have with these values.
    pub labels: BTreeMap<String, String>,
}

impl Resources {
    /// Only CPU cores.
    pub fn cpu(cpus: f64) -> Self {
        Self { cpus, gpus: 0.0, memory: Bytes(0), extras: BTreeMap::new(), labels: BTreeMap::new() }
    }

    /// The same, on nodes with this label only.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }
}

impl Default for Resources {
    /// One core.
    fn default() -> Self {
        Self::cpu(1.0)
    }
}

impl std::fmt::Display for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cpu {}", self.cpus)?;
        if self.gpus > 0.0 {
            write!(f, ", gpu {}", self.gpus)?;
        }
        if self.memory > Bytes(0) {
            write!(f, ", memory {}", self.memory)?;
        }
        for (name, amount) in &self.extras {
            write!(f, ", {name} {amount}")?;
        }
        for (name, value) in &self.labels {
            write!(f, ", {name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::Isolation;

    #[test]
    fn a_worker_holds_the_memory_of_its_process_or_what_it_asks_for_if_that_is_more() {
        let held = |asked: Bytes, limit: Option<Bytes>| {
            let spec = OperatorSpec::named("mine@1", Vec::new());
            let spec = spec.isolated(Isolation { memory: limit, time: None }).expect("it travels");
            let plan = OperatorPlan {
                name: "op".into(),
                inputs: Vec::new(),
                logic: Logic::Map { chain: vec![spec], task_bytes: None },
                workers: Workers { min: 0, max: 1 },
                resources: Resources { memory: asked, ..Resources::cpu(2.0) },
                ordered: true,
            };
            let held = plan.held();
            (held.cpus, held.memory)
        };
        assert_eq!(held(Bytes(0), None), (2.0, Bytes(0)));
        assert_eq!(held(Bytes(0), Some(Bytes::mib(512))), (2.0, Bytes::mib(512)));
        assert_eq!(held(Bytes::mib(700), Some(Bytes::mib(512))), (2.0, Bytes::mib(700)));
    }
}
