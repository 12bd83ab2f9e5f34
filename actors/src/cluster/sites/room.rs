//! Room for tasks that are out on other nodes: it is taken from the operator's window here, and each task that waits for some
//! makes some, as a worker of this process would.

use std::pin::pin;
use std::sync::Arc;

use ractor::ActorRef;
use tokio::sync::oneshot;

use super::{SitesMessage, SitesState};
use crate::cluster::frames::ToPool;
use crate::pool::window::Took;
use crate::pool::worker::PoolShared;
use crate::runtime::tasks::spawn;
use crate::units::Bytes;

/// Who asked for room, and with which of its asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    site: usize,
    slot: usize,
    ask: u64,
}

impl SitesState {
    /// A task that is out asks for room.
    pub(super) fn need_room(
        &mut self,
        myself: &ActorRef<SitesMessage>,
        site: usize,
        seq: u64,
        attempt: u32,
        bytes: Bytes,
    ) {
        let Some(open) = self.sites.get_mut(site) else { return };
        let out = open.out.iter_mut().find(|(_, out)| (out.seq, out.attempt) == (seq, attempt));
        // It has left meanwhile.
        let Some((&slot, out)) = out else { return };
        self.asks += 1;
        let (ask, (waits, left)) = (self.asks, oneshot::channel::<()>());
        out.ask = Some((ask, waits));
        if let Some(permit) = self.pool.window.try_take(bytes, seq) {
            return self.took(myself, Asked { site, slot, ask }, bytes, Took::Room(permit));
        }
        let (pool, myself) = (Arc::clone(&self.pool), myself.clone());
        spawn(async move {
            let took = tokio::select! {
                biased;
                // The task is not there any more: its place among those that wait is given up.
                _ = left => return,
                took = wait_for_room(&pool, bytes, seq) => took,
            };
            let _ = myself.cast(SitesMessage::Took { asked: Asked { site, slot, ask }, bytes, took });
        });
    }

    /// An ask is over.
    pub(super) fn took(
        &mut self,
        myself: &ActorRef<SitesMessage>,
        Asked { site, slot, ask }: Asked,
        bytes: Bytes,
        took: Took,
    ) {
        let out = self.sites.get_mut(site).and_then(|open| open.out.get_mut(&slot));
        let Some(out) = out.filter(|out| out.ask.as_ref().is_some_and(|(number, _)| *number == ask)) else {
            if matches!(took, Took::PutBack) {
                self.pool.queue.pass_on();
            }
            return;
        };
        out.ask = None;
        let (seq, attempt) = (out.seq, out.attempt);
        let answer = match took {
            Took::Room(permit) => {
                match &mut out.room {
                    Some(room) => room.absorb(permit),
                    None => out.room = Some(permit),
                }
                ToPool::Room { seq, attempt, bytes }
            }
            Took::PutBack => ToPool::PutBack { seq, attempt },
            // The job is ending and says so to the node.
            Took::Closed => return,
        };
        self.send_or_lose(myself, site, answer);
    }
}

/// Room for a task; meanwhile its place among those that wait makes some, as a worker of this process would.
async fn wait_for_room(pool: &PoolShared, bytes: Bytes, seq: u64) -> Took {
    let mut take = pin!(pool.window.take(bytes, seq));
    let mut older = pin!(pool.queue.older_than(seq));
    loop {
        tokio::select! {
            biased;
            took = &mut take => return took,
            () = &mut older => return Took::PutBack,
            () = pool.window.relieve() => {}
        }
    }
}
