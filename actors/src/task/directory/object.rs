//! A stored value as the head knows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::error::TaskError;
use super::super::ids::{ObjectId, PartyId};
use super::super::wire::{Blob, ValueFrame};
use super::limits::LEAF_BYTES_MAX;
use super::task::Task;
use crate::units::Bytes;

/// What is known of a name. Forgotten when nobody holds it, its task has ended and no other is made from it.
#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) state: State,
    /// Parties that hold it; how often is with the party.
    pub(super) parties: u32,
    /// Tasks that have not ended and values that refer to it, as often as they do.
    pub(super) refs: u32,
    /// Tasks that have ended and would need it to be run again; items count for the task of their stream.
    pub(super) lineage: u32,
    pub(super) waiters: Option<Box<Waiters>>,
    /// How it is made; of an item, see the value of its task. Nothing if it was put, or never need be made again.
    pub(super) task: Option<Box<Task>>,
}

/// How it is with a value.
#[derive(Debug, Default)]
pub(super) enum State {
    /// Its task is on its way, or is run again.
    #[default]
    Pending,
    Ready(Box<Value>),
    Failed(Arc<TaskError>),
    /// It was ready and nobody held it; only its lineage is kept.
    Freed,
}

/// A value that is there.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) content: Content,
    /// References inside it; it holds each of them.
    pub(super) contained: Vec<ObjectId>,
    /// Nodes that were sent it, or where to fetch it, with a task.
    pub(super) told: Vec<PartyId>,
}

/// Where a value is.
#[derive(Debug)]
pub(super) enum Content {
    Inline(Blob),
    Located { bytes: Bytes, at: Vec<PartyId> },
}

/// Who is told when the value is ready or will never be.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pub(super) parties: Vec<PartyId>,
    /// Tasks that have it as an argument, and how often.
    pub(super) tasks: BTreeMap<ObjectId, u32>,
}

impl Object {
    /// Whether its value is needed.
    pub(super) fn is_held(&self) -> bool {
        self.parties > 0 || self.refs > 0 || self.waiters.as_ref().is_some_and(|waiters| !waiters.parties.is_empty())
    }

    pub(super) fn value(&self) -> Option<&Value> {
        if let State::Ready(value) = &self.state { Some(value) } else { None }
    }

    pub(super) fn is_at(&self, node: PartyId) -> bool {
        self.value().is_some_and(|value| value.at().contains(&node))
    }

    /// Its task, if that has not ended.
    pub(super) fn active(&mut self) -> Option<&mut Task> {
        self.task.as_deref_mut().filter(|task| !task.has_ended())
    }
}

impl Value {
    /// Nodes that have it, if it is too large for the head.
    pub(super) fn at(&self) -> &[PartyId] {
        match &self.content {
            Content::Inline(_) => &[],
            Content::Located { at, .. } => at,
        }
    }

    /// Bytes of it that the head keeps.
    pub(super) fn inline_bytes(&self) -> usize {
        if let Content::Inline(blob) = &self.content { blob.0.len() } else { 0 }
    }

    /// Whether it is kept where only lineage needs it.
    pub(super) fn is_leaf(&self) -> bool {
        matches!(&self.content, Content::Inline(blob) if blob.0.len() <= LEAF_BYTES_MAX) && self.contained.is_empty()
    }

    pub(super) fn frame(&self) -> ValueFrame {
        match &self.content {
            Content::Inline(blob) => ValueFrame::Inline(blob.clone()),
            Content::Located { bytes, at } => ValueFrame::Located { bytes: *bytes, nodes: at.clone() },
        }
    }
}
