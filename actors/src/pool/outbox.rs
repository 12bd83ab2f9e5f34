//! What a task has made and not passed on yet: results gathered into blocks, with their room and how far they reach.

use arrow::record_batch::RecordBatch;

use super::blocks::BlockBuilder;
use super::task::{Held, Task, WorkerEvent};
use super::worker::PoolShared;
use crate::block::{Block, Segments};
use crate::operator::Scope;
use crate::runtime::room::Permit;
use crate::units::{Bytes, Rows};

/// Results on their way out of a worker.
pub(crate) struct Outbox<'a> {
    pool: &'a PoolShared,
    seq: u64,
    attempt: u32,
    shard: usize,
    builder: BlockBuilder,
    room: Option<Permit>,
    segments: Segments,
    progress: Rows,
    reported: Rows,
}

impl<'a> Outbox<'a> {
    pub(crate) fn new(pool: &'a PoolShared, task: &Task, shard: usize) -> Self {
        Self {
            pool,
            seq: task.seq,
            attempt: task.attempt,
            shard,
            builder: BlockBuilder::new(pool.block_bytes),
            room: None,
            segments: Segments::default(),
            progress: task.from,
            reported: task.from,
        }
    }

    /// Gathers results; their room becomes exactly what they take.
    pub(crate) fn add(&mut self, batches: Vec<RecordBatch>, mut room: Permit) -> Bytes {
        let before = self.builder.bytes();
        let has_rows = batches.iter().any(|batch| batch.num_rows() > 0);
        for batch in batches {
            self.builder.push(batch);
        }
        let out = self.builder.bytes() - before;
        // Rows without columns, or of nulls only, take no bytes and are rows all the same.
        if has_rows {
            room.resize(out);
            match &mut self.room {
                Some(held) => held.absorb(room),
                None => self.room = Some(room),
            }
        }
        out
    }

    /// The results so far stand for the input up to here.
    pub(crate) fn passed(&mut self, progress: Rows, segments: &Segments) {
        self.pool.metrics.rows_in.add((progress - self.progress).0);
        self.progress = progress;
        self.segments.append(segments);
    }

    /// Whether a block is together.
    pub(crate) fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    /// Passes what was gathered on to the operator's actor.
    pub(crate) fn flush(&mut self, done: bool) {
        if !done && self.builder.is_empty() && self.progress == self.reported || self.pool.scope == Scope::Task && !done
        {
            return;
        }
        let mut blocks = self.builder.build();
        let mut room = self.room.take();
        let last = blocks.pop();
        let mut results = Vec::with_capacity(blocks.len() + 1);
        for block in blocks {
            if let Some(room) = &mut room {
                let part = room.split(block.bytes());
                results.push(self.held(block, Segments::default(), part));
            }
        }
        if let (Some(block), Some(room)) = (last, room) {
            let segments = std::mem::take(&mut self.segments);
            results.push(self.held(block, segments, room));
        }
        self.reported = self.progress;
        let (seq, attempt) = (self.seq, self.attempt);
        self.pool.tell(WorkerEvent::Emitted { seq, attempt, results, progress: self.progress, done });
    }

    fn held(&self, block: Block, segments: Segments, room: Permit) -> Held {
        Held { block: self.pool.store.put(block, segments, self.shard), room }
    }
}
