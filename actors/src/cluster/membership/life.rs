//! One life of a node: how it is, and what can happen to it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::About;
use crate::cluster::ids::{Incarnation, NodeName};

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// There is word of it.
    Alive,
    /// There is word of it, and it wants to leave: no new work.
    Draining,
    /// No word for a while, or its connection was lost: no new work, nothing is taken from it yet.
    Suspect,
    /// Its life has ended; what it had is lost.
    Dead,
    /// Its life has ended on its own wish; it handed back what it had.
    Left,
}

impl State {
    /// Whether its life has not ended.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Draining | Self::Suspect)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Left => "left",
        })
    }
}

/// One life of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Whose.
    pub node: NodeName,
    /// Which.
    pub incarnation: Incarnation,
    /// How it is.
    pub state: State,
    /// Whether it wants to leave, also while it is suspect.
    pub draining: bool,
    /// When `state` began, since the head's start.
    pub since: Duration,
    /// When there last was word of it, since the head's start.
    pub last_word: Duration,
    /// What it said about itself.
    pub about: About,
}

/// What happened to a life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub node: NodeName,
    /// Which.
    pub incarnation: Incarnation,
    /// What.
    pub change: Change,
}

/// The events of one life: `Joined` first; `Suspect` and `Recovered` in turn; `Draining` at most once; `Dead` or `Left`
/// at the end, after which there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is there and may get work.
    Joined,
    /// It gets no new work until there is word of it.
    Suspect,
    /// There is word of it again; if it is draining, it still gets no new work.
    Recovered,
    /// It gets no new work and will leave.
    Draining,
    /// Its blocks and tasks are lost, and what it may still send is void.
    Dead(Cause),
    /// It is gone and has left nothing behind.
    Left,
}

/// Why a life is held to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No word for [`Limits::dead`](super::Limits::dead).
    Silent,
    /// Its process is known to have ended.
    Gone,
    /// The same node joined as a new incarnation.
    Replaced,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "there was no word of it for too long",
            Self::Gone => "its process has ended",
            Self::Replaced => "it was started again",
        })
    }
}

impl Member {
    /// Changes the state of a life that has not ended.
    pub(super) fn turn(&mut self, at: Duration, state: State, change: Change) -> Event {
        debug_assert!(self.state.is_live(), "a life that has ended changes no more");
        (self.state, self.since) = (state, at.max(self.since));
        Event { node: self.node.clone(), incarnation: self.incarnation, change }
    }
}
