//! What a task has made and not passed on yet: results gathered into blocks, with their room and how far they reach.

use arrow::record_batch::RecordBatch;

use super::blocks::BlockBuilder;
use super::task::{Held, Task, WorkerEvent};
use super::worker::PoolShared;
use crate::block::{Block, Origins, Segments};
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
    /// Of the rows that are gathered: fewer than those where nobody knows of some.
    origins: Origins,
    /// Rows since the last that were passed.
    added: Rows,
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
            origins: Origins::default(),
            added: Rows(0),
            progress: task.from,
            reported: task.from,
        }
    }

    /// Gathers results; their room becomes exactly what they take.
    pub(crate) fn add(&mut self, batches: Vec<RecordBatch>, mut room: Permit) -> Bytes {
        let before = self.builder.bytes();
        let has_rows = batches.iter().any(|batch| batch.num_rows() > 0);
        for batch in batches {
            self.added += Rows(batch.num_rows() as u64);
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

    /// The results so far stand for the input up to here, and those since the last time come from there.
    pub(crate) fn passed(&mut self, progress: Rows, segments: &Segments, origins: Origins) {
        let added = std::mem::take(&mut self.added);
        if self.pool.traces && added == origins.rows() {
            self.origins.append(origins);
        }
        self.pool.metrics.rows_in.add((progress - self.progress).0);
        self.progress = progress;
        self.segments.append(segments);
    }

    /// The results so far stand for the input up to this row.
    pub(crate) fn progress(&self) -> Rows {
        self.progress
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
        let results = self.results();
        self.reported = self.progress;
        let (seq, attempt) = (self.seq, self.attempt);
        self.pool.tell(WorkerEvent::Emitted { seq, attempt, results, progress: self.progress, done });
    }

    /// The blocks that are together, each with its share of what they stand for. Without rows, a block without rows says
    /// that this input is finished.
    fn results(&mut self) -> Vec<Held> {
        let mut blocks = self.builder.build();
        let mut origins = Traced::new(std::mem::take(&mut self.origins), &blocks);
        let mut segments = std::mem::take(&mut self.segments);
        let (Some(mut room), Some(last)) = (self.room.take(), blocks.pop()) else {
            if segments.is_empty() {
                return Vec::new();
            }
            let nothing = (segments, Origins::default());
            return vec![self.held(Block::new(Vec::new()), nothing, self.pool.window.force(Bytes(0)))];
        };
        let mut held = Vec::with_capacity(blocks.len() + 1);
        let mut left = blocks.len() as u64 + 1;
        for block in blocks {
            let part = room.split(block.bytes());
            let rows = origins.next(&block);
            held.push(self.held(block, (segments.take_piece(left), rows), part));
            left -= 1;
        }
        let rows = origins.next(&last);
        held.push(self.held(last, (segments, rows), room));
        held
    }

    fn held(&self, block: Block, of: (Segments, Origins), mut room: Permit) -> Held {
        let block = self.pool.store.put(block, of, self.shard);
        self.pool.window.put(self.seq, &block, &mut room);
        Held { block, room }
    }
}

/// Origins of blocks, handed out one after another; none if they are not known of each row.
struct Traced {
    all: Option<Origins>,
    at: u64,
}

impl Traced {
    fn new(origins: Origins, blocks: &[Block]) -> Self {
        let rows: Rows = blocks.iter().map(Block::rows).sum();
        Self { all: Some(origins).filter(|origins| origins.rows() == rows), at: 0 }
    }

    fn next(&mut self, block: &Block) -> Origins {
        let from = self.at;
        self.at += block.rows().0;
        self.all.as_ref().map(|all| all.part(from, self.at)).unwrap_or_default()
    }
}
