//! Standing a topology up: edges, operators and pools, from sink to source.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Addr};
use ractor::{ActorCell, ActorProcessingErr, ActorRef};
use tokio::sync::{Notify, mpsc};

use super::actor::{JobArguments, JobMessage, Running};
use super::delivery::Delivery;
use super::error::JobError;
use super::limits::{Limits, OperatorLimits};
use super::topology::{Logic, OperatorPlan, Topology};
use super::{BACKOFF_MAX, FailurePolicy, GivenUp, Weight};
use crate::block::BlockRef;
use crate::cluster::site::{Divided, PoolOrder, Sites};
use crate::cluster::sites::{SitePools, SitesArguments};
use crate::node::Parts;
use crate::operator::flow::Flow;
use crate::operator::holes::Holes;
use crate::operator::outlet::Outlet;
use crate::operator::shell::{Begin, Inflow, OperatorShell, ShellParts};
use crate::operator::{BatchSize, OperatorSpec, Scope, Source, SourceSpec};
use crate::pool::doing::Doings;
use crate::pool::held_back::{Disks, HeldBack};
use crate::pool::isolated::{IsolatedParts, frame_bytes_max};
use crate::pool::metrics::Metrics;
use crate::pool::progress::Calls;
use crate::pool::queue::TaskQueue;
use crate::pool::supervisor::{Beginning, PoolArguments, PoolHandle, PoolSupervisor};
use crate::pool::window::Window;
use crate::pool::worker::PoolShared;
use crate::runtime::guardian::{Guardian, GuardianArguments, Launch};
use crate::runtime::host::Lane;
use crate::runtime::port::Port;
use crate::runtime::restart::RestartBudget;
use crate::runtime::room::RoomEdge;
use crate::runtime::tell::tell;
use crate::runtime::watch::{DeathWatch, guarded};
use crate::scheduler::First;
use crate::units::Bytes;

/// What has to live as long as the job.
pub(crate) struct Built {
    _lane: Arc<Lane>,
    pools: BTreeSet<u32>,
}

impl Built {
    /// Whether this operator has workers.
    pub(crate) fn has_pool(&self, index: u32) -> bool {
        self.pools.contains(&index)
    }
}

/// Stands everything up and lets it begin.
pub(crate) async fn stand_up(
    arguments: JobArguments,
    job: &ActorRef<JobMessage>,
) -> Result<(Vec<Running>, Built), ActorProcessingErr> {
    let JobArguments { topology, mut node, driver, metrics, sites, taker: _, given_up } = arguments;
    if let Some(room) = &sites.room {
        node.room = room.clone();
        node.budget = room.total();
    }
    let limits = Limits::divide(&topology, node.budget_left(), node.config.block_bytes);
    let divided = if sites.nodes.is_empty() { None } else { Some(sites.divide(&topology)?) };
    let lane = Arc::new(node.host.lane().await?);
    let mut stand = Stand {
        node: &node,
        job,
        weight: topology.weight,
        task_progress_limit: topology.task_progress_limit,
        failures: topology.failures,
        given_up,
        limits: &limits,
        lane: Arc::clone(&lane),
        driver,
        standing: Vec::new(),
        sites: &sites,
        divided,
        holding: topology.operators.iter().filter(|plan| plan.holds()).count() as u32,
        holes: holes(&topology, &sites),
        recorded: topology.recorder.is_some(),
    };
    // From sink to source: whoever sends finds its receiver standing.
    for (index, plan) in topology.operators.iter().enumerate().rev() {
        let metrics = metrics.get(index).cloned().unwrap_or_default();
        let standing = stand.operator(&topology, index, plan, metrics).await?;
        stand.standing.push(standing);
    }
    stand.standing.reverse();
    let pools = stand.standing.iter().filter(|s| s.supervisor.is_some()).map(|s| s.running.pool.index).collect();
    for standing in stand.standing.iter().rev() {
        tell(&standing.running.shell, Begin { supervisor: standing.supervisor.clone() });
    }
    let running = stand.standing.into_iter().map(|standing| standing.running).collect();
    Ok((running, Built { _lane: lane, pools }))
}

