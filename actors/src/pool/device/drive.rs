//! The loop of a worker that computes on a device.
//!
//! It keeps the device's thread supplied: while a batch runs, two more are ready. So tasks overlap: when the rows of one
//! are all handed over, the next is pulled, and both are at hand until the device is done with the first. Batches come
//! back in the order they went in, so results are passed on just as by any other worker: task by task, each up to the
//! row it stands for.
//!
//! Whatever it waits for (a task, room, the device), it hears of batches that are done and passes them on: room that
//! younger tasks wait for comes back, and the device gets the next batch.

use std::collections::VecDeque;
use std::pin::pin;

use arrow::record_batch::RecordBatch;

use super::climb::Climber;
use super::feed::{Feed, PartId};
use super::thread::{DeviceEvent, DeviceTask, DeviceThread, Meter};
use crate::block::{Origins, Segments, batch_bytes};
use crate::job::why::picture::At;
use crate::operator::{BoxError, Computed, DeviceBatch, DeviceError, OperatorResult};
use crate::pool::chain::Chain;
use crate::pool::input::{Pieces, Slice};
use crate::pool::outbox::Outbox;
use crate::pool::run::Core;
use crate::pool::task::{Task, TaskInput, WorkerEvent};
use crate::pool::window::Took;
use crate::pool::worker::PoolShared;
use crate::runtime::room::Permit;
use crate::units::{Bytes, Rows};

/// A worker's loop, for as long as its operator is open.
pub(crate) struct Drive<'a> {
    pub(crate) pool: &'a PoolShared,
    pub(crate) worker: usize,
    pub(crate) core: &'a mut Core,
    pub(crate) chain: &'a mut Chain,
    device: DeviceThread,
    meter: Meter,
    climber: Climber,
    feed: Feed<InFlight, RecordBatch, Computed>,
    /// The tasks at hand, oldest first: only the last is still being fed.
    runs: VecDeque<TaskRun<'a>>,
}

/// A slice of a task on its way through the device.
struct InFlight {
    seq: u64,
    progress: Rows,
    segments: Segments,
    origins: Origins,
    input: Bytes,
    /// For its results.
    room: Permit,
}

struct TaskRun<'a> {
    task: Task,
    pieces: Pieces,
    outbox: Outbox<'a>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not all of its rows are handed over.
    Feeding,
    /// All are.
    AllIn,
    /// An older task needs the worker: what is handed over is the last of this attempt.
    PutBack,
}

/// Why a loop ended before its pool did.
pub(crate) struct Failed {
    /// The task whose rows were at fault, if one was.
    pub(crate) task: Option<Task>,
    pub(crate) error: BoxError,
    /// The row behind the last of those.
    pub(crate) reached: Option<Rows>,
    /// Whether the device was at fault, and whether it is of no more use to this worker.
    of_device: bool,
    pub(crate) is_lost: bool,
}

impl<'a> Drive<'a> {
    pub(crate) fn new(
        pool: &'a PoolShared,
        worker: usize,
        core: &'a mut Core,
        chain: &'a mut Chain,
        (device, meter): (DeviceThread, Meter),
        batch: &DeviceBatch,
    ) -> Self {
        let (feed, runs) = (Feed::new(), VecDeque::new());
        let climber = meter.climber().unwrap_or_else(|| Climber::new(batch));
        Self { pool, worker, core, chain, device, meter, climber, feed, runs }
    }

    /// Waits until the device half is made, then runs tasks until the pool ends. On a failure, results of the calls
    /// before it have been passed on, and the other tasks at hand go back to the queue.
    pub(crate) async fn run(mut self) -> Result<(), Failed> {
        let result = match self.device.event().await {
            DeviceEvent::Ready(Ok(())) | DeviceEvent::Done { .. } => self.tasks().await,
            DeviceEvent::Ready(Err(error)) => Err(failed(None, error)),
        };
        if let Err(failed) = &result {
            if failed.of_device {
                // What the device did before it failed stays done; the first failure is the one to tell.
                let _ = self.settle(true).await;
            }
            self.let_go(failed);
            if failed.of_device {
                // It is dropped with the chain, whatever it says.
                let _ = self.chain.on_device(|device| {
                    device.device_failed();
                    Ok(())
                });
            }
        }
        self.core.release(self.pool);
        self.meter.keep(self.climber);
        // What is on its way holds room that others may need.
        drop((self.feed, self.runs));
        self.core.doing().closes();
        self.device.end().await;
        if let Err(Failed { task: Some(task), .. }) = &result {
            self.pool.queue.done(self.worker, task.seq);
        }
        result
    }

