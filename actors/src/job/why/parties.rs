//! From a picture of a job to the graph of its waits, and what each party says of itself.
//!
//! Workers that wait for the same are one party: a pool may have hundreds. Of what an operator waits for, it names what is
//! in its way first: room to pass a block on, or else its oldest task, or else its inputs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::graph::Graph;
use super::picture::{
    At, DriverAt, InputAt, InputPicture, JobPicture, LeasePicture, OperatorPicture, PlacedPool, PoolPicture, RoomWait,
    ShellPicture, TaskPicture, WorkerPicture,
};
use super::text::{and_more, for_time, quoted};

/// Who waits or is waited for. An operator is named by its index, a pool by its place in the operator's list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    /// A worker in user code, the longest first.
    Busy {
        less: std::cmp::Reverse<Duration>,
        operator: usize,
        pool: usize,
        worker: usize,
    },
    Lease {
        operator: usize,
        pool: usize,
    },
    Fetch {
        operator: usize,
        pool: usize,
        seq: u64,
    },
    Peer {
        node: u64,
    },
    Node {
        name: Arc<str>,
    },
    OtherJobs {
        node: Option<Arc<str>>,
    },
    Driver,
    DriverPort,
    Operator {
        operator: usize,
    },
    Port {
        operator: usize,
    },
    Window {
        operator: usize,
    },
    Copies {
        operator: usize,
        pool: usize,
    },
    Task {
        operator: usize,
        seq: u64,
    },
    Pool {
        operator: usize,
        pool: usize,
    },
    Turns {
        node: Option<Arc<str>>,
    },
    /// Workers that wait for the same.
    Waiting {
        operator: usize,
        pool: usize,
        kind: Kind,
    },
}

/// What workers wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Input,
    Turn,
    Room,
}

/// An operator of a picture, with what its actor says.
#[derive(Clone, Copy)]
struct Of<'a> {
    picture: &'a JobPicture,
    index: usize,
    operator: &'a OperatorPicture,
    shell: &'a ShellPicture,
}

impl Of<'_> {
    fn name(&self) -> String {
        quoted(&self.operator.name)
    }

    fn node(&self, pool: usize) -> Option<Arc<str>> {
        self.operator.pools.get(pool).and_then(|placed| placed.node.clone())
    }
}

/// The graph, with what each party says.
#[derive(Default)]
pub(crate) struct Parties {
    pub(crate) graph: Graph<Party>,
    says: BTreeMap<Party, String>,
    /// Names of nodes, by number.
    names: BTreeMap<u64, Arc<str>>,
}

impl Parties {
    pub(crate) fn of(picture: &JobPicture) -> Self {
        let placed = picture.operators.iter().flat_map(|operator| &operator.pools);
        let names = placed.filter_map(|placed| Some((placed.number, placed.node.clone()?))).collect();
        let mut parties = Self { names, ..Self::default() };
        for (index, operator) in picture.operators.iter().enumerate() {
            match &operator.shell {
                Some(shell) if shell.done => parties.busy_workers(index, operator),
                Some(shell) => parties.operator(Of { picture, index, operator, shell }),
                None => {
                    let says = format!("the actor of operator {} does not answer", quoted(&operator.name));
                    parties.enter(Party::Operator { operator: index }, says);
                    parties.busy_workers(index, operator);
                }
            }
        }
        parties.driver(picture);
        parties
    }

    /// What a party says of itself.
    pub(crate) fn says(&self, party: &Party) -> &str {
        self.says.get(party).map_or("somebody", String::as_str)
    }

    fn enter(&mut self, party: Party, says: String) {
        self.graph.party(party.clone());
        self.says.insert(party, says);
    }

    fn driver(&mut self, picture: &JobPicture) {
        let since = for_time(picture.driver.since);
        let last = picture.operators.iter().enumerate().next_back();
        let last = last.filter(|(_, operator)| !is_done(operator)).map(|(operator, _)| Party::Operator { operator });
        let (says, whom) = match picture.driver.at {
            DriverAt::Away => (format!("nobody has asked for the next block of results {since}"), None),
            DriverAt::Asks => (format!("the driver waits for the next block of results {since}"), last),
            DriverAt::Restores => (format!("a block of results is being read back from disk {since}"), None),
            DriverAt::Records => (format!("results are being recorded in the ledger {since}"), None),
            DriverAt::Fetches(node) => {
                let peer = self.peer(node);
                (format!("the driver's block of results is being fetched {since}"), Some(peer))
            }
        };
        self.enter(Party::Driver, says);
        if let Some(whom) = whom {
            self.graph.edge(Party::Driver, whom);
        }
    }