struct Stand<'a> {
    node: &'a Parts,
    job: &'a ActorRef<JobMessage>,
    weight: Weight,
    task_progress_limit: Option<Duration>,
    failures: FailurePolicy,
    given_up: GivenUp,
    limits: &'a Limits,
    /// The thread that all operators' actors of the job share: they decide and pass on, and never compute.
    lane: Arc<Lane>,
    driver: mpsc::Sender<Delivery>,
    /// From the sink on, so the last operator is the first.
    standing: Vec<Standing>,
    sites: &'a Sites,
    /// How the operators are divided among the sites, if there are any.
    divided: Option<Divided>,
    /// Operators whose workers hold more than cores: here the first of each get their leases together.
    holding: u32,
    /// Rows that were finished before, between those that are left.
    holes: Holes,
    /// Whether the results of the job are recorded.
    recorded: bool,
}

fn holes(topology: &Topology, sites: &Sites) -> Holes {
    let read = |(index, plan): (usize, &OperatorPlan)| {
        let Logic::Read { splits, .. } = &plan.logic else { return None };
        Some((index as u32, splits.len(), sites.left(index, splits.len())))
    };
    Holes::between(topology.operators.iter().enumerate().filter_map(read))
}

struct Standing {
    running: Running,
    ports: Vec<RoomEdge>,
    supervisor: Option<PoolHandle>,
}