    async fn tasks(&mut self) -> Result<(), Failed> {
        while !self.pool.is_stopped() {
            while let Some(event) = self.device.try_event() {
                self.on_event(event)?;
            }
            self.settle(false).await?;
            self.supply().await?;
            let feeding = self.runs.back().is_some_and(|run| run.state == State::Feeding);
            if feeding && self.feed.has_place() {
                self.feed_slice().await?;
            } else if !feeding && self.feed.has_place() && self.pull_at_once()? {
                // On to its rows.
            } else if !self.feed.is_empty() {
                self.wait_for_device(!feeding && self.feed.has_place()).await?;
            } else if !self.pull().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the next task if one waits.
    fn pull_at_once(&mut self) -> Result<bool, Failed> {
        let task = self.pool.queue.try_pull_more(self.worker);
        task.map_or(Ok(false), |task| self.begin(task))
    }

    /// Waits for a task, with nothing at hand; `false` when the pool is closed.
    async fn pull(&mut self) -> Result<bool, Failed> {
        self.core.release(self.pool);
        self.core.doing().idle();
        let from = self.pool.env.now();
        let task = self.pool.queue.pull(self.worker).await;
        self.pool.metrics.waited_input.add_time(self.pool.env.now().saturating_sub(from));
        task.map_or(Ok(false), |task| self.begin(task))
    }

    fn begin(&mut self, task: Task) -> Result<bool, Failed> {
        let is_on_disk = task.input.is_on_disk();
        if is_on_disk {
            self.core.doing().restores(&task);
        }
        let pieces = match &task.input {
            TaskInput::Pieces(pieces) => Pieces::new(pieces, task.from..task.until, self.pool.batch_size),
            TaskInput::Split(..) => Err("a split at an operator that does not read".into()),
        };
        let pieces = pieces.map_err(|error| of_rows(Some(task.clone()), error))?;
        if is_on_disk {
            self.came_back()?;
        }
        self.core.doing().begin(&task);
        let outbox = Outbox::new(self.pool, &task, self.worker);
        let state = if pieces.left().is_some() { State::Feeding } else { State::AllIn };
        self.runs.push_back(TaskRun { task, pieces, outbox, state });
        Ok(true)
    }

    /// Cuts the next batch of the task that is being fed, once there is room for its results.
    async fn feed_slice(&mut self) -> Result<(), Failed> {
        let Some(run) = self.runs.back() else { return Ok(()) };
        let (seq, Some((left, row_bytes))) = (run.task.seq, run.pieces.left()) else { return Ok(()) };
        let rows = self.climber.rows(row_bytes).min(left);
        let input = Bytes(row_bytes.0.saturating_mul(rows as u64));
        let results = self.pool.estimate().room_bytes(input);
        let Some(room) = self.room(seq, results).await? else { return Ok(()) };
        self.core.hold(self.pool).await;
        let Some(run) = self.runs.back_mut() else { return Ok(()) };
        let slice = run.pieces.next_rows(rows).map_err(|error| of_rows(Some(run.task.clone()), error))?;
        if run.pieces.left().is_none() {
            run.state = State::AllIn;
        }
        if let Some(mut slice) = slice
            && let Some(batch) = slice.batches.pop()
        {
            let input = batch_bytes(&batch);
            let Slice { progress, segments, origins, .. } = slice;
            self.feed.push(InFlight { seq, progress, segments, origins, input, room }, batch);
        }
        Ok(())
    }

    /// Room for the results of a slice; `None` if the task goes back or the pool ends.
    async fn room(&mut self, seq: u64, bytes: Bytes) -> Result<Option<Permit>, Failed> {
        let pool = self.pool;
        if let Some(permit) = pool.window.try_take(bytes, seq) {
            return Ok(Some(permit));
        }
        // Who waits holds neither results back nor a core.
        self.flush();
        self.core.release(pool);
        let from = pool.env.now();
        self.meter.lock().on_blocked(from, true);
        self.core.doing().at(At::Room(bytes));
        let mut take = pin!(pool.window.take(bytes, seq));
        let mut older = pin!(pool.queue.older_than(seq));
        let took = loop {
            tokio::select! {
                biased;
                took = &mut take => break took,
                () = &mut older => break Took::PutBack,
                () = pool.window.relieve() => {}
                event = self.device.event() => {
                    self.on_event(event)?;
                    self.settle(true).await?;
                    self.supply().await?;
                    self.core.release(pool);
                }
            }
        };
        let now = pool.env.now();
        self.meter.lock().on_blocked(now, false);
        pool.metrics.waited_room.add_time(now.saturating_sub(from));
        match took {
            Took::Room(permit) if !pool.is_stopped() => return Ok(Some(permit)),
            Took::Room(_) | Took::Closed => {}
            Took::PutBack => self.runs.back_mut().into_iter().for_each(|run| run.state = State::PutBack),
        }
        Ok(None)
    }

    /// Hands over to the device what it has place for.
    async fn supply(&mut self) -> Result<(), Failed> {
        while let Some((id, batch)) = self.feed.start() {
            let batch = batch.clone();
            self.core.hold(self.pool).await;
            self.core.doing().call(Rows(0), self.pool.env.now());
            let prepared =
                self.chain.prepare(&batch).map_err(|error| of_rows(self.task_of(id), error).upto(self.reached(id)))?;
            self.came_back()?;
            let of = self.task_of(id).map(|task| (task.seq, task.attempt)).unwrap_or_default();
            let task = DeviceTask { id, of, rows: batch.num_rows(), prepared };
            self.device.submit(task).map_err(|error| failed(self.task_of(id), error).upto(self.reached(id)))?;
        }
        Ok(())
    }

    /// Waits until the device is done with a batch, or a task comes if one is wanted.
    async fn wait_for_device(&mut self, or_task: bool) -> Result<(), Failed> {
        self.core.release(self.pool);
        self.core.doing().at(At::Device);
        let task = async {
            match or_task {
                true => self.pool.queue.older_than(u64::MAX).await,
                false => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            event = self.device.event() => event,
            () = task => return Ok(()),
        };
        self.on_event(event)
    }

    fn on_event(&mut self, event: DeviceEvent) -> Result<(), Failed> {
        let (id, result, took) = match event {
            DeviceEvent::Ready(result) => return result.map_err(|error| failed(None, error)),
            DeviceEvent::Done { id, result, took } => (id, result, took),
        };
        self.pool.metrics.busy.add_time(took);
        self.pool.calls.add(took);
        let rows = self.feed.part(id).map_or(0, |(_, batch)| batch.num_rows());
        match result {
            Ok(computed) => {
                self.climber.on_run(rows, took);
                self.feed.done(id, computed);
                Ok(())
            }
            Err(DeviceError::OutOfMemory(cause)) => self.halve(id, cause),
            Err(error) => Err(failed(self.task_of(id), error).upto(self.reached(id))),
        }
    }

    /// The rows that were too many run again in two parts.
    fn halve(&mut self, id: PartId, cause: BoxError) -> Result<(), Failed> {
        let Some((_, batch)) = self.feed.part(id) else { return Ok(()) };
        let (batch, rows) = (batch.clone(), batch.num_rows());
        let Some(first) = self.climber.on_out_of_memory(rows) else {
            let error =
                format!("{cause}; a batch of {rows} rows is the smallest there can be: give the device less to hold");
            return Err(of_rows(self.task_of(id), error.into()).upto(self.reached(id)));
        };
        tracing::debug!(operator = %self.pool.operator, worker = self.worker, rows, first, "out of memory on the device");
        self.feed.split(id, batch.slice(0, first), batch.slice(first, rows - first));
        Ok(())
    }

    /// Passes on what is done, oldest first, and ends the tasks that are all done.
    async fn settle(&mut self, flush: bool) -> Result<(), Failed> {
        while let Some((slice, done)) = self.feed.pop() {
            self.core.hold(self.pool).await;
            self.core.doing().call(Rows(0), self.pool.env.now());
            let produced = self.chain.finish_on_device(done);
            self.came_back()?;
            let run = self.runs.iter_mut().find(|run| run.task.seq == slice.seq);
            let task = run.as_ref().map(|run| run.task.clone());
            let produced = produced.map_err(|error| of_rows(task, error).upto(Some(slice.progress)))?;
            let Some(run) = run else { continue };
            let out = run.outbox.add(produced.batches, slice.room);
            self.pool.estimate().learn(slice.input, produced.peak.max(slice.input), out);
            run.outbox.passed(slice.progress, &slice.segments, slice.origins);
            if flush || run.outbox.is_full() {
                run.outbox.flush(false);
            }
            let now = self.pool.env.now();
            self.core.yield_if_wanted(self.pool, now);
        }
        self.end_tasks();
        Ok(())
    }

    fn end_tasks(&mut self) {
        let feed = &self.feed;
        let is_over =
            |run: &TaskRun| run.state != State::Feeding && !feed.slices().any(|slice| slice.seq == run.task.seq);
        while let Some(mut run) = self.runs.pop_front_if(|run| is_over(run)) {
            self.pool.queue.done(self.worker, run.task.seq);
            match run.state {
                State::PutBack => put_back(self.pool, &mut run),
                State::Feeding | State::AllIn => run.outbox.flush(true),
            }
        }
    }

    /// A call of user code on the host has come back; if it had been given up, the loop ends.
    fn came_back(&self) -> Result<(), Failed> {
        match self.core.doing().came_back() {
            true => Ok(()),
            false => Err(of_rows(None, "it was given up".into())),
        }
    }

    fn flush(&mut self) {
        self.runs.iter_mut().for_each(|run| run.outbox.flush(false));
    }

    /// What was done stays done; tasks that are not at fault wait for a worker again.
    fn let_go(&mut self, failed: &Failed) {
        self.flush();
        let fault = failed.task.as_ref().map(|task| task.seq);
        // The one at fault is this worker's until the device has ended: that may hang, and whoever gives the worker up then
        // has to find it.
        for mut run in self.runs.drain(..).filter(|run| Some(run.task.seq) != fault) {
            self.pool.queue.done(self.worker, run.task.seq);
            put_back(self.pool, &mut run);
        }
    }

    /// The row behind the last of the slice that a part is of.
    fn reached(&self, id: PartId) -> Option<Rows> {
        self.feed.part(id).map(|(slice, _)| slice.progress)
    }

    fn task_of(&self, id: PartId) -> Option<Task> {
        let (slice, _) = self.feed.part(id)?;
        self.runs.iter().find(|run| run.task.seq == slice.seq).map(|run| run.task.clone())
    }
}

fn put_back(pool: &PoolShared, run: &mut TaskRun) {
    run.outbox.flush(false);
    pool.tell(WorkerEvent::PutBack { seq: run.task.seq, attempt: run.task.attempt });
}

/// The rows are at fault, or the code that looks at them.
fn of_rows(task: Option<Task>, error: BoxError) -> Failed {
    Failed { task, error, reached: None, of_device: false, is_lost: false }
}

impl Failed {
    fn upto(self, reached: Option<Rows>) -> Self {
        Self { reached, ..self }
    }
}

fn failed(task: Option<Task>, error: DeviceError) -> Failed {
    let is_lost = matches!(error, DeviceError::Lost(_));
    let error = match error {
        DeviceError::OutOfMemory(error) | DeviceError::Lost(error) | DeviceError::Failed(error) => error,
    };
    Failed { task, error, reached: None, of_device: true, is_lost }
}

/// Has the device half made that the chain's first operator has; `None` if it has none.
pub(crate) fn half(chain: &mut Chain) -> Option<OperatorResult<(DeviceBatch, crate::operator::MakeDeviceHalf)>> {
    chain.on_device(|device| Ok((device.batch(), device.half()?)))
}