    fn peer(&mut self, node: u64) -> Party {
        let party = Party::Peer { node };
        let says = match self.names.get(&node) {
            Some(name) => format!("node {name} sends a block"),
            None => format!("node number {node} sends a block"),
        };
        self.enter(party.clone(), says);
        party
    }

    fn operator(&mut self, of: Of) {
        let Of { picture, index, operator, shell } = of;
        let (party, name) = (Party::Operator { operator: index }, of.name());
        self.workers(of);
        if let Some(wait) = &shell.leaving {
            let RoomWait { bytes, since, .. } = wait;
            self.enter(party.clone(), format!("operator {name} waits to pass {bytes} on {}", for_time(*since)));
            let port = self.port(of, wait);
            return self.graph.edge(party, port);
        }
        if let Some(task) = &shell.oldest {
            let tasks = shell.running;
            self.enter(party.clone(), format!("operator {name} waits for the oldest of its {tasks} tasks"));
            let task = self.task(of, task);
            return self.graph.edge(party, task);
        }
        self.enter(party.clone(), format!("operator {name} waits for input"));
        let open = |input: &&usize| picture.operators.get(**input).is_some_and(|input| !is_done(input));
        for &input in operator.inputs.iter().filter(open) {
            self.graph.edge(party.clone(), Party::Operator { operator: input });
        }
    }

    /// The port that an operator's blocks leave for.
    fn port(&mut self, Of { picture, index, .. }: Of, RoomWait { room, .. }: &RoomWait) -> Party {
        let consumer = picture.operators.iter().position(|operator| operator.inputs.contains(&index));
        let full = format!("is full: {} blocks of {} (it may hold {})", room.things, room.taken, room.of);
        let Some(operator) = consumer else {
            self.enter(Party::DriverPort, format!("the port of the driver {full}"));
            self.graph.edge(Party::DriverPort, Party::Driver);
            return Party::DriverPort;
        };
        let name = picture.operators.get(operator).map(|operator| quoted(&operator.name)).unwrap_or_default();
        let port = Party::Port { operator };
        self.enter(port.clone(), format!("the port of operator {name} {full}"));
        if picture.operators.get(operator).is_some_and(is_done) {
            self.enter(Party::Operator { operator }, format!("operator {name} is done"));
        }
        self.graph.edge(port.clone(), Party::Operator { operator });
        port
    }

    /// The task that an operator waits for, and who has it.
    fn task(&mut self, of: Of, task: &TaskPicture) -> Party {
        let Of { index, operator, .. } = of;
        let (party, name) = (Party::Task { operator: index, seq: task.seq }, of.name());
        let mut says = format!("task {} of {name} ({}), attempt {},", task.seq, task.what, task.attempt);
        for (pool, placed) in operator.pools.iter().enumerate() {
            if let Some(whom) = self.holder(index, pool, placed, task.seq) {
                let has = if matches!(whom, Party::Node { .. }) { "is there" } else { "is under way" };
                self.enter(party.clone(), format!("{says} {has}"));
                self.graph.edge(party.clone(), whom);
                return party;
            }
        }
        says.push_str(" waits for a worker");
        self.enter(party.clone(), says);
        // On the node that it was sent to, if it was.
        let sent = operator.pools.iter().any(|placed| placed.tasks.contains(&task.seq));
        let there = operator.pools.iter().enumerate().filter(|(_, placed)| !sent || placed.tasks.contains(&task.seq));
        for whom in there.flat_map(|(pool, placed)| free_ones(index, pool, placed)) {
            self.graph.edge(party.clone(), whom);
        }
        if operator.pools.is_empty() {
            others_first(of).for_each(|whom| self.graph.edge(party.clone(), whom));
        }
        party
    }

    /// Who of a pool has the task with this number.
    fn holder(&mut self, operator: usize, pool: usize, placed: &PlacedPool, seq: u64) -> Option<Party> {
        let Some(picture) = &placed.pool else {
            return placed.tasks.contains(&seq).then(|| self.node(placed));
        };
        let has = |worker: &&WorkerPicture| worker.holds.contains(&seq);
        if let Some(worker) = picture.workers.iter().find(has) {
            return Some(party_of(operator, pool, worker));
        }
        let input = picture.inputs.iter().find(|input| input.seq == seq)?;
        Some(self.input(operator, pool, picture, input))
    }