impl Stand<'_> {
    async fn operator(
        &self,
        topology: &Topology,
        index: usize,
        plan: &OperatorPlan,
        metrics: Arc<Metrics>,
    ) -> Result<Standing, ActorProcessingErr> {
        let limits = self.limits.operators.get(index).ok_or("an operator without limits")?;
        let ports: Vec<_> = plan.inputs.iter().map(|_| self.node.room.edge(limits.port)).collect();
        let pool = Arc::new(self.pool(index, plan, limits, metrics)?);
        let parts = self.shell_parts(plan, &pool, (&ports, limits.batch_max));
        let outlet = self.outlet(topology, index)?;
        let launch = Box::new(LaunchShell {
            lane: Arc::clone(&self.lane),
            pool: Arc::clone(&pool),
            shell: Some(OperatorShell::new(parts, self.flow(topology, index, plan, limits), outlet)),
        });
        let arguments = GuardianArguments {
            name: Arc::clone(&plan.name),
            launch,
            budget: RestartBudget::none(),
            env: Arc::clone(&self.node.env),
        };
        let (guardian, _) = ractor::Actor::spawn_linked(None, Guardian, arguments, self.job.get_cell()).await?;
        let shell = pool.shell_address().ok_or("an operator's actor that did not start")?;
        let supervisor = match plan.has_workers() {
            true => Some(self.pool_handle(index, plan, limits, &pool, guardian.get_cell()).await?),
            false => None,
        };
        let running = Running { name: Arc::clone(&plan.name), inputs: plan.inputs.clone(), shell, pool };
        Ok(Standing { running, ports, supervisor })
    }

    /// Starts the operator's pool: here, or on the job's nodes.
    async fn pool_handle(
        &self,
        index: usize,
        plan: &OperatorPlan,
        limits: &OperatorLimits,
        pool: &Arc<PoolShared>,
        above: ActorCell,
    ) -> Result<PoolHandle, ActorProcessingErr> {
        let Some(divided) = &self.divided else {
            let first = plan.holds().then_some(First { run: self.sites.run, together: self.holding });
            let begins = Beginning { workers: first_workers(plan), first };
            let arguments = self.pool_arguments(begins, plan, pool);
            let (actor, _) = ractor::Actor::spawn_linked(None, PoolSupervisor, arguments, above).await?;
            return Ok(PoolHandle::Here(actor));
        };
        let order = PoolOrder { plan: without_splits(plan), ..self.order(index, plan, limits) };
        let arguments = SitesArguments {
            pool: Arc::clone(pool),
            job: self.job.clone(),
            order,
            shares: divided.shares.get(&index).cloned().unwrap_or_default(),
            gate: divided.gate.clone(),
            lenders: self.sites.lenders.clone(),
            logs: self.sites.logs.clone(),
        };
        let (actor, _) = ractor::Actor::spawn_linked(None, SitePools, arguments, above).await?;
        Ok(PoolHandle::Sites(actor))
    }

    fn order(&self, index: usize, plan: &OperatorPlan, limits: &OperatorLimits) -> PoolOrder {
        PoolOrder {
            job: self.sites.job,
            weight: self.weight,
            index: index as u32,
            plan: plan.clone(),
            workers: plan.workers.max,
            depth: limits.depth,
            block_bytes: self.limits.block_bytes,
            batch_bytes: self.node.config.batch_bytes.min(self.limits.block_bytes),
            run: self.sites.run,
            task_progress_limit: self.task_progress_limit,
            isolates: !self.failures.budget.is_zero(),
            // Known when it is the node's turn.
            together: 0,
        }
    }

    fn pool(
        &self,
        index: usize,
        plan: &OperatorPlan,
        limits: &OperatorLimits,
        metrics: Arc<Metrics>,
    ) -> Result<PoolShared, JobError> {
        let node = self.node;
        let order = self.order(index, plan, limits);
        let edge = node.room.edge(limits.window);
        let disks = || if self.sites.nodes.is_empty() { Disks::own(node.spill.clone()) } else { Disks::of_nodes() };
        let held_back =
            plan.ordered.then(|| HeldBack::new(edge.clone(), disks(), Arc::clone(&node.env), node.config.spill_after));
        let window = Window::Edge(edge, held_back);
        pool_shared(node, &order, window, metrics, self.job.clone())
    }

    fn shell_parts(
        &self,
        plan: &OperatorPlan,
        pool: &Arc<PoolShared>,
        (ports, batch_max): (&[RoomEdge], Bytes),
    ) -> ShellParts {
        let exact = self.recorded && pool.batch_size.rows().is_some();
        let rolls = exact || pool.scope == Scope::Task;
        ShellParts {
            pool: Arc::clone(pool),
            job: self.job.clone(),
            ports: ports.to_vec(),
            workers_max: plan.workers.max.max(1),
            attempts_max: self.failures.attempts.unwrap_or(self.node.config.attempts).max(1),
            retry_backoff: self.failures.backoff.unwrap_or(self.node.config.retry_backoff).min(BACKOFF_MAX),
            given_up: self.given_up.clone(),
            ordered: plan.ordered,
            roll_after: rolls.then_some(self.node.config.commit_interval),
            rolls_while_busy: exact,
            batch_max,
        }
    }

    /// The operator's input, and the holes in its results: they matter where rows have an order.
    fn flow(&self, topology: &Topology, index: usize, plan: &OperatorPlan, limits: &OperatorLimits) -> (Flow, Holes) {
        let holes = |ordered: bool| if ordered { self.holes.clone() } else { Holes::default() };
        let input = plan.inputs.iter().all(|input| topology.operators.get(*input).is_some_and(|input| input.ordered));
        let flow = match &plan.logic {
            Logic::Read { splits, .. } => Flow::splits(splits, &self.sites.left(index, splits.len())),
            Logic::Map { .. } => Flow::tasks(limits.grouping, holes(input)),
            Logic::Limit(rows) => Flow::limit(*rows),
            Logic::Union => Flow::union(plan.inputs.len(), plan.ordered),
        };
        (flow, holes(plan.ordered))
    }

    fn pool_arguments(&self, begins: Beginning, plan: &OperatorPlan, pool: &Arc<PoolShared>) -> PoolArguments {
        let config = &self.node.config;
        PoolArguments {
            pool: Arc::clone(pool),
            host: self.node.host.clone(),
            scheduler: self.node.scheduler.clone(),
            resources: plan.held(),
            restarts: RestartBudget::new(config.restarts, config.restart_window),
            job: self.job.clone(),
            begins,
        }
    }

    /// Where the operator's blocks go: to the one that names it as its input, or to the driver.
    fn outlet(&self, topology: &Topology, index: usize) -> Result<Outlet, ActorProcessingErr> {
        let consumer = topology.operators.iter().enumerate().find_map(|(consumer, plan)| {
            let input = plan.inputs.iter().position(|input| *input == index)?;
            Some((consumer, input))
        });
        let Some((consumer, input)) = consumer else { return Ok(self.outlet_to_driver()) };
        let from_sink = topology.operators.len() - 1 - consumer;
        let standing = self.standing.get(from_sink).ok_or("an operator before its input")?;
        let edge = standing.ports.get(input).ok_or("an input without a port")?.clone();
        let (shell, receiver) = (standing.running.shell.clone(), standing.running.shell.clone());
        let port = Port::with(edge, move |block: BlockRef, room| {
            let sent = tell(&receiver, Inflow::Block { input, block: block.clone(), room });
            if sent { Ok(()) } else { Err(block) }
        });
        // A receiver that is gone has taken the job with it.
        Ok(Outlet::new(port, move || {
            tell(&shell, Inflow::End { input });
        }))
    }

    /// The channel holds as many blocks as its port admits, so a push never finds it full. The job itself tells the
    /// driver of the end.
    fn outlet_to_driver(&self) -> Outlet {
        let driver = self.driver.clone();
        let port = Port::with(self.node.room.edge(self.limits.driver), move |block: BlockRef, room| {
            driver.try_send(Delivery::Block(block.clone(), room)).map_err(|_| block)
        });
        Outlet::new(port, || {})
    }
}

