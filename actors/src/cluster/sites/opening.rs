//! How the pools of an operator are opened on their nodes: at once if their workers take turns on cores, else when it is
//! their turn to get leases; and tasks go there once they have one. See `cluster/gate.rs`.

use ractor::ActorRef;

use super::{OpenSite, SitesMessage, SitesState};
use crate::cluster::placement::division::Leases;
use crate::cluster::site::PoolOrder;
use crate::runtime::tasks::spawn;

impl OpenSite {
    /// Whether tasks run there now or soon: also while it is being opened.
    pub(super) fn takes_tasks(&self) -> bool {
        // With the others only it may wait for leases until another job ends, and meanwhile this one would hold its own.
        !self.ended && (self.leased || self.leases == Leases::First)
    }

    /// Whether its pool waits for its turn, or is being opened.
    pub(super) fn is_to_open(&self) -> bool {
        self.to.is_none() && !self.ended && self.leases != Leases::None
    }
}

impl SitesState {
    pub(super) fn open(&self, myself: &ActorRef<SitesMessage>, orders: Vec<PoolOrder>) {
        for (site, order) in orders.into_iter().enumerate() {
            let Some(open) = self.sites.get(site) else { continue };
            let (there, myself) = (std::sync::Arc::clone(&open.site), myself.clone());
            let needs_leases = open.leases != Leases::None;
            let turn = self.gate.pass((self.pool.index, there.id()));
            spawn(async move {
                let together = match needs_leases {
                    true => turn.await,
                    false => Some(0),
                };
                let Some(together) = together else { return };
                let link = there.open(PoolOrder { together, ..order }).await;
                // A pool that is gone drops the link, which ends the other side.
                let _ = myself.cast(SitesMessage::Opened { site, link });
            });
        }
    }

    /// A worker there has its lease.
    pub(super) fn leased(&mut self, myself: &ActorRef<SitesMessage>, site: usize) {
        let Some(open) = self.sites.get_mut(site).filter(|open| !open.ended) else { return };
        self.gate.done((self.pool.index, open.site.id()));
        if !std::mem::replace(&mut open.leased, true) {
            self.pull_all(myself, site);
        }
    }

    /// No more tasks come: pools that were not told to open need not be.
    pub(super) fn resign(&mut self) {
        for open in self.sites.iter_mut().filter(|open| open.is_to_open()) {
            open.ended = self.gate.resign((self.pool.index, open.site.id()));
        }
    }
}
