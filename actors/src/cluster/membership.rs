//! Membership: who is alive, suspect, dead or gone, in the eyes of the head.
//!
//! A node lives once for each incarnation. A life begins with [`Membership::on_join`] and goes on as long as there is
//! word of it; after [`Limits::suspect`] of silence it is suspect, after [`Limits::dead`] it is dead, and what has ended
//! never comes back: such a node joins again, as a larger incarnation. So a result that names a node and an incarnation
//! can be judged by [`Membership::is_live`] alone.
//!
//! Time leads nowhere by itself: the owner calls [`Membership::tick`] at [`Membership::next_deadline`] and handles what
//! every call returns, in order. It knows no connections and measures nothing.

mod about;
mod life;
#[cfg(test)]
mod tests;

pub use about::{ABOUT_ENTRIES_MAX, ABOUT_TEXT_MAX, AMOUNT_MAX, About, AboutError};
pub use life::{Cause, Change, Event, Member, State};

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::ids::{Incarnation, NodeName};
use crate::plant::{Bug, is_planted};

/// Names of nodes whose incarnations are remembered, so that none comes back from the dead (about 10 MiB). Names are
/// kept until the head ends; more are refused, so nodes that come and go are to use their names again.
pub const NAMES_MAX: usize = 65_536;

/// When silence means something, and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Silence after which a node gets no new work: jobs that start keep away from it. Default 1.5 s: three heartbeats of 0.5 s. Shorter: a busy network
    /// looks like a sick node. Longer: more work goes to nodes that are gone.
    pub suspect: Duration,
    /// Silence after which its work is done elsewhere; not below `suspect`. Default 5 s. Shorter: work of nodes that only
    /// paused is done twice. Longer: a job waits that long for a lost node.
    pub dead: Duration,
    /// Nodes at once, in any state but dead or left. Default 1024: each has connections and heartbeats on the head.
    pub members_max: usize,
    /// Lives that have ended and are still listed. Default 100: enough to see what happened, the oldest go first.
    pub dead_kept: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let (suspect, dead) = (Duration::from_millis(1500), Duration::from_secs(5));
        Self { suspect, dead, members_max: 1024, dead_kept: 100 }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It was lost; the process at the other end may be alive.
    Lost,
    /// The other end is known to be gone: it said so, or its machine did (a reset).
    Gone,
}

/// Why a node is not listened to.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It joins as an incarnation that is over or there.
    #[error("node {node} joins as incarnation {offered}, but incarnation {known} was there; join with a larger one")]
    Incarnation {
        /// The node.
        node: NodeName,
        /// What it wants to be.
        offered: Incarnation,
        /// The largest that was seen.
        known: Incarnation,
    },
    /// There are too many nodes.
    #[error("node {node} cannot join: the cluster has {members_max} nodes, its most; raise `members_max` on the head")]
    Full {
        /// The node.
        node: NodeName,
        /// The limit.
        members_max: usize,
    },
    /// There were too many names.
    #[error("node {node} cannot join: {NAMES_MAX} names were used up; join under a name that was used before")]
    Names {
        /// The node.
        node: NodeName,
    },
    /// What it says about itself is not believed.
    #[error("node {node} cannot join: what it says about itself is out of bounds")]
    About {
        /// The node.
        node: NodeName,
        /// What is wrong.
        #[source]
        source: AboutError,
    },
    /// This incarnation is not a member, or no longer one.
    #[error("incarnation {incarnation} of node {node} is not a member (any more); join as a new incarnation")]
    NotMember {
        /// The node.
        node: NodeName,
        /// What it says it is.
        incarnation: Incarnation,
    },
}

/// The members of a cluster.
///
/// ```
/// use mobula_actors::cluster::ids::{Incarnation, NodeName};
/// use mobula_actors::cluster::membership::{About, Cause, Change, Limits, Membership};
/// use mobula_actors::job::Resources;
/// use std::{collections::BTreeMap, time::Duration};
///
/// let mut membership = Membership::new(Limits::default());
/// let node = NodeName::new("cpu-1")?;
/// let about = About {
///     resources: Resources::cpu(4.0),
///     labels: BTreeMap::new(),
///     address: "127.0.0.1:4433".to_owned(),
///     version: "0.1.0".to_owned(),
/// };
/// membership.on_join(Duration::ZERO, node.clone(), Incarnation(1), about)?;
/// assert_eq!(membership.next_deadline(), Some(Duration::from_millis(1500)));
/// assert_eq!(membership.tick(Duration::from_millis(1500))[0].change, Change::Suspect);
/// assert_eq!(membership.tick(Duration::from_secs(5))[0].change, Change::Dead(Cause::Silent));
/// assert!(membership.on_heartbeat(Duration::from_secs(6), &node, Incarnation(1)).is_err());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Membership {
    limits: Limits,
    /// One life a node at most.
    live: BTreeMap<NodeName, Member>,
    /// Lives that have ended, the oldest end first.
    ended: VecDeque<Member>,
    /// The largest incarnation of each name that ever joined.
    known: BTreeMap<NodeName, Incarnation>,
}

