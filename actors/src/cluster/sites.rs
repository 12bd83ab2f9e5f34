//! The pool of an operator whose workers live on several nodes: the actor on the head that pulls tasks for them.
//!
//! It owns, for each node, the slots in which tasks are out. It dies with its operator. A node that is lost gives its
//! tasks back; blocks that were lost with it fail the job with [`JobError::NodeLost`], and whoever owns the job starts
//! it again from what is finished.
//!
//! Protocol: `Close` from the operator's actor; `Why` from the job's, see [`why`]; `Opened`, `Pulled`, `Frame`, `Took` and `Gone` from its own waiting
//! tasks. To the nodes and back: see [`super::frames`]. When the last node has ended, the job is told `PoolEnded`.

mod opening;
mod reported;
mod room;
mod why;

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::{mpsc, oneshot};

use self::reported::Reported;
use self::room::Asked;
use super::frames::{FromPool, InputFrame, MetricsFrame, PieceFrame, TaskFrame, ToPool};
use super::gate::Gate;
use super::placement::division::Leases;
use super::site::{Lender, Lenders, PoolLink, PoolOrder, PoolShare, Site};
use crate::block::{BlockName, BlockRef};
use crate::job::why::picture::PlacedPool;
use crate::job::{JobError, JobMessage, WorkerGaveUp, told};
use crate::logs::JobLogs;
use crate::operator::BoxError;
use crate::pool::task::{Held, Task, TaskInput, WorkerEvent};
use crate::pool::window::Took;
use crate::pool::worker::PoolShared;
use crate::runtime::guardian::GaveUp;
use crate::runtime::room::Permit;
use crate::runtime::tasks::spawn;
use crate::runtime::watch::Exit;
use crate::units::Bytes;

/// Workers of one node have numbers below this in their operator, those of the next begin here.
const WORKERS_A_SITE_MAX: usize = 4096;

/// What the pool is told.
pub(crate) enum SitesMessage {
    Close,
    Opened {
        site: usize,
        link: Result<PoolLink, BoxError>,
    },
    Pulled {
        site: usize,
        slot: usize,
        task: Option<Task>,
    },
    Frame {
        site: usize,
        frame: Reported,
    },
    Took {
        asked: Asked,
        bytes: Bytes,
        took: Took,
    },
    Gone {
        site: usize,
        why: String,
    },
    /// What do its workers wait for?
    Why(RpcReplyPort<Vec<PlacedPool>>),
    /// The nodes have had their time to answer that.
    WhyDue,
}

/// The actor.
pub(crate) struct SitePools;

/// What the pool is made of.
pub(crate) struct SitesArguments {
    pub(crate) pool: Arc<PoolShared>,
    pub(crate) job: ActorRef<JobMessage>,
    /// What to open on each node.
    pub(crate) order: PoolOrder,
    /// Where its workers go.
    pub(crate) shares: Vec<PoolShare>,
    /// What pools pass before they are opened.
    pub(crate) gate: Gate,
    /// Where it says who keeps its blocks.
    pub(crate) lenders: Lenders,
    /// Where logs of its workers go.
    pub(crate) logs: JobLogs,
}

/// What the pool remembers.
pub(crate) struct SitesState {
    pool: Arc<PoolShared>,
    job: ActorRef<JobMessage>,
    sites: Vec<OpenSite>,
    gate: Gate,
    logs: JobLogs,
    closed: bool,
    /// Asks for room so far.
    asks: u64,
    asking: why::Asking,
}

struct OpenSite {
    site: Arc<dyn Site>,
    lender: Arc<Lender>,
    slots: usize,
    to: Option<mpsc::Sender<ToPool>>,
    /// What is out, by slot.
    out: BTreeMap<usize, Out>,
    workers: usize,
    leases: Leases,
    /// Whether a worker there has what it needs: tasks that came before would wait there, though others could run them.
    leased: bool,
    ended: bool,
}

/// A task that is out.
struct Out {
    seq: u64,
    attempt: u32,
    room: Option<Permit>,
    /// What it waits for: room, or to be put back. Dropped, nobody waits any more.
    ask: Option<(u64, oneshot::Sender<()>)>,
}

impl SitesState {
    fn opened(&mut self, myself: &ActorRef<SitesMessage>, site: usize, link: PoolLink) {
        let Some(open) = self.sites.get_mut(site) else { return };
        let PoolLink { to, mut from } = link;
        open.to = Some(to);
        let (reader, there) = (myself.clone(), Arc::clone(&open.site));
        spawn(async move {
            // To the end, whether or not the actor still listens: what nobody takes lets its blocks go.
            while let Some(frame) = from.recv().await {
                let _ = reader.cast(SitesMessage::Frame { site, frame: Reported::new(frame, &*there) });
            }
            let _ = reader.cast(SitesMessage::Gone { site, why: "its stream ended".to_owned() });
        });
        if open.leased {
            self.pull_all(myself, site);
        }
        if self.closed {
            self.close_site(myself, site);
        }
    }

