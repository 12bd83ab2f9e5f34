//! The room that the results of an operator take before they leave it: an edge of this node's room, or what the head
//! grants to a worker elsewhere.

use super::held_back::HeldBack;
use crate::block::BlockRef;
use crate::pool::grants::Grants;
use crate::runtime::room::{Permit, RoomEdge};
use crate::units::Bytes;

/// Where the workers of a pool take room from.
pub(crate) enum Window {
    /// From this node's own budget, with the results that wait in it where order is kept.
    Edge(RoomEdge, Option<HeldBack>),
    /// From the head, which owns the window of all nodes.
    Granted(Grants),
}

/// What came of asking for room.
pub(crate) enum Took {
    Room(Permit),
    /// The window was closed: nobody needs more of this operator.
    Closed,
    /// An older task needs a worker: this one goes back to the queue.
    PutBack,
}

impl Window {
    /// Room for one thing of `bytes` for the task, if there is some.
    pub(crate) fn try_take(&self, bytes: Bytes, seq: u64) -> Option<Permit> {
        match self {
            Self::Edge(edge, _) => edge.try_take(bytes, seq),
            Self::Granted(grants) => grants.try_take(bytes, seq),
        }
    }

    /// The same, waiting for it.
    pub(crate) async fn take(&self, bytes: Bytes, seq: u64) -> Took {
        match self {
            Self::Edge(edge, _) => edge.take(bytes, seq).await.map_or(Took::Closed, Took::Room),
            Self::Granted(grants) => grants.take(bytes, seq).await,
        }
    }

    /// Room whatever the rules say.
    pub(crate) fn force(&self, bytes: Bytes) -> Permit {
        match self {
            Self::Edge(edge, _) => edge.force(bytes),
            Self::Granted(grants) => grants.force(bytes),
        }
    }

    /// Lets the next thing of this task in, once, whatever the rules say.
    pub(crate) fn make_urgent(&self, seq: u64) {
        match self {
            Self::Edge(edge, _) => edge.make_urgent(seq),
            Self::Granted(_) => debug_assert!(false, "the window of an operator's actor is an edge"),
        }
    }

    /// A result that will leave in its turn.
    pub(crate) fn put(&self, task: u64, block: &BlockRef, room: &mut Permit) {
        if let Some(held) = self.held_back() {
            held.put(task, block, room);
        }
    }

    /// All results of younger tasks wait for this one, and for nothing else.
    pub(crate) fn hold(&self, oldest: Option<u64>) {
        if let Some(held) = self.held_back() {
            held.hold(oldest);
        }
    }

    /// For a worker that waits for room: makes some, where results are held back for long. May be dropped at any time.
    pub(crate) async fn relieve(&self) {
        match self.held_back() {
            Some(held) => held.relieve().await,
            None => std::future::pending().await,
        }
    }

    fn held_back(&self) -> Option<&HeldBack> {
        match self {
            Self::Edge(_, held) => held.as_ref(),
            Self::Granted(_) => None,
        }
    }

    /// The edge of this node's room, if it is one.
    pub(crate) fn edge(&self) -> Option<&RoomEdge> {
        match self {
            Self::Edge(edge, _) => Some(edge),
            Self::Granted(_) => None,
        }
    }

    /// Ends it: who waits is told so.
    pub(crate) fn close(&self) {
        match self {
            Self::Edge(edge, _) => edge.close(),
            Self::Granted(grants) => grants.close(),
        }
    }
}
