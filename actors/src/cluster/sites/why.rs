//! Asks the nodes of an operator what its workers there wait for, one round at a time.
//!
//! `Why` begins a round, or joins the one that is under way; each node's answer is a frame of its stream. A round ends with
//! the last answer, or by `WhyDue`. A node that has not answered is not asked again before it has: it would only get
//! more to read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ractor::{ActorRef, RpcReplyPort};

use super::{OpenSite, SitesMessage, SitesState};
use crate::cluster::frames::ToPool;
use crate::job::why::picture::{PlacedPool, PoolPicture};
use crate::runtime::alarm::Alarm;

/// Time for the nodes' answers, which they give from memory.
const NODES_TIME: Duration = Duration::from_secs(1);

/// The round that is under way, and who has still to answer an earlier one.
#[derive(Default)]
pub(super) struct Asking {
    replies: Vec<RpcReplyPort<Vec<PlacedPool>>>,
    answers: BTreeMap<usize, PoolPicture>,
    /// By site, since when.
    unanswered: BTreeMap<usize, Duration>,
    waited_for: BTreeSet<usize>,
    due: Option<Alarm>,
}

impl SitesState {
    /// Somebody asks.
    pub(super) fn ask_why(&mut self, myself: &ActorRef<SitesMessage>, reply: RpcReplyPort<Vec<PlacedPool>>) {
        self.asking.replies.push(reply);
        if self.asking.due.is_some() {
            return;
        }
        let now = self.pool.env.now();
        for site in 0..self.sites.len() {
            let open = self.sites.get(site).is_some_and(|open| !open.ended);
            let owes = self.asking.unanswered.contains_key(&site);
            if open && (owes || self.send(site, ToPool::Why)) {
                self.asking.unanswered.entry(site).or_insert(now);
                self.asking.waited_for.insert(site);
            }
        }
        self.asking.due = Some(Alarm::set(myself, NODES_TIME, || SitesMessage::WhyDue));
        self.answer_if_all();
    }

    /// A node answers.
    pub(super) fn on_why(&mut self, site: usize, picture: PoolPicture) {
        self.asking.unanswered.remove(&site);
        if self.asking.waited_for.remove(&site) {
            self.asking.answers.insert(site, picture);
            self.answer_if_all();
        }
    }

    fn answer_if_all(&mut self) {
        if self.asking.waited_for.is_empty() {
            self.answer_why();
        }
    }

    /// Says what there is.
    pub(super) fn answer_why(&mut self) {
        let now = self.pool.env.now();
        let Asking { replies, mut answers, unanswered, .. } = std::mem::take(&mut self.asking);
        let placed = |(site, open): (usize, &OpenSite)| PlacedPool {
            node: Some(open.site.name()),
            number: open.site.id().0,
            tasks: open.out.values().map(|out| out.seq).collect(),
            pool: answers.remove(&site),
            silent: unanswered.get(&site).map_or(Duration::ZERO, |since| now.saturating_sub(*since)),
        };
        let pools: Vec<_> =
            self.sites.iter().enumerate().filter(|(_, open)| !open.ended && !open.is_to_open()).map(placed).collect();
        self.asking.unanswered = unanswered;
        for reply in replies {
            // Who asked may not wait any longer.
            let _ = reply.send(pools.clone());
        }
    }
}