    fn pull_all(&self, myself: &ActorRef<SitesMessage>, site: usize) {
        let slots = self.sites.get(site).map_or(0, |open| open.slots);
        (0..slots).for_each(|slot| self.pull(myself, site, slot));
    }

    /// Waits for the next task of a slot.
    fn pull(&self, myself: &ActorRef<SitesMessage>, site: usize, slot: usize) {
        let Some(open) = self.sites.get(site).filter(|open| !open.site.is_draining()) else { return };
        let (queue, myself, near) = (self.pool.queue.clone(), myself.clone(), open.site.id());
        spawn(async move {
            let task = queue.pull_near(worker(site, slot), Some(near)).await;
            let _ = myself.cast(SitesMessage::Pulled { site, slot, task });
        });
    }

    fn pulled(&mut self, myself: &ActorRef<SitesMessage>, site: usize, slot: usize, task: Task) {
        let Some(open) = self.sites.get_mut(site) else { return };
        if open.ended || open.site.is_draining() {
            return self.hand_back(site, slot);
        }
        let frame = TaskFrame {
            seq: task.seq,
            attempt: task.attempt,
            from: task.from,
            until: task.until,
            input: frame(&task.input),
        };
        open.out.insert(slot, Out { seq: task.seq, attempt: task.attempt, room: None, ask: None });
        self.send_or_lose(myself, site, ToPool::Task(frame));
    }

    /// `false` if the node is gone. The stream holds more frames than there are slots, so it is never full for long; a
    /// node that does not read them is as good as gone.
    fn send(&self, site: usize, frame: ToPool) -> bool {
        let to = self.sites.get(site).and_then(|open| open.to.as_ref());
        to.is_some_and(|to| to.try_send(frame).is_ok())
    }

    /// Somebody waits for each of these frames: a node that does not get one has left.
    fn send_or_lose(&mut self, myself: &ActorRef<SitesMessage>, site: usize, frame: ToPool) {
        if !self.send(site, frame) {
            self.gone(myself, site, "it does not read its stream");
        }
    }

    /// A slot will run nothing any more: what was pulled for it and never sent goes back to the queue.
    fn hand_back(&self, site: usize, slot: usize) {
        for (seq, attempt) in self.pool.queue.leave(worker(site, slot)) {
            self.pool.tell(WorkerEvent::PutBack { seq, attempt });
        }
    }

    /// The task of a slot was lost: it is tried elsewhere.
    fn give_back(&mut self, site: usize, slot: usize) {
        let Some(open) = self.sites.get_mut(site) else { return };
        open.out.remove(&slot);
        let name = open.site.name();
        for (seq, attempt) in self.pool.queue.leave(worker(site, slot)) {
            let exit = Exit::Failed(Arc::new(format!("node {name} was lost").into()));
            self.pool.tell(WorkerEvent::Lost { seq, attempt, worker: worker(site, slot), exit });
        }
    }

    fn frame(&mut self, myself: &ActorRef<SitesMessage>, site: usize, frame: FromPool) -> Result<(), BoxError> {
        match frame {
            FromPool::Emitted { seq, attempt, results, left, progress, done } => {
                if let Some(foreign) = self.foreign(site, &results) {
                    return Err(foreign);
                }
                let results = self.results(site, seq, attempt, results, left);
                self.pool.tell(WorkerEvent::Emitted { seq, attempt, results, progress, done });
                if done {
                    self.free(myself, site, seq, attempt);
                }
            }
            FromPool::Failed { seq, attempt, reached, cause } => {
                if let Some(slot) = self.free(myself, site, seq, attempt) {
                    let cause = Arc::new(told(cause));
                    self.pool.tell(WorkerEvent::Failed { seq, attempt, worker: worker(site, slot), reached, cause });
                }
            }
            FromPool::PutBack { seq, attempt } => {
                if self.free(myself, site, seq, attempt).is_some() {
                    self.pool.tell(WorkerEvent::PutBack { seq, attempt });
                }
            }
            FromPool::Lost { seq, attempt, exit } => {
                if let Some(slot) = self.free(myself, site, seq, attempt) {
                    let node = self.sites.get(site).map(|open| open.site.name()).unwrap_or_default();
                    let exit = Exit::Failed(Arc::new(format!("on node {node}: {exit}").into()));
                    self.pool.tell(WorkerEvent::Lost { seq, attempt, worker: worker(site, slot), exit });
                }
            }
            FromPool::Logs(frame) => {
                let node = self.sites.get(site).map(|open| open.site.name()).unwrap_or_default();
                self.logs.add(&node, &self.pool.operator, frame);
            }
            FromPool::Skipped { seq, reasons } => self.pool.tell(WorkerEvent::Skipped { seq, reasons }),
            FromPool::NeedRoom { seq, attempt, bytes } => self.need_room(myself, site, seq, attempt, bytes),
            FromPool::Metrics(metrics) => self.metrics(site, metrics),
            FromPool::GaveUp { worker, cause } => return Err(self.gave_up(site, worker, cause)),
            FromPool::Why(picture) => self.on_why(site, picture),
            // It was not told to: its half of the stream broke, and what is out there ended without a word.
            FromPool::Ended if !self.closed && !self.pool.is_stopped() => {
                self.gone(myself, site, "its pool ended before it was told to");
            }
            FromPool::Leased => self.leased(myself, site),
            FromPool::Ended => self.ended(myself, site),
        }
        Ok(())
    }

