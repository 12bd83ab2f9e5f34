//! The agent of a node: opens pools that the head asked for, feeds them tasks and sends back what they did.
//!
//! A pool here is the same as in a local job: the same workers, restarts and leases. What differs is where its tasks
//! come from and where its reports go: a task stream. When the stream ends, so does the pool.

mod feed;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use ractor::{ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{mpsc, oneshot};

use self::feed::{Feeder, TasksHere};
use super::frames::{FromPool, MetricsFrame};
use super::inputs::{Inputs, Network};
use super::lent::Lent;
use super::site::{PoolLink, PoolOrder, frames_waiting};
use crate::block::BlockName;
use crate::job::{JobError, JobMessage, explain, pool_shared, texts};
use crate::logs::{LogsOut, PoolLogs};
use crate::node::{Parts, workers_max};
use crate::operator::{BoxError, ObjectName};
use crate::pool::grants::Grants;
use crate::pool::metrics::Metrics;
use crate::pool::supervisor::{PoolArguments, PoolMessage, PoolSupervisor};
use crate::pool::task::{Held, WorkerEvent};
use crate::pool::window::Window;
use crate::pool::worker::{PoolShared, Reports};
use crate::runtime::budget::EdgeLimits;
use crate::runtime::line::{LineReceiver, LineSender, line};
use crate::runtime::restart::RestartBudget;
use crate::runtime::room::Room;
use crate::runtime::tasks::spawn;
use crate::units::Bytes;

/// What opens pools on a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    node: Parts,
    /// Supervises the pools.
    above: ActorCell,
    lent: Lent,
    network: Arc<dyn Network>,
    /// Tasks that are here and not reported yet.
    tasks: Arc<AtomicUsize>,
}

/// What was counted is sent at least so often: the head must not take a task of minutes for one that stands still.
const METRICS_EVERY: Duration = Duration::from_secs(2);

/// The part of the budget that copies of other nodes' blocks may take, and blocks on their way there. Results take half of
/// it (`RESULTS_SHARE` of the head); the last quarter is for what no count sees, as everywhere.
pub(crate) const COPIES_SHARE: u64 = 4;

/// Blocks that a pool may hold as copies for each of its workers: the one at work, and the next.
const COPIES_A_WORKER: u64 = 2;

impl Agent {
    pub(crate) fn new(node: Parts, above: ActorCell, lent: Lent, network: Arc<dyn Network>) -> Self {
        let (from, most) = (Arc::clone(&network), node.config.object_bytes_max);
        let bring = move |name: ObjectName| match name.bytes > most {
            true => async move { Err(format!("it is over this node's limit of {most} for one object").into()) }.boxed(),
            false => from.object(name),
        };
        let node = Parts { shared: node.shared.bringing(Arc::new(bring)), ..node };
        node.room.set_total(Bytes(node.budget.0 / COPIES_SHARE));
        Self { inner: Arc::new(Inner { node, above, lent, network, tasks: Arc::default() }) }
    }

    /// The blocks that this node keeps for others.
    pub(crate) fn lent(&self) -> &Lent {
        &self.inner.lent
    }

    /// Whether tasks run here or others need blocks of this node.
    pub(crate) fn is_busy(&self) -> bool {
        self.inner.tasks.load(Ordering::Relaxed) > 0 || self.inner.lent.len() > 0
    }

    /// Opens a pool; what comes back is the head's end of its stream.
    pub(crate) async fn open(&self, mut order: PoolOrder) -> Result<PoolLink, BoxError> {
        // The head knows the limit too; what it asks for is checked all the same.
        order.workers = order.workers.clamp(1, workers_max(self.inner.node.budget));
        let waiting = frames_waiting(order.workers);
        let (to, inbox) = mpsc::channel(waiting);
        let (outbox, from) = mpsc::channel(waiting);
        let (asks, asked) = mpsc::channel(waiting);
        let (events_tx, events) = line();
        let grants = self.grants(&order, asks);
        let (ready, stands) = oneshot::channel();
        let logs = Arc::new(PoolLogs::default());
        let arguments = HostArguments {
            node: self.inner.node.clone(),
            logs: Arc::clone(&logs),
            order: order.clone(),
            grants: grants.clone(),
            reports: events_tx,
            outbox: outbox.clone(),
            ready,
        };
        ractor::Actor::spawn_linked(None, PoolHost, arguments, self.inner.above.clone()).await.map_err(startup)?;
        let (pool, supervisor) = stands.await?;
        let inputs = self.inputs(&order);
        let brought = inputs.clone();
        let (feeding, workers_max) = (Arc::clone(&pool), order.workers);
        let (credit, sender) = (grants.clone(), outbox.clone());
        let tasks = Arc::new(TasksHere::new(Arc::clone(&self.inner.tasks)));
        let count = Arc::clone(&tasks);
        let feeder = Feeder { pool: feeding, supervisor, workers_max, grants: credit, inputs, outbox: sender, tasks };
        spawn(feeder.run(inbox));
        spawn(
            Reporter {
                pool,
                grants,
                lent: self.inner.lent.clone(),
                outbox,
                sent: MetricsFrame::default(),
                tasks: count,
                inputs: brought,
                logs: LogsOut::new(logs),
            }
            .run(events, asked),
        );
        Ok(PoolLink { to, from })
    }

