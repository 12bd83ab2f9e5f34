//! A site: a node as the head sees it when it places the pools of a job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::frames::{FromPool, ToPool};
use super::gate::{Gate, Stages};
use super::ids::NodeName;
use super::membership::State;
use super::placement::division::{Leases, Shares, Wanted, divide};
use super::placement::{Amounts, Cores, NodeView, Wish};
use crate::block::{Block, BlockId, BlockName, Home, NodeId};
use crate::job::{GivenUp, JobError, OperatorPlan, Resources, Topology, Weight, Workers};
use crate::logs::JobLogs;
use crate::node::workers_max;
use crate::operator::{BoxError, Left};
use crate::pool::supervisor::Beginning;
use crate::runtime::room::Room;
use crate::scheduler::First;
use crate::store::spill::SpillOutcome;
use crate::units::Bytes;

/// A node on which pools can be opened.
pub(crate) trait Site: Send + Sync {
    /// Its number, which its blocks carry.
    fn id(&self) -> NodeId;

    /// Its name, for errors and logs.
    fn name(&self) -> Arc<str>;

    /// Opens a pool there.
    fn open(&self, order: PoolOrder) -> BoxFuture<'static, Result<PoolLink, BoxError>>;

    /// It wants to leave: no more tasks for it.
    fn drain(&self) {}

    /// Whether it wants to leave.
    fn is_draining(&self) -> bool {
        false
    }

    /// The way to its blocks.
    fn home(&self) -> Arc<dyn Home>;
}

/// The nodes that a job runs on, with the workers that each takes of all.
#[derive(Clone, Default)]
pub(crate) struct Sites {
    /// The job, by its number on the head.
    pub(crate) job: u64,
    /// Each with what it offers.
    pub(crate) nodes: Vec<Placed>,
    /// Blocks of the job on all nodes together are counted here.
    pub(crate) room: Option<Room>,
    /// Who keeps blocks of the job.
    pub(crate) lenders: Lenders,
    /// What its operators log.
    pub(crate) logs: JobLogs,
    /// How often the job was started before.
    pub(crate) run: u32,
    /// What its reads have left, by operator; one that is not named here has everything left.
    pub(crate) left: BTreeMap<usize, Vec<Left>>,
    /// Where rows that it gives up are counted over all its runs.
    pub(crate) given_up: Option<GivenUp>,
}

impl Sites {
    /// What this operator has left of so many splits, if it is a read.
    pub(crate) fn left(&self, operator: usize, splits: usize) -> Vec<Left> {
        self.left.get(&operator).cloned().unwrap_or_else(|| (0..splits as u32).map(Left::all).collect())
    }

    /// How many workers of each operator go to each node, and in which order their pools are opened.
    ///
    /// # Errors
    /// If the nodes cannot run all operators at once, saying which one and what is missing.
    pub(crate) fn divide(&self, topology: &Topology) -> Result<Divided, JobError> {
        let views: Vec<NodeView> = self.nodes.iter().map(|placed| placed.view.clone()).collect();
        // A driver may ask for any number, as in a local job: it gets what makes sense.
        let most = views.iter().map(|view| view.workers_max as usize).sum::<usize>().max(1);
        let with_workers = topology.operators.iter().enumerate().filter(|(_, plan)| plan.has_workers());
        let (indices, wanted): (Vec<usize>, Vec<Wanted>) =
            with_workers.map(|(index, plan)| (index, wanted(plan, most))).unzip();
        let shares = divide(&views, &wanted).map_err(|(at, reason)| {
            let operator = wanted.get(at).map(|wanted| Arc::clone(&wanted.name)).unwrap_or_default();
            JobError::Infeasible { operator, reason }
        })?;
        let shares: BTreeMap<usize, Vec<PoolShare>> =
            indices.into_iter().zip(shares).map(|(index, shares)| (index, self.shares(&shares))).collect();
        let pools = shares
            .iter()
            .flat_map(|(index, shares)| shares.iter().map(|share| ((*index as u32, share.site.id()), share.leases)));
        let gate = Gate::new(Stages::new(pools));
        Ok(Divided { shares, gate })
    }

