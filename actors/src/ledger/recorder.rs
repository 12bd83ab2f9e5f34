//! Recorders: who keeps the ledger of a job that writes, and makes what it wrote visible.
//!
//! On a cluster the driver may be gone by the time its job has ended, so a recorder travels with the topology, by name and
//! parameters like an operator, and works where the job lives: in the session's process, or on the head.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arrow::record_batch::RecordBatch;
use linkme::distributed_slice;
use serde::{Deserialize, Serialize};

use crate::block::Segments;
use crate::job::{DeadLetter, Skip, Topology};
use crate::operator::{BoxError, Left};
use crate::runtime::disk::SharedDisk;

/// Results of the last operator, and what they stand for.
#[derive(Debug, Clone)]
pub struct Results {
    /// The rows; none where the input gave none.
    pub batches: Vec<RecordBatch>,
    /// The shares of the segments that they stand for.
    pub segments: Segments,
}

/// Keeps the ledger of one job. All calls may wait for the disk.
pub trait Recorder: Send {
    /// What is left to read, by operator, of those that read.
    fn left(&self) -> BTreeMap<usize, Vec<Left>>;

    /// The number of the job's first run in this process, above all of earlier processes: names of attempts have it.
    fn first_run(&self) -> u32;

    /// Rows that earlier processes gave up, according to the ledger.
    fn given_up(&self) -> u64 {
        0
    }

    /// Rows were given up. What says that they are finished comes with the results that are recorded next, or later: the
    /// letters are to be durable with those. By default they are dropped.
    ///
    /// # Errors
    /// If they make no sense; then the job fails.
    fn give_up(&mut self, letters: Vec<DeadLetter>) -> Result<(), BoxError> {
        drop(letters);
        Ok(())
    }

    /// Parts of the input could not be read and were given up; the rest as for [`give_up`](Self::give_up).
    ///
    /// # Errors
    /// If they make no sense; then the job fails.
    fn skip(&mut self, skips: Vec<Skip>) -> Result<(), BoxError> {
        drop(skips);
        Ok(())
    }

    /// Results came. What is whole is durable when this returns.
    ///
    /// # Errors
    /// If it could not be made durable; then the job fails.
    fn record(&mut self, results: Vec<Results>) -> Result<(), BoxError>;

    /// What came and is not recorded will be made again: a node was lost.
    fn forget(&mut self);

    /// All has come: makes the output visible. What it returns goes to the driver.
    ///
    /// # Errors
    /// If not all has come, or the system refuses. What is in the ledger stays.
    fn finish(self: Box<Self>) -> Result<Vec<u8>, BoxError>;

    /// The job failed or was cancelled: takes back what was not recorded.
    fn stop(self: Box<Self>);
}

/// One registered kind of recorder.
pub struct RecorderEntry {
    /// Its name.
    pub name: &'static str,
    /// Opens the ledger, for a topology and with the parameters.
    pub open: fn(&[u8], &Topology, &SharedDisk) -> Result<Box<dyn Recorder>, BoxError>,
    /// Called with the parameters where the job never began: takes back what was prepared for it.
    pub discard: fn(&[u8]),
}

/// All kinds of recorders linked into this binary.
#[distributed_slice]
pub static RECORDERS: [RecorderEntry];

/// Names a recorder, with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderSpec {
    /// The registered name.
    pub name: String,
    /// The parameters, in the wire encoding.
    pub params: Vec<u8>,
}

impl RecorderSpec {
    fn entry(&self) -> Result<&'static RecorderEntry, BoxError> {
        static BY_NAME: OnceLock<BTreeMap<&'static str, &'static RecorderEntry>> = OnceLock::new();
        let by_name = BY_NAME.get_or_init(|| RECORDERS.iter().map(|entry| (entry.name, entry)).collect());
        let known = || by_name.keys().copied().collect::<Vec<_>>().join(", ");
        let entry = by_name.get(self.name.as_str()).copied();
        entry.ok_or_else(|| format!("no recorder {:?} in this binary; it has: {}", self.name, known()).into())
    }

    pub(crate) fn open(&self, topology: &Topology, disk: &SharedDisk) -> Result<Box<dyn Recorder>, BoxError> {
        (self.entry()?.open)(&self.params, topology, disk)
    }

    /// The job will not begin.
    pub(crate) fn discard(&self) {
        if let Ok(entry) = self.entry() {
            (entry.discard)(&self.params);
        }
    }
}
