//! The physical plan: which operators run a logical plan, with how many workers and which resources.
//!
//! [`Builder`] decides what shares an operator: a read takes the steps after it into its own chain, so that rows are
//! decoded, computed and filtered while they are in a core's cache. A new operator starts where a step has workers,
//! resources, a batch size or a process of its own, and at a limit, a union and a write. A predictor joins its read where nothing is
//! lost by it, see [`Builder::shared_pool`].

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::sync::Arc;

use mobula_actors::job::{Logic, OperatorPlan, Resources, Topology, Workers};
use mobula_actors::operator::{BatchSize, OperatorSpec, Recipe, SourceSpec, Split};
use mobula_actors::units::{Bytes, Rows};

use super::logical::{MapStep, WriteStep};

/// Index of an operator in the topology.
pub(super) type Index = usize;

/// Puts operators together, each after its inputs.
pub(super) struct Builder {
    operators: Vec<OperatorPlan>,
    names: BTreeSet<String>,
    cpus: usize,
}

/// A step that shares its read's workers is spread over them split by split, not block by block. With so many splits for
/// each core, the last one leaves the others idle for at most a fifth of the time.
const SPLITS_A_CORE: usize = 4;

/// How much work a step is, and so whose workers it may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Expressions: cheap beside anything else, so they run wherever the rows are.
    Light,
    /// A function of the user: runs on as many workers as there are cores, not on the few of a pool.
    Heavy,
}

impl Builder {
    pub(super) fn new(cpus: usize) -> Self {
        Self { operators: Vec::new(), names: BTreeSet::new(), cpus: cpus.max(1) }
    }

    /// Goes on behind the last operator of a topology.
    pub(super) fn behind(topology: Topology, cpus: usize) -> Self {
        let names = topology.operators.iter().map(|plan| plan.name.to_string()).collect();
        Self { operators: topology.operators, names, cpus: cpus.max(1) }
    }

    pub(super) fn finish(self) -> Topology {
        Topology { operators: self.operators, ..Topology::default() }
    }

    pub(super) fn read(&mut self, source: SourceSpec, splits: Vec<Split>, ordered: bool) -> Index {
        let name = source.label.clone();
        let workers = Workers { min: 1, max: splits.len().clamp(1, self.cpus) };
        self.add(&name, Vec::new(), Logic::Read { source, splits, chain: Vec::new() }, workers, ordered)
    }

    /// Runs a step that holds no state where its input is, if it may.
    pub(super) fn step(&mut self, input: Index, spec: OperatorSpec, weight: Weight, ordered: bool) -> Index {
        if self.takes(input, weight) {
            if let Logic::Read { chain, .. } | Logic::Map { chain, .. } = &mut self.at(input).logic {
                chain.push(spec);
            }
            return input;
        }
        let (name, workers) = (spec.label.clone(), self.all_cores());
        self.add(&name, vec![input], Logic::Map { chain: vec![spec], task_bytes: None }, workers, ordered)
    }

    /// Runs a step on the workers of its read, if they are as many as it would have and the splits suffice to keep them
    /// busy to the end: its rows are then still in the core's cache. Else on workers of its own.
    pub(super) fn shared_pool(&mut self, input: Index, step: &MapStep, ordered: bool) -> Index {
        let (all_cores, cpus) = (self.all_cores(), self.cpus);
        let own = step.resources.is_some() || step.spec.isolation.is_some();
        let shares = !own && step.workers.is_none_or(|workers| workers == all_cores);
        match &mut self.at(input).logic {
            Logic::Read { splits, chain, .. } if shares && splits.len() >= SPLITS_A_CORE * cpus => {
                chain.push(step.spec.clone());
                input
            }
            _ => self.pool(input, step, ordered),
        }
    }

    /// Runs a step on workers of its own.
    pub(super) fn pool(&mut self, input: Index, step: &MapStep, ordered: bool) -> Index {
        let task_bytes = step.climbs().then_some(DEVICE_TASK_BYTES);
        let logic = Logic::Map { chain: vec![step.spec.clone()], task_bytes };
        let workers = step.workers.unwrap_or_else(|| self.all_cores());
        let index = self.add(&step.spec.label, vec![input], logic, workers, ordered);
        if let Some(resources) = &step.resources {
            self.at(index).resources = resources.clone();
        }
        index
    }

    pub(super) fn limit(&mut self, input: Index, rows: u64, ordered: bool) -> Index {
        let one = Workers { min: 1, max: 1 };
        self.add(&format!("limit {rows}"), vec![input], Logic::Limit(Rows(rows)), one, ordered)
    }

    pub(super) fn union(&mut self, inputs: Vec<Index>, ordered: bool) -> Index {
        self.add("union", inputs, Logic::Union, Workers { min: 1, max: 1 }, ordered)
    }

    /// A sink for the last operator's rows.
    pub(super) fn write(&mut self, step: &WriteStep) -> Index {
        let inputs = self.operators.len().checked_sub(1).into_iter().collect();
        let logic = Logic::Map { chain: vec![step.spec.clone()], task_bytes: Some(step.task_bytes) };
        let workers = self.all_cores();
        self.add(&step.spec.label, inputs, logic, workers, false)
    }