    fn input(&mut self, operator: usize, pool: usize, picture: &PoolPicture, input: &InputPicture) -> Party {
        let InputPicture { seq, at, since } = input;
        let since = for_time(*since);
        match at {
            InputAt::Room(bytes) => {
                let copies = Party::Copies { operator, pool };
                self.enter(copies.clone(), format!("task {seq} waits for room for copies of {bytes} {since}"));
                // Those of tasks that workers have.
                for worker in picture.workers.iter().filter(|worker| !worker.holds.is_empty()) {
                    self.graph.edge(copies.clone(), party_of(operator, pool, worker));
                }
                copies
            }
            InputAt::Fetch(node) => {
                let (fetch, seq) = (Party::Fetch { operator, pool, seq: *seq }, *seq);
                self.enter(fetch.clone(), format!("a block for task {seq} is fetched {since}"));
                let peer = self.peer(*node);
                self.graph.edge(fetch.clone(), peer);
                fetch
            }
        }
    }

    fn node(&mut self, placed: &PlacedPool) -> Party {
        let name = placed.node.clone().unwrap_or_default();
        let says = format!("node {name} did not say within {} what it waits for", super::text::time(placed.silent));
        let party = Party::Node { name };
        self.enter(party.clone(), says);
        party
    }

    /// Those of an operator that is done, which are about to end, or whose actor says nothing.
    fn busy_workers(&mut self, index: usize, operator: &OperatorPicture) {
        for (pool, placed) in operator.pools.iter().enumerate() {
            let workers = placed.pool.iter().flat_map(|pool| &pool.workers);
            workers.filter(|worker| is_busy(worker)).for_each(|worker| self.busy(index, operator, pool, worker));
        }
    }

    fn workers(&mut self, of: Of) {
        let Of { index, operator, .. } = of;
        for (pool, placed) in operator.pools.iter().enumerate() {
            let Some(picture) = &placed.pool else {
                self.node(placed);
                continue;
            };
            for worker in picture.workers.iter().filter(|worker| is_busy(worker)) {
                self.busy(index, operator, pool, worker);
            }
            for kind in [Kind::Input, Kind::Turn, Kind::Room] {
                let waiting: Vec<_> = picture.workers.iter().filter(|worker| kind_of(worker) == Some(kind)).collect();
                if !waiting.is_empty() {
                    self.waiting(of, pool, kind, &waiting);
                }
            }
            if let Some(lease) = &picture.lease {
                self.lease(of, pool, lease);
            }
        }
    }

    fn waiting(&mut self, of: Of, pool: usize, kind: Kind, workers: &[&WorkerPicture]) {
        let Of { picture, index, operator, .. } = of;
        let (party, node) = (Party::Waiting { operator: index, pool, kind }, of.node(pool));
        let longest = for_time(workers.iter().map(|worker| worker.since).max().unwrap_or_default());
        let who = names_of(workers, operator, node.as_ref());
        let what = match kind {
            Kind::Input => "for a task",
            Kind::Turn => "for a turn on a core",
            Kind::Room => "for room for results",
        };
        let (s, longest) = if workers.len() == 1 { ("s", longest) } else { ("", format!("{longest} at most")) };
        self.enter(party.clone(), format!("{who} wait{s} {what} {longest}"));
        let whom = match kind {
            Kind::Input => Party::Operator { operator: index },
            Kind::Turn => self.turns(picture, node),
            Kind::Room => self.window(of),
        };
        self.graph.edge(party, whom);
    }

    fn window(&mut self, of: Of) -> Party {
        let (party, room) = (Party::Window { operator: of.index }, of.shell.window);
        let says = format!("the room for results of {}: {} taken of {}", of.name(), room.taken, room.of);
        self.enter(party.clone(), says);
        self.graph.edge(party.clone(), Party::Operator { operator: of.index });
        party
    }

    /// The cores of a node, which workers of this job or of others have.
    fn turns(&mut self, picture: &JobPicture, node: Option<Arc<str>>) -> Party {
        let party = Party::Turns { node: node.clone() };
        let at = node.as_ref().map_or_else(|| "here".to_owned(), |node| format!("of node {node}"));
        let (mut others, mut left_behind) = (false, 0);
        for (index, operator) in picture.operators.iter().enumerate() {
            let there = operator.pools.iter().enumerate().filter(|(_, placed)| placed.node == node);
            for (pool, picture) in there.filter_map(|(pool, placed)| Some((pool, placed.pool.as_ref()?))) {
                others |= picture.others_compute;
                left_behind = left_behind.max(picture.left_behind);
                for worker in picture.workers.iter().filter(|worker| computes(worker)) {
                    self.graph.edge(party.clone(), party_of(index, pool, worker));
                }
            }
        }
        let mut says = format!("all turns on the cores {at} are out");
        if left_behind > 0 {
            says.push_str(&format!("; calls that were given up, {left_behind} of this job, may be on the cores too"));
        }
        self.enter(party.clone(), says);
        if others {
            let jobs = Party::OtherJobs { node };
            self.enter(jobs.clone(), format!("other jobs compute on the cores {at}"));
            self.graph.edge(party.clone(), jobs);
        }
        party
    }

