//! The pure thinking about an operator's input: what the next task is, what passes through, when it ends.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Split;
use super::holes::Holes;
use super::left::Left;
use super::regroup::{Grouping, Regroup};
use super::shell::piece;
use super::whole::Whole;
use crate::block::BlockRef;
use crate::pool::task::{Arrived, TaskInput};
use crate::runtime::room::Permit;
use crate::units::{Bytes, Rows};

/// The input side of an operator.
pub(crate) enum Flow {
    /// Rows of splits to read, one task each.
    Splits(VecDeque<(Left, Arc<Split>)>),
    /// Blocks that become tasks.
    Tasks { regroup: Regroup<Arc<Arrived>>, ended: bool, roll: bool, chained: bool, whole: Whole, holes: Holes },
    /// The first rows pass.
    Limit { left: Rows, waiting: VecDeque<(BlockRef, Permit)>, ended: bool },
    /// Blocks of several inputs pass.
    Union(Union),
}

/// Blocks of several inputs: one input after the other, or as they come.
pub(crate) struct Union {
    ordered: bool,
    inputs: Vec<(VecDeque<(BlockRef, Permit)>, bool)>,
}

/// A block that passes through.
pub(crate) enum Step {
    /// As it is.
    Pass(BlockRef, Permit),
    /// Only its first rows.
    Cut(BlockRef, Permit, Rows),
}

impl Flow {
    /// What is left to read of the splits.
    pub(crate) fn splits(splits: &[Split], left: &[Left]) -> Self {
        let mut shared: Option<(u32, Arc<Split>)> = None;
        let of_split = |left: &Left| {
            let split = match shared.take().filter(|(number, _)| *number == left.split) {
                Some((_, split)) => split,
                None => Arc::new(splits.get(left.split as usize)?.clone()),
            };
            shared = Some((left.split, Arc::clone(&split)));
            Some((*left, split))
        };
        Self::Splits(left.iter().filter_map(of_split).collect())
    }

    pub(crate) fn tasks(grouping: Grouping, holes: Holes) -> Self {
        Self::Tasks {
            regroup: Regroup::new(grouping),
            ended: false,
            roll: false,
            chained: false,
            whole: Whole::default(),
            holes,
        }
    }

    pub(crate) fn limit(rows: Rows) -> Self {
        Self::Limit { left: rows, waiting: VecDeque::new(), ended: false }
    }

    pub(crate) fn union(inputs: usize, ordered: bool) -> Self {
        Self::Union(Union { ordered, inputs: (0..inputs).map(|_| (VecDeque::new(), false)).collect() })
    }

    /// Whether blocks become tasks for workers, rather than pass through.
    pub(crate) fn has_workers(&self) -> bool {
        matches!(self, Self::Splits(_) | Self::Tasks { .. })
    }

    pub(crate) fn on_block(&mut self, input: usize, block: BlockRef, room: Permit) {
        match self {
            Self::Splits(_) => debug_assert!(false, "a read has no input"),
            Self::Tasks { regroup, whole, holes, .. } => {
                let (whole, apart) = (whole.on_block(&block.segments), holes.on_block(&block.segments));
                regroup.push(Arc::new(Arrived { block, _room: Some(room), whole, apart }));
            }
            Self::Limit { left, waiting, .. } if *left > Rows(0) => waiting.push_back((block, room)),
            Self::Limit { .. } => {}
            Self::Union(union) => {
                if let Some((waiting, _)) = union.inputs.get_mut(input) {
                    waiting.push_back((block, room));
                }
            }
        }
    }

    pub(crate) fn on_end(&mut self, input: usize) {
        match self {
            Self::Splits(_) => {}
            Self::Tasks { ended, .. } | Self::Limit { ended, .. } => *ended = true,
            Self::Union(union) => {
                if let Some((_, ended)) = union.inputs.get_mut(input) {
                    *ended = true;
                }
            }
        }
    }

