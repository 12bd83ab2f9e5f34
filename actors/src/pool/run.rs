//! Running one task: slice after slice, room first, then a turn on a core, then the call, then the results.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;

use super::chain::Produced;
use super::doing::Doing;
use super::input::{Input, NextBytes, Pieces, Reading, Slice};
use super::isolated::BrokenOff;
use super::outbox::Outbox;
use super::task::{Task, TaskInput, WorkerEvent};
use super::window::Took;
use super::worker::{Logic, PoolShared};
use crate::block::{Origins, batch_bytes};
use crate::job::why::picture::At;
use crate::operator::{BatchSize, BoxError, OpenContext, OperatorResult, ReadBatch, Scope, TaskContext};
use crate::runtime::room::Permit;
use crate::runtime::watch::guarded;
use crate::scheduler::turns::QUANTUM;
use crate::units::{Bytes, Rows};

/// Readers never get more rows than this at once, however small they are.
const READ_ROWS_MAX: usize = 64 * 1024;

/// And where the operator says how many rows a batch has, so many or, if that is few, whole batches of about this.
const READ_ROWS_MIN: usize = 256;

/// Most rows that a reader may decode at once.
fn read_rows(batch_size: BatchSize) -> usize {
    match batch_size.rows() {
        None => READ_ROWS_MAX,
        Some(rows) => rows.get().saturating_mul(READ_ROWS_MIN.div_ceil(rows.get())).min(READ_ROWS_MAX),
    }
}

/// A worker's hold on a core, kept from task to task while there is work. The turn itself lies with the pool, so that
/// the core is not lost with a worker whose user code never returns.
pub(crate) struct Core {
    worker: usize,
    doing: Arc<Doing>,
    held: bool,
    since: Duration,
}

impl Core {
    pub(crate) fn new(worker: usize, doing: Arc<Doing>) -> Self {
        Self { worker, doing, held: false, since: Duration::ZERO }
    }

    /// Where its worker says what it is doing.
    pub(crate) fn doing(&self) -> &Doing {
        &self.doing
    }

    pub(crate) fn release(&mut self, pool: &PoolShared) {
        if std::mem::take(&mut self.held) {
            pool.give_turn_back(self.worker);
        }
    }

    /// Takes a turn, waiting for it, unless one is held.
    pub(crate) async fn hold(&mut self, pool: &PoolShared) {
        if self.held || pool.cpu_milli == 0 {
            return;
        }
        let from = pool.env.now();
        self.doing.at(At::Turn);
        let turn = pool.turns.take(pool.priority, pool.cpu_milli).await;
        pool.keep_turn(self.worker, turn, &self.doing);
        self.held = true;
        self.since = pool.env.now();
        pool.metrics.waited_lease.add_time(self.since.saturating_sub(from));
    }

    /// Lets others go first if they wait and this worker had its time.
    pub(crate) fn yield_if_wanted(&mut self, pool: &PoolShared, now: Duration) {
        if self.held && now.saturating_sub(self.since) >= QUANTUM {
            if pool.turn_is_wanted(self.worker) {
                self.release(pool);
            }
            self.since = now;
        }
    }
}

/// After a longer slice, another thread of this core goes first. A model's own thread hands its result back to a worker
/// that may be queued behind this one, and the system would let it wait for milliseconds while the other core is idle.
/// Shorter ones are left to the system's own time slices.
const LONG_SLICE: Duration = Duration::from_micros(100);

/// One attempt of a task on a worker.
pub(crate) struct Run<'a> {
    pool: &'a PoolShared,
    task: &'a Task,
    ctx: &'a OpenContext,
    core: &'a mut Core,
    outbox: Outbox<'a>,
    /// Room of the batch that a reader holds.
    read_room: Option<Permit>,
}

/// How an attempt ended, if not with an error.
pub(crate) enum Ended {
    Done,
    /// Nobody needs more of this operator.
    Stopped,
    /// No room for this task, and an older one waits for a worker: it goes back to the queue, to go on where it is.
    PutBack,
    /// Its call came back after it had been given up.
    GivenUp,
}

/// Why an attempt failed.
pub(crate) struct Fault {
    pub(crate) error: BoxError,
    /// The row behind the last of the call that failed, if one did.
    pub(crate) reached: Option<Rows>,
}

