//! The actor of an operator: a thin shell that takes blocks in, hands tasks to its pool, and passes results on.
//!
//! It owns its tasks in flight and the window of results that keeps them in order. It dies with its job: what it knew
//! is needed to go on, so its guardian has no restarts and fails upwards.
//!
//! Protocol. From upstream: `Inflow::Block`* then `Inflow::End`, for each input. From its workers: `WorkerEvent`. From
//! the job: `Stop` (nobody needs more), `AskWhy` (answered at once). To the job: `OperatorDone` once, `Failed` when a task is given up, `Satisfied`
//! when a limit has what it needs.

mod gather;
mod later;
mod told;
mod why;

use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, AsyncContext, Context, Handler, Message};
use ractor::ActorRef;

use super::carried::Carried;
use super::flow::{Flow, Step};
use super::holes::Holes;
use super::outlet::{Outlet, Sent};
use super::regroup::Measured;
use super::tasks::{Blame, Reported, Tasks, Todo, Verdict};
use super::{BoxError, Scope};
use crate::block::{Block, BlockRef, Segment};
use crate::job::{Fallen, GivenUp, JobError, JobMessage, OperatorState};
use crate::pool::supervisor::PoolHandle;
use crate::pool::task::{Arrived, Held, Piece, Task, TaskInput, WorkerEvent};
use crate::pool::worker::PoolShared;
use crate::runtime::port::PORT_KEY;
use crate::runtime::room::{Permit, RoomEdge};
use crate::units::{Bytes, Rows};

pub(crate) use why::{AskWhy, ShellAnswer};

/// Blocks from upstream.
#[derive(Debug)]
pub(crate) enum Inflow {
    Block { input: usize, block: BlockRef, room: Permit },
    End { input: usize },
}

impl Message for Inflow {
    type Result = ();
}

impl Message for WorkerEvent {
    type Result = ();
}

/// Begin, once the whole topology stands.
pub(crate) struct Begin {
    /// `None` for operators without workers.
    pub(crate) supervisor: Option<PoolHandle>,
}

impl Message for Begin {
    type Result = ();
}

/// Nobody needs more of this operator.
pub(crate) struct Stop;

impl Message for Stop {
    type Result = ();
}

impl Measured for Arc<Arrived> {
    fn rows(&self) -> usize {
        self.block.rows.0 as usize
    }

    fn bytes(&self) -> Bytes {
        self.block.bytes
    }

    fn ends_whole(&self) -> bool {
        self.whole
    }

    fn begins_apart(&self) -> bool {
        self.apart
    }
}

/// The actor of an operator.
pub(crate) struct OperatorShell {
    parts: ShellParts,
    supervisor: Option<PoolHandle>,
    tasks: Tasks<TaskInput, Held>,
    flow: Flow,
    outlet: Outlet,
    carried: Carried,
    /// Whether somebody looks later at what gathers.
    rolls: bool,
    /// Tasks that wait beside idle workers; see `TaskQueue::offer`.
    held_back: Option<u64>,
    /// Whether somebody looks later at those.
    looks: bool,
    /// Tasks started so far.
    started: u64,
    /// Workers asked for so far.
    asked: usize,
    /// Room that the next block to leave waits for, and since when.
    asked_room: Option<(Duration, Bytes)>,
    done: bool,
}

/// What a shell works with.
pub(crate) struct ShellParts {
    pub(crate) pool: Arc<PoolShared>,
    pub(crate) job: ActorRef<JobMessage>,
    /// The ports of its inputs.
    pub(crate) ports: Vec<RoomEdge>,
    pub(crate) workers_max: usize,
    pub(crate) attempts_max: u32,
    pub(crate) retry_backoff: Duration,
    /// Where rows that are given up are counted.
    pub(crate) given_up: GivenUp,
    pub(crate) ordered: bool,
    /// How long blocks may gather before they become a task, however few they are.
    pub(crate) roll_after: Option<Duration>,
    /// Whether that is so although tasks are made of others meanwhile: exact batches leave a rest each time.
    pub(crate) rolls_while_busy: bool,
    /// What may gather for one batch.
    pub(crate) batch_max: Bytes,
}

/// Tasks whose results have not left, for each worker: enough that a slow one does not idle the others.
const TASKS_IN_WINDOW_A_WORKER: usize = 16;