    fn lease(&mut self, of: Of, pool: usize, lease: &LeasePicture) {
        let (name, index) = (of.name(), of.index);
        let at = of.node(pool).map_or_else(|| "here".to_owned(), |node| format!("on node {node}"));
        let LeasePicture { workers, wanted, since, held_by } = lease;
        let (who, whom) = (Party::Pool { operator: index, pool }, Party::Lease { operator: index, pool });
        let more = if *workers == 1 { "1 more worker".to_owned() } else { format!("{workers} more workers") };
        self.enter(who.clone(), format!("operator {name} waits for {more} {at} {}", for_time(*since)));
        self.enter(whom.clone(), format!("a lease of {wanted} {at} is not free: {held_by}"));
        self.graph.edge(who, whom);
    }

    fn busy(&mut self, index: usize, operator: &OperatorPicture, pool: usize, worker: &WorkerPicture) {
        let node = operator.pools.get(pool).and_then(|placed| placed.node.as_ref());
        let mut says = names_of(&[worker], operator, node);
        says.push_str(&match worker.at {
            At::Opening => format!(" opens {}", for_time(worker.since)),
            At::OnDevice { rows } => format!(" has had {rows} rows on its device {}", for_time(worker.since)),
            At::Device => format!(" waits for its device {}", for_time(worker.since)),
            At::Restoring => format!(" has been reading its input back from disk {}", for_time(worker.since)),
            At::Closing => format!(" has been closing its operator {}", for_time(worker.since)),
            _ => format!(" has been in user code {}", for_time(worker.since)),
        });
        let what = worker.what();
        if !what.is_empty() {
            says.push_str(&format!(", {what}"));
        }
        self.enter(party_of(index, pool, worker), says);
    }
}

fn names_of(workers: &[&WorkerPicture], operator: &OperatorPicture, node: Option<&Arc<str>>) -> String {
    let numbers = and_more(workers.iter().map(|worker| worker.worker.to_string()));
    let who = if workers.len() == 1 { "worker" } else { "workers" };
    let at = node.map_or_else(String::new, |node| format!(" on node {node}"));
    format!("{who} {numbers} of {}{at}", quoted(&operator.name))
}

fn party_of(operator: usize, pool: usize, worker: &WorkerPicture) -> Party {
    match kind_of(worker) {
        Some(kind) => Party::Waiting { operator, pool, kind },
        None => Party::Busy { less: std::cmp::Reverse(worker.since), operator, pool, worker: worker.worker },
    }
}

fn kind_of(worker: &WorkerPicture) -> Option<Kind> {
    match worker.at {
        At::Input => Some(Kind::Input),
        At::Turn => Some(Kind::Turn),
        At::Room(_) => Some(Kind::Room),
        At::Opening | At::Device | At::Computing { .. } | At::OnDevice { .. } => None,
        At::Restoring | At::Closing => None,
    }
}

fn is_busy(worker: &WorkerPicture) -> bool {
    kind_of(worker).is_none()
}

fn computes(worker: &WorkerPicture) -> bool {
    matches!(worker.at, At::Computing { .. })
}

fn is_done(operator: &OperatorPicture) -> bool {
    operator.shell.as_ref().is_some_and(|shell| shell.done)
}

/// An operator whose pools are not open yet waits for those that get their leases before it.
fn others_first(Of { picture, index, .. }: Of<'_>) -> impl Iterator<Item = Party> {
    let others = picture.operators.iter().enumerate().filter(move |(other, _)| *other != index);
    let others = others.filter(|(_, other)| other.shell.as_ref().is_some_and(|shell| !shell.done));
    others.flat_map(|(operator, other)| {
        let waits = move |(pool, placed): (usize, &PlacedPool)| {
            let picture = placed.pool.as_ref().filter(|picture| picture.workers.is_empty())?;
            picture.lease.as_ref().map(|_| Party::Pool { operator, pool })
        };
        other.pools.iter().enumerate().filter_map(waits)
    })
}

/// For whom of a pool a task waits that nobody has: for those who are not idle, or for resources if there is no worker.
fn free_ones(operator: usize, pool: usize, placed: &PlacedPool) -> Vec<Party> {
    let Some(picture) = &placed.pool else { return Vec::new() };
    if picture.workers.is_empty() {
        return picture.lease.iter().map(|_| Party::Pool { operator, pool }).collect();
    }
    let busy = picture.workers.iter().filter(|worker| worker.at != At::Input);
    let busy: Vec<_> = busy.map(|worker| party_of(operator, pool, worker)).collect();
    if busy.is_empty() { vec![Party::Waiting { operator, pool, kind: Kind::Input }] } else { busy }
}