impl From<BoxError> for Fault {
    fn from(error: BoxError) -> Self {
        Self { error, reached: None }
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(pool: &'a PoolShared, task: &'a Task, ctx: &'a OpenContext, core: &'a mut Core) -> Self {
        Self { pool, task, ctx, core, outbox: Outbox::new(pool, task, ctx.worker), read_room: None }
    }

    /// Runs the task to its end. On a fault, results of the calls before it have been passed on.
    pub(crate) async fn run(mut self, logic: &mut Logic) -> Result<Ended, Fault> {
        let result = match self.slices(logic).await {
            Err(fault) if fault.error.is::<BrokenOff>() => Ok(Ended::Stopped),
            result => result,
        };
        if self.core.doing().is_gone() {
            return Ok(Ended::GivenUp);
        }
        if result.is_err() && self.pool.scope == Scope::Batch {
            self.outbox.flush(false);
        }
        result
    }

    async fn slices(&mut self, logic: &mut Logic) -> Result<Ended, Fault> {
        if self.task.input.is_on_disk() {
            // Who waits for a disk holds no core. The room for it was taken when the block came.
            self.core.release(self.pool);
            self.core.doing().restores(self.task);
            self.task.input.restore()?;
            if !self.core.doing().came_back() {
                return Ok(Ended::GivenUp);
            }
        }
        self.core.hold(self.pool).await;
        self.core.doing().begin(self.task);
        let number = (u64::from(self.pool.run) << TaskContext::RUN_SHIFT) + self.task.seq;
        let context = TaskContext { task: number, attempt: self.task.attempt };
        match logic {
            Logic::Chain(chain) => chain.begin(&context)?,
            Logic::Isolated(isolated) => isolated.begin(context).await?,
            Logic::Actor(_) => {}
        }
        let mut input = self.open_input()?;
        if !self.core.doing().came_back() {
            return Ok(Ended::GivenUp);
        }
        loop {
            let slice_bytes = self.pool.estimate().slice_bytes(self.pool.batch_bytes, self.pool.block_bytes);
            let room = match self.take_room(&input, slice_bytes).await {
                Ok(room) => room,
                Err(ended) => return Ok(ended),
            };
            self.core.hold(self.pool).await;
            if self.pool.is_stopped() {
                return Ok(Ended::Stopped);
            }
            let from = self.pool.env.now();
            self.core.doing().call(self.outbox.progress(), from);
            let slice = input.next(slice_bytes);
            self.report_skipped(&mut input);
            let Some(slice) = slice? else {
                return Ok(self.finish(logic, &input, room).await?);
            };
            let reached = Some(slice.progress);
            let called = self.call(logic, slice, room).await;
            if !called.map_err(|error| Fault { error, reached })? {
                return Ok(Ended::GivenUp);
            }
            let now = self.pool.env.now();
            let took = now.saturating_sub(from);
            self.pool.metrics.busy.add_time(took);
            self.pool.calls.add(took);
            if took >= LONG_SLICE && self.pool.turns.exceed_cores() {
                std::thread::yield_now();
            }
            self.core.yield_if_wanted(self.pool, now);
        }
    }

    fn open_input(&self) -> OperatorResult<Input> {
        let pool = self.pool;
        match &self.task.input {
            TaskInput::Split(number, split, to) => {
                let source = pool.source.as_ref().ok_or("a split at an operator that does not read")?;
                let batch =
                    ReadBatch { bytes: pool.batch_bytes.min(pool.block_bytes), rows_max: read_rows(pool.batch_size) };
                let rows = self.task.from..self.task.until.min(*to);
                let reader = guarded(|| source.open(split, rows.clone(), batch, self.ctx))??;
                Ok(Input::Reading(Reading::new(reader, (pool.index, *number), rows, pool.batch_size)))
            }
            TaskInput::Pieces(pieces) => {
                let rows = self.task.from..self.task.until;
                Ok(Input::Pieces(Pieces::new(pieces, rows, pool.batch_size)?))
            }
        }
    }

    /// Room for the next call's results, and for its input if that is still to be read; or why there will be none.
    async fn take_room(&mut self, input: &Input, slice_bytes: Bytes) -> Result<Permit, Ended> {
        // One claim for both: the oldest task of a full window is let in once for each report to its operator.
        let (read, call) = match input.next_bytes(slice_bytes) {
            NextBytes::InMemory(bytes) => (Bytes(0), bytes),
            NextBytes::ToRead(bytes) => {
                self.read_room = None;
                (bytes, bytes.min(slice_bytes))
            }
        };
        let results = match self.pool.scope {
            Scope::Batch => self.pool.estimate().room_bytes(call),
            // Results of a whole task are a line or two at its end: there is nothing to wait for, and so no reason to
            // put the task back and begin it again.
            Scope::Task => Bytes(0),
        };
        if self.pool.scope == Scope::Task {
            // A task that cannot pass anything on before its end cannot wait for room either.
            self.read_room = (read > Bytes(0)).then(|| self.pool.window.force(read));
            return Ok(self.pool.window.force(results));
        }
        let mut room = self.room(read + results).await?;
        if read > Bytes(0) {
            self.read_room = Some(room.split(read));
        }
        Ok(room)
    }

    async fn room(&mut self, bytes: Bytes) -> Result<Permit, Ended> {
        if let Some(permit) = self.pool.window.try_take(bytes, self.task.seq) {
            return Ok(permit);
        }
        // Who waits holds neither results back nor a core.
        self.outbox.flush(false);
        self.core.release(self.pool);
        let from = self.pool.env.now();
        self.core.doing().at(At::Room(bytes));
        let permit = self.wait_for_room(bytes).await;
        self.pool.metrics.waited_room.add_time(self.pool.env.now().saturating_sub(from));
        permit.and_then(|permit| if self.pool.is_stopped() { Err(Ended::Stopped) } else { Ok(permit) })
    }

    async fn wait_for_room(&self, bytes: Bytes) -> Result<Permit, Ended> {
        let mut take = pin!(self.pool.window.take(bytes, self.task.seq));
        let mut older = pin!(self.pool.queue.older_than(self.task.seq));
        loop {
            tokio::select! {
                biased;
                took = &mut take => return match took {
                    Took::Room(permit) => Ok(permit),
                    Took::Closed => Err(Ended::Stopped),
                    Took::PutBack => Err(Ended::PutBack),
                },
                () = &mut older => return Err(Ended::PutBack),
                () = self.pool.window.relieve() => {}
            }
        }
    }

    /// `false` if the call came back after it had been given up: its results are not wanted.
    async fn call(&mut self, logic: &mut Logic, slice: Slice, room: Permit) -> OperatorResult<bool> {
        let input = slice.batches.iter().map(batch_bytes).sum();
        let rows = slice.batches.iter().map(|batch| batch.num_rows() as u64).sum();
        self.core.doing().rows(rows);
        let produced = logic.process(slice.batches, slice.progress - Rows(rows)).await;
        if !self.core.doing().came_back() {
            return Ok(false);
        }
        let produced = produced?;
        let out = self.outbox.add(produced.batches, room);
        self.pool.estimate().learn(input, produced.peak.max(input), out);
        self.outbox.passed(slice.progress, &slice.segments, slice.origins);
        if self.outbox.is_full() && self.pool.scope == Scope::Batch {
            self.outbox.flush(false);
        }
        Ok(true)
    }

    async fn finish(&mut self, logic: &mut Logic, input: &Input, room: Permit) -> Result<Ended, BoxError> {
        let produced = match logic {
            Logic::Chain(chain) => chain.finish()?,
            Logic::Isolated(isolated) => isolated.finish().await?,
            Logic::Actor(_) => Produced::default(),
        };
        if !self.core.doing().came_back() {
            return Ok(Ended::GivenUp);
        }
        self.outbox.add(produced.batches, room);
        if let Input::Reading(reading) = input {
            let (progress, segments) = reading.tail();
            self.outbox.passed(progress, &segments, Origins::default());
        }
        self.outbox.flush(true);
        Ok(Ended::Done)
    }

    fn report_skipped(&self, input: &mut Input) {
        if let Input::Reading(reading) = input {
            let skipped = reading.take_skipped();
            if !skipped.is_empty() {
                self.pool.tell(WorkerEvent::Skipped { seq: self.task.seq, reasons: skipped });
            }
        }
    }
}

impl Logic {
    /// Runs batches, the first of which is row `from` of the task's input.
    async fn process(&mut self, batches: Vec<RecordBatch>, from: Rows) -> OperatorResult<Produced> {
        let actor = match self {
            Self::Chain(chain) => return chain.process(batches),
            Self::Isolated(isolated) => return isolated.process(batches, from.0).await,
            Self::Actor(actor) => actor,
        };
        let mut peak: Bytes = batches.iter().map(batch_bytes).sum();
        let mut results = Vec::new();
        for batch in batches {
            let reply = guarded(|| actor.process(batch))?;
            results.extend(reply.await?.into_iter().filter(|batch| batch.num_rows() > 0));
        }
        peak += results.iter().map(batch_bytes).sum();
        Ok(Produced { batches: results, peak })
    }
}

/// The cause of a failed attempt, shared by its report and by the worker's own end.
pub(crate) type Cause = Arc<BoxError>;