/// Tasks in the queue beyond one for each worker: what keeps workers busy while this actor sleeps.
const QUEUED_AHEAD: usize = 4;
/// Tasks that take less than this are short: waking another worker for one costs as much. Without optimization all takes
/// several times as long, and tests are to come this way too.
const SHORT_TASK: Duration = Duration::from_micros(if cfg!(debug_assertions) { 500 } else { 50 });

impl Actor for OperatorShell {
    type Context = Context<Self>;
}

impl OperatorShell {
    pub(crate) fn new(parts: ShellParts, (flow, holes): (Flow, Holes), outlet: Outlet) -> Self {
        // What fails for a whole task (a file that is written) has no row at fault.
        let isolates = parts.pool.isolates && parts.pool.scope == Scope::Batch;
        let tasks = Tasks::new(parts.ordered, parts.attempts_max).isolating(isolates);
        Self {
            parts,
            supervisor: None,
            tasks,
            flow,
            outlet,
            carried: Carried::new(holes),
            rolls: false,
            held_back: None,
            looks: false,
            started: 0,
            asked: 0,
            asked_room: None,
            done: false,
        }
    }

    /// Moves everything on that can move. Called after each event.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        if self.done {
            return;
        }
        self.start_tasks();
        self.pass_on(ctx);
        // Results that left make place for tasks.
        self.start_tasks();
        self.roll_later(ctx);
        self.look_later(ctx);
        self.keep_moving();
        if self.flow.is_exhausted() && self.tasks.is_empty() && self.outlet.is_empty() {
            self.finish();
        }
    }

    fn start_tasks(&mut self) {
        let window = TASKS_IN_WINDOW_A_WORKER * self.parts.workers_max;
        let queued_max = self.parts.workers_max + QUEUED_AHEAD;
        while self.tasks.len() < window && self.parts.pool.queue.len() < queued_max {
            let Some((input, from)) = self.flow.next_task() else { break };
            let seq = self.tasks.start(input.clone(), from, input.end());
            self.started += 1;
            if let Some(blocks) = input.without_rows() {
                self.pass_by(seq, blocks);
                continue;
            }
            self.parts.pool.metrics.set_state(OperatorState::Running);
            self.held_back =
                self.parts.pool.queue.offer(Task { seq, attempt: 1, input, from, until: Segment::END, avoid: None });
        }
        self.grow();
    }

    /// Blocks without rows are nothing to work on: they are the task's results, in its place.
    fn pass_by(&mut self, seq: u64, blocks: impl Iterator<Item = BlockRef>) {
        let window = &self.parts.pool.window;
        let results = blocks.map(|block| Held { block, room: window.force(Bytes(0)) }).collect();
        // It has only just begun, so this is its current attempt.
        let _ = self.tasks.on_emitted(seq, 1, results, Rows(0), true);
    }

    /// As many workers as there are tasks for, within the pool's limits.
    fn grow(&mut self) {
        let wanted = self.tasks.running().min(self.parts.workers_max);
        if wanted > self.asked
            && let Some(supervisor) = &self.supervisor
        {
            self.asked = wanted;
            supervisor.grow(wanted);
        }
    }

    fn pass_on(&mut self, ctx: &mut Context<Self>) {
        loop {
            if self.outlet.is_empty() {
                let Some((block, room)) = self.next_result() else { break };
                self.outlet.push(block, room);
            }
            match self.outlet.send() {
                Sent::Left(block) => self.count(&block),
                Sent::Idle => break,
                Sent::Ask(port, bytes) => {
                    self.asked_room = Some((self.parts.pool.env.now(), bytes));
                    let room = async move { port.reserve(bytes).await };
                    ctx.spawn(room.into_actor(self).map(|room, shell, ctx| {
                        shell.asked_room = None;
                        shell.outlet.grant(room);
                        shell.pump(ctx);
                    }));
                    break;
                }
                Sent::Gone => break,
            }
        }
    }

    /// The next block that leaves. One without rows waits for one that has some, which then stands for its segments too;
    /// not for long, and not at the end.
    fn next_result(&mut self) -> Option<(BlockRef, Permit)> {
        let now = self.parts.pool.env.now();
        if let Some(leaves) = self.carried.next() {
            return Some(leaves);
        }
        while let Some((block, room)) = self.next_block() {
            match self.carried.on_block(block, room, now) {
                Some(leaves) => return Some(leaves),
                None => continue,
            }
        }
        let is_last = self.flow.is_exhausted() && self.tasks.is_empty();
        if is_last { self.carried.take() } else { None }
    }

    fn next_block(&mut self) -> Option<(BlockRef, Permit)> {
        if let Some(Held { block, room }) = self.tasks.pop() {
            return Some((block, room));
        }
        match self.flow.next_passing()? {
            Step::Pass(block, room) => Some((block, room)),
            Step::Cut(block, room, rows) => Some((block.first_rows(rows), room)),
        }
    }

    fn count(&self, block: &BlockRef) {
        let metrics = &self.parts.pool.metrics;
        metrics.rows_out.add(block.rows.0);
        metrics.bytes_out.add(block.bytes.0);
        metrics.blocks_out.add(1);
    }

    /// Two rules without which a bounded window and a bounded port could wait for each other for ever.
    fn keep_moving(&mut self) {
        // Younger results hold the window's room: the oldest task may go on all the same.
        let waits_for_oldest = self.parts.ordered && self.outlet.is_empty();
        let oldest = waits_for_oldest.then(|| self.tasks.oldest_to_wait_for()).flatten();
        if let Some(oldest) = oldest {
            self.parts.pool.window.make_urgent(oldest);
        }
        self.parts.pool.window.hold(oldest);
        // The blocks at the port do not make a task yet (a large batch size): let in one more.
        if self.tasks.is_empty() && self.flow.waits_for_more() && !self.refuse_large_batch() {
            self.parts.ports.iter().for_each(|port| port.make_urgent(PORT_KEY));
        }
        if self.flow.is_satisfied() {
            // The job stops everything upstream; a job that is gone has done so.
            let _ = self.parts.job.cast(JobMessage::Satisfied(self.parts.pool.index));
        }
    }

    fn finish(&mut self) {
        self.outlet.end();
        self.end();
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        self.parts.pool.metrics.set_state(OperatorState::Done);
        self.parts.pool.queue.close();
        self.close_pool();
        // A job that is gone needs no news.
        let _ = self.parts.job.cast(JobMessage::OperatorDone(self.parts.pool.index));
    }

    fn close_pool(&self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.close();
        }
    }

    fn failed(
        &mut self,
        seq: u64,
        attempt: u32,
        worker: usize,
        (blame, cause): (Blame, Arc<BoxError>),
        ctx: &mut Context<Self>,
    ) {
        let operator = &self.parts.pool.operator;
        match self.tasks.on_failed(seq, attempt, blame) {
            Verdict::Stale => {}
            Verdict::Retry(next, failures) => {
                self.tell_retry(seq, attempt, &cause);
                self.parts.pool.metrics.retries.add(1);
                let delay = self.backoff(failures);
                ctx.run_later(delay, move |shell, ctx| {
                    shell.queue_again(seq, next, Some(worker));
                    shell.pump(ctx);
                });
            }
            Verdict::Fewer(next) => {
                self.parts.pool.metrics.retries.add(1);
                tracing::debug!(%operator, task = seq, attempt, %cause, "attempt failed, trying fewer rows");
                self.queue_again(seq, next, Some(worker));
            }
            Verdict::Skip(row, attempts) => self.give_up_row(seq, row, attempts, &cause),
            Verdict::GiveUp(attempt) => {
                let input = self.tasks.get(seq).map(|todo| describe(todo.input, todo.from)).unwrap_or_default();
                let attempts = self.parts.attempts_max;
                let operator = Arc::clone(operator);
                let error = JobError::Task { operator, task: seq, input, attempt, attempts, cause };
                // A job that is gone has failed already.
                let _ = self.parts.job.cast(JobMessage::Failed(error));
            }
        }
    }

    /// Goes on behind a row that is at fault, if the job's budget allows that. A block without rows says that the row is
    /// finished; its letter is counted before.
    fn give_up_row(&mut self, seq: u64, row: Rows, attempts: u32, cause: &Arc<BoxError>) {
        let ShellParts { pool, given_up, job, .. } = &self.parts;
        let Some(todo) = self.tasks.get(seq) else { return };
        let (segments, origins) = todo.input.segments_of(pool.index, row);
        self.tell_row(seq, row, attempts, cause);
        let (operator, origin) = ((pool.index, &*pool.operator), origins.row());
        let fallen = Fallen { operator, run: pool.run, row, segments: &segments, origin, attempts, cause };
        if let Err(error) = given_up.add(&fallen) {
            // A job that is gone has failed already.
            let _ = job.cast(JobMessage::Failed(error));
            return;
        }
        pool.metrics.rows_in.add(1);
        let block = pool.store.put(Block::new(Vec::new()), (segments, Default::default()), 0);
        if let Some(next) = self.tasks.skip(seq, Held { block, room: pool.window.force(Bytes(0)) }) {
            self.queue_again(seq, next, None);
        }
    }

    /// Hands a task out again, if this is still its current attempt.
    fn queue_again(&mut self, seq: u64, attempt: u32, avoid: Option<usize>) {
        if let Some(Todo { input, attempt: current, from, until, .. }) = self.tasks.get(seq)
            && current == attempt
        {
            let task = Task { seq, attempt, input: input.clone(), from, until, avoid };
            self.held_back = self.parts.pool.queue.offer(task);
        }
    }

    /// Doubled each time that the same rows fail; between half and all of it, so that tasks that failed together come back apart.
    fn backoff(&self, failures: u32) -> Duration {
        let full = self.parts.retry_backoff * 2u32.saturating_pow(failures.saturating_sub(1).min(10));
        let jitter = 0.5 + (self.parts.pool.env.random() % 1000) as f64 / 2000.0;
        full.mul_f64(jitter)
    }
}