    fn shares(&self, shares: &Shares) -> Vec<PoolShare> {
        let share = |placed: &Placed| {
            let share = shares.get(&placed.view.node)?;
            Some(PoolShare { site: Arc::clone(&placed.site), workers: share.workers as usize, leases: share.leases })
        };
        self.nodes.iter().filter_map(share).collect()
    }
}

/// How the operators of a job are divided among nodes.
pub(crate) struct Divided {
    /// By operator.
    pub(crate) shares: BTreeMap<usize, Vec<PoolShare>>,
    /// What the pools pass before they are opened.
    pub(crate) gate: Gate,
}

/// The part of an operator that goes to a node.
#[derive(Clone)]
pub(crate) struct PoolShare {
    pub(crate) site: Arc<dyn Site>,
    pub(crate) workers: usize,
    pub(crate) leases: Leases,
}

fn wanted(plan: &OperatorPlan, most: usize) -> Wanted {
    let within = |workers: usize| workers.clamp(1, most);
    let wish = Wish {
        resources: plan.held(),
        workers: Workers { min: within(plan.workers.min), max: within(plan.workers.max) },
        labels: plan.resources.labels.clone(),
        cores: Cores::Shared,
        ..Wish::default()
    };
    Wanted { name: Arc::clone(&plan.name), wish }
}

/// A node and what it offers.
#[derive(Clone)]
pub(crate) struct Placed {
    pub(crate) site: Arc<dyn Site>,
    pub(crate) view: NodeView,
    pub(crate) budget: Bytes,
}

impl Placed {
    pub(crate) fn new(site: Arc<dyn Site>, node: NodeName, resources: &Resources, budget: Bytes) -> Self {
        let total = Amounts::of(resources);
        let labels = resources.labels.clone();
        let workers_max = workers_max(budget) as u32;
        let view = NodeView { node, state: State::Alive, free: total.clone(), total, labels, workers: 0, workers_max };
        Self { site, view, budget }
    }
}

/// What a pool on another node is made of.
#[derive(Debug, Clone)]
pub(crate) struct PoolOrder {
    /// The job, by its number on the head.
    pub(crate) job: u64,
    /// The job's share of the node's cores.
    pub(crate) weight: Weight,
    /// Index of the operator in the job's topology.
    pub(crate) index: u32,
    /// The operator, without its splits: tasks bring them.
    pub(crate) plan: OperatorPlan,
    /// Most workers of the pool on this node.
    pub(crate) workers: usize,
    /// Steps to the sink.
    pub(crate) depth: usize,
    pub(crate) block_bytes: Bytes,
    pub(crate) batch_bytes: Bytes,
    /// How often the job was started before.
    pub(crate) run: u32,
    /// How long a call may take, if not what the node is set to.
    pub(crate) task_progress_limit: Option<Duration>,
    /// Whether rows at fault are looked for.
    pub(crate) isolates: bool,
    /// Pools of this run on the node, itself among them, whose first workers get their leases together; none if the job goes
    /// on without its workers.
    pub(crate) together: u32,
}

impl PoolOrder {
    /// How a pool on a node begins: other workers come with its tasks.
    pub(crate) fn begins(&self) -> Beginning {
        Beginning { workers: usize::from(self.plan.holds()), first: self.first() }
    }

    /// What its first worker gets its lease with.
    pub(crate) fn first(&self) -> Option<First> {
        (self.together > 0).then_some(First { run: self.run, together: self.together })
    }
}

/// Both directions of a task stream. Dropping it ends the pool.
pub(crate) struct PoolLink {
    pub(crate) to: mpsc::Sender<ToPool>,
    pub(crate) from: mpsc::Receiver<FromPool>,
}

/// Frames that may wait on either side of the stream of a pool with so many workers: a task and an answer for each of
/// its slots, and a few more.
pub(crate) fn frames_waiting(workers: usize) -> usize {
    4 * workers + 16
}

