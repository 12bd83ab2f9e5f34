//! What a process knows of one stored value.

use std::sync::Arc;

use super::waiter::Waiter;
use crate::task::call::Submitted;
use crate::task::error::TaskError;
use crate::task::ids::{ObjectId, PartyId};
use crate::task::value::Value;
use crate::units::Bytes;

/// A stored value, here or to be.
pub(super) struct Slot {
    /// References in this process: handles, arguments of tasks, values that contain it.
    pub(super) refs: u32,
    /// The task that makes it, if that was submitted here: it stays until that has ended, whoever holds it.
    pub(super) making: Option<Arc<Submitted>>,
    /// Bytes of a copy here that the head knows of; the head says when it may go.
    pub(super) lent: Option<u64>,
    /// The head tells when it is ready.
    pub(super) told: bool,
    /// How often the head has told this process of it.
    pub(super) grants: u64,
    pub(super) state: SlotState,
    /// References inside its value, each counted once on its behalf.
    pub(super) contained: Vec<ObjectId>,
    waiting: Option<Box<Waiting>>,
}

/// Where the value is.
pub(super) enum SlotState {
    Pending,
    Ready(Value),
    /// On other nodes.
    Away {
        bytes: Bytes,
        nodes: Vec<PartyId>,
        fetching: bool,
    },
    Failed(Box<TaskError>),
}

/// Who waits for it.
#[derive(Default)]
pub(super) struct Waiting {
    /// Attempts of tasks, by their results. One that does not wait any more may still stand here.
    pub(super) tasks: Vec<(ObjectId, u32)>,
    pub(super) threads: Vec<Arc<Waiter>>,
}

impl Slot {
    pub(super) fn new(refs: u32) -> Self {
        Self {
            refs,
            making: None,
            lent: None,
            told: false,
            grants: 0,
            state: SlotState::Pending,
            contained: Vec::new(),
            waiting: None,
        }
    }

    /// Whether it is ready or will never be.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, SlotState::Ready(_) | SlotState::Failed(_))
    }

    /// Whether nobody needs it any more.
    pub(super) fn is_free(&self) -> bool {
        self.refs == 0 && self.making.is_none() && self.lent.is_none()
    }

    pub(super) fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }

    /// Takes out who waits.
    pub(super) fn take_waiting(&mut self) -> Waiting {
        self.waiting.take().map(|waiting| *waiting).unwrap_or_default()
    }

    pub(super) fn forget_thread(&mut self, waiter: &Arc<Waiter>) {
        if let Some(waiting) = &mut self.waiting {
            waiting.threads.retain(|other| !Arc::ptr_eq(other, waiter));
        }
    }
}
