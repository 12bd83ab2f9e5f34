//! Finishers: what happens once with all results of a job that writes, where the job lives.
//!
//! On a cluster the driver may be gone by the time its job has ended, so what makes the written files visible travels
//! with the topology, by name and parameters like an operator, and runs on the head.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arrow::record_batch::RecordBatch;
use linkme::distributed_slice;
use serde::{Deserialize, Serialize};

use crate::operator::BoxError;

/// One registered finisher.
pub struct FinisherEntry {
    /// Its name.
    pub name: &'static str,
    /// Called with the parameters and all results of a job that has finished. What it returns goes to the driver.
    pub finish: fn(&[u8], &[RecordBatch]) -> Result<Vec<u8>, BoxError>,
    /// Called with the parameters if the job failed or was cancelled: takes back what was written.
    pub discard: fn(&[u8]),
}

/// All finishers linked into this binary.
#[distributed_slice]
pub static FINISHERS: [FinisherEntry];

/// A finisher with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// The registered name.
    pub name: String,
    /// The parameters, in the wire encoding.
    pub params: Vec<u8>,
}

impl Finish {
    fn entry(&self) -> Result<&'static FinisherEntry, BoxError> {
        static BY_NAME: OnceLock<BTreeMap<&'static str, &'static FinisherEntry>> = OnceLock::new();
        let by_name = BY_NAME.get_or_init(|| FINISHERS.iter().map(|entry| (entry.name, entry)).collect());
        let known = || by_name.keys().copied().collect::<Vec<_>>().join(", ");
        let entry = by_name.get(self.name.as_str()).copied();
        entry.ok_or_else(|| format!("no finisher {:?} in this binary; it has: {}", self.name, known()).into())
    }

    pub(crate) fn check(&self) -> Result<(), BoxError> {
        self.entry().map(|_| ())
    }

    pub(crate) fn finish(&self, results: &[RecordBatch]) -> Result<Vec<u8>, BoxError> {
        (self.entry()?.finish)(&self.params, results)
    }

    pub(crate) fn discard(&self) {
        if let Ok(entry) = self.entry() {
            (entry.discard)(&self.params);
        }
    }
}