    /// A node may name only blocks of its own: what it said of others would outlive them.
    fn foreign(&self, site: usize, results: &[BlockName]) -> Option<BoxError> {
        let site = &self.sites.get(site)?.site;
        let foreign = results.iter().find(|name| name.home != site.id())?;
        let (node, home) = (site.name(), foreign.home.0);
        Some(
            format!("node {node} reported a block of node number {home} as its own; stop it, it does not run Mobula")
                .into(),
        )
    }

    /// The blocks of a report as references, each with its part of the task's room.
    fn results(&mut self, site: usize, seq: u64, attempt: u32, names: Vec<BlockName>, left: Bytes) -> Vec<Held> {
        let Some(open) = self.sites.get_mut(site) else { return Vec::new() };
        let bytes: Bytes = names.iter().map(|name| name.bytes).sum();
        let out = open.out.values_mut().find(|out| (out.seq, out.attempt) == (seq, attempt));
        let mut stale = None;
        let room = match out {
            Some(out) => &mut out.room,
            None => &mut stale,
        };
        let mut held = Vec::with_capacity(names.len());
        if !names.is_empty() {
            let permit = room.get_or_insert_with(|| self.pool.window.force(bytes));
            permit.resize(bytes + left);
            for name in names {
                let mut part = permit.split(name.bytes);
                open.lender.lend();
                let block = BlockRef::of_home(name, Arc::clone(&open.lender) as _);
                self.pool.window.put(seq, &block, &mut part);
                held.push(Held { block, room: part });
            }
        }
        held
    }

    fn free(&mut self, myself: &ActorRef<SitesMessage>, site: usize, seq: u64, attempt: u32) -> Option<usize> {
        let open = self.sites.get_mut(site)?;
        let slot = open.out.iter().find(|(_, out)| (out.seq, out.attempt) == (seq, attempt)).map(|(slot, _)| *slot)?;
        open.out.remove(&slot);
        self.pull(myself, site, slot);
        Some(slot)
    }

    fn metrics(&mut self, site: usize, frame: MetricsFrame) {
        let metrics = &self.pool.metrics;
        metrics.rows_in.add(frame.rows_in);
        metrics.busy.add(frame.busy);
        metrics.waited_input.add(frame.waited_input);
        metrics.waited_room.add(frame.waited_room);
        metrics.waited_lease.add(frame.waited_lease);
        let Some(open) = self.sites.get_mut(site) else { return };
        if !frame.devices.is_empty() {
            metrics.devices_told(&open.site.name(), frame.devices);
        }
        (open.workers..frame.workers).for_each(|_| metrics.worker_started());
        (frame.workers..open.workers).for_each(|_| metrics.worker_ended());
        open.workers = frame.workers;
    }

    fn gave_up(&self, site: usize, worker: usize, cause: Vec<String>) -> BoxError {
        let operator = Arc::clone(&self.pool.operator);
        let node = self.sites.get(site).map(|open| open.site.name()).unwrap_or_default();
        let mut cause = cause;
        if let Some(first) = cause.first_mut() {
            *first = format!("on node {node}: {first}");
        }
        let exit = Exit::Failed(Arc::new(told(cause)));
        let gave_up = GaveUp { name: Arc::clone(&operator), restarts: 0, exit };
        Box::new(WorkerGaveUp { operator, worker, gave_up })
    }

    /// One that is not open yet is closed once it is.
    fn close_site(&mut self, myself: &ActorRef<SitesMessage>, site: usize) {
        let frame = if self.pool.is_stopped() { ToPool::Stop } else { ToPool::Close };
        if self.sites.get(site).is_some_and(|open| open.to.is_some()) {
            self.send_or_lose(myself, site, frame);
        }
    }

