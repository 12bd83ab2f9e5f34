//! What a pool reported, on its way to the actor. Blocks that a report names stay on their node until they are let go: if
//! nobody takes it, since the actor has ended, it lets them go itself.

use std::sync::Arc;

use crate::block::{Home, NodeId};
use crate::cluster::frames::FromPool;
use crate::cluster::site::Site;

/// A frame of a node's pool.
pub(crate) struct Reported {
    /// `None` once it was taken.
    frame: Option<FromPool>,
    node: NodeId,
    home: Arc<dyn Home>,
}

impl Reported {
    pub(super) fn new(frame: FromPool, site: &dyn Site) -> Self {
        Self { frame: Some(frame), node: site.id(), home: site.home() }
    }

    /// From here on whoever takes it answers for its blocks.
    pub(super) fn take(mut self) -> Option<FromPool> {
        self.frame.take()
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        let Some(FromPool::Emitted { results, .. }) = self.frame.take() else { return };
        let own = results.iter().filter(|name| name.home == self.node);
        own.for_each(|name| self.home.release(name.id));
    }
}