    fn at(&mut self, index: Index) -> &mut OperatorPlan {
        self.operators.get_mut(index).expect("an index names an operator that was added")
    }

    fn all_cores(&self) -> Workers {
        Workers { min: 1, max: self.cpus }
    }

    fn add(&mut self, name: &str, inputs: Vec<Index>, logic: Logic, workers: Workers, ordered: bool) -> Index {
        let resources = match logic {
            Logic::Limit(_) | Logic::Union => Resources::cpu(0.0),
            Logic::Read { .. } | Logic::Map { .. } => Resources::default(),
        };
        let name = self.unique(name);
        self.operators.push(OperatorPlan { name, inputs, logic, workers, resources, ordered });
        self.operators.len() - 1
    }

    /// The name, with a number where it is taken.
    fn unique(&mut self, name: &str) -> Arc<str> {
        let numbered = (2..).map(|n| format!("{name} #{n}"));
        let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !self.names.contains(name));
        let free = free.unwrap_or_default();
        self.names.insert(free.clone());
        free.into()
    }

    /// Whether the operator takes a step behind its own.
    fn takes(&mut self, input: Index, weight: Weight) -> bool {
        let all_cores = self.all_cores();
        let operator = self.at(input);
        match &operator.logic {
            Logic::Read { .. } => true,
            Logic::Limit(_) | Logic::Union => false,
            Logic::Map { task_bytes: Some(_), .. } => false,
            Logic::Map { chain, .. } => {
                let actor = chain.iter().any(|spec| matches!(spec.recipe, Recipe::Actor(_)));
                let pool = operator.workers != all_cores || operator.resources != Resources::default();
                let batched = chain.iter().any(|spec| spec.batch != BatchSize::Auto);
                let device = operator.resources.gpus > 0.0;
                // Nothing else is to be lost with its process, and its death names it.
                let isolated = chain.iter().any(|spec| spec.isolation.is_some());
                !actor && !device && !isolated && (weight == Weight::Light || !(pool || batched))
            }
        }
    }
}

/// Bytes that a task gathers for a device whose batch size is found while running: a batch is cut from one task, so this
/// is the most that one can have. A quarter, and large images come in batches too small for a device; four times as much,
/// and several devices share a small job unevenly.
const DEVICE_TASK_BYTES: Bytes = Bytes::mib(32);

/// The topology as an indented tree, the last operator on top; steps of a chain stand below their operator.
pub(crate) fn print(topology: &Topology) -> String {
    let mut text = String::new();
    if let Some(last) = topology.operators.len().checked_sub(1) {
        print_operator(&mut text, topology, last, 0).expect("a string takes any text");
    }
    text
}

fn print_operator(text: &mut String, topology: &Topology, index: usize, depth: usize) -> fmt::Result {
    let Some(operator) = topology.operators.get(index) else { return Ok(()) };
    let indent = depth * 2;
    write!(text, "{:indent$}{}", "", operator.name)?;
    match &operator.logic {
        Logic::Read { splits, chain, .. } => {
            writeln!(text, " ({}; {}{})", count(splits.len(), "split"), task(chain, None), limits(operator))?;
            print_chain(text, chain, indent)?;
        }
        Logic::Map { chain, task_bytes } => {
            writeln!(text, " ({}{})", task(chain, *task_bytes), limits(operator))?;
            print_chain(text, chain.get(1..).unwrap_or_default(), indent)?;
        }
        Logic::Limit(_) | Logic::Union if operator.ordered => text.push('\n'),
        Logic::Limit(_) | Logic::Union => text.push_str(" (any order)\n"),
    }
    operator.inputs.iter().try_for_each(|input| print_operator(text, topology, *input, depth + 1))
}

fn print_chain(text: &mut String, chain: &[OperatorSpec], indent: usize) -> fmt::Result {
    chain.iter().try_for_each(|spec| writeln!(text, "{:indent$}-> {}", "", spec.label))
}

fn task(chain: &[OperatorSpec], task_bytes: Option<Bytes>) -> String {
    let batch = chain.iter().find_map(|spec| match spec.batch {
        BatchSize::Rows(rows) => Some(format!("batches of {rows}; ")),
        BatchSize::UpTo(rows) => Some(format!("batches of up to {rows}; ")),
        BatchSize::Auto => None,
    });
    let task = task_bytes.map(|bytes| format!("tasks of {bytes}; "));
    batch.or(task).unwrap_or_default()
}

fn limits(operator: &OperatorPlan) -> String {
    let Workers { min, max } = operator.workers;
    let order = if operator.ordered { "" } else { "; any order" };
    let isolation = match &operator.logic {
        Logic::Map { chain, .. } => chain.iter().find_map(|spec| spec.isolation),
        _ => None,
    };
    let isolated = isolation.map(|limits| format!("; {limits}")).unwrap_or_default();
    format!("workers {min}..={max}; {} each{isolated}{order}", operator.resources)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
