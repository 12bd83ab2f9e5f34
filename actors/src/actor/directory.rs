//! The directory: which actor has which name, with whom it ends, and what is free where for the next one.
//!
//! There is one on the head, and one in a session of one process. [`Table`] is the thinking; [`Directory`] passes calls on
//! to the nodes. An actor's number holds that of its node's life, so a message finds its way without a look here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mobula_transport::CallError;
use tokio::sync::Notify;

use super::host::ActorHost;
use super::message::{ActorAnswer, ActorCall, ActorOrder, DirectoryCall, PlaceFrame};
use super::places::Places;
use super::{ActorError, ActorId, NODE_ACTORS_MAX};
use crate::block::NodeId;
use crate::cluster::ids::NodeName;
use crate::cluster::link::CALL_DEADLINE;
use crate::cluster::members::Members;
use crate::cluster::membership::State;
use crate::cluster::messages::HeadCall;
use crate::cluster::placement::{Amounts, Cores, Need, NoPlace, NodeView, Wish, place};
use crate::job::Resources;

/// What a spawn may take longer here than on the node, which then says itself that it took too long.
const SPAWN_SLACK: Duration = CALL_DEADLINE;

/// The directory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    members: Option<Arc<Members>>,
    here: Option<HereNode>,
    table: Mutex<Table>,
    /// Something may have a place now.
    freed: Notify,
    next: AtomicU64,
    /// Those of the calls to each node.
    places: Mutex<BTreeMap<u64, Arc<Places>>>,
}

/// The directory's own node.
pub(crate) struct HereNode {
    pub(crate) name: Arc<str>,
    pub(crate) resources: Resources,
    pub(crate) host: ActorHost,
}

/// The actors that end with one caller's connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Owned(Arc<Mutex<Option<BTreeSet<ActorId>>>>);

