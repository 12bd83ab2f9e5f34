//! Workers: each an actor on a thread of its own that pulls tasks and runs them, one after another.
//!
//! Its whole life is one future of its own context: open, then task after task, then close. An error of user code fails
//! the task and the worker opens its operator afresh; a panic ends the worker and its guardian starts a fresh one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, ActorContext, Addr, AsyncContext, Context};
use actix_rt::ArbiterHandle;
use ractor::ActorRef;
use tokio::sync::Notify;

use super::chain::{Chain, StepFailed};
use super::device::drive::{self, Drive, Failed};
use super::device::thread::{DeviceParts, DeviceThread};
use super::doing::{Doing, Doings};
use super::isolated::{BrokenOff, Isolated, IsolatedParts, NotOpened};
use super::metrics::Metrics;
use super::progress::Calls;
use super::queue::TaskQueue;
use super::run::{Cause, Core, Ended, Fault, Run};
use super::slices::Estimate;
use super::task::{Task, WorkerEvent};
use super::window::Window;
use crate::job::why::picture::At;
use crate::job::{JobError, JobMessage};
use crate::logs::{Here, PoolLogs};
use crate::operator::actor::{ActorDied, RunningActor};
use crate::operator::shell::OperatorShell;
use crate::operator::{
    BatchSize, BoxError, DeviceBatch, MakeDeviceHalf, OpenContext, OperatorResult, OperatorSpec, Recipe, Scope, Shared,
    Source,
};
use crate::runtime::env::SharedEnv;
use crate::runtime::guardian::Launch;
use crate::runtime::host::Lane;
use crate::runtime::left_behind::LeftBehind;
use crate::runtime::line::LineSender;
use crate::runtime::tell::tell;
use crate::runtime::watch::{DeathWatch, Exit, ExitReason, UserPanic, guarded};
use crate::scheduler::turns::{JobTurns, Turn};
use crate::scheduler::{Lease, SchedulerHandle};
use crate::store::Store;
use crate::units::Bytes;

/// What all workers of a pool share: what they run, and where their results go.
pub(crate) struct PoolShared {
    pub(crate) operator: Arc<str>,
    /// Index of the operator in its topology.
    pub(crate) index: u32,
    /// Of an operator that reads, built once for all its workers.
    pub(crate) source: Option<Arc<dyn Source>>,
    pub(crate) chain: Vec<OperatorSpec>,
    pub(crate) batch_size: BatchSize,
    pub(crate) scope: Scope,
    pub(crate) queue: TaskQueue,
    pub(crate) window: Window,
    pub(crate) reports: Mutex<Option<Reports>>,
    pub(crate) store: Store,
    pub(crate) turns: JobTurns,
    /// Steps to the sink.
    pub(crate) priority: usize,
    pub(crate) cpu_milli: u64,
    pub(crate) env: SharedEnv,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) block_bytes: Bytes,
    pub(crate) batch_bytes: Bytes,
    pub(crate) estimate: Mutex<Estimate>,
    pub(crate) stopped: AtomicBool,
    /// Wakes who waits for that.
    pub(crate) stop_told: Notify,
    pub(crate) job: ActorRef<JobMessage>,
    /// The turns that workers hold, by worker.
    pub(crate) held_turns: Mutex<BTreeMap<usize, Turn>>,
    pub(crate) shared: Shared,
    /// How often the job was started again before: attempts of earlier runs have left files.
    pub(crate) run: u32,
    /// Whether rows at fault are looked for: user code that fails often is no reason to give the worker up.
    pub(crate) isolates: bool,
    /// Whether where its results come from is kept: rows may be given up behind it, and it makes one row of each.
    pub(crate) traces: bool,
    /// Where its workers' logs go, if their driver is another process.
    pub(crate) logs: Option<Arc<PoolLogs>>,
    /// Of the processes of an isolated operator.
    pub(crate) isolated: IsolatedParts,
    /// The names of the steps of its chain.
    pub(crate) steps: Vec<String>,
    /// What its workers are doing.
    pub(crate) doings: Doings,
    /// How long its calls of user code have taken.
    pub(crate) calls: Calls,
    /// How long one may take: see `NodeConfig`.
    pub(crate) task_progress_limit: Duration,
    /// Threads of jobs that are stuck in such calls, and how many of a job there may be.
    pub(crate) left_behind: LeftBehind,
    pub(crate) left_behind_max: usize,
    pub(crate) scheduler: SchedulerHandle,
}

impl PoolShared {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Nobody needs more of this operator: workers end at the next slice, who waits is woken.
    pub(crate) fn stop(&self) {
        // First: a worker that ends while the queue is open was ended by user code.
        self.queue.close();
        self.stopped.store(true, Ordering::Relaxed);
        self.stop_told.notify_waiters();
        self.window.close();
    }