    /// The input of the next task, if it is all there, and how many of its rows are finished already.
    pub(crate) fn next_task(&mut self) -> Option<(TaskInput, Rows)> {
        match self {
            Self::Splits(splits) => splits
                .pop_front()
                .map(|(Left { split: number, from, to }, split)| (TaskInput::Split(number, split, to), from)),
            Self::Tasks { regroup, ended, roll, chained, .. } => {
                // A file may end anywhere when its time has come; a batch may be short only where that ends a chain.
                let is_file = matches!(regroup.grouping(), Grouping::Bytes(_));
                let parts = match is_file {
                    true => regroup.next(*ended || *roll, *chained)?,
                    false => regroup.next(*ended, *roll)?,
                };
                let ends_whole = parts
                    .last()
                    .is_some_and(|(arrived, from, rows)| arrived.whole && from + rows == arrived.block.rows.0 as usize);
                *chained = !ends_whole;
                *roll &= !is_file && !ends_whole;
                Some((TaskInput::Pieces(parts.into_iter().map(piece).collect()), Rows(0)))
            }
            Self::Limit { .. } | Self::Union(_) => None,
        }
    }

    /// The next block that passes through.
    pub(crate) fn next_passing(&mut self) -> Option<Step> {
        match self {
            Self::Splits(_) | Self::Tasks { .. } => None,
            Self::Limit { left, waiting, .. } => {
                let (block, room) = waiting.pop_front()?;
                let rows = block.rows.min(*left);
                *left = *left - rows;
                if *left == Rows(0) {
                    waiting.clear();
                }
                Some(if rows == block.rows { Step::Pass(block, room) } else { Step::Cut(block, room, rows) })
            }
            Self::Union(union) => union.next().map(|(block, room)| Step::Pass(block, room)),
        }
    }

    /// Whether nothing more will come out.
    pub(crate) fn is_exhausted(&self) -> bool {
        match self {
            Self::Splits(splits) => splits.is_empty(),
            Self::Tasks { regroup, ended, .. } => *ended && regroup.is_empty(),
            Self::Limit { left, waiting, ended } => waiting.is_empty() && (*ended || *left == Rows(0)),
            Self::Union(union) => union.inputs.iter().all(|(waiting, ended)| *ended && waiting.is_empty()),
        }
    }

    /// Whether a limit has what it needs although its input has not ended.
    pub(crate) fn is_satisfied(&self) -> bool {
        matches!(self, Self::Limit { left: Rows(0), ended: false, .. })
    }

    /// Whether blocks are here that make no task until more come.
    pub(crate) fn waits_for_more(&self) -> bool {
        matches!(self, Self::Tasks { regroup, ended: false, .. } if !regroup.is_empty())
    }

    /// Rows of the batch that gathers, if only a number of rows ends it; rows that are here of it, and what they take.
    pub(crate) fn gathers(&self) -> Option<(usize, usize, Bytes)> {
        let Self::Tasks { regroup, .. } = self else { return None };
        match regroup.grouping() {
            Grouping::Rows(rows) => Some((rows.get(), regroup.rows(), regroup.bytes())),
            Grouping::Block | Grouping::Within(..) | Grouping::Bytes(_) => None,
        }
    }

    /// What is here makes a task as soon as it may, however little it is.
    pub(crate) fn roll(&mut self) {
        if let Self::Tasks { roll, .. } = self {
            *roll = true;
        }
    }

    /// Drops what waits; nothing more will come out.
    pub(crate) fn clear(&mut self) {
        *self = Self::Splits(VecDeque::new());
    }
}

impl Union {
    fn next(&mut self) -> Option<(BlockRef, Permit)> {
        for (waiting, ended) in &mut self.inputs {
            if let Some(next) = waiting.pop_front() {
                return Some(next);
            }
            if self.ordered && !*ended {
                return None;
            }
        }
        None
    }
}