impl Owned {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(BTreeSet::new()))))
    }

    /// `false` if the caller is gone already.
    fn add(&self, id: ActorId) -> bool {
        self.lock().as_mut().map(|owned| owned.insert(id)).is_some()
    }

    fn remove(&self, id: ActorId) {
        if let Some(owned) = self.lock().as_mut() {
            owned.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeSet<ActorId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node on which an actor may be placed.
#[derive(Debug, Clone)]
struct Candidate {
    number: u64,
    name: NodeName,
    state: State,
    resources: Resources,
}

/// What the directory knows of actors.
#[derive(Debug, Default)]
struct Table {
    names: BTreeMap<String, ActorId>,
    actors: BTreeMap<ActorId, Known>,
}

#[derive(Debug)]
struct Known {
    name: Option<String>,
    /// What it holds, with its devices; `None` if nothing.
    holds: Option<(Need, Vec<u32>)>,
}

impl Table {
    /// Chooses a node for one more actor and notes it.
    fn add(
        &mut self,
        nodes: &[Candidate],
        name: Option<&str>,
        wanted: &Resources,
        number: u64,
    ) -> Result<ActorId, NoPlace> {
        let mut views: Vec<NodeView> = nodes.iter().map(|node| self.view(node, wanted)).collect();
        let wish = Wish { resources: wanted.clone(), labels: wanted.labels.clone(), ..Wish::default() };
        let mut places = place(&views, &wish);
        if places.as_ref().is_err_and(NoPlace::is_later) {
            // A node that is silent for a moment is better than none.
            views.iter_mut().for_each(|view| view.state = State::Alive);
            places = place(&views, &wish);
        }
        let places = places?;
        let chosen = nodes.iter().zip(&mut views).find(|(node, _)| places.iter().any(|(name, _)| *name == node.name));
        let Some((node, view)) = chosen else { return Err(NoPlace::Later { min: 1, fit: 0 }) };
        let id = ActorId { node: node.number, number };
        let holds = if *wanted == Resources::cpu(0.0) {
            None
        } else {
            let need = Need::new(wanted).map_err(NoPlace::Amount)?;
            let devices = view.free.take(&need, Cores::Held).unwrap_or_default();
            Some((need, devices))
        };
        self.actors.insert(id, Known { name: name.map(str::to_owned), holds });
        if let Some(name) = name {
            self.names.insert(name.to_owned(), id);
        }
        Ok(id)
    }

    fn view(&self, node: &Candidate, wanted: &Resources) -> NodeView {
        let total = Amounts::of(&node.resources);
        let mut free = total.clone();
        let mut workers = 0u32;
        for (_, known) in self.actors.iter().filter(|(id, _)| id.node == node.number) {
            workers += 1;
            if let Some((need, devices)) = &known.holds {
                free.hold(need, devices);
            }
        }
        if wanted.cpus == 0.0 {
            // Those that ask for no cores spread as if each took one.
            free.cpu_milli -= i64::from(workers) * 1000;
        }
        let (name, labels) = (node.name.clone(), node.resources.labels.clone());
        let workers_max = NODE_ACTORS_MAX as u32;
        NodeView {
            node: name,
            state: node.state,
            total,
            free,
            labels,
            workers: 0,
            workers_max: workers_max - workers.min(workers_max),
        }
    }

    fn remove(&mut self, id: ActorId) {
        let name = self.actors.remove(&id).and_then(|known| known.name);
        if let Some(name) = name.filter(|name| self.names.get(name) == Some(&id)) {
            self.names.remove(&name);
        }
    }

    /// Forgets the actors of lives that are over.
    fn retain(&mut self, lives: impl Fn(u64) -> bool) {
        let mut nodes: BTreeSet<u64> = self.actors.keys().map(|id| id.node).collect();
        nodes.retain(|node| !lives(*node));
        let gone: Vec<ActorId> = self.actors.keys().copied().filter(|id| nodes.contains(&id.node)).collect();
        gone.into_iter().for_each(|id| self.remove(id));
    }
}

impl Directory {
    /// That of a head, or (without members) of a session of one process.
    pub(crate) fn new(members: Option<Arc<Members>>, here: Option<HereNode>) -> Self {
        let (table, next, places) = (Mutex::default(), AtomicU64::new(1), Mutex::default());
        Self { inner: Arc::new(Inner { members, here, table, freed: Notify::new(), next, places }) }
    }

    /// The actors of the directory's own node.
    pub(crate) fn here(&self) -> Option<&ActorHost> {
        self.inner.here.as_ref().map(|here| &here.host)
    }

    /// Does what a caller asks.
    pub(crate) async fn serve(&self, call: DirectoryCall, owned: &Owned) -> ActorAnswer {
        match call {
            DirectoryCall::Spawn { place, name, detached, order } => {
                self.spawn(&place, name, detached, order, owned).await.into()
            }
            DirectoryCall::Lookup { name } => self.lookup(name).into(),
            DirectoryCall::Detach { id } => {
                owned.remove(id);
                ActorAnswer::Done
            }
            DirectoryCall::To { id, call: ActorCall::Stop } => {
                owned.remove(id);
                self.stop(id).await
            }
            DirectoryCall::To { call: ActorCall::Spawn { .. }, .. } => {
                Err(ActorError::Refused("an actor's number is the directory's to give".to_owned())).into()
            }
            DirectoryCall::To { id, call } => self.pass(id, call, CALL_DEADLINE).await,
            DirectoryCall::Ended { id } => {
                owned.remove(id);
                self.ended(id);
                ActorAnswer::Done
            }
            DirectoryCall::Lives { node } => {
                if self.lives(node) {
                    ActorAnswer::Done
                } else {
                    Err(ActorError::NodeLost).into()
                }
            }
        }
    }

    /// Stops the actors of a caller that is gone.
    pub(crate) async fn caller_gone(&self, owned: &Owned) {
        let all = owned.lock().take();
        for id in all.unwrap_or_default() {
            tracing::info!(actor = %id, "stopping an actor whose spawner is gone");
            self.stop(id).await;
        }
    }

    /// An actor has ended by itself: its name and what it held are free.
    pub(crate) fn ended(&self, id: ActorId) {
        self.table().remove(id);
        self.look();
    }

    /// There may be a place now for those that wait for one, or none any more: actors or nodes have come or gone.
    pub(crate) fn look(&self) {
        self.inner.freed.notify_waiters();
    }

    async fn spawn(
        &self,
        place: &PlaceFrame,
        name: Option<String>,
        detached: bool,
        order: ActorOrder,
        owned: &Owned,
    ) -> Result<ActorAnswer, ActorError> {
        let within = order.within;
        let placed = tokio::time::timeout(within, self.placed(place, name.as_deref(), &order.resources)).await;
        let in_use = |wanted: &Resources| format!("what it asks for ({wanted}) stayed in use for {within:?}");
        let id = placed.unwrap_or_else(|_| Err(ActorError::NoPlace(in_use(&order.resources))))?;
        if !detached && !owned.add(id) {
            self.ended(id);
            return Err(ActorError::NotHere);
        }
        let answer = self.pass(id, ActorCall::Spawn { order }, within + SPAWN_SLACK).await;
        // The caller may have gone while it was spawned, or it came up too late to be wanted.
        let wanted = matches!(answer, ActorAnswer::Is { .. }) && (detached || owned.lock().is_some());
        if !wanted {
            owned.remove(id);
            self.stop(id).await;
        }
        Ok(answer)
    }

    /// A place for an actor, waiting for one.
    async fn placed(&self, place: &PlaceFrame, name: Option<&str>, wanted: &Resources) -> Result<ActorId, ActorError> {
        loop {
            let freed = self.inner.freed.notified();
            match self.try_place(place, name, wanted)? {
                Some(id) => return Ok(id),
                None => freed.await,
            }
        }
    }

    fn try_place(
        &self,
        place: &PlaceFrame,
        name: Option<&str>,
        wanted: &Resources,
    ) -> Result<Option<ActorId>, ActorError> {
        let nodes = self.candidates(place)?;
        let mut table = self.table();
        table.retain(|node| self.lives(node));
        if let Some(name) = name.filter(|name| table.names.contains_key(*name)) {
            return Err(ActorError::NameTaken(name.to_owned()));
        }
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        match table.add(&nodes, name, wanted, number) {
            Ok(id) => Ok(Some(id)),
            Err(NoPlace::Later { .. }) if !nodes.is_empty() => Ok(None),
            Err(NoPlace::Later { .. }) => Err(ActorError::NoPlace("there is no node to run on".to_owned())),
            Err(error) => Err(ActorError::NoPlace(error.to_string())),
        }
    }

    /// The nodes to choose from.
    fn candidates(&self, place: &PlaceFrame) -> Result<Vec<Candidate>, ActorError> {
        let mut nodes = self.nodes();
        let names: Vec<String> = nodes.iter().map(|node| node.name.to_string()).collect();
        match place {
            PlaceFrame::Anywhere => return Ok(nodes),
            PlaceFrame::Named(name) => nodes.retain(|node| node.name.to_string() == *name),
            PlaceFrame::Numbered(number) => nodes.retain(|node| node.number == *number),
        }
        match (place, nodes.is_empty()) {
            (PlaceFrame::Named(name), true) => {
                Err(ActorError::NoPlace(format!("no node {name:?} is alive; there are: {}", names.join(", "))))
            }
            (_, true) => Err(ActorError::NodeLost),
            _ => Ok(nodes),
        }
    }

    fn lookup(&self, name: String) -> Result<ActorAnswer, ActorError> {
        let id = self.table().names.get(&name).copied().filter(|id| self.lives(id.node));
        id.map(|id| ActorAnswer::Is { id }).ok_or(ActorError::NoSuchName(name))
    }

    async fn stop(&self, id: ActorId) -> ActorAnswer {
        let answer = self.pass(id, ActorCall::Stop, CALL_DEADLINE).await;
        self.ended(id);
        answer
    }

    /// The nodes that actors may be placed on.
    fn nodes(&self) -> Vec<Candidate> {
        let Inner { members, here, .. } = &*self.inner;
        let mut nodes = Vec::new();
        if let Some(HereNode { name, resources, host }) = here
            && let Ok(name) = NodeName::new(name)
        {
            nodes.push(Candidate { number: host.node(), name, state: State::Alive, resources: resources.clone() });
        }
        for node in members.iter().flat_map(|members| members.list()) {
            let state = match node.state.as_str() {
                "alive" => State::Alive,
                "suspect" => State::Suspect,
                _ => continue,
            };
            if let Ok(name) = NodeName::new(&node.name) {
                nodes.push(Candidate { number: node.number, name, state, resources: node.resources });
            }
        }
        nodes
    }

    fn lives(&self, node: u64) -> bool {
        let Inner { members, here, .. } = &*self.inner;
        here.as_ref().is_some_and(|here| here.host.node() == node)
            || members.as_ref().is_some_and(|members| members.control(NodeId(node)).is_some())
    }

    async fn pass(&self, ActorId { node, number: actor }: ActorId, call: ActorCall, deadline: Duration) -> ActorAnswer {
        let Inner { members, here, .. } = &*self.inner;
        if let Some(here) = here.as_ref().filter(|here| here.host.node() == node) {
            return here.host.serve(actor, call).await;
        }
        let Some(control) = members.as_ref().and_then(|members| members.control(NodeId(node))) else {
            return Err(ActorError::NodeLost).into();
        };
        let places = self.places(node);
        let answer = places.call(call.kind(), deadline, |waited| async move {
            let call = HeadCall::Actor { actor, call: call.after(waited) };
            control.call::<_, ActorAnswer>(&call, deadline).await.map_err(|error| lost(error, deadline))
        });
        answer.await.map_err(ActorError::Deadline).flatten().into()
    }

    fn places(&self, node: u64) -> Arc<Places> {
        let mut all = self.inner.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = all.get(&node) {
            return Arc::clone(places);
        }
        // Only with a new node: each call of an actor comes by here.
        all.retain(|node, _| self.lives(*node));
        Arc::clone(all.entry(node).or_default())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost(error: CallError, deadline: Duration) -> ActorError {
    match error {
        CallError::Deadline(_) => ActorError::Deadline(deadline),
        // The node lets calls go without an answer only when its life ends.
        CallError::Closed(_) | CallError::Unanswered => ActorError::NodeLost,
        other => ActorError::Refused(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(number: u64, cpus: f64, gpus: f64) -> Candidate {
        let name = NodeName::new(&format!("n{number}")).expect("a name");
        Candidate { number, name, state: State::Alive, resources: Resources { gpus, ..Resources::cpu(cpus) } }
    }

    fn gpus(gpus: f64) -> Resources {
        Resources { gpus, ..Resources::cpu(0.0) }
    }

    #[test]
    fn actors_that_ask_for_nothing_spread_over_the_nodes() {
        let (mut table, nodes) = (Table::default(), [node(1, 2.0, 0.0), node(2, 2.0, 0.0)]);
        let mut count = BTreeMap::new();
        for number in 0..10 {
            let id = table.add(&nodes, None, &Resources::cpu(0.0), number).expect("there is room");
            *count.entry(id.node).or_insert(0) += 1;
        }
        assert_eq!(count, BTreeMap::from([(1, 5), (2, 5)]));
    }

    #[test]
    fn a_name_is_free_again_when_its_actor_or_its_node_is_gone() {
        let (mut table, nodes) = (Table::default(), [node(1, 2.0, 0.0)]);
        let id = table.add(&nodes, Some("a"), &Resources::cpu(0.0), 1).expect("there is room");
        assert_eq!(table.names.get("a"), Some(&id));
        table.remove(id);
        assert!(table.names.is_empty());
        table.add(&nodes, Some("a"), &Resources::cpu(0.0), 2).expect("there is room");
        table.retain(|node| node != 1);
        assert!(table.names.is_empty() && table.actors.is_empty());
    }

    #[test]
    fn what_no_node_has_is_named() {
        let (mut table, nodes) = (Table::default(), [node(1, 2.0, 1.0)]);
        let error = table.add(&nodes, None, &gpus(2.0), 1).expect_err("one device");
        assert_eq!(error.to_string(), "no node can ever give gpu 2 (the most that one has is 1)");
        table.add(&nodes, None, &gpus(1.0), 2).expect("it is free");
        assert!(table.add(&nodes, None, &gpus(1.0), 3).expect_err("in use").is_later());
    }

    proptest! {
        #[test]
        fn devices_are_never_given_twice(asks in proptest::collection::vec((0u64..4, any::<bool>()), 1..60)) {
            let nodes = [node(1, 8.0, 2.0), node(2, 8.0, 1.0)];
            let (mut table, mut live) = (Table::default(), Vec::new());
            for (number, (share, remove)) in (0..).zip(asks) {
                if remove && !live.is_empty() {
                    table.remove(live.swap_remove(0));
                }
                let wanted = gpus([0.25, 0.5, 1.0, 2.0][share as usize]);
                live.extend(table.add(&nodes, None, &wanted, number));
                let mut used = BTreeMap::new();
                for (id, known) in &table.actors {
                    let Some((need, devices)) = &known.holds else { continue };
                    let mut one = Amounts::of(&gpus(4.0));
                    one.hold(need, devices);
                    for device in devices {
                        let milli = 1000 - one.gpu_milli[*device as usize];
                        *used.entry((id.node, *device)).or_insert(0) += milli;
                    }
                }
                prop_assert!(used.values().all(|milli| *milli <= 1000), "{used:?}");
            }
        }
    }
}
