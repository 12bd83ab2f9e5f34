//! Parts of the input that could not be read and were left out under a lenient policy: in the ledger as soon as what they are
//! of is committed, and in the manifest. Pure.

use std::collections::BTreeMap;

use mobula_actors::block::Segment;
use mobula_actors::function::encode;
use mobula_actors::job::Skip;
use mobula_actors::ledger::{Coverage, Record};
use serde::{Deserialize, Serialize};

use super::letters::holds;
use crate::io::error::{IoError, IoResult};

/// What was left out, as an output tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// How many parts of the input.
    pub count: u64,
    /// Which the first hundred are, and why.
    pub reasons: Vec<String>,
}

/// Reasons that are listed one by one.
const REASONS_MAX: usize = 100;

/// Parts of the input that one job left out, each by its last row.
#[derive(Default)]
pub(super) struct Skips {
    /// In the ledger.
    durable: BTreeMap<Segment, String>,
    /// Not there yet: what they are of is not committed.
    waiting: BTreeMap<Segment, String>,
}

impl Skips {
    /// The ledger has these.
    pub(super) fn found(&mut self, skips: Vec<Skip>) {
        self.durable.extend(skips.into_iter().map(|skip| (skip.segment, skip.reason)));
    }

    /// These were left out. What is tried again is left out again.
    pub(super) fn add(&mut self, skips: Vec<Skip>) {
        self.waiting.extend(skips.into_iter().map(|skip| (skip.segment, skip.reason)));
    }

    /// What they are of will be read again.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }

    /// Forgets those of what is not finished so far, which will be read again: power was lost between record and commit. Of
    /// a job with a limit only the parts are known that it has finished.
    pub(super) fn keep_finished(&mut self, coverage: &Coverage, parts: usize) {
        if parts == 0 || !coverage.is_empty() {
            self.durable.retain(|segment, _| coverage.holds(segment));
        }
    }

    /// Segments are about to be committed: the record of what was left out of them, which comes before.
    pub(super) fn take(&mut self, segments: &[Segment]) -> IoResult<Option<Record>> {
        let is_of = |skip: &Segment| segments.iter().any(|segment| holds(segment, skip));
        let taken = self.waiting.extract_if(.., |skip, _| is_of(skip)).collect();
        self.record(taken)
    }

    /// The same for all that wait.
    pub(super) fn take_all(&mut self) -> IoResult<Option<Record>> {
        let taken = std::mem::take(&mut self.waiting);
        self.record(taken)
    }

    fn record(&mut self, taken: BTreeMap<Segment, String>) -> IoResult<Option<Record>> {
        if taken.is_empty() {
            return Ok(None);
        }
        let skips: Vec<Skip> =
            taken.iter().map(|(segment, reason)| Skip { segment: *segment, reason: reason.clone() }).collect();
        self.durable.extend(taken);
        Ok(Some(Record::Skipped(encode(&skips).map_err(|e| IoError::Internal(e.to_string()))?)))
    }

    /// What was left out of that which the ledger has.
    pub(super) fn left_out(&self) -> LeftOut {
        let reasons = self.durable.values().take(REASONS_MAX).cloned().collect();
        LeftOut { count: self.durable.len() as u64, reasons }
    }
}