/// The splits stay on the head: each is sent with its task.
fn without_splits(plan: &OperatorPlan) -> OperatorPlan {
    let mut plan = plan.clone();
    if let Logic::Read { splits, .. } = &mut plan.logic {
        splits.clear();
    }
    plan
}

/// What the workers of an operator share on this node.
pub(crate) fn pool_shared(
    node: &Parts,
    order: &PoolOrder,
    window: Window,
    metrics: Arc<Metrics>,
    job: ActorRef<JobMessage>,
) -> Result<PoolShared, JobError> {
    let plan = &order.plan;
    let (source, chain) = match &plan.logic {
        Logic::Read { source, chain, .. } => (Some(build_source(plan, source)?), chain.clone()),
        Logic::Map { chain, .. } => (None, chain.clone()),
        Logic::Limit(_) | Logic::Union => (None, Vec::new()),
    };
    Ok(PoolShared {
        operator: Arc::clone(&plan.name),
        index: order.index,
        source,
        batch_size: batch_size(plan),
        scope: scope(&chain),
        traces: order.isolates && chain.iter().all(|spec| spec.keeps_rows),
        chain,
        queue: TaskQueue::default(),
        window,
        reports: Mutex::new(None),
        store: node.store.clone(),
        turns: node.turns.of_job(order.job, order.weight),
        priority: order.depth,
        cpu_milli: (plan.resources.cpus * 1000.0) as u64,
        env: Arc::clone(&node.env),
        metrics,
        block_bytes: order.block_bytes,
        batch_bytes: order.batch_bytes,
        estimate: Mutex::default(),
        stopped: false.into(),
        stop_told: Notify::new(),
        held_turns: Mutex::default(),
        job,
        shared: node.shared.with_objects(plan.logic.chain().iter().flat_map(|spec| &spec.objects)),
        run: order.run,
        isolates: order.isolates,
        logs: None,
        isolated: IsolatedParts {
            program: node.config.isolated_program.clone(),
            frame_bytes_max: frame_bytes_max(node.budget),
        },
        steps: plan.logic.chain().iter().map(|spec| spec.label.clone()).collect(),
        doings: Doings::new(&node.env),
        calls: Calls::default(),
        left_behind: node.left_behind.clone(),
        left_behind_max: node.config.left_behind_max,
        task_progress_limit: order.task_progress_limit.unwrap_or(node.config.task_progress_limit),
        scheduler: node.scheduler.clone(),
    })
}

/// The source of an operator that reads. A panic of code that users wrote is an error like any other.
fn build_source(plan: &OperatorPlan, spec: &SourceSpec) -> Result<Arc<dyn Source>, JobError> {
    let built = guarded(|| spec.build()).flatten();
    built.map_err(|cause| JobError::Source { operator: Arc::clone(&plan.name), cause: Arc::new(cause) })
}

/// Workers to start with the job. One that needs more than cores is asked for before any operator grows: those of all
/// operators get their leases together.
fn first_workers(plan: &OperatorPlan) -> usize {
    plan.workers.min.max(usize::from(plan.holds()))
}

/// The batch size that the operator's input is cut to. In a read, the step that asks for one may stand anywhere in the
/// chain, since the steps before it keep batches as they are.
fn batch_size(plan: &OperatorPlan) -> BatchSize {
    let batch = match &plan.logic {
        Logic::Read { chain, .. } => chain.iter().map(|spec| spec.batch).find(|batch| *batch != BatchSize::Auto),
        Logic::Map { chain, .. } => chain.first().map(|spec| spec.batch),
        Logic::Limit(_) | Logic::Union => None,
    };
    batch.unwrap_or_default()
}

/// A chain stands for whole tasks if one of its operators does.
fn scope(chain: &[OperatorSpec]) -> Scope {
    if chain.iter().any(|spec| spec.scope == Scope::Task) { Scope::Task } else { Scope::Batch }
}

/// Starts an operator's actor, once: its guardian has no restarts.
struct LaunchShell {
    lane: Arc<Lane>,
    pool: Arc<PoolShared>,
    shell: Option<OperatorShell>,
}

impl Launch for LaunchShell {
    fn launch(&mut self, _incarnation: u64, watch: DeathWatch) {
        let Some(shell) = self.shell.take() else { return };
        let address: Addr<OperatorShell> = OperatorShell::start_in_arbiter(&self.lane.handle(), move |ctx| {
            watch.attach(ctx);
            shell
        });
        self.pool.publish_shell(address);
    }
}