impl Membership {
    /// Nobody is there yet.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { dead: limits.dead.max(limits.suspect), ..limits };
        Self { limits, live: BTreeMap::new(), ended: VecDeque::new(), known: BTreeMap::new() }
    }

    /// A node wants to be a member. If an older life of it is there, that one is dead first.
    ///
    /// # Errors
    /// If its incarnation is not larger than all before, or a limit is reached; nothing changes then.
    pub fn on_join(
        &mut self,
        now: Duration,
        node: NodeName,
        incarnation: Incarnation,
        about: About,
    ) -> Result<Vec<Event>, Refusal> {
        self.check_join(&node, incarnation, &about)?;
        let mut events = Vec::new();
        if let Some(old) = self.live.get(&node).filter(|_| !is_planted(Bug::SkipIncarnation)) {
            // If it was dead of silence already, and only nobody had looked, it is that.
            let silent = due(old.last_word, self.limits.dead) <= now;
            let cause = if silent { Cause::Silent } else { Cause::Replaced };
            let at = if silent { due(old.last_word, self.limits.dead) } else { now };
            events.extend(self.end(&node, at, State::Dead, Change::Dead(cause)));
        }
        self.known.insert(node.clone(), incarnation);
        events.push(Event { node: node.clone(), incarnation, change: Change::Joined });
        let (state, draining, since, last_word) = (State::Alive, false, now, now);
        let member = Member { node: node.clone(), incarnation, state, draining, since, last_word, about };
        self.live.insert(node, member);
        Ok(events)
    }

    fn check_join(&self, node: &NodeName, offered: Incarnation, about: &About) -> Result<(), Refusal> {
        let node = || node.clone();
        match self.known.get(&node()) {
            Some(&known) if offered <= known => {
                return Err(Refusal::Incarnation { node: node(), offered, known });
            }
            None if self.known.len() >= NAMES_MAX => return Err(Refusal::Names { node: node() }),
            _ => {}
        }
        let members_max = self.limits.members_max;
        if self.live.len() >= members_max && !self.live.contains_key(&node()) {
            return Err(Refusal::Full { node: node(), members_max });
        }
        about.check().map_err(|source| Refusal::About { node: node(), source })
    }

    /// There is word of a member: it is alive, also if its connection was lost in between.
    ///
    /// # Errors
    /// If that life is not a member, or has been silent for [`Limits::dead`]: the node has to join anew.
    pub fn on_heartbeat(
        &mut self,
        now: Duration,
        node: &NodeName,
        incarnation: Incarnation,
    ) -> Result<Vec<Event>, Refusal> {
        let member = self.speaking(now, node, incarnation)?;
        member.last_word = member.last_word.max(now);
        if member.state != State::Suspect {
            return Ok(Vec::new());
        }
        let state = if member.draining { State::Draining } else { State::Alive };
        Ok(vec![member.turn(now, state, Change::Recovered)])
    }

    /// A member's connection ended. If it is only lost, the member is suspect at once, and dead at the usual limit unless
    /// there is word of the same incarnation before. Of a life that is over, this is no news.
    pub fn on_closed(&mut self, now: Duration, node: &NodeName, incarnation: Incarnation, how: Closed) -> Vec<Event> {
        let Ok(member) = self.member_mut(node, incarnation) else { return Vec::new() };
        match how {
            Closed::Gone => self.end(node, now, State::Dead, Change::Dead(Cause::Gone)).into_iter().collect(),
            Closed::Lost if member.state == State::Suspect => Vec::new(),
            Closed::Lost => vec![member.turn(now, State::Suspect, Change::Suspect)],
        }
    }

    /// A member wants to leave. Said twice, it is heard once.
    ///
    /// # Errors
    /// As [`Membership::on_heartbeat`].
    pub fn on_drain(
        &mut self,
        now: Duration,
        node: &NodeName,
        incarnation: Incarnation,
    ) -> Result<Vec<Event>, Refusal> {
        let member = self.speaking(now, node, incarnation)?;
        if std::mem::replace(&mut member.draining, true) {
            return Ok(Vec::new());
        }
        // One that is suspect stays so: the wish may be that of the head's operator.
        let (state, since) = match member.state {
            State::Alive => (State::Draining, now),
            other => (other, member.since),
        };
        Ok(vec![member.turn(since, state, Change::Draining)])
    }

    /// A member has handed back what it had, and goes.
    ///
    /// # Errors
    /// As [`Membership::on_heartbeat`].
    pub fn on_leave(
        &mut self,
        now: Duration,
        node: &NodeName,
        incarnation: Incarnation,
    ) -> Result<Vec<Event>, Refusal> {
        self.speaking(now, node, incarnation)?;
        Ok(self.end(node, now, State::Left, Change::Left).into_iter().collect())
    }

    /// The head itself did not run for this long (its tick came late by as much): what members said meanwhile waits
    /// unread, so nobody's silence in that time counts. To be called before the late tick.
    pub fn on_pause(&mut self, now: Duration, pause: Duration) {
        for member in self.live.values_mut() {
            member.last_word = member.last_word.saturating_add(pause).min(now).max(member.last_word);
        }
    }

    /// Time has come to `now`: who is suspect (by name), then who is dead (by time). A member that was silent beyond both
    /// limits since the last tick is first the one and then the other.
    pub fn tick(&mut self, now: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        let mut silent = Vec::new();
        for member in self.live.values_mut() {
            let suspect_at = due(member.last_word, self.limits.suspect);
            if suspect_at <= now && member.state != State::Suspect {
                events.push(member.turn(suspect_at, State::Suspect, Change::Suspect));
            }
            let dead_at = due(member.last_word, self.limits.dead);
            if dead_at <= now {
                silent.push((dead_at, member.node.clone()));
            }
        }
        silent.sort();
        for (at, node) in silent {
            events.extend(self.end(&node, at, State::Dead, Change::Dead(Cause::Silent)));
        }
        events
    }

    /// When [`Membership::tick`] next has something to say if nothing happens before; `None` if nobody is there. It looks
    /// at all members. Word of a member only makes it later, so it need not be asked again until then, but for a join.
    pub fn next_deadline(&self) -> Option<Duration> {
        let next = |member: &Member| match member.state {
            State::Suspect => due(member.last_word, self.limits.dead),
            _ => due(member.last_word, self.limits.suspect),
        };
        self.live.values().map(next).min()
    }

    /// The members that live, by name, then the lives that have ended, the oldest end first.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.live.values().chain(&self.ended)
    }

    /// The life of a node that has not ended.
    pub fn member(&self, node: &NodeName) -> Option<&Member> {
        self.live.get(node)
    }

    /// Whether this very life has not ended: otherwise whatever comes of it is void.
    pub fn is_live(&self, node: &NodeName, incarnation: Incarnation) -> bool {
        self.live.get(node).is_some_and(|member| member.incarnation == incarnation)
    }

    fn member_mut(&mut self, node: &NodeName, incarnation: Incarnation) -> Result<&mut Member, Refusal> {
        let member = self.live.get_mut(node).filter(|member| member.incarnation == incarnation);
        member.ok_or_else(|| Refusal::NotMember { node: node.clone(), incarnation })
    }

    /// A member whose word still counts. Past its limit it does not, even if no tick has said so yet: otherwise the
    /// order of a tick and a late word would decide whether it lives.
    fn speaking(&mut self, now: Duration, node: &NodeName, incarnation: Incarnation) -> Result<&mut Member, Refusal> {
        let dead = self.limits.dead;
        let member = self.member_mut(node, incarnation)?;
        if due(member.last_word, dead) <= now {
            return Err(Refusal::NotMember { node: node.clone(), incarnation });
        }
        Ok(member)
    }

    /// Ends the life of a node that has one.
    fn end(&mut self, node: &NodeName, at: Duration, state: State, change: Change) -> Option<Event> {
        let mut member = self.live.remove(node)?;
        debug_assert!(!state.is_live(), "a life ends dead or left");
        let event = member.turn(at, state, change);
        self.ended.push_back(member);
        let over = self.ended.len().saturating_sub(self.limits.dead_kept);
        self.ended.drain(..over);
        Some(event)
    }
}

/// When silence since `last_word` reaches a limit.
fn due(last_word: Duration, limit: Duration) -> Duration {
    last_word.saturating_add(limit)
}
