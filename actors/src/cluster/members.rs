//! The nodes as the head knows them: their connections and numbers beside what the pure [`membership`] says of them.
//!
//! [`membership`]: super::membership

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mobula_transport::{Connection, Lane, Peer, codec};

use super::ids::{Incarnation, NodeName};
use super::member::FACTS_BYTES_MAX;
use super::membership::{About, Change, Closed, Event, Limits, Membership};
use super::messages::{Admitted, NodeFacts, NodeInfo};
use crate::block::NodeId;

/// The nodes that are or were here.
pub(crate) struct Members {
    state: Mutex<State>,
}

struct State {
    membership: Membership,
    /// What came with each life, by name and incarnation.
    lives: BTreeMap<(NodeName, Incarnation), Life>,
    next_number: u64,
    /// Events that nobody has handled yet.
    news: Vec<Event>,
}

struct Life {
    number: NodeId,
    facts: NodeFacts,
    control: Option<Connection>,
    data: Option<Connection>,
    /// Whether jobs may be placed on it.
    ready: bool,
}

/// A node both of whose connections are here.
pub(crate) struct Arrived {
    pub(crate) number: NodeId,
    pub(crate) name: NodeName,
    pub(crate) facts: NodeFacts,
    pub(crate) control: Connection,
    pub(crate) data: Connection,
}

