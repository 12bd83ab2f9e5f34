//! The pure thinking that divides a memory budget among the edges of a job.

use super::topology::{Logic, OperatorPlan, Topology};
use crate::operator::regroup::Grouping;
use crate::operator::{BatchSize, Scope};
use crate::runtime::budget::EdgeLimits;
use crate::units::Bytes;

/// Smaller blocks than this cost more in messages than they save in memory.
const BLOCK_BYTES_MIN: Bytes = Bytes::kib(64);
/// Larger blocks than this keep the sink waiting and the cores unevenly loaded.
const BLOCK_BYTES_MAX: Bytes = Bytes::mib(8);
/// A part of a sink takes at most this share of the budget.
const TASK_SHARE: u64 = 8;
/// The blocks of a batch of so many rows take at most this share of the budget: the batch that they become takes as much again.
const BATCH_SHARE: u64 = 2;
/// Blocks at a port, however small.
const PORT_ITEMS_MAX: usize = 256;
/// Blocks that the driver's port holds at least.
const DRIVER_BLOCKS: u64 = 2;

/// The limits of all edges of a job.
#[derive(Debug)]
pub(crate) struct Limits {
    /// What blocks aim at.
    pub(crate) block_bytes: Bytes,
    /// For each operator: its window, the ports of its inputs, how its blocks become tasks.
    pub(crate) operators: Vec<OperatorLimits>,
    /// The driver's port.
    pub(crate) driver: EdgeLimits,
}

#[derive(Debug)]
pub(crate) struct OperatorLimits {
    pub(crate) window: EdgeLimits,
    pub(crate) port: EdgeLimits,
    pub(crate) grouping: Grouping,
    /// What the blocks that make a batch of so many rows may take.
    pub(crate) batch_max: Bytes,
    /// Steps to the sink.
    pub(crate) depth: usize,
}

impl Limits {
    /// Divides `budget`. Half of it goes into floors, so that every worker of every operator can always hold a block
    /// on either side; the rest is shared. `wanted` is what blocks should aim at if there is room.
    pub(crate) fn divide(topology: &Topology, budget: Bytes, wanted: Option<Bytes>) -> Self {
        let depths = depths(topology);
        let task_bytes = |plan: &OperatorPlan| match &plan.logic {
            Logic::Map { task_bytes: Some(bytes), .. } => Bytes(bytes.0.min(budget.0 / TASK_SHARE)),
            _ => Bytes(0),
        };
        let parts: u64 = topology.operators.iter().map(|plan| 2 * workers(plan) + 1).sum::<u64>() + DRIVER_BLOCKS;
        let gathered: Bytes = topology.operators.iter().map(task_bytes).sum();
        let floors = Bytes(budget.0 / 2) - gathered;
        let wanted = wanted.unwrap_or(BLOCK_BYTES_MAX);
        let block = Bytes(wanted.0.min(floors.0 / parts).max(wanted.min(BLOCK_BYTES_MIN).0));
        let operators = topology.operators.iter().zip(&depths).map(|(plan, &depth)| {
            let workers = workers(plan);
            let gathered = task_bytes(plan);
            let edge = |floor: u64, cap: u64, items_max, depth| EdgeLimits { floor, cap, items_max, depth };
            OperatorLimits {
                window: edge(workers * block.0, 6 * workers * block.0, usize::MAX, 2 * depth + 1),
                port: edge(
                    (workers + 1) * block.0 + gathered.0,
                    4 * (workers + 1) * block.0 + (workers + 1) * gathered.0,
                    PORT_ITEMS_MAX,
                    2 * depth + 2,
                ),
                grouping: grouping(plan, gathered, block),
                batch_max: Bytes(budget.0 / BATCH_SHARE),
                depth,
            }
        });
        let driver = EdgeLimits {
            floor: DRIVER_BLOCKS * block.0,
            cap: 4 * DRIVER_BLOCKS * block.0,
            items_max: super::delivery::DELIVERY_BLOCKS_MAX,
            depth: 0,
        };
        Self { block_bytes: block, operators: operators.collect(), driver }
    }
}

fn workers(plan: &OperatorPlan) -> u64 {
    match plan.logic {
        Logic::Read { .. } | Logic::Map { .. } => plan.workers.max.max(1) as u64,
        Logic::Limit(_) | Logic::Union => 1,
    }
}

fn grouping(plan: &OperatorPlan, task_bytes: Bytes, block: Bytes) -> Grouping {
    match &plan.logic {
        Logic::Map { task_bytes: Some(_), .. } => Grouping::Bytes(task_bytes),
        Logic::Map { chain, .. } => match chain.first().map(|spec| (spec.batch, spec.scope)) {
            Some((BatchSize::Rows(rows), Scope::Batch)) => Grouping::Rows(rows),
            Some((BatchSize::UpTo(rows), Scope::Batch)) => Grouping::Within(rows, block),
            _ => Grouping::Block,
        },
        _ => Grouping::Block,
    }
}

/// Steps from each operator to the sink.
fn depths(topology: &Topology) -> Vec<usize> {
    let mut depths = vec![0; topology.operators.len()];
    for (index, plan) in topology.operators.iter().enumerate().rev() {
        let below = depths.get(index).copied().unwrap_or_default() + 1;
        for &input in &plan.inputs {
            if let Some(depth) = depths.get_mut(input) {
                *depth = below;
            }
        }
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Resources, Workers};
    use crate::operator::IntoOperator;
    use crate::operator::{OperatorSpec, local};

    fn chain_of(operators: usize, workers: usize) -> Topology {
        let spec: OperatorSpec = local(Ok::<_, std::io::Error>).into_operator();
        let plan = |index: usize| OperatorPlan {
            name: format!("map {index}").into(),
            inputs: index.checked_sub(1).into_iter().collect(),
            logic: Logic::Map { chain: vec![spec.clone()], task_bytes: None },
            workers: Workers { min: 0, max: workers },
            resources: Resources::default(),
            ordered: true,
        };
        Topology { operators: (0..operators).map(plan).collect(), ..Topology::default() }
    }

    #[test]
    fn floors_take_half_of_the_budget_at_most_at_any_number_of_workers() {
        for (operators, workers) in [(1, 1), (4, 2), (4, 16), (15, 64)] {
            let budget = Bytes::mib(256);
            let limits = Limits::divide(&chain_of(operators, workers), budget, None);
            let floors: u64 =
                limits.operators.iter().map(|o| o.window.floor + o.port.floor).sum::<u64>() + limits.driver.floor;
            assert!(floors <= budget.0 / 2, "{operators} operators of {workers} workers: {floors}");
            assert!(limits.block_bytes >= BLOCK_BYTES_MIN);
        }
    }

    #[test]
    fn the_sink_is_nearest() {
        let limits = Limits::divide(&chain_of(3, 1), Bytes::mib(256), Some(Bytes::kib(1)));
        let depths: Vec<_> = limits.operators.iter().map(|operator| operator.depth).collect();
        assert_eq!(depths, [2, 1, 0]);
        assert_eq!(limits.block_bytes, Bytes::kib(1));
    }
}
