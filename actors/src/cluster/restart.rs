//! What a job of many nodes has passed on to its driver, so that it can go on after a node was lost: pure bookkeeping.
//!
//! Where all operators keep the order of their input, results leave in the order of the rows they stand for. So when all
//! segments that have begun to leave have left whole, everything up to the last of them is finished: the *mark*. After a
//! loss the job is started again from the mark; rows that left since then come once more and are skipped. Where an operator
//! does not keep the order (or a limit counts rows from the first), there is no mark but the beginning.
//!
//! A job that writes needs none of this: it goes on from its ledger, see [`crate::ledger`].

use std::collections::BTreeMap;

use crate::block::{Segment, Segments, Share};
use crate::job::{Logic, Topology};
use crate::operator::Left;
use crate::units::Rows;

/// How far a job is.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    /// The reads, in the order in which their rows come out, and how many splits each has.
    sources: Vec<(usize, u32)>,
    /// Whether results leave in the order of the rows.
    ordered: bool,
    /// Whether segments say what is finished.
    marks: bool,
    mark: Mark,
    /// The farthest segment that has left whole.
    reached: Mark,
    /// Those of which a part has left.
    open: BTreeMap<Segment, Share>,
    since_rows: Rows,
    since_blocks: usize,
}

/// A place in the input of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    /// Position in `sources`.
    source: usize,
    split: u32,
    from: Rows,
}

/// What is to be done with results that left before a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Again {
    /// Rows at the beginning of the new run that left already.
    pub(crate) skip: Rows,
    /// Blocks at the end of those that left that come again.
    pub(crate) blocks: usize,
    /// Whether both are known: else rows that left cannot be told from those that did not.
    pub(crate) in_order: bool,
}

impl Progress {
    pub(crate) fn of(topology: &Topology) -> Self {
        let mut sources = Vec::new();
        if let Some(last) = topology.operators.len().checked_sub(1) {
            collect(topology, last, &mut sources);
        }
        let ordered = topology.operators.iter().all(|plan| plan.ordered);
        let limits = topology.operators.iter().any(|plan| matches!(plan.logic, Logic::Limit(_)));
        Self {
            sources,
            ordered,
            marks: ordered && !limits,
            mark: Mark::default(),
            reached: Mark::default(),
            open: BTreeMap::new(),
            since_rows: Rows(0),
            since_blocks: 0,
        }
    }

    /// A block of results has left.
    pub(crate) fn on_block(&mut self, rows: Rows, segments: &Segments) {
        self.since_rows += rows;
        self.since_blocks += usize::from(rows > Rows(0));
        if !self.marks {
            return;
        }
        for (segment, share) in segments.iter() {
            let has = self.open.remove(&segment).unwrap_or(Share::NONE).and(share);
            if has != Share::WHOLE {
                self.open.insert(segment, has);
            } else if let Some(source) = self.sources.iter().position(|(index, _)| *index == segment.source as usize) {
                self.reached = self.reached.max(Mark { source, split: segment.split, from: segment.to });
            }
        }
        if self.open.is_empty() && !segments.is_empty() {
            self.mark = self.reached;
            (self.since_rows, self.since_blocks) = (Rows(0), 0);
        }
    }

    /// A node was lost: what comes again. The count begins anew.
    pub(crate) fn on_loss(&mut self) -> Again {
        let again = Again { skip: self.since_rows, blocks: self.since_blocks, in_order: self.ordered };
        (self.since_rows, self.since_blocks) = (Rows(0), 0);
        (self.open, self.reached) = (BTreeMap::new(), self.mark);
        again
    }

    /// What the reads have left.
    pub(crate) fn left(&self) -> BTreeMap<usize, Vec<Left>> {
        let left = |(at, (index, splits)): (usize, &(usize, u32))| {
            let first = match at.cmp(&self.mark.source) {
                std::cmp::Ordering::Less => Left::all(*splits),
                std::cmp::Ordering::Equal => Left { from: self.mark.from, ..Left::all(self.mark.split) },
                std::cmp::Ordering::Greater => Left::all(0),
            };
            let first = if first.from == Segment::END { Left::all(first.split + 1) } else { first };
            let rest = (first.split.saturating_add(1)..*splits).map(Left::all);
            (*index, std::iter::once(first).filter(|first| first.split < *splits).chain(rest).collect())
        };
        self.sources.iter().enumerate().map(left).collect()
    }
}

/// The reads above an operator, in the order of its input.
fn collect(topology: &Topology, index: usize, into: &mut Vec<(usize, u32)>) {
    let Some(plan) = topology.operators.get(index) else { return };
    if let Logic::Read { splits, .. } = &plan.logic {
        into.push((index, splits.len() as u32));
    }
    plan.inputs.iter().for_each(|input| collect(topology, *input, into));
}