    /// Bounds nothing itself: the head's window does.
    fn grants(&self, order: &PoolOrder, asks: mpsc::Sender<(u64, Bytes)>) -> Grants {
        let limits = EdgeLimits { floor: 0, cap: u64::MAX / 2, items_max: usize::MAX, depth: order.depth };
        let edge = Room::new(Bytes(u64::MAX / 2)).edge(limits);
        // One ask a task is out at a time, and there are no more tasks than the channel holds.
        Grants::new(edge, order.block_bytes, move |seq, bytes| {
            let sent = asks.try_send((seq, bytes));
            debug_assert!(sent.is_ok(), "there is a place for each task's ask");
        })
    }

    /// Room for copies: a floor of the pool's own, so that no pool waits for another's copies to go.
    fn inputs(&self, order: &PoolOrder) -> Inputs {
        let Inner { node, lent, network, .. } = &*self.inner;
        let floor = COPIES_A_WORKER * order.workers.max(1) as u64 * order.block_bytes.0;
        let limits = EdgeLimits { floor, cap: floor, items_max: 4 * order.workers.max(1), depth: order.depth };
        let (env, room) = (Arc::clone(&node.env), node.room.edge(limits));
        Inputs::new(node.store.node(), lent.clone(), Arc::clone(network), room, env)
    }
}

fn startup(error: ractor::SpawnErr) -> BoxError {
    match error {
        ractor::SpawnErr::StartupFailed(error) => error,
        other => other.to_string().into(),
    }
}

/// The actor that stands for a job of the head in one pool of this node: supervises it and reports its end.
struct PoolHost;

struct HostArguments {
    node: Parts,
    logs: Arc<PoolLogs>,
    order: PoolOrder,
    grants: Grants,
    reports: LineSender<WorkerEvent>,
    outbox: mpsc::Sender<FromPool>,
    ready: oneshot::Sender<(Arc<PoolShared>, ActorRef<PoolMessage>)>,
}

struct HostState {
    pool: Arc<PoolShared>,
    outbox: mpsc::Sender<FromPool>,
}

impl HostState {
    /// What the pool's workers said goes out first: the reporter ends when nobody can report any more.
    fn end(&self, myself: &ActorRef<JobMessage>) {
        self.pool.forget_shell();
        self.pool.give_all_turns_back();
        myself.stop(None);
    }

    async fn give_up(&self, error: JobError) {
        let worker = if let JobError::Worker { worker, .. } = &error { *worker } else { 0 };
        let cause = match &error {
            JobError::Worker { cause, .. } => texts(&***cause),
            other => texts(other),
        };
        // Nobody listens to this pool after its end, and what it logged last tells why. A head that is gone needs no news.
        if let Some(logs) = self.pool.logs.as_ref().and_then(|logs| logs.take()) {
            let _ = self.outbox.send(FromPool::Logs(logs)).await;
        }
        let _ = self.outbox.send(FromPool::GaveUp { worker, cause }).await;
        self.pool.stop();
    }
}

impl ractor::Actor for PoolHost {
    type Msg = JobMessage;
    type State = HostState;
    type Arguments = HostArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        HostArguments { node, logs, order, grants, reports, outbox, ready }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut pool =
            pool_shared(&node, &order, Window::Granted(grants), Arc::new(Metrics::default()), myself.clone())?;
        pool.logs = Some(logs);
        *pool.reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Reports::Stream(reports));
        let pool = Arc::new(pool);
        let arguments = PoolArguments {
            pool: Arc::clone(&pool),
            host: node.host.clone(),
            scheduler: node.scheduler.clone(),
            resources: order.plan.held(),
            restarts: RestartBudget::new(node.config.restarts, node.config.restart_window),
            job: myself.clone(),
            begins: order.begins(),
        };
        let (supervisor, _) = ractor::Actor::spawn_linked(None, PoolSupervisor, arguments, myself.get_cell()).await?;
        // Who opened the pool waits for this.
        let _ = ready.send((Arc::clone(&pool), supervisor));
        Ok(HostState { pool, outbox })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            JobMessage::PoolEnded(_) => state.end(&myself),
            JobMessage::Failed(error) => state.give_up(error).await,
            _ => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            state.give_up(explain(error)).await;
            state.end(&myself);
        }
        Ok(())
    }
}

