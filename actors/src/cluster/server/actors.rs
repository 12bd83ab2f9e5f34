//! The head and actors: what nodes and drivers ask of the directory, and streams of messages to actors, its own ones' or
//! those of a node that it passes them on to.

use mobula_transport::{FrameReceiver, FrameSender, IncomingCall, codec};
use serde::Serialize;

use super::super::serve::HEAD_BYTES_MAX;
use super::{HeadServer, Inner, reply};
use crate::actor::Actors;
use crate::actor::directory::Owned;
use crate::actor::inlet;
use crate::actor::message::{ActorAnswer, DirectoryCall, StreamHead};
use crate::block::NodeId;

impl HeadServer {
    /// The actors of the cluster, as the head's own code reaches them.
    pub fn actors(&self) -> Actors {
        Actors::of(self.inner.space.clone())
    }

    /// Answers a caller, unless it gives up first. A spawn is carried through: someone has to stop what comes of it.
    pub(super) async fn directory<T: Serialize>(
        self,
        incoming: IncomingCall,
        call: DirectoryCall,
        owned: Owned,
        answer: fn(ActorAnswer) -> T,
    ) {
        let (cancelled, spawning) = (incoming.cancelled(), matches!(call, DirectoryCall::Spawn { .. }));
        let served = tokio::select! {
            served = self.inner.directory.serve(call, &owned) => served,
            () = cancelled, if !spawning => return,
        };
        reply(incoming, Ok(answer(served))).await;
    }

    /// A stream of messages to the actors of some node. Anything else is dropped, which ends it.
    pub(super) fn messages(&self, head: &[u8], tx: FrameSender, rx: FrameReceiver) {
        let Ok(StreamHead::Actors { to }) = codec::decode(head, HEAD_BYTES_MAX) else { return };
        let Inner { net, members, directory, .. } = &*self.inner;
        match directory.here().filter(|host| host.node() == to) {
            Some(host) => net.spawn(inlet::serve(host.clone(), tx, rx, net.clone())),
            // Dropped, if it is gone: who opened it asks then.
            None => {
                if let Some(control) = members.control(NodeId(to)) {
                    net.spawn(inlet::relay(control, to, tx, rx));
                }
            }
        }
    }
}