    /// Resolves when the pool is stopped.
    pub(crate) async fn stopping(&self) {
        let mut told = std::pin::pin!(self.stop_told.notified());
        // Listening before looking, so that nothing is missed in between.
        told.as_mut().enable();
        if !self.is_stopped() {
            told.await;
        }
    }

    /// Whether its operator may have a half on a device: tasks overlap there, so it stands alone and reads no splits.
    pub(crate) fn may_have_a_device(&self) -> bool {
        let alone = self.source.is_none() && self.chain.len() == 1 && self.scope == Scope::Batch;
        alone && !self.is_isolated()
    }

    /// Whether its operator runs in processes of their own.
    pub(crate) fn is_isolated(&self) -> bool {
        self.chain.iter().any(|spec| spec.isolation.is_some())
    }

    /// A worker that was given up meanwhile keeps none.
    pub(crate) fn keep_turn(&self, worker: usize, turn: Turn, doing: &Doing) {
        self.held_turns.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, turn);
        if doing.is_gone() {
            self.give_turn_back(worker);
        }
    }

    /// Whether someone waits for the worker's turn who goes before it.
    pub(crate) fn turn_is_wanted(&self, worker: usize) -> bool {
        let mut turns = self.held_turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.get_mut(&worker).is_some_and(|turn| turn.is_wanted(self.priority))
    }

    pub(crate) fn give_turn_back(&self, worker: usize) {
        let turn = self.held_turns.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker);
        drop(turn);
    }

    /// The job is over: cores of workers that did not come back are free for others.
    pub(crate) fn give_all_turns_back(&self) {
        let turns = std::mem::take(&mut *self.held_turns.lock().unwrap_or_else(PoisonError::into_inner));
        drop(turns);
    }

    pub(crate) fn estimate(&self) -> MutexGuard<'_, Estimate> {
        self.estimate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operator's actor stands: workers tell it what they did.
    pub(crate) fn publish_shell(&self, shell: Addr<OperatorShell>) {
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner) = Some(Reports::Actor(shell));
    }

    pub(crate) fn shell_address(&self) -> Option<Addr<OperatorShell>> {
        match &*self.reports.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Reports::Actor(shell)) => Some(shell.clone()),
            _ => None,
        }
    }

    /// The job is over. The actor and what it shares with its workers hold each other; this cuts the circle.
    pub(crate) fn forget_shell(&self) {
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Tells the operator's actor. One that is gone has taken the job with it.
    pub(crate) fn tell(&self, event: WorkerEvent) {
        match &*self.reports.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Reports::Actor(shell)) => {
                tell(shell, event);
            }
            // A stream that is gone has taken the pool with it.
            Some(Reports::Stream(stream)) => stream.send(event),
            None => {}
        }
    }
}

/// Who hears what the workers did. What waits to be heard is bounded: blocks have taken room, and a task reports once.
pub(crate) enum Reports {
    /// The operator's actor, in this process.
    Actor(Addr<OperatorShell>),
    /// The stream to the operator's actor on the head.
    Stream(LineSender<WorkerEvent>),
}

/// What a worker runs: built on its own thread, so it may be neither `Send` nor `Sync`.
pub(crate) enum Logic {
    Chain(Chain),
    Actor(Box<dyn RunningActor>),
    Isolated(Box<Isolated>),
}

impl Logic {
    async fn open(pool: &Arc<PoolShared>, ctx: &OpenContext, doing: &Arc<Doing>) -> OperatorResult<Self> {
        match pool.chain.as_slice() {
            [OperatorSpec { recipe: Recipe::Actor(recipe), .. }] => guarded(|| recipe.start(ctx))?.map(Logic::Actor),
            [spec @ OperatorSpec { isolation: Some(isolation), .. }] if pool.source.is_none() => {
                let opened = Isolated::open(Arc::clone(pool), spec.clone(), *isolation, ctx.clone()).await;
                opened.map(|isolated| Logic::Isolated(Box::new(isolated)))
            }
            chain => Chain::open(chain, ctx, doing).map(Logic::Chain),
        }
    }
}

/// What is left after an error: a process outlives its operator's errors and opens it afresh by itself.
fn after_an_error(logic: Option<Logic>) -> Option<Logic> {
    match logic {
        Some(isolated @ Logic::Isolated(_)) => Some(isolated),
        other => {
            let_go(other);
            None
        }
    }
}