/// Sends what the workers did.
struct Reporter {
    pool: Arc<PoolShared>,
    grants: Grants,
    lent: Lent,
    outbox: mpsc::Sender<FromPool>,
    sent: MetricsFrame,
    tasks: Arc<TasksHere>,
    inputs: Inputs,
    logs: LogsOut,
}

impl Reporter {
    async fn run(mut self, mut events: LineReceiver<WorkerEvent>, mut asked: mpsc::Receiver<(u64, Bytes)>) {
        let mut clock = tokio::time::interval(METRICS_EVERY);
        loop {
            let frame = tokio::select! {
                biased;
                // First, and seldom enough to hold nothing up.
                logs = self.logs.next() => FromPool::Logs(logs),
                event = events.recv() => match event {
                    Some(event) => self.frame(event),
                    None => break,
                },
                Some((seq, bytes)) = asked.recv() => match self.pool.queue.attempt_of(seq) {
                    Some(attempt) => FromPool::NeedRoom { seq, attempt, bytes },
                    None => continue,
                },
                _ = clock.tick() => match self.metrics() {
                    Some(metrics) => FromPool::Metrics(metrics),
                    None => continue,
                },
            };
            if !self.send(frame).await {
                return;
            }
        }
        let last = self.metrics().map(FromPool::Metrics).into_iter().chain(self.logs.rest().map(FromPool::Logs));
        for frame in last {
            let _ = self.outbox.send(frame).await;
        }
        // A head that is gone needs no news.
        let _ = self.outbox.send(FromPool::Ended).await;
    }

    /// Sends a frame behind what was counted until now. `false` if nobody takes it: then its blocks are let go, and those of
    /// later events go with them.
    async fn send(&mut self, frame: FromPool) -> bool {
        if let Some(metrics) = self.metrics() {
            // The frame itself tells if that goes nowhere.
            let _ = self.outbox.send(FromPool::Metrics(metrics)).await;
        }
        let Err(mpsc::error::SendError(unsent)) = self.outbox.send(frame).await else { return true };
        self.lent.release(&unsent.blocks());
        false
    }

    fn frame(&self, event: WorkerEvent) -> FromPool {
        match event {
            WorkerEvent::Emitted { seq, attempt, results, progress, done } => {
                let left = if done { Bytes(0) } else { self.grants.left(seq) };
                let results = results.into_iter().map(|held| self.lend(held)).collect();
                if done {
                    self.end(seq, attempt);
                }
                FromPool::Emitted { seq, attempt, results, left, progress, done }
            }
            WorkerEvent::Failed { seq, attempt, reached, cause, .. } => {
                self.end(seq, attempt);
                FromPool::Failed { seq, attempt, reached, cause: texts(&**cause) }
            }
            WorkerEvent::PutBack { seq, attempt } => {
                self.end(seq, attempt);
                FromPool::PutBack { seq, attempt }
            }
            WorkerEvent::Lost { seq, attempt, exit, .. } => {
                self.end(seq, attempt);
                FromPool::Lost { seq, attempt, exit: exit.to_string() }
            }
            WorkerEvent::Skipped { seq, reasons } => FromPool::Skipped { seq, reasons },
            WorkerEvent::Leased => FromPool::Leased,
        }
    }

    /// The task is not this node's any more.
    fn end(&self, seq: u64, attempt: u32) {
        if self.tasks.went(seq, attempt) {
            self.grants.end(seq);
            self.inputs.end(seq);
        }
    }

    /// The block stays here for whoever the head sends.
    fn lend(&self, Held { block, room: _ }: Held) -> BlockName {
        let name = BlockName::clone(&block);
        self.lent.keep(block);
        name
    }

    /// What was counted since it was last sent; `None` if nothing changed.
    fn metrics(&mut self) -> Option<MetricsFrame> {
        let now = self.pool.metrics.frame();
        let before = std::mem::replace(&mut self.sent, now.clone());
        (now != before).then(|| MetricsFrame {
            rows_in: now.rows_in - before.rows_in,
            busy: now.busy - before.busy,
            waited_input: now.waited_input - before.waited_input,
            waited_room: now.waited_room - before.waited_room,
            waited_lease: now.waited_lease - before.waited_lease,
            workers: now.workers,
            devices: if now.devices == before.devices { Vec::new() } else { now.devices },
        })
    }
}