impl Members {
    pub(crate) fn new() -> Self {
        let state = State {
            membership: Membership::new(Limits::default()),
            lives: BTreeMap::new(),
            next_number: 1,
            news: Vec::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Whether a node may connect: by its first connection it joins, by the other it belongs to a life that has.
    /// What follows from it is among the [`news`](Self::news).
    pub(crate) fn admit(&self, now: Duration, peer: &Peer) -> Result<Admitted, String> {
        let key = key(peer)?;
        let mut state = self.lock();
        if let Some(life) = state.lives.get(&key) {
            return Ok(Admitted { number: life.number.0 });
        }
        let facts: NodeFacts =
            codec::decode(&peer.about.details, FACTS_BYTES_MAX).map_err(|error| error.to_string())?;
        let about = About {
            resources: facts.resources.clone(),
            labels: facts.resources.labels.clone(),
            address: peer.about.address.map(|address| address.to_string()).unwrap_or_default(),
            version: facts.version.clone(),
        };
        let joined = state.membership.on_join(now, key.0.clone(), key.1, about);
        let events = joined.map_err(|refusal| chain(&refusal))?;
        let number = NodeId(state.next_number);
        state.next_number += 1;
        state.lives.insert(key, Life { number, facts, control: None, data: None, ready: false });
        // A life that it replaces is over.
        state.news.extend(events);
        Ok(Admitted { number: number.0 })
    }

    /// A connection of a node is open; both are here once the second is.
    pub(crate) fn connected(&self, connection: Connection) -> Option<Arrived> {
        let (name, incarnation) = key(connection.peer()).ok()?;
        let mut state = self.lock();
        let life = state.lives.get_mut(&(name.clone(), incarnation))?;
        match connection.lane() {
            Lane::Control => life.control = Some(connection),
            Lane::Data => life.data = Some(connection),
        }
        let (control, data) = (life.control.clone()?, life.data.clone()?);
        Some(Arrived { number: life.number, name, facts: life.facts.clone(), control, data })
    }

    /// Jobs may be placed on this node from now on.
    pub(crate) fn ready(&self, number: NodeId) {
        if let Some(life) = self.lock().lives.values_mut().find(|life| life.number == number) {
            life.ready = true;
        }
    }

    pub(crate) fn heartbeat(
        &self,
        now: Duration,
        name: &NodeName,
        incarnation: Incarnation,
    ) -> Result<Vec<Event>, String> {
        self.lock().membership.on_heartbeat(now, name, incarnation).map_err(|refusal| refusal.to_string())
    }

    pub(crate) fn draining(
        &self,
        now: Duration,
        name: &NodeName,
        incarnation: Incarnation,
    ) -> Result<Vec<Event>, String> {
        self.lock().membership.on_drain(now, name, incarnation).map_err(|refusal| refusal.to_string())
    }

    /// A connection was lost: the life is over, since its task streams are.
    pub(crate) fn closed(&self, now: Duration, name: &NodeName, incarnation: Incarnation) -> Vec<Event> {
        let mut state = self.lock();
        let drained = state.membership.member(name).is_some_and(|member| member.draining);
        let left = drained.then(|| state.membership.on_leave(now, name, incarnation).ok()).flatten();
        left.unwrap_or_else(|| state.membership.on_closed(now, name, incarnation, Closed::Gone))
    }

    /// The head itself did not run for a while.
    pub(crate) fn paused(&self, now: Duration, pause: Duration) {
        self.lock().membership.on_pause(now, pause);
    }

    /// Time has gone by.
    pub(crate) fn tick(&self, now: Duration) -> Vec<Event> {
        let mut state = self.lock();
        let mut events = std::mem::take(&mut state.news);
        events.extend(state.membership.tick(now));
        events
    }

    /// What has happened since this was asked, or time went by, and was not told to whoever caused it.
    pub(crate) fn news(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock().news)
    }

    /// What an event ends: the number and connections of a life that is over.
    pub(crate) fn ended(&self, event: &Event) -> Option<(NodeId, Option<Connection>, Option<Connection>)> {
        if !matches!(event.change, Change::Dead(_) | Change::Left) {
            return None;
        }
        let life = self.lock().lives.remove(&(event.node.clone(), event.incarnation))?;
        Some((life.number, life.control, life.data))
    }

    /// Of news that a node is silent, or is not any more: its number, and which of the two.
    pub(crate) fn silence(&self, event: &Event) -> Option<(NodeId, bool)> {
        let silent = match event.change {
            Change::Suspect => true,
            Change::Recovered => false,
            _ => return None,
        };
        let life = self.lock().lives.get(&(event.node.clone(), event.incarnation))?.number;
        Some((life, silent))
    }

    /// A node's name, and where it listens for others.
    pub(crate) fn address(&self, number: u64) -> Option<(String, String)> {
        let state = self.lock();
        let ((name, _), _) = state.lives.iter().find(|(_, life)| life.number.0 == number)?;
        state.membership.member(name).map(|member| (name.to_string(), member.about.address.clone()))
    }

    /// The way to a node whose life goes on.
    pub(crate) fn control(&self, number: NodeId) -> Option<Connection> {
        self.lock().lives.values().find(|life| life.number == number)?.control.clone()
    }

    /// All nodes, also some that are gone, for people.
    pub(crate) fn list(&self) -> Vec<NodeInfo> {
        let state = self.lock();
        let info = |member: &super::membership::Member| {
            let life = state.lives.get(&(member.node.clone(), member.incarnation));
            let lives = member.state.is_live();
            let joining = lives && life.is_some_and(|life| !life.ready);
            let state = match (joining, lives && member.draining) {
                (true, _) => "joining".to_owned(),
                (_, true) => "draining".to_owned(),
                _ => member.state.to_string(),
            };
            NodeInfo {
                name: member.node.to_string(),
                number: life.map_or(0, |life| life.number.0),
                state,
                address: member.about.address.clone(),
                resources: member.about.resources.clone(),
                memory_budget: life.map(|life| life.facts.memory_budget).unwrap_or_default(),
            }
        };
        state.membership.members().map(info).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A life of a node: the name from its certificate, the incarnation from its Hello.
pub(crate) fn key(peer: &Peer) -> Result<(NodeName, Incarnation), String> {
    let name = NodeName::new(peer.node.as_str()).map_err(|error| error.to_string())?;
    Ok((name, Incarnation(peer.about.incarnation)))
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    crate::job::texts(error).join(": ")
}