/// A way to a node's blocks that counts those of one operator that are still referred to: if the node dies, they are
/// lost.
pub(crate) struct Lender {
    home: Arc<dyn Home>,
    lent: AtomicUsize,
}

impl Lender {
    pub(crate) fn new(home: Arc<dyn Home>) -> Arc<Self> {
        Arc::new(Self { home, lent: AtomicUsize::new(0) })
    }

    /// A reference is about to be made.
    pub(crate) fn lend(&self) {
        self.lent.fetch_add(1, Ordering::Relaxed);
    }

    /// Blocks that are still referred to.
    pub(crate) fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }
}

/// The nodes that keep blocks of a job, also those whose pools have ended. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Lenders {
    all: Arc<Mutex<Vec<(NodeId, Arc<Lender>)>>>,
}

impl Lenders {
    /// One for a pool of the job on a node.
    pub(crate) fn lender(&self, site: &dyn Site) -> Arc<Lender> {
        let lender = Lender::new(site.home());
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push((site.id(), Arc::clone(&lender)));
        lender
    }

    /// The first of these nodes that keeps a block that is still referred to.
    pub(crate) fn first_of(&self, nodes: &BTreeSet<NodeId>) -> Option<NodeId> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(node, lender)| lender.lent() > 0 && nodes.contains(node)).map(|(node, _)| *node)
    }
}

impl Home for Lender {
    fn release(&self, id: BlockId) {
        self.lent.fetch_sub(1, Ordering::Relaxed);
        self.home.release(id);
    }

    fn fetch(&self, name: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
        self.home.fetch(name)
    }

    fn spill(&self, id: BlockId) -> BoxFuture<'static, Result<SpillOutcome, BoxError>> {
        self.home.spill(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Logic;

    struct Named(&'static str);

    impl Site for Named {
        fn id(&self) -> NodeId {
            NodeId(1)
        }

        fn name(&self) -> Arc<str> {
            self.0.into()
        }

        fn open(&self, _: PoolOrder) -> BoxFuture<'static, Result<PoolLink, BoxError>> {
            unreachable!("nobody opens a pool")
        }

        fn home(&self) -> Arc<dyn Home> {
            unreachable!("nobody asks for a block")
        }
    }

    fn divided(states: [State; 2], max: usize) -> Vec<(String, usize)> {
        let placed = |(name, state)| {
            let node = NodeName::new(name).expect("a name");
            let mut placed = Placed::new(Arc::new(Named(name)), node, &Resources::cpu(4.0), Bytes::mib(64));
            placed.view.state = state;
            placed
        };
        let nodes = ["a", "b"].into_iter().zip(states).map(placed).collect();
        let plan = OperatorPlan {
            name: "op".into(),
            inputs: Vec::new(),
            logic: Logic::Map { chain: Vec::new(), task_bytes: None },
            workers: Workers { min: 0, max },
            resources: Resources::cpu(1.0),
            ordered: true,
        };
        let topology = Topology { operators: vec![plan], ..Topology::default() };
        let divided = Sites { nodes, ..Sites::default() }.divide(&topology).expect("there is room");
        let shares = divided.shares.into_values().flatten();
        shares.map(|share| (share.site.name().to_string(), share.workers)).collect()
    }

    #[test]
    fn a_node_that_is_silent_gets_no_workers_unless_all_are() {
        let at = |node: &str, workers| (node.to_owned(), workers);
        assert_eq!(divided([State::Alive, State::Alive], 4), [at("a", 2), at("b", 2)]);
        assert_eq!(divided([State::Suspect, State::Alive], 4), [at("b", 4)]);
        assert_eq!(divided([State::Suspect, State::Suspect], 4), [at("a", 2), at("b", 2)]);
        // However many are asked for: what the budgets have room for.
        assert_eq!(divided([State::Alive, State::Alive], usize::MAX), [at("a", 128), at("b", 128)]);
    }
}