/// The worker actor.
pub(crate) struct Worker {
    life: Option<Life>,
    reason: ExitReason,
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(life) = self.life.take() {
            let ending = life.live().into_actor(self).map(|exit, worker, ctx: &mut Context<Self>| {
                worker.reason.set(exit);
                ctx.stop();
            });
            ctx.spawn(ending);
        }
    }
}

/// A worker's life.
struct Life {
    pool: Arc<PoolShared>,
    ctx: OpenContext,
    core: Core,
    /// The thread for the device, of a worker that has one.
    device: Option<ArbiterHandle>,
    lease: Arc<Lease>,
    born: Duration,
    doing: Arc<Doing>,
}

impl Life {
    async fn live(mut self) -> Exit {
        // The thread is this worker's alone, also while it waits.
        let _here = Here::enter(self.pool.logs.clone());
        self.pool.metrics.worker_started();
        let exit = self.tasks().await;
        self.core.release(&self.pool);
        // One that was given up was counted out then.
        if !self.doing.is_gone() {
            self.pool.metrics.worker_ended();
        }
        exit
    }

    async fn tasks(&mut self) -> Exit {
        let pool = Arc::clone(&self.pool);
        // Opened before the first task, so that a model is loaded while the first rows are still being read.
        let mut logic = match Logic::open(&pool, &self.ctx, &self.doing).await {
            Ok(logic) => Some(logic),
            Err(error) if error.is::<BrokenOff>() => return Exit::Stopped,
            Err(error) => return Exit::Failed(Arc::new(error)),
        };
        if let Some(Logic::Chain(chain)) = &mut logic
            && let Some(half) = self.device.is_some().then(|| drive::half(chain)).flatten()
            && let Some(Logic::Chain(chain)) = logic.take()
        {
            return self.tasks_on_device(chain, half).await;
        }
        while let Some(task) = self.next_task().await {
            let open = match logic.as_mut() {
                Some(open) => open,
                None => match self.open_again().await {
                    Ok(fresh) => logic.insert(fresh),
                    Err(error) => return self.failed(&task, error.into(), true),
                },
            };
            match Run::new(&pool, &task, &self.ctx, &mut self.core).run(open).await {
                Ok(Ended::Done) => {}
                Ok(Ended::PutBack) => {
                    pool.tell(WorkerEvent::PutBack { seq: task.seq, attempt: task.attempt });
                }
                Ok(Ended::Stopped) => break,
                // Its task is tried elsewhere, and nothing here is asked for any more.
                Ok(Ended::GivenUp) => return Exit::Stopped,
                Err(fault) => {
                    let fatal = ends_the_worker(&fault.error, pool.isolates);
                    let exit = self.failed(&task, fault, fatal);
                    if fatal {
                        return exit;
                    }
                    logic = after_an_error(logic);
                }
            }
        }
        self.close(logic).await;
        Exit::Stopped
    }

    async fn open_again(&self) -> OperatorResult<Logic> {
        self.doing.at(At::Opening);
        Logic::open(&self.pool, &self.ctx, &self.doing).await
    }

    /// The same for an operator with a half on a device, opened afresh with it after each error of its own.
    async fn tasks_on_device(
        &mut self,
        mut chain: Chain,
        first: OperatorResult<(DeviceBatch, MakeDeviceHalf)>,
    ) -> Exit {
        let pool = Arc::clone(&self.pool);
        let Some(on) = self.device.clone() else { return Exit::Stopped };
        let mut born = self.born;
        let mut half = first;
        loop {
            let (batch, make) = match half {
                Ok(half) => half,
                Err(error) => return Exit::Failed(Arc::new(error)),
            };
            let meter = pool.metrics.device(self.ctx.worker, &self.ctx.gpus);
            let (env, logs, _lease) = (Arc::clone(&pool.env), pool.logs.clone(), Arc::clone(&self.lease));
            let doing = Arc::clone(&self.doing);
            let parts = DeviceParts { meter: meter.clone(), born, env, logs, doing, _lease };
            let device = (DeviceThread::start(&on, make, parts), meter);
            let drive = Drive::new(&pool, self.ctx.worker, &mut self.core, &mut chain, device, &batch);
            let Err(Failed { task, error, reached, is_lost, .. }) = drive.run().await else { break };
            let Some(task) = task else { return Exit::Failed(Arc::new(error)) };
            let fatal = is_lost || ends_the_worker(&error, pool.isolates);
            let exit = self.failed(&task, Fault { error, reached }, fatal);
            if fatal {
                return exit;
            }
            let_go(chain);
            born = pool.env.now();
            self.doing.at(At::Opening);
            chain = match Chain::open(&pool.chain, &self.ctx, &self.doing) {
                Ok(fresh) => fresh,
                Err(error) => return Exit::Failed(Arc::new(error)),
            };
            half = drive::half(&mut chain).unwrap_or_else(|| Err("it has no part on a device any more".into()));
        }
        self.close(Some(Logic::Chain(chain))).await;
        Exit::Stopped
    }

