//! Tasks: one call of an operator on given inputs, and what a worker reports about it.

use std::sync::Arc;

use super::input::segments_of;
use crate::block::{BlockRef, NodeId, Origins, Segment, Segments};
use crate::operator::{BoxError, Split};
use crate::runtime::room::Permit;
use crate::runtime::watch::Exit;
use crate::units::Rows;

/// One task of an operator, as its workers get it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Its number in the operator, in input order.
    pub(crate) seq: u64,
    /// Which try this is, from 1.
    pub(crate) attempt: u32,
    /// What it works on.
    pub(crate) input: TaskInput,
    /// Input rows whose results were passed on by earlier attempts.
    pub(crate) from: Rows,
    /// Where this attempt ends, if the input does not end before.
    pub(crate) until: Rows,
    /// The worker that failed it last: another one is preferred.
    pub(crate) avoid: Option<usize>,
}

/// What a task works on.
#[derive(Debug, Clone)]
pub(crate) enum TaskInput {
    /// A split, by its number in the plan, up to a row.
    Split(u32, Arc<Split>, Rows),
    /// Rows of blocks, in order.
    Pieces(Arc<[Piece]>),
}

impl TaskInput {
    /// The node that most of its bytes are on, if it has any.
    pub(crate) fn home(&self) -> Option<NodeId> {
        let Self::Pieces(pieces) = self else { return None };
        let largest = pieces.iter().max_by_key(|piece| piece.rows)?;
        Some(largest.arrived.block.home)
    }

    /// Its blocks, if they have no rows and only tell which segments are finished.
    pub(crate) fn without_rows(&self) -> Option<impl Iterator<Item = BlockRef>> {
        match self {
            Self::Pieces(pieces) if pieces.iter().all(|piece| piece.arrived.block.rows == Rows(0)) => {
                Some(pieces.iter().map(|piece| piece.arrived.block.clone()))
            }
            _ => None,
        }
    }

    /// Whether some of its blocks are on disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        match self {
            Self::Split(..) => false,
            Self::Pieces(pieces) => pieces.iter().any(|piece| piece.arrived.block.is_on_disk()),
        }
    }

    /// Reads those back, on this thread.
    pub(crate) fn restore(&self) -> Result<(), BoxError> {
        let Self::Pieces(pieces) = self else { return Ok(()) };
        pieces.iter().try_for_each(|piece| piece.arrived.block.bring().map(drop))
    }

    /// The row behind its last; [`Segment::END`] if nobody knows.
    pub(crate) fn end(&self) -> Rows {
        match self {
            Self::Split(_, split, to) => split.rows.unwrap_or(Segment::END).min(*to),
            Self::Pieces(pieces) => Rows(pieces.iter().map(|piece| piece.rows as u64).sum()),
        }
    }

    /// What one of its rows stands for, at the operator of this index, and where it comes from.
    pub(crate) fn segments_of(&self, operator: u32, row: Rows) -> (Segments, Origins) {
        match self {
            Self::Split(split, ..) => {
                let row = Segment { source: operator, split: *split, from: row, to: row + Rows(1) };
                (Segments::one(row), Origins::one(row))
            }
            Self::Pieces(pieces) => segments_of(pieces, row, row + Rows(1)),
        }
    }

    /// What it is, for errors.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Split(_, split, _) => split.label.clone(),
            Self::Pieces(pieces) => {
                let rows: usize = pieces.iter().map(|piece| piece.rows).sum();
                format!("{rows} rows")
            }
        }
    }
}

/// Some rows of a block that arrived. The block's room is given back when its last piece is done.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) arrived: Arc<Arrived>,
    pub(crate) from: usize,
    pub(crate) rows: usize,
}

/// A block at an operator's port, with the room it takes there.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) block: BlockRef,
    /// `None` where somebody else counts it: the head, for a task on the block's home node.
    pub(crate) _room: Option<Permit>,
    /// Whether all segments that came up to it are whole with it.
    pub(crate) whole: bool,
    /// Whether rows between it and the block before it were finished by an earlier run.
    pub(crate) apart: bool,
}

/// A result that has not left its operator yet, with the room it takes in the operator's window.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) block: BlockRef,
    pub(crate) room: Permit,
}

/// What an operator learns about its workers.
#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// Results of a task, and how far it is: the rows of its input that they (and earlier ones) stand for.
    Emitted { seq: u64, attempt: u32, results: Vec<Held>, progress: Rows, done: bool },
    /// An attempt failed; in a call, it was with the rows up to `reached`, [`Segment::END`] if nobody knows.
    Failed { seq: u64, attempt: u32, worker: usize, reached: Option<Rows>, cause: Arc<BoxError> },
    /// The task waits for a worker again, to go on where its results end.
    PutBack { seq: u64, attempt: u32 },
    /// The worker lost the task at hand (if any), without a word from itself.
    Lost { seq: u64, attempt: u32, worker: usize, exit: Exit },
    /// Parts of a task's input that were given up, with the reason.
    Skipped { seq: u64, reasons: Vec<String> },
    /// Its first worker has its lease.
    Leased,
}