/// What a task works on and how far it came, for its error.
fn describe(input: &TaskInput, from: Rows) -> String {
    let what = input.describe();
    if from == Rows(0) { what } else { format!("{what}, from row {from} on") }
}

impl Handler<Begin> for OperatorShell {
    type Result = ();

    fn handle(&mut self, Begin { supervisor }: Begin, ctx: &mut Context<Self>) {
        self.supervisor = supervisor;
        if self.done {
            // Stopped before it began.
            self.close_pool();
        }
        self.pump(ctx);
    }
}

impl Handler<Inflow> for OperatorShell {
    type Result = ();

    fn handle(&mut self, inflow: Inflow, ctx: &mut Context<Self>) {
        if self.done {
            return;
        }
        match inflow {
            Inflow::Block { input, block, room } => {
                if !self.flow.has_workers() {
                    self.parts.pool.metrics.rows_in.add(block.rows.0);
                    self.parts.pool.metrics.set_state(OperatorState::Running);
                }
                self.flow.on_block(input, block, room);
            }
            Inflow::End { input } => self.flow.on_end(input),
        }
        self.pump(ctx);
    }
}

impl Handler<WorkerEvent> for OperatorShell {
    type Result = ();

    fn handle(&mut self, event: WorkerEvent, ctx: &mut Context<Self>) {
        if self.done {
            return;
        }
        match event {
            WorkerEvent::Emitted { seq, attempt, results, progress, done } => {
                match self.tasks.on_emitted(seq, attempt, results, progress, done) {
                    Ok(Reported::Done) => {
                        self.parts.pool.metrics.tasks.add(1);
                        self.parts.pool.queue.set_short(self.parts.pool.metrics.busy_a_task() < SHORT_TASK);
                    }
                    Ok(Reported::Next(next)) => self.queue_again(seq, next, None),
                    Ok(Reported::GoesOn) | Err(_) => {}
                }
            }
            WorkerEvent::Failed { seq, attempt, worker, reached, cause } => {
                let blame = match reached {
                    None => Blame::NoRow,
                    Some(Segment::END) => Blame::Any,
                    Some(reached) => Blame::Upto(reached),
                };
                self.failed(seq, attempt, worker, (blame, cause), ctx);
            }
            WorkerEvent::PutBack { seq, attempt } => self.queue_again(seq, attempt, None),
            WorkerEvent::Lost { seq, attempt, worker, exit } => {
                let cause = Arc::new(format!("the worker died: {exit}").into());
                self.failed(seq, attempt, worker, (Blame::Any, cause), ctx);
            }
            WorkerEvent::Skipped { seq, reasons } => self.skipped(seq, reasons),
            // Tasks wait for it in the queue.
            WorkerEvent::Leased => return,
        }
        self.pump(ctx);
    }
}

impl Handler<Stop> for OperatorShell {
    type Result = ();

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) {
        self.parts.pool.stop();
        self.parts.ports.iter().for_each(RoomEdge::close);
        self.tasks.clear();
        self.outlet.clear();
        self.carried = Carried::default();
        self.flow.clear();
        self.end();
    }
}

/// A piece of a block that arrived, as a task's input.
pub(crate) fn piece((arrived, from, rows): (Arc<Arrived>, usize, usize)) -> Piece {
    Piece { arrived, from, rows }
}
