//! What a job of many nodes has passed on, so that it can go on after a node was lost: pure bookkeeping.
//!
//! Where all operators keep the order of their input, results leave in the order of the rows they stand for, and each
//! carries the segments that are complete with it. So what is finished is everything before the last such segment: the
//! *mark*. After a loss the job is started again from the mark; rows that left since then come once more and are
//! skipped. Where an operator does not keep the order (or a limit counts rows from the first), there is no mark but the
//! beginning.

use std::collections::BTreeMap;

use super::site::Resume;
use crate::block::Segments;
use crate::job::{Logic, Topology};
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
    /// Position in `sources`, and how far that one is.
    mark: (usize, Resume),
    since_rows: Rows,
    since_blocks: usize,
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
        let mark = (0, Resume::default());
        Self { sources, ordered, marks: ordered && !limits, mark, since_rows: Rows(0), since_blocks: 0 }
    }

    /// A block of results has left.
    pub(crate) fn on_block(&mut self, rows: Rows, segments: &Segments) {
        self.since_rows += rows;
        self.since_blocks += 1;
        if !self.marks {
            return;
        }
        for segment in segments.iter() {
            let at = self.sources.iter().position(|(index, _)| *index == segment.source as usize);
            let Some(at) = at else { continue };
            let next = (at, Resume { split: segment.split, from: segment.to });
            if (next.0, next.1.split, next.1.from) >= (self.mark.0, self.mark.1.split, self.mark.1.from) {
                self.mark = next;
                (self.since_rows, self.since_blocks) = (Rows(0), 0);
            }
        }
    }

    /// A node was lost: what comes again. The count begins anew.
    pub(crate) fn on_loss(&mut self) -> Again {
        let again = Again { skip: self.since_rows, blocks: self.since_blocks, in_order: self.ordered };
        (self.since_rows, self.since_blocks) = (Rows(0), 0);
        again
    }

    /// Where the reads go on.
    pub(crate) fn resume(&self) -> BTreeMap<usize, Resume> {
        let from = |(at, (index, splits)): (usize, &(usize, u32))| {
            let resume = match at.cmp(&self.mark.0) {
                std::cmp::Ordering::Less => Resume { split: *splits, from: Rows(0) },
                std::cmp::Ordering::Equal => self.mark.1,
                std::cmp::Ordering::Greater => Resume::default(),
            };
            (*index, resume)
        };
        self.sources.iter().enumerate().map(from).collect()
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