    fn gone(&mut self, myself: &ActorRef<SitesMessage>, site: usize, why: &str) {
        let Some(open) = self.sites.get_mut(site) else { return };
        if open.ended {
            return;
        }
        let (node, lost) = (open.site.name(), open.lender.lent());
        open.to = None;
        tracing::warn!(operator = %self.pool.operator, %node, why, blocks = lost, "a node left a running job");
        open.ended = true;
        let slots = open.slots;
        let left = self.sites.iter().enumerate().filter(|(other, open)| *other != site && open.takes_tasks()).count();
        // Whatever waits in its tasks waits for ever: only the rows that are finished survive.
        if (lost > 0 || left == 0) && !self.pool.is_stopped() {
            // A job that is gone has ended.
            let _ = self.job.cast(JobMessage::Failed(JobError::NodeLost { node }));
        }
        for slot in 0..slots {
            let out = self.sites.get(site).is_some_and(|open| open.out.contains_key(&slot));
            if out { self.give_back(site, slot) } else { self.hand_back(site, slot) }
        }
        self.ended(myself, site);
    }

    fn ended(&mut self, myself: &ActorRef<SitesMessage>, site: usize) {
        self.metrics(site, MetricsFrame::default());
        if let Some(open) = self.sites.get_mut(site) {
            open.ended = true;
            self.gate.done((self.pool.index, open.site.id()));
        }
        if self.closed && self.sites.iter().all(|open| open.ended) {
            // A job that is gone needs no news.
            let _ = self.job.cast(JobMessage::PoolEnded(self.pool.index));
            myself.stop(None);
        }
    }
}

/// Tasks that are out for each worker: as many again as it runs, whose inputs are fetched meanwhile. One that feeds a
/// device runs three where a batch is a task: one on the device and two that are ready.
fn tasks_a_worker(order: &PoolOrder) -> usize {
    if order.plan.resources.gpus > 0.0 { 4 } else { 2 }
}

fn worker(site: usize, slot: usize) -> usize {
    site * WORKERS_A_SITE_MAX + slot
}

fn frame(input: &TaskInput) -> InputFrame {
    match input {
        TaskInput::Split(number, split, to) => InputFrame::Split(*number, (**split).clone(), *to),
        TaskInput::Pieces(pieces) => {
            let piece = |piece: &crate::pool::task::Piece| PieceFrame {
                block: BlockName::clone(&piece.arrived.block),
                from: piece.from,
                rows: piece.rows,
            };
            InputFrame::Pieces(pieces.iter().map(piece).collect())
        }
    }
}

impl ractor::Actor for SitePools {
    type Msg = SitesMessage;
    type State = SitesState;
    type Arguments = SitesArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        SitesArguments { pool, job, order, shares, gate, lenders, logs }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let orders = shares.iter().map(|share| PoolOrder { workers: share.workers, ..order.clone() }).collect();
        let open = shares.into_iter().map(|PoolShare { site, workers, leases }| OpenSite {
            lender: lenders.lender(&*site),
            site,
            slots: (tasks_a_worker(&order) * workers).min(WORKERS_A_SITE_MAX),
            to: None,
            out: BTreeMap::new(),
            workers: 0,
            leases,
            leased: leases == Leases::None,
            ended: false,
        });
        let state = SitesState {
            pool,
            job,
            sites: open.collect(),
            gate,
            logs,
            closed: false,
            asks: 0,
            asking: why::Asking::default(),
        };
        state.open(&myself, orders);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SitesMessage::Close => {
                state.closed = true;
                (0..state.sites.len()).for_each(|site| state.close_site(&myself, site));
                state.resign();
                if state.sites.iter().all(|open| open.ended) {
                    let _ = state.job.cast(JobMessage::PoolEnded(state.pool.index));
                    myself.stop(None);
                }
            }
            SitesMessage::Opened { site, link: Ok(link) } => state.opened(&myself, site, link),
            SitesMessage::Opened { site, link: Err(error) } => state.gone(&myself, site, &error.to_string()),
            SitesMessage::Pulled { site, slot, task: Some(task) } => state.pulled(&myself, site, slot, task),
            // The queue is closed: the slot is not needed any more.
            SitesMessage::Pulled { task: None, .. } => {}
            SitesMessage::Frame { site, frame } => {
                if let Some(frame) = frame.take() {
                    state.frame(&myself, site, frame)?;
                }
            }
            SitesMessage::Took { asked, bytes, took } => state.took(&myself, asked, bytes, took),
            SitesMessage::Gone { site, why } => state.gone(&myself, site, &why),
            SitesMessage::Why(reply) => state.ask_why(&myself, reply),
            SitesMessage::WhyDue => state.answer_why(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
