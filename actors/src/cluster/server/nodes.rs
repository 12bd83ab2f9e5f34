//! The head and its nodes: they come, say that they live, are silent, leave.

use std::sync::Arc;
use std::time::Duration;

use mobula_transport::{Connection, Inbound, Lane};

use super::super::link::RemoteSite;
use super::super::member::REPLACED;
use super::super::members::{Arrived, key};
use super::super::membership::{Cause, Change, Event};
use super::super::messages::{NodeAnswer, NodeCall};
use super::{HeadServer, Inner, reply};
use crate::actor::directory::Owned;
use crate::block::NodeId;

/// How often the head looks who was silent.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// A tick that comes so late says that the head itself did not run.
const PAUSE: Duration = Duration::from_millis(750);

impl HeadServer {
    pub(super) fn node(&self, connection: Connection) {
        let Inner { net, members, .. } = &*self.inner;
        self.handle(members.news());
        net.spawn(self.clone().until_closed(connection.clone()));
        match connection.lane() {
            Lane::Control => net.spawn(self.clone().node_calls(connection.clone())),
            Lane::Data => {
                let own = self.inner.agent.lent().clone();
                net.spawn(self.inner.relay.clone().serve(connection.clone(), own, net.clone()));
            }
        }
        if let Some(arrived) = members.connected(connection) {
            self.arrived(arrived);
        }
    }

    fn arrived(&self, arrived: Arrived) {
        let Arrived { number, name, facts, control, data, .. } = arrived;
        let Inner { head, members, net, peers, .. } = &*self.inner;
        tracing::info!(node = %name, number = number.0, cpus = facts.resources.cpus, "a node joined");
        peers.add(number, data.clone());
        let control_of_tasks = control.clone();
        let site = RemoteSite::new(number, name.to_string().into(), control, data, net.clone());
        let desk = self.inner.desk.clone();
        net.spawn(desk.node(number, name.clone(), facts.resources.clone(), control_of_tasks));
        head.add(Arc::new(site), name, &facts.resources, facts.memory_budget);
        members.ready(number);
        self.inner.directory.look();
    }

    /// When either connection of a node is lost, so are its task streams, and with them its life.
    async fn until_closed(self, connection: Connection) {
        let reason = connection.closed().await;
        let Ok((name, incarnation)) = key(connection.peer()) else { return };
        tracing::info!(node = %name, %reason, lane = ?connection.lane(), "a connection of a node ended");
        let events = self.inner.members.closed(self.now(), &name, incarnation);
        self.handle(events);
    }

    fn handle(&self, events: Vec<Event>) {
        let changed = !events.is_empty();
        for event in events {
            tracing::info!(node = %event.node, change = ?event.change, "membership");
            if let Some((number, silent)) = self.inner.members.silence(&event) {
                self.inner.head.suspect(number, silent);
            }
            let Some((number, control, data)) = self.inner.members.ended(&event) else { continue };
            self.inner.head.remove(number);
            self.inner.peers.remove(number);
            for connection in [control, data].into_iter().flatten() {
                let replaced = matches!(event.change, Change::Dead(Cause::Replaced));
                connection.close(if replaced { REPLACED } else { "this incarnation is over; join again" });
            }
        }
        if changed {
            self.inner.directory.look();
        }
    }

    /// Looks who was silent, again and again.
    pub(super) async fn watch(self) {
        let mut last = self.now();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.now();
            if now - last > LOOK + PAUSE {
                self.inner.members.paused(now, now - last - LOOK);
            }
            last = now;
            let events = self.inner.members.tick(now);
            self.handle(events);
        }
    }

    async fn node_calls(self, control: Connection) {
        let Ok((name, incarnation)) = key(control.peer()) else { return };
        let owned = Owned::new();
        while let Ok(inbound) = control.accept().await {
            let call = match inbound {
                Inbound::Call(call) => call,
                Inbound::Stream { head, tx, rx } => {
                    self.messages(&head, tx, rx);
                    continue;
                }
                // Dropped, which ends it: blocks go by the data connection.
                Inbound::Fetch(_) => continue,
            };
            let members = &self.inner.members;
            let answer = match call.decode::<NodeCall>() {
                Ok(NodeCall::Heartbeat) => members.heartbeat(self.now(), &name, incarnation).map(|events| {
                    self.handle(events);
                    NodeAnswer::Noted
                }),
                Ok(NodeCall::Draining) => members.draining(self.now(), &name, incarnation).map(|events| {
                    self.handle(events);
                    self.inner.head.drain(&name.to_string());
                    let number = members.list().into_iter().find(|node| node.name == name.to_string());
                    if let Some(node) = number {
                        self.inner.desk.drain(NodeId(node.number));
                    }
                    NodeAnswer::Noted
                }),
                Ok(NodeCall::Where { number }) => Ok(match members.address(number) {
                    Some((name, address)) => NodeAnswer::At { name, address },
                    None => NodeAnswer::Gone,
                }),
                Ok(NodeCall::Actors { call: asked }) => {
                    let answer = |answer| NodeAnswer::Actors { answer };
                    self.inner.net.spawn(self.clone().directory(call, *asked, owned.clone(), answer));
                    continue;
                }
                Err(error) => Err(error.to_string()),
            };
            reply(call, answer).await;
        }
        self.inner.directory.caller_gone(&owned).await;
    }
}
