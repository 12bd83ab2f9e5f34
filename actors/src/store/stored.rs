//! One block of a shard, in memory or on disk: [`Place`] behind a lock.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::census::Census;
use super::spill::{Place, Spill, SpillError, SpillFile, SpillOutcome, Want, Written};
use crate::block::Block;
use crate::operator::BoxError;
use crate::units::Bytes;

/// A block as its references and its shard share it.
pub(crate) struct Stored {
    place: Mutex<Place<Block, Arc<SpillFile>>>,
    /// A read is over.
    read: Condvar,
    census: Arc<Mutex<Census>>,
}

impl Stored {
    pub(super) fn new(block: Block, census: Arc<Mutex<Census>>) -> Self {
        count(&census).add(block.batches());
        Self { place: Mutex::new(Place::Memory(block)), read: Condvar::new(), census }
    }

    /// The block, if it is in memory.
    pub(crate) fn in_memory(&self) -> Option<Block> {
        self.lock().in_memory().cloned()
    }

    /// Whether it takes a read to have the block.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.lock().is_on_disk()
    }

    /// The block, read back by this thread if it was spilled.
    pub(crate) fn bring(&self) -> Result<Block, BoxError> {
        let mut place = self.lock();
        let file = loop {
            match place.want() {
                Want::Take(block) => return Ok(block),
                Want::Read(file) => break file,
                Want::Wait => place = self.read.wait(place).unwrap_or_else(PoisonError::into_inner),
                Want::Gone => return Err("a block that was let go".into()),
            }
        };
        drop(place);
        let read = file.read();
        if let Ok(block) = &read {
            count(&self.census).add(block.batches());
        }
        let finished = self.lock().on_read(read.as_ref().ok().cloned());
        self.read.notify_all();
        // The file is removed here, after the lock.
        drop(finished);
        Ok(read?)
    }

    /// Moves the block to disk and says what came of it.
    pub(crate) fn to_disk(&self, spill: &Spill) -> SpillOutcome {
        match self.spill(spill) {
            Ok(true) => SpillOutcome::Moved,
            Ok(false) => SpillOutcome::Stays,
            Err(SpillError::Encode(error)) => {
                tracing::debug!(%error, "a block stays in memory");
                SpillOutcome::Stays
            }
            Err(_) => SpillOutcome::Refused { again: spill.ready_in(Bytes(0)) },
        }
    }

    /// Moves the block to disk; true if it is there then, and its memory is free.
    pub(crate) fn spill(&self, spill: &Spill) -> Result<bool, SpillError> {
        let block = {
            let mut place = self.lock();
            match place.begin_write() {
                Some(block) => block,
                // Somebody who was not heard may have asked before.
                None => return Ok(place.is_on_disk()),
            }
        };
        let written = spill.write(&block);
        drop(block);
        let (file, error) = match written {
            Ok(file) => (Some(Arc::new(file)), None),
            Err(error) => (None, Some(error)),
        };
        let outcome = self.lock().on_written(file);
        match (outcome, error) {
            (_, Some(error)) => Err(error),
            (Written::Moved(block), None) => {
                count(&self.census).remove(block.batches());
                Ok(true)
            }
            (Written::InVain(_), None) => Ok(false),
        }
    }

    /// Nobody refers to it any more: its memory and its file are free.
    pub(super) fn release(&self) {
        let left = self.lock().release();
        if let Some(block) = left.in_memory() {
            count(&self.census).remove(block.batches());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place<Block, Arc<SpillFile>>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(census: &Mutex<Census>) -> MutexGuard<'_, Census> {
    census.lock().unwrap_or_else(PoisonError::into_inner)
}
