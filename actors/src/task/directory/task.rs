//! A task as the head knows it: with its result, for as long as it runs or may have to run again.

use super::super::ids::{ObjectId, PartyId};
use super::super::wire::{ArgFrame, TaskFrame};
use super::class::ClassId;

/// A task. Function and resources are with its class.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) args: Box<[ArgFrame]>,
    /// References inside the arguments' values that were known when it came.
    pub(super) contained: Box<[ObjectId]>,
    pub(super) class: ClassId,
    /// Tries in all.
    pub(super) attempts: u32,
    pub(super) phase: Phase,
    /// Number of the last attempt; none comes again, also when the task is run again after its end.
    pub(super) attempt: u32,
    /// Attempts that counted, of this making.
    pub(super) tries: u32,
    /// Attempts that did not count, of this making.
    pub(super) spared: u32,
    /// How often it was run again after its end.
    pub(super) remakes: u32,
    pub(super) stream: bool,
    /// Its submitter has heard how it ended.
    pub(super) told: bool,
    /// It holds the lineage of what it refers to.
    pub(super) keeps_lineage: bool,
    /// Who submitted it is gone or was cancelled: without a holder it has no purpose.
    pub(super) orphan: bool,
    more: Option<Box<More>>,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// So many of its arguments are not ready.
    Blocked(u32),
    /// In the queue of its class, with this number.
    Queued(u64),
    /// An attempt is with this node.
    Running(PartyId),
    Ended,
}

/// What few tasks have.
#[derive(Debug, Default)]
pub(super) struct More {
    pub(super) parent: Option<ObjectId>,
    /// Tasks that it submitted; some may have ended.
    pub(super) children: Vec<ObjectId>,
    /// Children at which those that have ended are forgotten.
    pub(super) children_prune: usize,
    /// Nodes where attempts failed, of this making.
    pub(super) avoid: Vec<PartyId>,
    /// Items that the last attempt has sent.
    pub(super) items: u32,
    /// Items that the submitter has been told of.
    pub(super) items_told: u32,
    /// Items that the submitter has taken.
    pub(super) taken: u32,
    /// Items that are made again.
    pub(super) awaited: Vec<u32>,
}

impl Task {
    pub(super) fn new(frame: TaskFrame, class: ClassId, contained: Vec<ObjectId>) -> Self {
        let more = frame.parent.map(|parent| Box::new(More { parent: Some(parent), ..More::default() }));
        Self {
            args: frame.args.into(),
            contained: contained.into(),
            class,
            attempts: frame.attempts.max(1),
            phase: Phase::Blocked(0),
            attempt: 0,
            tries: 0,
            spared: 0,
            remakes: 0,
            stream: frame.stream,
            told: false,
            keeps_lineage: false,
            orphan: false,
            more,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// References among its arguments, in order; one may be there twice.
    pub(super) fn arg_refs(&self) -> impl Iterator<Item = ObjectId> {
        self.args.iter().filter_map(|arg| if let ArgFrame::Ref(id) = arg { Some(*id) } else { None })
    }

    /// All that it refers to.
    pub(super) fn refs(&self) -> Vec<ObjectId> {
        self.arg_refs().chain(self.contained.iter().copied()).collect()
    }

    /// Bytes of arguments that the head keeps for it.
    pub(super) fn inline_bytes(&self) -> usize {
        let bytes = |arg: &ArgFrame| if let ArgFrame::Value(blob) = arg { blob.0.len() } else { 0 };
        self.args.iter().map(bytes).sum()
    }

    pub(super) fn more(&self) -> Option<&More> {
        self.more.as_deref()
    }

    pub(super) fn more_mut(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    pub(super) fn avoid(&self) -> &[PartyId] {
        self.more().map_or(&[], |more| more.avoid.as_slice())
    }
}

impl Task {
    /// A new attempt of a stream begins: up to which item nobody need wait for them to be taken, if any.
    pub(super) fn more_items(&mut self) -> Option<u32> {
        if !self.stream {
            return None;
        }
        let all_were_sent = self.remakes > 0;
        let more = self.more_mut();
        more.items = 0;
        let taken = if all_were_sent { u32::MAX } else { more.taken };
        (taken > 0).then_some(taken)
    }
}