    /// The next task. A worker that finds none waiting gives its core away.
    async fn next_task(&mut self) -> Option<Task> {
        if let Some(task) = self.pool.queue.try_pull(self.ctx.worker) {
            return Some(task);
        }
        self.core.release(&self.pool);
        self.doing.idle();
        let from = self.pool.env.now();
        let task = self.pool.queue.pull(self.ctx.worker).await;
        self.pool.metrics.waited_input.add_time(self.pool.env.now().saturating_sub(from));
        task
    }

    fn failed(&self, task: &Task, Fault { error, reached }: Fault, fatal: bool) -> Exit {
        let cause: Cause = Arc::new(error);
        tracing::debug!(operator = %self.pool.operator, task = task.seq, attempt = task.attempt, %cause, fatal, "attempt failed");
        let (seq, attempt, worker) = (task.seq, task.attempt, self.ctx.worker);
        self.pool.tell(WorkerEvent::Failed { seq, attempt, worker, reached, cause: Arc::clone(&cause) });
        Exit::Failed(cause)
    }

    async fn close(&self, logic: Option<Logic>) {
        self.doing.closes();
        let closed = match logic {
            Some(Logic::Chain(mut chain)) => chain.close(),
            Some(Logic::Isolated(isolated)) => isolated.close().await,
            Some(Logic::Actor(_)) | None => Ok(()),
        };
        if let Err(error) = closed.or_else(|error| if error.is::<BrokenOff>() { Ok(()) } else { Err(error) }) {
            // Straight to the job, and before this worker's end gets there by way of its pool.
            let (operator, worker) = (Arc::clone(&self.pool.operator), self.ctx.worker);
            let error = JobError::Worker { operator, worker, restarts: 0, cause: Arc::new(error) };
            // A job that is gone needs no news.
            let _ = self.pool.job.cast(JobMessage::Failed(error));
        }
    }
}

/// Drops what user code made. After a panic it may panic again.
fn let_go<T>(made: T) {
    if let Err(panic) = guarded(|| drop(made)) {
        tracing::debug!(%panic, "an operator that failed panics when it is dropped");
    }
}

/// Whether the worker cannot go on: its state may be torn, or its actor is gone. One that looks for rows at fault goes on
/// all the same, with its operator opened afresh: such a search fails often, and restarts are few.
fn ends_the_worker(error: &BoxError, isolates: bool) -> bool {
    let cause = error.downcast_ref::<StepFailed>().map_or(error, |step| &step.cause);
    cause.is::<NotOpened>() || !isolates && (cause.is::<UserPanic>() || cause.is::<ActorDied>())
}

/// Starts a worker on its lane, again and again if need be.
pub(crate) struct LaunchWorker {
    pub(crate) pool: Arc<PoolShared>,
    pub(crate) worker: usize,
    pub(crate) lane: Lane,
    /// The thread for its device, if it has one. It is never kept warm: a call of a device may never return.
    pub(crate) device: Option<Lane>,
    /// Held as long as the worker may live; given back with it.
    pub(crate) lease: Arc<Lease>,
}

impl Launch for LaunchWorker {
    fn launch(&mut self, incarnation: u64, watch: DeathWatch) {
        let ctx = OpenContext {
            operator: Arc::clone(&self.pool.operator),
            worker: self.worker,
            incarnation,
            gpus: self.lease.gpus(),
            shared: self.pool.shared.clone(),
        };
        let (device, born) = (self.device.as_ref().map(Lane::handle), self.pool.env.now());
        let lease = Arc::clone(&self.lease);
        let (pool, doing) = (Arc::clone(&self.pool), self.pool.doings.enter(self.worker));
        let core = Core::new(self.worker, Arc::clone(&doing));
        let life = Life { pool, ctx, core, device, lease, born, doing };
        Worker::start_in_arbiter(&self.lane.handle(), move |context| {
            let reason = watch.reason();
            watch.attach(context);
            Worker { life: Some(life), reason }
        });
    }

    fn ended(&mut self, _incarnation: u64, exit: &Exit, restarting: bool) {
        if !restarting {
            self.lane.keep_warm();
        }
        self.pool.doings.leave(self.worker);
        self.pool.give_turn_back(self.worker);
        // What it had at hand is tried again, unless it reported the failure itself: the attempt's number tells.
        for (seq, attempt) in self.pool.queue.leave(self.worker) {
            self.pool.tell(WorkerEvent::Lost { seq, attempt, worker: self.worker, exit: exit.clone() });
        }
    }
}
